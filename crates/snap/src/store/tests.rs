//! The store against a simulated disk.

use etcdrs_platform::{CrashMode, SimFs};
use etcdrs_proto::raftpb::ConfState;

use super::*;

fn dir() -> &'static Path {
    Path::new("/member/snap")
}

fn snapshot(term: u64, index: u64) -> Snapshot {
    Snapshot {
        term: Term(term),
        index: LogIndex(index),
        conf_state: ConfState { voters: vec![index, 7], ..ConfState::default() },
        ..Snapshot::default()
    }
}

fn store(seed: u64) -> (SimFs, Store<SimFs>) {
    let fs = SimFs::seeded(seed);
    fs.create_dir_all(dir(), 0o700).unwrap();
    fs.sync_dir(Path::new("/")).unwrap();
    fs.sync_dir(Path::new("/member")).unwrap();
    let store = Store::open(fs.clone(), dir()).unwrap();
    (fs, store)
}

fn at(found: Result<Snapshot, Error>) -> (u64, u64) {
    let found = found.unwrap();
    (found.term.0, found.index.0)
}

fn names(fs: &SimFs) -> Vec<String> {
    let entries = fs.list(dir()).unwrap();
    entries.into_iter().map(|entry| entry.name.into_string().unwrap()).collect()
}

#[test]
fn sr_2_1_a_snapshot_comes_back() {
    let (fs, store) = store(1);
    assert_eq!(store.newest().unwrap_err().to_string(), "snap: no available snapshot");
    store.save(&snapshot(0, 0)).unwrap();
    assert_eq!(names(&fs), [""; 0], "an empty snapshot is not written");
    store.save(&snapshot(2, 0x1a)).unwrap();
    assert_eq!(names(&fs), ["0000000000000002-000000000000001a.snap"]);
    let found = store.newest().unwrap();
    assert_eq!(found.conf_state, snapshot(2, 0x1a).conf_state);
    assert!(!found.data.is_empty(), "etcd refuses empty data");
}

#[test]
fn sr_2_2_the_newest_that_the_log_confirms_is_loaded() {
    let (_, store) = store(1);
    for (term, index) in [(1, 10), (2, 9), (2, 30)] {
        store.save(&snapshot(term, index)).unwrap();
    }
    assert_eq!(at(store.newest()), (2, 30));
    let mark = |term, index| (Term(term), LogIndex(index));
    assert_eq!(at(store.newest_matching(&[mark(1, 10), mark(2, 9), mark(1, 30)])), (2, 9));
    assert!(matches!(store.newest_matching(&[mark(3, 30)]), Err(Error::NoSnapshot)));
    assert_eq!(store.list().unwrap(), [mark(1, 10), mark(2, 9), mark(2, 30)]);
}

#[test]
fn sr_2_2_damaged_files_are_set_aside() {
    let (fs, store) = store(1);
    for index in 1..=6 {
        store.save(&snapshot(1, index)).unwrap();
    }
    let path = |index| store.path(Name { term: Term(1), index: LogIndex(index) });
    fs.overwrite(&path(6), b"").unwrap();
    fs.overwrite(&path(5), b"no protobuf at all").unwrap();
    let len = fs.stat(&path(4)).unwrap().len;
    fs.flip_bit(&path(4), len * 8 - 3).unwrap();
    fs.truncate(&path(3), len - 1).unwrap();
    fs.rename(&path(2), &path(9)).unwrap();
    assert_eq!(at(store.newest()), (1, 1));
    let broken = names(&fs).into_iter().filter(|name| name.ends_with(".snap.broken")).count();
    assert_eq!(broken, 5, "{:?}", names(&fs));
    assert_eq!(at(store.newest()), (1, 1));
}

#[test]
fn every_bit_flip_is_noticed_or_harmless() {
    let (fs, store) = store(1);
    store.save(&snapshot(3, 5)).unwrap();
    let path = dir().join(&names(&fs)[0]);
    let good = store.newest().unwrap();
    for bit in 0..fs.stat(&path).unwrap().len * 8 {
        let image = fs.image();
        image.flip_bit(&path, bit).unwrap();
        let store = Store::open(image, dir()).unwrap();
        if let Ok(found) = store.newest() {
            assert_eq!(found, good, "bit {bit}");
        }
    }
}

#[test]
fn sr_2_7_purge_keeps_the_newest() {
    let (fs, store) = store(1);
    for index in 1..=7 {
        store.save(&snapshot(1, index)).unwrap();
    }
    assert_eq!(store.purge(0).unwrap(), 0);
    assert_eq!(store.purge(5).unwrap(), 2);
    assert_eq!(store.purge(5).unwrap(), 0);
    assert_eq!(store.purge(1).unwrap(), 4);
    assert_eq!(names(&fs), ["0000000000000001-0000000000000007.snap"]);
}

#[test]
fn a_power_loss_leaves_whole_files_only() {
    for seed in 0..200 {
        let (fs, store) = store(seed);
        store.save(&snapshot(1, 1)).unwrap();
        if seed % 3 == 0 {
            fs.fail_sync(1);
        } else if seed % 3 == 1 {
            fs.fail_write(1);
        }
        let is_saved = store.save(&snapshot(1, 2)).is_ok();
        let after = fs.crash();
        let reopened = Store::open(after.clone(), dir()).unwrap();
        let (_, index) = at(reopened.newest());
        assert!(index == 2 || !is_saved, "seed {seed}: an acknowledged snapshot is gone");
        assert!(names(&after).iter().all(|name| name.ends_with(".snap")), "{:?}", names(&after));
    }
    let (fs, store) = store(1);
    store.save(&snapshot(1, 1)).unwrap();
    let after = fs.crash_with(CrashMode::LoseAll);
    assert_eq!(at(Store::open(after, dir()).unwrap().newest()), (1, 1));
}
