//! Share reservations: what an open may do, and what it denies others.

use crate::nfs::v4::xdr::{Status, want};

/// The right to read, or the denial of it.
pub const READ: u32 = 1;
/// The same for writing.
pub const WRITE: u32 = 2;

const BOTH: u32 = READ | WRITE;

/// What an OPEN asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// [`READ`], [`WRITE`] or both.
    pub access: u32,
    /// The same, or nothing.
    pub deny: u32,
}

impl Share {
    /// From the arguments of an OPEN.
    ///
    /// # Errors
    /// `Inval`.
    pub fn new(access: u32, deny: u32) -> Result<Share, Status> {
        let rights = access & BOTH;
        if rights == 0 || access & !(BOTH | want::ALL) != 0 || deny & !BOTH != 0 {
            return Err(Status::Inval);
        }
        Ok(Share {
            access: rights,
            deny,
        })
    }

    /// Whether one of two opens denies what the other does.
    pub fn conflicts(self, other: Share) -> bool {
        self.access & other.deny != 0 || self.deny & other.access != 0
    }

    fn within(self, other: Share) -> bool {
        self.access & !other.access == 0 && self.deny & !other.deny == 0
    }

    fn bit(self) -> u16 {
        1 << (self.access << 2 | self.deny)
    }
}

/// What all OPENs of an owner for one file asked for.
#[derive(Clone, Debug)]
pub struct Shares {
    now: Share,
    /// A bit for each combination that an OPEN asked for.
    asked: u16,
}

impl Shares {
    pub fn new(share: Share) -> Shares {
        Shares {
            now: share,
            asked: share.bit(),
        }
    }

    pub fn now(&self) -> Share {
        self.now
    }

    pub fn add(&mut self, share: Share) {
        self.now.access |= share.access;
        self.now.deny |= share.deny;
        self.asked |= share.bit();
    }

    /// Whether this is what some of the OPENs together asked for: RFC 8881, 18.18.3.
    pub fn allows(&self, share: Share) -> bool {
        let nothing = Share { access: 0, deny: 0 };
        let together = self.asked_within(share).fold(nothing, |sum, share| Share {
            access: sum.access | share.access,
            deny: sum.deny | share.deny,
        });
        together == share
    }

    /// Forgets what goes beyond this.
    pub fn narrow(&mut self, share: Share) {
        self.asked = self
            .asked_within(share)
            .fold(0, |bits, share| bits | share.bit());
        self.now = share;
    }

    fn asked_within(&self, limit: Share) -> impl Iterator<Item = Share> {
        let asked = self.asked;
        (0..16u32)
            .map(|bits| Share {
                access: bits >> 2,
                deny: bits & BOTH,
            })
            .filter(move |share| asked & share.bit() != 0 && share.within(limit))
    }
}
