//! Decoding what arrives, within limits.
//!
//! Types and derive are those of `nfs3_types`. Its variable-length types take
//! any length that a message claims before they look for the bytes; what is
//! decoded here has the types below in their place, which know their limit.

use std::io::{Read, Write};

use bytes::{BufMut, Bytes, BytesMut};
use nfs3_types::xdr_codec::{Error, Pack, Result, Unpack};

/// Bytes of variable length, at most `MAX` (RFC 4506, section 4.10).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Opaque<const MAX: usize>(pub Vec<u8>);

/// Numbers of variable count, at most `MAX` (RFC 4506, section 4.13).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Words<const MAX: usize>(pub Vec<u32>);

const fn padding(len: usize) -> usize {
    len.wrapping_neg() & 3
}

fn length(input: &mut impl Read, max: usize) -> Result<(usize, usize)> {
    let (len, read) = u32::unpack(input)?;
    let len = len as usize;
    if len > max {
        return Err(Error::InvalidLength(len));
    }
    Ok((len, read))
}

impl<const MAX: usize> Unpack for Opaque<MAX> {
    fn unpack(input: &mut impl Read) -> Result<(Self, usize)> {
        let (len, read) = length(input, MAX)?;
        let padded = len + padding(len);
        let mut bytes = vec![0; padded];
        input.read_exact(&mut bytes)?;
        bytes.truncate(len);
        Ok((Opaque(bytes), read + padded))
    }
}

impl<const MAX: usize> Pack for Opaque<MAX> {
    fn packed_size(&self) -> usize {
        4 + self.0.len() + padding(self.0.len())
    }

    fn pack(&self, out: &mut impl Write) -> Result<usize> {
        let len = u32::try_from(self.0.len()).map_err(|_| Error::ObjectTooLarge(self.0.len()))?;
        len.pack(out)?;
        out.write_all(&self.0)?;
        out.write_all(&[0; 3][..padding(self.0.len())])?;
        Ok(self.packed_size())
    }
}

impl<const MAX: usize> Unpack for Words<MAX> {
    fn unpack(input: &mut impl Read) -> Result<(Self, usize)> {
        let (count, mut read) = length(input, MAX)?;
        let mut words = Vec::with_capacity(count);
        for _ in 0..count {
            let (word, more) = u32::unpack(input)?;
            words.push(word);
            read += more;
        }
        Ok((Words(words), read))
    }
}

impl<const MAX: usize> Pack for Words<MAX> {
    fn packed_size(&self) -> usize {
        4 + 4 * self.0.len()
    }

    fn pack(&self, out: &mut impl Write) -> Result<usize> {
        self.0.pack(out)
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_length_beyond_the_limit_is_refused_before_anything_is_taken() {
        let claims = Bytes::from_static(&[0xff, 0xff, 0xff, 0xff, 1, 2]);
        assert!(all::<Opaque<64>>(claims.clone()).is_err());
        assert!(all::<Words<16>>(claims.clone()).is_err());
        assert!(take_bytes(&mut claims.clone()).is_err());
    }

    #[test]
    fn nothing_may_follow_and_nothing_may_lack() {
        let three = encode(&Opaque::<8>(vec![1, 2, 3]));
        assert_eq!(three.as_ref(), [0, 0, 0, 3, 1, 2, 3, 0]);
        assert_eq!(all::<Opaque<8>>(three.clone()).unwrap().0, [1, 2, 3]);
        assert!(all::<Opaque<8>>(three.slice(..7)).is_err());
        let mut longer = BytesMut::from(three.as_ref());
        longer.extend_from_slice(&[0; 4]);
        assert!(all::<Opaque<8>>(longer.freeze()).is_err());
    }

    #[test]
    fn bytes_are_taken_as_they_lie() {
        let mut message = BytesMut::from(encode(&Opaque::<8>(vec![1, 2, 3])).as_ref());
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
