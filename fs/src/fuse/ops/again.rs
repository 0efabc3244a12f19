//! Requests that are sent again, because the process that was asked first died
//! before it answered. Most may simply be done once more; these may not. What
//! they made then is answered now.

use std::future::Future;

use kiseki_core::{
    engine::{Attr, Volume},
    ids::Ino,
};

use crate::fuse::fail::Outcome;

/// A request whose answer is empty.
pub(in crate::fuse) async fn change(
    done: Option<Ino>,
    run: impl Future<Output = Outcome<()>>,
) -> Outcome<()> {
    match done {
        Some(_) => Ok(()),
        None => run.await,
    }
}

/// A request that makes a name.
pub(in crate::fuse) async fn entry(
    done: Option<Ino>,
    volume: Volume,
    run: impl Future<Output = Outcome<Attr>>,
) -> Outcome<Attr> {
    match done {
        Some(ino) => Ok(volume.getattr(ino).await?),
        None => run.await,
    }
}

/// A request that makes a file and opens it.
pub(in crate::fuse) async fn create(
    done: Option<Ino>,
    volume: Volume,
    run: impl Future<Output = Outcome<Attr>>,
) -> Outcome<Attr> {
    match done {
        Some(ino) => {
            volume.open(ino).await?;
            Ok(volume.getattr(ino).await?)
        }
        None => run.await,
    }
}
