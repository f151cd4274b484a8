//! Group commit: what is grouped, and that nobody is told too much.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};

use etcdrs_platform::{CrashMode, SimFs};

use super::*;
use crate::options::{Options, StartAt};
use crate::replay::Replayed;
use crate::types::{Entry, SnapshotMark};
use crate::wal::tests::{dir, entry, metadata, sim, small, vote};

fn create(fs: &SimFs, options: Options) -> Writer {
    Writer::spawn(Wal::create(fs.clone(), dir(), &metadata(), options).unwrap()).unwrap()
}

fn content(fs: &SimFs) -> Replayed {
    let start = StartAt::Mark(SnapshotMark::default());
    Wal::open(fs.clone(), dir(), &start, small()).unwrap().content
}

fn one(index: u64) -> Batch {
    Batch::entries(vec![entry(1, index, b"payload")])
}

/// Submits and waits.
fn save(writer: &Writer, batch: Batch) -> Result<(), WriteError> {
    let (tell, told) = mpsc::channel();
    writer.submit(batch, move |outcome| tell.send(outcome).unwrap());
    told.recv().unwrap()
}

/// Waits for the writer's thread; a test that would hang fails instead.
fn wait(event: &Receiver<()>) {
    event.recv_timeout(Duration::from_secs(60)).unwrap();
}

/// Holds the thread after each sync until the test lets it go.
struct Gate {
    synced: Mutex<Sender<()>>,
    go: Mutex<Receiver<()>>,
    groups: Mutex<Vec<(usize, usize)>>,
}

impl Observer for Gate {
    fn synced(&self, _nanos: u64) {
        self.synced.lock().unwrap().send(()).unwrap();
        let _ = self.go.lock().unwrap().recv();
    }

    fn grouped(&self, batches: usize, entries: usize) {
        self.groups.lock().unwrap().push((batches, entries));
    }
}

fn gate() -> (Arc<Gate>, Receiver<()>, Sender<()>) {
    let (synced, has_synced) = mpsc::channel();
    let (let_go, go) = mpsc::channel();
    let groups = Mutex::default();
    (Arc::new(Gate { synced: Mutex::new(synced), go: Mutex::new(go), groups }), has_synced, let_go)
}

#[test]
fn what_queues_up_during_a_sync_shares_the_next_one() {
    let fs = sim(1);
    let (gate, has_synced, let_go) = gate();
    let writer = create(&fs, Options { observer: gate.clone(), ..small() });
    let (tell, told) = mpsc::channel();
    let submit = |index| {
        let tell = tell.clone();
        writer.submit(one(index), move |outcome| tell.send((index, outcome.is_ok())).unwrap());
    };
    submit(1);
    wait(&has_synced);
    let writes = fs.writes();
    (2..=20).for_each(submit);
    assert!(told.try_recv().is_err(), "nobody is told before the sync has ended");
    let_go.send(()).unwrap();
    wait(&has_synced);
    drop(let_go);
    let order: Vec<_> = told.iter().take(20).collect();
    assert_eq!(order, (1..=20).map(|index| (index, true)).collect::<Vec<_>>());
    assert_eq!(*gate.groups.lock().unwrap(), [(1, 1), (19, 19)]);
    assert_eq!(fs.writes(), writes + 1);
    writer.close().unwrap();
    assert_eq!(content(&fs).entries.len(), 20);
}

#[test]
fn a_large_queue_is_written_in_bounded_groups() {
    let fs = sim(1);
    let (gate, has_synced, let_go) = gate();
    let options = Options { observer: gate.clone(), segment_bytes: 64 << 20, ..small() };
    let writer = create(&fs, options);
    let (tell, told) = mpsc::channel();
    let submit = |index| {
        let tell = tell.clone();
        let batch = Batch::entries(vec![entry(1, index, &[1; 1 << 20])]);
        writer.submit(batch, move |outcome| tell.send(outcome.is_ok()).unwrap());
    };
    submit(1);
    wait(&has_synced);
    (2..=10).for_each(submit);
    drop(let_go);
    assert_eq!(told.iter().take(10).filter(|is_ok| *is_ok).count(), 10);
    assert_eq!(*gate.groups.lock().unwrap(), [(1, 1), (4, 4), (4, 4), (1, 1)]);
}

#[test]
fn a_commit_rides_along_and_is_never_synced_for() {
    let fs = sim(1);
    let writer = create(&fs, small());
    save(&writer, one(1)).unwrap();
    let syncs = fs.syncs();
    save(&writer, Batch::commit(LogIndex(1))).unwrap();
    assert_eq!(fs.syncs(), syncs);
    save(&writer, one(2)).unwrap();
    writer.submit_silent(Batch::commit(LogIndex(2)));
    writer.release_before(LogIndex(2));
    writer.close().unwrap();
    assert_eq!(content(&fs).hard_state.commit, LogIndex(2));
}

#[test]
fn an_idle_thread_writes_a_commit_after_a_while() {
    let fs = sim(1);
    let (wrote, has_written) = mpsc::channel();
    struct Wrote(Mutex<Sender<()>>);
    impl Observer for Wrote {
        fn wrote(&self, _bytes: u64, _nanos: u64) {
            let _ = self.0.lock().unwrap().send(());
        }
    }
    let writer = create(&fs, Options { observer: Arc::new(Wrote(Mutex::new(wrote))), ..small() });
    save(&writer, one(1)).unwrap();
    wait(&has_written);
    writer.submit_silent(Batch::commit(LogIndex(1)));
    wait(&has_written);
    let start = StartAt::Mark(SnapshotMark::default());
    let replayed = crate::read_only(&fs, dir(), &start).unwrap();
    assert_eq!(replayed.hard_state.commit, LogIndex(1));
}

#[test]
fn a_failed_sync_is_never_acknowledged() {
    for seed in 0..100 {
        let fs = sim(seed);
        let writer = create(&fs, small());
        save(&writer, Batch::vote(vote(1))).unwrap();
        match seed % 2 {
            0 => fs.fail_sync(1 + seed % 7),
            _ => fs.fail_write(1 + seed % 7),
        }
        let outcomes: Vec<_> = (1..=20).map(|index| save(&writer, one(index))).collect();
        let n_acknowledged = outcomes.iter().take_while(|outcome| outcome.is_ok()).count();
        assert!(n_acknowledged < 20, "seed {seed}: the fault was met");
        let is_final =
            |outcome: &Result<(), WriteError>| matches!(outcome, Err(WriteError::Failed(_)));
        assert!(outcomes[n_acknowledged..].iter().all(is_final), "seed {seed}: {outcomes:?}");
        assert!(writer.failure().is_some() && writer.close().is_err());
        for after in [fs.crash_with(CrashMode::LoseAll), fs.crash()] {
            let n_left = content(&after).entries.len();
            assert!(n_left >= n_acknowledged, "seed {seed}: {n_left} of {n_acknowledged}");
        }
    }
}

#[test]
fn power_loss_under_concurrent_load_keeps_what_was_acknowledged() {
    for seed in 0..60 {
        let fs = sim(seed);
        let writer = create(&fs, small());
        let acknowledged = Arc::new(AtomicU64::new(0));
        let images: Vec<_> = std::thread::scope(|scope| {
            scope.spawn(|| {
                for index in 1..=150 {
                    let acknowledged = Arc::clone(&acknowledged);
                    let commit = Some(LogIndex(index.max(2) - 1));
                    writer.submit(Batch { commit, ..one(index) }, move |outcome| {
                        outcome.unwrap();
                        acknowledged.store(index, Ordering::SeqCst);
                    });
                }
            });
            let mut images = Vec::new();
            while acknowledged.load(Ordering::SeqCst) < 150 {
                // In this order: what was acknowledged before the power went is in the image.
                let n_acknowledged = acknowledged.load(Ordering::SeqCst);
                images.push((n_acknowledged, fs.crash()));
            }
            images
        });
        for (n_acknowledged, image) in images {
            let entries = content(&image).entries;
            assert!(entries.len() as u64 >= n_acknowledged, "seed {seed}");
            let is_whole =
                |(at, found): (usize, &Entry)| *found == entry(1, at as u64 + 1, b"payload");
            assert!(entries.iter().enumerate().all(is_whole), "seed {seed}");
        }
    }
}

#[test]
fn everyone_gets_an_answer_whatever_ends_the_thread() {
    let fs = sim(1);
    let (gate, has_synced, let_go) = gate();
    let writer = create(&fs, Options { observer: gate, ..small() });
    let answers = Arc::new(AtomicUsize::new(0));
    let count = |answers: &Arc<AtomicUsize>| {
        let answers = Arc::clone(answers);
        move |outcome: Result<(), WriteError>| {
            assert!(outcome.is_err());
            answers.fetch_add(1, Ordering::SeqCst);
        }
    };
    writer.submit(one(1), |_| panic!("a callback of the test"));
    wait(&has_synced);
    (2..=5).for_each(|index| writer.submit(one(index), count(&answers)));
    drop(let_go);
    let err = writer.close().unwrap_err();
    assert!(err.to_string().contains("panicked"), "{err}");
    writer.submit(one(6), count(&answers));
    assert_eq!(answers.load(Ordering::SeqCst), 5);
}

#[test]
fn a_refused_batch_harms_only_itself() {
    let fs = sim(1);
    let writer = create(&fs, small());
    save(&writer, one(1)).unwrap();
    let refused = save(&writer, one(7)).unwrap_err();
    assert!(matches!(refused, WriteError::Refused(_)), "{refused}");
    save(&writer, one(2)).unwrap();
    let copy = writer.clone();
    writer.close().unwrap();
    let closed = save(&copy, one(3)).unwrap_err();
    assert_eq!(closed.to_string(), "write-ahead log failed: closed");
    assert_eq!(content(&fs).entries.len(), 2);
}

#[test]
fn the_last_handle_ends_the_thread_after_writing_what_is_queued() {
    let fs = sim(1);
    let writer = create(&fs, small());
    let (tell, told) = mpsc::channel();
    writer.submit(one(1), move |outcome| tell.send(outcome.is_ok()).unwrap());
    drop(writer);
    assert_eq!(told.recv(), Ok(true));
}

#[test]
fn a_hand_does_the_work_of_the_thread() {
    let fs = sim(1);
    let wal = Wal::create(fs.clone(), dir(), &metadata(), small()).unwrap();
    let woken = Arc::new(AtomicUsize::new(0));
    let wakes = Arc::clone(&woken);
    let (writer, mut hand) = Writer::by_hand(wal, move || {
        wakes.fetch_add(1, Ordering::Relaxed);
    });
    let (tell, told) = mpsc::channel();
    writer.submit(one(1), move |outcome| tell.send(outcome).unwrap());
    assert_eq!(woken.load(Ordering::Relaxed), 1);
    assert!(hand.write().unwrap());
    assert!(told.try_recv().is_err(), "written is not durable");
    assert!(content(&fs.crash_with(CrashMode::LoseAll)).entries.is_empty());
    hand.sync().unwrap();
    told.try_recv().unwrap().unwrap();
    assert!(!hand.write().unwrap());
    assert!(!hand.is_closing());
    drop(writer);
    assert!(hand.is_closing());
    hand.close().unwrap();
    assert_eq!(content(&fs.crash_with(CrashMode::LoseAll)).entries.len(), 1);
}
