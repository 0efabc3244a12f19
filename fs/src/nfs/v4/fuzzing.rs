//! What a fuzzer calls with the arguments of a COMPOUND, as anybody can send them.

use super::{
    attributes,
    xdr::{CompoundHead, CreateHow, OpenHow, Operation, put, take},
};

/// Decodes arguments, and panics when what was decoded is not written as it was read.
///
/// # Panics
/// A promise is broken.
pub fn decode(arguments: &[u8]) {
    let mut input = arguments;
    let Ok(head) = take::<CompoundHead>(&mut input) else {
        return;
    };
    for _ in 0..head.operations {
        let before = input.len();
        let Ok(operation) = take::<Operation>(&mut input) else {
            return;
        };
        let mut again = Vec::new();
        assert_eq!(put(&mut again, &operation), Ok(()));
        assert_eq!(again.len(), before - input.len(), "{operation:?}");
        let same: Result<Operation, _> = take(&mut again.as_slice());
        assert_eq!(format!("{same:?}"), format!("Ok({operation:?})"));
        settings(&operation);
    }
}

/// Attributes to set are encoded within the others.
fn settings(operation: &Operation) {
    let attributes = match operation {
        Operation::SetAttr(asked) => &asked.attributes,
        Operation::Create(asked) => &asked.attributes,
        Operation::Open(open) => match &open.how {
            OpenHow::Create(CreateHow::Unchecked(attributes) | CreateHow::Guarded(attributes)) => {
                attributes
            }
            OpenHow::Create(CreateHow::Exclusive41(exclusive)) => &exclusive.attributes,
            _ => return,
        },
        _ => return,
    };
    if let Ok(settings) = attributes::decode(attributes) {
        let mode = settings.mode_over(0o7777);
        assert!(mode.is_none_or(|mode| mode <= 0o7777));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::nfs::v4::xdr::{Bitmap, Blob};

    fn compound(operations: u32, rest: &[u8]) -> Vec<u8> {
        let head = CompoundHead {
            tag: Blob::default(),
            minor: 1,
            operations,
        };
        let mut out = Vec::new();
        assert_eq!(put(&mut out, &head), Ok(()));
        out.extend_from_slice(rest);
        out
    }

    #[test]
    fn lengths_that_are_claimed_take_no_memory() {
        for number in 3..=75_u32 {
            let mut rest = number.to_be_bytes().to_vec();
            rest.extend([0xff; 64]);
            decode(&compound(u32::MAX, &rest));
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_decoded_or_refused(
            number in 0u32..80, words in prop::collection::vec(0u32..12, 0..40),
            noise in prop::collection::vec(any::<u8>(), 0..80))
        {
            let mut rest = number.to_be_bytes().to_vec();
            rest.extend(words.iter().flat_map(|word| word.to_be_bytes()));
            decode(&compound(3, &rest));
            rest.truncate(4);
            rest.extend(noise);
            decode(&compound(3, &rest));
        }

        #[test]
        fn bitmaps_keep_what_they_are_given(numbers in prop::collection::btree_set(0u32..2048, 0..40)) {
            let bitmap = Bitmap::of(numbers.iter().copied());
            prop_assert!(bitmap.numbers().eq(numbers.iter().copied()));
            let mut out = Vec::new();
            prop_assert_eq!(put(&mut out, &bitmap), Ok(()));
            prop_assert_eq!(take(&mut out.as_slice()), Ok(bitmap));
        }
    }
}
