//! One watcher's record: 48 bytes, of which there may be a million.

use super::index::GroupId;
use super::queue::Shape;
use crate::event::{Event, EventKind};

/// Flags of a watcher.
pub(super) mod flag {
    pub(crate) const PREV_KV: u8 = 1;
    pub(crate) const NO_PUT: u8 = 2;
    pub(crate) const NO_DELETE: u8 = 4;
    pub(crate) const FRAGMENT: u8 = 8;
    pub(crate) const PROGRESS: u8 = 16;
    /// It got events since the last tick of its stream's progress timer.
    pub(crate) const ACTIVE: u8 = 32;
}

/// Where a watcher gets its events from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// From [`State::publish`](super::state::State::publish); it is linked in its group.
    Synced,
    /// From history; it waits in its stream's list.
    Lagging,
    /// From history; a round of catching up is reading for it.
    InFlight,
    /// From nowhere: compaction passed it. The id stays taken until the client cancels (WA-14).
    Compacted,
}

#[derive(Clone, Copy)]
pub(super) struct Watcher {
    pub(super) id: i64,
    /// The first revision it wants: everything before was queued or is not wanted.
    pub(super) from: i64,
    pub(super) stream: u32,
    pub(super) group: GroupId,
    /// Neighbours in the group's list of synced watchers.
    pub(super) before: u32,
    pub(super) after: u32,
    /// Distinguishes tenants of one slab place.
    pub(super) generation: u32,
    pub(super) flags: u8,
    pub(super) phase: Phase,
}

impl Watcher {
    pub(super) const fn shape(&self) -> Shape {
        Shape {
            prev_kv: self.flags & flag::PREV_KV != 0,
            fragment: self.flags & flag::FRAGMENT != 0,
        }
    }
}

/// Whether a watcher with these flags wants to see an event (WA-18).
pub(super) fn wants(flags: u8, event: &Event) -> bool {
    flags & if event.kind == EventKind::Put { flag::NO_PUT } else { flag::NO_DELETE } == 0
}

/// A million watchers have to fit into 400 MB with their keys (design.md §6).
const _: () = assert!(size_of::<Watcher>() <= 48);
