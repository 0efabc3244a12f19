//! Which clients may have state after a restart.

use std::sync::Arc;

use kiseki_core::{
    Result,
    engine::{FrontId, Volume},
};
use serde::{Deserialize, Serialize};

use crate::nfs::durable::Folder;

const CLIENTS: &[u8] = b"clients";

#[derive(Serialize, Deserialize)]
enum Record {
    Client { owner: Vec<u8> },
}

/// The records of a volume.
pub struct Records(Folder<Record>);

impl Records {
    /// Finds or makes their place.
    ///
    /// # Errors
    /// `NotFound` where there is none and the volume takes no writes.
    pub async fn open(volume: &Volume, front: FrontId) -> Result<Records> {
        Ok(Records(Folder::open(volume, front, CLIENTS).await?))
    }

    /// The names of all clients on record.
    ///
    /// # Errors
    /// `Damaged`.
    pub async fn load(&self) -> Result<Vec<Arc<[u8]>>> {
        let records = self.0.load().await?;
        let owner = |Record::Client { owner }| owner.into();
        Ok(records.into_iter().map(owner).collect())
    }

    /// Notes a client; durable when this returns.
    ///
    /// # Errors
    /// The volume takes no writes.
    pub async fn keep(&self, owner: &[u8]) -> Result<()> {
        let record = Record::Client {
            owner: owner.to_vec(),
        };
        self.0.keep(owner, &record).await
    }

    /// Forgets clients; durable when this returns.
    ///
    /// # Errors
    /// The volume takes no writes.
    pub async fn forget(&self, owners: &[Arc<[u8]>]) -> Result<()> {
        self.0.forget(owners).await
    }
}
