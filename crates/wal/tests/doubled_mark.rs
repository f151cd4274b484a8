//! A database was received, and a snapshot of just that state is built: two marks at one index, and
//! entries in between.

use bytes::Bytes;
use etcdrs_platform::OsFs;
use etcdrs_types::{ClusterId, LogIndex, MemberId, Term};
use etcdrs_wal::{Batch, Entry, EntryKind, Metadata, Options, Prepare, SnapshotMark, StartAt, Wal};

fn entries(term: u64, indexes: std::ops::RangeInclusive<u64>) -> Batch {
    let entry = |index| {
        let data = Some(Bytes::from_static(b"data"));
        Entry { kind: EntryKind::Normal, term: Term(term), index: LogIndex(index), data }
    };
    Batch::entries(indexes.map(entry).collect())
}

#[test]
fn a_second_mark_of_a_received_database_keeps_the_entries_behind_it() {
    let directory = tempfile::tempdir().expect("a directory");
    let dir = directory.path().join("wal");
    let metadata = Metadata { node_id: MemberId(1), cluster_id: ClusterId(2) };
    let options = Options { prepare: Prepare::Allocate, ..Options::default() };
    let mut wal = Wal::create(OsFs, &dir, &metadata, options.clone()).expect("a log");
    wal.save(&entries(1, 1..=10)).expect("saved");
    // Own, of an older term.
    wal.save(&Batch::mark(SnapshotMark::new(Term(1), LogIndex(8)))).expect("saved");
    let received = SnapshotMark::new(Term(3), LogIndex(100));
    wal.save(&Batch { commit: Some(received.index), ..Batch::mark(received.clone()) })
        .expect("saved");
    wal.save(&entries(3, 101..=105)).expect("saved");
    wal.save(&Batch::mark(received.clone())).expect("saved");
    wal.save(&entries(3, 106..=107)).expect("saved");
    wal.close().expect("closed");
    let newest = StartAt::NewestAtOrBelow(LogIndex(u64::MAX));
    for start in [newest, StartAt::Mark(received.clone())] {
        let opened = Wal::open(OsFs, &dir, &start, options.clone()).expect("it opens");
        assert_eq!(opened.content.base, received);
        let indexes: Vec<u64> = opened.content.entries.iter().map(|entry| entry.index.0).collect();
        assert_eq!(indexes, (101..=107).collect::<Vec<_>>());
    }
}
