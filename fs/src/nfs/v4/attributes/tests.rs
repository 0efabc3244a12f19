#![allow(clippy::unwrap_used)]

use kiseki_core::{engine::SetTime, ids::Ino};

use super::*;
use crate::nfs::v4::xdr::{MaskedMode, TimeToSet};

const SERVER: Server = Server {
    lease: 60,
    fsid: FsId { major: 1, minor: 2 },
};

fn attr() -> Attr {
    let at = |nanos| Timestamp { secs: 5, nanos };
    Attr {
        ino: Ino(9),
        kind: Kind::File,
        mode: 0o644,
        nlink: 1,
        uid: 1000,
        gid: 100,
        rdev: 0,
        size: 77,
        blocks: 8,
        atime: at(1),
        mtime: at(2),
        ctime: at(3),
        btime: at(4),
    }
}

fn told(wanted: &Bitmap) -> Attributes {
    let attr = attr();
    let subject = Subject {
        attr: &attr,
        handle: b"handle",
        statfs: None,
        server: &SERVER,
    };
    encode(wanted, &subject).unwrap()
}

fn set(parts: &[(u32, Vec<u8>)]) -> Result<Settings, Status> {
    decode(&Attributes {
        mask: Bitmap::of(parts.iter().map(|(number, _)| *number)),
        values: Blob(parts.iter().flat_map(|(_, value)| value.clone()).collect()),
    })
}

fn packed(value: &impl nfs3_types::xdr_codec::Pack) -> Vec<u8> {
    let mut out = Vec::new();
    put(&mut out, value).unwrap();
    out
}

#[test]
fn all_that_is_supported_is_told() {
    let told = told(&Bitmap::of(0..200));
    assert_eq!(told.mask, Bitmap::of(READABLE.iter().copied()));
    check_comparable(&Bitmap::of([number::SIZE, number::OWNER])).unwrap();
}

#[test]
fn values_come_in_the_order_of_their_numbers() {
    let told = told(&Bitmap::of([number::OWNER, number::SIZE, number::TYPE]));
    let expected = [packed(&1u32), packed(&77u64), packed(&digits(1000))].concat();
    assert_eq!(told.values.0, expected);
}

#[test]
fn the_change_attribute_moves_by_nanoseconds() {
    let before = attr();
    let mut after = before;
    after.ctime.nanos += 1;
    assert_eq!(change(&before) + 1, change(&after));
    after.ctime = Timestamp { secs: 6, nanos: 0 };
    assert!(change(&before) < change(&after));
}

#[test]
fn what_can_only_be_set_is_not_asked_for() {
    let wanted = Bitmap::of([number::TIME_MODIFY_SET]);
    assert_eq!(check_readable(&wanted), Err(Status::Inval));
    assert_eq!(check_comparable(&wanted), Err(Status::Inval));
    assert_eq!(
        check_comparable(&Bitmap::of([number::RDATTR_ERROR])),
        Err(Status::Inval)
    );
    assert_eq!(
        check_comparable(&Bitmap::of([12])),
        Err(Status::AttrNotSupp)
    );
    assert_eq!(check_readable(&Bitmap::of([12])), Ok(()));
}

#[test]
fn settings_are_read_in_order() {
    let settings = set(&[
        (number::SIZE, packed(&5u64)),
        (number::MODE, packed(&0o600u32)),
        (number::OWNER, packed(&digits(7))),
        (number::TIME_ACCESS_SET, packed(&TimeToSet::Now)),
    ])
    .unwrap();
    assert_eq!(
        (settings.change.size, settings.change.uid),
        (Some(5), Some(7))
    );
    assert_eq!(settings.mode_over(0o4711), Some(0o600));
    assert!(matches!(settings.change.atime, Some(SetTime::Now)));
    assert_eq!(settings.check_exclusive(), Err(Status::Inval));
}

#[test]
fn a_masked_mode_leaves_the_other_bits() {
    let masked = MaskedMode {
        values: 0o200,
        mask: 0o222,
    };
    let settings = set(&[(number::MODE_SET_MASKED, packed(&masked))]).unwrap();
    assert_eq!(settings.mode_over(0o4466), Some(0o4644));
}

#[test]
fn nonsense_is_refused() {
    let refused = |number, value| set(&[(number, value)]).unwrap_err();
    assert_eq!(refused(number::MODE, packed(&0o10_000u32)), Status::Inval);
    assert_eq!(refused(number::TYPE, packed(&1u32)), Status::Inval);
    assert_eq!(refused(12, vec![]), Status::AttrNotSupp);
    assert_eq!(refused(number::SIZE, packed(&1u32)), Status::BadXdr);
    assert_eq!(refused(number::SIZE, vec![0; 12]), Status::BadXdr);
    for owner in ["root", "+5", "-1", "4294967295", "4294967296", "5@domain"] {
        let owner = OwnerText::from(owner.as_bytes());
        assert_eq!(refused(number::OWNER, packed(&owner)), Status::BadOwner);
    }
    let late = TimeToSet::At(Time {
        seconds: 0,
        nanoseconds: 1_000_000_000,
    });
    assert_eq!(
        refused(number::TIME_MODIFY_SET, packed(&late)),
        Status::Inval
    );
}
