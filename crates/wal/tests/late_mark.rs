//! A start finds the newest mark although an older one was written right behind a cut.

use bytes::Bytes;
use etcdrs_platform::OsFs;
use etcdrs_types::{ClusterId, LogIndex, MemberId, Term};
use etcdrs_wal::{Batch, Entry, EntryKind, Metadata, Options, Prepare, SnapshotMark, StartAt, Wal};

fn entry(index: u64) -> Entry {
    let data = Some(Bytes::from(vec![7; 300]));
    Entry { kind: EntryKind::Normal, term: Term(1), index: LogIndex(index), data }
}

fn mark(index: u64) -> SnapshotMark {
    SnapshotMark::new(Term(1), LogIndex(index))
}

#[test]
fn sr_1_6_a_mark_from_before_a_cut_does_not_hide_what_follows() {
    let directory = tempfile::tempdir().expect("a directory");
    let dir = directory.path().join("wal");
    let metadata = Metadata { node_id: MemberId(1), cluster_id: ClusterId(2) };
    let options = Options { segment_bytes: 4096, prepare: Prepare::Allocate, ..Options::default() };
    let mut wal = Wal::create(OsFs, &dir, &metadata, options.clone()).expect("a log");
    let segments = || std::fs::read_dir(&dir).expect("a log").count();
    let mut last = 0;
    while segments() < 3 {
        last += 1;
        wal.save(&Batch::entries(vec![entry(last)])).expect("saved");
    }
    // A snapshot is always a little behind; here a cut fell in between.
    wal.save(&Batch::mark(mark(last - 5))).expect("saved");
    for _ in 0..6 {
        last += 1;
        wal.save(&Batch::entries(vec![entry(last)])).expect("saved");
    }
    wal.save(&Batch::mark(mark(last - 2))).expect("saved");
    wal.close().expect("closed");
    for (limit, base) in [(u64::MAX, last - 2), (last - 3, last - 11)] {
        let start = StartAt::NewestAtOrBelow(LogIndex(limit));
        let opened = Wal::open(OsFs, &dir, &start, options.clone()).expect("it opens");
        assert_eq!(opened.content.base, mark(base));
        assert_eq!(opened.content.entries.len() as u64, last - base);
        assert_eq!(opened.content.last_index(), LogIndex(last));
    }
}
