//! The log against a simulated disk: round trips, cuts, refusals, power loss.

use std::path::Path;

use bytes::Bytes;
use etcdrs_platform::{CrashMode, OsFs, Random, SeededRandom, SimFs};
use etcdrs_proto::raftpb::ConfState;
use etcdrs_types::{ClusterId, MemberId};

use super::*;
use crate::error::OpenError;
use crate::options::{Prepare, StartAt};
use crate::types::{Entry, EntryKind, SnapshotMark};

pub(crate) fn small() -> Options {
    Options { segment_bytes: 4096, prepare: Prepare::Allocate, ..Options::default() }
}

pub(crate) fn dir() -> &'static Path {
    Path::new("/member/wal")
}

pub(crate) fn sim(seed: u64) -> SimFs {
    let fs = SimFs::seeded(seed);
    fs.create_dir_all(Path::new("/member"), 0o700).unwrap();
    fs.sync_dir(Path::new("/")).unwrap();
    fs
}

pub(crate) fn metadata() -> Metadata {
    Metadata {
        node_id: MemberId(0x8e9e_05c5_2164_694d),
        cluster_id: ClusterId(0xcdf8_181b_0000_0001),
    }
}

pub(crate) fn entry(term: u64, index: u64, data: &[u8]) -> Entry {
    Entry {
        kind: EntryKind::Normal,
        term: Term(term),
        index: LogIndex(index),
        data: Some(Bytes::copy_from_slice(data)),
    }
}

pub(crate) fn vote(term: u64) -> Vote {
    Vote { term: Term(term), member: MemberId(7), committed: false }
}

fn from_start() -> StartAt {
    StartAt::Mark(SnapshotMark::default())
}

fn create(fs: &SimFs) -> Wal<SimFs> {
    Wal::create(fs.clone(), dir(), &metadata(), small()).unwrap()
}

fn open(fs: &SimFs) -> Opened<SimFs> {
    Wal::open(fs.clone(), dir(), &from_start(), small()).unwrap()
}

fn names(fs: &SimFs) -> Vec<String> {
    let entries = fs.list(dir()).unwrap();
    entries.into_iter().map(|entry| entry.name.into_string().unwrap()).collect()
}

#[test]
fn a_log_gives_back_what_was_appended() {
    let fs = sim(1);
    let mut wal = create(&fs);
    let mut entries = vec![
        Entry { data: None, ..entry(1, 1, b"") },
        entry(1, 2, b""),
        Entry { kind: EntryKind::ConfChangeV2, ..entry(1, 3, b"change") },
    ];
    wal.save(&Batch { vote: Some(vote(1)), ..Batch::default() }).unwrap();
    wal.save(&Batch::entries(entries.clone())).unwrap();
    let won = Vote { committed: true, ..vote(1) };
    wal.save(&Batch { vote: Some(won), commit: Some(LogIndex(3)), ..Batch::default() }).unwrap();
    drop(wal);
    let mut opened = open(&fs);
    assert_eq!(opened.content.entries, entries);
    assert_eq!(opened.content.metadata, metadata());
    assert_eq!(opened.content.hard_state, HardState { vote: won, commit: LogIndex(3) });
    assert_eq!(opened.content.base, SnapshotMark::default());
    assert_eq!(opened.repaired, None);
    opened.wal.save(&Batch::entries(vec![entry(2, 4, b"more")])).unwrap();
    entries.push(entry(2, 4, b"more"));
    drop(opened);
    let again = open(&fs);
    assert_eq!(again.content.entries, entries);
    // The entry of term 2 raised the hard state.
    assert_eq!(again.content.hard_state.vote, Vote { term: Term(2), ..Vote::default() });
}

#[test]
fn sr_1_5_creation_refuses_an_existing_log_and_leaves_no_half_one() {
    let fs = sim(1);
    drop(create(&fs));
    let refused = Wal::create(fs.clone(), dir(), &metadata(), small()).unwrap_err();
    assert_eq!(refused.to_string(), "file already exists");
    for seed in 0..50 {
        let fs = sim(seed);
        fs.fail_sync(1 + seed % 2);
        let outcome = Wal::create(fs.clone(), dir(), &metadata(), small());
        drop(outcome);
        let after = fs.crash();
        if Wal::<SimFs>::exists(&after, dir()).unwrap() {
            open(&after);
        } else {
            create(&after);
            open(&after);
        }
    }
}

#[test]
fn sr_1_6_a_full_segment_is_cut_and_all_segments_read_on() {
    let fs = sim(1);
    let mut wal = create(&fs);
    for index in 1..=60 {
        wal.save(&Batch::entries(vec![entry(1, index, &[7; 300])])).unwrap();
    }
    drop(wal);
    let names = names(&fs);
    assert!(names.len() > 4, "{names:?}");
    assert_eq!(names[0], "0000000000000000-0000000000000000.wal");
    assert!(names[1].starts_with("0000000000000001-000000000000000"), "{names:?}");
    let opened = open(&fs);
    assert_eq!(opened.content.entries.len(), 60);
    assert_eq!(opened.wal.last_index(), LogIndex(60));
    drop(opened);
    let first_len = fs.stat(&dir().join(&names[0])).unwrap().len;
    assert!((4096..4096 + 400).contains(&first_len), "the size is a threshold: {first_len}");
    fs.remove_file(&dir().join(&names[2])).unwrap();
    let err = Wal::open(fs.clone(), dir(), &from_start(), small()).unwrap_err();
    assert!(matches!(err, OpenError::SequenceGap { first: 0 }), "{err}");
}

#[test]
fn sr_1_11_segments_are_locked_until_released_and_purged_after() {
    let fs = sim(1);
    let mut wal = create(&fs);
    for index in 1..=60 {
        wal.save(&Batch::entries(vec![entry(1, index, &[7; 300])])).unwrap();
    }
    let n_before = names(&fs).len();
    let locked = Wal::open(fs.clone(), dir(), &from_start(), small()).unwrap_err();
    assert!(locked.to_string().ends_with("file already locked"), "{locked}");
    assert!(crate::purge(&fs, dir(), 2).unwrap().is_empty());
    let mark = SnapshotMark {
        index: LogIndex(40),
        term: Term(1),
        conf_state: Some(ConfState { voters: vec![1], ..ConfState::default() }),
    };
    wal.save(&Batch::mark(mark.clone())).unwrap();
    wal.release_before(LogIndex(41));
    let deleted = crate::purge(&fs, dir(), 1).unwrap();
    assert!(!deleted.is_empty() && deleted.len() < n_before - 1, "{deleted:?}");
    assert!(crate::purge(&fs, dir(), 0).unwrap().is_empty());
    wal.close().unwrap();
    let opened =
        Wal::open(fs.clone(), dir(), &StartAt::NewestAtOrBelow(LogIndex(60)), small()).unwrap();
    assert_eq!(opened.content.base, mark);
    assert_eq!(opened.content.entries.first().unwrap().index, LogIndex(41));
    assert_eq!(opened.content.entries.len(), 20);
    drop(opened);
    let opened = Wal::open(fs.clone(), dir(), &StartAt::Mark(mark), small()).unwrap();
    assert_eq!(opened.content.entries.len(), 20);
    drop(opened);
    let err = Wal::open(fs, dir(), &from_start(), small()).unwrap_err();
    assert_eq!(err.to_string(), "wal: file not found which matches the snapshot index '0'");
}

#[test]
fn a_batch_that_breaks_a_rule_is_refused_and_leaves_no_trace() {
    let fs = sim(1);
    let mut wal = create(&fs);
    let entries = (1..=5).map(|index| entry(2, index, b"x")).collect();
    wal.save(&Batch { entries, commit: Some(LogIndex(2)), ..Batch::default() }).unwrap();
    wal.save(&Batch::default()).unwrap();
    let mut refused = |batch: &Batch| match wal.append(batch) {
        Err(WriteError::Refused(damage)) => damage,
        other => panic!("{batch:?} gave {other:?}"),
    };
    let one = |entry| Batch::entries(vec![entry]);
    assert!(matches!(refused(&one(entry(2, 7, b""))), Damage::Gap { .. }));
    assert!(matches!(refused(&one(entry(2, 0, b""))), Damage::Content("entry")));
    assert!(matches!(refused(&one(entry(1, 6, b""))), Damage::TermFell { .. }));
    assert!(matches!(refused(&one(entry(3, 2, b""))), Damage::ReplacesCommitted { .. }));
    assert!(matches!(refused(&Batch::vote(vote(1))), Damage::TermFell { .. }));
    let gap = Batch::entries(vec![entry(2, 6, b""), entry(2, 8, b"")]);
    assert!(matches!(refused(&gap), Damage::Gap { .. }));
    let conf = Entry { kind: EntryKind::ConfChange, data: None, ..entry(2, 6, b"") };
    assert!(matches!(refused(&one(conf)), Damage::Content("entry")));
    let behind = Batch { entries: vec![entry(5, 6, b"")], vote: Some(vote(4)), ..Batch::default() };
    assert!(matches!(refused(&behind), Damage::TermAhead { .. }));
    wal.save(&Batch::entries(vec![entry(2, 6, b"ok")])).unwrap();
    drop(wal);
    assert_eq!(open(&fs).content.entries.len(), 6);
}

#[test]
fn a_later_record_with_a_lower_index_truncates() {
    let fs = sim(1);
    let mut wal = create(&fs);
    wal.save(&Batch::entries((1..=5).map(|index| entry(1, index, b"old")).collect())).unwrap();
    wal.save(&Batch::entries(vec![entry(2, 3, b"new")])).unwrap();
    assert_eq!((wal.last_index(), wal.durable_index()), (LogIndex(3), LogIndex(3)));
    drop(wal);
    let entries = open(&fs).content.entries;
    assert_eq!(entries, [entry(1, 1, b"old"), entry(1, 2, b"old"), entry(2, 3, b"new")]);
}

/// design.md §4, "Log": a mark whose slot is absent or has another term cuts everything from
/// there up.
#[test]
fn a_mark_that_the_entries_contradict_begins_a_new_log() {
    let mark = |term, index| SnapshotMark::new(Term(term), LogIndex(index));
    let content = |marked: SnapshotMark, then: Vec<Entry>| {
        let fs = sim(1);
        let mut wal = create(&fs);
        wal.save(&Batch::entries((1..=5).map(|index| entry(1, index, b"old")).collect())).unwrap();
        wal.save(&Batch { vote: Some(vote(3)), ..Batch::mark(marked) }).unwrap();
        wal.save(&Batch::entries(then)).unwrap();
        drop(wal);
        open(&fs).content
    };
    let kept = content(mark(1, 3), vec![entry(2, 6, b"")]);
    assert_eq!((kept.base, kept.entries.len()), (mark(0, 0), 6));
    let beyond = content(mark(3, 9), vec![entry(3, 10, b"")]);
    assert_eq!((beyond.base, beyond.entries), (mark(3, 9), vec![entry(3, 10, b"")]));
    let other_term = content(mark(2, 3), vec![entry(3, 4, b"")]);
    assert_eq!((other_term.base, other_term.entries), (mark(2, 3), vec![entry(3, 4, b"")]));
    assert_eq!(other_term.marks, [mark(0, 0), mark(2, 3)]);
}

#[test]
fn sr_1_7_a_commit_alone_is_written_but_not_synced() {
    let fs = sim(1);
    let mut wal = create(&fs);
    wal.save(&Batch::entries(vec![entry(1, 1, b"x")])).unwrap();
    let (syncs, writes) = (fs.syncs(), fs.writes());
    wal.save(&Batch::commit(LogIndex(1))).unwrap();
    assert_eq!((fs.syncs(), fs.writes()), (syncs, writes + 1));
    wal.save(&Batch::default()).unwrap();
    assert_eq!((fs.syncs(), fs.writes()), (syncs, writes + 1), "nothing to do, nothing done");
    wal.save(&Batch::vote(vote(1))).unwrap();
    assert_eq!(fs.syncs(), syncs + 1);
    drop(wal);
    assert_eq!(open(&fs).content.hard_state.commit, LogIndex(1));
}

#[test]
fn a_commit_waits_for_the_entries_it_covers() {
    let fs = sim(1);
    let mut wal = create(&fs);
    let entries = vec![entry(1, 1, b"x"), entry(1, 2, b"x")];
    wal.append(&Batch { entries, commit: Some(LogIndex(2)), ..Batch::default() }).unwrap();
    assert_eq!(wal.hard_state().commit, LogIndex(0));
    wal.sync().unwrap();
    assert_eq!(wal.hard_state().commit, LogIndex(2));
    wal.close().unwrap();
    assert_eq!(open(&fs).content.hard_state.commit, LogIndex(2));
}

#[test]
fn a_failed_write_or_sync_is_final() {
    for fail in [SimFs::fail_sync, SimFs::fail_write] {
        let fs = sim(1);
        let mut wal = create(&fs);
        wal.save(&Batch::entries(vec![entry(1, 1, b"kept")])).unwrap();
        fail(&fs, 1);
        let err = wal.save(&Batch::entries(vec![entry(1, 2, b"lost")])).unwrap_err();
        assert!(matches!(err, WriteError::Failed(_)), "{err}");
        let err = wal.save(&Batch::entries(vec![entry(1, 2, b"again")])).unwrap_err();
        assert!(matches!(err, WriteError::Failed(_)), "{err}");
        assert!(wal.sync().is_err() && wal.close().is_err());
        let after = fs.crash_with(CrashMode::LoseAll);
        assert_eq!(open(&after).content.entries, [entry(1, 1, b"kept")]);
    }
}

#[test]
fn a_full_disk_fails_the_cut_and_loses_nothing() {
    let fs = sim(1);
    let mut wal = create(&fs);
    fs.set_capacity(6000);
    let mut n_saved = 0;
    let err = loop {
        match wal.save(&Batch::entries(vec![entry(1, n_saved + 1, &[7; 100])])) {
            Ok(_) => n_saved += 1,
            Err(err) => break err,
        }
    };
    let WriteError::Failed(failed) = err else { panic!("{err}") };
    assert_eq!(
        (failed.operation, failed.source.kind()),
        ("cut segment", io::ErrorKind::StorageFull)
    );
    let after = fs.crash_with(CrashMode::LoseAll);
    after.set_capacity(u64::MAX);
    assert!(open(&after).content.entries.len() as u64 >= n_saved);
}

#[test]
fn sr_1_10_a_torn_tail_is_set_aside_and_cut() {
    let fs = sim(1);
    let mut wal = create(&fs);
    wal.save(&Batch::entries(vec![entry(1, 1, b"kept")])).unwrap();
    let end = wal.offset;
    wal.save(&Batch::entries(vec![entry(1, 2, &[7; 1500])])).unwrap();
    drop(wal);
    let path = dir().join(&names(&fs)[0]);
    let mut content = fs.read(&path).unwrap();
    content[1024..1536].fill(0);
    fs.overwrite(&path, &content).unwrap();
    let reading = crate::read_only(&fs, dir(), &from_start()).unwrap();
    assert_eq!(reading.entries.len(), 1, "a reader takes it for a write under way");
    assert!(crate::verify(&fs, dir(), &from_start()).is_err());
    let mut opened = open(&fs);
    let repaired = opened.repaired.take().unwrap();
    assert_eq!((repaired.path.clone(), repaired.offset), (path.clone(), end));
    assert_eq!(fs.read(&repaired.copy).unwrap(), content);
    assert_eq!(opened.content.entries, [entry(1, 1, b"kept")]);
    // What lay behind the cut must not come back behind a shorter record.
    opened.wal.save(&Batch::entries(vec![entry(1, 2, b"short")])).unwrap();
    drop(opened);
    assert_eq!(open(&fs).content.entries, [entry(1, 1, b"kept"), entry(1, 2, b"short")]);
    assert!(fs.read(&path).unwrap()[1536..].iter().all(|&byte| byte == 0));
}

#[test]
fn a_cut_below_the_commit_is_refused() {
    let fs = sim(1);
    let mut wal = create(&fs);
    wal.save(&Batch::entries(vec![entry(1, 1, b"a"), entry(1, 2, &[7; 1500])])).unwrap();
    wal.save(&Batch::commit(LogIndex(2))).unwrap();
    drop(wal);
    let path = dir().join(&names(&fs)[0]);
    let mut content = fs.read(&path).unwrap();
    content[1024..1536].fill(0);
    fs.overwrite(&path, &content).unwrap();
    let err = Wal::open(fs.clone(), dir(), &from_start(), small()).unwrap_err();
    assert!(
        matches!(err, OpenError::CutBelowCommit { last: LogIndex(1), recorded: LogIndex(2), .. }),
        "{err}"
    );
    assert_eq!(fs.read(&path).unwrap(), content, "nothing was changed");
}

/// A power loss at any moment keeps what was acknowledged and gives nothing that was not written.
#[test]
fn power_loss_keeps_what_was_acknowledged() {
    let mut n_torn = 0;
    for seed in 0..400 {
        let fs = sim(seed);
        let mut wal = create(&fs);
        let (mut written, mut acknowledged) = (Vec::new(), 0);
        for round in 0..(1 + seed % 9) {
            let n = 1 + (seed * 7 + round * 3) % 5;
            let entries: Vec<Entry> = (0..n)
                .map(|n| {
                    let index = written.len() as u64 + 1 + n;
                    let size = usize::try_from((seed * 131 + index * 97) % 900).unwrap();
                    entry(1 + round / 3, index, &vec![index as u8 | 1; size])
                })
                .collect();
            written.extend(entries.clone());
            let commit = Some(LogIndex(written.len() as u64));
            wal.append(&Batch { entries, commit, ..Batch::default() }).unwrap();
            if (seed + round) % 4 == 3 {
                // Reaches the file, but is never synced.
                wal.flush().unwrap();
            } else {
                acknowledged = usize::try_from(wal.sync().unwrap().0).unwrap();
            }
        }
        for _ in 0..4 {
            let after = fs.crash();
            let opened = Wal::open(after.clone(), dir(), &from_start(), small())
                .unwrap_or_else(|err| panic!("seed {seed}: {err}"));
            let entries = opened.content.entries;
            assert!(entries.len() >= acknowledged, "seed {seed}: an acknowledged entry is gone");
            assert_eq!(entries[..], written[..entries.len()], "seed {seed}");
            n_torn += usize::from(opened.repaired.is_some());
            drop(opened.wal);
            assert_eq!(
                open(&after).content.entries,
                entries,
                "seed {seed}: reopening changes nothing"
            );
        }
    }
    assert!(n_torn > 50, "the disk tears: {n_torn}");
}

/// Whole sequences of operations with crashes in between, against a model: what is found after a
/// crash is one of the states since the last one that was acknowledged.
#[test]
fn random_histories_survive_random_crashes() {
    for seed in 0..300 {
        let random = SeededRandom::new(seed);
        let mut fs = sim(seed);
        let mut wal = create(&fs);
        let mut states = vec![State { base: SnapshotMark::default(), ..State::default() }];
        let mut since_synced = 0;
        for _ in 0..60 {
            if random.below(12) == 0 {
                drop(wal);
                fs = fs.crash();
                let base = states[since_synced].base.clone();
                let start = match random.below(2) {
                    0 => StartAt::NewestAtOrBelow(base.index),
                    _ => StartAt::Mark(base),
                };
                let opened = Wal::open(fs.clone(), dir(), &start, small());
                let opened = opened.unwrap_or_else(|err| panic!("seed {seed}: {err}"));
                let found = State::of(&opened.content);
                let Some(at) = states[since_synced..].iter().position(|state| *state == found)
                else {
                    panic!("seed {seed}: {found:?} is none of {:?}", &states[since_synced..]);
                };
                states.truncate(since_synced + at + 1);
                since_synced = states.len() - 1;
                wal = opened.wal;
                continue;
            }
            let mut state = states[states.len() - 1].clone();
            let batch = state.step(&random, wal.hard_state().commit);
            wal.append(&batch).unwrap_or_else(|err| panic!("seed {seed}: {err}"));
            states.push(state);
            match random.below(3) {
                0 => wal.flush().unwrap(),
                _ => {
                    wal.sync().unwrap();
                    since_synced = states.len() - 1;
                }
            }
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq)]
struct State {
    base: SnapshotMark,
    entries: Vec<Entry>,
    vote: Vote,
}

impl State {
    fn of(content: &crate::Replayed) -> Self {
        let crate::Replayed { base, entries, hard_state, .. } = content.clone();
        Self { base, entries, vote: hard_state.vote }
    }

    /// One change, as one record.
    fn step(&mut self, random: &SeededRandom, commit: LogIndex) -> Batch {
        let last = self.base.index.0 + self.entries.len() as u64;
        match random.below(10) {
            0 => {
                self.vote = vote(self.vote.term.0 + random.below(2));
                self.vote.member = MemberId(random.below(3));
                Batch::vote(self.vote)
            }
            1 => Batch::commit(LogIndex(random.below(last + 1))),
            // A snapshot from the leader, beyond the log.
            2 if random.below(3) == 0 => {
                self.base = SnapshotMark::new(self.vote.term, LogIndex(last + 1 + random.below(3)));
                self.entries.clear();
                Batch::mark(self.base.clone())
            }
            3 if last > commit.0 && last > self.base.index.0 + 1 => {
                // The newest entry is replaced by one of the newest term.
                self.entries.pop();
                self.append(random, last)
            }
            _ => self.append(random, last + 1),
        }
    }

    fn append(&mut self, random: &SeededRandom, index: u64) -> Batch {
        let size = usize::try_from(random.below(1500)).unwrap();
        let entry = entry(self.vote.term.0, index, &vec![random.below(256) as u8; size]);
        self.entries.push(entry.clone());
        Batch::entries(vec![entry])
    }
}

#[test]
fn spares_are_prepared_in_the_background_and_used() {
    let directory = tempfile::tempdir().unwrap();
    let dir = directory.path().join("wal");
    let prepare = Prepare::ZeroFill { bytes_per_second: 1 << 30 };
    let options = Options { segment_bytes: 256 << 10, prepare, ..Options::default() };
    let mut wal = Wal::create(OsFs, &dir, &metadata(), options.clone()).unwrap();
    for index in 1..=300 {
        wal.save(&Batch::entries(vec![entry(1, index, &[7; 4000])])).unwrap();
    }
    let (n_segments, offset) = (wal.segments.len(), wal.offset);
    assert!(n_segments >= 4, "{n_segments}");
    drop(wal);
    let start = from_start();
    let opened = Wal::open(OsFs, &dir, &start, options.clone()).unwrap();
    assert_eq!((opened.content.entries.len(), opened.wal.offset), (300, offset));
    assert_eq!(opened.repaired, None);
    let locked = Wal::open(OsFs, &dir, &start, options).unwrap_err();
    assert!(matches!(locked, OpenError::Locked { .. }), "{locked}");
}

#[test]
fn a_foreign_directory_is_not_replaced() {
    let fs = sim(1);
    fs.create_dir_all(dir(), 0o700).unwrap();
    fs.open(&dir().join("0.tmp"), etcdrs_platform::Open::Create(0o600)).unwrap();
    drop(create(&fs));
    let fs = sim(1);
    fs.create_dir_all(&dir().join("photos"), 0o700).unwrap();
    let err = Wal::create(fs, dir(), &metadata(), small()).unwrap_err();
    assert!(matches!(err, crate::CreateError::Io { .. }), "{err}");
}

#[test]
fn a_start_reads_only_the_segments_it_needs() {
    let fs = sim(1);
    let mut wal = create(&fs);
    let mark = |index| SnapshotMark::new(Term(1), LogIndex(index));
    for index in 1..=100 {
        wal.save(&Batch::entries(vec![entry(1, index, &[7; 300])])).unwrap();
        if index % 20 == 0 {
            wal.save(&Batch::mark(mark(index - 5))).unwrap();
        }
    }
    let n_segments = wal.segments.len();
    wal.close().unwrap();
    let open_at = |limit| {
        let start = StartAt::NewestAtOrBelow(LogIndex(limit));
        let opened = Wal::open(fs.clone(), dir(), &start, small()).unwrap();
        assert_eq!(opened.content.last_index(), LogIndex(100));
        let first = opened.content.entries[0].index;
        assert_eq!(first.0, opened.content.base.index.0 + 1);
        (opened.content.base, opened.wal.segments.len())
    };
    let (base, n_read) = open_at(1000);
    assert!(base == mark(95) && n_read <= 2, "{n_read} of {n_segments}");
    let (base, n_read) = open_at(94);
    assert!(base == mark(75) && n_read <= 4, "{n_read} of {n_segments}");
    assert_eq!(open_at(14), (SnapshotMark::default(), n_segments));
    // A snapshot from the leader, followed by a cut: the mark is in the older segment.
    let opened = open(&fs);
    let mut wal = opened.wal;
    wal.save(&Batch::mark(mark(500))).unwrap();
    wal.save(&Batch::entries(vec![entry(1, 501, &[7; 4096])])).unwrap();
    wal.save(&Batch::entries(vec![entry(1, 502, b"x")])).unwrap();
    wal.close().unwrap();
    let start = StartAt::NewestAtOrBelow(LogIndex(500));
    let content = Wal::open(fs, dir(), &start, small()).unwrap().content;
    assert_eq!((content.base, content.entries.len()), (mark(500), 2));
}

/// A power loss after each single change of the disk, through creation, cuts, truncations, marks,
/// repair and reopening.
#[test]
fn power_loss_at_every_step_keeps_what_was_acknowledged() {
    let mut n_images = 0;
    for seed in 0..20 {
        let fs = sim(seed);
        fs.record_crashes();
        let mut wal = create(&fs);
        for image in fs.take_crashes() {
            // Either there is no log yet, and one can be made, or there is a whole one.
            match Wal::<SimFs>::exists(&image, dir()).unwrap() {
                true => drop(open(&image)),
                false => drop(create(&image)),
            }
            n_images += 1;
        }
        let mut written = Vec::new();
        for round in 1..=12 {
            let n_acknowledged = written.len();
            let first = written.len() as u64 + 1;
            let entries: Vec<Entry> =
                (first..first + 3).map(|index| entry(round, index, &[7; 350])).collect();
            written.extend(entries.clone());
            if round == 6 {
                // What comes next finds a torn tail, as after an earlier power loss.
                wal.append(&Batch::entries(entries.clone())).unwrap();
                wal.flush().unwrap();
                drop(wal);
                wal = open(&fs).wal;
            }
            let commit = Some(LogIndex(first));
            wal.save(&Batch { entries, commit, ..Batch::default() }).unwrap();
            if round == 9 {
                wal.save(&Batch::mark(SnapshotMark::new(Term(1), LogIndex(3)))).unwrap();
            }
            for image in fs.take_crashes() {
                let start = StartAt::Mark(SnapshotMark::default());
                let opened = Wal::open(image, dir(), &start, small());
                let content = opened.unwrap_or_else(|err| panic!("seed {seed}: {err}")).content;
                assert!(content.entries.len() >= n_acknowledged, "seed {seed}, round {round}");
                assert_eq!(content.entries[..], written[..content.entries.len()]);
                n_images += 1;
            }
        }
        assert!(wal.segments.len() > 3);
    }
    println!("{n_images} power losses");
}

/// The repair itself loses power at every step.
#[test]
fn sr_1_10_power_loss_during_repair() {
    let torn = sim(1);
    let mut wal = create(&torn);
    wal.save(&Batch::entries(vec![entry(1, 1, b"kept")])).unwrap();
    wal.save(&Batch::entries(vec![entry(1, 2, &[7; 1500])])).unwrap();
    drop(wal);
    let path = dir().join(&names(&torn)[0]);
    let mut content = torn.read(&path).unwrap();
    content[1024..1536].fill(0);
    torn.overwrite(&path, &content).unwrap();
    for _ in 0..20 {
        let fs = torn.image();
        fs.record_crashes();
        assert!(open(&fs).repaired.is_some());
        let images = fs.take_crashes();
        assert!(images.len() >= 6, "{}", images.len());
        for image in images {
            assert_eq!(open(&image).content.entries, [entry(1, 1, b"kept")]);
        }
    }
}
