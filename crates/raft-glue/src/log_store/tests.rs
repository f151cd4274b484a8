//! openraft's own suite for log storage, beside a state machine that only remembers where it is.

use std::io;

use etcdrs_apply::{Answer, Outcome};
use futures_util::{Stream, StreamExt as _};
use openraft::storage::{EntryResponder, RaftStateMachine};
use openraft::testing::log::{StoreBuilder, Suite};
use openraft::{OptionalSend, RaftSnapshotBuilder, SnapshotMeta, StorageError};

use super::*;
use crate::types::StoredMembership;

type Meta = SnapshotMeta<
    <types::LeaderId as openraft::vote::RaftLeaderId>::Committed,
    u64,
    openraft::EmptyNode,
>;
type Snapshot = openraft::alias::SnapshotOf<TypeConfig, Meta>;

/// Remembers where it is, and nothing else.
#[derive(Clone, Default)]
struct Place {
    meta: Meta,
    snapshot: Option<Meta>,
}

/// A [`Place`] whose builder shares its snapshot.
#[derive(Clone, Default)]
struct Machine(Arc<Mutex<Place>>);

impl RaftSnapshotBuilder<TypeConfig> for Machine {
    type SnapshotData = Meta;

    async fn build_snapshot(&mut self) -> Result<Snapshot, io::Error> {
        let mut place = self.0.lock();
        place.snapshot = Some(place.meta.clone());
        Ok(Snapshot { meta: place.meta.clone(), snapshot: place.meta.clone() })
    }
}

impl RaftStateMachine<TypeConfig> for Machine {
    type SnapshotData = Meta;
    type SnapshotBuilder = Self;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        let meta = self.0.lock().meta.clone();
        Ok((meta.last_log_id, meta.last_membership))
    }

    async fn apply<Strm>(&mut self, mut entries: Strm) -> Result<(), io::Error>
    where
        Strm: Stream<Item = Result<EntryResponder<TypeConfig>, io::Error>> + Unpin + OptionalSend,
    {
        while let Some(item) = entries.next().await {
            let (entry, responder) = item?;
            let mut place = self.0.lock();
            place.meta.last_log_id = Some(entry.log_id);
            if let Payload::Change(change) = entry.payload {
                place.meta.last_membership =
                    StoredMembership::new(Some(entry.log_id), change.membership);
            }
            if let Some(responder) = responder {
                responder.send(Outcome { revision: 1, result: Ok(Answer::Empty) });
            }
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Self {
        self.clone()
    }

    async fn install_snapshot(&mut self, meta: &Meta, data: Meta) -> Result<(), io::Error> {
        let mut place = self.0.lock();
        place.meta = data;
        place.snapshot = Some(meta.clone());
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot>, io::Error> {
        let snapshot = self.0.lock().snapshot.clone();
        Ok(snapshot.map(|meta| Snapshot { meta: meta.clone(), snapshot: meta }))
    }
}

fn empty_log() -> LogStore {
    let found = Found {
        purged: types::log_id(0, 0),
        entries: VecDeque::new(),
        hard_state: wal::HardState::default(),
    };
    let log = LogStore::new(Sink::Nowhere, found);
    {
        // The suite begins with nothing at all, while our members begin behind index 0.
        let mut cache = log.cache.lock();
        cache.purged = None;
        cache.committed = None;
    }
    log
}

struct Builder;

impl StoreBuilder<TypeConfig, LogStore, Machine> for Builder {
    async fn build(&self) -> Result<((), LogStore, Machine), StorageError<TypeConfig>> {
        Ok(((), empty_log(), Machine::default()))
    }
}

#[test]
fn openrafts_suite_passes() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let result = runtime.expect("runtime").block_on(Suite::test_all(Builder));
    result.expect("openraft's storage suite passes");
}

#[test]
fn a_completion_from_before_a_truncation_does_not_raise_the_mark() {
    let durable = Durable::new(5);
    let before = durable.generation();
    durable.reached(before, 8);
    assert_eq!(*durable.index.borrow(), Some(8));
    durable.truncated(6);
    assert_eq!(*durable.index.borrow(), Some(6));
    durable.reached(before, 10);
    assert_eq!(*durable.index.borrow(), Some(6), "slots 7 to 10 hold other entries now");
    durable.reached(durable.generation(), 7);
    assert_eq!(*durable.index.borrow(), Some(7));
}
