//! Keys that clients sign with. Each is a small file in a directory that no
//! client sees: sealed like all files, and durable like them.

use bytes::Bytes;
use kiseki_core::{
    Error, Result,
    engine::{Caller, RenameFlags, Volume},
    ids::{Ino, Timestamp},
    meta::Kind,
};
use zeroize::{Zeroize, Zeroizing};

use super::{PRIVATE, put, tree};

const DIRECTORY: &[u8] = b"keys";
const UNFINISHED: &[u8] = b"unfinished";

const ID_LETTERS: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
const SECRET_LETTERS: &[u8; 64] =
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
const ID_PREFIX: &str = "KS";
const ID_LEN: usize = 20;
const SECRET_LEN: usize = 40;

/// A key with its secret, which is shown when it is made and never again.
pub struct NewKey {
    /// Names the key.
    pub access_key_id: String,
    /// Signs with it.
    pub secret_access_key: Zeroizing<String>,
}

/// A key without its secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyInfo {
    /// Names the key.
    pub access_key_id: String,
    /// When it was made.
    pub created: Timestamp,
}

/// Makes a key, durable when this returns.
///
/// # Errors
/// The volume takes no writes.
pub async fn create(volume: &Volume) -> Result<NewKey> {
    let private = volume.private_dir(PRIVATE).await?;
    let keys = tree::make_private(volume, private, DIRECTORY).await?;
    let unfinished = tree::make_private(volume, private, UNFINISHED).await?;
    let key = NewKey {
        access_key_id: format!(
            "{ID_PREFIX}{}",
            &*random_text(ID_LETTERS, ID_LEN - ID_PREFIX.len())
        ),
        secret_access_key: random_text(SECRET_LETTERS, SECRET_LEN),
    };
    let (who, name) = (Caller::default(), put::random_name());
    let name = name.as_bytes();
    let file = volume
        .mknod(&who, unfinished, name, Kind::File, 0o600, 0)
        .await?;
    let secret = Bytes::copy_from_slice(key.secret_access_key.as_bytes());
    volume.write(&who, file.ino, 0, secret.clone()).await?;
    wipe(secret);
    let id = key.access_key_id.as_bytes();
    let flags = RenameFlags::NoReplace;
    volume
        .rename(&who, unfinished, name, keys, id, flags)
        .await?;
    volume.fsync(file.ino, false).await?;
    Ok(key)
}

/// All keys, by their names.
///
/// # Errors
/// `Damaged`.
pub async fn list(volume: &Volume) -> Result<Vec<KeyInfo>> {
    let mut found = Vec::new();
    let Some(keys) = directory(volume).await? else {
        return Ok(found);
    };
    let mut cookie = 0;
    loop {
        let page = volume.readdir_plus(keys, cookie, 256).await?;
        for (entry, attr) in &page {
            found.push(KeyInfo {
                access_key_id: String::from_utf8_lossy(&entry.name).into_owned(),
                created: attr.btime,
            });
        }
        match page.last() {
            Some((last, _)) => cookie = last.cookie,
            None => break,
        }
    }
    found.sort_unstable_by(|a, b| a.access_key_id.cmp(&b.access_key_id));
    Ok(found)
}

/// Deletes a key, durably; whether there was one.
///
/// # Errors
/// The volume takes no writes.
pub async fn delete(volume: &Volume, access_key_id: &str) -> Result<bool> {
    let Some(keys) = directory(volume).await? else {
        return Ok(false);
    };
    if !is_id(access_key_id) {
        return Ok(false);
    }
    let id = access_key_id.as_bytes();
    match volume.unlink(&Caller::default(), keys, id).await {
        Ok(()) => {}
        Err(Error::NotFound) => return Ok(false),
        Err(error) => return Err(error),
    }
    volume.fsync(keys, false).await?;
    Ok(true)
}

/// The secret of a key, if there is such a key.
pub(super) async fn secret(volume: &Volume, id: &str) -> Result<Option<Zeroizing<String>>> {
    if !is_id(id) {
        return Ok(None);
    }
    let Some(keys) = directory(volume).await? else {
        return Ok(None);
    };
    let found = match volume.lookup(keys, id.as_bytes()).await {
        Ok(found) => found,
        Err(Error::NotFound) => return Ok(None),
        Err(error) => return Err(error),
    };
    // One byte more than a secret has, to notice what is none.
    let bytes = volume.read(found.ino, 0, SECRET_LEN as u32 + 1).await?;
    let secret = str::from_utf8(&bytes).ok();
    let secret = secret
        .filter(|secret| secret.len() == SECRET_LEN)
        .map(|secret| Zeroizing::new(secret.to_owned()));
    wipe(bytes);
    Ok(secret)
}

/// The directory of the keys, if one was ever made.
async fn directory(volume: &Volume) -> Result<Option<Ino>> {
    let found = match volume.private_dir(PRIVATE).await {
        Ok(private) => volume.lookup(private, DIRECTORY).await,
        Err(error) => Err(error),
    };
    match found {
        Ok(found) => Ok(Some(found.ino)),
        Err(Error::NotFound | Error::ReadOnly(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

fn is_id(text: &str) -> bool {
    text.len() == ID_LEN && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

/// Letters of a set whose length divides 256, so that each is as likely.
fn random_text<const N: usize>(letters: &[u8; N], len: usize) -> Zeroizing<String> {
    let mut bytes = Zeroizing::new(vec![0; len]);
    if let Err(error) = getrandom::fill(&mut bytes) {
        // A guessable secret would be worse.
        panic!("the system gives no random bytes: {error}");
    }
    let text = bytes
        .iter()
        .map(|byte| char::from(letters[usize::from(*byte) % N]));
    Zeroizing::new(text.collect())
}

/// Overwrites bytes that nobody else has.
fn wipe(bytes: Bytes) {
    if let Ok(mut bytes) = bytes.try_into_mut() {
        bytes.as_mut().zeroize();
    }
}
