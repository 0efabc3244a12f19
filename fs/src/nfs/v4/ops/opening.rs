//! Opens: RFC 8881, 18.2, 18.16, 18.18, 18.38 and 18.48.

use kiseki_core::{
    Error,
    engine::{Attr, SetAttr, SetTime},
    ids::Timestamp,
    meta::Kind,
};

use super::{data::check_regular, handles::check_directory, names::check_name};
use crate::nfs::{
    Target,
    caller::{self, EXECUTE},
    locks::Range,
    v4::{
        attributes::{self, Settings},
        compound::Compound,
        failure::{Failure, Outcome},
        opens::{Opened as Granted, READ, Share, WRITE},
        xdr::{
            Array, Bitmap, ChangeInfo, Claim, Close, CreateHow, Delegation, OPEN_LOCKTYPE_POSIX,
            Open, OpenDowngrade, OpenHow, Opened, StateId, StateIds, Status, Text, WhyNone,
            attribute, want,
        },
    },
};

/// What an OPEN is to open, found or made.
struct Object {
    file: Attr,
    /// Which attributes were set.
    set: Bitmap,
    /// It was made, and the volume counts it as open.
    made: bool,
    /// Whoever asks need not be allowed to: the request made it.
    own: bool,
    /// It is to be emptied.
    empty: bool,
}

impl Object {
    fn found(file: Attr) -> Object {
        Object {
            file,
            set: Bitmap::default(),
            made: false,
            own: false,
            empty: false,
        }
    }
}

impl Compound<'_> {
    pub(in crate::nfs::v4) async fn open(&mut self, asked: &Open) -> Outcome<Opened> {
        let client = self.client()?;
        let share = Share::new(asked.access, asked.deny)?;
        let reclaim = matches!(asked.claim, Claim::Previous(_));
        {
            let state = self.service.state.lock();
            state.may_have(client, reclaim, self.service.now())?;
        }
        let (target, current) = self.current_attr().await?;
        let (object, directory) = match &asked.claim {
            Claim::Null(name) => {
                let object = self
                    .find_or_make(&target, &current, name, &asked.how)
                    .await?;
                (object, Some(current))
            }
            Claim::Handle | Claim::Previous(_) => match asked.how {
                OpenHow::NoCreate => (Object::found(current), None),
                OpenHow::Create(_) => return Err(Status::Inval.into()),
            },
            Claim::DelegateCurrent(_) | Claim::DelegateCurrentHandle(_) => {
                return Err(Status::BadStateId.into());
            }
            Claim::DelegatePrevious(_) | Claim::DelegatePreviousHandle => {
                return Err(Status::NotSupp.into());
            }
        };
        let opened = self.grant(&target, client, asked, share, &object).await;
        if object.made {
            // The one it was made with; the open has its own.
            self.volume.release(object.file.ino).await?;
        }
        let granted = opened?;
        let change = match &directory {
            Some(directory) => self.change_info(directory).await?,
            None => UNCHANGED,
        };
        self.go_to(&target, object.file.ino);
        self.set_stateid(granted.stateid);
        Ok(Opened {
            stateid: granted.stateid,
            change,
            flags: OPEN_LOCKTYPE_POSIX,
            attributes: object.set,
            delegation: no_delegation(asked.access),
        })
    }

    /// Makes the open, and what goes along with it.
    async fn grant(
        &self,
        target: &Target,
        client: u64,
        asked: &Open,
        share: Share,
        object: &Object,
    ) -> Outcome<Granted> {
        let (service, file) = (self.service, &object.file);
        let reclaim = matches!(asked.claim, Claim::Previous(_));
        check_regular(file.kind)?;
        if share.access & WRITE != 0 {
            target.check_writable()?;
        }
        if !object.own && !reclaim {
            self.check_open(target, file, share.access).await?;
        }
        let granted = {
            let mut state = service.state.lock();
            // It may have ended, or been ended, meanwhile.
            state.may_have(client, reclaim, service.now())?;
            let owner = &asked.owner.name.0;
            let granted = state.opens.open(client, owner, file.ino, share)?;
            state.count_opens(client, 0, usize::from(granted.new));
            granted
        };
        match self.follow(target, &granted, object).await {
            Ok(()) => Ok(granted),
            Err(failure) => {
                let mut state = service.state.lock();
                state.opens.undo(&granted);
                state.count_opens(client, usize::from(granted.new), 0);
                Err(failure)
            }
        }
    }

    /// Keeps the file in the volume, empties it if need be, and makes what was
    /// made durable. Without success nothing is kept.
    async fn follow(&self, target: &Target, granted: &Granted, object: &Object) -> Outcome {
        let (volume, ino) = (self.volume, object.file.ino);
        if granted.new {
            volume.open(ino).await.map_err(Failure::of_file)?;
        }
        let done = self.empty_or_settle(target, object).await;
        if done.is_err() && granted.new {
            volume.release(ino).await?;
        }
        done
    }

    async fn empty_or_settle(&self, target: &Target, object: &Object) -> Outcome {
        if object.empty {
            let change = SetAttr {
                size: Some(0),
                ..SetAttr::default()
            };
            let who = self.acting(target);
            let emptied = self.volume.setattr(&who, object.file.ino, change).await;
            emptied.map_err(Failure::of_file)?;
        }
        match object.empty || object.made {
            true => self.settle(object.file.ino).await,
            false => Ok(()),
        }
    }

    async fn find_or_make(
        &self,
        target: &Target,
        directory: &Attr,
        name: &Text,
        how: &OpenHow,
    ) -> Outcome<Object> {
        let how = match how {
            OpenHow::NoCreate => return Ok(Object::found(self.find(target, name).await?)),
            OpenHow::Create(how) => how,
        };
        check_directory(directory.kind)?;
        check_name(&name.0)?;
        let creation = Creation::new(how)?;
        self.check(target, directory, EXECUTE).await?;
        loop {
            match self.volume.lookup(directory.ino, &name.0).await {
                Ok(found) => return creation.take_found(found),
                Err(Error::NotFound) => {}
                Err(error) => return Err(error.into()),
            }
            match self.make(target, directory, name, &creation).await {
                // Somebody else was faster.
                Err(Failure::Status(Status::Exist)) => {}
                made => return made,
            }
        }
    }

    async fn make(
        &self,
        target: &Target,
        directory: &Attr,
        name: &Text,
        creation: &Creation,
    ) -> Outcome<Object> {
        self.check_add(target, directory).await?;
        let (volume, who) = (self.volume, self.acting(target));
        let mode = creation.settings.mode_over(0).unwrap_or(0o666);
        let file = volume.create(&who, directory.ino, &name.0, mode).await?;
        let dressed = self.dress(target, &file, creation).await;
        match dressed {
            Ok(set) => Ok(Object {
                set,
                made: true,
                own: true,
                ..Object::found(file)
            }),
            Err(failure) => {
                // As if it had never been.
                volume.unlink(&who, directory.ino, &name.0).await?;
                volume.release(file.ino).await?;
                Err(failure)
            }
        }
    }

    /// Gives a new file its attributes, or the verifier in their place.
    async fn dress(&self, target: &Target, file: &Attr, creation: &Creation) -> Outcome<Bitmap> {
        let mut set = self.set_on_new(target, file, &creation.settings).await?;
        if let Some(verifier) = creation.verifier {
            let (atime, mtime) = as_times(verifier);
            let change = SetAttr {
                atime: Some(SetTime::At(atime)),
                mtime: Some(SetTime::At(mtime)),
                ..SetAttr::default()
            };
            let who = self.acting(target);
            self.volume.setattr(&who, file.ino, change).await?;
            // Says that the client has to set them.
            set.set(attribute::TIME_ACCESS);
            set.set(attribute::TIME_MODIFY);
        }
        Ok(set)
    }

    /// Whether whoever asks may open a file. Who may execute it has to be able
    /// to read it.
    async fn check_open(&self, target: &Target, file: &Attr, access: u32) -> Outcome {
        let (mut wanted, who) = (0, &target.who);
        if access & READ != 0 {
            wanted |= caller::READ;
        }
        if access & WRITE != 0 {
            wanted |= caller::WRITE;
        }
        let runs = access == READ && who.may(self.volume, file, EXECUTE).await?;
        match runs {
            true => Ok(()),
            false => self.check(target, file, wanted).await,
        }
    }

    pub(in crate::nfs::v4) async fn downgrade(
        &mut self,
        asked: &OpenDowngrade,
    ) -> Outcome<StateId> {
        let (client, file) = (self.client()?, self.current()?.ino());
        let share = Share::new(asked.access, asked.deny)?;
        let stateid = self.meant(asked.stateid)?;
        let narrowed = {
            let mut state = self.service.state.lock();
            state.opens.downgrade(&stateid, client, file, share)?
        };
        self.set_stateid(narrowed);
        Ok(narrowed)
    }

    pub(in crate::nfs::v4) async fn close(&mut self, asked: &Close) -> Outcome<StateId> {
        let (client, file) = (self.client()?, self.current()?.ino());
        let stateid = self.meant(asked.stateid)?;
        let closed = {
            let mut state = self.service.state.lock();
            let closed = state.opens.close(&stateid, client, file)?;
            state.count_opens(client, 1, 0);
            closed
        };
        self.nfs.let_go(vec![closed]).await;
        self.set_stateid(StateId::INVALID);
        Ok(StateId::INVALID)
    }

    pub(in crate::nfs::v4) fn test_stateids(
        &self,
        asked: &StateIds,
    ) -> Outcome<Array<Status, 1024>> {
        let client = self.client()?;
        let state = self.service.state.lock();
        let statuses = asked.0.iter().map(|stateid| {
            let checked = state.opens.check(stateid, client);
            checked.err().unwrap_or(Status::Ok)
        });
        Ok(Array(statuses.collect()))
    }

    pub(in crate::nfs::v4) fn free_stateid(&mut self, stateid: StateId) -> Outcome {
        let client = self.client()?;
        let stateid = self.meant(stateid)?;
        let mut state = self.service.state.lock();
        let found = state.opens.check(&stateid, client)?;
        let owner = self.lock_owner(client, &found.owner);
        let held = found.is_open() || self.nfs.locks.lock().holds(found.file, &owner, Range::ALL);
        if held {
            return Err(Status::LocksHeld.into());
        }
        state.opens.remove_locker(stateid.other);
        Ok(())
    }
}

const UNCHANGED: ChangeInfo = ChangeInfo {
    atomic: true,
    before: 0,
    after: 0,
};

/// How a file is to be made.
struct Creation {
    settings: Settings,
    guarded: bool,
    verifier: Option<[u8; 8]>,
}

impl Creation {
    fn new(how: &CreateHow) -> Outcome<Creation> {
        let creation = match how {
            CreateHow::Unchecked(attributes) | CreateHow::Guarded(attributes) => Creation {
                settings: attributes::decode(attributes)?,
                guarded: matches!(how, CreateHow::Guarded(_)),
                verifier: None,
            },
            CreateHow::Exclusive(verifier) => Creation {
                settings: Settings::default(),
                guarded: false,
                verifier: Some(*verifier),
            },
            CreateHow::Exclusive41(exclusive) => {
                let settings = attributes::decode(&exclusive.attributes)?;
                settings.check_exclusive()?;
                Creation {
                    settings,
                    guarded: false,
                    verifier: Some(exclusive.verifier),
                }
            }
        };
        Ok(creation)
    }

    /// Whether a file that is there will do.
    fn take_found(&self, found: Attr) -> Outcome<Object> {
        if let Some(verifier) = self.verifier {
            let (atime, mtime) = as_times(verifier);
            let same = found.kind == Kind::File && found.atime == atime && found.mtime == mtime;
            return match same {
                true => Ok(Object {
                    own: true,
                    set: Bitmap::of([attribute::TIME_ACCESS, attribute::TIME_MODIFY]),
                    ..Object::found(found)
                }),
                false => Err(Status::Exist.into()),
            };
        }
        if self.guarded {
            return Err(Status::Exist.into());
        }
        // RFC 8881, 18.16.3: of the attributes only this one counts.
        let empty = self.settings.change.size == Some(0);
        Ok(Object {
            empty,
            set: Bitmap::of(empty.then_some(attribute::SIZE)),
            ..Object::found(found)
        })
    }
}

/// Where the verifier of an exclusive create is kept until the client sets the
/// times.
fn as_times(verifier: [u8; 8]) -> (Timestamp, Timestamp) {
    let half = |at: usize| {
        let mut bytes = [0; 4];
        bytes.copy_from_slice(&verifier[at..at + 4]);
        Timestamp {
            secs: i64::from(u32::from_be_bytes(bytes)),
            nanos: 0,
        }
    };
    (half(0), half(4))
}

/// Why there is no delegation, for those who asked about one: RFC 8881, 18.16.3.
fn no_delegation(access: u32) -> Delegation {
    match access & want::MASK {
        0 => Delegation::None,
        want::NO_DELEGATION => Delegation::NoneBecause(WhyNone::NotWanted),
        want::CANCEL => Delegation::NoneBecause(WhyNone::Cancelled),
        _ => Delegation::NoneBecause(WhyNone::Resource(false)),
    }
}
