//! openraft's state machine on `apply`, and snapshots that exist in name only.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use etcdrs_apply::{self as apply, Machine, Outcome};
use etcdrs_backend::{Backend, Bucket};
use etcdrs_platform::failpoint::strikes;
use etcdrs_platform::{Clock, Fs, OsFs, fp};
use etcdrs_proto::raftpb;
use etcdrs_snap::{self as snap, DbDirs};
use etcdrs_types::{LogIndex, Term};
use etcdrs_wal as wal;
use futures_util::{Stream, StreamExt as _};
use openraft::storage::{EntryResponder, RaftStateMachine};
use openraft::{OptionalSend, RaftSnapshotBuilder};
use parking_lot::Mutex;
use prost::Message as _;
use tokio::sync::{mpsc, watch};

use crate::forwarded::Forwarded;
use crate::log_store::{Durable, LogStore};
use crate::propose::Committed;
use crate::runtime::Threads;
use crate::snapshots::{Meta, SnapshotData};
use crate::types::{
    Change, LogId, MembershipRecord, Payload, StoredMembership, TypeConfig, log_id, term_of,
};

/// Entries that one call into the machine takes, so that heartbeats and answers go out between
/// two slices of a long backlog.
const APPLY_SLICE: usize = 512;

type Snapshot = openraft::alias::SnapshotOf<TypeConfig, SnapshotData>;

/// How often it is looked whether an old database is still read.
const RETIRE_PAUSE: Duration = Duration::from_millis(200);

/// The newest snapshot that was built.
type Newest = Arc<Mutex<Meta>>;

pub(crate) struct StateMachine<F: Fs> {
    machine: Machine,
    membership: StoredMembership,
    durable: Arc<Durable>,
    newest: Newest,
    files: SnapshotFiles<F>,
    forwarded: Forwarded,
    applied: watch::Sender<u64>,
    /// Databases that were installed since the start.
    installs: watch::Sender<u64>,
    clock: Arc<dyn Clock>,
    warn_apply: Duration,
}

/// A value that cannot be made.
pub(crate) enum Never {}

/// What a snapshot writes beside the flush of the database.
#[derive(Clone)]
pub(crate) struct SnapshotFiles<F: Fs> {
    pub(crate) store: snap::Store<F>,
    /// How many files are kept; 0 keeps all.
    pub(crate) keep: usize,
    pub(crate) log: LogStore,
    /// Where databases lie.
    pub(crate) databases: DbDirs<OsFs>,
    /// Where the work is done.
    pub(crate) threads: Threads,
    /// Held while the database is; nothing is ever sent.
    pub(crate) in_use: mpsc::Sender<Never>,
}

impl<F: Fs> StateMachine<F> {
    pub(crate) fn new(
        machine: Machine,
        membership: StoredMembership,
        snapshot_at: LogId,
        files: SnapshotFiles<F>,
        forwarded: Forwarded,
        clock: Arc<dyn Clock>,
        warn_apply: Duration,
    ) -> Self {
        let (index, _) = machine.applied();
        // There is always one, if only the empty state at index 0: openraft would build one at
        // every start otherwise.
        let meta = Meta { last_log_id: Some(snapshot_at), last_membership: membership.clone() };
        Self {
            machine,
            membership,
            durable: files.log.durable(),
            newest: Arc::new(Mutex::new(meta)),
            files,
            forwarded,
            applied: watch::Sender::new(index.0),
            installs: watch::Sender::new(0),
            clock,
            warn_apply,
        }
    }

    /// Tells the applied index as it grows.
    pub(crate) fn applied(&self) -> watch::Receiver<u64> {
        self.applied.subscribe()
    }

    /// Counts the databases that were installed since the start.
    pub(crate) fn installs(&self) -> watch::Receiver<u64> {
        self.installs.subscribe()
    }

    fn apply_slice(&mut self, slice: &[apply::Entry]) -> Result<Vec<Outcome>, apply::ApplyError> {
        let begin = self.clock.now_ns();
        let outcomes = self.machine.apply(slice)?;
        let took = Duration::from_nanos(self.clock.now_ns() - begin);
        if took > self.warn_apply {
            let expected = self.warn_apply;
            tracing::warn!(?took, expected_duration = ?expected, entries = slice.len(), "apply request took too long");
        }
        Ok(outcomes)
    }

    /// Tells those who sent requests to the leader from here.
    fn tell_forwarded(&self, slice: &[apply::Entry], outcomes: &[Outcome]) {
        for (entry, outcome) in slice.iter().zip(outcomes) {
            if let apply::Payload::Request(request) = &entry.payload {
                self.forwarded.applied(request, || Committed {
                    index: entry.index,
                    term: entry.term,
                    outcome: outcome.clone(),
                });
            }
        }
    }

    fn applied_id(&self) -> LogId {
        let (index, term) = self.machine.applied();
        log_id(term.0, index.0)
    }
}

fn payload(entry: &crate::types::Entry) -> apply::Payload {
    match entry.payload.clone() {
        Payload::Blank => apply::Payload::Blank,
        Payload::Request(proposal) => apply::Payload::Request(proposal.0),
        Payload::Change(change) => {
            let Change { membership, request, forced } = *change;
            let record = MembershipRecord::of(&membership, Some(entry.log_id));
            let only = forced.then(|| record.members().collect());
            apply::Payload::Membership {
                record: record.encode_to_vec().into(),
                change: request,
                only,
            }
        }
    }
}

impl<F: Fs> RaftStateMachine<TypeConfig> for StateMachine<F> {
    type SnapshotData = SnapshotData;
    type SnapshotBuilder = Builder<F>;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        Ok((Some(self.applied_id()), self.membership.clone()))
    }

    async fn apply<Strm>(&mut self, mut entries: Strm) -> Result<(), io::Error>
    where
        Strm: Stream<Item = Result<EntryResponder<TypeConfig>, io::Error>> + Unpin + OptionalSend,
    {
        let mut slice = Vec::new();
        let mut responders = Vec::new();
        let mut more = true;
        while more {
            slice.clear();
            responders.clear();
            while slice.len() < APPLY_SLICE {
                let Some(item) = entries.next().await else {
                    more = false;
                    break;
                };
                let (entry, responder) = item?;
                if let Payload::Change(change) = &entry.payload {
                    let membership = change.membership.clone();
                    self.membership = StoredMembership::new(Some(entry.log_id), membership);
                }
                slice.push(apply::Entry {
                    index: LogIndex(entry.log_id.index),
                    term: Term(term_of(&entry.log_id)),
                    payload: payload(&entry),
                });
                responders.push(responder);
            }
            let Some(last) = slice.last() else { break };
            // openraft hands over what is committed, which may be only submitted here: the
            // database must never run ahead of this member's own log.
            self.durable.wait(last.index.0).await?;
            fp!("raft-before-apply", |_| Err(io::Error::other("failpoint")));
            let outcomes = self.apply_slice(&slice).map_err(io::Error::other)?;
            fp!("raft-after-apply");
            self.applied.send_replace(last.index.0);
            if self.forwarded.any() {
                self.tell_forwarded(&slice, &outcomes);
            }
            for (responder, outcome) in responders.drain(..).zip(outcomes) {
                if let Some(responder) = responder {
                    responder.send(outcome);
                }
            }
            if more {
                tokio::task::yield_now().await;
            }
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Builder<F> {
        Builder {
            backend: self.machine.shared().backend().clone(),
            at: self.applied_id(),
            membership: self.membership.clone(),
            newest: Arc::clone(&self.newest),
            files: self.files.clone(),
        }
    }

    async fn install_snapshot(&mut self, meta: &Meta, data: SnapshotData) -> Result<(), io::Error> {
        match data {
            // Its place was told when it was made.
            SnapshotData::Own => Ok(()),
            SnapshotData::Received(dir) => self.go_on_with(meta, dir).await,
        }
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot>, io::Error> {
        Ok(Some(Snapshot { meta: self.newest.lock().clone(), snapshot: SnapshotData::Own }))
    }
}

/// Makes the database durable up to `at` and says so: flush, `.snap` file, mark in the log.
pub(crate) struct Builder<F: Fs> {
    backend: Backend,
    at: LogId,
    membership: StoredMembership,
    newest: Newest,
    files: SnapshotFiles<F>,
}

impl<F: Fs> RaftSnapshotBuilder<TypeConfig> for Builder<F> {
    type SnapshotData = SnapshotData;

    async fn build_snapshot(&mut self) -> Result<Snapshot, io::Error> {
        let file = snapshot_file(self.at, &self.membership);
        let mark = mark_of(&file);
        let (backend, store, keep) =
            (self.backend.clone(), self.files.store.clone(), self.files.keep);
        let in_use = self.files.in_use.clone();
        // What was applied before the flush began is durable after it.
        let durable = self.files.threads.run(move || {
            // Dropped in reverse: the database goes before the word that it is in use.
            let (_held, backend) = (in_use, backend);
            fp!("raft-before-flush", |_| Err(io::Error::other("failpoint")));
            backend.flush().map_err(io::Error::other)?;
            store.save(&file).map_err(io::Error::other)?;
            fp!("raft-after-save-snap");
            store.purge(keep).map_err(io::Error::other)
        });
        durable.await??;
        let meta = Meta { last_log_id: Some(self.at), last_membership: self.membership.clone() };
        // A database that was installed meanwhile is newer, and its mark stands already.
        if self.newest.lock().last_log_id <= meta.last_log_id {
            fp!("raft-before-save-mark");
            self.files.log.mark_snapshot(mark).await?;
            fp!("raft-after-save-mark");
            let mut newest = self.newest.lock();
            if newest.last_log_id <= meta.last_log_id {
                *newest = meta;
            }
        }
        let meta = self.newest.lock().clone();
        Ok(Snapshot { meta, snapshot: SnapshotData::Own })
    }
}

/// What a `.snap` file says of a snapshot.
fn snapshot_file(at: LogId, membership: &StoredMembership) -> snap::Snapshot {
    let record = MembershipRecord::of(membership.membership(), *membership.log_id());
    let conf_state = raftpb::ConfState {
        voters: record.voters().collect(),
        learners: record.learners().collect(),
        ..raftpb::ConfState::default()
    };
    let (index, term) = (LogIndex(at.index), Term(term_of(&at)));
    snap::Snapshot { index, term, conf_state, ..Default::default() }
}

fn mark_of(file: &snap::Snapshot) -> wal::SnapshotMark {
    let conf_state = Some(file.conf_state.clone());
    wal::SnapshotMark { index: file.index, term: file.term, conf_state }
}

impl<F: Fs> StateMachine<F> {
    /// Installs a database that was received, verified and kept in `dir`: `.snap` file, mark in
    /// the log, pointer, memory. A crash on the way leaves the old state, or from the mark on
    /// what [`crate::live_database`] completes.
    async fn go_on_with(&mut self, meta: &Meta, dir: PathBuf) -> Result<(), io::Error> {
        fp!("raft-before-apply-snap");
        let at = meta.last_log_id.ok_or_else(|| io::Error::other("a snapshot of nothing"))?;
        let file = snapshot_file(at, &meta.last_membership);
        let mark = mark_of(&file);
        let (store, keep) = (self.files.store.clone(), self.files.keep);
        let current = self.machine.shared().backend();
        let options = self.machine.options().clone();
        let saved_and_loaded = self.files.threads.run(move || {
            fp!("raft-before-open-snap");
            let backend = current.open_beside(&dir).map_err(io::Error::other)?;
            if strikes("planted-forgotten-key", 0) {
                forget_a_key(&backend).map_err(io::Error::other)?;
            }
            // The builder of an old snapshot, and whoever reads, hold it on.
            drop(current);
            let loaded = apply::Loaded::open(backend, &options).map_err(io::Error::other)?;
            fp!("raft-after-open-snap");
            store.save(&file).and_then(|()| store.purge(keep)).map_err(io::Error::other)?;
            Ok::<_, io::Error>(loaded)
        });
        let loaded = saved_and_loaded.await??;
        fp!("raft-before-snapshot-mark");
        self.files.log.mark_received(mark).await?;
        fp!("raft-after-snapshot-mark");
        let databases = self.files.databases.clone();
        let index = LogIndex(at.index);
        let switched = self.files.threads.run(move || databases.switch_to(index)).await?;
        switched.map_err(io::Error::other)?;
        fp!("raft-before-replace");
        let retired = self.machine.replace(loaded).map_err(io::Error::other)?;
        self.membership = meta.last_membership.clone();
        *self.newest.lock() = meta.clone();
        self.applied.send_replace(at.index);
        self.forwarded.overtaken();
        self.installs.send_modify(|installs| *installs += 1);
        let SnapshotFiles { databases, threads, in_use, .. } = self.files.clone();
        tokio::spawn(retire(retired, databases, threads, in_use));
        fp!("raft-after-apply-snap");
        Ok(())
    }
}

/// A planted fault: the last key is lost.
fn forget_a_key(backend: &Backend) -> Result<(), etcdrs_backend::Error> {
    let mut batch = backend.batch();
    if let Some((row, _)) = backend.last(Bucket::Index)? {
        batch.delete(Bucket::Index, &row);
    }
    backend.write(batch)
}

/// Removes the old database once nobody reads it any more.
async fn retire(
    retired: apply::Retired,
    databases: DbDirs<OsFs>,
    threads: Threads,
    in_use: mpsc::Sender<Never>,
) {
    let freed = threads.run(move || retired.into_backend()).await;
    // The pool ends only with the process; the next start removes the files then.
    let Ok(mut backend) = freed else { return };
    loop {
        let databases = databases.clone();
        let closed = threads.run(move || {
            let path = backend.close()?;
            if let Err(error) = databases.remove(&path) {
                tracing::warn!(%error, "could not remove the old database");
            }
            Ok(())
        });
        match closed.await {
            Ok(Err(still_read)) if !in_use.is_closed() => backend = still_read,
            _ => return,
        }
        tokio::time::sleep(RETIRE_PAUSE).await;
    }
}
