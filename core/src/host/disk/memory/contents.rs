//! The bytes of one file: as they are, as they are durable, and the changes
//! between the two.

use std::collections::BTreeMap;

use super::random::Random;

/// What the disk writes as a whole or not at all, in bytes.
const SECTOR: u64 = 512;

/// Something done to a file since its last sync.
#[derive(Clone)]
enum Change {
    Write { offset: u64, data: Vec<u8> },
    SetLen(u64),
}

/// One file.
#[derive(Clone, Default)]
pub struct Contents {
    live: Vec<u8>,
    durable: Vec<u8>,
    /// In the order they were made.
    unsynced: Vec<Change>,
}

impl Contents {
    pub fn len(&self) -> u64 {
        self.live.len() as u64
    }

    pub fn read(&self, buffer: &mut [u8], offset: u64) -> usize {
        let from = usize::try_from(offset).unwrap_or(usize::MAX);
        let there = self.live.get(from..).unwrap_or_default();
        let n = there.len().min(buffer.len());
        buffer[..n].copy_from_slice(&there[..n]);
        n
    }

    pub fn write(&mut self, data: &[u8], offset: u64) {
        self.change(Change::Write {
            offset,
            data: data.to_vec(),
        });
    }

    pub fn set_len(&mut self, len: u64) {
        self.change(Change::SetLen(len));
    }

    fn change(&mut self, change: Change) {
        change.apply(&mut self.live);
        self.unsynced.push(change);
    }

    /// Makes everything durable.
    pub fn sync(&mut self) {
        for change in self.unsynced.drain(..) {
            change.apply(&mut self.durable);
        }
    }

    /// Forgets that there is something to make durable.
    pub fn lose(&mut self) {
        self.unsynced.clear();
    }

    /// What every power loss leaves.
    pub fn durable(&self) -> Contents {
        Contents {
            live: self.durable.clone(),
            durable: self.durable.clone(),
            unsynced: Vec::new(),
        }
    }

    /// What power loss leaves.
    pub fn crash(&self, random: &mut Random) -> Contents {
        let reached = self.reached(random);
        let mut image = self.durable.clone();
        for (index, change) in self.unsynced.iter().enumerate() {
            change.apply_where(&mut image, |sector| {
                reached.get(&sector).is_some_and(|&reached| index < reached)
            });
        }
        // Lengths reach the disk apart from bytes: any of them may be the last.
        let mut len = self.durable.len();
        let reached = random.up_to(self.unsynced.len() as u64) as usize;
        for change in &self.unsynced[..reached] {
            len = change.len_after(len);
        }
        image.resize(len, 0);
        Contents {
            live: image.clone(),
            durable: image,
            unsynced: Vec::new(),
        }
    }

    /// For each sector, how many of the changes it shows. A sector shows the
    /// file as it was at some point, since it is written from the page cache.
    fn reached(&self, random: &mut Random) -> BTreeMap<u64, usize> {
        let count = self.unsynced.len();
        let mut reached = BTreeMap::new();
        match random.up_to(2) {
            // Write-back came by at some point and took everything.
            0 => {
                let point = random.up_to(count as u64) as usize;
                for change in &self.unsynced {
                    for sector in change.sectors(self.longest()) {
                        reached.insert(sector, point);
                    }
                }
            }
            // Some changes went out, whole, and others did not.
            1 => {
                for (index, change) in self.unsynced.iter().enumerate() {
                    if random.one_in(2) {
                        for sector in change.sectors(self.longest()) {
                            reached.insert(sector, index + 1);
                        }
                    }
                }
            }
            // Each sector went its own way.
            _ => {
                for change in &self.unsynced {
                    for sector in change.sectors(self.longest()) {
                        let point = random.up_to(count as u64) as usize;
                        reached.insert(sector, point);
                    }
                }
            }
        }
        reached
    }

    /// The most bytes the file had since its last sync.
    fn longest(&self) -> u64 {
        let mut len = self.durable.len();
        let mut longest = len;
        for change in &self.unsynced {
            len = change.len_after(len);
            longest = longest.max(len);
        }
        longest as u64
    }
}

impl Change {
    fn apply(&self, bytes: &mut Vec<u8>) {
        bytes.resize(self.len_after(bytes.len()), 0);
        if let Change::Write { offset, data } = self {
            let from = *offset as usize;
            bytes[from..from + data.len()].copy_from_slice(data);
        }
    }

    fn len_after(&self, len: usize) -> usize {
        match self {
            Change::Write { offset, data } => len.max(*offset as usize + data.len()),
            Change::SetLen(new) => *new as usize,
        }
    }

    /// The sectors that a change touches in a file of `longest` bytes.
    fn sectors(&self, longest: u64) -> std::ops::Range<u64> {
        let (from, to) = match self {
            Change::Write { offset, data } => (*offset, offset + data.len() as u64),
            Change::SetLen(len) => (*len, longest.max(*len)),
        };
        from / SECTOR..to.div_ceil(SECTOR)
    }

    /// Applies the change to those sectors that `reached` says; never shortens.
    fn apply_where(&self, bytes: &mut Vec<u8>, reached: impl Fn(u64) -> bool) {
        let longest = self.len_after(bytes.len()).max(bytes.len());
        bytes.resize(longest, 0);
        for sector in self.sectors(longest as u64).filter(|&s| reached(s)) {
            let sector = sector * SECTOR..(sector + 1) * SECTOR;
            match self {
                Change::Write { offset, data } => {
                    let from = sector.start.max(*offset);
                    let to = sector.end.min(offset + data.len() as u64);
                    let part = &data[(from - offset) as usize..(to - offset) as usize];
                    bytes[from as usize..to as usize].copy_from_slice(part);
                }
                Change::SetLen(len) => {
                    let from = sector.start.max(*len);
                    let to = sector.end.min(longest as u64);
                    bytes[from as usize..to as usize].fill(0);
                }
            }
        }
    }
}
