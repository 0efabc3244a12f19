//! Names: every inode has one, and every way leads to the root.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{LOST_AND_FOUND, Mend, Node, SealName};
use crate::{
    Result,
    ids::{Ino, NameTag},
    meta::{
        inode::{Dentry, Kind},
        machine::fresh_inode,
    },
};

type Place = (Ino, NameTag);

impl Mend {
    /// Removes names that lead nowhere or stand nowhere.
    pub(super) fn fix_names(&mut self) {
        let mut wrong = Vec::new();
        let mut kinds = Vec::new();
        let mut standing: BTreeMap<Ino, Place> = BTreeMap::new();
        for (place, name) in &self.names {
            let stands = self.kind(place.0) == Some(Kind::Directory);
            match self.kind(name.ino) {
                Some(kind) if stands => {
                    if kind != name.kind {
                        kinds.push((*place, kind));
                    }
                    if kind == Kind::Directory {
                        let parent = self.nodes[&name.ino].now.parent;
                        // One place for a directory: the one it tells of.
                        if let Some(other) = standing.get(&name.ino)
                            && (place.0 != parent || other.0 == parent)
                        {
                            wrong.push(*place);
                        } else if let Some(other) = standing.insert(name.ino, *place) {
                            wrong.push(other);
                        }
                    }
                }
                _ => wrong.push(*place),
            }
        }
        for (place, kind) in kinds {
            if let Some(name) = self.names.get_mut(&place) {
                name.kind = kind;
                self.changed_names.insert(place);
            }
        }
        for place in wrong {
            self.remove_name(place, "leads nowhere");
        }
        self.open_rings();
    }

    fn remove_name(&mut self, place: Place, why: &str) {
        if let Some(name) = self.names.remove(&place) {
            self.changed_names.insert(place);
            self.say(format!(
                "a name in directory {} for inode {} {why}, and is removed",
                place.0.0, name.ino.0
            ));
        }
    }

    /// Directories that hold each other and that nothing else holds.
    fn open_rings(&mut self) {
        let places: BTreeMap<Ino, Place> = self
            .names
            .iter()
            .filter(|(_, name)| name.kind == Kind::Directory)
            .map(|(place, name)| (name.ino, *place))
            .collect();
        let mut settled = BTreeSet::from([Ino::ROOT]);
        let mut cut = Vec::new();
        for start in places.keys() {
            let mut way = BTreeSet::new();
            let mut at = *start;
            while !settled.contains(&at) && way.insert(at) {
                match places.get(&at) {
                    Some(place) if way.contains(&place.0) => {
                        cut.push(*place);
                        break;
                    }
                    Some(place) => at = place.0,
                    None => break,
                }
            }
            settled.extend(way);
        }
        for place in cut {
            self.remove_name(place, "makes a ring of directories");
        }
    }

    /// Gives a name in `lost+found` to what has none.
    pub(super) fn adopt(&mut self, seal_name: &mut SealName<'_>) -> Result<()> {
        let named: BTreeSet<Ino> = self.names.values().map(|name| name.ino).collect();
        let full: BTreeSet<Ino> = self.names.keys().map(|place| place.0).collect();
        let unnamed: Vec<Ino> = self
            .nodes
            .values()
            .map(|node| &node.now)
            // Without links it was deleted; but not what is in it.
            .filter(|inode| inode.nlink > 0 || full.contains(&inode.ino))
            .map(|inode| inode.ino)
            .filter(|ino| *ino != Ino::ROOT && !named.contains(ino))
            .collect();
        if unnamed.is_empty() {
            return Ok(());
        }
        let shelter = self.shelter(seal_name)?;
        for ino in unnamed {
            if ino == shelter {
                continue;
            }
            let name = format!("#{}", ino.0);
            self.add_name(shelter, name.as_bytes(), ino, seal_name)?;
            self.say(format!(
                "inode {}: had no name, and is /lost+found/{name} now",
                ino.0
            ));
        }
        Ok(())
    }

    /// The directory `lost+found`, which is made when it is not there.
    fn shelter(&mut self, seal_name: &mut SealName<'_>) -> Result<Ino> {
        let (tag, _) = seal_name(Ino::ROOT, LOST_AND_FOUND)?;
        match self.names.get(&(Ino::ROOT, tag)) {
            Some(found) if found.kind == Kind::Directory => return Ok(found.ino),
            Some(_) => self.remove_name((Ino::ROOT, tag), "is that of lost+found"),
            None => {}
        }
        let last = self.nodes.keys().chain(&self.gone).max();
        let last = last.map_or(Ino::ROOT.0, |ino| ino.0).max(self.highest);
        let ino = Ino(last + 1);
        let root = &self.nodes[&Ino::ROOT].now;
        let mut now = fresh_inode(ino, Kind::Directory, self.time);
        (now.mode, now.uid, now.gid) = (0o700, root.uid, root.gid);
        self.nodes.insert(ino, Node { before: None, now });
        self.add_name(Ino::ROOT, LOST_AND_FOUND, ino, seal_name)?;
        Ok(ino)
    }

    fn add_name(
        &mut self,
        parent: Ino,
        name: &[u8],
        ino: Ino,
        seal_name: &mut SealName<'_>,
    ) -> Result<()> {
        let (tag, sealed): (NameTag, Arc<[u8]>) = seal_name(parent, name)?;
        let dentry = Dentry {
            tag,
            ino,
            kind: self.kind(ino).unwrap_or(Kind::File),
            sealed_name: sealed,
        };
        self.names.insert((parent, tag), dentry);
        self.changed_names.insert((parent, tag));
        Ok(())
    }
}
