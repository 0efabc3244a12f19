//! Changes of a file that are in memory only.

use std::{collections::BTreeMap, io};

use super::DiskFile;

/// Granularity of the changes, in bytes.
const BLOCK: usize = 4096;

/// What a file would be with changes that never reached it. The file itself
/// is named with each call and must not change meanwhile.
#[derive(Debug)]
pub(crate) struct Patch {
    blocks: BTreeMap<u64, Box<[u8]>>,
    len: u64,
    /// Where the bytes of the file end that still count: a cut and a later
    /// extension leave zeros behind it.
    base: u64,
}

impl Patch {
    /// No changes of a file with this length.
    pub(crate) fn new(len: u64) -> Patch {
        Patch {
            blocks: BTreeMap::new(),
            len,
            base: len,
        }
    }

    /// Length of the file with its changes.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// Whether no byte of the range differs from the file.
    pub(crate) fn spares(&self, offset: u64, len: u64) -> bool {
        let end = offset.saturating_add(len);
        let first = offset / BLOCK as u64;
        let last = end.div_ceil(BLOCK as u64);
        end <= self.base && self.blocks.range(first..last).next().is_none()
    }

    /// Reads like [`DiskFile::read_at`].
    pub(crate) fn read(
        &self,
        file: Option<&dyn DiskFile>,
        buffer: &mut [u8],
        offset: u64,
    ) -> io::Result<usize> {
        let left = self.len.saturating_sub(offset);
        let count = buffer
            .len()
            .min(usize::try_from(left).unwrap_or(usize::MAX));
        let mut done = 0;
        while done < count {
            let at = offset + done as u64;
            let within = (at % BLOCK as u64) as usize;
            let part = &mut buffer[done..count.min(done + BLOCK - within)];
            match self.blocks.get(&(at / BLOCK as u64)) {
                Some(block) => part.copy_from_slice(&block[within..within + part.len()]),
                None => self.read_base(file, part, at)?,
            }
            done += part.len();
        }
        Ok(count)
    }

    /// Fills the buffer from the file, with zeros where that does not count.
    fn read_base(
        &self,
        file: Option<&dyn DiskFile>,
        buffer: &mut [u8],
        offset: u64,
    ) -> io::Result<()> {
        let left = self.base.saturating_sub(offset);
        let count = buffer
            .len()
            .min(usize::try_from(left).unwrap_or(usize::MAX));
        let (old, new) = buffer.split_at_mut(count);
        new.fill(0);
        match file {
            Some(file) if count > 0 => file.read_exact_at(old, offset),
            _ => {
                old.fill(0);
                Ok(())
            }
        }
    }

    /// Writes like [`DiskFile::write_at`].
    pub(crate) fn write(
        &mut self,
        file: Option<&dyn DiskFile>,
        data: &[u8],
        offset: u64,
    ) -> io::Result<()> {
        let mut done = 0;
        while done < data.len() {
            let at = offset + done as u64;
            let number = at / BLOCK as u64;
            let within = (at % BLOCK as u64) as usize;
            let part = &data[done..data.len().min(done + BLOCK - within)];
            if !self.blocks.contains_key(&number) {
                let mut block = vec![0; BLOCK].into_boxed_slice();
                if part.len() < BLOCK {
                    self.read_base(file, &mut block, number * BLOCK as u64)?;
                }
                self.blocks.insert(number, block);
            }
            if let Some(block) = self.blocks.get_mut(&number) {
                block[within..within + part.len()].copy_from_slice(part);
            }
            done += part.len();
        }
        self.len = self.len.max(offset + data.len() as u64);
        Ok(())
    }

    /// Cuts or extends like [`DiskFile::set_len`].
    pub(crate) fn set_len(&mut self, len: u64) {
        if len < self.len {
            self.base = self.base.min(len);
            self.blocks.split_off(&len.div_ceil(BLOCK as u64));
            if let Some(block) = self.blocks.get_mut(&(len / BLOCK as u64)) {
                block[(len % BLOCK as u64) as usize..].fill(0);
            }
        }
        self.len = len;
    }

    /// Writes all changes to the file. After an error nothing is forgotten,
    /// and it can be tried again.
    pub(crate) fn write_out(&mut self, file: &dyn DiskFile) -> io::Result<()> {
        if self.base < file.len()? {
            file.set_len(self.base)?;
        }
        if self.len != file.len()? {
            file.set_len(self.len)?;
        }
        // What the blocks do not say is in the file now, zeros included.
        self.base = self.len;
        while let Some((&number, block)) = self.blocks.first_key_value() {
            let at = number * BLOCK as u64;
            let left = self.len.saturating_sub(at).min(BLOCK as u64);
            file.write_at(&block[..left as usize], at)?;
            self.blocks.remove(&number);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;
    use crate::host::disk::{Disk, MemoryDisk, OpenMode};

    #[derive(Clone, Debug)]
    enum Step {
        Write(usize, usize),
        SetLen(usize),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            3 => (0..30_000usize, 1..10_000usize).prop_map(|(at, len)| Step::Write(at, len)),
            1 => (0..40_000usize).prop_map(Step::SetLen),
        ];
        prop::collection::vec(step, 0..12)
    }

    proptest! {
        #[test]
        fn a_patched_file_reads_and_becomes_what_was_written(begin in 0..20_000usize, steps in steps()) {
            let disk = MemoryDisk::new();
            let file = disk.open("file", OpenMode::CreateNew).unwrap();
            let mut model = vec![7; begin];
            file.write_at(&model, 0).unwrap();
            let mut patch = Patch::new(begin as u64);
            for (n, step) in steps.into_iter().enumerate() {
                match step {
                    Step::Write(at, len) => {
                        let data = vec![n as u8 + 10; len];
                        patch.write(Some(&*file), &data, at as u64).unwrap();
                        model.resize(model.len().max(at + len), 0);
                        model[at..at + len].copy_from_slice(&data);
                    }
                    Step::SetLen(len) => {
                        patch.set_len(len as u64);
                        model.resize(len, 0);
                    }
                }
                let mut found = vec![0; 60_000];
                let count = patch.read(Some(&*file), &mut found, 0).unwrap();
                prop_assert!(found[..count] == model[..]);
            }
            patch.write_out(&*file).unwrap();
            let mut found = vec![0; model.len()];
            prop_assert_eq!(file.len().unwrap(), model.len() as u64);
            file.read_exact_at(&mut found, 0).unwrap();
            prop_assert!(found == model);
        }
    }
}
