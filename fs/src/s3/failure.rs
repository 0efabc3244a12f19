//! Errors of the engine in the words of S3.

use hyper::StatusCode;
use kiseki_core::Error;
use s3s::{S3Error, S3ErrorCode, s3_error};

/// What a client is told of an error that no operation expects.
pub(super) fn failed(error: Error) -> S3Error {
    match error {
        Error::NotFound => s3_error!(NoSuchKey),
        Error::NameTooLong => s3_error!(
            KeyTooLongError,
            "no part of a key between two slashes can be longer than 255 bytes"
        ),
        Error::NotADirectory => conflict("a part of the key before a slash is a file"),
        Error::IsADirectory => conflict("the key is a directory, because other keys begin with it"),
        Error::Exists | Error::NotEmpty => conflict("something else has this name"),
        Error::FileTooLarge => s3_error!(EntityTooLarge),
        Error::OutOfRange => s3_error!(
            MetadataTooLarge,
            "a name is longer than 240 bytes, or a value than 64 KiB"
        ),
        Error::NoSpace => with_status(
            StatusCode::INSUFFICIENT_STORAGE,
            "InsufficientStorage",
            "the disk of the store is full",
        ),
        Error::ReadOnly(why) => with_status(
            StatusCode::FORBIDDEN,
            "ReadOnly",
            format!("the volume takes no writes: {why}"),
        ),
        Error::Closed => s3_error!(ServiceUnavailable, "the server is shutting down"),
        Error::Damaged { .. } | Error::MissingChunk(_) | Error::Io { .. } => {
            tracing::error!(%error, "a request met an error of the store");
            s3_error!(InternalError, "{error}")
        }
        other => s3_error!(InvalidRequest, "{other}"),
    }
}

/// The key cannot be, for another has a name that it needs.
pub(super) fn conflict(message: &'static str) -> S3Error {
    with_status(StatusCode::CONFLICT, "PathConflict", message)
}

/// Something that S3 has and this server does not.
pub(super) fn not_implemented(what: &str) -> S3Error {
    s3_error!(NotImplemented, "{what} is not implemented")
}

/// An error with a code that `s3s` does not know.
pub(super) fn with_status(
    status: StatusCode,
    code: &'static str,
    message: impl Into<String>,
) -> S3Error {
    let code = S3ErrorCode::Custom(code.into());
    let mut error = S3Error::with_message(code, message.into());
    error.set_status_code(status);
    error
}
