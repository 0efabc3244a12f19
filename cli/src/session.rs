//! The one place where verbs meet the engine and the FUSE front end.
//!
//! A [`Session`] is a store that this process has locked and opened; the free
//! functions are for what needs no key. Everything here turns types of the
//! engine into those that verbs report, and errors into [`Failure`]s.

mod check;
mod create;
mod front;
mod mend;
mod offline;
mod pages;
mod tree;

use std::{io, os::fd::OwnedFd, path::Path, sync::Arc, time::Duration};

use kiseki_core::{
    Error,
    engine::{self, AtimePolicy, VolumeOptions},
    host::{Disk, SystemClock, disk::OsDisk},
    store::{SlotKind, Store, StoreLock, Unlock, UnlockedStore, VolumeRecord},
};
use serde::Serialize;
use tokio::sync::mpsc;

use crate::{
    exports::{self, ExportAnswer, ExportRequest},
    failure::{Attempt, Failure, Result},
    mount_options::{Atime, Policy},
    plan::{self, Plan},
    report::{Collection, Status, dedup_ratio},
    s3_keys::{self, KeyAnswer, KeyRequest},
    secrets::Secret,
};

pub use check::{check_without_key, verify_logs, verify_logs_with_key};
pub use create::{create, with_new_key};
pub use front::{FrontEnd, mount, statistics, take_over, unmount, wait};
pub use kiseki_core::{
    engine::Volume,
    journal::{Journal, LAYOUT as JOURNAL_LAYOUT},
    store::FORMAT_VERSION,
};
pub use offline::collect_without_key;

/// What a store tells without a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreInfo {
    /// Its identity, in hexadecimal.
    pub id: String,
    /// Version of its formats.
    pub format_version: u32,
    /// A key file opens it.
    pub takes_key_file: bool,
    /// A passphrase opens it.
    pub takes_passphrase: bool,
}

/// A way to open a store, as `kiseki key list` shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Slot {
    /// Number of the slot.
    pub id: u32,
    /// What opens it.
    pub kind: &'static str,
    /// When it was made, in seconds since 1970.
    pub created: i64,
}

/// A volume, as `kiseki volume list` shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct VolumeEntry {
    /// Its name.
    pub name: String,
    /// Its identity, in hexadecimal.
    pub id: String,
    /// How its files are cut.
    pub policy: String,
    /// When it was made, in seconds since 1970.
    pub created: i64,
}

/// The disk of a store that exists.
fn disk(dir: &Path) -> Result<Arc<dyn Disk>> {
    let disk = OsDisk::open(dir.to_owned())
        .attempt(|| format!("cannot open the store {}", dir.display()))?;
    Ok(Arc::new(disk))
}

/// Tells who has the lock. It holds all the same when that cannot be written,
/// for example on a full disk.
fn name_holder(lock: &StoreLock) {
    if let Err(error) = lock.write_pid() {
        tracing::warn!(%error, "cannot write the process id into the lock of the store");
    }
}

/// What is known of a store; `None` when there is none in that directory,
/// which need not exist.
///
/// # Errors
/// There is one, and it cannot be read or is of a newer version.
pub fn inspect(dir: &Path) -> Result<Option<StoreInfo>> {
    match std::fs::symlink_metadata(dir.join("kiseki.json")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => {
            return Err(
                Failure::new(format!("cannot look into the store {}", dir.display()))
                    .why(error)
                    .remedy("use the user it belongs to, or another store"),
            );
        }
        Ok(_) => {}
    }
    let store = Store::open(disk(dir)?)?;
    info(&store).map(Some)
}

fn info(store: &Store) -> Result<StoreInfo> {
    let slots = store.list_slots()?;
    Ok(StoreInfo {
        id: store.id().to_string(),
        format_version: store.format_version(),
        takes_key_file: slots.iter().any(|slot| slot.kind == SlotKind::KeyFile),
        takes_passphrase: slots.iter().any(|slot| slot.kind == SlotKind::Passphrase),
    })
}

/// The same for those who need a store.
///
/// # Errors
/// There is none, or it cannot be read or is of a newer version.
pub fn existing(dir: &Path) -> Result<StoreInfo> {
    inspect(dir)?.ok_or_else(|| {
        Failure::new(format!("there is no store at {}", dir.display()))
            .remedy("name it with --store; the first `kiseki mount` makes one")
    })
}

/// What opens a store. Needs no key.
///
/// # Errors
/// There is no store, or it cannot be read.
pub fn slots(dir: &Path) -> Result<Vec<Slot>> {
    existing(dir)?;
    let slots = Store::open(disk(dir)?)?.list_slots()?;
    let slots = slots.into_iter().map(|slot| Slot {
        id: slot.id,
        kind: slot.kind.name(),
        created: slot.created.secs,
    });
    Ok(slots.collect())
}

/// A store that is locked and open.
pub struct Session {
    _lock: StoreLock,
    disk: Arc<dyn Disk>,
    store: UnlockedStore,
}

impl From<Secret> for Unlock {
    fn from(secret: Secret) -> Unlock {
        match secret {
            Secret::Key(key) => Unlock::KeyFile(key),
            Secret::Passphrase(text) => Unlock::Passphrase(text),
        }
    }
}

impl Session {
    /// Locks the store, then opens it. Writes nothing but who has the lock,
    /// and that only once the secret has opened the store.
    ///
    /// # Errors
    /// Another process has it, or the secret does not open it.
    pub fn open(dir: &Path, secret: &Secret) -> Result<Session> {
        let lock = StoreLock::take(dir)?;
        let disk = disk(dir)?;
        let store = Store::open(disk.clone())?.unlock(&Unlock::from(secret.copy()))?;
        name_holder(&lock);
        Ok(Session {
            _lock: lock,
            disk,
            store,
        })
    }

    /// Version of the formats of the store.
    #[must_use]
    pub fn format_version(&self) -> u32 {
        self.store.store().format_version()
    }

    /// All volumes that can be read; the others are named on stderr.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn volumes(&self) -> Result<Vec<VolumeEntry>> {
        let entries = self.records()?.into_iter().map(|record| VolumeEntry {
            name: record.name.clone(),
            id: record.id.to_string(),
            policy: record.policy.to_string(),
            created: record.created.secs,
        });
        Ok(entries.collect())
    }

    fn records(&self) -> Result<Vec<VolumeRecord>> {
        let volumes = self.store.volumes()?;
        for error in &volumes.damaged {
            eprintln!("kiseki: {error}");
        }
        Ok(volumes.records)
    }

    /// Makes a volume that belongs to this user.
    ///
    /// # Errors
    /// The name cannot be or is taken.
    pub fn create_volume(&self, name: &str, policy: Policy) -> Result<()> {
        create::volume(&self.store, name, policy)
    }

    /// Destroys a volume, its keys first.
    ///
    /// # Errors
    /// There is none, or the disk fails.
    pub fn destroy_volume(&self, name: &str, progress: &mut dyn FnMut(u64, u64)) -> Result<()> {
        Ok(self.store.destroy_volume(name, progress)?)
    }

    /// Adds a passphrase. Another kind of secret is not taken.
    ///
    /// # Errors
    /// The keyring cannot be written.
    pub fn add_passphrase(&self, secret: Secret) -> Result<u32> {
        Ok(self.store.add_slot(&secret.into())?)
    }

    /// Gives a volume a new sealing key; returns its number.
    ///
    /// # Errors
    /// There is no such volume, or its record cannot be written.
    pub fn rotate(&self, volume: &str) -> Result<u32> {
        Ok(self.store.rotate(volume)?.0)
    }

    /// Opens the volume of a mount, with a journal in `memory`; whether there
    /// is one. A volume that is taken over needs it; another one goes without
    /// where the address space is too small.
    ///
    /// # Errors
    /// There is none of that name, or it is damaged.
    pub fn open_volume(
        &self,
        plan: &Plan,
        memory: OwnedFd,
        takes_over: bool,
    ) -> Result<(Volume, bool)> {
        pages::choose(plan.memory);
        let record = self.planned(plan)?;
        let journal = match Journal::open(memory, record.id, plan.memory / 4) {
            Ok(journal) => Some(journal),
            Err(error) if takes_over => return Err(error.into()),
            Err(error) => {
                tracing::warn!(%error, "no journal; this mount ends with its daemon");
                None
            }
        };
        let is_kept = journal.is_some();
        let options = VolumeOptions {
            journal,
            ..options_of(plan)
        };
        Ok((self.open_record(&record, options)?, is_kept))
    }

    /// Opens the volume of a process that nothing takes over.
    ///
    /// # Errors
    /// There is none of that name, or it is damaged.
    pub fn open_alone(&self, plan: &Plan) -> Result<Volume> {
        pages::choose(plan.memory);
        self.open_record(&self.planned(plan)?, options_of(plan))
    }

    fn planned(&self, plan: &Plan) -> Result<VolumeRecord> {
        self.store
            .volume(&plan.volume)
            .map_err(|error| match error {
                Error::NoSuchStore(text) => Failure::new(text.to_string())
                    .remedy(format!("`kiseki volume create {}` makes it", plan.volume)),
                other => other.into(),
            })
    }

    fn open_record(&self, record: &VolumeRecord, options: VolumeOptions) -> Result<Volume> {
        Ok(engine::open_volume(
            self.disk.clone(),
            Arc::new(SystemClock),
            &self.store,
            record,
            options,
        )?)
    }

    /// Runs `work` on a volume outside a mount and closes it.
    fn with_volume<T>(
        &self,
        record: &VolumeRecord,
        read_only: bool,
        work: impl AsyncFnOnce(&Volume) -> Result<T>,
    ) -> Result<T> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .attempt(|| "cannot start worker threads".into())?;
        runtime.block_on(async {
            let volume = self.open_record(record, offline(read_only))?;
            let result = work(&volume).await;
            let closed = volume.close().await.map_err(Failure::from);
            let result = result?;
            closed.map(|()| result)
        })
    }

    /// Totals of a volume that is not mounted. Changes nothing.
    ///
    /// # Errors
    /// There is none of that name, or it is damaged.
    pub fn status(&self, volume: &str) -> Result<Status> {
        let record = self.store.volume(volume)?;
        let found = self.with_volume(&record, true, async |volume| status(volume).await)?;
        // That it was opened without writing is our doing, not its state.
        Ok(Status {
            read_only: None,
            ..found
        })
    }

    /// Makes, lists or deletes keys of S3 of a volume that nothing serves.
    ///
    /// # Errors
    /// There is none of that name, or it is damaged.
    pub fn s3_key(&self, volume: &str, request: KeyRequest) -> Result<KeyAnswer> {
        let record = self.store.volume(volume)?;
        self.with_volume(&record, false, async |volume| {
            s3_keys::answer(volume, request).await
        })
    }

    /// Lists, adds or removes exports of a volume that nothing serves.
    ///
    /// # Errors
    /// There is none of that name, or it is damaged.
    pub fn export(&self, volume: &str, request: ExportRequest) -> Result<ExportAnswer> {
        let record = self.store.volume(volume)?;
        self.with_volume(&record, false, async |volume| {
            exports::answer(volume, request).await
        })
    }

    /// Collects the garbage of all volumes.
    ///
    /// # Errors
    /// A volume is damaged, or the disk fails.
    pub fn collect(&self, progress: &mut (dyn FnMut(u64, u64) + Send)) -> Result<Collection> {
        let mut sum = Collection::default();
        for record in self.records()? {
            let done = self.with_volume(&record, false, async |volume| {
                let (tell, mut told) = mpsc::channel(4);
                // Progress that nobody has taken yet is passed over.
                let tell = move |done, total| tell.try_send((done, total)).unwrap_or(());
                let collected = volume.collect(Box::new(tell));
                tokio::pin!(collected);
                loop {
                    tokio::select! {
                        collected = &mut collected => return Ok(collected?),
                        Some((done, total)) = told.recv() => progress(done, total),
                    }
                }
            })?;
            sum.chunks += done.chunks;
            sum.freed_bytes += done.freed_bytes;
            sum.copied_bytes += done.copied_bytes;
        }
        Ok(sum)
    }
}

/// Options of a volume as a plan has them.
fn options_of(plan: &Plan) -> VolumeOptions {
    VolumeOptions {
        memory: plan.memory,
        read_only: plan.read_only,
        atime: match plan.atime {
            Atime::Relative => AtimePolicy::Relative,
            Atime::Never => AtimePolicy::Never,
            Atime::Strict => AtimePolicy::Strict,
        },
        sync_delay: plan.sync_delay,
        ..VolumeOptions::default()
    }
}

/// Options of a volume that is opened for a look or for collection.
fn offline(read_only: bool) -> VolumeOptions {
    VolumeOptions {
        memory: plan::default_memory(),
        read_only,
        atime: AtimePolicy::Never,
        sync_delay: Duration::from_secs(1),
        ..VolumeOptions::default()
    }
}

/// Totals of an open volume. Where it lies and is mounted, the caller adds.
///
/// # Errors
/// The volume is closed.
pub async fn status(volume: &Volume) -> Result<Status> {
    let found = volume.status().await?;
    let stored = found.chunks.stored_bytes + found.usage.inline_bytes;
    Ok(Status {
        volume: found.name,
        logical_bytes: Some(found.usage.logical_bytes),
        stored_bytes: Some(stored),
        unique_chunks: Some(found.usage.chunks),
        dedup_ratio: Some(dedup_ratio(found.usage.logical_bytes, stored)),
        files: Some(found.usage.files),
        inodes: Some(found.usage.inodes),
        revision: Some(found.revision.0),
        durable_revision: Some(found.durable_revision.0),
        dirty_bytes: Some(found.dirty_bytes),
        read_only: found.read_only,
        ..Status::default()
    })
}
