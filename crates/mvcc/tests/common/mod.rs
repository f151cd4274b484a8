//! What the tests of the store share: a naive model, a generator, a store in a scratch directory.
#![allow(dead_code, unreachable_pub, missing_docs, reason = "every test uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;

use bytes::Bytes;
use etcdrs_backend::Backend;
use etcdrs_mvcc::{
    Committed, Opened, Options, RangeError, RangeQuery, Reader, SortOrder, SortTarget, Store,
};
use etcdrs_proto::mvccpb::KeyValue;
use etcdrs_types::{KeyRange, LeaseId};

/// A generator whose numbers only have to be spread and repeatable.
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }

    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

/// A store in a directory that goes away with it.
pub struct Fixture {
    pub store: Store,
    pub leased_keys: Vec<(LeaseId, Bytes)>,
    pub options: Options,
    // Last, so that the store closes before its directory goes.
    pub dir: tempfile::TempDir,
}

pub fn small_backend() -> etcdrs_backend::Options {
    etcdrs_backend::Options {
        block_cache_bytes: 1 << 20,
        memtable_bytes: 4 << 20,
        ..etcdrs_backend::Options::default()
    }
}

pub fn open(dir: &std::path::Path, options: &Options) -> Opened {
    let backend = Backend::open(dir, &small_backend()).unwrap();
    Store::open(backend, options).unwrap()
}

impl Fixture {
    pub fn new(options: Options) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let Opened { store, leased_keys } = open(&dir.path().join("db"), &options);
        Self { dir, options, store, leased_keys }
    }

    /// Closes and opens the database in the fixture's directory.
    pub fn reopen(self) -> Self {
        let Self { dir, options, store, .. } = self;
        drop(store);
        let Opened { store, leased_keys } = open(&dir.path().join("db"), &options);
        Self { dir, options, store, leased_keys }
    }

    pub fn reader(&self) -> Reader {
        self.store.reader()
    }

    pub fn put(&mut self, key: &str, value: &str) -> i64 {
        self.put_lease(key, value, 0)
    }

    pub fn put_lease(&mut self, key: &str, value: &str, lease: i64) -> i64 {
        let mut batch = self.store.begin();
        let mut txn = batch.txn();
        txn.put(key.as_bytes(), value.as_bytes(), LeaseId(lease));
        txn.finish();
        batch.commit().unwrap().revision
    }

    pub fn delete(&mut self, range: &KeyRange) -> i64 {
        let mut batch = self.store.begin();
        let mut txn = batch.txn();
        txn.delete_range(range);
        txn.finish();
        batch.commit().unwrap().revision
    }

    /// A compaction and its removal.
    pub fn compact(&mut self, at: i64) {
        let mut batch = self.store.begin();
        batch.compact(at).unwrap();
        let Committed { blocks, .. } = batch.commit().unwrap();
        assert!(blocks.is_empty());
        assert_eq!(self.reader().compaction_job().unwrap().run().unwrap(), at);
    }
}

/// One state of a key; `None` is a deletion.
pub type State = (i64, Option<KeyValue>);

/// The store as one would write it without any thought of speed.
#[derive(Clone, Default)]
pub struct Model {
    pub keys: BTreeMap<Vec<u8>, Vec<State>>,
    pub revision: i64,
    pub compacted: i64,
}

/// What a query answers: pairs, more, count.
pub type Answer = (Vec<KeyValue>, bool, i64);

impl Model {
    pub fn new() -> Self {
        Self { keys: BTreeMap::new(), revision: 1, compacted: -1 }
    }

    pub fn at(&self, key: &[u8], at: i64) -> Option<&KeyValue> {
        self.keys.get(key)?.iter().rev().find(|(main, _)| *main <= at)?.1.as_ref()
    }

    /// A put in the transaction `main`.
    pub fn put(&mut self, main: i64, key: &[u8], value: &[u8], lease: i64) {
        let old = self.at(key, i64::MAX);
        let kv = KeyValue {
            key: Bytes::copy_from_slice(key),
            create_revision: old.map_or(main, |kv| kv.create_revision),
            mod_revision: main,
            version: old.map_or(1, |kv| kv.version + 1),
            value: Bytes::copy_from_slice(value),
            lease,
        };
        self.keys.entry(key.to_vec()).or_default().push((main, Some(kv)));
    }

    /// A deletion in the transaction `main`: the keys that were there.
    pub fn delete(&mut self, main: i64, range: &KeyRange) -> Vec<Vec<u8>> {
        let mut gone = Vec::new();
        for (key, states) in &mut self.keys {
            if range.contains(key) && states.last().is_some_and(|(_, kv)| kv.is_some()) {
                states.push((main, None));
                gone.push(key.clone());
            }
        }
        gone
    }

    /// The answer of RG-03 to RG-10; `current` is the newest revision that may be asked for.
    pub fn range(&self, query: &RangeQuery, current: i64) -> Result<Answer, &'static str> {
        let at = if query.revision <= 0 { current } else { query.revision };
        if at > current {
            return Err("future");
        }
        if at < self.compacted {
            return Err("compacted");
        }
        let mut kvs: Vec<KeyValue> = (self.keys.keys())
            .filter(|key| query.range.contains(key))
            .filter_map(|key| self.at(key, at).cloned())
            .collect();
        let count = kvs.len() as i64;
        if query.count_only {
            return Ok((Vec::new(), false, count));
        }
        let filters = [
            query.min_mod_revision,
            query.max_mod_revision,
            query.min_create_revision,
            query.max_create_revision,
        ];
        let quirk = query.order == SortOrder::None && filters == [0; 4] && query.limit > 0;
        if quirk {
            kvs.truncate(query.limit + 1);
        }
        let within = |value, min, max| (min == 0 || value >= min) && (max == 0 || value <= max);
        kvs.retain(|kv| {
            within(kv.mod_revision, filters[0], filters[1])
                && within(kv.create_revision, filters[2], filters[3])
        });
        let by = |a: &KeyValue, b: &KeyValue| match query.target {
            SortTarget::Key => a.key.cmp(&b.key),
            SortTarget::Version => a.version.cmp(&b.version),
            SortTarget::Create => a.create_revision.cmp(&b.create_revision),
            SortTarget::Mod => a.mod_revision.cmp(&b.mod_revision),
            SortTarget::Value => a.value.cmp(&b.value),
        };
        match query.order {
            SortOrder::Descend => kvs.sort_by(|a, b| by(b, a)),
            SortOrder::None | SortOrder::Ascend => kvs.sort_by(by),
        }
        let limit = if query.limit == 0 { usize::MAX } else { query.limit };
        let more = kvs.len() > limit;
        kvs.truncate(limit);
        if query.keys_only {
            for kv in &mut kvs {
                kv.value = Bytes::new();
                if query.target != SortTarget::Value {
                    kv.lease = 0;
                }
            }
        }
        Ok((kvs, more, count))
    }
}

/// What the store answered, in the model's terms.
pub fn answer(
    result: Result<etcdrs_mvcc::RangeResult, RangeError>,
) -> Result<Answer, &'static str> {
    match result {
        Ok(result) => {
            let kvs = result.kvs.iter().map(|kv| kv.decode().unwrap()).collect();
            Ok((kvs, result.more, result.count))
        }
        Err(RangeError::Compacted) => Err("compacted"),
        Err(RangeError::Future) => Err("future"),
        Err(err) => panic!("{err}"),
    }
}

pub fn random_range(random: &mut Random, key: impl Fn(u64) -> Vec<u8>, keys: u64) -> KeyRange {
    let start = Bytes::from(key(random.below(keys)));
    match random.below(6) {
        0 => KeyRange::all(),
        1 => KeyRange::from_wire(start, Bytes::from_static(b"\0")),
        2 | 3 => KeyRange::from_wire(start, Bytes::from(key(random.below(keys)))),
        4 => KeyRange::prefix(&start[..start.len().min(2)]),
        _ => KeyRange::single(start),
    }
}

pub fn random_query(random: &mut Random, range: KeyRange, newest: i64) -> RangeQuery {
    let orders = [SortOrder::None, SortOrder::Ascend, SortOrder::Descend];
    let targets = [
        SortTarget::Key,
        SortTarget::Key,
        SortTarget::Version,
        SortTarget::Create,
        SortTarget::Mod,
        SortTarget::Value,
    ];
    let mut number = |chance: u64| {
        if random.one_in(chance) { random.below(newest as u64 + 3) as i64 } else { 0 }
    };
    let revision = number(2);
    let (min_mod_revision, max_mod_revision) = (number(8), number(8));
    let (min_create_revision, max_create_revision) = (number(8), number(8));
    RangeQuery {
        revision,
        min_mod_revision,
        max_mod_revision,
        min_create_revision,
        max_create_revision,
        limit: if random.one_in(2) { random.below(12) as usize } else { 0 },
        order: orders[random.below(3) as usize],
        target: targets[random.below(6) as usize],
        keys_only: random.one_in(4),
        count_only: random.one_in(8),
        ..RangeQuery::new(range)
    }
}

/// The query at a certain revision.
pub fn at(query: &RangeQuery, revision: i64) -> RangeQuery {
    RangeQuery { revision, ..query.clone() }
}
