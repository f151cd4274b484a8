//! Loads a store with keys and prints what its operations cost.
//!
//! `cargo run --release -p etcdrs-mvcc --example load -- [keys] [batch] [puts | /dir]`
//!
//! `puts` stops after them and keeps the directory, which another run then takes.

use std::hint::black_box;
use std::time::{Duration, Instant};

use etcdrs_backend::Backend;
use etcdrs_mvcc::{Opened, Options, RangeQuery, Reader, Store};
use etcdrs_types::{KeyRange, LeaseId};

// The server's allocator.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Bytes of a value, as the bars of the project have it.
const VALUE_BYTES: usize = 256;

/// Numbers that are spread and repeatable.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
}

/// A key like Kubernetes' ones: 64 bytes, most of them shared.
fn key(n: u64) -> String {
    format!(
        "/registry/pods/namespace-{:04}/deployment-web-{n:09}-{:08x}",
        n % 50,
        n * 2_654_435_761
    )
}

#[expect(clippy::disallowed_methods, reason = "a measurement reads the clock")]
fn now() -> Instant {
    Instant::now()
}

/// Resident memory and CPU time of this process, from `/proc`.
fn usage() -> (u64, Duration) {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0);
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<_> = stat.rsplit(')').next().unwrap_or("").split(' ').collect();
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<u64>().ok()).unwrap_or(0);
    (pages * 4096, Duration::from_millis((ticks(12) + ticks(13)) * 10))
}

fn report(name: &str, count: u64, run: impl FnOnce()) {
    let ((_, cpu), begin) = (usage(), now());
    run();
    let (elapsed, (rss, cpu_after)) = (begin.elapsed(), usage());
    let per = |time: Duration| time.as_nanos() as f64 / count as f64;
    println!(
        "{name:34} {:>11.0} ns/op  cpu {:>8.0} ns/op  total {:>7.3} s  rss {:>5} MiB",
        per(elapsed),
        per(cpu_after.saturating_sub(cpu)),
        elapsed.as_secs_f64(),
        rss >> 20
    );
}

fn open(dir: &std::path::Path) -> Opened {
    let backend = Backend::open(dir, &etcdrs_backend::Options::default()).expect("open database");
    let options = Options { value_cache_bytes: 2 << 30, ..Options::default() };
    Store::open(backend, &options).expect("open store")
}

fn put(store: &mut Store, count: u64, batch_len: u64, mut next: impl FnMut(u64) -> String) {
    let value = [b'v'; VALUE_BYTES];
    for begin in (0..count).step_by(batch_len as usize) {
        let mut batch = store.begin();
        for n in begin..(begin + batch_len).min(count) {
            let mut txn = batch.txn();
            txn.put(next(n).as_bytes(), &value, LeaseId::NONE);
            txn.finish();
        }
        batch.commit().expect("commit");
    }
}

fn reads(reader: &Reader, keys: u64, random: &mut Random) {
    let revision = reader.current_revision();
    let prefix = KeyRange::prefix(b"/registry/pods/");
    let at = |query: &RangeQuery| black_box(reader.range(query).expect("range"));
    report("get, random", 500_000, || {
        for _ in 0..500_000 {
            at(&RangeQuery::new(KeyRange::single(key(random.below(keys)))));
        }
    });
    let page = RangeQuery { limit: 500, ..RangeQuery::new(prefix.clone()) };
    report("list, limit 500 of all", 2000, || {
        (0..2000).for_each(|_| drop(at(&page)));
    });
    report("list, limit 500, random place", 2000, || {
        for _ in 0..2000 {
            let start = key(random.below(keys));
            let range = KeyRange::from_wire(start.into(), prefix.wire_end());
            at(&RangeQuery { limit: 500, ..RangeQuery::new(range) });
        }
    });
    report("list of 500 keys", 2000, || {
        for _ in 0..2000 {
            let begin = random.below(keys / 50 - 500) * 50 + 7;
            let range = KeyRange::from_wire(key(begin).into(), key(begin + 500 * 50).into());
            assert_eq!(at(&RangeQuery::new(range)).kvs.len(), 500);
        }
    });
    report("keys only, limit 500", 2000, || {
        let page = RangeQuery { keys_only: true, ..page.clone() };
        (0..2000).for_each(|_| drop(at(&page)));
    });
    report("count of all", 100_000, || {
        let count = RangeQuery { count_only: true, ..RangeQuery::new(prefix.clone()) };
        (0..100_000).for_each(|_| drop(at(&count)));
    });
    report("page 2 at 1000 revisions ago", 2000, || {
        let range = KeyRange::from_wire(key(keys / 2).into(), prefix.wire_end());
        let revision = (revision - 1000).max(reader.compact_revision());
        let page = RangeQuery { revision, limit: 500, ..RangeQuery::new(range) };
        (0..2000).for_each(|_| drop(at(&page)));
    });
    report("list of all", keys, || drop(at(&RangeQuery::new(prefix.clone()))));
}

fn main() {
    let mut args = std::env::args().skip(1).filter_map(|arg| arg.parse::<u64>().ok());
    let (keys, batch) = (args.next().unwrap_or(1_000_000), args.next().unwrap_or(64));
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    if let Some(dir) = std::env::args().skip(1).find(|arg| arg.starts_with('/')) {
        restart(dir.as_ref(), keys, &mut random);
        return;
    }
    let dir = tempfile::tempdir().expect("scratch directory");
    let mut store = open(dir.path()).store;
    let (base, _) = usage();
    report(&format!("put, new keys, batches of {batch}"), keys, || {
        put(&mut store, keys, batch, key)
    });
    let reader = store.reader();
    let (rss, _) = usage();
    println!("resident per key {} B; {:?}", (rss - base) / keys, reader.memory());
    report("put, overwrite at random", 200_000, || {
        put(&mut store, 200_000, batch, |_| key(random.below(keys)));
    });
    if std::env::args().any(|arg| arg == "puts") {
        drop((store, reader));
        println!("kept in {:?}", dir.keep());
        return;
    }
    reads(&reader, keys, &mut random);
    report("hash_kv, per revision", keys, || drop(black_box(reader.hash_kv(0))));
    let mut compaction = store.begin();
    let at = compaction.revision();
    compaction.compact(at).expect("compact");
    compaction.commit().expect("commit");
    report("compaction, per key", keys, || {
        reader.compaction_job().expect("a job is due").run().expect("compact");
    });
    drop((store, reader));
    restart(dir.path(), keys, &mut random);
}

fn restart(dir: &std::path::Path, keys: u64, random: &mut Random) {
    let mut opened = None;
    report("restart, per key", keys, || opened = Some(open(dir)));
    let store = opened.expect("opened above").store;
    let reader = store.reader();
    let memory = reader.memory();
    println!(
        "index {} B and keys {} B per key",
        memory.index as u64 / keys,
        memory.keys as u64 / keys
    );
    report("get, random, cold", 20_000, || {
        for _ in 0..20_000 {
            let query = RangeQuery::new(KeyRange::single(key(random.below(keys))));
            black_box(reader.range(&query).expect("range"));
        }
    });
    report("values read into memory, per key", keys, || {
        let mut job = reader.warm_job();
        while job.step(1000).expect("warm") {}
    });
    reads(&reader, keys, random);
}
