//! What the simulated disk promises, and that it keeps to it.

use std::path::{Path, PathBuf};

use super::*;

fn dir() -> &'static Path {
    Path::new("/data")
}

fn durable_dir(fs: &SimFs) {
    fs.create_dir_all(dir(), 0o700).unwrap();
    fs.sync_dir(Path::new("/")).unwrap();
}

fn file() -> PathBuf {
    dir().join("f")
}

#[test]
fn unsynced_data_and_names_may_vanish_and_synced_ones_never() {
    let mut seen = BTreeSeen::default();
    for seed in 0..200 {
        let fs = SimFs::seeded(seed);
        durable_dir(&fs);
        let f = fs.open(&file(), Open::Create(0o600)).unwrap();
        f.write_at(&[1; 1024], 0).unwrap();
        f.sync_data().unwrap();
        seen.unnamed |= !fs.crash().exists(&file()).unwrap();
        fs.sync_dir(dir()).unwrap();
        f.write_at(&[2; 1024], 512).unwrap();
        f.write_at(&[3; 1024], 1024).unwrap();
        let after = fs.crash().read(&file()).unwrap();
        assert_eq!(after[..512], [1; 512], "seed {seed}: synced bytes are whole");
        for sector in after.chunks(512) {
            assert!(sector.iter().all(|b| *b == sector[0]), "seed {seed}: a sector is torn inside");
        }
        seen.old |= after.len() == 1024 && after[512] == 1;
        seen.new |= after.len() == 2048 && after[512] == 2 && after[1024] == 3;
        seen.mixed |= after.len() == 2048 && (after[512] == 1 || after[1024] == 0);
        assert_eq!(fs.read(&file()).unwrap()[1024], 3, "the file system goes on after a crash");
    }
    assert!(seen.unnamed && seen.old && seen.new && seen.mixed, "{seen:?}");
}

#[derive(Debug, Default)]
struct BTreeSeen {
    unnamed: bool,
    old: bool,
    new: bool,
    mixed: bool,
}

#[test]
fn a_crash_is_decided_by_the_seed() {
    let run = |seed| {
        let fs = SimFs::seeded(seed);
        durable_dir(&fs);
        let f = fs.open(&file(), Open::Create(0o600)).unwrap();
        fs.sync_dir(dir()).unwrap();
        (0..16u8).for_each(|n| f.write_at(&[n; 700], u64::from(n) * 400).unwrap());
        fs.crash().read(&file()).unwrap()
    };
    assert_eq!(run(3), run(3));
    assert!((0..20).any(|seed| run(seed) != run(3)));
}

#[test]
fn a_rename_is_one_change() {
    for seed in 0..100 {
        let fs = SimFs::seeded(seed);
        durable_dir(&fs);
        fs.write_durable(&file(), b"old", 0o600).unwrap();
        fs.write_durable(&file(), b"new!", 0o600).unwrap();
        assert_eq!(fs.crash().read(&file()).unwrap(), b"new!");
        let temporary = dir().join("t");
        let f = fs.open(&temporary, Open::Create(0o600)).unwrap();
        f.write_at(b"third", 0).unwrap();
        f.sync_all().unwrap();
        fs.rename(&temporary, &file()).unwrap();
        let crashed = fs.crash();
        let content = crashed.read(&file()).unwrap();
        assert!(content == b"new!" || content == b"third", "seed {seed}: {content:?}");
        assert!(content == b"new!" || !crashed.exists(&temporary).unwrap());
    }
}

#[test]
fn directories_rename_with_their_content() {
    let fs = SimFs::seeded(1);
    fs.create_dir_all(Path::new("/a/b.tmp"), 0o700).unwrap();
    fs.open(Path::new("/a/b.tmp/x"), Open::Create(0o600)).unwrap();
    fs.rename(Path::new("/a/b.tmp"), Path::new("/a/b")).unwrap();
    assert!(fs.exists(Path::new("/a/b/x")).unwrap());
    assert!(!fs.exists(Path::new("/a/b.tmp")).unwrap());
    assert_eq!(
        fs.rename(Path::new("/a/b/x"), Path::new("/a")).unwrap_err().kind(),
        io::ErrorKind::IsADirectory
    );
    fs.remove_dir_all(Path::new("/a/b")).unwrap();
    assert_eq!(fs.list(Path::new("/a")).unwrap(), []);
}

#[test]
fn a_failed_sync_loses_the_data_for_good() {
    let fs = SimFs::seeded(1);
    durable_dir(&fs);
    let f = fs.open(&file(), Open::Create(0o600)).unwrap();
    fs.sync_dir(dir()).unwrap();
    fs.fail_sync(2);
    f.write_at(b"kept", 0).unwrap();
    f.sync_data().unwrap();
    f.write_at(b"lost", 4).unwrap();
    assert_eq!(f.sync_data().unwrap_err().raw_os_error(), Some(nix::libc::EIO));
    f.sync_data().unwrap();
    assert_eq!(fs.read(&file()).unwrap(), b"keptlost");
    assert_eq!(fs.crash().read(&file()).unwrap(), b"kept");
    assert_eq!(fs.syncs(), 3);
}

#[test]
fn writes_fail_on_order_and_when_full() {
    let fs = SimFs::seeded(1);
    let f = fs.open(Path::new("/f"), Open::Create(0o600)).unwrap();
    fs.fail_write(2);
    f.write_at(b"1", 0).unwrap();
    assert!(f.write_at(b"2", 1).is_err());
    f.write_at(b"3", 1).unwrap();
    fs.set_capacity(10);
    assert_eq!(fs.free_bytes(Path::new("/")).unwrap(), 8);
    f.write_at(&[0; 10], 0).unwrap();
    assert_eq!(f.write_at(b"x", 10).unwrap_err().kind(), io::ErrorKind::StorageFull);
    assert_eq!(f.allocate(11).unwrap_err().kind(), io::ErrorKind::StorageFull);
    assert!(fs.open(Path::new("/f"), Open::Read).unwrap().write_at(b"x", 0).is_err());
}

#[test]
fn locks_and_damage() {
    let fs = SimFs::seeded(1);
    let path = Path::new("/f");
    let first = fs.open(path, Open::Create(0o600)).unwrap();
    first.write_at(&[0; 4], 0).unwrap();
    let second = fs.open(path, Open::Write).unwrap();
    first.try_lock().unwrap();
    assert_eq!(second.try_lock().unwrap_err().to_string(), "file already locked");
    drop(first);
    second.try_lock().unwrap();
    fs.flip_bit(path, 9).unwrap();
    assert_eq!(fs.read(path).unwrap(), [0, 2, 0, 0]);
    fs.truncate(path, 1).unwrap();
    fs.overwrite(path, b"ab").unwrap();
    assert_eq!(fs.image().read(path).unwrap(), b"ab");
    assert!(fs.flip_bit(path, 99).is_err());
}

#[test]
fn a_crash_after_every_change_is_recorded() {
    let fs = SimFs::seeded(1);
    fs.record_crashes();
    assert!(fs.take_crashes().is_empty());
    fs.write_durable(Path::new("/f"), b"whole", 0o600).unwrap();
    let crashes = fs.take_crashes();
    assert_eq!(crashes.len(), 5, "open, write, sync, rename, sync of the directory");
    for crash in &crashes {
        assert!(crash.read(Path::new("/f")).map_or(true, |content| content == b"whole"));
    }
    assert!(crashes[4].exists(Path::new("/f")).unwrap());
    assert!(fs.take_crashes().is_empty());
}
