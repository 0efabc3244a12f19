//! Things that are kept to be used again, and given up when nobody needs them.

/// Of those that nobody needs, one in this many goes with each look.
const SLOWNESS: usize = 8;

/// What is kept.
pub(crate) struct Spare<T> {
    all: Vec<T>,
    /// The least that there were since the last look: nobody needed these.
    idle: usize,
}

impl<T> Spare<T> {
    pub const fn new() -> Spare<T> {
        Spare {
            all: Vec::new(),
            idle: 0,
        }
    }

    pub fn len(&self) -> usize {
        self.all.len()
    }

    pub fn put(&mut self, one: T) {
        self.all.push(one);
    }

    /// The one that was used last: its memory is the likeliest to be at hand.
    pub fn take(&mut self) -> Option<T> {
        let one = self.all.pop();
        self.idle = self.idle.min(self.all.len());
        one
    }

    /// A part of those beyond `keep` that nobody has needed since the last
    /// look, so that looking now and then lets go of all of them, but not
    /// between two streams.
    pub fn surplus(&mut self, keep: usize) -> Vec<T> {
        let surplus = self.idle.saturating_sub(keep).div_ceil(SLOWNESS);
        let surplus = self.all.drain(..surplus).collect();
        self.idle = self.all.len();
        surplus
    }
}

impl<T> Default for Spare<T> {
    fn default() -> Self {
        Spare::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_needed_stays_and_the_rest_goes_bit_by_bit() {
        let mut spare = Spare::new();
        (0..20).for_each(|one| spare.put(one));
        assert!(
            spare.surplus(4).is_empty(),
            "nobody had a chance to need them"
        );
        let taken: Vec<_> = (0..12).filter_map(|_| spare.take()).collect();
        assert_eq!(taken[0], 19);
        taken.into_iter().for_each(|one| spare.put(one));
        assert_eq!(
            spare.surplus(4),
            [0],
            "a part of those that were never taken"
        );
        let mut looks = 0;
        while !spare.surplus(4).is_empty() {
            looks += 1;
        }
        assert_eq!(spare.len(), 4);
        assert!(looks > 7, "a short pause empties it");
    }
}
