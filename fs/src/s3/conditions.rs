//! Conditional requests.

use std::time::{Duration, SystemTime};

use hyper::{HeaderMap, header};
use kiseki_core::ids;
use s3s::{
    S3Error, S3Result,
    dto::{ETag, ETagCondition, Timestamp},
    s3_error,
};

/// Conditions of a read, or on the source of a copy.
#[derive(Default)]
pub(super) struct Conditions {
    pub if_match: Option<ETagCondition>,
    pub if_none_match: Option<ETagCondition>,
    pub if_modified_since: Option<Timestamp>,
    pub if_unmodified_since: Option<Timestamp>,
}

/// Conditions of a write.
#[derive(Clone, Default)]
pub(super) struct WriteConditions {
    pub if_match: Option<ETagCondition>,
    pub if_none_match: Option<ETagCondition>,
}

/// A time in the form of answers.
pub(super) fn timestamp(time: ids::Timestamp) -> Timestamp {
    let seconds = Duration::from_secs(time.secs.unsigned_abs());
    let whole = match time.secs < 0 {
        true => SystemTime::UNIX_EPOCH.checked_sub(seconds),
        false => SystemTime::UNIX_EPOCH.checked_add(seconds),
    };
    // Years that S3 cannot write are shown as the first.
    let year_9999 = 253_402_300_799;
    let shown = whole.filter(|_| (0..=year_9999).contains(&time.secs));
    Timestamp::from(shown.unwrap_or(SystemTime::UNIX_EPOCH))
}

fn matches(condition: &ETagCondition, etag: &ETag) -> bool {
    match condition {
        ETagCondition::Any => true,
        ETagCondition::ETag(wanted) => wanted.weak_cmp(etag),
    }
}

impl Conditions {
    /// Whether the read goes on, by the precedence of RFC 9110.
    pub(super) fn check(&self, etag: &ETag, changed: &Timestamp) -> S3Result<()> {
        match (&self.if_match, &self.if_unmodified_since) {
            (Some(wanted), _) if !matches(wanted, etag) => {
                return Err(s3_error!(PreconditionFailed));
            }
            (None, Some(since)) if changed > since => return Err(s3_error!(PreconditionFailed)),
            _ => {}
        }
        match (&self.if_none_match, &self.if_modified_since) {
            (Some(known), _) if matches(known, etag) => Err(not_modified(etag)),
            (None, Some(since)) if changed <= since => Err(not_modified(etag)),
            _ => Ok(()),
        }
    }

    /// The same for the source of a copy, where every refusal is an error.
    pub(super) fn check_source(&self, etag: &ETag, changed: &Timestamp) -> S3Result<()> {
        self.check(etag, changed)
            .map_err(|_| s3_error!(PreconditionFailed))
    }
}

fn not_modified(etag: &ETag) -> S3Error {
    let mut error = s3_error!(NotModified);
    let mut headers = HeaderMap::new();
    if let Ok(value) = etag.to_http_header() {
        headers.insert(header::ETAG, value);
    }
    error.set_headers(headers);
    error
}

impl WriteConditions {
    /// Whether the write may replace what is there, if anything is.
    pub(super) fn check(&self, there: Option<&ETag>) -> S3Result<()> {
        match (&self.if_match, there) {
            (Some(_), None) => return Err(s3_error!(NoSuchKey)),
            (Some(wanted), Some(etag)) if !matches(wanted, etag) => {
                return Err(s3_error!(PreconditionFailed));
            }
            _ => {}
        }
        match (&self.if_none_match, there) {
            (Some(known), Some(etag)) if matches(known, etag) => Err(s3_error!(PreconditionFailed)),
            _ => Ok(()),
        }
    }

    /// Whether nothing may be there.
    pub(super) fn only_new(&self) -> bool {
        matches!(self.if_none_match, Some(ETagCondition::Any))
    }

    /// Whether what is there has to be looked at.
    pub(super) fn is_empty(&self) -> bool {
        self.if_match.is_none() && self.if_none_match.is_none()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use s3s::S3ErrorCode;

    use super::*;

    fn tag(text: &str) -> ETag {
        ETag::Strong(text.into())
    }

    fn at(secs: i64) -> Timestamp {
        timestamp(ids::Timestamp { secs, nanos: 0 })
    }

    #[test]
    fn tags_go_before_times() {
        let conditions = Conditions {
            if_match: Some(ETagCondition::ETag(tag("a"))),
            if_unmodified_since: Some(at(1)),
            ..Conditions::default()
        };
        assert!(conditions.check(&tag("a"), &at(2)).is_ok());
        let refused = conditions.check(&tag("b"), &at(0)).unwrap_err();
        assert_eq!(*refused.code(), S3ErrorCode::PreconditionFailed);
        let conditions = Conditions {
            if_none_match: Some(ETagCondition::ETag(tag("a"))),
            if_modified_since: Some(at(5)),
            ..Conditions::default()
        };
        assert!(conditions.check(&tag("b"), &at(2)).is_ok());
        let known = conditions.check(&tag("a"), &at(9)).unwrap_err();
        assert_eq!(*known.code(), S3ErrorCode::NotModified);
        assert!(known.headers().unwrap().contains_key("etag"));
    }

    #[test]
    fn a_write_can_ask_for_what_it_replaces() {
        let only_new = WriteConditions {
            if_none_match: Some(ETagCondition::Any),
            ..WriteConditions::default()
        };
        assert!(only_new.check(None).is_ok() && only_new.check(Some(&tag("a"))).is_err());
        let replaces = WriteConditions {
            if_match: Some(ETagCondition::ETag(tag("a"))),
            ..WriteConditions::default()
        };
        assert!(replaces.check(Some(&tag("a"))).is_ok());
        assert!(replaces.check(Some(&tag("b"))).is_err() && replaces.check(None).is_err());
    }

    #[test]
    fn odd_times_can_be_shown() {
        for secs in [i64::MIN, -1, i64::MAX] {
            assert_eq!(at(secs), at(0));
        }
    }
}
