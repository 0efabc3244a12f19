//! Keys of S3, as the daemon that has a volume open makes them and as verbs
//! ask for them.

use kiseki_core::engine::Volume;
use kiseki_fs::s3::credentials;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::failure::Result;

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeyRequest {
    /// Make one.
    Create,
    /// List all.
    List,
    /// Delete the one of this id.
    Delete(String),
}

/// What was done.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeyAnswer {
    /// A key, with what is never shown again.
    Created {
        /// Names it.
        access_key_id: String,
        /// Signs with it.
        secret_access_key: Zeroizing<String>,
    },
    /// All keys.
    Keys(Vec<ListedKey>),
    /// Whether there was one to delete.
    Deleted(bool),
}

/// A key in a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListedKey {
    /// Names it.
    pub access_key_id: String,
    /// When it was made, in seconds since 1970.
    pub created: i64,
}

/// Does it, on an open volume.
///
/// # Errors
/// The volume takes no writes, or is damaged.
pub async fn answer(volume: &Volume, request: KeyRequest) -> Result<KeyAnswer> {
    Ok(match request {
        KeyRequest::Create => {
            let key = credentials::create(volume).await?;
            KeyAnswer::Created {
                access_key_id: key.access_key_id,
                secret_access_key: key.secret_access_key,
            }
        }
        KeyRequest::List => {
            let keys = credentials::list(volume).await?.into_iter();
            let keys = keys.map(|key| ListedKey {
                access_key_id: key.access_key_id,
                created: key.created.secs,
            });
            KeyAnswer::Keys(keys.collect())
        }
        KeyRequest::Delete(id) => KeyAnswer::Deleted(credentials::delete(volume, &id).await?),
    })
}
