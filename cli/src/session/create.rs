//! The first mount: a store, its key and its first volume.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    sync::Arc,
};

use kiseki_core::{
    crypto::{Secret as Key, key_file},
    host::{SystemClock, SystemEntropy},
    store::{CutPolicy, Store, StoreLock, Unlock, UnlockedStore},
};
use nix::unistd::{getegid, geteuid};

use super::{StoreInfo, disk, info};
use crate::{
    failure::{Attempt, Failure, Result},
    mount_options::Policy,
    secrets::{self, Secret},
};

/// Makes a store that `secret` opens, with one volume.
///
/// # Errors
/// The directory holds something already, or cannot be written; what is there
/// stays as it is.
pub fn create(dir: &Path, secret: &Secret, name: &str, policy: Policy) -> Result<StoreInfo> {
    let disk = disk(dir)?;
    let _lock = StoreLock::take(dir)?;
    let store = Store::create(
        disk,
        Arc::new(SystemEntropy),
        Arc::new(SystemClock),
        &Unlock::from(secret.copy()),
    )?;
    volume(&store, name, policy)?;
    info(store.store())
}

/// Makes a volume that belongs to this user.
pub(super) fn volume(store: &UnlockedStore, name: &str, policy: Policy) -> Result<()> {
    let policy = match policy {
        Policy::Auto => CutPolicy::Auto,
        Policy::Cdc => CutPolicy::Cdc,
        Policy::Fixed => CutPolicy::Fixed,
    };
    store.create_volume(name, policy, geteuid().as_raw(), getegid().as_raw())?;
    Ok(())
}

/// Writes a new random key to `path`, has `make` build a store with it, and
/// moves the key file to `place`, which may depend on the store. The key is on
/// disk before anything is sealed with it, and gone again when `make` fails.
///
/// # Errors
/// The key would lie in the store, cannot be written, or `make` failed.
pub fn with_new_key(
    path: &Path,
    store: &Path,
    place: impl FnOnce(&StoreInfo) -> PathBuf,
    make: impl FnOnce(&Secret) -> Result<StoreInfo>,
) -> Result<(StoreInfo, Secret)> {
    if path.starts_with(store) {
        return Err(Failure::new(format!(
            "the key file {} would lie in the store",
            path.display()
        ))
        .why("whoever copies the store would have its key")
        .remedy("name a key file outside of it"));
    }
    secrets::protect_process()?;
    let key = Key::random(&SystemEntropy);
    key_file::create(path, &key)?;
    let secret = Secret::Key(key);
    let info = match make(&secret) {
        Ok(info) => info,
        Err(failure) => {
            // It opens nothing; that it stays would only confuse.
            let _ = fs::remove_file(path);
            return Err(failure);
        }
    };
    let place = place(&info);
    if place != path {
        let cannot = || {
            format!(
                "the key stays in {} and cannot move to {}",
                path.display(),
                place.display()
            )
        };
        fs::rename(path, &place).attempt(cannot)?;
        let dir = place.parent().unwrap_or(Path::new("."));
        File::open(dir)
            .and_then(|dir| dir.sync_all())
            .attempt(cannot)?;
    }
    Ok((info, secret))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::{
        secrets::Source,
        session::{Session, inspect},
    };

    #[test]
    fn a_new_store_opens_with_its_key_and_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let (store, keys) = (dir.path().join("store"), dir.path().join("keys"));
        assert!(inspect(&store).unwrap().is_none());
        let (info, _) = with_new_key(
            &keys.join(".new"),
            &store,
            |info| keys.join(format!("{}.key", info.id)),
            |secret| create(&store, secret, "default", Policy::Auto),
        )
        .unwrap();
        assert_eq!(inspect(&store).unwrap(), Some(info.clone()));
        let path = keys.join(format!("{}.key", info.id));
        assert_eq!(
            path.metadata().unwrap().permissions().mode() & 0o7777,
            0o600
        );
        assert_eq!(fs::read_dir(&keys).unwrap().count(), 1);

        let secret = Source::KeyFile(path).read(false).unwrap();
        let session = Session::open(&store, &secret).unwrap();
        assert_eq!(session.volumes().unwrap()[0].name, "default");
        drop(session);
        let other = Secret::Key(Key::random(&SystemEntropy));
        assert!(
            Session::open(&store, &other)
                .err()
                .unwrap()
                .to_string()
                .contains("wrong key")
        );
    }

    #[test]
    fn a_key_is_not_left_behind_by_a_store_that_cannot_be() {
        let dir = tempfile::tempdir().unwrap();
        let store = dir.path().join("full");
        fs::create_dir(&store).unwrap();
        fs::write(store.join("file"), "mine").unwrap();
        let key = dir.path().join("key");
        let make = |secret: &Secret| create(&store, secret, "default", Policy::Auto);
        assert!(with_new_key(&key, &store, |_| key.clone(), make).is_err());
        assert!(!key.exists());
        assert_eq!(fs::read(store.join("file")).unwrap(), b"mine");
    }

    #[test]
    fn a_key_does_not_lie_in_its_store() {
        let failure = with_new_key(
            Path::new("/s/key"),
            Path::new("/s"),
            |_| "/s/key".into(),
            |_| Err(Failure::new("made")),
        )
        .err()
        .unwrap();
        assert!(
            failure.to_string().contains("would lie in the store"),
            "{failure}"
        );
    }
}
