//! Attributes that a client sets.

use kiseki_core::{
    engine::{SetAttr, SetTime},
    ids::Timestamp,
};

use super::{EXCLUSIVE, READABLE, WRITE_ONLY, number};
use crate::nfs::v4::xdr::{
    Attributes, Bitmap, MaskedMode, OwnerText, Status, Time, TimeToSet, take,
};

/// What a client sets.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// As the engine takes it, but for the mode.
    pub change: SetAttr,
    /// Bits of the mode, and which of them count.
    pub mode: Option<(u32, u32)>,
    /// Which attributes these are.
    pub mask: Bitmap,
}

impl Settings {
    /// The mode, given the one that is there.
    pub fn mode_over(&self, present: u32) -> Option<u32> {
        let (values, mask) = self.mode?;
        Some(present & !mask | values & mask)
    }

    /// Whether nothing is set.
    pub fn is_empty(&self) -> bool {
        self.mask.numbers().next().is_none()
    }

    /// Whether an exclusive create can set all of these.
    ///
    /// # Errors
    /// `Inval`.
    pub fn check_exclusive(&self) -> Result<(), Status> {
        match self
            .mask
            .numbers()
            .all(|number| EXCLUSIVE.contains(&number))
        {
            true => Ok(()),
            false => Err(Status::Inval),
        }
    }
}

/// Reads attributes to set.
///
/// # Errors
/// `AttrNotSupp`, `Inval` for what cannot be set or makes no sense, `BadXdr`,
/// `BadOwner` for owners that are not numbers.
pub fn decode(attributes: &Attributes) -> Result<Settings, Status> {
    let mut settings = Settings {
        mask: attributes.mask.clone(),
        ..Settings::default()
    };
    for number in attributes.mask.numbers() {
        if !READABLE.contains(&number) && !WRITE_ONLY.contains(&number) {
            return Err(Status::AttrNotSupp);
        }
    }
    let mut values = attributes.values.0.as_slice();
    for number in attributes.mask.numbers() {
        settings.take(number, &mut values)?;
    }
    match values.is_empty() {
        true => Ok(settings),
        false => Err(Status::BadXdr),
    }
}

impl Settings {
    fn take(&mut self, number: u32, values: &mut &[u8]) -> Result<(), Status> {
        match number {
            number::SIZE => self.change.size = Some(take(values)?),
            number::MODE => {
                let mode = take(values)?;
                self.mode = Some((check_mode(mode)?, 0o7777));
            }
            number::MODE_SET_MASKED => {
                let MaskedMode { values, mask } = take(values)?;
                check_mode(values | mask)?;
                // RFC 8881, 6.2.5: not together with the mode itself.
                if values & !mask != 0 || self.mode.is_some() {
                    return Err(Status::Inval);
                }
                self.mode = Some((values, mask));
            }
            number::OWNER => self.change.uid = Some(id(&take(values)?)?),
            number::OWNER_GROUP => self.change.gid = Some(id(&take(values)?)?),
            number::TIME_ACCESS_SET => self.change.atime = Some(time(&take(values)?)?),
            number::TIME_MODIFY_SET => self.change.mtime = Some(time(&take(values)?)?),
            _ => return Err(Status::Inval),
        }
        Ok(())
    }
}

fn check_mode(mode: u32) -> Result<u32, Status> {
    match mode & !0o7777 {
        0 => Ok(mode),
        _ => Err(Status::Inval),
    }
}

/// Owners are numbers in digits, RFC 8881, 5.9.
fn id(text: &OwnerText) -> Result<u32, Status> {
    let text = std::str::from_utf8(&text.0).map_err(|_| Status::Inval)?;
    if text.is_empty() {
        return Err(Status::Inval);
    }
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let id = text.parse().ok().filter(|id| digits && *id != u32::MAX);
    id.ok_or(Status::BadOwner)
}

fn time(time: &TimeToSet) -> Result<SetTime, Status> {
    match time {
        TimeToSet::Now => Ok(SetTime::Now),
        TimeToSet::At(Time { nanoseconds, .. }) if *nanoseconds >= 1_000_000_000 => {
            Err(Status::Inval)
        }
        TimeToSet::At(time) => Ok(SetTime::At(Timestamp {
            secs: time.seconds as i64,
            nanos: time.nanoseconds,
        })),
    }
}
