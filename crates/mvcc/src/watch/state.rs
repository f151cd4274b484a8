//! The hub's registers: watchers, streams, and how a block of events reaches them.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use etcdrs_types::KeyRange;

use super::catch_up::SHARE_MAX;
use super::events::Picks;
use super::index::{GroupId, Index, NIL};
use super::queue::{Item, Outlet};
use super::watcher::{Phase, Watcher, flag, wants};
use super::{CreateError, Created, History, HubOptions, Stats, Wake, WatchSpec};
use crate::event::EventBlock;

/// Recent blocks the hub keeps, so that a watcher that is a little behind needs no history.
const RECENT_BLOCKS_MAX: usize = 1024;
/// Bytes of recent blocks the hub keeps.
const RECENT_BYTES_MAX: usize = 1 << 20;
/// Revisions that a watcher may be behind to be fed from the recent blocks under the lock.
pub(super) const GAP_MAX: i64 = 256;

pub(super) struct Stream {
    pub(super) outlet: Arc<Outlet>,
    pub(super) ids: BTreeMap<i64, u32>,
    next_id: i64,
    /// Lagging watchers by place and generation; entries of cancelled ones may linger.
    pub(super) lagging: VecDeque<(u32, u32)>,
    /// Lagging watchers that one round of catching up takes at most: about twice what found room
    /// in the queue last time.
    pub(super) share: usize,
    /// Whether the stream is in [`State::ready`].
    ready: bool,
    /// Watchers that compaction passed.
    compacted: usize,
    /// Watchers with progress notifications.
    notified: usize,
    /// Greatest start revision any watcher asked for.
    start_max: i64,
    /// Added to the interval of the progress timer, milliseconds.
    jitter_ms: u64,
    /// When the progress timer fires next; `None` until time was told.
    next_tick_ms: Option<u64>,
}

/// Everything under the hub's lock.
///
/// Invariant: a synced watcher has been offered every revision up to `published` that is not
/// before its `from`; a lagging one everything before its `from`.
pub(super) struct State {
    pub(super) options: HubOptions,
    pub(super) history: Arc<dyn History>,
    pub(super) published: i64,
    pub(super) compacted: i64,
    /// Counts replacements of the history.
    pub(super) epoch: u64,
    pub(super) index: Index,
    pub(super) watchers: Vec<Watcher>,
    free: Vec<u32>,
    pub(super) streams: Vec<Option<Stream>>,
    free_streams: Vec<u32>,
    /// Streams with lagging watchers and room in the queue.
    pub(super) ready: VecDeque<u32>,
    recent: VecDeque<(Arc<EventBlock>, usize)>,
    recent_bytes: usize,
    slow: usize,
    events_total: u64,
    /// Woken once the lock is released.
    pub(super) wakes: Vec<Arc<Outlet>>,
    pub(super) catch_up_wake: Option<Arc<dyn Wake>>,
    matches: Vec<(u32, u32)>,
    groups: Vec<GroupId>,
}

impl State {
    pub(super) fn new(history: Arc<dyn History>, options: HubOptions) -> Self {
        Self {
            options,
            published: history.current_revision(),
            compacted: history.compact_revision(),
            history,
            epoch: 0,
            index: Index::new(),
            watchers: Vec::new(),
            free: Vec::new(),
            streams: Vec::new(),
            free_streams: Vec::new(),
            ready: VecDeque::new(),
            recent: VecDeque::new(),
            recent_bytes: 0,
            slow: 0,
            events_total: 0,
            wakes: Vec::new(),
            catch_up_wake: None,
            matches: Vec::new(),
            groups: Vec::new(),
        }
    }

    pub(super) fn stream(&mut self, slot: u32) -> &mut Stream {
        self.streams[slot as usize]
            .as_mut()
            .expect("a stream lives until its WatchStream is dropped")
    }

    pub(super) fn add_stream(&mut self, outlet: Arc<Outlet>, jitter_ms: u64) -> u32 {
        let stream = Some(Stream {
            outlet,
            ids: BTreeMap::new(),
            next_id: 0,
            lagging: VecDeque::new(),
            share: SHARE_MAX,
            ready: false,
            compacted: 0,
            notified: 0,
            start_max: 0,
            jitter_ms,
            next_tick_ms: None,
        });
        if let Some(slot) = self.free_streams.pop() {
            self.streams[slot as usize] = stream;
            return slot;
        }
        self.streams.push(stream);
        u32::try_from(self.streams.len() - 1).expect("four billion streams do not fit in memory")
    }

    pub(super) fn remove_stream(&mut self, slot: u32) {
        let ids = std::mem::take(&mut self.stream(slot).ids);
        for watcher in ids.into_values() {
            self.forget(watcher);
        }
        self.streams[slot as usize] = None;
        self.free_streams.push(slot);
    }

    /// Registers a watcher (WA-02 to WA-09).
    pub(super) fn create(&mut self, slot: u32, spec: &WatchSpec) -> Result<Created, CreateError> {
        if spec.start_revision < 0 {
            return Err(CreateError::Compacted);
        }
        if spec.range.is_empty() {
            return Err(CreateError::EmptyRange);
        }
        let stream = self.stream(slot);
        let id = if spec.watch_id == 0 {
            while stream.ids.contains_key(&stream.next_id) {
                stream.next_id += 1;
            }
            stream.next_id += 1;
            stream.next_id - 1
        } else if stream.ids.contains_key(&spec.watch_id) {
            return Err(CreateError::DuplicateId);
        } else {
            spec.watch_id
        };
        stream.start_max = stream.start_max.max(spec.start_revision);
        stream.notified += usize::from(spec.progress_notify);
        let group = self.index.join(&spec.range);
        let watcher = self.allocate(slot, group, id, spec);
        self.stream(slot).ids.insert(id, watcher);
        if spec.start_revision == 0 || spec.start_revision > self.published {
            self.link(watcher);
        } else {
            let outlet = Arc::clone(&self.stream(slot).outlet);
            let mut queue = outlet.queue.lock();
            queue.lagging += 1;
            queue.void_progress();
            drop(queue);
            self.slow += 1;
            if spec.start_revision < self.compacted {
                self.pass_by(watcher, self.compacted);
            } else {
                self.resume(watcher, false);
            }
        }
        Ok(Created { watch_id: id, revision: self.published })
    }

    fn allocate(&mut self, stream: u32, group: GroupId, id: i64, spec: &WatchSpec) -> u32 {
        let bit = |on: bool, bit: u8| if on { bit } else { 0 };
        let flags = bit(spec.prev_kv, flag::PREV_KV)
            | bit(spec.no_put, flag::NO_PUT)
            | bit(spec.no_delete, flag::NO_DELETE)
            | bit(spec.fragment, flag::FRAGMENT)
            | bit(spec.progress_notify, flag::PROGRESS);
        let (from, phase) = (spec.start_revision, Phase::Lagging);
        let (before, after, generation) = (NIL, NIL, 0);
        let watcher = Watcher { id, from, stream, group, before, after, generation, flags, phase };
        if let Some(place) = self.free.pop() {
            let generation = self.watchers[place as usize].generation;
            self.watchers[place as usize] = Watcher { generation, ..watcher };
            return place;
        }
        self.watchers.push(watcher);
        u32::try_from(self.watchers.len() - 1).expect("four billion watchers do not fit in memory")
    }

    /// Removes a watcher and what is queued for it (WA-13).
    pub(super) fn cancel(&mut self, slot: u32, id: i64) -> Option<i64> {
        let stream = self.stream(slot);
        let watcher = stream.ids.remove(&id)?;
        stream.outlet.queue.lock().cancel(id);
        self.forget(watcher);
        Some(self.published)
    }

    fn forget(&mut self, place: u32) {
        let watcher = self.watchers[place as usize];
        match watcher.phase {
            Phase::Synced => self.unlink(place),
            Phase::Lagging | Phase::InFlight => self.no_longer_lagging(watcher.stream),
            Phase::Compacted => self.stream(watcher.stream).compacted -= 1,
        }
        if watcher.flags & flag::PROGRESS != 0 {
            self.stream(watcher.stream).notified -= 1;
        }
        self.index.leave(watcher.group);
        let left = &mut self.watchers[place as usize];
        left.generation = left.generation.wrapping_add(1);
        self.free.push(place);
    }

    fn no_longer_lagging(&mut self, slot: u32) {
        self.slow -= 1;
        let watchers = &self.watchers;
        let stream = self.streams[slot as usize].as_mut().expect("the watcher's stream lives");
        let mut queue = stream.outlet.queue.lock();
        queue.lagging -= 1;
        // Entries of cancelled watchers are not searched for; they go when they are the majority.
        if stream.lagging.len() > 2 * queue.lagging + 64 {
            stream.lagging.retain(|&(place, generation)| {
                watchers[place as usize].generation == generation
                    && watchers[place as usize].phase == Phase::Lagging
            });
        }
    }

    fn link(&mut self, place: u32) {
        let group = self.watchers[place as usize].group;
        let head = self.index.head(group);
        if head != NIL {
            self.watchers[head as usize].before = place;
        }
        let watcher = &mut self.watchers[place as usize];
        (watcher.before, watcher.after, watcher.phase) = (NIL, head, Phase::Synced);
        self.index.set_head(group, place);
    }

    fn unlink(&mut self, place: u32) {
        let Watcher { before, after, group, .. } = self.watchers[place as usize];
        if before == NIL {
            self.index.set_head(group, after);
        } else {
            self.watchers[before as usize].after = after;
        }
        if after != NIL {
            self.watchers[after as usize].before = before;
        }
    }

    /// Delivers one block to the synced watchers.
    pub(super) fn publish(&mut self, block: &Arc<EventBlock>) {
        if block.revision <= self.published {
            return;
        }
        self.published = block.revision;
        let block_bytes = self.remember(block);
        let mut matches = std::mem::take(&mut self.matches);
        let mut groups = std::mem::take(&mut self.groups);
        for (at, event) in (0..).zip(&block.events) {
            groups.clear();
            self.index.matching(&event.key, &mut groups);
            for &group in &groups {
                let mut place = self.index.head(group);
                while place != NIL {
                    let watcher = &self.watchers[place as usize];
                    if watcher.from <= block.revision && wants(watcher.flags, event) {
                        matches.push((place, at));
                    }
                    place = watcher.after;
                }
            }
        }
        if block.events.len() > 1 {
            matches.sort_unstable();
        }
        for of_one in matches.chunk_by(|one, other| one.0 == other.0) {
            let mut picks = Picks::one(of_one[0].1);
            of_one[1..].iter().for_each(|&(_, at)| picks.push(at));
            if !self.offer(of_one[0].0, block, block_bytes, picks) {
                self.fall_behind(of_one[0].0, block.revision);
            }
        }
        matches.clear();
        (self.matches, self.groups) = (matches, groups);
    }

    /// Keeps a block among the recent ones; returns the memory that it takes.
    fn remember(&mut self, block: &Arc<EventBlock>) -> usize {
        let bytes = block.heap_bytes();
        self.recent.push_back((Arc::clone(block), bytes));
        self.recent_bytes += bytes;
        while self.recent.len() > RECENT_BLOCKS_MAX || self.recent_bytes > RECENT_BYTES_MAX {
            let Some((_, oldest)) = self.recent.pop_front() else { break };
            self.recent_bytes -= oldest;
        }
        bytes
    }

    /// Queues events of one revision for a watcher unless its stream's queue is full, in which
    /// case the watcher is counted as lagging.
    fn offer(
        &mut self,
        place: u32,
        block: &Arc<EventBlock>,
        block_bytes: usize,
        picks: Picks,
    ) -> bool {
        let watcher = &mut self.watchers[place as usize];
        let stream = self.streams[watcher.stream as usize].as_ref().expect("its stream lives");
        let mut queue = stream.outlet.queue.lock();
        if queue.bytes >= self.options.queue_bytes_max {
            queue.lagging += 1;
            return false;
        }
        self.events_total += picks.len() as u64;
        watcher.flags |= flag::ACTIVE;
        let item = Item::live(watcher.id, (Arc::clone(block), picks), watcher.shape());
        if queue.push_live(item, block.revision, block_bytes) {
            self.wakes.push(Arc::clone(&stream.outlet));
        }
        true
    }

    /// A synced watcher becomes a lagging one at `revision`; [`Self::offer`] has counted it.
    fn fall_behind(&mut self, place: u32, revision: i64) {
        self.unlink(place);
        self.slow += 1;
        self.watchers[place as usize].from = revision;
        self.put_aside(place, false);
    }

    /// Puts a lagging watcher in its stream's list.
    pub(super) fn put_aside(&mut self, place: u32, first: bool) {
        let watcher = &mut self.watchers[place as usize];
        watcher.phase = Phase::Lagging;
        let (slot, entry) = (watcher.stream, (place, watcher.generation));
        let room_below = self.options.queue_bytes_max;
        let stream = self.stream(slot);
        if first {
            stream.lagging.push_front(entry)
        } else {
            stream.lagging.push_back(entry)
        }
        // If there is no room, the owner's next poll notices that the stream waits.
        if stream.outlet.queue.lock().bytes < room_below {
            self.mark_ready(slot);
        }
    }

    /// Notes that a stream has lagging watchers and room.
    pub(super) fn mark_ready(&mut self, slot: u32) {
        if let Some(stream) = self.streams.get_mut(slot as usize).and_then(Option::as_mut)
            && !stream.ready
            && !stream.lagging.is_empty()
        {
            stream.ready = true;
            self.ready.push_back(slot);
        }
    }

    /// Takes the next stream that has lagging watchers and room.
    pub(super) fn next_ready(&mut self) -> Option<u32> {
        while let Some(slot) = self.ready.pop_front() {
            if let Some(stream) = &mut self.streams[slot as usize]
                && std::mem::take(&mut stream.ready)
            {
                return Some(slot);
            }
        }
        None
    }

    /// A lagging watcher whose `from` moved becomes synced if the recent blocks fill its gap, and
    /// otherwise waits for another round; `first` lets it go before others.
    pub(super) fn resume(&mut self, place: u32, first: bool) {
        let from = self.watchers[place as usize].from;
        if from <= self.published {
            let reached = self.recent.front().is_some_and(|(block, _)| block.revision <= from);
            if self.published - from >= GAP_MAX || !reached {
                self.put_aside(place, first && self.published - from < 16 * GAP_MAX);
                return;
            }
            if !self.fill(place, from) {
                return;
            }
        }
        // What counts as a start in the future (WA-24, WA-25) is only what a client asked for.
        self.watchers[place as usize].from = 0;
        self.no_longer_lagging(self.watchers[place as usize].stream);
        self.link(place);
    }

    /// Queues what the recent blocks hold for a watcher from `from` on. When the queue is full the
    /// watcher waits for another round and this returns false.
    fn fill(&mut self, place: u32, from: i64) -> bool {
        let Watcher { group, flags, stream, .. } = self.watchers[place as usize];
        let first = self.recent.partition_point(|(block, _)| block.revision < from);
        for at in first..self.recent.len() {
            let (block, block_bytes) = self.recent[at].clone();
            let mut picks: Option<Picks> = None;
            for (at, event) in (0..).zip(&block.events) {
                if wants(flags, event) && self.index.contains(group, &event.key) {
                    picks.get_or_insert(Picks::Run { first: at, len: 0 }).push(at);
                }
            }
            if let Some(picks) = picks
                && !self.offer(place, &block, block_bytes, picks)
            {
                // It is counted as lagging already.
                self.stream(stream).outlet.queue.lock().lagging -= 1;
                self.watchers[place as usize].from = block.revision;
                self.put_aside(place, false);
                return false;
            }
        }
        true
    }

    /// Compaction passed a lagging watcher: it gets one last message (WA-06, WA-07).
    pub(super) fn pass_by(&mut self, place: u32, compact_revision: i64) {
        let watcher = &mut self.watchers[place as usize];
        watcher.phase = Phase::Compacted;
        let (slot, id) = (watcher.stream, watcher.id);
        self.no_longer_lagging(slot);
        let stream = self.stream(slot);
        stream.compacted += 1;
        let outlet = Arc::clone(&stream.outlet);
        let wake = outlet.queue.lock().push(Item::compacted(id, compact_revision));
        if wake {
            self.wakes.push(outlet);
        }
    }

    /// Queues what a round of catching up found for a watcher, if there is room.
    pub(super) fn deliver_batch(&mut self, place: u32, item: Item, events: usize) -> bool {
        let watcher = &mut self.watchers[place as usize];
        let stream = self.streams[watcher.stream as usize].as_ref().expect("its stream lives");
        let mut queue = stream.outlet.queue.lock();
        if queue.bytes >= self.options.queue_bytes_max {
            return false;
        }
        watcher.flags |= flag::ACTIVE;
        self.events_total += events as u64;
        if queue.push(item) {
            self.wakes.push(Arc::clone(&stream.outlet));
        }
        true
    }

    /// Answers a client's progress request (WA-25 to WA-27).
    pub(super) fn request_progress(&mut self, slot: u32) {
        let (published, room_below) = (self.published, self.options.queue_bytes_max);
        let stream = self.streams[slot as usize].as_ref().expect("its WatchStream calls");
        let waits = |watcher: &u32| self.watchers[*watcher as usize].from > published;
        let mut queue = stream.outlet.queue.lock();
        if stream.ids.is_empty()
            || queue.lagging > 0
            || stream.compacted > 0
            || queue.bytes >= room_below
            || (stream.start_max > published && stream.ids.values().any(waits))
        {
            return;
        }
        if queue.push_progress(published) {
            self.wakes.push(Arc::clone(&stream.outlet));
        }
    }

    /// Fires progress timers (WA-23, WA-24).
    pub(super) fn tick(&mut self, now_ms: u64) {
        let published = self.published;
        for stream in self.streams.iter_mut().flatten().filter(|stream| stream.notified > 0) {
            let next = now_ms + self.options.progress_interval_ms + stream.jitter_ms;
            let due = *stream.next_tick_ms.get_or_insert(next);
            if now_ms < due {
                continue;
            }
            stream.next_tick_ms = Some(next);
            let mut queue = stream.outlet.queue.lock();
            let mut wake = false;
            for (&id, &place) in &stream.ids {
                let watcher = &mut self.watchers[place as usize];
                if watcher.flags & flag::PROGRESS == 0 {
                    continue;
                }
                let active = watcher.flags & flag::ACTIVE != 0;
                watcher.flags &= !flag::ACTIVE;
                if !active
                    && watcher.phase == Phase::Synced
                    && watcher.from <= published
                    && queue.bytes < self.options.queue_bytes_max
                {
                    wake |= queue.push(Item::progress(id, published));
                }
            }
            if wake {
                self.wakes.push(Arc::clone(&stream.outlet));
            }
        }
    }

    /// Replaces the history (WA-31): every watcher goes on from where it is, by catching up.
    pub(super) fn restore(&mut self, history: Arc<dyn History>) {
        let before = self.published;
        self.epoch += 1;
        self.published = history.current_revision();
        self.compacted = history.compact_revision();
        self.history = history;
        self.recent.clear();
        self.recent_bytes = 0;
        let slots = 0..u32::try_from(self.streams.len()).expect("slots are u32");
        for slot in slots {
            let Some(stream) = &self.streams[slot as usize] else { continue };
            let places: Vec<u32> = stream.ids.values().copied().collect();
            for place in places {
                self.restart(place, before);
            }
        }
    }

    fn restart(&mut self, place: u32, published_before: i64) {
        let Watcher { phase, from, stream, .. } = self.watchers[place as usize];
        match phase {
            Phase::Synced => {
                let from = from.max(published_before + 1);
                if from > self.published {
                    // One whose next revision is the store's next one is synced as it was; only
                    // what is further ahead counts as waiting for the future (WA-24).
                    if from > self.published + 1 {
                        self.watchers[place as usize].from = from;
                    }
                    return;
                }
                self.stream(stream).outlet.queue.lock().lagging += 1;
                self.fall_behind(place, from);
            }
            Phase::InFlight => self.put_aside(place, false),
            Phase::Lagging | Phase::Compacted => {}
        }
    }

    pub(super) fn stats(&self) -> Stats {
        let streams = self.streams.iter().flatten();
        let pending = streams.clone().map(|stream| stream.outlet.queue.lock().events).sum();
        Stats {
            streams: self.streams.len() - self.free_streams.len(),
            watchers: self.watchers.len() - self.free.len(),
            slow_watchers: self.slow,
            pending_events: pending,
            events_total: self.events_total,
        }
    }

    /// The range that a watcher watches.
    pub(super) fn range(&self, place: u32) -> KeyRange {
        self.index.range(self.watchers[place as usize].group)
    }
}
