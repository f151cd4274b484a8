//! What delivering an event and reading a range cost, for `cargo xtask instructions`.
//!
//! Each `measured_` function is counted from its call to its return, with all it calls; anything
//! else in here is not. They contain no closures: callgrind would take one for the function itself.

use std::hint::black_box;
use std::sync::Arc;

use bytes::BytesMut;
use etcdrs_backend::Backend;
use etcdrs_mvcc::watch::{Hub, HubOptions, Response, Wake, WatchSpec, WatchStream};
use etcdrs_mvcc::{EventBlock, Options, RangeQuery, Reader, Store};
use etcdrs_types::{KeyRange, LeaseId};

// The server's allocator.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const KEYS: u64 = 100_000;
const WATCHERS: usize = 100;
const EVENTS: u64 = 100;
const READS: u64 = 50;
const COUNTS: u64 = 1000;

struct Silent;

impl Wake for Silent {
    fn wake(&self) {}
}

fn main() {
    let dir = tempfile::tempdir().expect("scratch directory");
    let backend = Backend::open(dir.path(), &Default::default()).expect("open database");
    let mut store = Store::open(backend, &Options::default()).expect("open store").store;
    for begin in (0..KEYS).step_by(1000) {
        put(&mut store, begin..begin + 1000);
    }
    let reader = store.reader();
    reads(&reader);
    fan_out(&mut store, reader);
    println!("range_500 {READS}\nlimit_500 {READS}\ncount {COUNTS}\nfan_out_100 {EVENTS}");
}

fn reads(reader: &Reader) {
    // One namespace holds every fiftieth key.
    let range = KeyRange::from_wire(key(10_007).into(), key(10_007 + 500 * 50).into());
    let list = RangeQuery::new(range);
    let page = RangeQuery { limit: 500, ..RangeQuery::new(KeyRange::prefix(b"/registry/pods/")) };
    let count = RangeQuery { limit: 0, count_only: true, ..page.clone() };
    assert_eq!(read(reader, &list), (500, 500));
    assert_eq!(read(reader, &page), (500, KEYS as i64));
    assert_eq!(read(reader, &count), (0, KEYS as i64));
    measured_range_500(reader, &list);
    measured_limit_500(reader, &page);
    measured_count(reader, &count);
}

/// A list of 500 keys whose values are in memory.
#[inline(never)]
fn measured_range_500(reader: &Reader, query: &RangeQuery) {
    // Equal bodies would be merged into one function; this makes them different.
    black_box("range_500");
    for _ in 0..READS {
        black_box(read(reader, query));
    }
}

/// The first 500 of 100,000 keys, and their count.
#[inline(never)]
fn measured_limit_500(reader: &Reader, query: &RangeQuery) {
    black_box("limit_500");
    for _ in 0..READS {
        black_box(read(reader, query));
    }
}

/// The count of 100,000 keys.
#[inline(never)]
fn measured_count(reader: &Reader, query: &RangeQuery) {
    black_box("count");
    for _ in 0..COUNTS {
        black_box(read(reader, query));
    }
}

/// Pairs read, and the count.
fn read(reader: &Reader, query: &RangeQuery) -> (usize, i64) {
    let result = black_box(reader.range(black_box(query)).expect("range"));
    (result.kvs.len(), result.count)
}

fn fan_out(store: &mut Store, reader: Reader) {
    let hub = Hub::new(reader, HubOptions::default());
    let stream = hub.stream(Arc::new(Silent));
    for _ in 0..WATCHERS {
        let range = KeyRange::prefix(b"/registry/pods/namespace-0007/");
        stream.create(WatchSpec::new(range)).expect("a watcher");
    }
    // Two rounds: the first brings the hub's and the stream's buffers to their size.
    for round in 0..2 {
        let keys = (0..EVENTS).map(|n| 7 + 50 * (n + round * EVENTS));
        let blocks: Vec<_> = keys.flat_map(|n| put(store, n..n + 1)).collect();
        assert_eq!(blocks.len() as u64, EVENTS);
        let sent = match round {
            0 => deliver(&hub, &stream, &blocks),
            _ => measured_fan_out_100(&hub, &stream, &blocks),
        };
        assert_eq!(sent, blocks.len() * WATCHERS);
    }
}

/// One event published to 100 watchers of one stream, taken from it and encoded for each.
#[inline(never)]
fn measured_fan_out_100(hub: &Hub, stream: &WatchStream, blocks: &[Arc<EventBlock>]) -> usize {
    deliver(hub, stream, blocks)
}

/// Answers that were encoded.
#[inline(always)]
fn deliver(hub: &Hub, stream: &WatchStream, blocks: &[Arc<EventBlock>]) -> usize {
    let mut sent = 0;
    let mut ready = Vec::new();
    // Taken once: whether a growing buffer can stay where it is would be luck of the heap.
    let mut out = BytesMut::with_capacity(128 * 1024);
    for block in blocks {
        hub.publish(std::slice::from_ref(black_box(block)));
        while stream.poll(64 * 1024, &mut ready) {}
        out.clear();
        for response in ready.drain(..) {
            if let Response::Events { prev_kv, events, .. } = &response {
                out.reserve(events.wire_len(*prev_kv));
                events.encode_wire(*prev_kv, &mut out);
                sent += 1;
            }
        }
        black_box(&out);
    }
    sent
}

/// A key like Kubernetes' ones: 64 bytes, most of them shared.
fn key(n: u64) -> String {
    format!("/registry/pods/namespace-{:04}/deployment-web-{n:09}-{:08x}", n % 50, n * 40_503)
}

/// Puts the keys of these numbers in one batch, 256 bytes the value.
fn put(store: &mut Store, numbers: std::ops::Range<u64>) -> Vec<Arc<EventBlock>> {
    let mut batch = store.begin();
    for n in numbers {
        let mut txn = batch.txn();
        txn.put(key(n).as_bytes(), &[b'v'; 256], LeaseId::NONE);
        txn.finish();
    }
    batch.commit().expect("commit").blocks
}
