//! Databases against a simulated disk: streams, and a power loss at every step of an installation.

use std::sync::Arc;

use bytes::Bytes;
use etcdrs_platform::{CrashMode, File as _, Open, SimFs};
use etcdrs_types::Term;

use super::*;

const OLD: LogIndex = LogIndex(0x10);
const NEW: LogIndex = LogIndex(0x20);

fn snap_dir() -> &'static Path {
    Path::new("/member/snap")
}

/// An empty, durable snapshot directory.
fn dirs(seed: u64) -> (SimFs, DbDirs<SimFs>) {
    let fs = SimFs::seeded(seed);
    fs.create_dir_all(snap_dir(), 0o700).unwrap();
    fs.sync_dir(Path::new("/")).unwrap();
    fs.sync_dir(Path::new("/member")).unwrap();
    (fs.clone(), DbDirs::new(fs, snap_dir()))
}

fn content(tag: u8, len: usize) -> Vec<u8> {
    (0..len).map(|at| tag.wrapping_add((at / 7) as u8)).collect()
}

/// The files of a small database, told apart by `tag`.
fn files_of(tag: u8) -> Vec<(String, Vec<u8>)> {
    vec![
        ("CURRENT".into(), content(tag, 16)),
        ("MANIFEST-000005".into(), content(tag, 700)),
        ("OPTIONS-000007".into(), content(tag, 1300)),
        ("000012.sst".into(), content(tag, 3000)),
        ("000013.sst".into(), content(tag, sst_bytes(tag))),
        ("000014.log".into(), Vec::new()),
    ]
}

/// Several chunks for one of them, a few sectors for the others.
const BIG: u8 = 9;

fn sst_bytes(tag: u8) -> usize {
    if tag == BIG { 3 * CHUNK_BYTES + 17 } else { 2000 }
}

/// Writes a database durably.
fn write_db(fs: &SimFs, dir: &Path, tag: u8) {
    fs.create_dir_all(dir, 0o700).unwrap();
    for (name, content) in files_of(tag) {
        let file = fs.open(&dir.join(name), Open::Create(0o600)).unwrap();
        file.write_at(&content, 0).unwrap();
        file.sync_all().unwrap();
    }
    fs.sync_dir(dir).unwrap();
    fs.sync_dir(snap_dir()).unwrap();
}

fn is_whole(fs: &SimFs, dir: &Path, tag: u8) -> bool {
    files_of(tag)
        .iter()
        .all(|(name, content)| fs.read(&dir.join(name)).is_ok_and(|found| found == *content))
}

/// The stream of a database, and where its chunks end.
fn stream_of(dirs: &DbDirs<SimFs>, tag: u8, index: LogIndex) -> Vec<Bytes> {
    let dir = dirs.sending_dir();
    write_db(&dirs.fs, &dir, tag);
    for name in ["LOG", "LOCK", "000009.dbtmp"] {
        dirs.fs.open(&dir.join(name), Open::Create(0o600)).unwrap().write_at(b"x", 0).unwrap();
    }
    let outgoing = Arc::new(OutgoingDb::open(dirs, dir.clone(), index, Term(3)).unwrap());
    let read = || {
        let mut reader = outgoing.reader();
        std::iter::from_fn(move || reader.next_chunk().unwrap()).collect::<Vec<_>>()
    };
    let chunks = read();
    assert_eq!(read(), chunks, "two peers get the same");
    assert!(chunks[1..].iter().all(|chunk| (1..=CHUNK_BYTES).contains(&chunk.len())));
    let sum: usize = chunks.iter().map(Bytes::len).sum();
    assert_eq!(sum as u64, outgoing.stream_bytes());
    drop(outgoing);
    assert!(!dirs.fs.exists(&dir).unwrap(), "a checkpoint goes with its last use");
    chunks
}

fn receive(dirs: &DbDirs<SimFs>, chunks: &[Bytes]) -> Result<ReceivedDb<SimFs>, IncomingError> {
    let mut incoming = IncomingDb::new(dirs.clone());
    for chunk in chunks {
        incoming.write(chunk)?;
    }
    incoming.finish()
}

fn names(fs: &SimFs) -> Vec<String> {
    let entries = fs.list(snap_dir()).unwrap();
    entries.into_iter().map(|entry| entry.name.into_string().unwrap()).collect()
}

#[test]
fn a_database_arrives_as_it_was_sent_whatever_the_pieces() {
    let (fs, dirs) = dirs(1);
    let chunks = stream_of(&dirs, BIG, NEW);
    let whole: Vec<u8> = chunks.concat();
    assert!(chunks.len() > 8);
    for piece in [1000, 4096, 100_001, whole.len()] {
        let mut incoming = IncomingDb::new(dirs.clone());
        for part in whole.chunks(piece) {
            incoming.write(part).unwrap();
        }
        let manifest = incoming.manifest().unwrap().clone();
        assert_eq!((manifest.index, manifest.term, manifest.files.len()), (NEW, Term(3), 6));
        let received = incoming.finish().unwrap();
        assert_eq!(received.manifest(), &manifest);
        assert!(is_whole(&fs, received.dir(), BIG));
        drop(received);
        assert_eq!(names(&fs), [""; 0], "what is not kept goes");
    }
}

#[test]
fn an_incomplete_stream_leaves_nothing() {
    let (fs, dirs) = dirs(1);
    let whole: Vec<u8> = stream_of(&dirs, 7, NEW).concat();
    for len in [0, 5, 20, 400, 5000, whole.len() - 1] {
        let mut incoming = IncomingDb::new(dirs.clone());
        incoming.write(&whole[..len]).unwrap();
        let error = incoming.finish().unwrap_err();
        assert!(matches!(error, IncomingError::Incomplete), "{error}");
        assert_eq!(names(&fs), [""; 0]);
    }
    let mut incoming = IncomingDb::new(dirs.clone());
    let error = incoming.write(&[&whole[..], b"x"].concat()).unwrap_err();
    assert!(matches!(error, IncomingError::Surplus), "{error}");
    assert!(matches!(incoming.write(b"y").unwrap_err(), IncomingError::Incomplete));
    assert!(matches!(incoming.finish().unwrap_err(), IncomingError::Incomplete));
    assert_eq!(names(&fs), [""; 0]);
}

#[test]
fn a_flipped_bit_anywhere_is_found() {
    let (_, dirs) = dirs(1);
    let whole: Vec<u8> = stream_of(&dirs, 7, NEW).concat();
    let step = whole.len() * 8 / 300;
    for bit in (0..whole.len() * 8).step_by(step) {
        let mut damaged = whole.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        assert!(receive(&dirs, &[damaged.into()]).is_err(), "bit {bit}");
    }
}

#[test]
fn a_disk_that_is_full_or_fails_refuses() {
    let (fs, dirs) = dirs(1);
    let chunks = stream_of(&dirs, 7, NEW);
    fs.set_capacity(5000);
    let error = receive(&dirs, &chunks).unwrap_err();
    assert!(matches!(error, IncomingError::Space { .. }), "{error}");
    fs.set_capacity(u64::MAX);
    for nth in 1..=6 {
        fs.fail_sync(nth);
        let error = receive(&dirs, &chunks).unwrap_err();
        assert!(matches!(error, IncomingError::Local(DbError::Io { .. })), "{error}");
    }
    fs.fail_write(3);
    assert!(receive(&dirs, &chunks).is_err());
    assert_eq!(names(&fs), [""; 0]);
    receive(&dirs, &chunks).unwrap();
}

#[test]
fn one_transfer_of_an_index_at_a_time() {
    let (fs, dirs) = dirs(1);
    write_db(&fs, &snap_dir().join("db"), 1);
    let chunks = stream_of(&dirs, 7, NEW);
    let first = receive(&dirs, &chunks).unwrap();
    let error = receive(&dirs, &chunks).unwrap_err();
    assert!(matches!(error, IncomingError::Local(DbError::Exists { index: NEW })), "{error}");
    let kept = first.keep().unwrap();
    // Kept but never switched to: another one takes its place.
    assert_eq!(receive(&dirs, &chunks).unwrap().keep().unwrap(), kept);
    assert_eq!(dirs.switch_to(NEW).unwrap(), kept);
    let error = receive(&dirs, &chunks).unwrap().keep().unwrap_err();
    assert!(matches!(error, DbError::Live { .. }), "{error}");
    assert!(is_whole(&fs, &dirs.live().unwrap(), 7));
}

#[test]
fn the_pointer_decides_and_is_checked() {
    let (fs, dirs) = dirs(1);
    let first = snap_dir().join("db");
    assert_eq!(dirs.live().unwrap(), first, "a first start");
    write_db(&fs, &first, 1);
    let error = dirs.switch_to(NEW).unwrap_err();
    assert!(matches!(error, DbError::Missing { .. }), "{error}");
    let new = receive(&dirs, &stream_of(&dirs, 2, NEW)).unwrap().keep().unwrap();
    assert_eq!(dirs.live().unwrap(), first);
    assert_eq!(dirs.received(NEW).unwrap(), Some(new.clone()));
    assert_eq!(dirs.received(OLD).unwrap(), None);
    assert!(matches!(dirs.remove(&first).unwrap_err(), DbError::Live { .. }));
    dirs.switch_to(NEW).unwrap();
    assert_eq!(dirs.live().unwrap(), new);
    assert_eq!(dirs.remove_stale().unwrap(), [first]);
    assert_eq!(names(&fs), ["CURRENT-DB", "db-0000000000000020"]);

    let pointer = snap_dir().join("CURRENT-DB");
    let good = fs.read(&pointer).unwrap();
    for bit in 0..good.len() as u64 * 8 {
        fs.flip_bit(&pointer, bit).unwrap();
        assert!(matches!(dirs.live().unwrap_err(), DbError::Pointer { .. }), "bit {bit}");
        assert!(dirs.remove_stale().is_err());
        fs.flip_bit(&pointer, bit).unwrap();
    }
    for text in ["", "db", "db 00000000\n", "../db-0000000000000020 00000000\n"] {
        fs.overwrite(&pointer, text.as_bytes()).unwrap();
        assert!(matches!(dirs.live().unwrap_err(), DbError::Pointer { .. }), "{text:?}");
    }
    // Without the pointer nobody knows; a new, empty database would be the worst answer.
    fs.remove_file(&pointer).unwrap();
    assert!(matches!(dirs.live().unwrap_err(), DbError::Missing { .. }));
    fs.overwrite(&snap_dir().join("db-0000000000000020/CURRENT"), b"").unwrap();
    let file = fs.open(&pointer, Open::Create(0o600)).unwrap();
    file.write_at(&good, 0).unwrap();
    fs.remove_dir_all(&new).unwrap();
    assert!(matches!(dirs.live().unwrap_err(), DbError::Missing { .. }));
}

#[test]
fn a_start_removes_what_transfers_left() {
    let (fs, dirs) = dirs(1);
    write_db(&fs, &snap_dir().join("db"), 1);
    for name in ["incoming-0000000000000007", "sending-0", "sending-1.tmp"] {
        write_db(&fs, &snap_dir().join(name), 2);
    }
    for name in ["CURRENT-DB.tmp", "0000000000000001-0000000000000002.snap", "other"] {
        fs.open(&snap_dir().join(name), Open::Create(0o600)).unwrap();
    }
    write_db(&fs, &snap_dir().join("db-0000000000000003"), 2);
    dirs.remove_partial().unwrap();
    let left = ["0000000000000001-0000000000000002.snap", "db", "db-0000000000000003", "other"];
    assert_eq!(names(&fs), left);
    assert_eq!(dirs.remove_stale().unwrap(), [snap_dir().join("db-0000000000000003")]);
    assert!(is_whole(&fs, &dirs.live().unwrap(), 1));
}

/// A start as the server does it: the log knows whether the snapshot was accepted.
fn start(fs: &SimFs, accepted: bool) -> (PathBuf, LogIndex) {
    let dirs = DbDirs::new(fs.clone(), snap_dir());
    dirs.remove_partial().unwrap();
    let mut live = dirs.live().unwrap();
    if accepted && !live.ends_with("db-0000000000000020") {
        live = dirs.switch_to(NEW).expect("what the log accepted is there");
    }
    dirs.remove_stale().unwrap();
    assert_eq!(dirs.live().unwrap(), live);
    let index = if live.ends_with("db-0000000000000020") { NEW } else { OLD };
    (live, index)
}

/// Looks at every power loss recorded so far; the database that a start opens is whole, and one of
/// `allowed`.
fn check_crashes(fs: &SimFs, accepted: bool, allowed: &[LogIndex], seed: u64, step: &str) {
    let last = [CrashMode::LoseAll, CrashMode::KeepAll].map(|mode| fs.crash_with(mode));
    for (at, crashed) in fs.take_crashes().into_iter().chain(last).enumerate() {
        crashed.record_crashes();
        let (live, index) = start(&crashed, accepted);
        assert!(allowed.contains(&index), "seed {seed}, {step} {at}: {index} opened");
        let tag = if index == NEW { 2 } else { 1 };
        assert!(is_whole(&crashed, &live, tag), "seed {seed}, {step} {at}: {index} is torn");
        // And once more: a crash during that start changes nothing.
        for again in crashed.take_crashes() {
            assert_eq!(start(&again, accepted), (live.clone(), index), "seed {seed}, {step} {at}");
            assert!(is_whole(&again, &live, tag), "seed {seed}, {step} {at}: start");
        }
    }
}

#[test]
fn a_power_loss_at_any_step_leaves_the_old_database_or_the_new_one() {
    for seed in 0..40 {
        let (fs, dirs) = dirs(seed);
        let chunks = stream_of(&dirs, 2, NEW);
        write_db(&fs, &snap_dir().join("db"), 1);
        fs.record_crashes();
        let received = receive(&dirs, &chunks).unwrap();
        check_crashes(&fs, false, &[OLD], seed, "receive");
        received.keep().unwrap();
        check_crashes(&fs, false, &[OLD], seed, "keep");
        // From here on the log has the mark: whatever a crash leaves, a start goes on with it.
        check_crashes(&fs, true, &[NEW], seed, "accepted");
        dirs.switch_to(NEW).unwrap();
        let crashes = fs.take_crashes();
        for crashed in &crashes {
            let live = DbDirs::new(crashed.clone(), snap_dir()).live().unwrap();
            let tag = if live.ends_with("db") { 1 } else { 2 };
            assert!(is_whole(crashed, &live, tag), "seed {seed}: the pointer leads nowhere");
            assert_eq!(start(crashed, true).1, NEW, "seed {seed}");
        }
        assert!(crashes.len() >= 4, "write, sync, rename and sync of the directory");
        // The pointer alone decides now, and it is durable.
        check_crashes(&fs, false, &[NEW], seed, "switched");
        dirs.remove(&snap_dir().join("db")).unwrap();
        check_crashes(&fs, false, &[NEW], seed, "removed");
    }
}
