//! What clients of version 3 do not let each other do with a file: the share
//! reservations of DOS. They bind nobody who does not ask for one.

use std::{collections::HashMap, sync::Arc};

use kiseki_core::ids::Ino;

use super::xdr::Mode;
use crate::nfs::locks::Host;

/// Most for one file, and in all.
const OF_FILE: usize = 1024;
const TOTAL: usize = 65_536;

/// Who shares: a machine, and its name for an owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sharer {
    /// The machine.
    pub host: Arc<Host>,
    /// Its name for the owner.
    pub handle: Arc<[u8]>,
}

#[derive(Debug)]
struct Share {
    sharer: Sharer,
    access: Mode,
    deny: Mode,
}

impl Share {
    fn conflicts(&self, other: &Share) -> bool {
        let denies = |a: &Share, b: &Share| a.deny as u32 & b.access as u32 != 0;
        self.sharer != other.sharer && (denies(self, other) || denies(other, self))
    }
}

/// Why there is no share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Somebody else's is in the way.
    Conflict,
    /// There are as many as there can be.
    Full,
}

/// All shares.
#[derive(Debug, Default)]
pub struct Shares {
    files: HashMap<Ino, Vec<Share>>,
    total: usize,
}

impl Shares {
    /// Takes one, in place of the one that the owner has.
    ///
    /// # Errors
    /// [`Refused`]; then nothing has changed.
    pub fn share(
        &mut self,
        file: Ino,
        sharer: Sharer,
        access: Mode,
        deny: Mode,
    ) -> Result<(), Refused> {
        let wanted = Share {
            sharer,
            access,
            deny,
        };
        let here = self.files.get(&file).map_or(&[][..], Vec::as_slice);
        if here.iter().any(|share| share.conflicts(&wanted)) {
            return Err(Refused::Conflict);
        }
        let has_one = here.iter().any(|share| share.sharer == wanted.sharer);
        if !has_one && (here.len() >= OF_FILE || self.total >= TOTAL) {
            return Err(Refused::Full);
        }
        self.unshare(file, &wanted.sharer);
        self.files.entry(file).or_default().push(wanted);
        self.total += 1;
        Ok(())
    }

    /// Gives one up.
    pub fn unshare(&mut self, file: Ino, sharer: &Sharer) {
        self.retain(
            |of, share| of != file || share.sharer != *sharer,
            Some(file),
        );
    }

    /// Gives up all that machines have which are gone.
    pub fn release(&mut self, gone: impl Fn(&Arc<Host>) -> bool) {
        self.retain(|_, share| !gone(&share.sharer.host), None);
    }

    /// Machines that have shares.
    pub fn hosts(&self) -> impl Iterator<Item = &Arc<Host>> {
        self.files
            .values()
            .flatten()
            .map(|share| &share.sharer.host)
    }

    /// Keeps what is to be kept, in one file or in all.
    fn retain(&mut self, keep: impl Fn(Ino, &Share) -> bool, only: Option<Ino>) {
        let mut removed = 0;
        let mut look = |file: Ino, shares: &mut Vec<Share>| {
            let before = shares.len();
            shares.retain(|share| keep(file, share));
            removed += before - shares.len();
            !shares.is_empty()
        };
        match only {
            Some(file) => {
                let left = self.files.get_mut(&file).map(|shares| look(file, shares));
                if left == Some(false) {
                    self.files.remove(&file);
                }
            }
            None => self.files.retain(|file, shares| look(*file, shares)),
        }
        self.total -= removed;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: Ino = Ino(7);

    fn sharer(name: u8) -> Sharer {
        Sharer {
            host: Arc::new(Host {
                address: [127, 0, 0, 1].into(),
                name: Arc::from([name]),
            }),
            handle: Arc::from([]),
        }
    }

    #[test]
    fn what_one_denies_another_may_not() {
        let mut shares = Shares::default();
        assert_eq!(
            shares.share(FILE, sharer(1), Mode::Read, Mode::Write),
            Ok(())
        );
        let writes = shares.share(FILE, sharer(2), Mode::Write, Mode::None);
        assert_eq!(writes, Err(Refused::Conflict));
        let denies = shares.share(FILE, sharer(2), Mode::Read, Mode::Read);
        assert_eq!(denies, Err(Refused::Conflict));
        assert_eq!(
            shares.share(FILE, sharer(2), Mode::Read, Mode::None),
            Ok(())
        );
        assert_eq!(
            shares.share(Ino(8), sharer(2), Mode::Write, Mode::None),
            Ok(())
        );
        assert_eq!(shares.total, 3);
    }

    #[test]
    fn an_owner_has_one_and_gives_it_up() {
        let mut shares = Shares::default();
        assert_eq!(
            shares.share(FILE, sharer(1), Mode::Read, Mode::Both),
            Ok(())
        );
        assert_eq!(
            shares.share(FILE, sharer(1), Mode::Both, Mode::Both),
            Ok(())
        );
        assert_eq!(shares.total, 1);
        shares.unshare(FILE, &sharer(2));
        shares.unshare(FILE, &sharer(1));
        shares.unshare(FILE, &sharer(1));
        assert!(shares.total == 0 && shares.files.is_empty());
        assert_eq!(
            shares.share(FILE, sharer(1), Mode::Read, Mode::Both),
            Ok(())
        );
        shares.release(|host| *host == sharer(2).host);
        assert_eq!(shares.hosts().count(), 1);
        shares.release(|host| *host == sharer(1).host);
        assert!(shares.total == 0 && shares.files.is_empty());
    }

    #[test]
    fn there_is_an_end_to_them() {
        let mut shares = Shares::default();
        for n in 0..OF_FILE {
            let sharer = Sharer {
                handle: n.to_be_bytes().into(),
                ..sharer(1)
            };
            assert_eq!(shares.share(FILE, sharer, Mode::Read, Mode::None), Ok(()));
        }
        let more = shares.share(FILE, sharer(2), Mode::Read, Mode::None);
        assert_eq!(more, Err(Refused::Full));
    }
}
