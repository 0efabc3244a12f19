//! What a verb answers when it fails: what, why, what to do, and the exit
//! code. `main` prints it to stderr and nothing else does.

use std::{fmt, process::ExitCode};

use kiseki_core::Error;

/// Result of a verb and of everything it is made of.
pub type Result<T, E = Failure> = std::result::Result<T, E>;

/// How the process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// All went well.
    Good = 0,
    /// It did not work.
    Failed = 1,
    /// The command line or a configuration file is wrong.
    Usage = 2,
    /// It worked, and damage was found.
    Damage = 3,
}

impl From<Code> for ExitCode {
    fn from(code: Code) -> Self {
        ExitCode::from(code as u8)
    }
}

/// A failure, as the user reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Exit code that goes with it.
    pub code: Code,
    what: String,
    why: Option<String>,
    remedy: Option<String>,
}

impl Failure {
    /// Something did not work; `what` names it.
    pub fn new(what: impl Into<String>) -> Failure {
        Failure {
            code: Code::Failed,
            what: what.into(),
            why: None,
            remedy: None,
        }
    }

    /// The command line or a configuration file is wrong.
    pub fn usage(what: impl Into<String>) -> Failure {
        Failure::new(what).code(Code::Usage)
    }

    /// The cause.
    #[must_use]
    pub fn why(mut self, why: impl fmt::Display) -> Failure {
        self.why = Some(why.to_string());
        self
    }

    /// The way out.
    #[must_use]
    pub fn remedy(mut self, remedy: impl Into<String>) -> Failure {
        self.remedy = Some(remedy.into());
        self
    }

    /// Another exit code.
    #[must_use]
    pub fn code(mut self, code: Code) -> Failure {
        self.code = code;
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        if let Some(why) = &self.why {
            write!(f, ": {why}")?;
        }
        if let Some(remedy) = &self.remedy {
            write!(f, "; {remedy}")?;
        }
        Ok(())
    }
}

/// The texts of the engine already say what, why and what to do.
impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        let code = match error {
            Error::Damaged { .. } | Error::MissingChunk(_) => Code::Damage,
            _ => Code::Failed,
        };
        Failure::new(error.to_string()).code(code)
    }
}

/// Puts what was attempted before an error.
pub trait Attempt<T> {
    /// Fails with `what`, and the error as the reason.
    fn attempt(self, what: impl FnOnce() -> String) -> Result<T>;
}

impl<T> Attempt<T> for std::io::Result<T> {
    fn attempt(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|error| Failure::new(what()).why(error))
    }
}

impl<T> Attempt<T> for nix::Result<T> {
    fn attempt(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|errno| Failure::new(what()).why(errno.desc()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_as_one_sentence() {
        let failure = Failure::new("cannot mount /mnt")
            .why("it is a file")
            .remedy("give a directory");
        assert_eq!(
            failure.to_string(),
            "cannot mount /mnt: it is a file; give a directory"
        );
    }

    #[test]
    fn damage_has_its_own_code() {
        let failure = Failure::from(Error::damaged("segment 1", "checksum"));
        assert_eq!(failure.code, Code::Damage);
        assert_eq!(Failure::from(Error::Closed).code, Code::Failed);
        assert_eq!(Failure::usage("x").code, Code::Usage);
    }
}
