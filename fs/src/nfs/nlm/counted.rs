//! What is counted of NLM: its procedures. Those that answer by a call of
//! their own (`TEST_MSG` and its like) are not there.

use crate::stats::Operation;

/// A procedure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Procedure {
    Null,
    Test,
    Lock,
    Cancel,
    Unlock,
    Share,
    Unshare,
    NmLock,
    FreeAll,
}

impl Operation for Procedure {
    const FRONT: &'static str = "nlm4";
    const NAMES: &'static [&'static str] = &[
        "null", "test", "lock", "cancel", "unlock", "share", "unshare", "nm_lock", "free_all",
    ];

    fn index(self) -> usize {
        self as usize
    }
}

impl Procedure {
    /// By its number in the protocol.
    pub fn numbered(number: u32) -> Option<Procedure> {
        Some(match number {
            0 => Procedure::Null,
            1 => Procedure::Test,
            2 => Procedure::Lock,
            3 => Procedure::Cancel,
            4 => Procedure::Unlock,
            20 => Procedure::Share,
            21 => Procedure::Unshare,
            22 => Procedure::NmLock,
            23 => Procedure::FreeAll,
            _ => return None,
        })
    }

    /// Whether it must not be carried out again for a call that comes twice: a
    /// late UNLOCK would undo a newer LOCK.
    pub fn only_once(self) -> bool {
        !matches!(self, Procedure::Null | Procedure::Test)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_numbers() {
        for (number, name) in [
            (0, "null"),
            (2, "lock"),
            (4, "unlock"),
            (20, "share"),
            (23, "free_all"),
        ] {
            let found = Procedure::numbered(number).map(|found| Procedure::NAMES[found.index()]);
            assert_eq!(found, Some(name));
        }
        for number in [5, 7, 15, 16, 24, u32::MAX] {
            assert_eq!(Procedure::numbered(number), None);
        }
    }
}
