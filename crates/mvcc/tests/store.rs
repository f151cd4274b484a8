//! Rules of the store one by one. Names give the rule of the reference.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use bytes::Bytes;
use common::{Fixture, open};
use etcdrs_backend::{Backend, Bucket};
use etcdrs_mvcc::{
    CompactError, EventKind, Options, PrevKv, Progress, RangeError, RangeQuery, Reader, SortOrder,
    SortTarget, Store,
};
use etcdrs_types::{KeyRange, LeaseId, Revision};

fn fixture() -> Fixture {
    Fixture::new(Options::default())
}

fn query(range: KeyRange) -> RangeQuery {
    RangeQuery::new(range)
}

fn keys(reader: &Reader, query: &RangeQuery) -> Vec<String> {
    let result = reader.range(query).unwrap();
    result.kvs.iter().map(|kv| String::from_utf8(kv.key().to_vec()).unwrap()).collect()
}

#[test]
fn rv_01_a_new_store_is_at_revision_1_and_was_never_compacted() {
    let fixture = fixture();
    let reader = fixture.reader();
    assert_eq!((reader.current_revision(), reader.compact_revision()), (1, -1));
    assert!(reader.compaction_job().is_none());
    assert_eq!(reader.range(&query(KeyRange::all())).unwrap().revision, 1);
}

#[test]
fn rv_02_rv_03_an_entry_has_one_revision_however_much_it_changes() {
    let mut fixture = fixture();
    let mut batch = fixture.store.begin();
    let mut txn = batch.txn();
    for (sub, key) in ["c", "a", "b"].into_iter().enumerate() {
        let done = txn.put(key.as_bytes(), b"v", LeaseId::NONE);
        assert_eq!(done.revision, Revision { main: 2, sub: sub as i64 });
    }
    assert_eq!(txn.finish(), 2);
    // Nothing to delete: nothing changes.
    let mut txn = batch.txn();
    assert!(txn.delete_range(&KeyRange::single("x")).is_empty());
    assert_eq!(txn.finish(), 2);
    let mut txn = batch.txn();
    let gone = txn.delete_range(&KeyRange::all());
    assert!(gone.iter().map(|deleted| &deleted.key[..]).eq([b"a", b"b", b"c"]));
    assert_eq!(txn.finish(), 3);
    let committed = batch.commit().unwrap();
    assert_eq!(committed.revision, 3);
    let [puts, deletes] = &committed.blocks[..] else { panic!("one block per revision") };
    assert_eq!((puts.revision, deletes.revision), (2, 3));
    let subs = deletes.events.iter().map(|event| event.revision.sub);
    assert!(subs.eq(0..3));
    assert_eq!(deletes.events[0].prev_kv().unwrap().key(), b"a");
}

#[test]
fn rv_05_a_key_that_comes_back_starts_anew() {
    let mut fixture = fixture();
    fixture.put("a", "1");
    fixture.put("a", "2");
    fixture.delete(&KeyRange::single("a"));
    fixture.put("a", "3");
    let kv = fixture.reader().get_at(b"a", 0).unwrap().unwrap().decode().unwrap();
    assert_eq!((kv.create_revision, kv.mod_revision, kv.version), (5, 5, 1));
}

#[test]
fn nothing_is_visible_before_the_commit_and_nothing_after_a_drop() {
    let mut fixture = fixture();
    let reader = fixture.reader();
    let mut batch = fixture.store.begin();
    let mut txn = batch.txn();
    txn.put(b"a", b"1", LeaseId::NONE);
    assert_eq!(txn.range(&query(KeyRange::all())).unwrap().count, 1);
    drop(txn);
    batch.backend_batch().put(Bucket::Meta, b"consistent_index", b"5");
    assert_eq!(batch.revision(), 2);
    assert_eq!(reader.count(&KeyRange::all()), 0);
    drop(batch);
    assert_eq!(reader.current_revision(), 1);
    assert_eq!(fixture.put("b", "1"), 2);
    assert_eq!(keys(&reader, &query(KeyRange::all())), ["b"]);
}

#[test]
fn tx_10_ranges_of_an_entry_see_its_changes_unless_they_name_a_revision() {
    let mut fixture = fixture();
    fixture.put("a", "old");
    let mut batch = fixture.store.begin();
    let mut txn = batch.txn();
    txn.put(b"a", b"new", LeaseId::NONE);
    txn.put(b"b", b"new", LeaseId::NONE);
    let newest = txn.range(&query(KeyRange::all())).unwrap();
    assert_eq!((newest.revision, newest.count), (3, 2));
    assert_eq!(newest.kvs[0].decode().unwrap().version, 2);
    let before = txn.range(&RangeQuery { revision: 2, ..query(KeyRange::all()) }).unwrap();
    assert_eq!((before.revision, before.count), (3, 1));
    assert_eq!(before.kvs[0].value(), b"old");
    let future = txn.range(&RangeQuery { revision: 4, ..query(KeyRange::all()) });
    assert!(matches!(future, Err(RangeError::Future)));
    drop(txn);
    // A later entry of the batch reads what was between.
    let mut txn = batch.txn();
    txn.delete_range(&KeyRange::single("a"));
    let between = txn.range(&RangeQuery { revision: 3, ..query(KeyRange::all()) }).unwrap();
    assert_eq!((between.revision, between.count), (4, 2));
}

#[test]
fn rg_03_rg_11_revisions_of_a_read() {
    let mut fixture = fixture();
    for value in ["1", "2", "3"] {
        fixture.put("a", value);
    }
    fixture.compact(3);
    let reader = fixture.reader();
    let at = |revision| reader.range(&RangeQuery { revision, ..query(KeyRange::single("a")) });
    assert!(matches!(at(2), Err(RangeError::Compacted)));
    assert!(matches!(at(5), Err(RangeError::Future)));
    assert_eq!(at(3).unwrap().kvs[0].value(), b"2");
    assert_eq!(at(3).unwrap().revision, 4);
    assert_eq!(at(-5).unwrap().kvs[0].value(), b"3");
}

#[test]
fn rg_04_rg_05_rg_06_limit_count_and_more() {
    let mut fixture = fixture();
    for n in 0..10 {
        fixture.put(&format!("k{n}"), "v");
    }
    let reader = fixture.reader();
    let page = reader.range(&RangeQuery { limit: 3, ..query(KeyRange::all()) }).unwrap();
    assert_eq!((page.kvs.len(), page.more, page.count), (3, true, 10));
    let all = reader.range(&RangeQuery { limit: 10, ..query(KeyRange::all()) }).unwrap();
    assert_eq!((all.kvs.len(), all.more, all.count), (10, false, 10));
    let filtered = RangeQuery { min_mod_revision: 9, limit: 5, ..query(KeyRange::all()) };
    let filtered = reader.range(&filtered).unwrap();
    assert_eq!((filtered.kvs.len(), filtered.more, filtered.count), (3, false, 10));
    let count =
        RangeQuery { count_only: true, keys_only: true, limit: 1, ..query(KeyRange::all()) };
    let count = reader.range(&count).unwrap();
    assert_eq!((count.kvs.len(), count.more, count.count), (0, false, 10));
}

#[test]
fn rg_07_keys_only_has_no_lease_unless_sorted_by_value() {
    let mut fixture = fixture();
    fixture.put_lease("a", "2", 7);
    fixture.put_lease("b", "1", 7);
    let reader = fixture.reader();
    let keys_only = RangeQuery { keys_only: true, ..query(KeyRange::all()) };
    let kv = reader.range(&keys_only).unwrap().kvs[0].decode().unwrap();
    assert_eq!((kv.lease, &kv.value[..], kv.version), (0, &b""[..], 1));
    let by_value = RangeQuery { target: SortTarget::Value, ..keys_only };
    let kv = reader.range(&by_value).unwrap().kvs[0].decode().unwrap();
    assert_eq!((&kv.key[..], kv.lease, &kv.value[..]), (&b"b"[..], 7, &b""[..]));
}

#[test]
fn rg_10_without_an_order_only_the_first_page_is_sorted() {
    let mut fixture = fixture();
    for (key, value) in [("a", "3"), ("b", "2"), ("c", "4"), ("d", "1")] {
        fixture.put(key, value);
    }
    let reader = fixture.reader();
    let page = RangeQuery { limit: 2, target: SortTarget::Value, ..query(KeyRange::all()) };
    assert_eq!(keys(&reader, &page), ["b", "a"]);
    assert_eq!(keys(&reader, &RangeQuery { order: SortOrder::Ascend, ..page.clone() }), ["d", "b"]);
    assert_eq!(keys(&reader, &RangeQuery { min_mod_revision: 1, ..page }), ["d", "b"]);
}

#[test]
fn kr_03_an_inverted_range_is_empty() {
    let mut fixture = fixture();
    fixture.put("a", "1");
    let inverted = KeyRange::from_wire("b".into(), "a".into());
    assert_eq!(fixture.reader().range(&query(inverted.clone())).unwrap().count, 0);
    let mut batch = fixture.store.begin();
    let mut txn = batch.txn();
    txn.put(b"ab", b"", LeaseId::NONE);
    assert_eq!(txn.range(&query(inverted.clone())).unwrap().count, 0);
    assert!(txn.delete_range(&inverted).is_empty());
}

#[test]
fn cp_01_order_and_bounds_of_compactions() {
    let mut fixture = fixture();
    fixture.put("a", "1");
    let mut batch = fixture.store.begin();
    assert_eq!(batch.compact(-1), Err(CompactError::Compacted));
    assert_eq!(batch.compact(3), Err(CompactError::Future));
    assert_eq!(batch.compact(0), Ok(()));
    assert_eq!(batch.compact(0), Err(CompactError::Compacted));
    assert_eq!(batch.compact(2), Ok(()));
    assert_eq!(batch.compact(1), Err(CompactError::Compacted));
    batch.commit().unwrap();
    assert_eq!(fixture.reader().compact_revision(), 2);
}

/// Main revisions of the rows of bucket `key`, and whether they are tombstones.
fn rows(backend: &Backend) -> Vec<(i64, bool)> {
    let snapshot = backend.snapshot();
    let mut rows = snapshot.all_rows(Bucket::Key);
    let mut found = Vec::new();
    while let Some((key, _)) = rows.next().unwrap() {
        let (revision, tombstone) = Revision::from_key(key).unwrap();
        found.push((revision.main, tombstone));
    }
    found
}

#[test]
fn cp_02_the_reference_example() {
    // storage-and-raft.md §3.3, one revision later: put 2, put 3, delete 4, put 5, delete 6.
    let full = [(2, false), (3, false), (4, true), (5, false), (6, true)];
    for (at, left) in [(3, 1..), (4, 2..), (5, 3..), (6, 4..), (7, 5..)] {
        let dir = tempfile::tempdir().unwrap();
        let backend = Backend::open(dir.path(), &common::small_backend()).unwrap();
        let opened = Store::open(backend.clone(), &Options::default()).unwrap();
        let mut fixture = Fixture {
            dir,
            options: Options::default(),
            store: opened.store,
            leased_keys: Vec::new(),
        };
        fixture.put("k", "1");
        fixture.put("k", "2");
        fixture.delete(&KeyRange::single("k"));
        fixture.put("k", "4");
        fixture.delete(&KeyRange::single("k"));
        fixture.put("other", "");
        fixture.compact(at);
        let mut want = full[left].to_vec();
        want.push((7, false));
        assert_eq!(rows(&backend), want, "compacted at {at}");
        // Not after the directory, which goes with the fixture.
        drop(backend);
    }
}

#[test]
fn cp_04_an_interrupted_removal_resumes_after_a_restart() {
    let mut fixture = fixture();
    for n in 0..300 {
        fixture.put(&format!("k{:03}", n % 100), "v");
    }
    let mut batch = fixture.store.begin();
    batch.compact(301).unwrap();
    batch.commit().unwrap();
    let mut job = fixture.reader().compaction_job().unwrap();
    assert_eq!(job.step(10).unwrap(), Progress::More);
    drop(job);
    let fixture = fixture.reopen();
    let reader = fixture.reader();
    assert_eq!((reader.compact_revision(), reader.finished_compact_revision()), (301, -1));
    assert_eq!(reader.compaction_job().unwrap().run().unwrap(), 301);
    assert!(reader.compaction_job().is_none());
    drop(reader);
    let fixture = fixture.reopen();
    assert_eq!(fixture.reader().finished_compact_revision(), 301);
    assert_eq!(fixture.reader().count(&KeyRange::all()), 100);
}

#[test]
fn rv_07_the_revision_survives_a_compaction_of_everything() {
    let mut fixture = fixture();
    fixture.put("a", "1");
    fixture.delete(&KeyRange::single("a"));
    fixture.put("b", "1");
    fixture.delete(&KeyRange::single("b"));
    fixture.compact(5);
    fixture.put("c", "1");
    fixture.delete(&KeyRange::single("c"));
    fixture.compact(7);
    let mut fixture = fixture.reopen();
    assert_eq!(fixture.reader().current_revision(), 7);
    assert_eq!(fixture.put("d", "1"), 8);
}

#[test]
fn a_batch_that_was_not_flushed_is_lost_as_a_whole() {
    // The directory is dropped last, after the databases in it.
    let dir = tempfile::tempdir().unwrap();
    let (live, copy) = (dir.path().join("live"), dir.path().join("copy"));
    let backend = Backend::open(&live, &common::small_backend()).unwrap();
    let mut store = Store::open(backend.clone(), &Options::default()).unwrap().store;
    let mut put = |key: &str| {
        let mut batch = store.begin();
        batch.txn().put(key.as_bytes(), b"v", LeaseId::NONE);
        batch.backend_batch().put(Bucket::Meta, b"consistent_index", key.as_bytes());
        batch.commit().unwrap();
    };
    put("1");
    put("2");
    backend.flush().unwrap();
    put("3");
    put("4");
    // What a crash would leave: the files as they are, without the memtables.
    std::fs::create_dir(&copy).unwrap();
    for entry in std::fs::read_dir(&live).unwrap() {
        let entry = entry.unwrap();
        if entry.file_name() != "LOCK" {
            // RocksDB may remove what it needs no more at any time.
            std::fs::copy(entry.path(), copy.join(entry.file_name())).ok();
        }
    }
    let index = |backend: &Backend| backend.get(Bucket::Meta, b"consistent_index").unwrap();
    assert_eq!(index(&backend).unwrap(), "4");
    assert_eq!(backend.get_durable(Bucket::Meta, b"consistent_index").unwrap().unwrap(), "2");
    let crashed = Backend::open(&copy, &common::small_backend()).unwrap();
    assert_eq!(index(&crashed).unwrap(), "2");
    let reader = Store::open(crashed, &Options::default()).unwrap().store.reader();
    assert_eq!(reader.current_revision(), 3);
    assert_eq!(keys(&reader, &query(KeyRange::all())), ["1", "2"]);
    // A checkpoint has everything.
    backend.checkpoint(&dir.path().join("checkpoint")).unwrap();
    let opened = open(&dir.path().join("checkpoint"), &Options::default());
    assert_eq!(opened.store.reader().current_revision(), 5);
}

#[test]
fn mt_04_hash_kv_is_the_crc_of_the_rows() {
    let mut fixture = fixture();
    fixture.put("a", "1");
    fixture.put("b", "2");
    fixture.delete(&KeyRange::single("a"));
    let reader = fixture.reader();
    let mut data = b"key".to_vec();
    for (sub, key) in ["a", "b"].into_iter().enumerate() {
        let revision = sub as i64 + 2;
        data.extend_from_slice(&Revision::main(revision).to_key());
        data.extend_from_slice(reader.get_at(key.as_bytes(), revision).unwrap().unwrap().bytes());
    }
    let up_to_3 = crc32c::crc32c(&data);
    data.extend_from_slice(&Revision::main(4).to_tombstone_key());
    data.extend_from_slice(b"\x0a\x01a");
    let all = reader.hash_kv(0).unwrap();
    assert_eq!((all.hash, all.revision), (crc32c::crc32c(&data), 4));
    assert_eq!((all.compact_revision, all.current_revision), (-1, 4));
    assert_eq!(reader.hash_kv(3).unwrap().hash, up_to_3);
    assert!(matches!(reader.hash_kv(5), Err(RangeError::Future)));
}

#[test]
fn mt_04_hash_kv_does_not_tell_how_far_the_removal_is() {
    let mut fixture = fixture();
    for n in 0..400u64 {
        fixture.put(&format!("k{}", n * 7 % 90), &n.to_string());
        if n % 5 == 0 {
            fixture.delete(&KeyRange::single(format!("k{}", n * 3 % 90)));
        }
    }
    let newest = fixture.reader().current_revision();
    // Among them revisions of deletions, whose tombstones stay in the database.
    for at in (100..newest).step_by(37) {
        let mut batch = fixture.store.begin();
        batch.compact(at).unwrap();
        batch.commit().unwrap();
        let reader = fixture.reader();
        let before = (reader.hash_kv(at).unwrap(), reader.hash_kv(0).unwrap());
        let mut job = reader.compaction_job().unwrap();
        while job.step(25).unwrap() == Progress::More {
            assert_eq!((reader.hash_kv(at).unwrap(), reader.hash_kv(0).unwrap()), before);
        }
        drop(job);
        assert_eq!((reader.hash_kv(at).unwrap(), reader.hash_kv(0).unwrap()), before);
        assert!(matches!(reader.hash_kv(at - 1), Err(RangeError::Compacted)));
        drop(reader);
        fixture = fixture.reopen();
        let reader = fixture.reader();
        assert_eq!(reader.hash_kv(0).unwrap().hash, before.1.hash);
    }
}

#[test]
fn mt_03_the_hash_of_everything_leaves_a_members_own_rows_out() {
    let mut fixture = fixture();
    fixture.put("a", "1");
    let reader = fixture.reader();
    let before = reader.hash().unwrap();
    let mut batch = fixture.store.begin();
    batch.backend_batch().put(Bucket::Meta, b"consistent_index", b"99");
    batch.commit().unwrap();
    assert_eq!(reader.hash().unwrap(), before);
    let mut batch = fixture.store.begin();
    batch.backend_batch().put(Bucket::Lease, b"12345678", b"x");
    batch.commit().unwrap();
    assert_ne!(reader.hash().unwrap(), before);
}

#[test]
fn history_from_the_ring_and_from_the_rows_is_the_same() {
    let mut fixture = fixture();
    fixture.put("a", "1");
    fixture.put("a", "2");
    fixture.put("b", "1");
    fixture.delete(&KeyRange::all());
    fixture.put("a", "3");
    let from_ring = fixture.reader().history(2, 6, 100).unwrap();
    assert_eq!(from_ring.len(), 5);
    assert!(fixture.reader().blocks(2).is_some());
    let fixture = fixture.reopen();
    let reader = fixture.reader();
    assert!(reader.blocks(2).is_none());
    let from_rows = reader.history(2, i64::MAX - 1, 100).unwrap();
    for (ring, row) in from_ring.iter().zip(&from_rows) {
        assert_eq!(ring.revision, row.revision);
        for (ring, row) in ring.events.iter().zip(&row.events) {
            row.resolve_prev(|key, at| reader.get_at(key, at).unwrap());
            assert_eq!((&ring.kv, ring.kind, ring.created), (&row.kv, row.kind, row.created));
            assert_eq!(ring.prev_kv(), row.prev_kv());
        }
    }
    assert_eq!(from_rows[3].events[1].kind, EventKind::Delete);
    assert_eq!(from_rows[4].events[0].prev, PrevKv::None);
    assert_eq!(reader.history(3, 6, 2).unwrap().len(), 2);
    assert!(reader.history(7, 9, 2).unwrap().is_empty());
}

#[test]
fn mismatched_index_rows_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let backend = Backend::open(dir.path(), &common::small_backend()).unwrap();
    let mut batch = backend.batch();
    batch.put(Bucket::Key, &Revision::main(2).to_key(), b"\x0a\x01a");
    backend.write(batch).unwrap();
    let err = Store::open(backend, &Options::default()).unwrap_err();
    assert!(err.to_string().contains("index rows end at"), "{err}");
}

#[test]
fn an_index_row_without_its_revision_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let backend = Backend::open(dir.path(), &common::small_backend()).unwrap();
    let mut store = Store::open(backend.clone(), &Options::default()).unwrap().store;
    for key in ["a", "b"] {
        let mut batch = store.begin();
        batch.txn().put(key.as_bytes(), b"v", LeaseId::NONE);
        batch.commit().unwrap();
    }
    drop(store);
    let mut batch = backend.batch();
    batch.delete(Bucket::Key, &Revision::main(2).to_key());
    backend.write(batch).unwrap();
    let err = Store::open(backend, &Options::default()).unwrap_err();
    assert!(err.to_string().contains("names revision 2_0"), "{err}");
}

#[test]
fn readers_see_one_revision_while_others_write_and_compact() {
    let mut fixture =
        Fixture::new(Options { value_cache_bytes: 20_000, event_ring_bytes: 100_000 });
    // Every batch writes the same number to all keys, so that a torn read shows.
    let count = 1000;
    let write = |fixture: &mut Fixture, n: u64| {
        let mut batch = fixture.store.begin();
        let mut txn = batch.txn();
        for key in 0..count {
            txn.put(format!("{key:05}").as_bytes(), n.to_string().as_bytes(), LeaseId::NONE);
        }
        drop(txn);
        batch.commit().unwrap()
    };
    write(&mut fixture, 0);
    let done = std::sync::atomic::AtomicBool::new(false);
    let reader = fixture.reader();
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..3)
            .map(|thread| {
                let (reader, done) = (reader.clone(), &done);
                scope.spawn(move || {
                    let mut reads = 0;
                    while !done.load(std::sync::atomic::Ordering::Relaxed) || reads < 3 {
                        let revision = if thread == 0 { reader.current_revision() } else { 0 };
                        let all = RangeQuery { revision, ..query(KeyRange::all()) };
                        match reader.range(&all) {
                            Ok(result) => {
                                assert_eq!((result.kvs.len(), result.count), (count, count as i64));
                                let first = result.kvs[0].value_bytes();
                                assert!(result.kvs.iter().all(|kv| kv.value() == first));
                                reads += 1;
                            }
                            Err(RangeError::Compacted) => assert!(revision > 0 || thread > 0),
                            Err(err) => panic!("{err}"),
                        }
                    }
                })
            })
            .collect();
        for n in 1..12 {
            let revision = write(&mut fixture, n).revision;
            let mut batch = fixture.store.begin();
            batch.compact(revision - 1).unwrap();
            batch.commit().unwrap();
            fixture.reader().compaction_job().unwrap().run().unwrap();
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        readers.into_iter().for_each(|reader| reader.join().unwrap());
    });
    assert_eq!(reader.stats().keys, 1000);
}

#[test]
fn values_stay_within_the_budget_and_come_back_when_read() {
    let mut fixture = Fixture::new(Options { value_cache_bytes: 100_000, event_ring_bytes: 0 });
    let value = "v".repeat(1000);
    for n in 0..500 {
        fixture.put(&format!("{n:04}"), &value);
    }
    let reader = fixture.reader();
    assert!(reader.memory().values <= 100_000);
    assert_eq!(reader.range(&query(KeyRange::all())).unwrap().kvs.len(), 500);
    assert!(reader.memory().values <= 100_000);
    drop(reader);
    let fixture = fixture.reopen();
    let reader = fixture.reader();
    assert_eq!(reader.memory().values, 0);
    reader.range(&query(KeyRange::prefix(b"000"))).unwrap();
    let cached = reader.memory().values;
    assert!(cached > 10_000 && cached < 12_000, "{cached}");
}

#[test]
fn a_start_can_be_followed_by_reading_values_into_memory() {
    let options = Options { value_cache_bytes: 40_000, event_ring_bytes: 0 };
    let mut fixture = Fixture::new(options);
    for n in 0..400 {
        fixture.put(&format!("{:03}", n % 150), &format!("value {n} {}", "v".repeat(100)));
        if n % 10 == 0 {
            fixture.delete(&KeyRange::single(format!("{:03}", n / 2 % 150)));
        }
    }
    let fixture = fixture.reopen();
    let reader = fixture.reader();
    let want = reader.range(&query(KeyRange::all())).unwrap();
    drop(reader);
    let fixture = fixture.reopen();
    let reader = fixture.reader();
    let mut job = reader.warm_job();
    while job.step(37).unwrap() {}
    assert!(!job.step(37).unwrap());
    let cached = reader.memory().values;
    assert!(cached > 20_000 && cached <= 41_000, "{cached}");
    assert_eq!(reader.range(&query(KeyRange::all())).unwrap(), want);
}

#[test]
fn rg_05_counts_of_the_past_are_right_where_leaves_did_not_change() {
    let mut fixture = Fixture::new(Options { event_ring_bytes: 0, ..Options::default() });
    let mut random = common::Random(5);
    let mut batch = fixture.store.begin();
    let mut txn = batch.txn();
    for n in 0..2000 {
        txn.put(format!("{n:05}").as_bytes(), b"v", LeaseId::NONE);
    }
    drop(txn);
    batch.commit().unwrap();
    for _ in 0..10 {
        let n = random.below(2000);
        fixture.delete(&KeyRange::single(format!("{n:05}")));
        fixture.put(&format!("{n:05}x"), "");
    }
    let reader = fixture.reader();
    for _ in 0..300 {
        let (a, b) = (random.below(2000), random.below(2100));
        let range = KeyRange::from_wire(format!("{a:05}").into(), format!("{b:05}").into());
        let page = RangeQuery { revision: 2, limit: 3, ..query(range) };
        let page = reader.range(&page).unwrap();
        let want = (b.min(2000) as i64 - a as i64).max(0);
        assert_eq!((page.count, page.kvs.len() as i64), (want, want.min(3)), "{a} {b}");
    }
}

#[test]
fn any_bytes_make_a_key() {
    let mut fixture = fixture();
    let keys: Vec<Bytes> = [&b"\0"[..], b"\0\0", b"\0\x01", b"\xff", b"\xff\xff\xff", b"a\0b"]
        .into_iter()
        .map(Bytes::from_static)
        .chain([vec![0xff; 70_000].into(), vec![0; 3000].into()])
        .collect();
    let mut batch = fixture.store.begin();
    let mut txn = batch.txn();
    for key in &keys {
        txn.put(key, key, LeaseId::NONE);
    }
    drop(txn);
    batch.commit().unwrap();
    let fixture = fixture.reopen();
    let mut sorted = keys.clone();
    sorted.sort();
    let result = fixture.reader().range(&query(KeyRange::all())).unwrap();
    assert!(result.kvs.iter().map(|kv| kv.key_bytes()).eq(sorted.clone()));
    assert!(result.kvs.iter().all(|kv| kv.key() == kv.value()));
}
