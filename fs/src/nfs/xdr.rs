//! Decoding what arrives, within limits.
//!
//! Types and derive are those of `nfs3_types`. Its variable-length types take
//! any length that a message claims before they look for the bytes; what is
//! decoded here has the types below in their place, which know their limit.

use std::io::{self, Read as _};

use bytes::{BufMut, Bytes, BytesMut};
pub use nfs3_types::xdr_codec::Result;
use nfs3_types::xdr_codec::{Error, Opaque, Pack, Unpack};

/// Bytes of variable length, at most `MAX` (RFC 4506, section 4.10).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Blob<const MAX: usize>(pub Vec<u8>);

/// An array of variable length, at most `MAX` (RFC 4506, section 4.13).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Array<T, const MAX: usize>(pub Vec<T>);

const fn padding(len: usize) -> usize {
    len.wrapping_neg() & 3
}

/// Reads a length, checked before anything is allocated for it.
fn length(input: &mut impl io::Read, max: usize) -> Result<(u32, usize)> {
    let (len, read) = u32::unpack(input)?;
    if len as usize > max {
        return Err(Error::InvalidLength(len as usize));
    }
    Ok((len, read))
}

impl<const MAX: usize> From<&[u8]> for Blob<MAX> {
    fn from(bytes: &[u8]) -> Blob<MAX> {
        Blob(bytes.to_vec())
    }
}

impl<const MAX: usize> Pack for Blob<MAX> {
    fn packed_size(&self) -> usize {
        Opaque::borrowed(&self.0).packed_size()
    }

    fn pack(&self, out: &mut impl io::Write) -> Result<usize> {
        Opaque::borrowed(&self.0).pack(out)
    }
}

impl<const MAX: usize> Unpack for Blob<MAX> {
    fn unpack(input: &mut impl io::Read) -> Result<(Self, usize)> {
        let (len, _) = length(input, MAX)?;
        // The length is put back for the codec, which reads it with the bytes.
        let prefix = len.to_be_bytes();
        let (bytes, read) = Opaque::unpack(&mut prefix.as_slice().chain(input))?;
        Ok((Blob(bytes.into_owned()), read))
    }
}

impl<T: Pack, const MAX: usize> Pack for Array<T, MAX> {
    fn packed_size(&self) -> usize {
        4 + self.0.iter().map(Pack::packed_size).sum::<usize>()
    }

    fn pack(&self, out: &mut impl io::Write) -> Result<usize> {
        let len = u32::try_from(self.0.len()).map_err(|_| Error::ObjectTooLarge(self.0.len()))?;
        let mut written = len.pack(out)?;
        for item in &self.0 {
            written += item.pack(out)?;
        }
        Ok(written)
    }
}

impl<T: Unpack, const MAX: usize> Unpack for Array<T, MAX> {
    fn unpack(input: &mut impl io::Read) -> Result<(Self, usize)> {
        let (len, mut read) = length(input, MAX)?;
        let mut items = Vec::new();
        for _ in 0..len {
            let (item, taken) = T::unpack(input)?;
            items.push(item);
            read += taken;
        }
        Ok((Array(items), read))
    }
}

/// Decodes the front of a message and leaves the rest of it in `message`.
///
/// # Errors
/// The bytes are none of a `T`.
pub fn take<T: Unpack>(message: &mut Bytes) -> Result<T> {
    let mut rest = message.as_ref();
    let (value, _) = T::unpack(&mut rest)?;
    let left = rest.len();
    *message = message.slice(message.len() - left..);
    Ok(value)
}

/// Decodes a whole message.
///
/// # Errors
/// The bytes are none of a `T`, or more than that.
pub fn all<T: Unpack>(mut message: Bytes) -> Result<T> {
    let value = take(&mut message)?;
    nothing_more(&message)?;
    Ok(value)
}

/// Checks that a message is at its end.
///
/// # Errors
/// It is not.
pub fn nothing_more(message: &Bytes) -> Result<()> {
    match message.len() {
        0 => Ok(()),
        more => Err(Error::InvalidLength(more)),
    }
}

/// Takes bytes of variable length off the front of a message without copying
/// them.
///
/// # Errors
/// The message claims more bytes than it has.
pub fn take_bytes(message: &mut Bytes) -> Result<Bytes> {
    let len = take::<u32>(message)? as usize;
    let padded = len + padding(len);
    if padded > message.len() {
        return Err(Error::InvalidLength(len));
    }
    let bytes = message.slice(..len);
    *message = message.slice(padded..);
    Ok(bytes)
}

/// What fills bytes of this length up to the next word.
#[must_use]
pub fn fill(len: usize) -> Bytes {
    Bytes::from_static(&[0; 3]).slice(..padding(len))
}

/// Encodes.
#[must_use]
pub fn encode(value: &impl Pack) -> Bytes {
    let mut out = BytesMut::with_capacity(value.packed_size()).writer();
    // Writing to memory does not fail; what is longer than 4 GiB could, and
    // no answer is.
    if let Err(error) = value.pack(&mut out) {
        tracing::error!(%error, "an answer does not encode");
    }
    out.into_inner().freeze()
}

/// Decodes bytes as a fuzzer has them, and panics when what was decoded is not
/// encoded as it was.
///
/// # Panics
/// A promise is broken.
#[cfg(any(test, fuzzing))]
pub fn checked<T: Unpack + Pack>(bytes: &Bytes) {
    if let Ok(value) = all::<T>(bytes.clone()) {
        let again = encode(&value);
        // Only what fills up a word may be something else than zeros.
        assert_eq!(again.len(), bytes.len());
        all::<T>(again).unwrap_or_else(|error| panic!("not the second time: {error}"));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_length_beyond_the_limit_is_refused_before_anything_is_taken() {
        let claims = Bytes::from_static(&[0xff, 0xff, 0xff, 0xff, 1, 2]);
        assert!(all::<Blob<64>>(claims.clone()).is_err());
        assert!(all::<Array<u32, 16>>(claims.clone()).is_err());
        assert!(take_bytes(&mut claims.clone()).is_err());
    }

    #[test]
    fn nothing_may_follow_and_nothing_may_lack() {
        let three = encode(&Blob::<8>(vec![1, 2, 3]));
        assert_eq!(three.as_ref(), [0, 0, 0, 3, 1, 2, 3, 0]);
        assert_eq!(all::<Blob<8>>(three.clone()).unwrap().0, [1, 2, 3]);
        assert!(all::<Blob<8>>(three.slice(..7)).is_err());
        let mut longer = BytesMut::from(three.as_ref());
        longer.extend_from_slice(&[0; 4]);
        assert!(all::<Blob<8>>(longer.freeze()).is_err());
    }

    #[test]
    fn bytes_are_taken_as_they_lie() {
        let mut message = BytesMut::from(encode(&Blob::<8>(vec![1, 2, 3])).as_ref());
        message.extend_from_slice(&[0, 0, 0, 9]);
        let mut message = message.freeze();
        let start = message.as_ptr();
        let bytes = take_bytes(&mut message).unwrap();
        assert_eq!(
            (bytes.as_ref(), bytes.as_ptr()),
            (&[1, 2, 3][..], start.wrapping_add(4))
        );
        assert_eq!(all::<u32>(message).unwrap(), 9);
    }
}
