//! The Network Lock Manager, version 4 (RFC 1813, appendix II; X/Open XNFS): locks
//! for clients of version 3, in the table that other versions use.
//!
//! - [`xdr`]: what is said
//! - `procedures`: what is done
//! - `hosts`, `waiting`, `shares`: the machines that have locks, who waits for
//!   one, and share reservations; machines that neither wait nor know the time
//! - `granting`: calls clients that can have what they wait for
//! - `counted`: what is counted
//!
//! A client is known by its address and its name for itself; whose a lock is,
//! also by the number of the process and its name for the owner.

mod counted;
mod granting;
mod hosts;
mod procedures;
mod shares;
mod waiting;
// The names are those of the protocol, and mean what they mean there.
#[allow(missing_docs)]
pub mod xdr;

use std::{
    collections::HashSet,
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use kiseki_core::{
    Result,
    engine::{FrontId, Volume},
};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::{
    Nfs,
    durable::Folder,
    locks::{Host, Locks, Owner},
};
use crate::stats::Stats;
use counted::Procedure;
use hosts::{Admission, Hosts};
use shares::Shares;
use waiting::Waiting;

pub(super) use granting::grant;
pub(super) use procedures::call;

/// Number of the program.
pub const PROGRAM: u32 = 100_021;
/// Its version.
pub const VERSION: u32 = 4;

const HOSTS: &[u8] = b"hosts";

/// How often to look for machines that have no locks any more.
const LOOK: Duration = Duration::from_secs(10 * 60);

/// A machine, as it is kept.
#[derive(Serialize, Deserialize)]
struct Record {
    address: IpAddr,
    name: Vec<u8>,
    server: IpAddr,
}

/// What is kept between calls.
pub struct Service {
    hosts: Mutex<Hosts>,
    waiting: Mutex<Waiting>,
    shares: Mutex<Shares>,
    records: Folder<Record>,
    pub(super) stats: Arc<Stats<Procedure>>,
}

impl Service {
    /// Reads who had locks before.
    ///
    /// # Errors
    /// The volume is damaged, or takes no writes and has no place yet.
    pub async fn open(volume: &Volume, front: FrontId) -> Result<Service> {
        let records = Folder::open(volume, front, HOSTS).await?;
        let before = records.load().await?.into_iter().map(|record: Record| {
            let host = Host {
                address: record.address,
                name: record.name.into(),
            };
            (host, record.server)
        });
        Ok(Service {
            hosts: Mutex::new(Hosts::of_before(before, Instant::now())),
            waiting: Mutex::default(),
            shares: Mutex::default(),
            records,
            stats: Stats::new(),
        })
    }

    /// Those that may have had locks before this start, and the address that
    /// they know this server by.
    pub fn untold(&self) -> Vec<(Arc<Host>, IpAddr)> {
        self.hosts.lock().untold()
    }

    /// One was told that the server has started, or nobody is there who could be.
    pub fn told(&self, host: &Host) {
        self.hosts.lock().told(host);
    }

    /// Whether a machine may have locks, which calls `server`. One that is new is
    /// noted first, durably: it is never `New` to the caller.
    async fn admit(&self, host: &Arc<Host>, server: IpAddr, state: u32) -> Result<Admission> {
        let now = Instant::now();
        let admission = self.hosts.lock().admit(host, server, state, now);
        let Admission::New(host) = admission else {
            return Ok(admission);
        };
        let mut place = Place {
            hosts: &self.hosts,
            host: host.clone(),
            kept: false,
        };
        let record = Record {
            address: host.address,
            name: host.name.to_vec(),
            server,
        };
        self.records.keep(&key(&host), &record).await?;
        place.kept = true;
        Ok(Admission::Known(host))
    }

    /// Forgets machines, durably. If that fails, some of the records may be gone
    /// and others not: nobody is known then who may be off the record, and the
    /// next server tells some that had no locks.
    async fn forget(&self, hosts: Vec<Arc<Host>>) {
        if hosts.is_empty() {
            return;
        }
        let keys: Vec<Vec<u8>> = hosts.iter().map(|host| key(host)).collect();
        if let Err(error) = self.records.forget(keys).await {
            tracing::warn!(%error, "clients without locks may stay on record");
        }
        self.hosts.lock().gone(&hosts);
    }
}

/// The place of a machine whose record is being written. It is given back when
/// nothing comes of that, also when whoever waits for it goes away.
struct Place<'a> {
    hosts: &'a Mutex<Hosts>,
    host: Arc<Host>,
    kept: bool,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.hosts.lock().came(&self.host, self.kept);
    }
}

/// What tells a machine from others.
fn key(host: &Host) -> Vec<u8> {
    [host.address.to_string().as_bytes(), b" ", &host.name].concat()
}

impl Nfs {
    /// Lets go what machines at an address had before they started: those that
    /// this name may mean, which say so. See [`Hosts::started`].
    pub(super) fn host_started(&self, address: IpAddr, name: &[u8], state: Option<u32>) {
        // Held until all is gone: nobody starts once more meanwhile. This lock
        // comes before those that are taken below it.
        let mut hosts = self.nlm.hosts.lock();
        let started = hosts.started(address, name, state);
        // Anybody can say this, in any words: they are quoted.
        let name = String::from_utf8_lossy(name);
        if started.len() == 0 {
            tracing::debug!(%address, ?name, "a client that is not known has started");
            return;
        }
        self.release(|host| started.lost(host));
        tracing::info!(%address, ?name, known = started.len(), "a client has started again");
    }

    /// Lets go all that machines had which are gone, in one pass.
    fn release(&self, gone: impl Fn(&Arc<Host>) -> bool) {
        self.nlm.waiting.lock().release(&gone);
        self.nlm.shares.lock().release(&gone);
        let of_gone = |owner: &Owner| matches!(owner, Owner::Nlm { host, .. } if gone(host));
        self.locks.lock().release_all(of_gone);
    }

    fn hosts_with_locks(&self) -> HashSet<Arc<Host>> {
        busy(&self.nlm.waiting, &self.nlm.shares, &self.locks)
    }

    /// Forgets all machines that have no locks: nothing has to be given back to
    /// them by the next server. No more calls are taken.
    ///
    /// During the grace period all stay: who has not taken back his locks yet may
    /// do so from the next server.
    pub(super) async fn forget_hosts_without_locks(&self) {
        if self.v4.in_grace() {
            return;
        }
        let busy = self.hosts_with_locks();
        let idle = self.nlm.hosts.lock().without_locks(&busy);
        self.nlm.forget(idle).await;
    }
}

/// Machines that have locks, or may get some without asking again.
///
/// Who waits is looked at before the locks: whoever does not wait any more by
/// then has what he waited for, and is found there.
fn busy(
    waiting: &Mutex<Waiting>,
    shares: &Mutex<Shares>,
    locks: &Mutex<Locks>,
) -> HashSet<Arc<Host>> {
    let mut hosts: HashSet<_> = waiting.lock().hosts().cloned().collect();
    hosts.extend(shares.lock().hosts().cloned());
    for owner in locks.lock().owners() {
        if let Owner::Nlm { host, .. } = owner {
            hosts.insert(host.clone());
        }
    }
    hosts
}

/// Forgets machines that had no locks for long, for as long as the server runs.
pub(super) async fn tend(nfs: Arc<Nfs>) {
    loop {
        tokio::time::sleep(LOOK).await;
        let busy = nfs.hosts_with_locks();
        let idle = nfs.nlm.hosts.lock().idle(&busy, Instant::now());
        nfs.nlm.forget(idle).await;
    }
}

/// Hands bytes to the decoder of a procedure's arguments.
#[cfg(any(test, fuzzing))]
pub(super) fn decode(procedure: u32, bytes: &bytes::Bytes) {
    use super::xdr::checked;
    match Procedure::numbered(procedure % 24) {
        Some(Procedure::Test) => checked::<xdr::TestArgs>(bytes),
        Some(Procedure::Lock | Procedure::NmLock) => checked::<xdr::LockArgs>(bytes),
        Some(Procedure::Cancel) => checked::<xdr::CancelArgs>(bytes),
        Some(Procedure::Unlock) => checked::<xdr::UnlockArgs>(bytes),
        Some(Procedure::Share | Procedure::Unshare) => checked::<xdr::ShareArgs>(bytes),
        Some(Procedure::FreeAll) => checked::<xdr::Started>(bytes),
        Some(Procedure::Null) | None => checked::<xdr::TestReply>(bytes),
    }
}

#[cfg(test)]
mod tests {
    use kiseki_core::ids::Ino;

    use super::{waiting::Wanted, *};
    use crate::nfs::{locks::Range, xdr::Blob};

    #[test]
    fn who_only_waits_stays_on_record() {
        let (waiting, shares, locks) = (Mutex::default(), Mutex::default(), Mutex::default());
        assert!(busy(&waiting, &shares, &locks).is_empty());
        let (file, address) = (Ino(7), IpAddr::from([127, 0, 0, 1]));
        let host = |name: &[u8]| {
            let name = name.into();
            Arc::new(Host { address, name })
        };
        let [holder, waits] = [&b"holder"[..], b"waits"].map(|name| Owner::Nlm {
            host: host(name),
            process: 1,
            handle: Arc::from([]),
        });
        let held = locks.lock().lock(file, &holder, Range::ALL, true);
        assert_eq!(held, Ok(()));
        let wanted = Wanted {
            file,
            owner: waits,
            range: Range::ALL,
            exclusive: true,
            asked: xdr::Lock {
                host: Blob::default(),
                file: Blob::default(),
                owner: Blob::default(),
                process: 1,
                offset: 0,
                length: 0,
            },
            server: address,
        };
        waiting.lock().add(wanted, &locks.lock());
        let both = HashSet::from([host(b"holder"), host(b"waits")]);
        assert_eq!(busy(&waiting, &shares, &locks), both);
    }

    #[test]
    fn a_place_is_given_back() {
        let (hosts, now) = (Mutex::new(Hosts::default()), Instant::now());
        let server = IpAddr::from([127, 0, 0, 1]);
        let host = Arc::new(Host {
            address: server,
            name: b"host"[..].into(),
        });
        for kept in [false, true] {
            let admission = hosts.lock().admit(&host, server, 1, now);
            assert_eq!(admission, Admission::New(host.clone()));
            drop(Place {
                hosts: &hosts,
                host: host.clone(),
                kept,
            });
            assert_eq!(hosts.lock().knows(&host), kept);
        }
    }
}
