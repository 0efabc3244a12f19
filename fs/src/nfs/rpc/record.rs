//! Record marking (RFC 5531, section 11): messages in a stream of bytes.

use bytes::{Buf, Bytes, BytesMut};
use nfs3_types::rpc::fragment_header;

use crate::nfs::TRANSFER_MAX;

/// The longest message that is taken: data, and what goes with it.
pub const LONGEST: usize = TRANSFER_MAX as usize + (64 << 10);

/// Most pieces that a message may come in. Clients send one.
const FRAGMENTS: u32 = 64;

/// Bytes of a message that have to be there before room for all of it is
/// made: what is only claimed costs nothing.
const FIRST: usize = 16 << 10;

/// Bytes of a fragment's header.
const HEADER: usize = 4;

/// What is wrong with a stream; nothing in it can be relied on from there on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// A message is longer than [`LONGEST`].
    #[error("a message of more than {LONGEST} bytes")]
    TooLong,
    /// A message comes in too many pieces.
    #[error("a message in more than {FRAGMENTS} pieces")]
    TooManyFragments,
}

/// Puts messages together.
#[derive(Default)]
pub struct Assembly {
    /// What has come and is in no message yet.
    input: BytesMut,
    /// The fragments of a message whose last one is still to come.
    begun: BytesMut,
    fragments: u32,
}

impl Assembly {
    /// Where bytes from the stream are to be put, with room for some.
    pub fn input(&mut self) -> &mut BytesMut {
        let wanted = match self.fragment() {
            Some(header) => HEADER + header.fragment_length() as usize,
            None => HEADER,
        };
        let missing = wanted
            .min(HEADER + LONGEST)
            .saturating_sub(self.input.len());
        match self.input.len() {
            0..FIRST => self.input.reserve(FIRST - self.input.len()),
            _ => self.input.reserve(missing.max(HEADER)),
        }
        &mut self.input
    }

    /// The next message that is complete.
    ///
    /// # Errors
    /// See [`Broken`].
    pub fn take(&mut self) -> Result<Option<Bytes>, Broken> {
        while let Some(header) = self.fragment() {
            let len = header.fragment_length() as usize;
            if self.begun.len() + len > LONGEST {
                return Err(Broken::TooLong);
            }
            if self.fragments == FRAGMENTS {
                return Err(Broken::TooManyFragments);
            }
            if self.input.len() < HEADER + len {
                return Ok(None);
            }
            self.input.advance(HEADER);
            let fragment = self.input.split_to(len);
            if header.eof() {
                self.fragments = 0;
                if self.begun.is_empty() {
                    return Ok(Some(fragment.freeze()));
                }
                self.begun.extend_from_slice(&fragment);
                return Ok(Some(std::mem::take(&mut self.begun).freeze()));
            }
            self.fragments += 1;
            self.begun.extend_from_slice(&fragment);
        }
        Ok(None)
    }

    /// Whether nothing of a message is there.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.input.is_empty() && self.begun.is_empty() && self.fragments == 0
    }

    /// Bytes that are held.
    #[must_use]
    pub fn held(&self) -> usize {
        self.input.len() + self.begun.len()
    }

    /// Gives back memory that holds nothing.
    pub fn shrink(&mut self) {
        if self.input.is_empty() {
            self.input = BytesMut::new();
        }
    }

    fn fragment(&self) -> Option<fragment_header> {
        let header = self.input.first_chunk::<HEADER>()?;
        Some(fragment_header::from(*header))
    }
}

/// What goes before a message of this length.
#[must_use]
pub fn mark(len: usize) -> Bytes {
    // Answers are far shorter than the 2 GiB that a fragment can have.
    let len = (len as u32).min(fragment_header::MASK);
    Bytes::copy_from_slice(&fragment_header::new(len, true).into_xdr_buf())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn fragment(bytes: &[u8], last: bool) -> Vec<u8> {
        let header = fragment_header::new(bytes.len() as u32, last).into_xdr_buf();
        [&header[..], bytes].concat()
    }

    fn messages(stream: &[u8], step: usize) -> Result<Vec<Bytes>, Broken> {
        let mut assembly = Assembly::default();
        let mut found = Vec::new();
        for piece in stream.chunks(step) {
            assembly.input().extend_from_slice(piece);
            while let Some(message) = assembly.take()? {
                found.push(message);
            }
        }
        assert!(assembly.is_empty());
        Ok(found)
    }

    #[test]
    fn messages_come_out_however_they_are_cut() {
        let mut stream = fragment(b"one", true);
        stream.extend(fragment(b"t", false));
        stream.extend(fragment(b"", false));
        stream.extend(fragment(b"wo", true));
        stream.extend(fragment(b"", true));
        for step in 1..=stream.len() {
            let found = messages(&stream, step).unwrap();
            assert_eq!(found, [&b"one"[..], b"two", b""], "in steps of {step}");
        }
    }

    #[test]
    fn a_message_that_is_too_long_is_known_by_its_header() {
        let mut assembly = Assembly::default();
        let claim = fragment_header::new(LONGEST as u32 + 1, true).into_xdr_buf();
        assembly.input().extend_from_slice(&claim);
        assert_eq!(assembly.take(), Err(Broken::TooLong));
        let mut pieces = fragment(&vec![0; LONGEST], false);
        pieces.extend(fragment(&[0], true));
        assert_eq!(messages(&pieces, pieces.len()), Err(Broken::TooLong));
    }

    #[test]
    fn pieces_are_counted() {
        let stream: Vec<u8> = (0..=FRAGMENTS).flat_map(|_| fragment(b"", false)).collect();
        assert_eq!(messages(&stream, 7), Err(Broken::TooManyFragments));
    }

    #[test]
    fn a_claim_makes_no_room() {
        let mut assembly = Assembly::default();
        let claim = fragment_header::new(LONGEST as u32, true).into_xdr_buf();
        assembly.input().extend_from_slice(&claim);
        assert!(assembly.take().unwrap().is_none());
        assert!(assembly.input().capacity() <= 2 * FIRST);
    }
}
