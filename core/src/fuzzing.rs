//! What fuzzers call: each function hands bytes, as they could lie on a disk
//! that decayed or that somebody changed, to the decoders of one family, and
//! panics when one of them breaks a promise.
//!
//! The first byte of an input chooses the decoder. Where bytes are guarded by
//! a checksum there is also a choice that makes it right: a fuzzer would never
//! find one, whoever changes a disk on purpose writes one.
//!
//! The programs are in `fuzz/`, the inputs they learned in `fuzz/corpus/`;
//! the tests run those again.

mod chunks;
mod keys;
mod log;
mod meta;
mod split;
#[cfg(test)]
mod tests;

pub use self::{chunks::chunks, keys::keys, log::log, meta::meta};
