//! A filesystem so simple that it can be believed: names in maps, link counts
//! by counting, contents byte by byte.

use std::collections::BTreeMap;

use crate::{
    Error, Result,
    ids::{ChunkId, Ino, NameTag, Timestamp},
    meta::{
        command::{AttrChange, Body, CloneRange, Command, RenameMode, XattrMode},
        inode::Kind,
    },
};

pub(super) type Byte = Option<(ChunkId, u32)>;

#[derive(Clone)]
pub(super) struct Node {
    pub(super) kind: Kind,
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) mtime: Timestamp,
    pub(super) ctime: Timestamp,
    pub(super) entries: BTreeMap<NameTag, u64>,
    /// One for each byte of the size.
    pub(super) bytes: Vec<Byte>,
    pub(super) inline: Option<u32>,
    pub(super) xattrs: BTreeMap<NameTag, Vec<u8>>,
}

#[derive(Clone, Default)]
pub(super) struct Model(pub(super) BTreeMap<u64, Node>);

const INVALID: Error = Error::Invalid("");

impl Model {
    pub(super) fn add(&mut self, ino: u64, kind: Kind, mode: u32, uid: u32, time: Timestamp) {
        let node = Node {
            kind,
            mode,
            uid,
            mtime: time,
            ctime: time,
            entries: BTreeMap::new(),
            bytes: Vec::new(),
            inline: None,
            xattrs: BTreeMap::new(),
        };
        self.0.insert(ino, node);
    }

    fn node(&mut self, ino: Ino) -> Result<&mut Node> {
        self.0.get_mut(&ino.0).ok_or(Error::NotFound)
    }

    pub(super) fn names(&self, ino: u64) -> usize {
        let all = self.0.values().flat_map(|node| node.entries.values());
        all.filter(|named| **named == ino).count() + usize::from(ino == 1)
    }

    pub(super) fn holder(&self, ino: u64) -> u64 {
        let mut all = self.0.iter();
        all.find(|(_, node)| node.entries.values().any(|named| *named == ino))
            .map_or(ino, |(holder, _)| *holder)
    }

    pub(super) fn nlink(&self, ino: u64) -> u32 {
        let names = self.names(ino);
        let node = &self.0[&ino];
        if node.kind != Kind::Directory || names == 0 {
            return names as u32;
        }
        let below = node.entries.values();
        2 + below
            .filter(|ino| self.0[ino].kind == Kind::Directory)
            .count() as u32
    }

    fn directory(&mut self, ino: Ino) -> Result<&mut Node> {
        let gone = self.names(ino.0) == 0;
        let node = self.node(ino)?;
        match node.kind {
            Kind::Directory if gone => Err(Error::NotFound),
            Kind::Directory => Ok(node),
            _ => Err(Error::NotADirectory),
        }
    }

    fn file(&mut self, ino: Ino) -> Result<&mut Node> {
        let node = self.node(ino)?;
        match node.kind {
            Kind::File => Ok(node),
            Kind::Directory => Err(Error::IsADirectory),
            _ => Err(INVALID),
        }
    }

    fn is_below(&self, ino: u64, top: u64) -> bool {
        ino == top || (ino != 1 && self.is_below(self.holder(ino), top))
    }

    fn touch(&mut self, ino: Ino, time: Timestamp) {
        let node = self.0.get_mut(&ino.0).unwrap();
        node.mtime = time;
        node.ctime = time;
    }

    pub(super) fn apply(&mut self, command: &Command) -> Result<()> {
        self.apply_but_for_notes(command)?;
        match command {
            Command::Write { ino, .. }
            | Command::Punch { ino, .. }
            | Command::Shift { ino, .. }
            | Command::Clone(CloneRange { to: ino, .. }) => self.contents_changed(*ino),
            Command::SetAttr { ino, change } if change.size.is_some() => {
                self.contents_changed(*ino);
            }
            _ => {}
        }
        Ok(())
    }

    fn contents_changed(&mut self, ino: Ino) {
        let node = self.0.get_mut(&ino.0).unwrap();
        node.xattrs.remove(&NameTag::CONTENTS);
    }

    fn apply_but_for_notes(&mut self, command: &Command) -> Result<()> {
        match command {
            Command::Format { .. } => Err(Error::Exists),
            Command::Create {
                parent,
                tag,
                inode,
                time,
                ..
            } => {
                if self.directory(*parent)?.entries.contains_key(tag) {
                    return Err(Error::Exists);
                }
                if self.0.contains_key(&inode.ino.0) {
                    return Err(Error::damaged("", ""));
                }
                self.add(inode.ino.0, inode.kind, inode.mode, inode.uid, *time);
                if let Some((_, len)) = &inode.target {
                    let node = self.node(inode.ino)?;
                    node.inline = Some(*len);
                    node.bytes = vec![None; *len as usize];
                }
                self.node(*parent)?.entries.insert(*tag, inode.ino.0);
                self.touch(*parent, *time);
                Ok(())
            }
            Command::Link {
                ino,
                parent,
                tag,
                time,
                ..
            } => {
                let kind = self.node(*ino)?.kind;
                if self.directory(*parent)?.entries.contains_key(tag) {
                    return Err(Error::Exists);
                }
                if kind == Kind::Directory {
                    return Err(Error::NotPermitted);
                }
                if self.names(ino.0) == 0 {
                    return Err(Error::NotFound);
                }
                self.node(*parent)?.entries.insert(*tag, ino.0);
                self.touch(*parent, *time);
                self.node(*ino)?.ctime = *time;
                Ok(())
            }
            Command::Unlink { parent, tag, time } => self.remove(*parent, *tag, *time, false),
            Command::Rmdir { parent, tag, time } => self.remove(*parent, *tag, *time, true),
            Command::Rename {
                parent,
                tag,
                new_parent,
                new_tag,
                mode,
                time,
                ..
            } => self.rename((*parent, *tag), (*new_parent, *new_tag), *mode, *time),
            Command::SetAttr { ino, change } => {
                match change.size {
                    Some(size) => self.file(*ino)?.resize(size as usize),
                    None => drop(self.node(*ino)?),
                }
                self.node(*ino)?.change(change);
                Ok(())
            }
            Command::Write { ino, body, change } => {
                let node = self.file(*ino)?;
                node.write(body);
                let size = node.bytes.len().max(change.size.unwrap_or(0) as usize);
                node.bytes.resize(size, None);
                node.change(change);
                Ok(())
            }
            Command::Punch {
                ino,
                offset,
                len,
                time,
            } => {
                self.file(*ino)?.punch(*offset, *len)?;
                self.touch(*ino, *time);
                Ok(())
            }
            Command::Shift {
                ino,
                offset,
                len,
                insert,
                time,
            } => {
                self.file(*ino)?
                    .shift(*offset as usize, *len as usize, *insert)?;
                self.touch(*ino, *time);
                Ok(())
            }
            Command::Clone(range) => self.share(range),
            Command::SetXattr {
                ino,
                tag,
                value,
                mode,
                file_mode,
                time,
            } => {
                let node = self.node(*ino)?;
                match (mode, node.xattrs.contains_key(tag)) {
                    (XattrMode::Create, true) => return Err(Error::Exists),
                    (XattrMode::Replace, false) => return Err(Error::NoAttribute),
                    _ => {}
                }
                node.xattrs.insert(*tag, value.to_vec());
                node.mode = file_mode.unwrap_or(node.mode);
                node.ctime = *time;
                Ok(())
            }
            Command::RemoveXattr { ino, tag, time } => {
                let node = self.node(*ino)?;
                node.xattrs.remove(tag).ok_or(Error::NoAttribute)?;
                node.ctime = *time;
                Ok(())
            }
            Command::Reap { inos } => {
                for ino in inos {
                    if self.names(ino.0) == 0 {
                        self.0.remove(&ino.0);
                    }
                }
                Ok(())
            }
            // Not among the commands that are generated.
            Command::Amend { .. } => Err(Error::Invalid("a model has no records")),
        }
    }

    fn remove(&mut self, parent: Ino, tag: NameTag, time: Timestamp, rmdir: bool) -> Result<()> {
        let holder = self.directory(parent)?;
        let ino = *holder.entries.get(&tag).ok_or(Error::NotFound)?;
        let node = &self.0[&ino];
        match (node.kind == Kind::Directory, rmdir) {
            (true, false) => return Err(Error::IsADirectory),
            (false, true) => return Err(Error::NotADirectory),
            (true, true) if !node.entries.is_empty() => return Err(Error::NotEmpty),
            _ => {}
        }
        self.node(parent)?.entries.remove(&tag);
        self.touch(parent, time);
        self.node(Ino(ino))?.ctime = time;
        Ok(())
    }

    fn rename(
        &mut self,
        from: (Ino, NameTag),
        to: (Ino, NameTag),
        mode: RenameMode,
        time: Timestamp,
    ) -> Result<()> {
        self.directory(from.0)?;
        self.directory(to.0)?;
        let moved = *self
            .node(from.0)?
            .entries
            .get(&from.1)
            .ok_or(Error::NotFound)?;
        let standing = self.node(to.0)?.entries.get(&to.1).copied();
        match (mode, standing) {
            (RenameMode::NoReplace, Some(_)) => return Err(Error::Exists),
            (RenameMode::Exchange, None) => return Err(Error::NotFound),
            _ => {}
        }
        let exchange = mode == RenameMode::Exchange;
        if self.is_below(to.0.0, moved) {
            return Err(INVALID);
        }
        if standing.is_some_and(|standing| self.is_below(from.0.0, standing)) {
            return Err(if exchange { INVALID } else { Error::NotEmpty });
        }
        if standing == Some(moved) {
            return Ok(());
        }
        let is_directory = |ino: &u64| self.0[ino].kind == Kind::Directory;
        if let Some(standing) = standing.filter(|_| !exchange) {
            match (is_directory(&moved), is_directory(&standing)) {
                (true, false) => return Err(Error::NotADirectory),
                (false, true) => return Err(Error::IsADirectory),
                (true, true) if !self.0[&standing].entries.is_empty() => {
                    return Err(Error::NotEmpty);
                }
                _ => {}
            }
        }
        self.node(from.0)?.entries.remove(&from.1);
        self.node(to.0)?.entries.insert(to.1, moved);
        if let Some(standing) = standing {
            if exchange {
                self.node(from.0)?.entries.insert(from.1, standing);
            }
            self.node(Ino(standing))?.ctime = time;
        }
        self.node(Ino(moved))?.ctime = time;
        self.touch(from.0, time);
        self.touch(to.0, time);
        Ok(())
    }

    fn share(&mut self, range: &CloneRange) -> Result<()> {
        let source = self.file(range.from)?.clone();
        let target = self.file(range.to)?;
        let (from, to, len) = (
            range.from_offset as usize,
            range.to_offset as usize,
            range.len as usize,
        );
        let overlap = range.from == range.to && from < to + len && to < from + len;
        if len == 0 || from + len > source.bytes.len() || source.inline.is_some() || overlap {
            return Err(INVALID);
        }
        if let Some(inline) = target.inline {
            if inline > 0 && (to > 0 || len < inline as usize) {
                return Err(INVALID);
            }
            target.inline = None;
        }
        let size = target.bytes.len().max(to + len);
        target.bytes.resize(size, None);
        target.bytes[to..to + len].copy_from_slice(&source.bytes[from..from + len]);
        self.touch(range.to, range.time);
        Ok(())
    }
}

impl Node {
    fn change(&mut self, change: &AttrChange) {
        self.mode = change.mode.unwrap_or(self.mode);
        self.uid = change.uid.unwrap_or(self.uid);
        self.mtime = change.mtime.unwrap_or(self.mtime);
        self.ctime = change.ctime.unwrap_or(self.ctime);
    }

    fn cut_inline(&mut self, end: usize) {
        self.inline = match self.inline {
            Some(len) if len > 0 && end == 0 => None,
            Some(len) => Some(len.min(end as u32)),
            None => None,
        };
    }

    fn resize(&mut self, size: usize) {
        self.bytes.resize(size, None);
        self.cut_inline(size);
    }

    fn write(&mut self, body: &Body) {
        match body {
            Body::Extents(extents) => {
                self.inline = None;
                for extent in extents {
                    let end = extent.end() as usize;
                    let size = self.bytes.len().max(end);
                    self.bytes.resize(size, None);
                    for index in 0..extent.len {
                        let byte = (extent.chunk, extent.chunk_offset + index);
                        self.bytes[extent.offset as usize + index as usize] = Some(byte);
                    }
                }
            }
            Body::Inline(_, len) => {
                self.inline = Some(*len);
                let size = self.bytes.len().max(*len as usize);
                self.bytes = vec![None; size];
            }
        }
    }

    fn punch(&mut self, offset: u64, len: u64) -> Result<()> {
        if len == 0 {
            return Err(INVALID);
        }
        let end = offset + len;
        if let Some(inline) = self.inline.filter(|inline| offset < u64::from(*inline)) {
            if end < u64::from(inline) {
                return Err(INVALID);
            }
            self.cut_inline(offset as usize);
        }
        for byte in self
            .bytes
            .iter_mut()
            .take(end as usize)
            .skip(offset as usize)
        {
            *byte = None;
        }
        Ok(())
    }

    fn shift(&mut self, offset: usize, len: usize, insert: bool) -> Result<()> {
        let inline = self.inline.is_some_and(|inline| offset < inline as usize);
        let behind = if insert { offset } else { offset + len };
        if len == 0 || inline || behind >= self.bytes.len() {
            return Err(INVALID);
        }
        if insert {
            self.bytes
                .splice(offset..offset, std::iter::repeat_n(None, len));
        } else {
            self.bytes.drain(offset..offset + len);
        }
        Ok(())
    }
}
