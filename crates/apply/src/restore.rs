//! Another database takes the place of the one that a machine works on.

use std::path::Path;

use bytes::Bytes;
use etcdrs_backend::{Backend, Bucket};
use etcdrs_lease::Lessor;
use etcdrs_membership::Cluster;
use etcdrs_types::{LogIndex, Term};

use crate::alarm::Alarms;
use crate::error::{OpenError, ReplaceError};
use crate::machine::{META_INDEX, META_MEMBERSHIP, META_TERM, Machine, Options, Shared};

/// What a database says of its place in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    /// The newest entry whose effects the database holds: (index, term).
    pub applied: (LogIndex, Term),
    /// The raft membership that was last applied, as raft-glue encoded it.
    pub membership: Option<Bytes>,
}

impl Position {
    /// The position of an open database.
    ///
    /// # Errors
    ///
    /// [`OpenError`] if the rows cannot be read.
    pub fn of(backend: &Backend) -> Result<Self, OpenError> {
        let applied = (
            LogIndex(meta_u64(backend, META_INDEX, "consistent_index")?),
            Term(meta_u64(backend, META_TERM, "term")?),
        );
        Ok(Self { applied, membership: backend.get(Bucket::Meta, META_MEMBERSHIP)? })
    }

    /// The position of the database in `dir`, which nobody has open. It is opened for reading and
    /// closed again.
    ///
    /// # Errors
    ///
    /// [`OpenError`] if there is none, or none that can be read.
    pub fn read(dir: &Path) -> Result<Self, OpenError> {
        Self::of(&Backend::open_read_only(dir, &etcdrs_backend::Options::default())?)
    }

    /// [`Self::read`] of a database that somebody else made, which must be where it claims to be.
    ///
    /// # Errors
    ///
    /// As for [`Self::read`], and [`OpenError::Position`] if it is somewhere else.
    pub fn verify(dir: &Path, applied: (LogIndex, Term)) -> Result<Self, OpenError> {
        let position = Self::read(dir)?;
        if position.applied == applied {
            return Ok(position);
        }
        let (path, found) = (dir.to_owned(), position.applied);
        Err(OpenError::Position { path, found, claimed: applied })
    }
}

pub(crate) fn meta_u64(
    backend: &Backend,
    key: &[u8],
    name: &'static str,
) -> Result<u64, OpenError> {
    let Some(row) = backend.get(Bucket::Meta, key)? else { return Ok(0) };
    let bytes: [u8; 8] = row[..].try_into().map_err(|_| OpenError::Meta { name })?;
    Ok(u64::from_be_bytes(bytes))
}

/// Everything that a machine keeps in memory of a database, read from it: what
/// [`Machine::replace`] goes on with.
pub struct Loaded {
    pub(crate) position: Position,
    pub(crate) store: etcdrs_mvcc::Loaded,
    pub(crate) lessor: Lessor,
    pub(crate) cluster: Cluster,
    pub(crate) alarms: Alarms,
}

impl Loaded {
    /// Reads `backend` on the calling thread: 0.2 s for a million keys.
    ///
    /// # Errors
    ///
    /// [`OpenError`] names the part of the database that could not be read.
    pub fn open(backend: Backend, options: &Options) -> Result<Self, OpenError> {
        let position = Position::of(&backend)?;
        let mut lessor = Lessor::open(&backend, options.lease.clone())?;
        let cluster = Cluster::open(&backend)?;
        let alarms = Alarms::load(&backend)?;
        let mut store = etcdrs_mvcc::Loaded::open(backend)?;
        for (lease, key) in std::mem::take(&mut store.leased_keys) {
            if lessor.contains(lease) {
                lessor.attach(lease, &key);
            } else {
                tracing::warn!(%lease, "a key names a lease that does not exist");
            }
        }
        Ok(Self { position, store, lessor, cluster, alarms })
    }

    /// Where the database stands in the log.
    #[must_use]
    pub fn position(&self) -> &Position {
        &self.position
    }
}

/// What a machine worked on before. Freeing it takes a while: on a thread that may wait.
pub struct Retired {
    store: etcdrs_mvcc::Retired,
    lessor: Lessor,
}

impl Retired {
    /// Frees what was in memory, and hands out the old database. Its directory may be removed
    /// once [`Backend::close`] says so: reads that began before are still at work.
    #[must_use]
    pub fn into_backend(self) -> Backend {
        let Self { store, lessor } = self;
        drop(lessor);
        store.into_backend()
    }
}

impl Shared {
    /// Makes a copy of the database in `dir`, which must not exist, while everything goes on; tells
    /// where in the log the copy stands. To be called on a thread that may wait.
    ///
    /// # Errors
    ///
    /// [`OpenError`] if the copy cannot be made or read.
    pub fn checkpoint(&self, dir: &Path) -> Result<Position, OpenError> {
        self.backend().checkpoint(dir)?;
        Position::read(dir)
    }
}

impl Machine {
    /// Goes on with another database, which was read before on a thread that may wait; this takes
    /// microseconds, and about one more for every watcher. Every [`Shared`] stays valid and shows
    /// the new state; watchers get what they missed from its history.
    ///
    /// # Errors
    ///
    /// [`ReplaceError`] if the database stands before this machine in the log; nothing has changed
    /// then.
    pub fn replace(&mut self, loaded: Loaded) -> Result<Retired, ReplaceError> {
        let Loaded { position, store, lessor, cluster, alarms } = loaded;
        let (offered, current) = (position.applied.0, self.applied.0);
        if offered < current {
            return Err(ReplaceError::Behind { offered, current });
        }
        let store = self.store.replace(store)?;
        let lessor = self.shared.lessor.lock().replace(lessor);
        *self.shared.cluster.write() = cluster;
        *self.shared.alarms.write() = alarms;
        self.shared.hub.restore(self.shared.reader.clone());
        // Last: who waits for this index reads everything else afterwards.
        self.set_applied(position.applied);
        Ok(Retired { store, lessor })
    }

    /// How it was opened, for [`Loaded::open`].
    #[must_use]
    pub fn options(&self) -> &Options {
        &self.options
    }
}
