//! What a list and a put cost between the wire and the store, for `cargo xtask instructions`.
//!
//! Each `measured_` function is counted from its call to its return, with all it calls; anything
//! else in here is not. They contain no closures: callgrind would take one for the function itself.

use std::hint::black_box;

use bytes::Bytes;
use etcdrs_backend::Backend;
use etcdrs_mvcc::{Options, RangeQuery, RangeResult, Reader, Store, StoredKv};
use etcdrs_proto::{etcdserverpb as pb, mvccpb};
use etcdrs_server::bench_hooks;
use etcdrs_types::{KeyRange, LeaseId};
use prost::Message as _;

// The server's allocator.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const PAIRS: usize = 500;
const LISTS: usize = 100;
const PUTS: usize = 1000;

fn main() {
    let result = list();
    let dir = tempfile::tempdir().expect("scratch directory");
    let reader = store(dir.path()).reader();
    let query = RangeQuery::new(KeyRange::prefix(b"/registry/pods/"));
    let raw = put_request();
    // The first round pays for what is made once: the allocator's arena, the loader's symbols.
    let warm = (bench_hooks::encode_range(&result), bench_hooks::wrap_put(&raw));
    drop(black_box(warm));
    assert!(bench_hooks::splice_range(&reader, &query).is_some(), "the list is in memory");
    measured_splice_list(&reader, &query);
    measured_encode_list(&result);
    measured_wrap_put(&raw);
    println!("splice_list {LISTS}\nencode_list {LISTS}\nwrap_put {PUTS}");
}

/// A list of 500 keys whose values are in memory, from the store to the wire.
#[inline(never)]
fn measured_splice_list(reader: &Reader, query: &RangeQuery) {
    for _ in 0..LISTS {
        black_box(bench_hooks::splice_range(black_box(reader), query));
    }
}

/// The same pairs after they were read.
#[inline(never)]
fn measured_encode_list(result: &RangeResult) {
    for _ in 0..LISTS {
        black_box(bench_hooks::encode_range(black_box(result)));
    }
}

#[inline(never)]
fn measured_wrap_put(raw: &Bytes) {
    for _ in 0..PUTS {
        let wrapped = bench_hooks::wrap_put(black_box(raw));
        assert!(black_box(wrapped).is_ok(), "the request is a good one");
    }
}

/// A key like Kubernetes' ones: 64 bytes.
fn key(n: usize) -> Bytes {
    format!("/registry/pods/namespace-{:04}/deployment-web-{n:09}-{:08}", n % 50, n * 7919).into()
}

/// A store of 500 keys, 256 bytes the value.
fn store(dir: &std::path::Path) -> Store {
    let backend = Backend::open(dir, &Default::default()).expect("open database");
    let mut store = Store::open(backend, &Options::default()).expect("open store").store;
    let mut batch = store.begin();
    for n in 0..PAIRS {
        let mut txn = batch.txn();
        txn.put(&key(n), &[b'v'; 256], LeaseId::NONE);
        txn.finish();
    }
    batch.commit().expect("commit");
    store
}

/// 500 pairs, 256 bytes the value.
fn list() -> RangeResult {
    let pair = |n: usize| {
        let pair = mvccpb::KeyValue {
            key: key(n),
            create_revision: 100_000 + n as i64,
            mod_revision: 200_000 + n as i64,
            version: 3,
            value: Bytes::from(vec![b'v'; 256]),
            lease: 0,
        };
        StoredKv::from_encoded(pair.encode_to_vec().into())
    };
    let kvs: Vec<StoredKv> = (0..PAIRS).map(pair).collect();
    RangeResult { revision: 300_000, kvs, more: true, count: 100_000 }
}

fn put_request() -> Bytes {
    let value = Bytes::from(vec![b'v'; 256]);
    pb::PutRequest { key: key(7), value, ..Default::default() }.encode_to_vec().into()
}
