//! Random histories against the naive model: every option, every old revision, with compactions,
//! slices of removal and restarts in between.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{Fixture, Model, Random, answer, random_query, random_range};
use etcdrs_mvcc::{CompactError, CompactionJob, Event, EventKind, Options, Progress, Reader};
use etcdrs_types::{KeyRange, LeaseId};

const KEYS: u64 = 150;

/// Keys of several shapes: a shared prefix, zeros, one the prefix of another.
fn key(number: u64) -> Vec<u8> {
    match number % 5 {
        0 => format!("/r/{:03}", number / 5).into_bytes(),
        1 => [&b"z"[..], &[0u8; 7][..(number / 5 % 8) as usize], &[number as u8]].concat(),
        2 => vec![b'p'; (number / 5) as usize + 1],
        _ => format!("k{number}").into_bytes(),
    }
}

struct Run {
    fixture: Fixture,
    model: Model,
    random: Random,
    job: Option<CompactionJob>,
    /// Events as the model has them: revision, sub, key, whether a put.
    events: Vec<(i64, i64, Vec<u8>, bool)>,
}

impl Run {
    fn new(seed: u64, options: Options) -> Self {
        Self {
            fixture: Fixture::new(options),
            model: Model::new(),
            random: Random(seed),
            job: None,
            events: Vec::new(),
        }
    }

    fn batch(&mut self) {
        let Self { fixture, model, random, events, .. } = self;
        let mut batch = fixture.store.begin();
        for _ in 0..=random.below(3) {
            if random.one_in(12) {
                let at = random.below(model.revision as u64 + 2) as i64;
                let want = match at {
                    at if at <= model.compacted => Err(CompactError::Compacted),
                    at if at > model.revision => Err(CompactError::Future),
                    _ => Ok(()),
                };
                assert_eq!(batch.compact(at), want);
                if want.is_ok() {
                    model.compacted = at;
                }
            }
            let before = model.revision;
            let main = before + 1;
            let mut sub = 0;
            let mut put = Vec::new();
            let mut txn = batch.txn();
            for _ in 0..random.below(5) {
                if random.one_in(4) {
                    let range = random_range(random, key, KEYS);
                    let range =
                        if random.one_in(3) { range } else { KeyRange::single(range.start) };
                    let gone = model.delete(main, &range);
                    let deleted = txn.delete_range(&range);
                    assert!(deleted.iter().map(|d| &d.key[..]).eq(gone.iter().map(|key| &key[..])));
                    for key in gone {
                        events.push((main, sub, key, false));
                        sub += 1;
                    }
                } else {
                    let key = key(random.below(KEYS));
                    if put.contains(&key) {
                        continue;
                    }
                    let previous = model.at(&key, i64::MAX).cloned();
                    let value = vec![b'v'; random.below(40) as usize];
                    let lease = if random.one_in(3) { random.below(3) as i64 } else { 0 };
                    model.put(main, &key, &value, lease);
                    let done = txn.put(&key, &value, LeaseId(lease));
                    assert_eq!((done.revision.main, done.revision.sub), (main, sub));
                    let meta = done.previous.map(|meta| (meta.version, meta.lease.0));
                    assert_eq!(meta, previous.map(|kv| (kv.version, kv.lease)));
                    events.push((main, sub, key.clone(), true));
                    put.push(key);
                    sub += 1;
                }
                let current = before + i64::from(sub > 0);
                let range = random_range(random, key, KEYS);
                let query = random_query(random, range, main);
                assert_eq!(answer(txn.range(&query)), model.range(&query, current), "{query:?}");
                let key = key(random.below(KEYS));
                let want = model.at(&key, i64::MAX).cloned();
                assert_eq!(txn.get(&key).unwrap().map(|kv| kv.decode().unwrap()), want);
            }
            assert_eq!(txn.changed(), sub > 0);
            model.revision = before + i64::from(sub > 0);
            assert_eq!(txn.finish(), model.revision);
        }
        let committed = batch.commit().unwrap();
        assert_eq!(committed.revision, model.revision);
    }

    fn removal(&mut self) {
        let reader = self.fixture.reader();
        if self.job.is_none() {
            self.job = reader.compaction_job();
            assert!(self.job.is_none() || reader.compaction_job().is_none());
        }
        if let Some(job) = &mut self.job
            && let Progress::Finished { revision } = job.step(30).unwrap()
        {
            assert_eq!(reader.finished_compact_revision(), revision);
            self.job = None;
        }
    }

    fn check(&mut self, queries: usize) {
        let reader = self.fixture.reader();
        assert_eq!(reader.current_revision(), self.model.revision);
        assert_eq!(reader.compact_revision(), self.model.compacted);
        for _ in 0..queries {
            let range = random_range(&mut self.random, key, KEYS);
            let query = random_query(&mut self.random, range, self.model.revision);
            let want = self.model.range(&query, self.model.revision);
            assert_eq!(answer(reader.range(&query)), want, "{query:?}");
        }
        self.check_history(&reader);
    }

    fn check_history(&mut self, reader: &Reader) {
        let from = match self.random.below(3) {
            0 => self.model.compacted.max(0),
            _ => self.random.below(self.model.revision as u64 + 2) as i64,
        };
        let to = from + self.random.below(100) as i64;
        let blocks = reader.history(from, to, 50);
        if from < self.model.compacted {
            assert!(blocks.is_err());
            return;
        }
        let blocks = blocks.unwrap();
        let got: Vec<_> = blocks.iter().flat_map(|block| &block.events).collect();
        let last = blocks.last().map_or(0, |block| block.revision);
        assert!(blocks.len() == 50 || last <= to);
        let to = if blocks.len() == 50 { last } else { to };
        // At the compacted revision itself what was superseded in the same transaction may be
        // gone; a deletion is not (CP-02).
        let stays = |main: i64, key: &[u8]| {
            let same_txn = self.model.keys[key].iter().filter(|(at, _)| *at == main).count();
            main > self.model.compacted || same_txn == 1
        };
        let want: Vec<_> = (self.events.iter())
            .filter(|(main, _, key, _)| (from..=to).contains(main) && stays(*main, key))
            .collect();
        let got: Vec<_> =
            got.into_iter().filter(|event| stays(event.revision.main, &event.key)).collect();
        assert_eq!(got.len(), want.len());
        for (event, (main, sub, key, is_put)) in got.into_iter().zip(want) {
            assert_eq!((event.revision.main, event.revision.sub), (*main, *sub));
            assert_eq!((&event.key[..], event.kind == EventKind::Put), (&key[..], *is_put));
            self.check_event(event, reader);
        }
    }

    fn check_event(&self, event: &Event, reader: &Reader) {
        let main = event.revision.main;
        let states = &self.model.keys[&event.key[..]];
        if event.kind == EventKind::Put {
            let (_, kv) = states.iter().find(|(at, kv)| *at == main && kv.is_some()).unwrap();
            assert_eq!(Some(event.kv.decode().unwrap()), *kv);
            assert_eq!(event.created, kv.as_ref().unwrap().version == 1);
        }
        if main > self.model.compacted {
            event.resolve_prev(|key, at| reader.get_at(key, at).ok().flatten());
            // A put that makes the key has none, even if the same transaction deleted it before.
            let want = self.model.at(&event.key, main - 1).filter(|_| !event.created);
            assert_eq!(event.prev_kv().map(|kv| kv.decode().unwrap()).as_ref(), want);
        }
    }
}

fn run(seed: u64, options: Options, rounds: usize) {
    let mut run = Run::new(seed, options);
    for round in 0..rounds {
        run.batch();
        if run.random.one_in(3) {
            run.removal();
        }
        run.check(6);
        if round % 60 == 59 {
            // A restart in the middle of a removal resumes it.
            run.job = None;
            run.fixture = run.fixture.reopen();
            let mut leased: Vec<_> = (run.model.keys.keys())
                .filter_map(|key| run.model.at(key, i64::MAX))
                .filter(|kv| kv.lease != 0)
                .map(|kv| (LeaseId(kv.lease), kv.key.clone()))
                .collect();
            leased.sort_by(|a, b| a.1.cmp(&b.1));
            assert_eq!(run.fixture.leased_keys, leased);
            run.check(40);
        }
    }
    let live = run.model.keys.keys().filter(|key| run.model.at(key, i64::MAX).is_some()).count();
    assert_eq!(run.fixture.reader().stats().keys, live as i64);
}

#[test]
fn everything_in_memory() {
    for seed in 1..9 {
        run(seed, Options::default(), 240);
    }
}

#[test]
fn nothing_in_memory() {
    for seed in 11..19 {
        run(seed, Options { value_cache_bytes: 0, event_ring_bytes: 0 }, 240);
    }
}

#[test]
fn a_little_in_memory() {
    for seed in 21..29 {
        run(seed, Options { value_cache_bytes: 4000, event_ring_bytes: 8000 }, 240);
    }
}
