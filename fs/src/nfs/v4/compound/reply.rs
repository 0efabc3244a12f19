//! The results of a COMPOUND while they grow.

use super::head;
use crate::nfs::v4::{
    failure::Failure,
    xdr::{Bitmap, Blob, Status, number, put},
};

/// Bytes that an operation which changes something answers at most, beside
/// data and attributes that were asked for.
const CHANGE_RESULT: usize = 256;

/// Results so far.
pub struct Reply {
    tag: Blob<1024>,
    results: Vec<u8>,
    count: u32,
    /// Where the operation under way begins.
    at: usize,
    limit: usize,
    too_big: Status,
}

impl Reply {
    /// None yet.
    pub fn new(tag: Blob<1024>) -> Reply {
        Reply {
            tag,
            results: Vec::with_capacity(512),
            count: 0,
            at: 0,
            limit: usize::MAX,
            too_big: Status::RepTooBig,
        }
    }

    /// Sets how many bytes there may be, and what to say beyond.
    pub fn limit(&mut self, limit: usize, too_big: Status) {
        self.limit = limit;
        self.too_big = too_big;
    }

    /// Bytes so far, head included.
    pub fn len(&self) -> usize {
        12 + self.tag.0.len().next_multiple_of(4) + self.results.len()
    }

    /// Bytes that data of the operation under way may still take.
    pub fn room(&self) -> usize {
        // Status, counts and the like around the data.
        self.limit.saturating_sub(self.len() + 64)
    }

    /// Whether the answer of a change may not fit.
    pub fn is_short(&self) -> bool {
        self.len() + CHANGE_RESULT > self.limit
    }

    /// Begins an operation, which is taken to succeed until it fails.
    pub fn begin(&mut self, operation: u32) {
        self.at = self.results.len();
        self.count += 1;
        self.results.extend_from_slice(&operation.to_be_bytes());
        self.results
            .extend_from_slice(&(Status::Ok as u32).to_be_bytes());
    }

    /// Where its results go.
    pub fn body(&mut self) -> &mut Vec<u8> {
        &mut self.results
    }

    /// Ends an operation that succeeded, unless its results do not fit.
    pub fn succeed(&mut self) -> Status {
        match self.len() > self.limit {
            true => self.set_status(self.too_big),
            false => Status::Ok,
        }
    }

    /// Ends an operation that failed.
    pub fn fail_with(&mut self, failure: &Failure) -> Status {
        let status = self.set_status(failure.status());
        if let Failure::Denied(denied) = failure
            && put(&mut self.results, &**denied).is_err()
        {
            return self.set_status(Status::ServerFault);
        }
        status
    }

    /// An operation that failed before it began.
    pub fn fail(&mut self, operation: u32, status: Status) -> Status {
        self.begin(operation);
        self.set_status(status)
    }

    /// An operation that is not done because its answer would not fit.
    pub fn overflow(&mut self, operation: u32) -> Status {
        self.fail(operation, self.too_big)
    }

    /// Takes the results of the operation under way back.
    fn set_status(&mut self, status: Status) -> Status {
        let operation = self.results.get(self.at..self.at + 4);
        let set_attr = operation == Some(&number::SETATTR.to_be_bytes()[..]);
        self.results.truncate(self.at + 4);
        self.results
            .extend_from_slice(&(status as u32).to_be_bytes());
        if set_attr && put(&mut self.results, &Bitmap::default()).is_err() {
            return Status::ServerFault;
        }
        status
    }

    /// The whole, encoded.
    pub fn end(self, status: Status) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.len());
        // A head always fits.
        if put(&mut out, &head(status, &self.tag, self.count)).is_ok() {
            out.extend_from_slice(&self.results);
        }
        out
    }
}
