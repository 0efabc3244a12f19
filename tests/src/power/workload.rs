//! What is done to the volume, and what the model is told of it.

use std::sync::Arc;

use bytes::Bytes;
use kiseki_core::{
    Result,
    engine::{Allocate, RenameFlags, SetAttr, Volume},
    host::Disk,
    ids::Ino,
    meta::Kind,
};

use super::{
    Dice, Recorder,
    model::{FileId, Model, Named},
    volume::{self, CALLER},
};

/// Files get no longer than this, in bytes.
const LENGTH: u64 = 90_000;

/// Names of one directory.
const NAMES: u64 = 8;

/// Contents that are written more than once come from this many streams.
const STREAMS: u64 = 4;

/// A volume at work.
pub struct Work {
    pub recorder: Recorder,
    volume: Option<Volume>,
    pub model: Model,
    pub dice: Dice,
    serial: u64,
    written: Option<(Ino, FileId)>,
}

fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (b"", path),
    }
}

impl Work {
    pub fn new(recorder: Recorder, volume: Volume, model: Model, dice: Dice) -> Work {
        Work {
            recorder,
            volume: Some(volume),
            model,
            dice,
            serial: 0,
            written: None,
        }
    }

    /// One step, on whatever the dice say.
    pub async fn step(&mut self) -> Result<()> {
        match self.dice.below(40) {
            0..4 => self.create().await,
            4 => self.mkdir().await,
            5 => self.symlink().await,
            6 => self.link().await,
            7..15 => self.write().await,
            15 | 16 => self.truncate().await,
            17 => self.punch().await,
            18 | 19 => self.copy_range().await,
            20..24 => self.rename().await,
            24..26 => self.unlink().await,
            26 => self.rmdir().await,
            27..33 => self.fsync().await,
            33 => self.fsyncdir().await,
            34 => {
                self.volume().sync().await?;
                self.model.all_promised(self.recorder.position());
                Ok(())
            }
            35 | 36 => self.volume().collect(Box::new(|_, _| {})).await.map(drop),
            37 => self.volume().checkpoint().await,
            _ => self.remount().await,
        }
    }

    fn volume(&self) -> &Volume {
        self.volume
            .as_ref()
            .expect("it is open but for a moment in `remount`")
    }

    fn begin(&self) -> usize {
        self.recorder.position()
    }

    fn dir(&self, path: &[u8]) -> Ino {
        self.model
            .names
            .get(path)
            .map_or(Ino::ROOT, |named| named.ino)
    }

    fn pick(&mut self, wanted: impl Fn(Kind) -> bool) -> Option<(Vec<u8>, Named)> {
        let names = self.model.names.iter();
        let fitting = names.filter(|(_, named)| wanted(named.kind));
        let fitting = fitting.map(|(path, named)| (path.clone(), named.clone()));
        self.dice.pick(fitting.collect())
    }

    fn file(&mut self) -> Option<(Ino, FileId)> {
        let (_, named) = self.pick(|kind| kind == Kind::File)?;
        Some((named.ino, named.id))
    }

    /// A path that may or may not exist.
    fn path(&mut self) -> Vec<u8> {
        let below = match self.pick(|kind| kind == Kind::Directory) {
            Some((path, _)) if self.dice.below(2) == 0 => [&path[..], b"/"].concat(),
            _ => Vec::new(),
        };
        let name = format!("n{}", self.dice.below(NAMES));
        [&below[..], name.as_bytes()].concat()
    }

    fn free_path(&mut self) -> Option<Vec<u8>> {
        let path = self.path();
        (!self.model.names.contains_key(&path)).then_some(path)
    }

    async fn create(&mut self) -> Result<()> {
        let Some(path) = self.free_path() else {
            return Ok(());
        };
        let (dir, name) = split(&path);
        let begun = self.begin();
        let made = self
            .volume()
            .create(&CALLER, self.dir(dir), name, 0o644)
            .await?;
        self.volume().release(made.ino).await?;
        let id = self.model.new_file(begun);
        let named = Named {
            ino: made.ino,
            kind: Kind::File,
            id,
            target: Vec::new(),
        };
        self.model.renamed(begun, &[], |names| {
            names.insert(path, named);
        });
        Ok(())
    }

    async fn mkdir(&mut self) -> Result<()> {
        let Some(path) = self.free_path() else {
            return Ok(());
        };
        let (dir, name) = split(&path);
        let begun = self.begin();
        let made = self
            .volume()
            .mkdir(&CALLER, self.dir(dir), name, 0o755)
            .await?;
        let named = Named {
            ino: made.ino,
            kind: Kind::Directory,
            id: 0,
            target: Vec::new(),
        };
        self.model.renamed(begun, &[], |names| {
            names.insert(path, named);
        });
        Ok(())
    }

    async fn symlink(&mut self) -> Result<()> {
        let Some(path) = self.free_path() else {
            return Ok(());
        };
        let (dir, name) = split(&path);
        let target = format!("to/{}", self.dice.below(1000)).into_bytes();
        let begun = self.begin();
        let made = self
            .volume()
            .symlink(&CALLER, self.dir(dir), name, &target)
            .await?;
        let named = Named {
            ino: made.ino,
            kind: Kind::Symlink,
            id: 0,
            target,
        };
        self.model.renamed(begun, &[], |names| {
            names.insert(path, named);
        });
        Ok(())
    }

    async fn link(&mut self) -> Result<()> {
        let Some((_, named)) = self.pick(|kind| kind == Kind::File) else {
            return Ok(());
        };
        let Some(path) = self.free_path() else {
            return Ok(());
        };
        let (dir, name) = split(&path);
        let begun = self.begin();
        self.volume()
            .link(&CALLER, named.ino, self.dir(dir), name)
            .await?;
        self.model.renamed(begun, &[named.id], |names| {
            names.insert(path, named.clone());
        });
        Ok(())
    }

    fn data(&mut self) -> Vec<u8> {
        let len = match self.dice.below(3) {
            0 => 1 + self.dice.below(300),
            1 => 1 + self.dice.below(6_000),
            _ => 1 + self.dice.below(40_000),
        };
        let stream = match self.dice.below(3) {
            0 => self.dice.below(STREAMS),
            _ => {
                self.serial += 1;
                STREAMS + self.serial
            }
        };
        crate::Content(stream).bytes(0, len as usize)
    }

    async fn write(&mut self) -> Result<()> {
        let Some((ino, id)) = self.file() else {
            return Ok(());
        };
        self.written = Some((ino, id));
        for _ in 0..1 + self.dice.below(3) {
            let data = self.data();
            let len = self.model.contents(id).len() as u64;
            let offset = match self.dice.below(2) {
                0 => len,
                _ => self.dice.below(len + 5_000),
            };
            let offset = offset.min(LENGTH - data.len() as u64);
            let begun = self.begin();
            self.model.stored(begun, &data);
            self.model.written(begun, id, |now| {
                let end = offset as usize + data.len();
                now.resize(now.len().max(end), 0);
                now[offset as usize..end].copy_from_slice(&data);
            });
            self.volume()
                .write(&CALLER, ino, offset, Bytes::from(data))
                .await?;
        }
        Ok(())
    }

    async fn truncate(&mut self) -> Result<()> {
        let Some((ino, id)) = self.file() else {
            return Ok(());
        };
        let len = self.model.contents(id).len() as u64;
        let size = self.dice.below(len + len / 4 + 100).min(LENGTH);
        let begun = self.begin();
        self.model
            .written(begun, id, |now| now.resize(size as usize, 0));
        let change = SetAttr {
            size: Some(size),
            ..SetAttr::default()
        };
        self.volume().setattr(&CALLER, ino, change).await.map(drop)
    }

    async fn punch(&mut self) -> Result<()> {
        let Some((ino, id)) = self.file() else {
            return Ok(());
        };
        let size = self.model.contents(id).len() as u64;
        let offset = self.dice.below(size + 1);
        let len = 1 + self.dice.below(20_000);
        let begun = self.begin();
        self.model.written(begun, id, |now| {
            now[offset as usize..(offset + len).min(size) as usize].fill(0);
        });
        self.volume()
            .allocate(&CALLER, ino, Allocate::Punch, offset, len)
            .await
    }

    async fn copy_range(&mut self) -> Result<()> {
        let (Some((from, from_id)), Some((to, to_id))) = (self.file(), self.file()) else {
            return Ok(());
        };
        let source = self.model.contents(from_id).to_vec();
        if from == to || source.is_empty() {
            return Ok(());
        }
        let from_offset = self.dice.below(source.len() as u64);
        let part = &source[from_offset as usize..];
        let to_offset = self.dice.below(self.model.contents(to_id).len() as u64 + 1);
        let len = (1 + self.dice.below(part.len() as u64)).min(LENGTH - to_offset);
        let begun = self.begin();
        self.model.written(begun, to_id, |now| {
            let end = (to_offset + len) as usize;
            now.resize(now.len().max(end), 0);
            now[to_offset as usize..end].copy_from_slice(&part[..len as usize]);
        });
        let copied = self
            .volume()
            .copy_range(&CALLER, from, from_offset, to, to_offset, len)
            .await?;
        assert_eq!(copied, len, "a copy within the source is whole");
        Ok(())
    }

    async fn rename(&mut self) -> Result<()> {
        let Some((from, named)) = self.pick(|_| true) else {
            return Ok(());
        };
        let to = self.path();
        let over = self.model.names.get(&to).map(|named| named.kind);
        let is_below = to.starts_with(&[&from[..], b"/"].concat());
        let same_file = self
            .model
            .names
            .get(&to)
            .is_some_and(|at| at.ino == named.ino);
        let fits = match (named.kind, over) {
            (_, None) => true,
            (Kind::Directory, Some(_)) | (_, Some(Kind::Directory)) => false,
            _ => true,
        };
        if from == to || is_below || same_file || !fits {
            return Ok(());
        }
        let ((from_dir, from_name), (to_dir, to_name)) = (split(&from), split(&to));
        let begun = self.begin();
        self.volume()
            .rename(
                &CALLER,
                self.dir(from_dir),
                from_name,
                self.dir(to_dir),
                to_name,
                RenameFlags::Replace,
            )
            .await?;
        let settled: Vec<FileId> = Some(named.id).filter(|id| *id != 0).into_iter().collect();
        self.model.renamed(begun, &settled, |names| {
            let below = [&from[..], b"/"].concat();
            let moved: Vec<_> = names
                .extract_if(.., |path, _| *path == from || path.starts_with(&below))
                .collect();
            for (path, named) in moved {
                names.insert([&to[..], &path[from.len()..]].concat(), named);
            }
        });
        Ok(())
    }

    async fn unlink(&mut self) -> Result<()> {
        let Some((path, _)) = self.pick(|kind| kind != Kind::Directory) else {
            return Ok(());
        };
        let (dir, name) = split(&path);
        let begun = self.begin();
        self.volume().unlink(&CALLER, self.dir(dir), name).await?;
        self.model.renamed(begun, &[], |names| {
            names.remove(&path);
        });
        Ok(())
    }

    async fn rmdir(&mut self) -> Result<()> {
        let Some((path, _)) = self.pick(|kind| kind == Kind::Directory) else {
            return Ok(());
        };
        let below = [&path[..], b"/"].concat();
        if self
            .model
            .names
            .keys()
            .any(|other| other.starts_with(&below))
        {
            return Ok(());
        }
        let (dir, name) = split(&path);
        let begun = self.begin();
        self.volume().rmdir(&CALLER, self.dir(dir), name).await?;
        self.model.renamed(begun, &[], |names| {
            names.remove(&path);
        });
        Ok(())
    }

    /// Of some file, mostly the one that was written last.
    async fn fsync(&mut self) -> Result<()> {
        let written = match self.dice.below(3) {
            0 => None,
            _ => self.written,
        };
        let has_a_name = |(_, id): &(Ino, FileId)| self.model.names.values().any(|n| n.id == *id);
        let Some((ino, id)) = written.filter(has_a_name).or_else(|| self.file()) else {
            return Ok(());
        };
        self.volume().fsync(ino, false).await?;
        let at = self.recorder.position();
        self.model.file_promised(at, id);
        self.model.names_promised(at);
        Ok(())
    }

    async fn fsyncdir(&mut self) -> Result<()> {
        let dir = self.pick(|kind| kind == Kind::Directory);
        let ino = dir.map_or(Ino::ROOT, |(_, named)| named.ino);
        self.volume().fsync(ino, false).await?;
        self.model.names_promised(self.recorder.position());
        Ok(())
    }

    /// Half of the time with a new sealing key.
    async fn remount(&mut self) -> Result<()> {
        self.volume().close().await?;
        // Its files are closed before they are opened again.
        self.volume = None;
        self.model.all_promised(self.recorder.position());
        let disk: Arc<dyn Disk> = Arc::new(self.recorder.clone());
        if self.dice.below(2) == 0 {
            volume::rotate(disk.clone(), self.dice.below(1 << 30))?;
        }
        self.volume = Some(volume::open(disk)?);
        Ok(())
    }
}
