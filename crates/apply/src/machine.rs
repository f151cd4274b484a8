//! The machine: takes committed entries in order, in batches.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use etcdrs_backend::{Backend, Bucket};
use etcdrs_lease::Lessor;
use etcdrs_membership::{Change, ChangeRequest, Cluster};
use etcdrs_mvcc::watch::Hub;
use etcdrs_mvcc::{CompactError, Reader, Store, WriteBatch};
use etcdrs_platform::failpoint::strikes;
use etcdrs_platform::fp;
use etcdrs_proto::etcdserverpb as pb;
use etcdrs_types::{LeaseId, LogIndex, MemberId, Term};
use parking_lot::{Mutex, RwLock};
use prost::Message as _;

use crate::alarm::{Alarm, AlarmKind, Alarms};
use crate::error::{ApplyError, OpenError, Refusal};
use crate::kv;
use crate::lease;
use crate::outcome::{Answer, Outcome};
use crate::restore::{Loaded, Position, meta_u64};
use crate::txn;

pub(crate) const META_INDEX: &[u8] = b"consistent_index";
pub(crate) const META_TERM: &[u8] = b"term";
pub(crate) const META_MEMBERSHIP: &[u8] = b"raftMembership";

/// How to open a machine.
#[derive(Clone, Debug)]
pub struct Options {
    /// The key-value store's options.
    pub store: etcdrs_mvcc::Options,
    /// The lessor's options.
    pub lease: etcdrs_lease::Options,
    /// The watch hub's options.
    pub watch: etcdrs_mvcc::watch::HubOptions,
}

/// A committed entry.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its place in the log.
    pub index: LogIndex,
    /// The term it was proposed in.
    pub term: Term,
    /// What it holds.
    pub payload: Payload,
}

/// What a committed entry holds.
#[derive(Clone, Debug)]
pub enum Payload {
    /// Nothing: the first entry of a term.
    Blank,
    /// An encoded `InternalRaftRequest`.
    Request(Bytes),
    /// A new raft membership.
    Membership {
        /// As raft-glue encodes it; kept.
        record: Bytes,
        /// What it does to the members' records: an encoded
        /// [`ChangeRequest`](etcdrs_membership::ChangeRequest), or nothing.
        change: Bytes,
        /// If an operator forced it: the only members from now on.
        only: Option<Vec<MemberId>>,
    },
}

/// What others may see of a machine while it runs.
#[derive(Clone)]
pub struct Shared {
    /// Reads the key-value store.
    pub reader: Reader,
    /// Delivers events.
    pub hub: Hub,
    /// The leases. Replicated state changes in [`Machine::apply`] alone; the leader's clocks are
    /// whoever leads'.
    pub lessor: Arc<Mutex<Lessor>>,
    /// The member records. Changed by [`Machine::apply`] alone.
    pub cluster: Arc<RwLock<Cluster>>,
    pub(crate) alarms: Arc<RwLock<Alarms>>,
    applied: Arc<AtomicU64>,
}

impl Shared {
    /// The index of the newest applied entry.
    #[must_use]
    pub fn applied_index(&self) -> LogIndex {
        LogIndex(self.applied.load(Ordering::Acquire))
    }

    /// The raised alarms, sorted.
    #[must_use]
    pub fn alarms(&self) -> Vec<Alarm> {
        self.alarms.read().list()
    }

    /// The database below, as it is now; a handle that outlives [`Machine::replace`] keeps the
    /// old one open.
    #[must_use]
    pub fn backend(&self) -> Backend {
        self.reader.backend()
    }
}

/// A machine and what its database says of the log.
pub struct Opened {
    /// The machine.
    pub machine: Machine,
    /// The raft membership that was last applied, as raft-glue encoded it.
    pub membership: Option<Bytes>,
}

/// The deterministic state machine.
pub struct Machine {
    pub(crate) shared: Shared,
    pub(crate) store: Store,
    pub(crate) applied: (LogIndex, Term),
    pub(crate) options: Options,
}

impl Machine {
    /// Opens the machine on `backend`, rebuilding what lives in memory.
    ///
    /// # Errors
    ///
    /// [`OpenError`] names the part of the database that could not be read.
    pub fn open(backend: Backend, options: Options) -> Result<Opened, OpenError> {
        let Loaded { position, store, lessor, cluster, alarms } = Loaded::open(backend, &options)?;
        let Position { mut applied, membership } = position;
        if strikes("planted-doubled-apply", 0) && applied.0.0 > 50 {
            applied.0.0 -= 3;
        }
        let store = Store::with(store, &options.store);
        let reader = store.reader();
        let shared = Shared {
            hub: Hub::new(reader.clone(), options.watch.clone()),
            reader,
            lessor: Arc::new(Mutex::new(lessor)),
            cluster: Arc::new(RwLock::new(cluster)),
            alarms: Arc::new(RwLock::new(alarms)),
            applied: Arc::new(AtomicU64::new(applied.0.0)),
        };
        Ok(Opened { machine: Self { shared, store, applied, options }, membership })
    }

    /// The newest entry that a database holds, without opening a machine on it.
    ///
    /// # Errors
    ///
    /// [`OpenError`] if the row cannot be read.
    pub fn applied_in(backend: &Backend) -> Result<LogIndex, OpenError> {
        meta_u64(backend, META_INDEX, "consistent_index").map(LogIndex)
    }

    /// What others may see.
    #[must_use]
    pub fn shared(&self) -> Shared {
        self.shared.clone()
    }

    /// The newest entry whose effects the database holds: (index, term).
    #[must_use]
    pub const fn applied(&self) -> (LogIndex, Term) {
        self.applied
    }

    /// Writes the membership that a fresh member starts with, at index 0.
    ///
    /// # Errors
    ///
    /// [`ApplyError::Write`] if the batch could not be written.
    pub fn seed_membership(&mut self, membership: &[u8]) -> Result<(), ApplyError> {
        let backend = self.shared.backend();
        let mut batch = backend.batch();
        batch.put(Bucket::Meta, META_MEMBERSHIP, membership);
        backend.write(batch)?;
        Ok(backend.flush()?)
    }

    /// Applies `entries`, each fully before the next, as one atomic write; then publishes the new
    /// state to readers and the events to watchers. One outcome for each entry, in order.
    ///
    /// # Errors
    ///
    /// Any [`ApplyError`] is final: the member has to stop.
    pub fn apply(&mut self, entries: &[Entry]) -> Result<Vec<Outcome>, ApplyError> {
        let Some(last) = entries.last() else { return Ok(Vec::new()) };
        let mut outcomes = Vec::with_capacity(entries.len());
        let mut applied = self.applied;
        let mut batch = self.store.begin();
        let mut compacted = None;
        {
            let mut lessor = self.shared.lessor.lock();
            for entry in entries {
                if entry.index.0 != applied.0.0 + 1 {
                    return Err(ApplyError::Order { got: entry.index, applied: applied.0 });
                }
                applied = (entry.index, entry.term);
                let mut step =
                    Step { batch: &mut batch, lessor: &mut lessor, shared: &self.shared, entry };
                let result = step.run(&mut compacted)?;
                outcomes.push(Outcome { revision: batch.revision(), result });
            }
        }
        let rows = batch.backend_batch();
        rows.put(Bucket::Meta, META_INDEX, &last.index.0.to_be_bytes());
        rows.put(Bucket::Meta, META_TERM, &last.term.0.to_be_bytes());
        fp!("apply-before-commit");
        let committed = batch.commit()?;
        fp!("apply-after-commit");
        self.shared.hub.publish(&committed.blocks);
        if let Some(revision) = compacted {
            self.shared.hub.compacted(revision);
        }
        self.set_applied(applied);
        Ok(outcomes)
    }

    pub(crate) fn set_applied(&mut self, applied: (LogIndex, Term)) {
        self.applied = applied;
        self.shared.applied.store(applied.0.0, Ordering::Release);
    }
}

/// A request of the kinds that come by the ten thousand, decoded without the wrapper: an
/// `InternalRaftRequest` has room for every kind, which costs more to move than these to decode.
enum Hot {
    Put(pb::PutRequest),
    Txn(pb::TxnRequest),
}

impl Hot {
    /// Tags of the fields `put` and `txn`.
    const PUT: u8 = 4 << 3 | 2;
    const TXN: u8 = 6 << 3 | 2;

    /// `None` unless `bytes` is one such field and nothing else; whatever is odd about it is left
    /// to the decoder of the wrapper.
    fn decode(bytes: &Bytes) -> Option<Self> {
        let tag = *bytes.first().filter(|tag| [Self::PUT, Self::TXN].contains(tag))?;
        let mut body = bytes.slice(1..);
        let length = prost::encoding::decode_varint(&mut body).ok()?;
        if length != body.len() as u64 {
            return None;
        }
        if tag == Self::PUT {
            pb::PutRequest::decode(body).ok().map(Self::Put)
        } else {
            pb::TxnRequest::decode(body).ok().map(Self::Txn)
        }
    }
}

/// One entry at work.
struct Step<'a, 'b> {
    batch: &'a mut WriteBatch<'b>,
    lessor: &'a mut Lessor,
    shared: &'a Shared,
    entry: &'a Entry,
}

impl Step<'_, '_> {
    fn run(&mut self, compacted: &mut Option<i64>) -> Result<Result<Answer, Refusal>, ApplyError> {
        match &self.entry.payload {
            Payload::Blank => Ok(Ok(Answer::Empty)),
            Payload::Membership { record, change, only } => {
                fp!("apply-before-conf-change");
                self.batch.backend_batch().put(Bucket::Meta, META_MEMBERSHIP, record);
                if let Some(only) = only {
                    let rows = self.batch.backend_batch();
                    self.shared.cluster.write().force_new(rows, only);
                }
                self.members(change)
            }
            Payload::Request(bytes) => {
                match Hot::decode(bytes) {
                    Some(Hot::Put(put)) => return self.checked_put(&put),
                    Some(Hot::Txn(txn)) => return self.checked_txn(&txn),
                    None => {}
                }
                let request = pb::InternalRaftRequest::decode(bytes.clone())
                    .map_err(|source| ApplyError::Decode { index: self.entry.index, source })?;
                self.request(&request, compacted)
            }
        }
    }

    /// What a membership change does to the members' records. Raft has changed already, so a
    /// change that breaks a rule, which no leader appends, is told and not an end.
    fn members(&mut self, change: &[u8]) -> Result<Result<Answer, Refusal>, ApplyError> {
        if change.is_empty() {
            return Ok(Ok(Answer::Empty));
        }
        let request = ChangeRequest::decode(change)
            .map_err(|source| ApplyError::Change { index: self.entry.index, source })?;
        let rows = self.batch.backend_batch();
        let mut cluster = self.shared.cluster.write();
        if let Change::Remove(id) = request.change {
            // A member that joined later never knew it; its id is gone for ever all the same.
            cluster.remove(rows, id);
        } else if let Err(refused) = cluster.apply(rows, &request.change) {
            tracing::error!(%refused, index = %self.entry.index, "a membership change breaks a rule");
        }
        Ok(Ok(Answer::Empty))
    }

    fn request(
        &mut self,
        request: &pb::InternalRaftRequest,
        compacted: &mut Option<i64>,
    ) -> Result<Result<Answer, Refusal>, ApplyError> {
        if let Some(put) = &request.put {
            return self.checked_put(put);
        }
        if let Some(txn) = &request.txn {
            return self.checked_txn(txn);
        }
        let writes = request.delete_range.is_some()
            || request.compaction.is_some()
            || request.lease_grant.is_some()
            || request.lease_revoke.is_some();
        if let Err(refusal) = self.allowed(writes, || request.lease_grant.is_some()) {
            return Ok(Err(refusal));
        }
        if let Some(delete) = &request.delete_range {
            let mut view = self.batch.txn();
            let done = kv::delete(&mut view, self.lessor, delete)?;
            view.finish();
            return Ok(Ok(Answer::Delete { deleted: done.deleted, prev: done.prev }));
        }
        if let Some(range) = &request.range {
            return match self.batch.txn().range(&kv::range_query(range)) {
                Ok(found) => Ok(Ok(Answer::Range(found))),
                Err(error) => kv::refused(error).map(Err),
            };
        }
        if let Some(compaction) = &request.compaction {
            return Ok(self.compact(compaction.revision, compacted));
        }
        Ok(self.housekeeping(request))
    }

    /// Requests that touch no key by themselves.
    fn housekeeping(&mut self, request: &pb::InternalRaftRequest) -> Result<Answer, Refusal> {
        if let Some(grant) = &request.lease_grant {
            return lease::grant(self.batch, self.lessor, grant);
        }
        if let Some(revoke) = &request.lease_revoke {
            return lease::revoke(self.batch, self.lessor, LeaseId(revoke.id));
        }
        if let Some(expire) = &request.lease_revokes {
            return lease::expire(self.batch, self.lessor, expire, self.entry.term);
        }
        if let Some(checkpoint) = &request.lease_checkpoint {
            let cluster = self.shared.cluster.read();
            let version = cluster.version().and_then(|text| text.parse().ok());
            let term = self.entry.term;
            return lease::checkpoint(self.batch, self.lessor, checkpoint, term, version);
        }
        if let Some(alarm) = &request.alarm {
            let rows = self.batch.backend_batch();
            return Ok(Answer::Alarms(self.shared.alarms.write().apply(rows, alarm)));
        }
        let rows = self.batch.backend_batch();
        if let Some(publish) = &request.cluster_member_attr_set {
            self.shared.cluster.write().set_attributes(rows, publish);
            return Ok(Answer::Empty);
        }
        if let Some(version) = &request.cluster_version_set {
            self.shared.cluster.write().set_version(rows, &version.ver);
            return Ok(Answer::Empty);
        }
        Err(Refusal::Unsupported("not part of this version"))
    }

    /// Alarms outrank everything (AL-04, AL-05); decided at apply, so equal on every member.
    fn allowed(&self, writes: bool, grows: impl FnOnce() -> bool) -> Result<(), Refusal> {
        let alarms = self.shared.alarms.read();
        if writes && alarms.any(AlarmKind::Corrupt) {
            return Err(Refusal::Corrupt);
        }
        if alarms.any(AlarmKind::NoSpace) && grows() {
            return Err(Refusal::NoSpace);
        }
        Ok(())
    }

    fn checked_put(&mut self, put: &pb::PutRequest) -> Result<Result<Answer, Refusal>, ApplyError> {
        match self.allowed(true, || true) {
            Ok(()) => self.put(put),
            Err(refusal) => Ok(Err(refusal)),
        }
    }

    fn checked_txn(&mut self, txn: &pb::TxnRequest) -> Result<Result<Answer, Refusal>, ApplyError> {
        if let Err(refusal) = self.allowed(true, || txn::has_put(txn)) {
            return Ok(Err(refusal));
        }
        let bounds = txn::Bounds {
            current: self.batch.revision(),
            compacted: self.batch.compact_revision(),
        };
        let mut view = self.batch.txn();
        let answer = txn::write(&mut view, self.lessor, bounds, txn)?;
        view.finish();
        Ok(answer.map(Answer::Txn))
    }

    fn put(&mut self, put: &pb::PutRequest) -> Result<Result<Answer, Refusal>, ApplyError> {
        if strikes("planted-skipped-put", self.entry.index.0) {
            return Ok(Ok(Answer::Put { prev: None }));
        }
        let mut view = self.batch.txn();
        if let Err(refusal) = kv::check_put(&view, self.lessor, put) {
            return Ok(Err(refusal));
        }
        let done = kv::put(&mut view, self.lessor, put)?;
        view.finish();
        Ok(Ok(Answer::Put { prev: done.prev }))
    }

    fn compact(
        &mut self,
        mut revision: i64,
        compacted: &mut Option<i64>,
    ) -> Result<Answer, Refusal> {
        if strikes("planted-far-compaction", 0) {
            revision = revision.max((revision + 10).min(self.batch.revision()));
        }
        match self.batch.compact(revision) {
            Ok(()) => {
                fp!("apply-before-compact");
                *compacted = Some(revision);
                Ok(Answer::Empty)
            }
            Err(CompactError::Compacted) => Err(Refusal::Compacted),
            Err(CompactError::Future) => Err(Refusal::FutureRevision),
        }
    }
}
