//! A follower that installs a leader's snapshot: random histories, of which one store has a prefix
//! when the database of another, further along, takes the place of its own. Readers, watchers,
//! hashes and a removal go on across it.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use common::{Fixture, Model, Random, answer, random_query};
use etcdrs_backend::Backend;
use etcdrs_mvcc::watch::{Hub, HubOptions, Response, Wake, WatchSpec, WatchStream};
use etcdrs_mvcc::{
    CompactionJob, Event, EventKind, Loaded, Options, Progress, RangeError, Reader, Stats, Store,
};
use etcdrs_types::{KeyRange, LeaseId};

const KEYS: u64 = 40;
const ENTRIES: usize = 160;

#[derive(Clone)]
enum Op {
    Put(Vec<u8>, Vec<u8>, i64),
    Delete(KeyRange),
}

/// A committed entry.
#[derive(Clone)]
enum Entry {
    Txn(Vec<Op>),
    Compact(i64),
}

/// One event as the model has it: main revision, key, value unless it is a deletion.
type Seen = (i64, Vec<u8>, Option<Vec<u8>>);

/// A history, and what it comes to.
struct Plan {
    entries: Vec<Entry>,
    /// Everything, as if nothing was ever compacted.
    model: Model,
    events: Vec<Seen>,
    compacted: i64,
}

fn key(number: u64) -> Vec<u8> {
    format!("k{:02}", number % KEYS).into_bytes()
}

fn random_range(random: &mut Random) -> KeyRange {
    match random.below(4) {
        0 => KeyRange::prefix(b"k"),
        1 => KeyRange::prefix(&key(random.below(KEYS))[..2]),
        _ => KeyRange::single(key(random.below(KEYS))),
    }
}

impl Plan {
    fn random(random: &mut Random) -> Self {
        // A key that is always there: without any, hashes tell how far a removal is (MT-04).
        let pin = Op::Put(b"pin".to_vec(), Vec::new(), 0);
        let mut plan =
            Self { entries: Vec::new(), model: Model::new(), events: Vec::new(), compacted: -1 };
        plan.txn(vec![pin]);
        while plan.entries.len() < ENTRIES {
            let revision = plan.model.revision;
            if random.one_in(15) {
                let at = revision - random.below(20) as i64;
                if at > plan.compacted.max(1) {
                    plan.compacted = at;
                    plan.entries.push(Entry::Compact(at));
                }
                continue;
            }
            // No key twice in one entry: what is superseded within a compacted revision is gone.
            let mut touched = BTreeSet::new();
            let mut ops = Vec::new();
            for _ in 0..=random.below(4) {
                let key = key(random.below(KEYS));
                if !touched.insert(key.clone()) {
                    continue;
                }
                ops.push(match random.below(4) {
                    0 => Op::Delete(KeyRange::single(key)),
                    _ => {
                        let value = vec![random.below(256) as u8; random.below(50) as usize];
                        Op::Put(key, value, random.below(3) as i64)
                    }
                });
            }
            if random.one_in(25) {
                ops = vec![Op::Delete(KeyRange::prefix(&key(random.below(KEYS))[..2]))];
            }
            plan.txn(ops);
        }
        plan
    }

    fn txn(&mut self, ops: Vec<Op>) {
        let main = self.model.revision + 1;
        let before = self.events.len();
        for op in &ops {
            match op {
                Op::Put(key, value, lease) => {
                    self.model.put(main, key, value, *lease);
                    self.events.push((main, key.clone(), Some(value.clone())));
                }
                Op::Delete(range) => {
                    let gone = self.model.delete(main, range);
                    self.events.extend(gone.into_iter().map(|key| (main, key, None)));
                }
            }
        }
        self.model.revision += i64::from(self.events.len() > before);
        self.entries.push(Entry::Txn(ops));
    }
}

/// Applies entries in batches, as a member does.
fn apply(store: &mut Store, hub: Option<&Hub>, entries: &[Entry], random: &mut Random) {
    let mut rest = entries;
    while !rest.is_empty() {
        let n = (1 + random.below(4) as usize).min(rest.len());
        let (now, later) = rest.split_at(n);
        rest = later;
        let mut batch = store.begin();
        let mut compacted = None;
        for entry in now {
            match entry {
                Entry::Compact(at) => {
                    batch.compact(*at).unwrap();
                    compacted = Some(*at);
                }
                Entry::Txn(ops) => {
                    let mut txn = batch.txn();
                    for op in ops {
                        match op {
                            Op::Put(key, value, lease) => {
                                txn.put(key, value, LeaseId(*lease));
                            }
                            Op::Delete(range) => {
                                txn.delete_range(range);
                            }
                        }
                    }
                    txn.finish();
                }
            }
        }
        let committed = batch.commit().unwrap();
        if let Some(hub) = hub {
            hub.publish(&committed.blocks);
            if let Some(at) = compacted {
                hub.compacted(at);
            }
        }
    }
}

struct Silent;

impl Wake for Silent {
    fn wake(&self) {}
}

/// One stream with one watcher, and what it was told.
struct Client {
    stream: WatchStream,
    range: KeyRange,
    /// The first revision it wants.
    from: i64,
    seen: Vec<Seen>,
    /// The compacted revision that ended it.
    ended: Option<i64>,
}

impl Client {
    fn new(hub: &Hub, random: &mut Random) -> Self {
        let stream = hub.stream(Arc::new(Silent));
        let range = random_range(random);
        let now = hub.revision();
        let start_revision = match random.below(4) {
            0 => 1 + random.below(now as u64) as i64,
            1 => now + random.below(30) as i64,
            _ => 0,
        };
        let spec = WatchSpec {
            start_revision,
            prev_kv: random.one_in(2),
            ..WatchSpec::new(range.clone())
        };
        let created = stream.create(spec).unwrap();
        let from = if start_revision == 0 { created.revision + 1 } else { start_revision };
        Self { stream, range, from, seen: Vec::new(), ended: None }
    }

    fn poll(&mut self, plan: &Plan) {
        let mut out = Vec::new();
        self.stream.poll(3000, &mut out);
        for response in &out {
            match response {
                Response::Events { events, prev_kv, .. } => {
                    for event in events.iter() {
                        check_prev(event, *prev_kv, plan);
                        let value = event.kv.value().to_vec();
                        let value = (event.kind == EventKind::Put).then_some(value);
                        self.seen.push((event.revision.main, event.key.to_vec(), value));
                    }
                }
                Response::Compacted { compact_revision, .. } => {
                    assert_eq!(self.ended.replace(*compact_revision), None);
                }
                Response::Progress { .. } => panic!("nobody asked"),
            }
        }
    }

    /// WA-31: nothing lost, nothing twice, nothing invented.
    fn check(&self, plan: &Plan) {
        let wanted = plan
            .events
            .iter()
            .filter(|(main, key, _)| *main >= self.from && self.range.contains(key));
        let wanted: Vec<_> = wanted.cloned().collect();
        let Some(compacted) = self.ended else {
            assert_eq!(self.seen, wanted);
            return;
        };
        assert_eq!(self.seen, wanted[..self.seen.len()]);
        let last = self.seen.last().map_or(self.from - 1, |(main, ..)| *main);
        let next = wanted.get(self.seen.len()).map_or(i64::MAX, |(main, ..)| *main);
        assert!(last + 1 < compacted && last < next, "cancelled at {last} by {compacted}");
        assert!(
            plan.entries
                .iter()
                .any(|entry| matches!(entry, Entry::Compact(at) if *at == compacted))
        );
    }
}

/// WA-17, as far as compactions leave it.
fn check_prev(event: &Event, asked: bool, plan: &Plan) {
    let main = event.revision.main;
    let before = plan.model.at(&event.key, main - 1);
    match event.prev_kv() {
        Some(kv) if asked => assert_eq!(Some(&kv.decode().unwrap()), before),
        None if asked => assert!(before.is_none() || main <= plan.compacted),
        _ => {}
    }
}

/// Reads until told to stop; everything must be as the model has it, before, during and after.
/// Feeds lagging watchers as well.
fn read_along(reader: &Reader, hub: &Hub, plan: &Plan, seed: u64, stop: &AtomicBool) {
    let mut random = Random(seed * 77 + 1);
    let mut newest = 0;
    let mut hashes = BTreeMap::new();
    while !stop.load(Ordering::Acquire) {
        let current = reader.current_revision();
        assert!(current >= newest, "the revision went back from {newest} to {current}");
        newest = current;
        if random.one_in(3) {
            hub.catch_up(2);
        }
        let mut query = random_query(&mut random, KeyRange::prefix(b"k"), current);
        query.range = random_range(&mut random);
        query.revision = query.revision.min(current);
        match reader.range(&query) {
            Ok(found) => {
                assert!(found.revision >= current);
                newest = newest.max(found.revision);
                let at = if query.revision > 0 { query.revision } else { found.revision };
                let want = plan.model.range(&common::at(&query, at), at);
                assert_eq!(answer(Ok(found)), want, "{query:?}");
            }
            Err(RangeError::Compacted) => {
                assert!(query.revision > 0 && query.revision < plan.compacted, "{query:?}");
            }
            Err(error) => panic!("{query:?}: {error}"),
        }
        if current > 2 && random.one_in(4) {
            let at = 2 + random.below(current as u64 - 1) as i64;
            match reader.hash_kv(at) {
                Ok(hash) => {
                    let place = (hash.revision, hash.compact_revision);
                    assert_eq!(*hashes.entry(place).or_insert(hash.hash), hash.hash, "{place:?}");
                }
                Err(RangeError::Compacted) => assert!(at < plan.compacted),
                Err(error) => panic!("hash at {at}: {error}"),
            }
        }
    }
}

/// Closes a database that the reading thread may be in the middle of.
fn close(mut backend: Backend) -> PathBuf {
    for _ in 0..10_000_000 {
        match backend.close() {
            Ok(dir) => return dir,
            Err(back) => backend = back,
        }
        std::thread::yield_now();
    }
    panic!("somebody holds the old database for ever");
}

/// Ends the reading thread, also when the test fails.
struct StopAtEnd<'a>(&'a AtomicBool);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// A member whose store is replaced.
struct Follower {
    fixture: Fixture,
    hub: Hub,
    clients: Vec<Client>,
    job: Option<CompactionJob>,
}

impl Follower {
    fn new(random: &mut Random) -> Self {
        let memory = [
            Options::default(),
            Options { value_cache_bytes: 0, event_ring_bytes: 0 },
            Options { value_cache_bytes: 500, event_ring_bytes: 2000 },
        ];
        let fixture = Fixture::new(memory[random.below(3) as usize].clone());
        let options = HubOptions {
            queue_bytes_max: 200 << random.below(8),
            batch_bytes_max: 500,
            ..HubOptions::default()
        };
        let hub = Hub::new(fixture.reader(), options);
        Self { fixture, hub, clients: Vec::new(), job: None }
    }

    fn apply(&mut self, entries: &[Entry], plan: &Plan, random: &mut Random) {
        for chunk in entries.chunks(8) {
            apply(&mut self.fixture.store, Some(&self.hub), chunk, random);
            if random.one_in(2) && self.clients.len() < 12 {
                self.clients.push(Client::new(&self.hub, random));
            }
            if random.one_in(3) {
                self.hub.catch_up(4);
            }
            self.clients
                .iter_mut()
                .filter(|_| random.one_in(3))
                .for_each(|client| client.poll(plan));
            self.removal(random);
        }
    }

    fn removal(&mut self, random: &mut Random) {
        if self.job.is_none() {
            self.job = self.fixture.reader().compaction_job();
        }
        if random.one_in(2)
            && let Some(job) = &mut self.job
            && let Progress::Finished { .. } = job.step(3).unwrap()
        {
            self.job = None;
        }
    }

    fn install(&mut self, checkpoint: &Path, leader: Stats, random: &mut Random) {
        let reader = self.fixture.reader();
        self.job = self.job.take().or_else(|| reader.compaction_job());
        let backend = reader.backend().open_beside(checkpoint).unwrap();
        let retired = self.fixture.store.replace(Loaded::open(backend).unwrap()).unwrap();
        // Rounds and new watchers come in between.
        self.hub.catch_up(random.below(4) as usize);
        self.clients.push(Client::new(&self.hub, random));
        self.hub.restore(reader.clone());
        assert_eq!(reader.stats(), leader);
        if let Some(mut job) = self.job.take() {
            let finished = reader.finished_compact_revision();
            let removed = job.removed();
            assert!(matches!(job.step(1000).unwrap(), Progress::Finished { .. }));
            assert!(matches!(job.step(1000).unwrap(), Progress::Finished { .. }));
            assert_eq!(job.removed(), removed, "its removal is over");
            assert_eq!(reader.finished_compact_revision(), finished);
        }
        let dir = close(retired.into_backend());
        assert!(dir.ends_with("db"));
        std::fs::remove_dir_all(dir).unwrap();
        assert_eq!(reader.stats(), leader);
    }

    fn check(&mut self, plan: &Plan, leader: &Reader) {
        drop(self.job.take());
        if let Some(job) = self.fixture.reader().compaction_job() {
            assert_eq!(job.run().unwrap(), plan.compacted);
        }
        if let Some(job) = leader.compaction_job() {
            job.run().unwrap();
        }
        let reader = self.fixture.reader();
        assert_eq!(reader.current_revision(), plan.model.revision);
        assert_eq!(reader.compact_revision(), plan.compacted);
        assert_eq!(reader.hash_kv(0).unwrap(), leader.hash_kv(0).unwrap());
        assert_eq!(reader.hash().unwrap(), leader.hash().unwrap());
        assert_eq!(reader.stats(), leader.stats());
        loop {
            let more = self.hub.catch_up(512);
            let before: usize = self.clients.iter().map(|client| client.seen.len()).sum();
            self.clients.iter_mut().for_each(|client| client.poll(plan));
            let after: usize = self.clients.iter().map(|client| client.seen.len()).sum();
            if !more && before == after && !self.hub.has_lagging() {
                break;
            }
        }
        self.clients.iter().for_each(|client| client.check(plan));
    }
}

fn run(seed: u64) {
    let mut random = Random(seed * 2_654_435_761 + 1);
    let plan = Plan::random(&mut random);
    let sent = 2 + random.below(ENTRIES as u64 - 2) as usize;
    let had = random.below(sent as u64 + 1) as usize;
    let mut leader = Fixture::new(Options::default());
    apply(&mut leader.store, None, &plan.entries[..sent], &mut random);
    if let Some(mut job) = leader.reader().compaction_job() {
        // The snapshot is of a removal in progress.
        job.step(random.below(30) as usize + 1).unwrap();
    }
    let checkpoint = leader.dir.path().join("checkpoint");
    leader.reader().backend().checkpoint(&checkpoint).unwrap();
    let sent_stats = leader.reader().stats();
    let mut follower = Follower::new(&mut random);
    follower.apply(&plan.entries[..had], &plan, &mut random);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (reader, hub) = (follower.fixture.reader(), follower.hub.clone());
        let (plan, stop) = (&plan, &stop);
        let stopping = StopAtEnd(stop);
        let thread = scope.spawn(move || read_along(&reader, &hub, plan, seed, stop));
        follower.install(&checkpoint, sent_stats, &mut random);
        apply(&mut leader.store, None, &plan.entries[sent..], &mut random);
        follower.apply(&plan.entries[sent..], plan, &mut random);
        drop(stopping);
        thread.join().unwrap();
    });
    follower.check(&plan, &leader.reader());
    let Follower { fixture, hub, clients, .. } = follower;
    drop((hub, clients));
    // What is on the disk is the same as what was in memory.
    let backend = fixture.reader().backend();
    let (dir, hash) = (backend.path().to_owned(), fixture.reader().hash_kv(0).unwrap());
    drop((backend, fixture.store));
    let reopened = common::open(&dir, &Options::default());
    assert_eq!(reopened.store.reader().hash_kv(0).unwrap(), hash, "seed {seed}");
}

fn run_seeds(seeds: std::ops::Range<u64>) {
    for seed in seeds {
        println!("seed {seed}");
        run(seed);
    }
}

#[test]
fn wa_31_a_snapshot_takes_the_place_of_a_prefix_1() {
    run_seeds(1..51);
}

#[test]
fn wa_31_a_snapshot_takes_the_place_of_a_prefix_2() {
    run_seeds(51..101);
}

#[test]
fn a_removal_ends_when_the_database_is_replaced() {
    let fill = || {
        let mut fixture = Fixture::new(Options::default());
        for value in ["1", "2"] {
            (0..500).for_each(|n| _ = fixture.put(&format!("k{n:03}"), value));
        }
        let mut batch = fixture.store.begin();
        batch.compact(900).unwrap();
        batch.commit().unwrap();
        fixture
    };
    let (leader, mut follower) = (fill(), fill());
    let checkpoint = leader.dir.path().join("checkpoint");
    leader.reader().backend().checkpoint(&checkpoint).unwrap();
    let reader = follower.reader();
    let mut old = reader.compaction_job().unwrap();
    assert_eq!(old.step(100).unwrap(), Progress::More);
    let removed = old.removed();
    let loaded = Loaded::open(reader.backend().open_beside(&checkpoint).unwrap()).unwrap();
    let retired = follower.store.replace(loaded).unwrap();
    assert_eq!(old.step(100).unwrap(), Progress::Finished { revision: 900 });
    assert_eq!((old.removed(), reader.finished_compact_revision()), (removed, -1));
    assert!(reader.compaction_job().is_none(), "one at a time");
    drop(old);
    // The new database's own removal starts from its beginning.
    let mut new = reader.compaction_job().unwrap();
    while new.step(100).unwrap() == Progress::More {}
    assert_eq!((new.removed(), reader.finished_compact_revision()), (399, 900));
    drop(new);
    close(retired.into_backend());
    leader.reader().compaction_job().unwrap().run().unwrap();
    assert_eq!(reader.hash().unwrap(), leader.reader().hash().unwrap());
}

#[test]
fn an_older_database_is_refused() {
    let mut old = Fixture::new(Options::default());
    old.put("a", "1");
    let checkpoint = old.dir.path().join("checkpoint");
    old.reader().backend().checkpoint(&checkpoint).unwrap();
    let mut store = Fixture::new(Options::default());
    for value in ["1", "2", "3"] {
        store.put("a", value);
    }
    let loaded =
        Loaded::open(Backend::open(&checkpoint, &common::small_backend()).unwrap()).unwrap();
    assert_eq!((loaded.revision(), loaded.compact_revision()), (2, -1));
    let error = store.store.replace(loaded).unwrap_err();
    assert_eq!(error.to_string(), "a database at revision 2 cannot replace one at revision 4");
    assert_eq!(store.put("a", "1"), 5);
}
