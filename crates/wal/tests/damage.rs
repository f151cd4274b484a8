//! Every cut of the tail and every single bit flip of a small log gives a prefix or a refusal,
//! never an altered entry.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic")]

use std::path::{Path, PathBuf};

use bytes::Bytes;
use etcdrs_platform::{Fs, SimFs};
use etcdrs_types::{ClusterId, LogIndex, MemberId, Term};
use etcdrs_wal::{
    Batch, Entry, EntryKind, Metadata, OpenError, Options, Prepare, Replayed, SnapshotMark,
    StartAt, Vote, Wal,
};

fn dir() -> &'static Path {
    Path::new("/wal")
}

fn options(segment_bytes: u64) -> Options {
    Options { segment_bytes, prepare: Prepare::Allocate, ..Options::default() }
}

fn entry(term: u64, index: u64, size: usize) -> Entry {
    let data = Some(Bytes::from(vec![index as u8; size]));
    Entry { kind: EntryKind::Normal, term: Term(term), index: LogIndex(index), data }
}

fn blank(term: u64, index: u64) -> Entry {
    Entry { data: None, ..entry(term, index, 0) }
}

/// Small numbers on purpose: a member id of 1 looks like a term, an index or a kind when a type
/// flips.
fn metadata() -> Metadata {
    Metadata { node_id: MemberId(1), cluster_id: ClusterId(2) }
}

fn vote(term: u64, committed: bool) -> Vote {
    Vote { term: Term(term), member: MemberId(1), committed }
}

fn open(fs: &SimFs, segment_bytes: u64) -> Result<Replayed, OpenError> {
    let start = StartAt::Mark(SnapshotMark::default());
    Wal::open(fs.clone(), dir(), &start, options(segment_bytes)).map(|opened| opened.content)
}

fn segments(fs: &SimFs) -> Vec<PathBuf> {
    let names = fs.list(dir()).unwrap().into_iter().map(|entry| dir().join(entry.name));
    names.filter(|path| path.extension().is_some_and(|extension| extension == "wal")).collect()
}

/// Where the zeros at the end of a segment begin.
fn used_bytes(fs: &SimFs, path: &Path) -> u64 {
    let content = fs.read(path).unwrap();
    let last = content.iter().rposition(|&byte| byte != 0).unwrap();
    (last as u64 + 1).next_multiple_of(8)
}

fn is_prefix(part: &[Entry], whole: &[Entry]) -> bool {
    part.len() <= whole.len() && part == &whole[..part.len()]
}

/// Cuts the segment at every byte of its last 4 KiB, once as a shorter file and once as zeros from
/// there on. A shorter file always gives a prefix.
#[test]
fn every_cut_of_the_last_4_kib_gives_a_prefix() {
    const SEGMENT: u64 = 16 << 10;
    let fs = SimFs::seeded(1);
    let mut wal = Wal::create(fs.clone(), dir(), &metadata(), options(SEGMENT)).unwrap();
    let mut written = Vec::new();
    let path = segments(&fs).remove(0);
    let mut ends = Vec::new();
    for index in 1..=40 {
        let size = usize::try_from(index * 37 % 400).unwrap();
        let entry = if index % 7 == 0 { blank(1, index) } else { entry(1, index, size) };
        written.push(entry.clone());
        wal.save(&Batch {
            entries: vec![entry],
            commit: Some(LogIndex(index / 2)),
            ..Batch::default()
        })
        .unwrap();
        ends.push(used_bytes(&fs, &path));
    }
    drop(wal);
    let used = used_bytes(&fs, &path);
    assert!(used > 6 << 10, "the log is long enough: {used}");
    let content = fs.read(&path).unwrap();
    let (mut n_shorter, mut n_refused) = (0, 0);
    for cut in (used - 4096)..=used {
        let at = usize::try_from(cut).unwrap();
        for with_zeros in [false, true] {
            let mut image = content[..at].to_vec();
            if with_zeros {
                image.resize(content.len(), 0);
            }
            let fs = fs.image();
            fs.overwrite(&path, &image).unwrap();
            let found = match open(&fs, SEGMENT) {
                Ok(found) => found,
                // No power loss zeroes a part of a sector, so this is damage, not a torn write.
                Err(OpenError::Corrupt { .. }) if with_zeros && cut % 512 != 0 => {
                    n_refused += 1;
                    continue;
                }
                Err(err) => panic!("cut at {cut}: {err}"),
            };
            assert!(is_prefix(&found.entries, &written), "cut at {cut}");
            let n_whole = ends.iter().filter(|end| **end <= cut).count();
            assert!(
                found.entries.len() >= n_whole,
                "cut at {cut}: {} of {n_whole}",
                found.entries.len()
            );
            n_shorter += usize::from(found.entries.len() < written.len());
            assert_eq!(open(&fs, SEGMENT).unwrap(), found, "cut at {cut}: opening again");
        }
    }
    println!("of {} cuts {n_shorter} gave fewer entries, {n_refused} were refused", 2 * 4097);
    assert!(n_shorter > 4000);
}

/// A log of two segments with every kind of record in it.
fn small_log() -> SimFs {
    const SEGMENT: u64 = 1024;
    let fs = SimFs::seeded(1);
    let mut wal = Wal::create(fs.clone(), dir(), &metadata(), options(SEGMENT)).unwrap();
    let mut save = |batch: Batch| wal.save(&batch).unwrap();
    let change = Entry { kind: EntryKind::ConfChange, ..entry(1, 1, 8) };
    save(Batch { vote: Some(vote(1, false)), ..Batch::default() });
    save(Batch::entries(vec![change, blank(1, 2)]));
    save(Batch { vote: Some(vote(1, true)), commit: Some(LogIndex(2)), ..Batch::default() });
    save(Batch::entries(vec![entry(1, 3, 600), entry(1, 4, 300)]));
    save(Batch::commit(LogIndex(3)));
    assert_eq!(segments(&fs).len(), 2, "the log was cut");
    save(Batch::entries(vec![blank(1, 5), entry(1, 6, 20)]));
    save(Batch::mark(SnapshotMark::new(Term(1), LogIndex(3))));
    // Another leader replaces the uncommitted end.
    save(Batch { vote: Some(vote(2, true)), entries: vec![blank(2, 5)], ..Batch::default() });
    save(Batch {
        entries: vec![entry(2, 6, 64), entry(2, 7, 0)],
        commit: Some(LogIndex(5)),
        ..Batch::default()
    });
    save(Batch::commit(LogIndex(6)));
    save(Batch::entries(vec![entry(2, 8, 11), blank(2, 9)]));
    drop(wal);
    fs
}

#[derive(Debug, Default)]
struct Counts {
    refused: usize,
    harmless: usize,
    shorter: usize,
}

#[test]
fn every_bit_flip_gives_a_prefix_or_a_refusal() {
    const SEGMENT: u64 = 1024;
    let fs = small_log();
    let segments = segments(&fs);
    let whole = open(&fs.image(), SEGMENT).unwrap();
    assert_eq!((whole.last_index(), whole.hard_state.commit), (LogIndex(9), LogIndex(6)));
    let states = prefixes(&fs, &segments[1], SEGMENT);
    let mut counts = Counts::default();
    for (at, path) in segments.iter().enumerate() {
        let is_last = at + 1 == segments.len();
        // The records, and some of the preallocated space behind them.
        let n_bytes = used_bytes(&fs, path) + if is_last { 64 } else { 0 };
        for bit in 0..n_bytes * 8 {
            let image = fs.image();
            image.flip_bit(path, bit).unwrap();
            let Ok(found) = open(&image, SEGMENT) else {
                counts.refused += 1;
                continue;
            };
            let place = format!("segment {at}, byte {}, bit {}", bit / 8, bit % 8);
            assert!(states.contains(&found), "{place}: not a prefix: {found:?}");
            assert!(is_last, "{place}: damage in a sealed segment was overlooked");
            if found == whole {
                counts.harmless += 1;
            } else {
                assert!(found.last_index() >= LogIndex(6), "{place}: committed entries are gone");
                counts.shorter += 1;
            }
        }
    }
    println!("{counts:?}");
    assert!(counts.refused > 10 * counts.shorter, "{counts:?}");
}

/// What the log says when it ends after each of the records of its last segment.
fn prefixes(fs: &SimFs, path: &Path, segment_bytes: u64) -> Vec<Replayed> {
    let used = used_bytes(fs, path);
    let mut states = Vec::new();
    for cut in (0..=used).step_by(8) {
        let image = fs.image();
        image.truncate(path, cut).unwrap();
        if let Ok(found) = open(&image, segment_bytes)
            && !states.contains(&found)
        {
            states.push(found);
        }
    }
    states
}
