//! Opens and lock owners: who may do what with a file, under which stateid.
//!
//! RFC 8881, 8.2 and 9. An *open* belongs to an open owner of a client and one
//! file; a second OPEN of the same owner widens it. A *locker* belongs to an
//! open, and stands for the byte-range locks of one lock owner in that file,
//! which are themselves in [`crate::nfs::locks`]. What is here is pure; whoever
//! calls keeps the file open in the volume as long as it has an open.

mod shares;

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use kiseki_core::ids::Ino;

use shares::Shares;
pub use shares::{READ, Share, WRITE};

use super::xdr::{StateId, Status};

/// Opens and lockers of all clients together.
const STATES_MAX: usize = 1 << 20;

/// What identifies a state: the first 4 bytes are the server's start.
pub type Other = [u8; 12];

/// What a stateid stands for.
#[derive(Clone, Debug)]
pub struct State {
    /// Grows with every change; never 0.
    sequence: u32,
    /// Whose.
    pub client: u64,
    /// The client's name for its owner.
    pub owner: Arc<[u8]>,
    /// Of what.
    pub file: Ino,
    kind: Kind,
}

#[derive(Clone, Debug)]
enum Kind {
    Open { shares: Shares, lockers: Vec<Other> },
    Locker { open: Other },
}

/// What an OPEN did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opened {
    /// What it answers.
    pub stateid: StateId,
    /// The owner had not opened this file: it counts as one more open.
    pub new: bool,
    /// What the owner could do before, to take this OPEN back.
    before: Option<Share>,
}

/// An open that is gone, with the owners of locks that went along.
#[derive(Debug, PartialEq, Eq)]
pub struct Closed {
    /// Whose.
    pub client: u64,
    /// Of what.
    pub file: Ino,
    /// Lock owners that have no locks in this file any more.
    pub lockers: Vec<Arc<[u8]>>,
}

/// All opens and lockers.
#[derive(Debug)]
pub struct Opens {
    states: HashMap<Other, State>,
    by_file: HashMap<Ino, HashSet<Other>>,
    by_client: HashMap<u64, HashSet<Other>>,
    /// Opens by client, owner and file.
    owned: HashMap<(u64, Arc<[u8]>, Ino), Other>,
    boot: [u8; 4],
    next: u64,
}

impl Opens {
    /// None yet. `boot` is not that of another start of the server.
    pub fn new(boot: u32) -> Opens {
        Opens {
            states: HashMap::new(),
            by_file: HashMap::new(),
            by_client: HashMap::new(),
            owned: HashMap::new(),
            boot: boot.to_be_bytes(),
            next: 1,
        }
    }

    /// Opens a file for an owner, or widens what it has.
    ///
    /// # Errors
    /// `ShareDenied`, `Delay` when there are too many.
    pub fn open(
        &mut self,
        client: u64,
        owner: &[u8],
        file: Ino,
        share: Share,
    ) -> Result<Opened, Status> {
        let key = (client, Arc::from(owner), file);
        let known = self.owned.get(&key).copied();
        self.check_shares(file, share, known)?;
        if let Some(other) = known
            && let Some(state) = self.states.get_mut(&other)
            && let Kind::Open { shares, .. } = &mut state.kind
        {
            let before = shares.now();
            shares.add(share);
            state.moved();
            return Ok(Opened {
                stateid: state.stateid(other),
                new: false,
                before: Some(before),
            });
        }
        let kind = Kind::Open {
            shares: Shares::new(share),
            lockers: Vec::new(),
        };
        let stateid = self.add(client, key.1.clone(), file, kind)?;
        self.owned.insert(key, stateid.other);
        Ok(Opened {
            stateid,
            new: true,
            before: None,
        })
    }

    /// Takes an OPEN back that failed later.
    pub fn undo(&mut self, opened: &Opened) {
        match opened.before {
            None => drop(self.remove_open(opened.stateid.other)),
            Some(before) => {
                if let Some(state) = self.states.get_mut(&opened.stateid.other)
                    && let Kind::Open { shares, .. } = &mut state.kind
                {
                    shares.narrow(before);
                }
            }
        }
    }

    /// The state that a stateid stands for.
    ///
    /// # Errors
    /// `BadStateId`, `OldStateId`.
    pub fn check(&self, stateid: &StateId, client: u64) -> Result<&State, Status> {
        let state = self.states.get(&stateid.other).ok_or(Status::BadStateId)?;
        if state.client != client {
            return Err(Status::BadStateId);
        }
        match stateid.sequence {
            0 => Ok(state),
            sequence if sequence == state.sequence => Ok(state),
            sequence if state.sequence.wrapping_sub(sequence) as i32 > 0 => Err(Status::OldStateId),
            _ => Err(Status::BadStateId),
        }
    }

    /// The same, of this file.
    ///
    /// # Errors
    /// As [`Opens::check`].
    pub fn of_file(&self, stateid: &StateId, client: u64, file: Ino) -> Result<&State, Status> {
        let state = self.check(stateid, client)?;
        match state.file == file {
            true => Ok(state),
            false => Err(Status::BadStateId),
        }
    }

    /// Whether whoever has this state may read or write (`access`).
    ///
    /// # Errors
    /// `OpenMode`, and as [`Opens::check`].
    pub fn may_access(
        &self,
        stateid: &StateId,
        client: u64,
        file: Ino,
        access: u32,
    ) -> Result<(), Status> {
        let state = self.of_file(stateid, client, file)?;
        let share = self.share_of(state).ok_or(Status::BadStateId)?;
        // A client reads pages it is about to write a part of.
        let reads_to_write = access == READ && share.access & WRITE != 0;
        match share.access & access == access || reads_to_write {
            true => Ok(()),
            false => Err(Status::OpenMode),
        }
    }

    /// Whether somebody without an open may read or write (`access`).
    ///
    /// # Errors
    /// `Locked` when a share reservation denies it.
    pub fn check_denied(&self, file: Ino, access: u32) -> Result<(), Status> {
        match self
            .opens_of(file)
            .any(|(_, share)| share.deny & access != 0)
        {
            true => Err(Status::Locked),
            false => Ok(()),
        }
    }

    /// Narrows an open to what a part of its OPENs asked for.
    ///
    /// # Errors
    /// `Inval` for what no OPEN asked for, and as [`Opens::check`].
    pub fn downgrade(
        &mut self,
        stateid: &StateId,
        client: u64,
        file: Ino,
        share: Share,
    ) -> Result<StateId, Status> {
        self.of_file(stateid, client, file)?;
        let state = self.states.get_mut(&stateid.other);
        let state = state.ok_or(Status::BadStateId)?;
        let Kind::Open { shares, .. } = &mut state.kind else {
            return Err(Status::BadStateId);
        };
        if !shares.allows(share) {
            return Err(Status::Inval);
        }
        shares.narrow(share);
        state.moved();
        Ok(state.stateid(stateid.other))
    }

    /// Ends an open.
    ///
    /// # Errors
    /// As [`Opens::check`].
    pub fn close(&mut self, stateid: &StateId, client: u64, file: Ino) -> Result<Closed, Status> {
        let state = self.of_file(stateid, client, file)?;
        match state.kind {
            Kind::Open { .. } => self.remove_open(stateid.other).ok_or(Status::BadStateId),
            Kind::Locker { .. } => Err(Status::BadStateId),
        }
    }

    /// The locker of an owner for an open, made if there is none.
    ///
    /// # Errors
    /// `BadStateId` where `open` is none, `Delay`, and as [`Opens::check`].
    pub fn locker(
        &mut self,
        open: &StateId,
        client: u64,
        file: Ino,
        owner: &[u8],
    ) -> Result<Other, Status> {
        let state = self.of_file(open, client, file)?;
        let Kind::Open { lockers, .. } = &state.kind else {
            return Err(Status::BadStateId);
        };
        let known = lockers.iter().find(|other| {
            let locker = self.states.get(*other);
            locker.is_some_and(|locker| *locker.owner == *owner)
        });
        if let Some(other) = known {
            return Ok(*other);
        }
        let kind = Kind::Locker { open: open.other };
        let other = self.add(client, owner.into(), file, kind)?.other;
        // It answers 1 for the first lock, which moves it.
        if let Some(state) = self.states.get_mut(&other) {
            state.sequence = 0;
        }
        if let Some(state) = self.states.get_mut(&open.other)
            && let Kind::Open { lockers, .. } = &mut state.kind
        {
            lockers.push(other);
        }
        Ok(other)
    }

    /// Notes that the locks of a locker changed; what to answer.
    ///
    /// # Errors
    /// `BadStateId`.
    pub fn locks_changed(&mut self, locker: Other) -> Result<StateId, Status> {
        let state = self.states.get_mut(&locker).ok_or(Status::BadStateId)?;
        state.moved();
        Ok(state.stateid(locker))
    }

    /// Takes a locker away that nothing was locked for yet.
    pub fn forget_unused(&mut self, locker: Other) {
        if self
            .states
            .get(&locker)
            .is_some_and(|state| state.sequence == 0)
        {
            self.remove_locker(locker);
        }
    }

    /// Takes a locker away. Its locks are gone.
    pub fn remove_locker(&mut self, locker: Other) {
        if let Some(state) = self.take(locker)
            && let Kind::Locker { open } = state.kind
            && let Some(open) = self.states.get_mut(&open)
            && let Kind::Open { lockers, .. } = &mut open.kind
        {
            lockers.retain(|other| *other != locker);
        }
    }

    /// Ends all opens of a client.
    pub fn remove_client(&mut self, client: u64) -> Vec<Closed> {
        let states = self.by_client.get(&client);
        let states: Vec<Other> = states.map_or(Vec::new(), |all| all.iter().copied().collect());
        states
            .into_iter()
            .filter_map(|other| self.remove_open(other))
            .collect()
    }

    /// How many opens and lockers there are.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.states.len()
    }

    fn check_shares(&self, file: Ino, share: Share, own: Option<Other>) -> Result<(), Status> {
        let others = self.opens_of(file).filter(|(other, _)| Some(*other) != own);
        let mut others = others.map(|(_, share)| share);
        match others.any(|held| held.conflicts(share)) {
            true => Err(Status::ShareDenied),
            false => Ok(()),
        }
    }

    fn opens_of(&self, file: Ino) -> impl Iterator<Item = (Other, Share)> + '_ {
        let others = self.by_file.get(&file).into_iter().flatten();
        others.filter_map(|other| match &self.states.get(other)?.kind {
            Kind::Open { shares, .. } => Some((*other, shares.now())),
            Kind::Locker { .. } => None,
        })
    }

    fn share_of(&self, state: &State) -> Option<Share> {
        match &state.kind {
            Kind::Open { shares, .. } => Some(shares.now()),
            Kind::Locker { open } => match &self.states.get(open)?.kind {
                Kind::Open { shares, .. } => Some(shares.now()),
                Kind::Locker { .. } => None,
            },
        }
    }

    fn add(
        &mut self,
        client: u64,
        owner: Arc<[u8]>,
        file: Ino,
        kind: Kind,
    ) -> Result<StateId, Status> {
        if self.states.len() >= STATES_MAX {
            return Err(Status::Delay);
        }
        let mut other = [0; 12];
        other[..4].copy_from_slice(&self.boot);
        other[4..].copy_from_slice(&self.next.to_be_bytes());
        self.next += 1;
        let state = State {
            sequence: 1,
            client,
            owner,
            file,
            kind,
        };
        let stateid = state.stateid(other);
        self.states.insert(other, state);
        self.by_file.entry(file).or_default().insert(other);
        self.by_client.entry(client).or_default().insert(other);
        Ok(stateid)
    }

    fn take(&mut self, other: Other) -> Option<State> {
        let state = self.states.remove(&other)?;
        forget(&mut self.by_file, &state.file, &other);
        forget(&mut self.by_client, &state.client, &other);
        Some(state)
    }

    fn remove_open(&mut self, other: Other) -> Option<Closed> {
        if !matches!(self.states.get(&other)?.kind, Kind::Open { .. }) {
            return None;
        }
        let state = self.take(other)?;
        let Kind::Open { lockers, .. } = state.kind else {
            return None;
        };
        let lockers = lockers.into_iter().filter_map(|locker| self.take(locker));
        let lockers = lockers.map(|locker| locker.owner).collect();
        self.owned.remove(&(state.client, state.owner, state.file));
        Some(Closed {
            client: state.client,
            file: state.file,
            lockers,
        })
    }
}

impl State {
    /// Whether it stands for an open, not for locks.
    pub fn is_open(&self) -> bool {
        matches!(self.kind, Kind::Open { .. })
    }

    fn stateid(&self, other: Other) -> StateId {
        StateId {
            sequence: self.sequence,
            other,
        }
    }

    /// 0 stands for the newest and is left out.
    fn moved(&mut self) {
        self.sequence = self.sequence.checked_add(1).unwrap_or(1);
    }
}

fn forget<K: std::hash::Hash + Eq>(table: &mut HashMap<K, HashSet<Other>>, key: &K, other: &Other) {
    if let Some(set) = table.get_mut(key) {
        set.remove(other);
        if set.is_empty() {
            table.remove(key);
        }
    }
}

#[cfg(test)]
mod tests;
