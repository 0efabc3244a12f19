//! Directory listings and the state of the volume as a whole.

use bytes::Bytes;

use crate::{
    Error, Result,
    crypto::RecordContext,
    engine::{Attr, Entry, Inner, NAME_MAX, Statfs, Volume},
    ids::{Ino, NameTag},
    meta::{Dentry, Kind, MetaService},
};

/// What `statfs` counts in.
const BLOCK_SIZE: u64 = 4096;

impl Volume {
    /// Entries behind `cookie` (0: from the start), without `.` and `..`.
    /// Fewer than `limit` means that these are the last. An entry that exists
    /// throughout a listing is in it exactly once, whatever happens to others.
    ///
    /// # Errors
    /// `NotFound`, `NotADirectory`, `Damaged` for a name that does not open.
    pub async fn readdir(&self, ino: Ino, cookie: u64, limit: usize) -> Result<Vec<Entry>> {
        let inner = &self.inner;
        let inode = inner.meta.inode(ino).get().await?;
        if inode.kind != Kind::Directory {
            return Err(Error::NotADirectory);
        }
        let after = (cookie > 0).then(|| last_tag(cookie));
        // One more in the root, where one is hidden: the page stays full.
        let asked = limit + usize::from(ino == Ino::ROOT);
        let dentries = inner.meta.entries(ino, after, asked).get().await?;
        dentries
            .iter()
            .map(|dentry| inner.entry(ino, dentry))
            .filter(|entry| !matches!(entry, Ok(entry) if Inner::is_hidden(ino, &entry.name)))
            .take(limit)
            .collect()
    }

    /// The same, with attributes.
    ///
    /// # Errors
    /// As [`Volume::readdir`].
    pub async fn readdir_plus(
        &self,
        ino: Ino,
        cookie: u64,
        limit: usize,
    ) -> Result<Vec<(Entry, Attr)>> {
        let mut listed = Vec::new();
        let mut behind = cookie;
        loop {
            let wanted = limit - listed.len();
            let entries = self.readdir(ino, behind, wanted).await?;
            let are_last = entries.len() < wanted;
            listed.reserve(entries.len());
            for entry in entries {
                behind = entry.cookie;
                match self.getattr(entry.ino).await {
                    Ok(attr) => listed.push((entry, attr)),
                    // Removed since the listing was read.
                    Err(Error::NotFound) => {}
                    Err(error) => return Err(error),
                }
            }
            // A shorter page would say that the directory ends.
            if are_last || listed.len() == limit {
                return Ok(listed);
            }
        }
    }

    /// The directory that holds a directory; of the root, itself.
    ///
    /// # Errors
    /// `NotFound`, `NotADirectory`.
    pub async fn parent(&self, ino: Ino) -> Result<Ino> {
        let inode = self.inner.meta.inode(ino).get().await?;
        match inode.kind {
            Kind::Directory => Ok(inode.parent),
            _ => Err(Error::NotADirectory),
        }
    }

    /// Room in the volume: that of the disk under it.
    ///
    /// # Errors
    /// `Io`.
    pub async fn statfs(&self) -> Result<Statfs> {
        let inner = &self.inner;
        let space = inner
            .disk
            .space()
            .map_err(|error| Error::io("ask for the room on the disk", error))?;
        let inodes = inner.meta.usage().inodes;
        // An inode takes a few hundred bytes of metadata.
        let more = space.available / 1024;
        Ok(Statfs {
            block_size: BLOCK_SIZE as u32,
            blocks: space.total / BLOCK_SIZE,
            blocks_free: space.free / BLOCK_SIZE,
            blocks_available: space.available / BLOCK_SIZE,
            files: inodes + more,
            files_free: more,
            name_max: NAME_MAX as u32,
        })
    }
}

impl Inner {
    fn entry(&self, dir: Ino, dentry: &Dentry) -> Result<Entry> {
        let context = RecordContext::Name {
            dir,
            tag: dentry.tag,
        };
        let name = self.keys.open_record(context, &dentry.sealed_name)?;
        Ok(Entry {
            ino: dentry.ino,
            kind: dentry.kind,
            cookie: dentry.tag.cookie(),
            name: Bytes::copy_from_slice(&name),
        })
    }
}

/// The last tag that has this cookie.
fn last_tag(cookie: u64) -> NameTag {
    let mut tag = [0xff; 16];
    tag[..8].copy_from_slice(&(cookie << 1 | 1).to_be_bytes());
    NameTag(tag)
}
