//! What waits to be sent on one stream.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;

use super::events::{Events, Part, Parts};
use super::{Response, Wake};

/// Memory that an item takes beside its events, bytes.
const ITEM_BYTES: usize = 64;

/// The sending side of one stream: the hub puts items in, the stream's owner takes them out.
///
/// Lock order: the hub's state before a queue.
pub(super) struct Outlet {
    pub(super) queue: Mutex<Queue>,
    pub(super) wake: Arc<dyn Wake>,
}

/// Answers in the order in which they go out.
#[derive(Default)]
pub(super) struct Queue {
    items: VecDeque<Item>,
    /// Sequence number of the next item.
    next: u64,
    /// Memory that all items keep alive, bytes, roughly. An item is taken in while this is below
    /// the limit, so that one item of any size always finds a place in the end.
    pub(super) bytes: usize,
    /// Revision of the newest block that a live item holds.
    newest_block: i64,
    /// Events in all items.
    pub(super) events: usize,
    /// Watchers of the stream that are fed from history.
    pub(super) lagging: usize,
    /// Whether the owner was woken and has not polled since.
    pub(super) woken: bool,
    /// Cancelled ids, and the sequence number below which their items are dropped.
    cancelled: BTreeMap<i64, u64>,
    /// Progress answers of the stream with a sequence number below this are dropped.
    void_progress: u64,
}

pub(super) struct Item {
    watch_id: i64,
    /// Bytes of its events on the wire, and a little.
    wire: u32,
    /// Its part of [`Queue::bytes`].
    cost: usize,
    kind: Kind,
}

enum Kind {
    Live { part: Part, shape: Shape },
    Batch { revision: i64, parts: Vec<Part>, shape: Shape },
    Progress { revision: i64 },
    Compacted { compact_revision: i64 },
}

/// How a watcher wants its events.
#[derive(Clone, Copy)]
pub(super) struct Shape {
    pub(super) prev_kv: bool,
    pub(super) fragment: bool,
}

impl Item {
    /// One revision, as it happens.
    pub(super) fn live(watch_id: i64, part: Part, shape: Shape) -> Self {
        let wire = wire_bytes(std::slice::from_ref(&part), shape.prev_kv);
        Self { watch_id, wire, cost: wire as usize, kind: Kind::Live { part, shape } }
    }

    /// Revisions of the past, read when the hub was at `revision`; they hold blocks of
    /// `block_bytes`.
    pub(super) fn batch(
        watch_id: i64,
        revision: i64,
        parts: Vec<Part>,
        block_bytes: usize,
        shape: Shape,
    ) -> Self {
        let wire = wire_bytes(&parts, shape.prev_kv);
        let cost = block_bytes.max(wire as usize);
        Self { watch_id, wire, cost, kind: Kind::Batch { revision, parts, shape } }
    }

    pub(super) const fn progress(watch_id: i64, revision: i64) -> Self {
        Self::small(watch_id, Kind::Progress { revision })
    }

    pub(super) const fn compacted(watch_id: i64, compact_revision: i64) -> Self {
        Self::small(watch_id, Kind::Compacted { compact_revision })
    }

    const fn small(watch_id: i64, kind: Kind) -> Self {
        Self { watch_id, wire: ITEM_BYTES as u32, cost: ITEM_BYTES, kind }
    }

    fn events(&self) -> usize {
        match &self.kind {
            Kind::Live { part, .. } => part.1.len(),
            Kind::Batch { parts, .. } => parts.iter().map(|(_, picks)| picks.len()).sum(),
            Kind::Progress { .. } | Kind::Compacted { .. } => 0,
        }
    }

    fn into_response(self) -> Response {
        let watch_id = self.watch_id;
        let events = |revision, parts, shape: Shape| Response::Events {
            watch_id,
            revision,
            fragment: shape.fragment,
            prev_kv: shape.prev_kv,
            events: Events(parts),
        };
        match self.kind {
            Kind::Live { part, shape } => events(part.0.revision, Parts::One(part), shape),
            Kind::Batch { revision, parts, shape } => events(revision, Parts::Many(parts), shape),
            Kind::Progress { revision } => Response::Progress { watch_id, revision },
            Kind::Compacted { compact_revision } => {
                Response::Compacted { watch_id, compact_revision }
            }
        }
    }
}

fn wire_bytes(parts: &[Part], with_prev: bool) -> u32 {
    let wire: usize = parts
        .iter()
        .flat_map(|(block, picks)| picks.of(block))
        .map(|event| event.wire_len(with_prev))
        .sum();
    u32::try_from(wire + ITEM_BYTES).unwrap_or(u32::MAX)
}

impl Queue {
    /// Appends an item; tells whether the owner has to be woken for it.
    #[must_use]
    pub(super) fn push(&mut self, item: Item) -> bool {
        self.bytes += item.cost;
        self.events += item.events();
        self.items.push_back(item);
        self.next += 1;
        !std::mem::replace(&mut self.woken, true)
    }

    /// [`Self::push`] for a live item whose block takes `block_bytes`: the first item with a block
    /// pays for all of it, however little of it is wanted, because it keeps all of it alive.
    #[must_use]
    pub(super) fn push_live(&mut self, mut item: Item, revision: i64, block_bytes: usize) -> bool {
        if self.newest_block != revision {
            self.newest_block = revision;
            item.cost = item.cost.max(block_bytes);
        }
        self.push(item)
    }

    /// Appends a progress answer for the whole stream, or raises the last item if it is one: a
    /// client that asks again and again without reading must not fill the queue.
    #[must_use]
    pub(super) fn push_progress(&mut self, revision: i64) -> bool {
        match self.items.back_mut() {
            Some(Item { watch_id: -1, kind: Kind::Progress { revision: last }, .. })
                if self.void_progress < self.next =>
            {
                *last = revision;
                false
            }
            _ => self.push(Item::progress(-1, revision)),
        }
    }

    /// Lets nothing more go out for `watch_id` of what is queued now.
    pub(super) fn cancel(&mut self, watch_id: i64) {
        if !self.items.is_empty() {
            self.cancelled.insert(watch_id, self.next);
        }
    }

    /// Drops queued progress answers of the whole stream: a watcher that joined since has events
    /// of the past to come, and they must not follow an answer that says otherwise (WA-26 lets us).
    pub(super) fn void_progress(&mut self) {
        self.void_progress = self.next;
    }

    /// Moves items of at least `budget_bytes` to `out`, as far as there are.
    pub(super) fn take(&mut self, budget_bytes: usize, out: &mut Vec<Response>) {
        let mut taken = 0;
        self.woken = false;
        while taken < budget_bytes.max(1) {
            let Some(item) = self.items.pop_front() else { break };
            let sequence = self.next - self.items.len() as u64 - 1;
            self.bytes -= item.cost;
            self.events -= item.events();
            let below = if item.is_for_the_stream() {
                self.void_progress
            } else {
                self.cancelled.get(&item.watch_id).copied().unwrap_or(0)
            };
            if sequence < below {
                continue;
            }
            taken += item.wire as usize;
            out.push(item.into_response());
        }
        if self.items.is_empty() {
            self.cancelled.clear();
            // A burst must not pin its memory for the life of an idle stream.
            if self.items.capacity() > 1024 {
                self.items = VecDeque::new();
            }
        } else {
            self.woken = true;
        }
    }

    /// Whether [`Self::take`] has something to move.
    pub(super) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }
}

impl Item {
    /// Progress of the stream bears the id -1, which a client may have given a watcher as well.
    fn is_for_the_stream(&self) -> bool {
        self.watch_id == -1 && matches!(self.kind, Kind::Progress { .. })
    }
}
