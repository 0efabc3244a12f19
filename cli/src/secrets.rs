//! Secrets on their way into the process: key files, passphrases from a file,
//! the terminal or a systemd credential. Whoever reads one first makes the
//! process unreadable to others and keeps it out of core dumps.

use std::{
    env,
    fs::File,
    io::{self, IsTerminal, Read},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use kiseki_core::crypto::{Secret as Key, key_file};
use nix::sys::{
    prctl,
    resource::{Resource, setrlimit},
};
use zeroize::Zeroizing;

use crate::{
    failure::{Attempt, Failure, Result},
    quiet_terminal::QuietTerminal,
};

/// What opens a store. Never printed, erased when dropped.
pub enum Secret {
    /// The key of a key file.
    Key(Key),
    /// A passphrase.
    Passphrase(Zeroizing<String>),
}

impl Secret {
    /// Another copy, for the one who keeps it.
    #[must_use]
    pub fn copy(&self) -> Secret {
        match self {
            Secret::Key(key) => Secret::Key(Key::from_bytes(key.expose())),
            Secret::Passphrase(text) => Secret::Passphrase(text.clone()),
        }
    }
}

/// Where a secret is to be read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A key file.
    KeyFile(PathBuf),
    /// The first line of a file.
    PassphraseFile(PathBuf),
    /// The terminal.
    Terminal,
}

/// No passphrase file is longer.
const LONGEST: u64 = 64 << 10;

/// Keeps the memory of this process from debuggers of the same user and from
/// core dumps. To be called before a secret is read.
///
/// # Errors
/// The kernel refuses, which it has no reason to.
pub fn protect_process() -> Result<()> {
    prctl::set_dumpable(false).attempt(|| "cannot keep secrets out of core dumps".into())?;
    setrlimit(Resource::RLIMIT_CORE, 0, 0)
        .attempt(|| "cannot keep secrets out of core dumps".into())
}

/// The credential systemd hands to a service (`LoadCredential=kiseki.key:...`
/// or `kiseki.passphrase`), if there is one.
#[must_use]
pub fn credential() -> Option<Source> {
    let dir = PathBuf::from(env::var_os("CREDENTIALS_DIRECTORY")?);
    let (key, passphrase) = (dir.join("kiseki.key"), dir.join("kiseki.passphrase"));
    if key.exists() {
        Some(Source::KeyFile(key))
    } else {
        passphrase
            .exists()
            .then_some(Source::PassphraseFile(passphrase))
    }
}

impl Source {
    /// Reads the secret; from a terminal twice when `new`.
    ///
    /// # Errors
    /// It is missing, empty or open to other users, or the two passphrases
    /// differ.
    pub fn read(&self, new: bool) -> Result<Secret> {
        protect_process()?;
        match self {
            Source::KeyFile(path) => Ok(Secret::Key(key_file::read(path)?)),
            Source::PassphraseFile(path) => {
                let text = read_file(path)?;
                first_line(&text, &path.display().to_string())
            }
            Source::Terminal => ask(new),
        }
    }
}

fn first_line(text: &[u8], place: &str) -> Result<Secret> {
    let end = text
        .iter()
        .position(|&byte| byte == b'\n')
        .unwrap_or(text.len());
    let line = text[..end].strip_suffix(b"\r").unwrap_or(&text[..end]);
    let line = std::str::from_utf8(line).map_err(|_| {
        Failure::new(format!("the passphrase in {place} is not UTF-8 text"))
            .remedy("use a key file for random bytes")
    })?;
    if line.is_empty() {
        return Err(Failure::new(format!("the passphrase in {place} is empty"))
            .remedy("an empty passphrase protects nothing; give another"));
    }
    Ok(Secret::Passphrase(Zeroizing::new(line.to_owned())))
}

fn ask(new: bool) -> Result<Secret> {
    let _quiet = QuietTerminal::hold();
    let prompt = |text: &str| {
        rpassword::prompt_password(text)
            .map(Zeroizing::new)
            .map_err(|error| {
                Failure::new("cannot ask for the passphrase on the terminal")
                    .why(error)
                    .remedy("give --passphrase-file FILE")
            })
    };
    let first = prompt("Passphrase: ")?;
    if new && *first != *prompt("The same again: ")? {
        return Err(
            Failure::new("the two passphrases differ").remedy("nothing was changed; try again")
        );
    }
    first_line(first.as_bytes(), "the answer")
}

/// Whether somebody can be asked.
#[must_use]
pub fn terminal_is_there() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

fn read_file(path: &Path) -> Result<Zeroizing<Vec<u8>>> {
    let shown = path.display();
    let cannot = || format!("cannot read the passphrase file {shown}");
    let mut file = File::open(path).attempt(cannot)?;
    let data = file.metadata().attempt(cannot)?;
    let mode = data.mode() & 0o7777;
    if data.is_file() && mode & 0o077 != 0 {
        return Err(Failure::new(format!(
            "the passphrase file {shown} is open to other users (mode {mode:04o})"
        ))
        .remedy(format!("close it with `chmod 600 {shown}`")));
    }
    // Full capacity from the start: growing would leave copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(LONGEST as usize + 1));
    file.by_ref()
        .take(LONGEST + 1)
        .read_to_end(&mut bytes)
        .attempt(cannot)?;
    if bytes.len() as u64 > LONGEST {
        return Err(
            Failure::new(format!("the passphrase file {shown} is longer than 64 KiB"))
                .remedy("give the right file"),
        );
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::{fs, os::unix::fs::PermissionsExt};

    fn file(contents: &[u8], mode: u32) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        fs::write(&path, contents).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        (dir, path)
    }

    fn passphrase(contents: &[u8]) -> Result<String> {
        let (_dir, path) = file(contents, 0o600);
        match Source::PassphraseFile(path).read(false)? {
            Secret::Passphrase(text) => Ok(text.to_string()),
            Secret::Key(_) => panic!("not a passphrase"),
        }
    }

    #[test]
    fn a_passphrase_is_the_first_line() {
        assert_eq!(passphrase(b"one two\nthree\n").unwrap(), "one two");
        assert_eq!(passphrase(b"dos\r\n").unwrap(), "dos");
        assert_eq!(passphrase(b" no newline ").unwrap(), " no newline ");
        assert!(
            passphrase(b"\n")
                .err()
                .unwrap()
                .to_string()
                .contains("empty")
        );
    }

    #[test]
    fn a_passphrase_open_to_others_is_refused() {
        let (_dir, path) = file(b"secret", 0o640);
        let text = Source::PassphraseFile(path)
            .read(false)
            .err()
            .unwrap()
            .to_string();
        assert!(
            text.contains("open to other users") && text.contains("chmod 600"),
            "{text}"
        );
    }

    #[test]
    fn an_endless_file_is_refused() {
        let text = Source::PassphraseFile("/dev/zero".into())
            .read(false)
            .err()
            .unwrap();
        assert!(text.to_string().contains("longer than"), "{text}");
    }
}
