//! What a client says of an object beside its contents: extended attributes,
//! which the engine seals, and which those who use the mount can see and set.

use std::collections::HashMap;

use kiseki_core::{
    Error,
    engine::{Caller, Volume, XattrSet},
    ids::Ino,
};
use s3s::{
    S3Result,
    dto::{Timestamp, TimestampFormat},
    s3_error,
};

use super::{failure::not_implemented, tagging};

/// As `xdg` and others call it.
const CONTENT_TYPE: &str = "user.mime_type";
const CACHE_CONTROL: &str = "user.s3.cache-control";
const CONTENT_DISPOSITION: &str = "user.s3.content-disposition";
const CONTENT_ENCODING: &str = "user.s3.content-encoding";
const CONTENT_LANGUAGE: &str = "user.s3.content-language";
const EXPIRES: &str = "user.s3.expires";
const TAGS: &str = "user.s3.tags";
/// The rest of the name is the key of the client.
const METADATA: &str = "user.s3.meta.";

/// What S3 allows for all metadata of an object, in bytes.
const METADATA_MAX: usize = 2048;

/// Headers, metadata and tags of an object.
#[derive(Clone, Debug, Default)]
pub(super) struct Headers {
    pub content_type: Option<String>,
    pub cache_control: Option<String>,
    pub content_disposition: Option<String>,
    pub content_encoding: Option<String>,
    pub content_language: Option<String>,
    pub expires: Option<Timestamp>,
    pub metadata: Option<HashMap<String, String>>,
    /// As in a query.
    pub tags: Option<String>,
}

/// Takes the headers out of the input of an operation that makes an object,
/// and refuses those that ask for something that is not done.
macro_rules! headers_of {
    ($input:expr) => {{
        let input = &mut $input;
        $crate::s3::headers::refuse_unsupported(&[
            (
                input.sse_customer_algorithm.is_some() || input.sse_customer_key.is_some(),
                "encryption with a key of the client",
            ),
            (
                input
                    .server_side_encryption
                    .as_ref()
                    .is_some_and(|sse| sse.as_str() != "AES256"),
                "encryption with a key of KMS",
            ),
            (
                input.object_lock_mode.is_some()
                    || input.object_lock_legal_hold_status.is_some()
                    || input.object_lock_retain_until_date.is_some(),
                "object lock",
            ),
            (input.website_redirect_location.is_some(), "website hosting"),
            (
                input.acl.as_ref().is_some_and(|acl| {
                    !matches!(acl.as_str(), "private" | "bucket-owner-full-control")
                }),
                "an access control list",
            ),
        ])?;
        $crate::s3::headers::Headers {
            content_type: input.content_type.take(),
            cache_control: input.cache_control.take(),
            content_disposition: input.content_disposition.take(),
            content_encoding: $crate::s3::headers::stored_encoding(input.content_encoding.take()),
            content_language: input.content_language.take(),
            expires: input.expires.take(),
            metadata: input.metadata.take(),
            tags: input.tagging.take(),
        }
        .checked()?
    }};
}
pub(super) use headers_of;

pub(super) fn refuse_unsupported(asked: &[(bool, &str)]) -> S3Result<()> {
    match asked.iter().find(|(asked, _)| *asked) {
        Some((_, what)) => Err(not_implemented(what)),
        None => Ok(()),
    }
}

/// `aws-chunked` is an encoding of the transfer, not of the object.
pub(super) fn stored_encoding(encoding: Option<String>) -> Option<String> {
    let encoding = encoding?;
    let kept: Vec<&str> = encoding
        .split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty() && !part.eq_ignore_ascii_case("aws-chunked"))
        .collect();
    (!kept.is_empty()).then(|| kept.join(","))
}

impl Headers {
    /// Refuses what S3 does not allow.
    pub(super) fn checked(mut self) -> S3Result<Headers> {
        let metadata = self.metadata.iter().flatten();
        let bytes: usize = metadata.map(|(key, value)| key.len() + value.len()).sum();
        if bytes > METADATA_MAX {
            return Err(s3_error!(MetadataTooLarge));
        }
        if let Some(tags) = &self.tags {
            let tags = tagging::parse(tags)?;
            self.tags = (!tags.is_empty()).then(|| tagging::join(&tags));
        }
        Ok(self)
    }

    /// Sets the attributes of an inode that has none of them.
    pub(super) async fn store(&self, volume: &Volume, who: &Caller, ino: Ino) -> Result<(), Error> {
        let expires = self.expires.as_ref().and_then(|time| {
            let mut text = Vec::new();
            time.format(TimestampFormat::HttpDate, &mut text).ok()?;
            String::from_utf8(text).ok()
        });
        let fixed = [
            (CONTENT_TYPE, &self.content_type),
            (CACHE_CONTROL, &self.cache_control),
            (CONTENT_DISPOSITION, &self.content_disposition),
            (CONTENT_ENCODING, &self.content_encoding),
            (CONTENT_LANGUAGE, &self.content_language),
            (EXPIRES, &expires),
            (TAGS, &self.tags),
        ];
        for (name, value) in fixed {
            if let Some(value) = value {
                set(volume, who, ino, name, value).await?;
            }
        }
        for (key, value) in self.metadata.iter().flatten() {
            set(volume, who, ino, &format!("{METADATA}{key}"), value).await?;
        }
        Ok(())
    }

    /// Reads the attributes of an inode.
    pub(super) async fn load(volume: &Volume, ino: Ino) -> Result<Headers, Error> {
        let mut headers = Headers::default();
        let mut metadata = HashMap::new();
        for (name, value) in volume.xattrs(ino).await? {
            // What others set may be anything; a header is text in one line.
            let (Ok(name), Ok(value)) = (str::from_utf8(&name), str::from_utf8(&value)) else {
                continue;
            };
            if value.chars().any(char::is_control) {
                continue;
            }
            let text = Some(value.to_owned());
            match name {
                CONTENT_TYPE => headers.content_type = text,
                CACHE_CONTROL => headers.cache_control = text,
                CONTENT_DISPOSITION => headers.content_disposition = text,
                CONTENT_ENCODING => headers.content_encoding = text,
                CONTENT_LANGUAGE => headers.content_language = text,
                EXPIRES => {
                    headers.expires = Timestamp::parse(TimestampFormat::HttpDate, value).ok();
                }
                TAGS => headers.tags = text,
                _ => {
                    if let Some(key) = name.strip_prefix(METADATA) {
                        metadata.insert(key.to_owned(), value.to_owned());
                    }
                }
            }
        }
        headers.metadata = (!metadata.is_empty()).then_some(metadata);
        Ok(headers)
    }

    /// Replaces the tags of an object.
    pub(super) async fn set_tags(
        volume: &Volume,
        who: &Caller,
        ino: Ino,
        tags: Option<&str>,
    ) -> Result<(), Error> {
        match tags {
            Some(tags) => set(volume, who, ino, TAGS, tags).await,
            None => match volume.removexattr(who, ino, TAGS.as_bytes()).await {
                Err(Error::NoAttribute) => Ok(()),
                other => other,
            },
        }
    }
}

async fn set(
    volume: &Volume,
    who: &Caller,
    ino: Ino,
    name: &str,
    value: &str,
) -> Result<(), Error> {
    volume
        .setxattr(who, ino, name.as_bytes(), value.as_bytes(), XattrSet::Any)
        .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_encoding_of_the_transfer_is_not_kept() {
        let stored = |text: &str| stored_encoding(Some(text.to_owned()));
        assert_eq!(stored("aws-chunked"), None);
        assert_eq!(stored("aws-chunked, gzip").as_deref(), Some("gzip"));
        assert_eq!(stored("br").as_deref(), Some("br"));
        assert_eq!(stored_encoding(None), None);
    }
}
