//! The types of RFC 5662, under shorter names.
//!
//! What has no bound there has one here: it comes from the network.

mod attributes;
mod extended;
mod files;
mod locking;
mod operation;
mod sessions;
mod status;

use std::io;

use bytes::Bytes;
pub use nfs3_types::xdr_codec::XdrCodec;
use nfs3_types::xdr_codec::{Opaque, Pack, Result, Unpack};

pub use crate::nfs::xdr::{Array, Blob};

pub use attributes::*;
pub use extended::*;
pub use files::*;
pub use locking::*;
pub use operation::*;
pub use sessions::*;
pub use status::Status;

/// Longest opaque file handle.
pub const HANDLE_MAX: usize = 128;

/// Longest owner of opens, locks and clients.
pub const OWNER_MAX: usize = 1024;

/// Longest name or link that is read at all; what is longer than a name can be
/// is refused with a better error where it is used.
pub const TEXT_MAX: usize = 65_536;

/// Longest data of a WRITE that is read at all.
const DATA_MAX: usize = 4 << 20;

/// A name of a directory entry, or the target of a link.
pub type Text = Blob<TEXT_MAX>;
/// A file handle.
pub type Handle = Blob<HANDLE_MAX>;
/// Who opens or locks.
pub type OwnerName = Blob<OWNER_MAX>;
/// Data of a WRITE.
pub type Data = Blob<DATA_MAX>;

/// Bytes on their way out, shared with whoever made them.
#[derive(Debug)]
pub struct Payload(pub Bytes);

impl Pack for Payload {
    fn packed_size(&self) -> usize {
        Opaque::borrowed(&self.0).packed_size()
    }

    fn pack(&self, out: &mut impl io::Write) -> Result<usize> {
        Opaque::borrowed(&self.0).pack(out)
    }
}

/// The head of COMPOUND's arguments, in front of its operations.
#[derive(Debug, XdrCodec)]
pub struct CompoundHead {
    pub tag: Blob<1024>,
    pub minor: u32,
    pub operations: u32,
}

/// The head of COMPOUND's results.
#[derive(Debug, XdrCodec)]
pub struct CompoundReply {
    pub status: Status,
    pub tag: Blob<1024>,
    pub results: u32,
}

/// Names a piece of state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, XdrCodec)]
pub struct StateId {
    /// Grows with every change of the state; 0 stands for the newest.
    pub sequence: u32,
    /// Which state.
    pub other: [u8; 12],
}

impl StateId {
    /// No state: READ, WRITE and SETATTR of somebody who opened nothing.
    pub const ANONYMOUS: StateId = StateId {
        sequence: 0,
        other: [0; 12],
    };
    /// The same, and READ goes past share reservations.
    pub const BYPASS: StateId = StateId {
        sequence: u32::MAX,
        other: [0xff; 12],
    };
    /// The one that an operation before this one of the compound answered.
    pub const CURRENT: StateId = StateId {
        sequence: 1,
        other: [0; 12],
    };
    /// None at all: what the current one is before an operation sets it, and
    /// what CLOSE answers.
    pub const INVALID: StateId = StateId {
        sequence: u32::MAX,
        other: [0; 12],
    };
}

/// Seconds and nanoseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, XdrCodec)]
pub struct Time {
    /// A signed number.
    pub seconds: u64,
    pub nanoseconds: u32,
}

/// How the change attribute of a directory moved.
#[derive(Clone, Copy, Debug, XdrCodec)]
pub struct ChangeInfo {
    /// Nothing else can have come between `before` and `after`.
    pub atomic: bool,
    pub before: u64,
    pub after: u64,
}

/// Attribute numbers as bits.
#[derive(Clone, Debug, Default, PartialEq, Eq, XdrCodec)]
pub struct Bitmap(pub Array<u32, 64>);

impl Bitmap {
    /// With these numbers.
    pub fn of(numbers: impl IntoIterator<Item = u32>) -> Bitmap {
        let mut bitmap = Bitmap::default();
        for number in numbers {
            bitmap.set(number);
        }
        bitmap
    }

    /// Adds one.
    pub fn set(&mut self, number: u32) {
        let word = number as usize / 32;
        let words = &mut self.0.0;
        if words.len() <= word {
            words.resize(word + 1, 0);
        }
        words[word] |= 1 << (number % 32);
    }

    /// Whether it has one.
    pub fn has(&self, number: u32) -> bool {
        let word = self.0.0.get(number as usize / 32);
        word.is_some_and(|word| word & 1 << (number % 32) != 0)
    }

    /// All numbers, in order.
    pub fn numbers(&self) -> impl Iterator<Item = u32> + '_ {
        (0..self.0.0.len() as u32 * 32).filter(|number| self.has(*number))
    }
}

/// Attributes: which, and their values one after the other.
#[derive(Clone, Debug, Default, PartialEq, Eq, XdrCodec)]
pub struct Attributes {
    pub mask: Bitmap,
    pub values: Blob<TEXT_MAX>,
}

/// UTF-8 without what Unicode will never give a meaning.
pub fn is_text(bytes: &[u8]) -> bool {
    let text = std::str::from_utf8(bytes);
    text.is_ok_and(|text| !text.contains(['\u{fffe}', '\u{ffff}']))
}

/// Appends a value. Values that a reply can hold always fit.
pub fn put(out: &mut Vec<u8>, value: &impl Pack) -> std::result::Result<(), Status> {
    value.pack(out).map_err(|error| {
        tracing::error!(%error, "a reply cannot be encoded");
        Status::ServerFault
    })?;
    Ok(())
}

/// Takes a value from the front.
pub fn take<T: Unpack>(input: &mut &[u8]) -> std::result::Result<T, Status> {
    T::unpack(input)
        .map(|(value, _)| value)
        .map_err(|_| Status::BadXdr)
}
