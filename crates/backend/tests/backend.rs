//! The backend against a real directory.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::ops::Bound;

use etcdrs_backend::{Backend, Batch, Bucket, Export, OpenError, Options, Rows, Scan};

fn options() -> Options {
    Options { block_cache_bytes: 1 << 20, memtable_bytes: 4 << 20, ..Options::default() }
}

fn all(mut rows: Rows<'_>) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut found = Vec::new();
    while let Some((key, value)) = rows.next().unwrap() {
        found.push((key.to_vec(), value.to_vec()));
    }
    found
}

fn keys(rows: Rows<'_>) -> Vec<String> {
    all(rows).into_iter().map(|(key, _)| String::from_utf8(key).unwrap()).collect()
}

fn put(backend: &Backend, bucket: Bucket, rows: &[(&str, &str)]) {
    let mut batch = backend.batch();
    for (key, value) in rows {
        batch.put(bucket, key.as_bytes(), value.as_bytes());
    }
    backend.write(batch).unwrap();
}

#[test]
fn batches_apply_in_order_and_to_their_buckets() {
    let dir = tempfile::tempdir().unwrap();
    let backend = Backend::open(dir.path(), &options()).unwrap();
    let mut batch = Batch::with_capacity(100);
    assert!(batch.is_empty());
    for bucket in Bucket::ALL {
        batch.put(bucket, b"row", bucket.name().as_bytes());
        batch.put(bucket, b"gone", b"x");
        batch.delete(bucket, b"gone");
    }
    batch.put(Bucket::Meta, b"row", b"last wins");
    // Lengths of one, two and three varint bytes.
    for len in [0, 127, 128, 16_383, 16_384, 3_000_000] {
        batch.put(Bucket::Key, format!("{len}").as_bytes(), &vec![7; len]);
        batch.put(Bucket::Lease, &vec![b'k'; len], b"");
    }
    assert_eq!(batch.len(), 33 + 1 + 12);
    backend.write(batch).unwrap();
    for bucket in Bucket::ALL {
        let want = if bucket == Bucket::Meta { "last wins" } else { bucket.name() };
        assert_eq!(backend.get(bucket, b"row").unwrap().unwrap(), want);
        assert_eq!(backend.get(bucket, b"gone").unwrap(), None);
    }
    for len in [0, 127, 128, 16_383, 16_384, 3_000_000] {
        let row = backend.get(Bucket::Key, format!("{len}").as_bytes()).unwrap().unwrap();
        assert_eq!(row, vec![7; len]);
        assert!(backend.get(Bucket::Lease, &vec![b'k'; len]).unwrap().is_some());
    }
    let mut batch = backend.batch();
    batch.put(Bucket::Auth, b"a", b"b");
    batch.clear();
    backend.write(batch).unwrap();
    assert_eq!(backend.get(Bucket::Auth, b"a").unwrap(), None);
}

#[test]
fn walks_and_reads() {
    let dir = tempfile::tempdir().unwrap();
    let backend = Backend::open(dir.path(), &options()).unwrap();
    put(&backend, Bucket::Key, &[("a", "1"), ("b", "2"), ("c", "3"), ("d", "4")]);
    put(&backend, Bucket::Lease, &[("x", "9")]);
    let scan = |from, before| Scan { from, before, fill_cache: true };
    let walk = |scan: Scan<'_>| keys(backend.rows(Bucket::Key, &scan));
    assert_eq!(walk(Scan::all()), ["a", "b", "c", "d"]);
    assert_eq!(walk(scan(Bound::Included(b"b"), Some(b"d"))), ["b", "c"]);
    assert_eq!(walk(scan(Bound::Excluded(b"b"), None)), ["c", "d"]);
    assert_eq!(walk(scan(Bound::Excluded(b"bb"), None)), ["c", "d"]);
    assert_eq!(walk(scan(Bound::Included(b"x"), None)), [""; 0]);
    let (key, value) = backend.last(Bucket::Key).unwrap().unwrap();
    assert_eq!((&key[..], &value[..]), (&b"d"[..], &b"4"[..]));
    assert_eq!(backend.last(Bucket::Auth).unwrap(), None);
    let mut found = Vec::new();
    let wanted = [&b"a"[..], b"bb", b"c"];
    let each = |at, row: Option<&[u8]>| found.push((at, row.map(<[u8]>::to_vec)));
    backend.multi_get(Bucket::Key, &wanted, each).unwrap();
    assert_eq!(found, [(0, Some(b"1".to_vec())), (1, None), (2, Some(b"3".to_vec()))]);
}

#[test]
fn a_snapshot_stays_as_it_was_and_keeps_the_database_open() {
    let dir = tempfile::tempdir().unwrap();
    let backend = Backend::open(dir.path(), &options()).unwrap();
    put(&backend, Bucket::Key, &[("a", "1")]);
    let snapshot = backend.snapshot();
    put(&backend, Bucket::Key, &[("a", "2"), ("b", "2")]);
    backend.flush().unwrap();
    drop(backend);
    let thread = std::thread::spawn(move || {
        assert_eq!(keys(snapshot.all_rows(Bucket::Key)), ["a"]);
        assert_eq!(snapshot.get(Bucket::Key, b"a").unwrap().unwrap(), "1");
        assert_eq!(snapshot.get(Bucket::Key, b"b").unwrap(), None);
    });
    thread.join().unwrap();
    // Everybody has let go: it can be opened again.
    let backend = Backend::open(dir.path(), &options()).unwrap();
    assert_eq!(backend.get(Bucket::Key, b"b").unwrap().unwrap(), "2");
}

#[test]
fn index_rows_are_sorted_whenever_they_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let backend = Backend::open(dir.path(), &options()).unwrap();
    let mut want = BTreeMap::new();
    for n in 0..5000u32 {
        let key = n.wrapping_mul(2_654_435_761).to_be_bytes();
        let mut batch = backend.batch();
        batch.put(Bucket::Index, &key, &n.to_be_bytes());
        want.insert(key.to_vec(), n.to_be_bytes().to_vec());
        if n % 3 == 0 {
            let gone = (n / 2).wrapping_mul(2_654_435_761).to_be_bytes();
            batch.delete(Bucket::Index, &gone);
            want.remove(&gone[..]);
        }
        backend.write(batch).unwrap();
        if n == 2500 {
            backend.flush().unwrap();
        }
    }
    let want: Vec<_> = want.into_iter().collect();
    assert_eq!(all(backend.rows(Bucket::Index, &Scan::all())), want);
    drop(backend);
    let backend = Backend::open(dir.path(), &options()).unwrap();
    assert_eq!(all(backend.rows(Bucket::Index, &Scan::all())), want);
}

#[test]
fn closing_keeps_what_was_written() {
    let dir = tempfile::tempdir().unwrap();
    let backend = Backend::open(dir.path(), &options()).unwrap();
    put(&backend, Bucket::Meta, &[("a", "1")]);
    assert_eq!(backend.get_durable(Bucket::Meta, b"a").unwrap(), None);
    drop(backend);
    let backend = Backend::open(dir.path(), &options()).unwrap();
    assert_eq!(backend.get_durable(Bucket::Meta, b"a").unwrap().unwrap(), "1");
}

/// Names and sizes of the files of a directory.
fn listing(dir: &std::path::Path) -> BTreeMap<std::ffi::OsString, u64> {
    let entries = std::fs::read_dir(dir).unwrap().map(Result::unwrap);
    let sized = entries.filter_map(|entry| Some((entry.file_name(), entry.metadata().ok()?.len())));
    sized.filter(|(name, _)| name != "LOCK" && name != "LOG").collect()
}

/// Copies what a crash would leave: the files without the memtables. RocksDB works on them all the
/// while, so a copy counts only if nothing changed in between.
fn crash(from: &std::path::Path, to: &std::path::Path) {
    loop {
        std::fs::create_dir(to).unwrap();
        let before = listing(from);
        let copied =
            before.keys().all(|name| std::fs::copy(from.join(name), to.join(name)).is_ok());
        if copied && listing(from) == before {
            return;
        }
        std::fs::remove_dir_all(to).unwrap();
    }
}

#[test]
fn buckets_never_fall_apart() {
    let dir = tempfile::tempdir().unwrap();
    let live = dir.path().join("live");
    let small = Options { memtable_bytes: 1 << 20, ..options() };
    let backend = Backend::open(&live, &small).unwrap();
    // RocksDB flushes on its own in between; every crash leaves the same number everywhere.
    for n in 0..6000u32 {
        let mut batch = backend.batch();
        batch.put(Bucket::Key, &n.to_be_bytes(), &[n as u8; 500]);
        batch.put(Bucket::Index, &n.wrapping_mul(77_777).to_be_bytes(), &n.to_be_bytes());
        batch.put(Bucket::Meta, b"consistent_index", &n.to_be_bytes());
        backend.write(batch).unwrap();
        if n % 1500 == 1499 {
            let copy = dir.path().join(n.to_string());
            crash(&live, &copy);
            let crashed = Backend::open(&copy, &small).unwrap();
            let index = crashed.get(Bucket::Meta, b"consistent_index").unwrap();
            let rows =
                index.map_or(0, |index| u32::from_be_bytes(index[..].try_into().unwrap()) + 1);
            assert_eq!(all(crashed.rows(Bucket::Key, &Scan::all())).len(), rows as usize);
            assert_eq!(all(crashed.rows(Bucket::Index, &Scan::all())).len(), rows as usize);
            if n > 3000 {
                assert!(rows > 0, "RocksDB flushed something of 1.5 MB");
            }
        }
    }
}

#[test]
fn a_second_opening_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let _backend = Backend::open(dir.path(), &options()).unwrap();
    let err = Backend::open(dir.path(), &options()).unwrap_err();
    assert!(matches!(err, OpenError::Locked { .. }), "{err:?}");
    assert!(err.to_string().contains("in use by another process"));
}

#[test]
fn foreign_databases_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    {
        let mut options = rocksdb::Options::default();
        options.create_if_missing(true);
        let db = rocksdb::DB::open(&options, dir.path()).unwrap();
        db.put("a", "b").unwrap();
    }
    let err = Backend::open(dir.path(), &options()).unwrap_err();
    assert!(matches!(err, OpenError::Format { .. }), "{err:?}");
    let missing = dir.path().join("missing");
    let err = Backend::open_read_only(&missing, &options()).unwrap_err();
    assert!(matches!(err, OpenError::Missing { .. }), "{err:?}");
    assert!(!missing.exists());
}

#[test]
fn a_checkpoint_is_a_database() {
    let dir = tempfile::tempdir().unwrap();
    let backend = Backend::open(&dir.path().join("a"), &options()).unwrap();
    put(&backend, Bucket::Members, &[("1", "x")]);
    backend.checkpoint(&dir.path().join("b")).unwrap();
    put(&backend, Bucket::Members, &[("2", "x")]);
    let copy = Backend::open_read_only(&dir.path().join("b"), &options()).unwrap();
    assert_eq!(keys(copy.rows(Bucket::Members, &Scan::all())), ["1"]);
    let mut batch = copy.batch();
    batch.put(Bucket::Members, b"3", b"x");
    assert!(copy.write(batch).is_err());
}

#[test]
fn a_database_closes_with_its_last_handle() {
    let dir = tempfile::tempdir().unwrap();
    let (old, new) = (dir.path().join("old"), dir.path().join("new"));
    let backend = Backend::open(&old, &options()).unwrap();
    put(&backend, Bucket::Key, &[("a", "1")]);
    backend.checkpoint(&new).unwrap();
    let replacement = backend.open_beside(&new).unwrap();
    assert_eq!(keys(replacement.rows(Bucket::Key, &Scan::all())), ["a"]);
    let err = backend.open_beside(&dir.path().join("missing")).unwrap_err();
    assert!(matches!(err, OpenError::Missing { .. }), "{err:?}");
    let snapshot = backend.snapshot();
    let backend = backend.close().expect_err("a snapshot reads");
    assert_eq!(keys(snapshot.all_rows(Bucket::Key)), ["a"]);
    drop(snapshot);
    assert_eq!(backend.close().expect("nobody reads"), old);
    std::fs::remove_dir_all(&old).unwrap();
    // What both shared lives on with the one that is left.
    put(&replacement, Bucket::Key, &[("b", "2")]);
    assert_eq!(keys(replacement.rows(Bucket::Key, &Scan::all())), ["a", "b"]);
    assert!(replacement.memory().memtables > 0);
}

#[test]
fn an_export_comes_in_pieces_of_whole_sectors() {
    let dir = tempfile::tempdir().unwrap();
    let backend = Backend::open(dir.path(), &options()).unwrap();
    for n in 0..300 {
        put(&backend, Bucket::Key, &[(&format!("{n:04}"), &"v".repeat(n))]);
    }
    put(&backend, Bucket::Lease, &[("lease", "row")]);
    put(&backend, Bucket::Index, &[("ours", "not exported")]);
    let whole = |piece: usize| {
        let mut export = Export::new(backend.snapshot()).unwrap();
        let total = export.total_bytes();
        let mut image = Vec::new();
        while export.next(piece, &mut image).unwrap() {}
        assert_eq!((image.len() as u64, total % 512), (total, 0));
        image
    };
    let image = whole(usize::MAX / 2);
    assert_eq!(whole(1), image);
    assert_eq!(whole(1000), image);
    assert!(image.starts_with(b"etcd-rs export 1"));
    let contains = |needle: &[u8]| image.windows(needle.len()).any(|window| window == needle);
    assert!(contains(b"leaserow") && !contains(b"not exported"));
}

#[test]
fn sizes_follow_the_data() {
    let dir = tempfile::tempdir().unwrap();
    let backend = Backend::open(dir.path(), &options()).unwrap();
    // Nothing that compresses.
    let mut state = 1u64;
    let mut noise = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 56) as u8
    };
    for n in 0..2000u32 {
        let mut batch = backend.batch();
        let noise: Vec<u8> = (0..500).map(|_| noise()).collect();
        batch.put(Bucket::Key, &n.to_be_bytes(), &noise);
        backend.write(batch).unwrap();
    }
    let unflushed = backend.sizes().unwrap();
    assert!(unflushed.on_disk > 1_000_000, "{unflushed:?}");
    assert!(backend.memory().memtables > 1_000_000);
    backend.flush().unwrap();
    let flushed = backend.sizes().unwrap();
    assert!(flushed.on_disk > 900_000 && flushed.in_use <= flushed.on_disk, "{flushed:?}");
    let mut batch = backend.batch();
    (0..2000u32).for_each(|n| batch.delete(Bucket::Key, &n.to_be_bytes()));
    backend.write(batch).unwrap();
    backend.flush().unwrap();
    backend.compact();
    assert!(backend.sizes().unwrap().on_disk < 500_000, "{:?}", backend.sizes());
}
