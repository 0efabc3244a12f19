//! Who may ask: whoever signs with a key of the volume.

use hyper::header::AUTHORIZATION;
use kiseki_core::engine::Volume;
use s3s::{
    S3Result,
    access::{S3Access, S3AccessContext},
    auth::{S3Auth, SecretKey},
    s3_error,
};

use super::{credentials, failure::failed};

/// Looks keys up in the volume, so that one that was deleted is refused from
/// the next request on.
pub(super) struct Keys {
    pub volume: Volume,
}

#[async_trait::async_trait]
impl S3Auth for Keys {
    async fn get_secret_key(&self, access_key: &str) -> S3Result<SecretKey> {
        match credentials::secret(&self.volume, access_key).await {
            Ok(Some(secret)) => Ok(SecretKey::from(secret.as_str())),
            Ok(None) => Err(s3_error!(InvalidAccessKeyId)),
            Err(error) => Err(failed(error)),
        }
    }
}

/// Lets in who has signed, and nobody else.
pub(super) struct Signed;

#[async_trait::async_trait]
impl S3Access for Signed {
    async fn check(&self, context: &mut S3AccessContext<'_>) -> S3Result<()> {
        if context.credentials().is_none() {
            return Err(s3_error!(AccessDenied, "the request is not signed"));
        }
        // Version 2 signs little, with SHA-1. Clients still make presigned URLs
        // with it by default, which say no more than what to get until when.
        let header = context.headers().get(AUTHORIZATION);
        match header.is_some_and(|value| value.as_bytes().starts_with(b"AWS ")) {
            true => Err(s3_error!(
                AccessDenied,
                "sign requests with Signature Version 4; version 2 is taken in presigned URLs alone"
            )),
            false => Ok(()),
        }
    }
}
