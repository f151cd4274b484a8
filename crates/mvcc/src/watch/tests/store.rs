//! The hub over the real store, with every party on a thread of its own.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use etcdrs_backend::Backend;
use etcdrs_types::LeaseId;

use super::*;
use crate::{Options, Store};

const WRITES: i64 = 3000;
const PATIENCE: Duration = Duration::from_secs(60);

/// A bell that a thread can sleep on.
struct Doorbell(Mutex<Sender<()>>);

impl Wake for Doorbell {
    fn wake(&self) {
        // The listener may have gone already.
        let _ = self.0.lock().send(());
    }
}

fn doorbell() -> (Arc<dyn Wake>, Receiver<()>) {
    let (sender, receiver) = channel();
    (Arc::new(Doorbell(Mutex::new(sender))), receiver)
}

/// Revision, new value and previous value of every event of one key.
type Seen = Vec<(i64, Option<String>, Option<String>)>;

fn value(kv: &StoredKv) -> String {
    String::from_utf8(kv.value().to_vec()).unwrap()
}

/// Writes `k0`..`k9` in batches and returns what happened to each of them.
fn write_all(mut store: Store, hub: &Hub) -> BTreeMap<String, Seen> {
    let mut history: BTreeMap<String, Seen> = BTreeMap::new();
    let mut now: BTreeMap<String, String> = BTreeMap::new();
    let mut revision = 1;
    while revision < WRITES {
        let mut batch = store.begin();
        for _ in 0..=revision % 7 {
            revision += 1;
            let key = format!("k{}", (revision * 7) % 10);
            let mut txn = batch.txn();
            let before = now.get(&key).cloned();
            let after = (revision % 5 != 0 || before.is_none()).then(|| format!("v{revision}"));
            if let Some(value) = &after {
                txn.put(key.as_bytes(), value.as_bytes(), LeaseId::NONE);
                now.insert(key.clone(), value.clone());
            } else {
                txn.delete_range(&KeyRange::single(key.clone()));
                now.remove(&key);
            }
            assert_eq!(txn.finish(), revision);
            history.entry(key).or_default().push((revision, after, before));
        }
        hub.publish(&batch.commit().unwrap().blocks);
    }
    history
}

/// Watches every key, and returns once all that `done` tells of was seen, in order.
fn watch_all(
    hub: &Hub,
    bell: Arc<dyn Wake>,
    rings: &Receiver<()>,
    done: &Receiver<BTreeMap<String, Seen>>,
) {
    let stream = hub.stream(bell);
    let mut seen: Vec<Seen> = Vec::new();
    for n in 0..10 {
        // Started late on purpose: some of the past has to be read.
        let spec = WatchSpec { prev_kv: true, start_revision: 2, ..key(&format!("k{n}")) };
        assert_eq!(stream.create(spec).unwrap().watch_id, n);
        seen.push(Vec::new());
    }
    let mut wanted: Option<BTreeMap<String, Seen>> = None;
    loop {
        let mut out = Vec::new();
        stream.poll(512, &mut out);
        for response in &out {
            let Response::Events { watch_id, events, .. } = response else { panic!() };
            for event in events.iter() {
                let put = event.kind == crate::event::EventKind::Put;
                let after = put.then(|| value(&event.kv));
                seen[*watch_id as usize].push((
                    event.revision.main,
                    after,
                    event.prev_kv().map(value),
                ));
            }
        }
        if wanted.is_none() {
            wanted = done.try_recv().ok();
        }
        if let Some(wanted) = &wanted
            && wanted.values().map(Vec::len).sum::<usize>() == seen.iter().map(Vec::len).sum()
        {
            assert!(wanted.values().eq(&seen));
            return;
        }
        if out.is_empty() {
            rings.recv_timeout(PATIENCE).expect("something is still to come");
        }
    }
}

#[test]
fn threads_over_the_real_store_see_everything_with_previous_pairs() {
    let dir = tempfile::tempdir().unwrap();
    let backend = Backend::open(dir.path(), &etcdrs_backend::Options::default()).unwrap();
    // No value stays in memory and no block in the ring: previous pairs and history are reads.
    let options = Options { value_cache_bytes: 0, event_ring_bytes: 0 };
    let opened = Store::open(backend, &options).unwrap();
    let limits =
        HubOptions { queue_bytes_max: 2000, batch_bytes_max: 500, ..HubOptions::default() };
    let hub = Hub::new(opened.store.reader(), limits);
    let (bell, lagging) = doorbell();
    hub.on_lagging(bell.clone());
    std::thread::scope(|scope| {
        let (stop, stopped) = channel::<()>();
        let feeder = scope.spawn({
            let hub = hub.clone();
            move || {
                while lagging.recv_timeout(PATIENCE).is_ok() && stopped.try_recv().is_err() {
                    while hub.catch_up(3) {}
                }
            }
        });
        let watchers: Vec<_> = (0..3)
            .map(|_| {
                let (done, receiver) = channel();
                let (bell, rings) = doorbell();
                let (hub, own) = (hub.clone(), Arc::clone(&bell));
                let thread = scope.spawn(move || watch_all(&hub, own, &rings, &receiver));
                (done, bell, thread)
            })
            .collect();
        let history = write_all(opened.store, &hub);
        for (done, bell, _) in &watchers {
            done.send(history.clone()).unwrap();
            bell.wake();
        }
        for (_, _, thread) in watchers {
            thread.join().unwrap();
        }
        stop.send(()).unwrap();
        bell.wake();
        feeder.join().unwrap();
    });
    assert_eq!(hub.stats().slow_watchers, 0);
}

/// The previous values of everything that is ready.
fn previous(stream: &WatchStream) -> Vec<Option<String>> {
    let mut out = Vec::new();
    stream.poll(usize::MAX, &mut out);
    let events = out.iter().flat_map(|response| match response {
        Response::Events { events, .. } => events.iter(),
        other => panic!("{other:?}"),
    });
    events.map(|event| event.prev_kv().map(value)).collect()
}

/// A stream with one watcher of everything from `start_revision` on, fed.
fn watch_from(hub: &Hub, start_revision: i64) -> WatchStream {
    let stream = hub.stream(Arc::new(Bell::default()));
    let spec = WatchSpec::new(KeyRange::all());
    stream.create(WatchSpec { prev_kv: true, start_revision, ..spec }).unwrap();
    while hub.catch_up(512) {}
    stream
}

/// A store in a directory and its hub; values and events stay in memory or not.
fn store_and_hub(options: &Options) -> (tempfile::TempDir, Store, Hub) {
    let dir = tempfile::tempdir().unwrap();
    let backend = Backend::open(dir.path(), &etcdrs_backend::Options::default()).unwrap();
    let store = Store::open(backend, options).unwrap().store;
    let hub = Hub::new(store.reader(), HubOptions::default());
    (dir, store, hub)
}

const NOTHING_IN_MEMORY: Options = Options { value_cache_bytes: 0, event_ring_bytes: 0 };

#[test]
fn wa_17_previous_pairs_are_from_before_the_whole_transaction() {
    for (options, batches) in
        [Options::default(), NOTHING_IN_MEMORY].iter().flat_map(|o| [(o, 1), (o, 2)])
    {
        let (_dir, mut store, hub) = store_and_hub(options);
        let live = watch_from(&hub, 3);
        let mut batch = store.begin();
        batch.txn().put(b"k", b"before", LeaseId::NONE);
        if batches == 2 {
            hub.publish(&batch.commit().unwrap().blocks);
            batch = store.begin();
        }
        let mut txn = batch.txn();
        txn.put(b"k", b"within", LeaseId::NONE);
        txn.put(b"new", b"within", LeaseId::NONE);
        // The transaction itself sees what it did.
        assert_eq!(txn.put(b"k", b"again", LeaseId::NONE).previous.unwrap().version, 2);
        assert_eq!(txn.delete_range(&KeyRange::all())[0].meta.version, 3);
        assert_eq!(txn.finish(), 3);
        hub.publish(&batch.commit().unwrap().blocks);
        let before = || Some("before".to_owned());
        let want = [before(), None, before(), before(), None];
        assert_eq!(previous(&live), want);
        let afresh = Hub::new(store.reader(), HubOptions::default());
        assert_eq!(previous(&watch_from(&hub, 3)), want, "from the hub's recent blocks");
        assert_eq!(previous(&watch_from(&afresh, 3)), want, "from history");
    }
}

#[test]
fn wa_17_events_up_to_the_compaction_have_no_previous_pairs() {
    for options in [Options::default(), NOTHING_IN_MEMORY] {
        let (_dir, mut store, hub) = store_and_hub(&options);
        let [prompt, slow] = [watch_from(&hub, 2), watch_from(&hub, 2)];
        for text in ["1", "2", "3", "4"] {
            let mut batch = store.begin();
            batch.txn().put(b"k", text.as_bytes(), LeaseId::NONE);
            hub.publish(&batch.commit().unwrap().blocks);
        }
        let was = |text: &str| Some(text.to_owned());
        // Somebody saw them before the compaction; that must not make them known for ever.
        assert_eq!(previous(&prompt), [None, was("1"), was("2"), was("3")]);
        let mut batch = store.begin();
        batch.compact(4).unwrap();
        batch.commit().unwrap();
        hub.compacted(4);
        // Revision 4 itself can be read still, so the event after it has its previous pair.
        let want = [None, was("3")];
        let afresh = Hub::new(store.reader(), HubOptions::default());
        assert_eq!(previous(&watch_from(&hub, 4)), want, "from the hub's recent blocks");
        assert_eq!(previous(&watch_from(&afresh, 4)), want, "from history");
        // What waited to be sent meanwhile is read when it is sent.
        assert_eq!(previous(&slow), [None, None, None, was("3")]);
    }
}
