//! The first use of a store, which makes it, its key and its first volume.

use std::path::Path;

use crate::{
    args::{Context, KeyArgs},
    control::Connection,
    failure::{Failure, Result},
    mount_options::Policy,
    places::absolute,
    secrets::{Secret, Source},
    session::{self, StoreInfo},
};

/// Makes store, key and first volume, and says where they are.
///
/// # Errors
/// The directory holds something already, or cannot be written.
pub fn create(
    context: &Context,
    key: &KeyArgs,
    store: &Path,
    volume: &str,
    policy: Policy,
) -> Result<(StoreInfo, Secret)> {
    let make = |secret: &Secret| session::create(store, secret, volume, policy);
    let (info, secret, opens) = match key.named(context) {
        Some(Source::KeyFile(path)) if !path.exists() => {
            let path = absolute(&path)?;
            let (info, secret) = session::with_new_key(&path, store, |_| path.clone(), make)?;
            (info, secret, format!("its key in {}", path.display()))
        }
        Some(source) => {
            let secret = source.read(true)?;
            let opens = match &source {
                Source::KeyFile(path) => format!("its key in {}", path.display()),
                _ => "opened by the passphrase".to_owned(),
            };
            (make(&secret)?, secret, opens)
        }
        None => {
            let place = |info: &StoreInfo| context.places.key_file(&info.id);
            let new = context
                .places
                .key_file(&format!(".new-{}", std::process::id()));
            let (info, secret) = session::with_new_key(&new, store, place, make)?;
            let opens = format!("its key in {}", place(&info).display());
            (info, secret, opens)
        }
    };
    eprintln!(
        "kiseki: new store in {}, {opens}; whoever loses that loses the data, so keep a copy elsewhere",
        store.display()
    );
    Ok((info, secret))
}

/// The failure of those who would read where there is nothing.
#[must_use]
pub fn nothing_to_read(store: &Path) -> Failure {
    Failure::new(format!("there is no store at {}", store.display()))
        .remedy("use it without `ro` once to make it")
}

/// Fails for a store that a daemon serves already.
///
/// # Errors
/// One does; the text says which.
pub fn refuse_served(store: &Path) -> Result<()> {
    let Some((_, other)) = Connection::to(store)? else {
        return Ok(());
    };
    let (does, remedy) = match &other.mountpoint {
        Some(point) => (
            format!(
                "process {} has it mounted at {}",
                other.pid,
                point.display()
            ),
            "unmount it first, or use another store",
        ),
        None => (
            format!("process {} serves it", other.pid),
            "end that process first, or use another store",
        ),
    };
    Err(
        Failure::new(format!("the store {} is in use", store.display()))
            .why(does)
            .remedy(remedy),
    )
}
