//! What was asked of a server and what its history must therefore be.
//!
//! Every write carries an id in its value (or, for deletes, is told apart by its key). After each
//! crash the revisions since the last check are read back as events and compared:
//! - an acknowledged write stands at exactly the revision that was answered;
//! - a revision that nobody was told of belongs to a write whose answer was lost;
//! - revisions have no gap and the current revision never decreases;
//! - the keys are what the events make of them.

use std::collections::{BTreeMap, HashMap};

use etcdrs_tests::client::Clients;
use etcdrs_tests::mvccpb::Event;
use etcdrs_tests::{pb, request, watch};

/// One change of a key: the value put, or None for a delete.
pub(crate) type Change = (String, Option<String>);

/// The changes of one request, in the order of execution.
pub(crate) type Group = Vec<Change>;

/// The record of all requests so far.
#[derive(Default)]
pub(crate) struct History {
    acknowledged: BTreeMap<i64, Group>,
    unknown: HashMap<Group, usize>,
    verified_revision: i64,
    model: BTreeMap<String, (String, i64)>,
    /// How many writes with a lost answer were found in the data.
    pub(crate) found_unknown: usize,
}

impl History {
    pub(crate) fn new() -> Self {
        Self { verified_revision: 1, ..Self::default() }
    }

    /// The server answered `revision` for `group`, which changed something.
    pub(crate) fn acknowledge(&mut self, revision: i64, group: Group) {
        assert!(revision > self.verified_revision, "{group:?} at the old {revision}");
        if let Some(other) = self.acknowledged.insert(revision, group.clone()) {
            panic!("two writes at {revision}: {other:?}, {group:?}");
        }
    }

    /// The answer to `group` was lost.
    pub(crate) fn lose(&mut self, group: Group) {
        *self.unknown.entry(group).or_default() += 1;
    }

    pub(crate) fn verified_revision(&self) -> i64 {
        self.verified_revision
    }

    /// Reads everything since the last check and compares.
    pub(crate) async fn verify(&mut self, c: &mut Clients) {
        let current = c.revision().await;
        let promised = self.acknowledged.keys().next_back().copied().unwrap_or(0);
        let floor = promised.max(self.verified_revision);
        assert!(current >= floor, "revision {current} is behind the acknowledged {floor}");
        let groups = read_groups(c, self.verified_revision + 1, current).await;
        let read: Vec<i64> = groups.keys().copied().collect();
        let wanted: Vec<i64> = (self.verified_revision + 1..=current).collect();
        assert_eq!(read, wanted, "every revision has its events");
        for (revision, group) in groups {
            self.check_group(revision, &group);
            for (key, value) in group {
                match value {
                    Some(value) => self.model.insert(key, (value, revision)),
                    None => self.model.remove(&key),
                };
            }
        }
        let lost: Vec<_> = self.acknowledged.keys().collect();
        assert!(lost.is_empty(), "acknowledged and gone: {lost:?}");
        self.verified_revision = current;
        self.check_keys(c).await;
    }

    fn check_group(&mut self, revision: i64, group: &Group) {
        if let Some(promised) = self.acknowledged.remove(&revision) {
            assert_eq!(promised, *group, "another write than answered at {revision}");
            return;
        }
        let lost = self.unknown.get_mut(group).filter(|count| **count > 0);
        *lost.unwrap_or_else(|| panic!("nobody wrote {group:?} at {revision}")) -= 1;
        self.found_unknown += 1;
    }

    async fn check_keys(&self, c: &mut Clients) {
        let all = c.range(request::range("\0", "\0")).await;
        let found: BTreeMap<String, (String, i64)> =
            all.kvs.iter().map(|kv| (text(&kv.key), (text(&kv.value), kv.mod_revision))).collect();
        assert_eq!(found, self.model, "the keys are not what the events made");
    }
}

async fn read_groups(c: &Clients, start: i64, end: i64) -> BTreeMap<i64, Group> {
    let mut groups: BTreeMap<i64, Group> = BTreeMap::new();
    if start > end {
        return groups;
    }
    let mut session = c.watch();
    let created = session.create(watch::on_all(start)).await;
    assert!(!created.canceled, "{created:?}");
    while groups.keys().next_back().is_none_or(|newest| *newest < end) {
        let answer: pb::WatchResponse = session.next().await;
        assert!(!answer.canceled, "{answer:?}");
        for event in &answer.events {
            let (revision, change) = change_of(event);
            groups.entry(revision).or_default().push(change);
        }
    }
    groups
}

fn change_of(event: &Event) -> (i64, Change) {
    let kv = event.kv.as_ref().unwrap();
    let value = (event.r#type == 0).then(|| text(&kv.value));
    (kv.mod_revision, (text(&kv.key), value))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}
