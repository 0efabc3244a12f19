//! The file that holds an unlock key, kept outside the store.
//!
//! One line of text: `kiseki-key-1:`, the key in hexadecimal, `:`, and check
//! digits that tell a mistyped or cut key from a wrong one.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::Path,
};

use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::{Error, Result, crypto::Secret};

const PREFIX: &str = "kiseki-key-";
const VERSION: &str = "1";
/// More than any key file has; what is longer is not read further.
const LONGEST: usize = 1024;

/// Reads a key file.
///
/// # Errors
/// `NoKey` when it cannot be read, when group or others may read or write it,
/// or when it is no whole key file; the text names the file and the way out.
pub fn read(path: &Path) -> Result<Secret> {
    let shown = path.display();
    let file = File::open(path).map_err(|error| {
        no_key(format!(
            "cannot open the key file {shown}: {error}; give the right one with --key-file"
        ))
    })?;
    check_mode(&file, path)?;
    let mut text = Zeroizing::new(Vec::with_capacity(LONGEST));
    file.take(LONGEST as u64)
        .read_to_end(&mut text)
        .map_err(|error| no_key(format!("cannot read the key file {shown}: {error}")))?;
    parse(&text).map_err(|what| no_key(format!("the key file {shown} {what}")))
}

/// Writes a new key file with mode 0600, durably, and its missing parent
/// directories with mode 0700.
///
/// # Errors
/// `Io` when it cannot be written, or exists already: no key file is ever
/// overwritten.
pub fn create(path: &Path, key: &Secret) -> Result<()> {
    let failed = |error| Error::io(format!("create the key file {}", path.display()), error);
    write_new(path, &render(key)).map_err(failed)
}

/// Refuses a key file that group or others may read or write.
///
/// # Errors
/// `NoKey`, saying how to close it.
pub fn check_mode(file: &File, path: &Path) -> Result<()> {
    let shown = path.display();
    let metadata = file
        .metadata()
        .map_err(|error| no_key(format!("cannot examine the key file {shown}: {error}")))?;
    if !metadata.is_file() {
        return Err(no_key(format!("{shown} is not a regular file")));
    }
    let mode = metadata.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(no_key(format!(
            "the key file {shown} is open to others (mode {mode:04o}); close it with `chmod 600 {shown}`"
        )));
    }
    Ok(())
}

fn write_new(path: &Path, text: &str) -> io::Result<()> {
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    // The directory of keys alone is nobody else's: one above it may be
    // /etc/kiseki, where all users look for their settings.
    if let Some(above) = parent.parent() {
        fs::create_dir_all(above)?;
    }
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(parent)?;
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    File::open(parent)?.sync_all()
}

/// The text of a key file.
#[must_use]
pub fn render(key: &Secret) -> Zeroizing<String> {
    let digits = Zeroizing::new(hex::encode(key.expose()));
    let check = hex::encode(check_digits(key));
    Zeroizing::new(format!("{PREFIX}{VERSION}:{}:{check}\n", *digits))
}

/// Reads the text of a key file; the error completes a sentence that begins
/// with the file's name.
pub(crate) fn parse(text: &[u8]) -> Result<Secret, String> {
    const FOREIGN: &str =
        "is not a kiseki key file (one line that begins with `kiseki-key-1:`); give the right one";
    const CUT: &str = "is cut or mistyped; restore it from a copy";
    if text.iter().all(u8::is_ascii_whitespace) {
        return Err("is empty; restore it from a copy".into());
    }
    let text = std::str::from_utf8(text).map_err(|_| FOREIGN)?.trim_end();
    let rest = text.strip_prefix(PREFIX).ok_or(FOREIGN)?;
    let (version, rest) = rest.split_once(':').ok_or(CUT)?;
    if version != VERSION {
        return Err(match version.parse::<u32>() {
            Ok(_) => format!("has version {version}, which needs a newer kiseki"),
            Err(_) => FOREIGN.into(),
        });
    }
    let (digits, check) = rest.split_once(':').ok_or(CUT)?;
    let mut key = Secret::zero();
    hex::decode_to_slice(digits, key.expose_mut()).map_err(|_| CUT)?;
    let mut found = [0; 4];
    hex::decode_to_slice(check, &mut found).map_err(|_| CUT)?;
    if found != check_digits(&key) {
        return Err(
            "has wrong check digits: it was changed or mistyped; restore it from a copy".into(),
        );
    }
    Ok(key)
}

fn check_digits(key: &Secret) -> [u8; 4] {
    let mut hash = Sha256::new();
    hash.update(b"kiseki key check v1");
    hash.update(key.expose());
    let hash = hash.finalize();
    [hash[0], hash[1], hash[2], hash[3]]
}

fn no_key(text: String) -> Error {
    Error::NoKey(text.into())
}

#[cfg(test)]
mod tests;
