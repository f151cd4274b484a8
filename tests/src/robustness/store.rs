//! The keys at every revision: the log, and what it makes of an empty store.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use bytes::Bytes;

use crate::mvccpb::event::EventType;
use crate::mvccpb::{Event, KeyValue};

/// Everything a revision changed, in order.
#[derive(Clone, Debug, Default)]
pub struct Group {
    /// The events, without previous pairs.
    pub events: Vec<Event>,
    /// The lease whose keys, all of them and nothing else, this revision deleted in key order, as
    /// the end of a lease does (LE-03). 0 for none.
    pub ended_lease: i64,
}

/// A store that remembers every version.
///
/// Invariant: `groups[i]` is revision `i + 2`; the versions of a key ascend.
#[derive(Clone, Debug, Default)]
pub struct Store {
    groups: Vec<Group>,
    keys: BTreeMap<Bytes, Vec<Version>>,
    leases: BTreeMap<i64, BTreeSet<Bytes>>,
}

#[derive(Clone, Debug)]
struct Version {
    revision: i64,
    kv: Option<KeyValue>,
}

impl Store {
    /// The current revision; 1 when nothing was written.
    pub fn last(&self) -> i64 {
        1 + self.groups.len() as i64
    }

    /// What `revision` changed.
    pub fn group(&self, revision: i64) -> Option<&Group> {
        self.groups.get(usize::try_from(revision.checked_sub(2)?).ok()?)
    }

    /// Revisions with what they changed, from `start` on.
    pub fn groups_from(&self, start: i64) -> impl Iterator<Item = (i64, &Group)> {
        let start = start.clamp(2, self.last() + 1);
        let skipped = usize::try_from(start - 2).unwrap_or(0);
        (start..).zip(&self.groups[skipped..])
    }

    /// Adds the next revision. The error says why no store can do that.
    pub fn push(&mut self, events: Vec<Event>) -> Result<(), String> {
        let revision = self.last() + 1;
        let ended_lease = self.lease_ended_by(&events);
        if events.is_empty() {
            return Err("it changes nothing".into());
        }
        let mut problem = Ok(());
        for event in &events {
            problem = problem.and(self.apply(revision, event));
        }
        self.groups.push(Group { events, ended_lease });
        problem
    }

    fn apply(&mut self, revision: i64, event: &Event) -> Result<(), String> {
        let kv = event.kv.clone().unwrap_or_default();
        let key = kv.key.clone();
        let shown = String::from_utf8_lossy(&key).into_owned();
        let old = self.get(&key, revision).cloned();
        let lease = old.as_ref().map_or(0, |old| old.lease);
        if let Some(keys) = self.leases.get_mut(&lease) {
            keys.remove(&key);
        }
        let mut problem = Ok(());
        let new = if event.r#type == EventType::Put as i32 {
            let right = KeyValue {
                create_revision: old.as_ref().map_or(revision, |old| old.create_revision),
                version: old.as_ref().map_or(1, |old| old.version + 1),
                mod_revision: revision,
                ..kv.clone()
            };
            if right != kv {
                problem = Err(format!("key {shown}: {kv:?} must be {right:?}"));
            }
            if kv.lease != 0 {
                self.leases.entry(kv.lease).or_default().insert(key.clone());
            }
            Some(kv)
        } else {
            if old.is_none() {
                problem = Err(format!("key {shown} is deleted and was not there"));
            }
            None
        };
        self.keys.entry(key).or_default().push(Version { revision, kv: new });
        problem
    }

    fn lease_ended_by(&self, events: &[Event]) -> i64 {
        let deleted: Option<Vec<&Bytes>> = events
            .iter()
            .map(|event| {
                let kv = event.kv.as_ref()?;
                (event.r#type == EventType::Delete as i32).then_some(&kv.key)
            })
            .collect();
        let Some(deleted) = deleted else { return 0 };
        let first = deleted.first().and_then(|key| self.get(key, self.last()));
        let lease = first.map_or(0, |kv| kv.lease);
        let all = self.leases.get(&lease).is_some_and(|keys| keys.iter().eq(deleted));
        if all { lease } else { 0 }
    }

    /// The pair of a key at a revision.
    pub fn get(&self, key: &[u8], revision: i64) -> Option<&KeyValue> {
        version_at(self.keys.get(key)?, revision)
    }

    /// The pairs of a range at a revision, in key order.
    pub fn range<'a>(
        &'a self,
        key: &'a [u8],
        range_end: &'a [u8],
        revision: i64,
    ) -> Vec<&'a KeyValue> {
        if range_end.is_empty() {
            return self.get(key, revision).into_iter().collect();
        }
        let end = if range_end == b"\0" { Bound::Unbounded } else { Bound::Excluded(range_end) };
        if matches!(end, Bound::Excluded(end) if end <= key) {
            return Vec::new();
        }
        let versions = self.keys.range::<[u8], _>((Bound::Included(key), end));
        versions.filter_map(|(_, versions)| version_at(versions, revision)).collect()
    }

    /// All pairs that belong to a lease at a revision.
    pub fn keys_of_lease(&self, lease: i64, revision: i64) -> Vec<&KeyValue> {
        let all = self.range(b"\0", b"\0", revision).into_iter();
        all.filter(|kv| kv.lease == lease).collect()
    }
}

fn version_at(versions: &[Version], revision: i64) -> Option<&KeyValue> {
    let newer = versions.partition_point(|version| version.revision <= revision);
    versions[..newer].last()?.kv.as_ref()
}

/// KR-01: whether a range has a key.
pub fn contains(key: &[u8], range_end: &[u8], candidate: &[u8]) -> bool {
    match range_end {
        [] => candidate == key,
        b"\0" => candidate >= key,
        end => candidate >= key && candidate < end,
    }
}
