//! Random use of the hub with tiny limits, compared with the whole history.

use std::collections::BTreeMap;

use super::*;
use crate::event::EventKind;

/// A small generator, so that a failure names its seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % below
    }

    fn key(&mut self) -> String {
        let len = 1 + self.roll(2);
        (0..len).map(|_| char::from(b'a' + self.roll(3) as u8)).collect()
    }

    fn range(&mut self) -> KeyRange {
        let (one, other) = (self.key(), self.key());
        match self.roll(5) {
            0 | 1 => KeyRange::single(one),
            2 => KeyRange::prefix(one.as_bytes()),
            3 => KeyRange::all(),
            _ => {
                KeyRange { start: one.clone().into(), end: RangeEnd::Before((one + &other).into()) }
            }
        }
    }
}

/// What one watcher must see.
struct Watched {
    spec: WatchSpec,
    /// The first revision that it has not been shown.
    next: i64,
    dead: bool,
}

impl Watched {
    /// (revision, kind, key) of what it has yet to see, up to `upto`.
    fn missing(&self, blocks: &[Arc<EventBlock>], upto: i64) -> Vec<(Revision, EventKind, Bytes)> {
        blocks
            .iter()
            .filter(|block| block.revision >= self.next && block.revision <= upto)
            .flat_map(|block| &block.events)
            .filter(|event| self.spec.range.contains(&event.key))
            .filter(|event| match event.kind {
                EventKind::Put => !self.spec.no_put,
                EventKind::Delete => !self.spec.no_delete,
            })
            .map(|event| (event.revision, event.kind, event.key.clone()))
            .collect()
    }
}

struct Model {
    world: World,
    dice: Dice,
    unpublished: Vec<Arc<EventBlock>>,
    streams: Vec<(Client, BTreeMap<i64, Watched>)>,
    checked: usize,
    compacted: usize,
    progress: usize,
}

impl Model {
    fn step(&mut self) {
        match self.dice.roll(20) {
            0..=6 => self.write(),
            7..=9 => self.publish(),
            10 => self.create(),
            11 if self.dice.roll(3) == 0 => self.cancel(),
            12 if self.dice.roll(4) == 0 => {
                let newest = self.world.hub.revision();
                let older = newest - self.dice.roll(20) as i64;
                if older > self.world.past.compact_revision() {
                    self.world.compact(older);
                }
            }
            13 => {
                let at = self.dice.roll(self.streams.len() as u64) as usize;
                self.streams[at].0.stream.request_progress();
            }
            14 => {
                self.world.hub.catch_up(1 + self.dice.roll(4) as usize);
            }
            15 if self.dice.roll(10) == 0 => {
                self.unpublished.clear();
                self.world.hub.restore_history(self.world.past.clone());
            }
            _ => {
                let at = self.dice.roll(self.streams.len() as u64) as usize;
                let budget = self.dice.roll(300) as usize;
                self.poll(at, budget);
            }
        }
    }

    fn write(&mut self) {
        let mut ops: BTreeMap<String, Op> = BTreeMap::new();
        for _ in 0..=self.dice.roll(4) {
            let key = self.dice.key();
            let op = if self.dice.roll(4) == 0 { delete(&key) } else { put(&key, "value") };
            ops.insert(key, op);
        }
        let ops: Vec<Op> = ops.into_values().collect();
        self.unpublished.push(self.world.commit(&ops));
    }

    fn publish(&mut self) {
        self.world.hub.publish(&std::mem::take(&mut self.unpublished));
    }

    fn create(&mut self) {
        let at = self.dice.roll(self.streams.len() as u64) as usize;
        let newest = self.world.hub.revision();
        let start_revision = match self.dice.roll(3) {
            0 => 0,
            1 => (newest - self.dice.roll(60) as i64).max(0),
            _ => newest + self.dice.roll(5) as i64,
        };
        let spec = WatchSpec {
            start_revision,
            no_put: self.dice.roll(8) == 0,
            no_delete: self.dice.roll(8) == 0,
            prev_kv: self.dice.roll(2) == 0,
            watch_id: if self.dice.roll(2) == 0 { 0 } else { self.dice.roll(30) as i64 },
            ..WatchSpec::new(self.dice.range())
        };
        let (client, watched) = &mut self.streams[at];
        match client.stream.create(spec.clone()) {
            Ok(created) => {
                assert_eq!(created.revision, newest);
                let next = if start_revision == 0 { newest + 1 } else { start_revision };
                let old = watched.insert(created.watch_id, Watched { spec, next, dead: false });
                assert!(old.is_none());
            }
            Err(CreateError::DuplicateId) => assert!(watched.contains_key(&spec.watch_id)),
            Err(CreateError::EmptyRange) => assert!(spec.range.is_empty()),
            Err(CreateError::Compacted) => panic!("no start is negative"),
        }
    }

    fn cancel(&mut self) {
        let at = self.dice.roll(self.streams.len() as u64) as usize;
        let id = self.dice.roll(30) as i64;
        let (client, watched) = &mut self.streams[at];
        assert_eq!(client.stream.cancel(id).is_some(), watched.remove(&id).is_some());
    }

    fn poll(&mut self, at: usize, budget: usize) -> bool {
        let mut out = Vec::new();
        let (client, watched) = &mut self.streams[at];
        let more = client.stream.poll(budget, &mut out);
        let inner = self.world.past.inner.lock();
        for response in &out {
            self.checked += 1;
            match response {
                Response::Events { watch_id, revision, prev_kv, events, .. } => {
                    let one = watched.get_mut(watch_id).expect("its watcher lives");
                    assert!(!one.dead);
                    assert_eq!(*prev_kv, one.spec.prev_kv);
                    let last = events.iter().last().unwrap().revision.main;
                    assert!(last <= *revision);
                    let got: Vec<_> = events
                        .iter()
                        .map(|event| (event.revision, event.kind, event.key.clone()))
                        .collect();
                    assert_eq!(got, one.missing(&inner.blocks, last));
                    one.next = last + 1;
                }
                Response::Progress { watch_id, revision } => {
                    assert_eq!(*watch_id, -1);
                    self.progress += 1;
                    for one in watched.values() {
                        assert!(one.missing(&inner.blocks, *revision).is_empty());
                    }
                }
                Response::Compacted { watch_id, compact_revision } => {
                    let one = watched.get_mut(watch_id).expect("its watcher lives");
                    self.compacted += 1;
                    assert!(one.next < *compact_revision && !one.dead);
                    one.dead = true;
                }
            }
        }
        more || !out.is_empty()
    }

    fn finish(&mut self) {
        self.publish();
        loop {
            let mut more = self.world.hub.catch_up(3);
            for at in 0..self.streams.len() {
                more |= self.poll(at, 500);
            }
            if !more && !self.world.hub.has_lagging() {
                break;
            }
        }
        let inner = self.world.past.inner.lock();
        for one in self.streams.iter().flat_map(|(_, watched)| watched.values()) {
            assert!(one.dead || one.missing(&inner.blocks, i64::MAX).is_empty());
        }
        assert_eq!(self.world.hub.stats().slow_watchers, 0);
        assert_eq!(self.world.hub.stats().pending_events, 0);
    }
}

fn run(seed: u64) -> (usize, usize, usize) {
    let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let queue_bytes_max = 100 + dice.roll(8000) as usize;
    let batch_bytes_max = 1 + dice.roll(2000) as usize;
    let options = HubOptions { queue_bytes_max, batch_bytes_max, ..HubOptions::default() };
    let world = old_world_with(1 + dice.roll(30) as i64, options);
    let streams = (0..3).map(|_| (Client::new(&world), BTreeMap::new())).collect();
    let (checked, compacted, progress) = (0, 0, 0);
    let unpublished = Vec::new();
    let mut model = Model { world, dice, unpublished, streams, checked, compacted, progress };
    for _ in 0..1500 {
        model.step();
    }
    model.finish();
    (model.checked, model.compacted, model.progress)
}

#[test]
fn every_watcher_sees_its_history_once_in_order() {
    let mut sum = (0, 0, 0);
    for seed in 1..=60 {
        let (checked, compacted, progress) = run(seed);
        sum = (sum.0 + checked, sum.1 + compacted, sum.2 + progress);
    }
    // The rare cases must come up, or the test says less than it seems to.
    assert!(sum.0 > 20_000 && sum.1 > 100 && sum.2 > 100, "{sum:?}");
}
