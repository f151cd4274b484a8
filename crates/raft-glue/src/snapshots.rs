//! The database on its way to a peer that lags, and from a leader.
//!
//! A snapshot for openraft exists in name only: the database is always one. What is sent is a
//! checkpoint made at that moment, which tells itself where in the log it stands.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use etcdrs_apply as apply;
use etcdrs_platform::{Clock, Fs, OsFs, fp};
use etcdrs_snap::{DbDirs, IncomingDb, OutgoingDb, ReceivedDb};
use etcdrs_types::{LogIndex, MemberId, Term};
use etcdrs_wal as wal;
use futures_util::StreamExt as _;
use openraft::{Raft, SnapshotMeta};
use prost::Message as _;
use tokio::sync::{Mutex, mpsc, oneshot};

use crate::peers::{Chunks, SnapshotHead, SnapshotRefused, SnapshotTaken};
use crate::runtime::Threads;
use crate::state_machine::StateMachine;
use crate::types::{MembershipRecord, TypeConfig, Vote, log_id};

/// The data of a snapshot as openraft hands it around.
pub(crate) enum SnapshotData {
    /// The member's own database.
    Own,
    /// A database of the leader that was received and kept in this directory.
    Received(PathBuf),
}

type Snapshot = openraft::alias::SnapshotOf<TypeConfig, SnapshotData>;

pub(crate) type Meta = SnapshotMeta<
    <crate::types::LeaderId as openraft::vote::RaftLeaderId>::Committed,
    u64,
    openraft::EmptyNode,
>;

/// Opens databases for sending. Cloneable.
#[derive(Clone)]
pub(crate) struct Outgoing {
    shared: apply::Shared,
    dirs: DbDirs<OsFs>,
    threads: Threads,
    sends: Sends,
}

/// Databases on their way, and whether the log has to wait for them (storage-and-raft.md §2.4): a
/// member that installs one goes on with the entries behind it, and would need the next database
/// if they were gone by then. Cloneable.
#[derive(Clone)]
pub(crate) struct Sends(Arc<SendsInner>);

struct SendsInner {
    clock: Arc<dyn Clock>,
    hold: Duration,
    under_way: AtomicUsize,
    /// Milliseconds: until then the log waits for the last one.
    held_until: AtomicU64,
}

/// A database on its way.
pub(crate) struct Sending(Sends);

impl Sends {
    pub(crate) fn new(clock: Arc<dyn Clock>, hold: Duration) -> Self {
        let (under_way, held_until) = (AtomicUsize::new(0), AtomicU64::new(0));
        Self(Arc::new(SendsInner { clock, hold, under_way, held_until }))
    }

    /// Whether the log is to be left as it is.
    pub(crate) fn hold_log(&self) -> bool {
        let Self(inner) = self;
        !inner.hold.is_zero()
            && (inner.under_way.load(Ordering::Relaxed) > 0
                || inner.clock.now().0 < inner.held_until.load(Ordering::Relaxed))
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        let Sends(inner) = &self.0;
        // First the time, so that there is no moment without either.
        let until = inner.clock.now() + inner.hold;
        inner.held_until.store(until.0, Ordering::Relaxed);
        inner.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Outgoing {
    pub(crate) fn new(
        shared: apply::Shared,
        dirs: DbDirs<OsFs>,
        threads: Threads,
        sends: Sends,
    ) -> Self {
        Self { shared, dirs, threads, sends }
    }

    /// To be held from before the checkpoint until the peer has the database.
    pub(crate) fn begin(&self) -> Sending {
        self.sends.0.under_way.fetch_add(1, Ordering::Relaxed);
        Sending(self.sends.clone())
    }

    /// Makes a checkpoint, and begins to read it.
    pub(crate) async fn open(&self, vote: &Vote) -> io::Result<(Bytes, Chunks)> {
        let this = self.clone();
        let (position, database) = self.threads.run(move || this.checkpoint()).await??;
        let (LogIndex(index), Term(term)) = position.applied;
        let membership = position.membership.unwrap_or_default();
        let head = SnapshotHead::new(vote, log_id(term, index), membership);
        Ok((head.encode_to_vec().into(), read(database, self.threads.clone())))
    }

    fn checkpoint(&self) -> io::Result<(apply::Position, Arc<OutgoingDb<OsFs>>)> {
        fp!("raft-before-send-snap", |_| Err(io::Error::other("failpoint")));
        let dir = self.dirs.sending_dir();
        let position = self.shared.checkpoint(&dir).map_err(io::Error::other)?;
        let (index, term) = position.applied;
        let database = OutgoingDb::open(&self.dirs, dir, index, term).map_err(io::Error::other)?;
        tracing::info!(
            snapshot_index = index.0,
            bytes = database.stream_bytes(),
            "sending database snapshot"
        );
        Ok((position, Arc::new(database)))
    }
}

/// Reads a database on the pool, one chunk ahead of the network.
fn read(database: Arc<OutgoingDb<OsFs>>, threads: Threads) -> Chunks {
    let chunks = futures_util::stream::try_unfold(database.reader(), move |mut reader| {
        let threads = threads.clone();
        async move {
            fp!("raft-before-send-chunk");
            let read = threads.run(move || reader.next_chunk().map(|chunk| (chunk, reader)));
            let (chunk, reader) = read.await?.map_err(io::Error::other)?;
            Ok(chunk.map(|chunk| (chunk, reader)))
        }
    });
    chunks.boxed()
}

/// Where the database in use lies, after what a crash interrupted was completed or undone: a
/// database that was received counts from the moment the log has a mark for it. To be called
/// before the database is opened.
///
/// # Errors
///
/// A text that names what cannot be read or written.
pub fn live_database<F: Fs>(
    fs: &F,
    wal_dir: &Path,
    databases: &DbDirs<OsFs>,
) -> Result<PathBuf, DatabaseError> {
    databases.remove_partial()?;
    if databases.has_received()? && wal::Wal::exists(fs, wal_dir)? {
        let start = wal::StartAt::NewestAtOrBelow(LogIndex(u64::MAX));
        let mark = wal::read_only(fs, wal_dir, &start)?.base;
        if let Some(received) = databases.received(mark.index)?
            && received != databases.live()?
        {
            databases.switch_to(mark.index)?;
        }
        for removed in databases.remove_stale()? {
            tracing::info!(path = %removed.display(), "removed a database that is not in use");
        }
    }
    Ok(databases.live()?)
}

/// Why it is not known which database is in use.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// The databases' directory.
    #[error(transparent)]
    Dirs(#[from] etcdrs_snap::DbError),
    /// The log, which has the last word.
    #[error("read the log")]
    Log(#[from] wal::OpenError),
    /// The log's directory.
    #[error("look into the log's directory")]
    Io(#[from] io::Error),
}

/// A database that arrived, for the task that talks to raft.
pub(crate) struct Arrived {
    pub(crate) vote: Vote,
    pub(crate) meta: Meta,
    pub(crate) dir: PathBuf,
    pub(crate) done: oneshot::Sender<Result<Vote, String>>,
}

/// Receives databases, one at a time. Cloneable.
#[derive(Clone)]
pub(crate) struct Incoming {
    dirs: DbDirs<OsFs>,
    threads: Threads,
    arrived: mpsc::Sender<Arrived>,
    /// Held while one is received: two would fight for the disk, and only one can be of use.
    one: Arc<Mutex<()>>,
}

fn failed(error: impl ToString) -> SnapshotRefused {
    SnapshotRefused::Failed(error.to_string())
}

impl Incoming {
    pub(crate) fn new(dirs: DbDirs<OsFs>, threads: Threads) -> (Self, mpsc::Receiver<Arrived>) {
        let (arrived, receiver) = mpsc::channel(1);
        (Self { dirs, threads, arrived, one: Arc::default() }, receiver)
    }

    pub(crate) async fn receive(
        &self,
        from: MemberId,
        head: SnapshotHead,
        chunks: Chunks,
    ) -> Result<Bytes, SnapshotRefused> {
        let Ok(_one) = self.one.try_lock() else {
            return Err(failed("another snapshot is being received"));
        };
        let last = head.last();
        let record = MembershipRecord::decode(head.membership.clone()).map_err(failed)?;
        let meta =
            Meta { last_log_id: Some(last), last_membership: record.stored().map_err(failed)? };
        tracing::info!(%from, snapshot_index = last.index, "receiving database snapshot");
        fp!("raft-before-receive-snap", |_| Err(failed("failpoint")));
        let received = self.write(chunks).await?;
        let applied = (LogIndex(last.index), Term(crate::types::term_of(&last)));
        let dir = self.threads.run(move || keep(received, applied)).await.map_err(failed)??;
        let (done, installed) = oneshot::channel();
        let arrived = Arrived { vote: head.vote(), meta, dir, done };
        self.arrived.send(arrived).await.map_err(|_| failed("stopped"))?;
        let vote = installed.await.map_err(|_| failed("stopped"))?.map_err(failed)?;
        tracing::info!(%from, snapshot_index = last.index, "installed database snapshot");
        Ok(SnapshotTaken::new(&vote).encode_to_vec().into())
    }

    /// Writes what comes, on the pool.
    async fn write(&self, mut chunks: Chunks) -> Result<ReceivedDb<OsFs>, SnapshotRefused> {
        let mut database = IncomingDb::new(self.dirs.clone());
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.map_err(failed)?;
            fp!("raft-receive-chunk", |_| Err(failed("failpoint")));
            let written = self.threads.run(move || database.write(&chunk).map(|()| database));
            database = written.await.map_err(failed)?.map_err(failed)?;
        }
        let finished = self.threads.run(move || database.finish()).await;
        finished.map_err(failed)?.map_err(failed)
    }
}

/// Looks into a database that arrived, and gives it its place beside the one in use.
fn keep<F: Fs>(
    received: ReceivedDb<F>,
    applied: (LogIndex, Term),
) -> Result<PathBuf, SnapshotRefused> {
    apply::Position::verify(received.dir(), applied).map_err(failed)?;
    fp!("raft-before-keep-snap", |_| Err(failed("failpoint")));
    let dir = received.keep().map_err(failed)?;
    fp!("raft-after-keep-snap");
    Ok(dir)
}

/// Hands databases that arrived to raft until the queue ends.
pub(crate) async fn install<F: Fs>(
    raft: Raft<TypeConfig, StateMachine<F>>,
    databases: DbDirs<OsFs>,
    threads: Threads,
    mut arrived: mpsc::Receiver<Arrived>,
) {
    while let Some(Arrived { vote, meta, dir, done }) = arrived.recv().await {
        let snapshot = Snapshot { meta, snapshot: SnapshotData::Received(dir.clone()) };
        let result = raft.install_full_snapshot(vote, snapshot).await;
        // Refused, or not needed any more: then nobody else removes it before the next start. When
        // raft failed the log may have a mark for it already, and the next start completes that.
        if result.is_ok() {
            let databases = databases.clone();
            let removed = threads.run(move || match databases.remove(&dir) {
                Ok(()) | Err(etcdrs_snap::DbError::Live { .. }) => {}
                Err(error) => tracing::warn!(%error, "could not remove a received database"),
            });
            // The pool ends only with the process.
            let _ = removed.await;
        }
        let result = result.map(|response| response.vote).map_err(|error| error.to_string());
        // The sender may have gone away.
        let _ = done.send(result);
    }
}
