//! Tags of objects, kept as one attribute in the form of a query.

use s3s::{
    S3Request, S3Response, S3Result,
    dto::{
        DeleteObjectTaggingInput, DeleteObjectTaggingOutput, GetObjectTaggingInput,
        GetObjectTaggingOutput, PutObjectTaggingInput, PutObjectTaggingOutput, Tag,
    },
    s3_error,
};

use super::{Gateway, failure::failed, get::refuse_version, headers::Headers};

/// What S3 allows.
const TAGS_MAX: usize = 10;
const KEY_MAX: usize = 128;
const VALUE_MAX: usize = 256;

pub(super) type Tags = Vec<(String, String)>;

/// Tags as a client gives them in a header.
pub(super) fn parse(text: &str) -> S3Result<Tags> {
    let tags = form_urlencoded::parse(text.as_bytes());
    check(tags.into_owned().collect())
}

/// The same, back in that form.
pub(super) fn join(tags: &Tags) -> String {
    form_urlencoded::Serializer::new(String::new())
        .extend_pairs(tags)
        .finish()
}

/// How many there are, if any.
pub(super) fn count(text: Option<&str>) -> Option<i32> {
    let count = form_urlencoded::parse(text?.as_bytes()).count();
    i32::try_from(count).ok().filter(|count| *count > 0)
}

fn check(tags: Tags) -> S3Result<Tags> {
    let long = tags.iter().any(|(key, value)| {
        key.is_empty() || key.chars().count() > KEY_MAX || value.chars().count() > VALUE_MAX
    });
    let mut keys: Vec<_> = tags.iter().map(|(key, _)| key).collect();
    keys.sort_unstable();
    let twice = keys.windows(2).any(|pair| pair[0] == pair[1]);
    if tags.len() > TAGS_MAX || long || twice {
        return Err(s3_error!(
            InvalidTag,
            "an object has up to 10 tags with different keys of 1 to 128 characters and values of up to 256"
        ));
    }
    Ok(tags)
}

impl Gateway {
    pub(super) async fn get_object_tagging(
        &self,
        request: S3Request<GetObjectTaggingInput>,
    ) -> S3Result<S3Response<GetObjectTaggingOutput>> {
        let input = request.input;
        refuse_version(input.version_id.as_deref())?;
        let object = self.object(&input.bucket, &input.key).await?;
        let text = object.headers.tags.unwrap_or_default();
        let tags = form_urlencoded::parse(text.as_bytes()).into_owned();
        let tag_set = tags
            .map(|(key, value)| Tag {
                key: Some(key),
                value: Some(value),
            })
            .collect();
        Ok(S3Response::new(GetObjectTaggingOutput {
            tag_set,
            version_id: None,
        }))
    }

    pub(super) async fn put_object_tagging(
        &self,
        request: S3Request<PutObjectTaggingInput>,
    ) -> S3Result<S3Response<PutObjectTaggingOutput>> {
        let input = request.input;
        refuse_version(input.version_id.as_deref())?;
        let tags = input.tagging.tag_set.into_iter();
        let tags = check(
            tags.map(|tag| (tag.key.unwrap_or_default(), tag.value.unwrap_or_default()))
                .collect(),
        )?;
        let tags = (!tags.is_empty()).then(|| join(&tags));
        self.tag(&input.bucket, &input.key, tags.as_deref()).await?;
        Ok(S3Response::new(PutObjectTaggingOutput::default()))
    }

    pub(super) async fn delete_object_tagging(
        &self,
        request: S3Request<DeleteObjectTaggingInput>,
    ) -> S3Result<S3Response<DeleteObjectTaggingOutput>> {
        let input = request.input;
        refuse_version(input.version_id.as_deref())?;
        self.tag(&input.bucket, &input.key, None).await?;
        Ok(S3Response::new(DeleteObjectTaggingOutput::default()))
    }

    async fn tag(&self, bucket: &str, key: &str, tags: Option<&str>) -> S3Result<()> {
        let object = self.object(bucket, key).await?;
        let (ino, who) = (object.attr.ino, self.owner_of(&object.attr));
        Headers::set_tags(&self.volume, &who, ino, tags)
            .await
            .map_err(failed)?;
        self.settle(ino).await.map_err(failed)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn tags_survive_their_form() {
        let tags = parse("a=1&b=%26%3D+x&c=").unwrap();
        assert_eq!(tags[1], ("b".to_owned(), "&= x".to_owned()));
        assert_eq!(parse(&join(&tags)).unwrap(), tags);
        assert_eq!(count(Some(&join(&tags))), Some(3));
        assert_eq!(count(Some("")), None);
    }

    #[test]
    fn too_much_is_refused() {
        assert!(parse("a=1&a=2").is_err());
        assert!(parse(&format!("{}=1", "k".repeat(129))).is_err());
        let many: Vec<String> = (0..11).map(|n| format!("{n}=x")).collect();
        assert!(parse(&many.join("&")).is_err());
    }
}
