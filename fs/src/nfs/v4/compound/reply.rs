//! The results of a COMPOUND while they grow.

use crate::nfs::{
    v4::{
        failure::Failure,
        xdr::{Bitmap, Blob, CompoundReply, Status, number, put},
    },
    xdr,
};

/// Bytes that an operation which changes something answers at most, beside
/// data and attributes that were asked for.
const CHANGE_RESULT: usize = 256;

/// Results so far.
pub struct Reply {
    /// The head, whose status and count are set at the end, and results.
    encoded: Vec<u8>,
    /// Bytes of the head.
    head: usize,
    count: u32,
    /// Where the operation under way begins.
    at: usize,
    limit: usize,
    too_big: Status,
}

impl Reply {
    /// None yet.
    pub fn new(tag: Blob<1024>) -> Reply {
        let mut encoded = Vec::with_capacity(512);
        encoded.extend_from_slice(&xdr::encode(&CompoundReply {
            status: Status::Ok,
            tag,
            results: 0,
        }));
        Reply {
            head: encoded.len(),
            encoded,
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
        self.encoded.len()
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
        self.at = self.encoded.len();
        self.count += 1;
        self.encoded.extend_from_slice(&operation.to_be_bytes());
        self.encoded
            .extend_from_slice(&(Status::Ok as u32).to_be_bytes());
    }

    /// Where its results go.
    pub fn body(&mut self) -> &mut Vec<u8> {
        &mut self.encoded
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
            && put(&mut self.encoded, &**denied).is_err()
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
        let operation = self.encoded.get(self.at..self.at + 4);
        let set_attr = operation == Some(&number::SETATTR.to_be_bytes()[..]);
        self.encoded.truncate(self.at + 4);
        self.encoded
            .extend_from_slice(&(status as u32).to_be_bytes());
        if set_attr && put(&mut self.encoded, &Bitmap::default()).is_err() {
            return Status::ServerFault;
        }
        status
    }

    /// The whole, encoded.
    pub fn end(mut self, status: Status) -> Vec<u8> {
        self.encoded[..4].copy_from_slice(&(status as u32).to_be_bytes());
        let count = self.head - 4..self.head;
        self.encoded[count].copy_from_slice(&self.count.to_be_bytes());
        self.encoded
    }
}
