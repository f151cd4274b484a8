//! The watch hub: delivers events to the streams that watch them.
//!
//! A [`Hub`] gets every committed [`EventBlock`] through [`Hub::publish`] and puts it into the
//! queues of the streams with a matching watcher. A stream's owner is woken, and takes what waits
//! with [`WatchStream::poll`]. Nothing here blocks, waits or reads a clock.
//!
//! A queue is bounded in bytes. A watcher whose stream has no room, like one that starts in the
//! past, *lags*: it has a cursor of its own and is fed by [`Hub::catch_up`], which reads history
//! on whatever thread calls it. So a slow client delays nobody and loses nothing until compaction
//! passes its cursor.
//!
//! Invariants:
//! - A watcher gets each matching revision once, whole, in order (WA-19).
//! - A progress answer is queued after every event up to its revision (WA-27).
//! - No call into the history happens under the hub's lock.
//!
//! ```no_run
//! # use std::sync::Arc;
//! # use etcdrs_mvcc::{Reader, EventBlock, watch::{Hub, HubOptions, Response, Wake, WatchSpec}};
//! # use etcdrs_types::KeyRange;
//! # fn example(reader: Reader, wake: Arc<dyn Wake>, blocks: Vec<Arc<EventBlock>>) {
//! let hub = Hub::new(reader, HubOptions::default());
//! let stream = hub.stream(wake);
//! let created = stream.create(WatchSpec::new(KeyRange::prefix(b"registry/"))).unwrap();
//! hub.publish(&blocks); // once woken:
//! let mut out = Vec::new();
//! stream.poll(64 * 1024, &mut out);
//! for response in &out {
//!     if let Response::Events { watch_id, revision, events, .. } = response {
//!         println!("watcher {watch_id}: {} events at {revision}", events.len());
//!     }
//! }
//! # }
//! ```

mod catch_up;
mod events;
mod index;
mod queue;
mod state;
mod watcher;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use bytes::Bytes;
use etcdrs_types::KeyRange;
use etcdrs_types::limits::WATCH_PROGRESS_INTERVAL;
use parking_lot::Mutex;

pub use self::events::Events;
use self::queue::{Outlet, Queue};
use self::state::State;
use crate::event::EventBlock;
use crate::{RangeError, Reader, StoredKv};

/// Somebody to be told that there is work. May be called from any thread, not under a lock of the
/// hub; must not block.
pub trait Wake: Send + Sync {
    /// There is something to do.
    fn wake(&self);
}

/// Where events of the past come from.
pub trait History: Send + Sync {
    /// The newest revision.
    fn current_revision(&self) -> i64;
    /// The compacted revision; below 1 if there is none.
    fn compact_revision(&self) -> i64;
    /// Blocks of the revisions `from..=to`, ascending. Fewer than `revisions_max` of them means
    /// that there are no more.
    ///
    /// # Errors
    /// [`RangeError::Compacted`] if `from` is below the compacted revision, or a failed read.
    fn history(
        &self,
        from: i64,
        to: i64,
        revisions_max: usize,
    ) -> Result<Vec<Arc<EventBlock>>, RangeError>;
    /// A key's pair at a revision; `None` if it did not exist or cannot be read any more.
    fn get_at(&self, key: &Bytes, revision: i64) -> Option<StoredKv>;
}

impl History for Reader {
    fn current_revision(&self) -> i64 {
        Reader::current_revision(self)
    }

    fn compact_revision(&self) -> i64 {
        Reader::compact_revision(self)
    }

    fn history(
        &self,
        from: i64,
        to: i64,
        revisions_max: usize,
    ) -> Result<Vec<Arc<EventBlock>>, RangeError> {
        Reader::history(self, from, to, revisions_max)
    }

    fn get_at(&self, key: &Bytes, revision: i64) -> Option<StoredKv> {
        Reader::get_at(self, key, revision).ok().flatten()
    }
}

/// Settings of a [`Hub`].
#[derive(Clone, Debug)]
pub struct HubOptions {
    /// Memory that what waits on one stream may keep alive, bytes; at or above it watchers start
    /// to lag.
    pub queue_bytes_max: usize,
    /// Memory that one answer of a watcher that catches up may keep alive, bytes; it ends with
    /// the revision that reaches this.
    pub batch_bytes_max: usize,
    /// Interval of progress notifications, milliseconds (WA-23).
    pub progress_interval_ms: u64,
}

impl Default for HubOptions {
    fn default() -> Self {
        Self {
            queue_bytes_max: 4 << 20,
            batch_bytes_max: 1 << 20,
            progress_interval_ms: WATCH_PROGRESS_INTERVAL.as_secs() * 1000,
        }
    }
}

/// What a client wants to watch.
#[derive(Clone, Debug)]
pub struct WatchSpec {
    /// The keys. An empty start is the key `\0`.
    pub range: KeyRange,
    /// First revision wanted; 0 for whatever comes after the creation (WA-04).
    pub start_revision: i64,
    /// Whether quiet times are bridged by progress answers (WA-23).
    pub progress_notify: bool,
    /// Whether events carry the previous pair (WA-17).
    pub prev_kv: bool,
    /// Leaves puts out (WA-18).
    pub no_put: bool,
    /// Leaves deletes out (WA-18).
    pub no_delete: bool,
    /// The id; 0 lets the hub choose (WA-02).
    pub watch_id: i64,
    /// Whether large answers may be sent in pieces (WA-22).
    pub fragment: bool,
}

impl WatchSpec {
    /// A watcher of what comes next in `range`, with nothing special.
    #[must_use]
    pub const fn new(range: KeyRange) -> Self {
        Self {
            range,
            start_revision: 0,
            progress_notify: false,
            prev_kv: false,
            no_put: false,
            no_delete: false,
            watch_id: 0,
            fragment: false,
        }
    }
}

/// A watcher was registered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Created {
    /// Its id.
    pub watch_id: i64,
    /// The hub's revision at that moment: with start 0 the watcher gets everything after it.
    pub revision: i64,
}

/// Why a watcher was refused; the texts are etcd's `cancel_reason`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CreateError {
    /// The start revision is negative (WA-05).
    #[error("etcdserver: mvcc: required revision has been compacted")]
    Compacted,
    /// No key can be in the range (WA-09).
    #[error("mvcc: watcher range is empty")]
    EmptyRange,
    /// The stream has a watcher with this id (WA-08).
    #[error("mvcc: duplicate watch ID provided on the WatchStream")]
    DuplicateId,
}

/// One answer for a client, but for its header's ids.
#[derive(Clone, Debug)]
pub enum Response {
    /// Something happened.
    Events {
        /// The watcher.
        watch_id: i64,
        /// For the header: the revision of the events if they are fresh, the hub's revision when
        /// they were read if they are of the past (WA-30).
        revision: i64,
        /// Whether the answer may be sent in pieces (WA-22).
        fragment: bool,
        /// Whether the events go out with the previous pair.
        prev_kv: bool,
        /// The events. Their previous pairs are looked up already.
        events: Events,
    },
    /// Nothing up to `revision` is missing.
    Progress {
        /// The watcher, or -1 for all of the stream.
        watch_id: i64,
        /// For the header.
        revision: i64,
    },
    /// Compaction passed the watcher: it gets nothing more. The header's revision is 0 (WA-06).
    Compacted {
        /// The watcher.
        watch_id: i64,
        /// The oldest revision that a new watcher can start from.
        compact_revision: i64,
    },
}

/// Numbers for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Open streams.
    pub streams: usize,
    /// Registered watchers.
    pub watchers: usize,
    /// Watchers that lag.
    pub slow_watchers: usize,
    /// Events that wait in queues.
    pub pending_events: usize,
    /// Events put into queues so far.
    pub events_total: u64,
}

/// Handle to the hub. Clones share it.
#[derive(Clone)]
pub struct Hub {
    state: Arc<Mutex<State>>,
    /// [`State::compacted`], for those who do without the lock.
    compacted: Arc<AtomicI64>,
}

impl Hub {
    /// A hub for a store that is at the reader's current revision; blocks after it must be
    /// published without gaps.
    #[must_use]
    pub fn new(reader: Reader, options: HubOptions) -> Self {
        Self::with_history(Arc::new(reader), options)
    }

    /// [`Hub::new`] over any history.
    #[must_use]
    pub fn with_history(history: Arc<dyn History>, options: HubOptions) -> Self {
        let state = State::new(history, options);
        let compacted = Arc::new(AtomicI64::new(state.compacted));
        Self { state: Arc::new(Mutex::new(state)), compacted }
    }

    /// Runs `change` under the lock, and wakes whom it woke after releasing it.
    fn locked<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.state.lock();
        let could_catch_up = !state.ready.is_empty();
        let result = change(&mut state);
        if self.compacted.load(Ordering::Relaxed) != state.compacted {
            self.compacted.store(state.compacted, Ordering::Release);
        }
        let wakes = std::mem::take(&mut state.wakes);
        let catch_up = (!could_catch_up && !state.ready.is_empty())
            .then(|| state.catch_up_wake.clone())
            .flatten();
        drop(state);
        wakes.iter().for_each(|outlet| outlet.wake.wake());
        if let Some(wake) = catch_up {
            wake.wake();
        }
        result
    }

    /// Delivers what was committed, in order. To be called after the store has published the same
    /// blocks to its readers. Blocks the hub has seen are skipped.
    pub fn publish(&self, blocks: &[Arc<EventBlock>]) {
        self.locked(|state| blocks.iter().for_each(|block| state.publish(block)));
    }

    /// The revision up to which blocks were published.
    #[must_use]
    pub fn revision(&self) -> i64 {
        self.state.lock().published
    }

    /// Notes that the store was compacted at `revision`. Watchers behind it are cancelled when
    /// they are about to be fed (WA-07).
    pub fn compacted(&self, revision: i64) {
        self.locked(|state| state.compacted = state.compacted.max(revision));
    }

    /// Goes on with another store, or with the same one after [`Store::replace`], as after the
    /// installation of a leader's snapshot (WA-31). A watcher that got everything up to some
    /// revision goes on behind it, from history; one whose next revision is compacted is
    /// cancelled.
    ///
    /// [`Store::replace`]: crate::Store::replace
    pub fn restore(&self, reader: Reader) {
        self.restore_history(Arc::new(reader));
    }

    /// [`Hub::restore`] over any history.
    pub fn restore_history(&self, history: Arc<dyn History>) {
        self.locked(|state| state.restore(history));
    }

    /// Opens a stream; `wake` is called when [`WatchStream::poll`] has something new.
    #[must_use]
    pub fn stream(&self, wake: Arc<dyn Wake>) -> WatchStream {
        self.stream_with_jitter(wake, 0)
    }

    /// [`Hub::stream`] whose progress timer is `jitter_ms` longer than the others' (WA-23: up to
    /// a tenth of the interval, chosen by the caller).
    #[must_use]
    pub fn stream_with_jitter(&self, wake: Arc<dyn Wake>, jitter_ms: u64) -> WatchStream {
        let outlet = Arc::new(Outlet { queue: Mutex::new(Queue::default()), wake });
        let mut state = self.state.lock();
        let slot = state.add_stream(Arc::clone(&outlet), jitter_ms);
        let low_water_bytes = state.options.queue_bytes_max / 2;
        drop(state);
        WatchStream { hub: self.clone(), outlet, slot, low_water_bytes }
    }

    /// Whether [`Self::catch_up`] has something to do now. Watchers whose clients do not read
    /// don't count.
    #[must_use]
    pub fn has_lagging(&self) -> bool {
        !self.state.lock().ready.is_empty()
    }

    /// Has `wake` called whenever [`Self::has_lagging`] turns true.
    pub fn on_lagging(&self, wake: Arc<dyn Wake>) {
        self.locked(|state| state.catch_up_wake = Some(wake));
    }

    /// Feeds up to `watchers_max` lagging watchers from history, which takes disk reads: call it
    /// on a thread that may wait. Tells whether there is more to do; call it again then, after
    /// others had their turn. Several threads may do this at once.
    pub fn catch_up(&self, watchers_max: usize) -> bool {
        let mut round = self.locked(|state| state.begin_round(watchers_max.max(1)));
        if round.is_empty() {
            return false;
        }
        round.read();
        let failed = round.failure().map(ToString::to_string);
        self.locked(|state| state.end_round(round));
        if let Some(error) = failed {
            tracing::warn!(error, "could not read history for watchers; they try again");
            return false;
        }
        self.has_lagging()
    }

    /// Fires the progress timers that are due at `now_ms` of the caller's monotonic clock.
    pub fn tick(&self, now_ms: u64) {
        self.locked(|state| state.tick(now_ms));
    }

    /// Numbers for metrics.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.state.lock().stats()
    }
}

/// The watchers of one client stream. Dropping it removes them.
///
/// An answer to `create` or `cancel` must go to the client before what the next [`Self::poll`]
/// returns, so that they keep the order of WA-01.
pub struct WatchStream {
    hub: Hub,
    outlet: Arc<Outlet>,
    slot: u32,
    /// Once a full queue is down to this, its lagging watchers are fed again.
    low_water_bytes: usize,
}

impl WatchStream {
    /// Registers a watcher.
    ///
    /// # Errors
    /// See [`CreateError`]; the stream stays usable (WA-03).
    pub fn create(&self, spec: WatchSpec) -> Result<Created, CreateError> {
        self.hub.locked(|state| state.create(self.slot, &spec))
    }

    /// Removes a watcher; nothing more comes for it. Returns the hub's revision, or `None` if
    /// there is no such watcher, which is not answered (WA-13).
    pub fn cancel(&self, watch_id: i64) -> Option<i64> {
        self.hub.locked(|state| state.cancel(self.slot, watch_id))
    }

    /// Queues a progress answer for the whole stream if all its watchers are caught up, and
    /// does nothing otherwise (WA-25, WA-26).
    pub fn request_progress(&self) {
        self.hub.locked(|state| state.request_progress(self.slot));
    }

    /// Appends what is ready to `out`, in order, until it is at least `budget_bytes` on the wire. If something
    /// is left it returns true, and wakes the stream again.
    pub fn poll(&self, budget_bytes: usize, out: &mut Vec<Response>) -> bool {
        let first = out.len();
        let (more, make_ready) = {
            let mut queue = self.outlet.queue.lock();
            queue.take(budget_bytes, out);
            let room = queue.bytes <= self.low_water_bytes;
            (!queue.is_empty(), queue.lagging > 0 && room)
        };
        if make_ready {
            self.hub.locked(|state| state.mark_ready(self.slot));
        }
        self.resolve_prev(&mut out[first..]);
        if more {
            self.outlet.wake.wake();
        }
        more
    }

    /// Settles the previous pairs as they are when the events are sent: those of compacted
    /// revisions are gone, and those that the store did not know are looked up.
    fn resolve_prev(&self, responses: &mut [Response]) {
        let compacted = self.hub.compacted.load(Ordering::Acquire);
        let mut history = None;
        for response in responses {
            let Response::Events { prev_kv: true, events, .. } = response else { continue };
            events.forget_prev(compacted);
            for event in events.iter().filter(|event| event.needs_prev()) {
                let history = history.get_or_insert_with(|| {
                    let state = self.hub.state.lock();
                    Arc::clone(&state.history)
                });
                event.resolve_prev(|key, revision| history.get_at(key, revision));
            }
        }
    }
}

impl Drop for WatchStream {
    fn drop(&mut self) {
        self.hub.locked(|state| state.remove_stream(self.slot));
    }
}

#[cfg(test)]
mod tests;
