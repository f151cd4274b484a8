//! openraft's state machine on `apply`, and snapshots that exist in name only.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use etcdrs_apply::{self as apply, Machine, Outcome};
use etcdrs_backend::Backend;
use etcdrs_platform::{Clock as _, Fs, SystemClock};
use etcdrs_proto::raftpb;
use etcdrs_snap as snap;
use etcdrs_types::{LogIndex, Term};
use etcdrs_wal as wal;
use futures_util::{Stream, StreamExt as _};
use openraft::storage::{EntryResponder, RaftStateMachine};
use openraft::{EntryPayload, OptionalSend, RaftSnapshotBuilder, SnapshotMeta};
use parking_lot::Mutex;
use prost::Message as _;
use tokio::sync::{mpsc, watch};

use crate::log_store::{Durable, LogStore};
use crate::types::{LogId, MembershipRecord, StoredMembership, TypeConfig, log_id, term_of};

/// Entries that one call into the machine takes, so that heartbeats and answers go out between
/// two slices of a long backlog.
const APPLY_SLICE: usize = 512;

/// A snapshot without bytes: the database itself is the snapshot, and only its place in the log
/// is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct VirtualSnapshot;

type Meta = SnapshotMeta<
    <crate::types::LeaderId as openraft::vote::RaftLeaderId>::Committed,
    u64,
    openraft::EmptyNode,
>;
type Snapshot = openraft::alias::SnapshotOf<TypeConfig, VirtualSnapshot>;

/// The newest snapshot that was built.
type Newest = Arc<Mutex<Meta>>;

pub(crate) struct StateMachine<F: Fs> {
    machine: Machine,
    membership: StoredMembership,
    durable: Arc<Durable>,
    newest: Newest,
    files: SnapshotFiles<F>,
    applied: watch::Sender<u64>,
    clock: SystemClock,
    warn_apply: Duration,
    /// Held while the database is; nothing is ever sent.
    in_use: mpsc::Sender<Never>,
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
}

impl<F: Fs> StateMachine<F> {
    pub(crate) fn new(
        machine: Machine,
        membership: StoredMembership,
        snapshot_at: LogId,
        files: SnapshotFiles<F>,
        warn_apply: Duration,
        in_use: mpsc::Sender<Never>,
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
            applied: watch::Sender::new(index.0),
            clock: SystemClock::new(),
            warn_apply,
            in_use,
        }
    }

    /// Tells the applied index as it grows.
    pub(crate) fn applied(&self) -> watch::Receiver<u64> {
        self.applied.subscribe()
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

    fn applied_id(&self) -> LogId {
        let (index, term) = self.machine.applied();
        log_id(term.0, index.0)
    }
}

fn payload(entry: &crate::types::Entry) -> apply::Payload {
    match entry.payload.clone() {
        EntryPayload::Blank => apply::Payload::Blank,
        EntryPayload::Normal(proposal) => apply::Payload::Request(proposal.0),
        EntryPayload::Membership(membership) => {
            let record = MembershipRecord::of(&membership, Some(entry.log_id)).encode_to_vec();
            apply::Payload::Membership(record.into())
        }
    }
}

impl<F: Fs> RaftStateMachine<TypeConfig> for StateMachine<F> {
    type SnapshotData = VirtualSnapshot;
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
                if let EntryPayload::Membership(membership) = &entry.payload {
                    self.membership = StoredMembership::new(Some(entry.log_id), membership.clone());
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
            let outcomes = self.apply_slice(&slice).map_err(io::Error::other)?;
            self.applied.send_replace(last.index.0);
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
            in_use: self.in_use.clone(),
        }
    }

    async fn install_snapshot(
        &mut self,
        _meta: &Meta,
        _snapshot: VirtualSnapshot,
    ) -> Result<(), io::Error> {
        Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "a database received from a peer cannot be installed: this build has no peer transport",
        ))
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot>, io::Error> {
        Ok(Some(Snapshot { meta: self.newest.lock().clone(), snapshot: VirtualSnapshot }))
    }
}

/// Makes the database durable up to `at` and says so: flush, `.snap` file, mark in the log.
pub(crate) struct Builder<F: Fs> {
    backend: Backend,
    at: LogId,
    membership: StoredMembership,
    newest: Newest,
    files: SnapshotFiles<F>,
    in_use: mpsc::Sender<Never>,
}

impl<F: Fs> RaftSnapshotBuilder<TypeConfig> for Builder<F> {
    type SnapshotData = VirtualSnapshot;

    async fn build_snapshot(&mut self) -> Result<Snapshot, io::Error> {
        let record = MembershipRecord::of(self.membership.membership(), *self.membership.log_id());
        let conf_state = raftpb::ConfState {
            voters: record.voters().collect(),
            learners: record.learners().collect(),
            ..raftpb::ConfState::default()
        };
        let (index, term) = (LogIndex(self.at.index), Term(term_of(&self.at)));
        let file =
            snap::Snapshot { index, term, conf_state: conf_state.clone(), ..Default::default() };
        let (backend, store, keep) =
            (self.backend.clone(), self.files.store.clone(), self.files.keep);
        let in_use = self.in_use.clone();
        // What was applied before the flush began is durable after it.
        let durable = tokio::task::spawn_blocking(move || {
            // Dropped in reverse: the database goes before the word that it is in use.
            let (_held, backend) = (in_use, backend);
            backend.flush().map_err(io::Error::other)?;
            store.save(&file).and_then(|()| store.purge(keep)).map_err(io::Error::other)
        });
        durable.await.map_err(io::Error::other)??;
        let mark = wal::SnapshotMark { index, term, conf_state: Some(conf_state) };
        self.files.log.mark_snapshot(mark).await?;
        let meta = Meta { last_log_id: Some(self.at), last_membership: self.membership.clone() };
        *self.newest.lock() = meta.clone();
        Ok(Snapshot { meta, snapshot: VirtualSnapshot })
    }
}
