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
