//! Taking an input apart.

/// The number that chooses a decoder, and the bytes for it.
pub(super) fn choice(input: &[u8]) -> (u8, &[u8]) {
    match input.split_first() {
        Some((choice, bytes)) => (*choice, bytes),
        None => (0, &[]),
    }
}

/// Pieces that each begin with their length, in two bytes; the last may be
/// shorter than it says.
pub(super) struct Pieces<'a>(pub(super) &'a [u8]);

impl<'a> Iterator for Pieces<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let (len, rest) = self.0.split_first_chunk::<2>()?;
        let len = usize::from(u16::from_le_bytes(*len)).min(rest.len());
        let (piece, rest) = rest.split_at(len);
        self.0 = rest;
        Some(piece)
    }
}
