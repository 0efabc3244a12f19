//! Listing objects, in the order of the bytes of their keys.

mod names;
mod walk;

use kiseki_core::{Error, ids::Ino};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use s3s::{
    S3Request, S3Response, S3Result,
    dto::{
        CommonPrefix, EncodingType, ListObjectsInput, ListObjectsOutput, ListObjectsV2Input,
        ListObjectsV2Output, Object, ObjectStorageClass,
    },
    s3_error,
};

use super::{Gateway, buckets::owner, conditions::timestamp, failure::failed, sums::Sums};
pub(super) use names::Names;
use walk::{Found, Walk};

/// Most keys and prefixes of a page.
const PAGE_MAX: i32 = 1000;

/// What `encoding-type=url` leaves as it is.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'/')
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

/// What to list.
struct Query<'a> {
    prefix: &'a str,
    delimiter: Option<&'a str>,
    /// Keys and prefixes behind this.
    after: &'a str,
    most: usize,
    with_owner: bool,
    encode: bool,
}

/// A page of a listing.
#[derive(Default)]
struct Page {
    objects: Vec<Object>,
    prefixes: Vec<CommonPrefix>,
    /// The last key or prefix in it, when there is more behind.
    next: Option<String>,
}

impl Gateway {
    pub(super) async fn list_objects(
        &self,
        request: S3Request<ListObjectsInput>,
    ) -> S3Result<S3Response<ListObjectsOutput>> {
        let input = request.input;
        let encode = wants_encoding(input.encoding_type.as_ref())?;
        let most = input.max_keys.unwrap_or(PAGE_MAX);
        let query = Query {
            prefix: input.prefix.as_deref().unwrap_or_default(),
            delimiter: input.delimiter.as_deref().filter(|text| !text.is_empty()),
            after: input.marker.as_deref().unwrap_or_default(),
            most: page_size(most)?,
            with_owner: true,
            encode,
        };
        let page = self.page(&input.bucket, &query).await?;
        let text = |text: Option<String>| text.map(|text| encoded(&text, encode));
        Ok(S3Response::new(ListObjectsOutput {
            name: Some(input.bucket),
            prefix: Some(text(input.prefix).unwrap_or_default()),
            marker: Some(text(input.marker).unwrap_or_default()),
            max_keys: Some(most.min(PAGE_MAX)),
            is_truncated: Some(page.next.is_some()),
            contents: Some(page.objects),
            common_prefixes: Some(page.prefixes),
            delimiter: text(input.delimiter),
            next_marker: text(page.next),
            encoding_type: input.encoding_type,
            request_charged: None,
        }))
    }

    pub(super) async fn list_objects_v2(
        &self,
        request: S3Request<ListObjectsV2Input>,
    ) -> S3Result<S3Response<ListObjectsV2Output>> {
        let input = request.input;
        let encode = wants_encoding(input.encoding_type.as_ref())?;
        let most = input.max_keys.unwrap_or(PAGE_MAX);
        let continued = match &input.continuation_token {
            Some(token) => Some(from_token(token)?),
            None => None,
        };
        let start = input.start_after.as_deref().unwrap_or_default();
        let query = Query {
            prefix: input.prefix.as_deref().unwrap_or_default(),
            delimiter: input.delimiter.as_deref().filter(|text| !text.is_empty()),
            after: continued.as_deref().unwrap_or(start),
            most: page_size(most)?,
            with_owner: input.fetch_owner.unwrap_or(false),
            encode,
        };
        let page = self.page(&input.bucket, &query).await?;
        // Both have at most a thousand entries.
        let count = (page.objects.len() + page.prefixes.len()) as i32;
        let text = |text: Option<String>| text.map(|text| encoded(&text, encode));
        Ok(S3Response::new(ListObjectsV2Output {
            name: Some(input.bucket),
            prefix: Some(text(input.prefix).unwrap_or_default()),
            max_keys: Some(most.min(PAGE_MAX)),
            key_count: Some(count),
            continuation_token: input.continuation_token,
            is_truncated: Some(page.next.is_some()),
            next_continuation_token: page.next.map(|key| to_token(&key)),
            contents: Some(page.objects),
            common_prefixes: Some(page.prefixes),
            delimiter: text(input.delimiter),
            encoding_type: input.encoding_type,
            start_after: text(input.start_after),
            request_charged: None,
        }))
    }

    async fn page(&self, bucket: &str, query: &Query<'_>) -> S3Result<Page> {
        let bucket = self.bucket(bucket).await?;
        let mut page = Page::default();
        if query.most == 0 {
            return Ok(page);
        }
        let walk = Walk::start(self, &bucket, query.prefix, query.after).await;
        let mut walk = walk.map_err(failed)?;
        let mut last = String::new();
        loop {
            let Some(found) = walk.next().await.map_err(failed)? else {
                return Ok(page);
            };
            let full = page.objects.len() + page.prefixes.len() >= query.most;
            match query.rolled_up(&found) {
                // Told already, on this page or one before.
                Some(prefix) if prefix == last || *prefix <= *query.after => {}
                Some(_) if full => {
                    page.next = Some(last);
                    return Ok(page);
                }
                Some(prefix) => {
                    prefix.clone_into(&mut last);
                    page.prefixes.push(CommonPrefix {
                        prefix: Some(encoded(prefix, query.encode)),
                    });
                }
                None => match found {
                    Found::Directory { key, ino } => {
                        walk.enter(key, ino).await.map_err(failed)?;
                    }
                    Found::Object { key, ino } => {
                        let object = self.summary(&key, ino, query).await.map_err(failed)?;
                        // One that is gone again is not there.
                        let Some(object) = object else { continue };
                        if full {
                            page.next = Some(last);
                            return Ok(page);
                        }
                        page.objects.push(object);
                        last = key;
                    }
                },
            }
        }
    }

    async fn summary(
        &self,
        key: &str,
        ino: Ino,
        query: &Query<'_>,
    ) -> Result<Option<Object>, Error> {
        let attr = match self.volume.getattr(ino).await {
            Ok(attr) => attr,
            Err(Error::NotFound) => return Ok(None),
            Err(error) => return Err(error),
        };
        let sums = match Sums::of(&self.volume, &attr).await {
            Ok(sums) => sums,
            Err(Error::NotFound) => return Ok(None),
            Err(error) => return Err(error),
        };
        let size = if key.ends_with('/') { 0 } else { attr.size };
        Ok(Some(Object {
            e_tag: Some(sums.etag()),
            key: Some(encoded(key, query.encode)),
            last_modified: Some(timestamp(attr.mtime)),
            owner: query.with_owner.then(owner),
            size: Some(size.cast_signed()),
            storage_class: Some(ObjectStorageClass::from_static(
                ObjectStorageClass::STANDARD,
            )),
            ..Object::default()
        }))
    }
}

impl Query<'_> {
    /// The common prefix that stands for what was found, if one does.
    fn rolled_up<'k>(&self, found: &'k Found) -> Option<&'k str> {
        let delimiter = self.delimiter?;
        let (Found::Object { key, .. } | Found::Directory { key, .. }) = found;
        let rest = key.get(self.prefix.len()..)?;
        let end = rest.find(delimiter)? + delimiter.len();
        Some(&key[..self.prefix.len() + end])
    }
}

fn page_size(asked: i32) -> S3Result<usize> {
    let asked = usize::try_from(asked)
        .map_err(|_| s3_error!(InvalidArgument, "max-keys cannot be negative"))?;
    Ok(asked.min(PAGE_MAX as usize))
}

fn wants_encoding(encoding: Option<&EncodingType>) -> S3Result<bool> {
    match encoding.map(EncodingType::as_str) {
        None => Ok(false),
        Some(EncodingType::URL) => Ok(true),
        Some(_) => Err(s3_error!(
            InvalidArgument,
            "the one encoding-type there is is `url`"
        )),
    }
}

pub(super) fn encoded(text: &str, encode: bool) -> String {
    match encode {
        true => utf8_percent_encode(text, PLAIN).to_string(),
        false => text.to_owned(),
    }
}

fn to_token(key: &str) -> String {
    hex::encode(key)
}

fn from_token(token: &str) -> S3Result<String> {
    hex::decode(token)
        .ok()
        .and_then(|key| String::from_utf8(key).ok())
        .ok_or_else(|| {
            s3_error!(
                InvalidArgument,
                "the continuation token is none that this server gave"
            )
        })
}
