//! What applying a put costs, for `cargo xtask instructions`.
//!
//! Each `measured_` function is counted from its call to its return, with all it calls on this
//! thread, RocksDB's write among it; anything else in here is not. They contain no closures:
//! callgrind would take one for the function itself.

use std::hint::black_box;

use bytes::Bytes;
use etcdrs_apply::{Entry, Machine, Options, Payload};
use etcdrs_backend::Backend;
use etcdrs_proto::etcdserverpb as pb;
use etcdrs_types::{LogIndex, Term};
use prost::Message as _;

/// Puts in a batch, as many as a busy server's log hands over at once.
const BATCH: u64 = 64;
const BATCHES: u64 = 50;
/// Keys that are there before anything is counted.
const PRELOAD: u64 = 20_000;

fn main() {
    let dir = tempfile::tempdir().expect("scratch directory");
    let backend = Backend::open(dir.path(), &Default::default()).expect("open database");
    let options =
        Options { store: Default::default(), lease: Default::default(), watch: Default::default() };
    let mut machine = Machine::open(backend, options).expect("open machine").machine;
    let mut next = 1;
    let preload: Vec<u64> = (0..PRELOAD).map(spread).collect();
    preload.chunks(1000).for_each(|keys| apply(&mut machine, &batch(&mut next, keys)));

    let new: Vec<u64> = (PRELOAD..PRELOAD + BATCH * BATCHES).map(spread).collect();
    let new = batches(&mut next, &new);
    let again: Vec<u64> = (0..BATCH * BATCHES).map(|n| spread(n * 6)).collect();
    let again = batches(&mut next, &again);
    measured_put_new_key(&mut machine, &new);
    measured_put_again(&mut machine, &again);
    println!("put_new_key {}\nput_again {}", BATCH * BATCHES, BATCH * BATCHES);
}

#[inline(never)]
fn measured_put_new_key(machine: &mut Machine, batches: &[Vec<Entry>]) {
    // Equal bodies would be merged into one function; this makes them different.
    black_box("put_new_key");
    for batch in batches {
        apply(machine, batch);
    }
}

#[inline(never)]
fn measured_put_again(machine: &mut Machine, batches: &[Vec<Entry>]) {
    black_box("put_again");
    for batch in batches {
        apply(machine, batch);
    }
}

fn apply(machine: &mut Machine, entries: &[Entry]) {
    let outcomes = machine.apply(black_box(entries)).expect("apply");
    assert!(black_box(outcomes).len() == entries.len(), "one outcome for each entry");
}

/// Numbers of keys in a random-looking but repeatable order, none twice.
fn spread(n: u64) -> u64 {
    n * 7919 % 1_000_003
}

/// A put of a 64-byte key like Kubernetes' ones and a value of 256 bytes.
fn put(n: u64) -> Bytes {
    let key = format!("/registry/pods/namespace-{:04}/deployment-web-{n:09}-{n:08x}", n % 50);
    let value = Bytes::from(vec![b'v'; 256]);
    let put = pb::PutRequest { key: key.into(), value, ..Default::default() };
    let request = pb::InternalRaftRequest { put: Some(put), ..Default::default() };
    request.encode_to_vec().into()
}

fn batch(next: &mut u64, keys: &[u64]) -> Vec<Entry> {
    let entry = |n: &u64| {
        let index = LogIndex(*next);
        *next += 1;
        Entry { index, term: Term(1), payload: Payload::Request(put(*n)) }
    };
    keys.iter().map(entry).collect()
}

fn batches(next: &mut u64, keys: &[u64]) -> Vec<Vec<Entry>> {
    keys.chunks(BATCH as usize).map(|keys| batch(next, keys)).collect()
}
