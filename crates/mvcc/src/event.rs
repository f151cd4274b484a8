//! Changes of keys as watchers see them, kept in their stored form.
//!
//! An [`Event`] holds the stored bytes of its key-value pair; its wire form is a few header bytes
//! around them, so writing it into an answer is one copy and nothing is encoded twice. Events of
//! one revision form an [`EventBlock`], which is shared by everyone who looks at it.

use std::sync::{Arc, OnceLock};

use bytes::{BufMut, Bytes, BytesMut};
use etcdrs_types::Revision;

use crate::StoredKv;

/// Field 11 (`events`) of a `WatchResponse`, length-delimited.
const TAG_EVENTS: u8 = 0x5a;
/// Field 1 (`type`) of an `Event`, varint.
const TAG_TYPE: u8 = 0x08;
/// Field 2 (`kv`) of an `Event`, length-delimited.
const TAG_KV: u8 = 0x12;
/// Field 3 (`prev_kv`) of an `Event`, length-delimited.
const TAG_PREV_KV: u8 = 0x1a;

/// What happened to a key. The numbers are those of `mvccpb.Event.EventType`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum EventKind {
    /// The key was created or got a new value.
    Put = 0,
    /// The key was deleted.
    Delete = 1,
}

/// What is known of a key's state before the revision of an event (WA-17).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PrevKv {
    /// The key did not exist.
    None,
    /// It was this.
    Known(StoredKv),
    /// It existed and must be read at the revision before, unless that is compacted.
    Lookup,
}

/// One change of one key.
#[derive(Clone, Debug)]
pub struct Event {
    /// Put or delete.
    pub kind: EventKind,
    /// The key.
    pub key: Bytes,
    /// The revision of the change.
    pub revision: Revision,
    /// Whether this put made the key (its version is 1).
    pub created: bool,
    /// The stored pair: whole for a put; key and `mod_revision` only for a delete (WA-16).
    pub kv: StoredKv,
    /// The state before the revision of the change, that is before its whole transaction.
    pub prev: PrevKv,
    /// The answer to [`PrevKv::Lookup`], once somebody asked for it.
    looked_up: OnceLock<Option<StoredKv>>,
}

impl Event {
    /// A put of `key` at `revision`; `kv` is the whole new pair.
    #[must_use]
    pub fn put(key: Bytes, revision: Revision, created: bool, kv: StoredKv, prev: PrevKv) -> Self {
        let looked_up = OnceLock::new();
        Self { kind: EventKind::Put, key, revision, created, kv, prev, looked_up }
    }

    /// A delete of `key` at `revision`; `kv` holds the key and the `mod_revision`, as
    /// [`deleted_kv`] makes it.
    #[must_use]
    pub fn delete(key: Bytes, revision: Revision, kv: StoredKv, prev: PrevKv) -> Self {
        let looked_up = OnceLock::new();
        Self { kind: EventKind::Delete, key, revision, created: false, kv, prev, looked_up }
    }

    /// Reads the previous pair with `lookup` if it has to be read and was not read yet. `lookup`
    /// gets the key and the revision to read at, and returns `None` for a compacted one.
    pub fn resolve_prev(&self, lookup: impl FnOnce(&Bytes, i64) -> Option<StoredKv>) {
        if self.prev == PrevKv::Lookup {
            self.looked_up.get_or_init(|| lookup(&self.key, self.revision.main - 1));
        }
    }

    /// The previous pair (WA-17), as far as it is known: a [`PrevKv::Lookup`] counts as absent
    /// until [`Self::resolve_prev`] was called.
    #[must_use]
    pub fn prev_kv(&self) -> Option<&StoredKv> {
        match &self.prev {
            PrevKv::None => None,
            PrevKv::Known(kv) => Some(kv),
            PrevKv::Lookup => self.looked_up.get()?.as_ref(),
        }
    }

    /// Whether [`Self::resolve_prev`] has something to do.
    #[must_use]
    pub fn needs_prev(&self) -> bool {
        self.prev == PrevKv::Lookup && self.looked_up.get().is_none()
    }

    /// The event as it is told once the state before it is compacted.
    pub(crate) fn without_prev(&self) -> Self {
        Self { prev: PrevKv::None, looked_up: OnceLock::new(), ..self.clone() }
    }

    /// Bytes of the `mvccpb.Event` message itself.
    fn message_len(&self, with_prev: bool) -> usize {
        let kind = if self.kind == EventKind::Delete { 2 } else { 0 };
        let kv = field_len(self.kv.bytes().len());
        let prev = match self.prev_kv() {
            Some(prev) if with_prev => field_len(prev.bytes().len()),
            _ => 0,
        };
        kind + kv + prev
    }

    /// Bytes that [`Self::encode_wire`] writes.
    #[must_use]
    pub fn wire_len(&self, with_prev: bool) -> usize {
        field_len(self.message_len(with_prev))
    }

    /// Writes the event as an element of `WatchResponse.events`: field tag, length, message
    /// (v3-api.md §1.5). `with_prev` adds the previous pair if there is one.
    pub fn encode_wire(&self, with_prev: bool, out: &mut BytesMut) {
        let message = self.message_len(with_prev);
        out.reserve(message + 6);
        put_field_head(out, TAG_EVENTS, message);
        if self.kind == EventKind::Delete {
            out.put_slice(&[TAG_TYPE, 1]);
        }
        put_field_head(out, TAG_KV, self.kv.bytes().len());
        out.put_slice(self.kv.bytes());
        if let (true, Some(prev)) = (with_prev, self.prev_kv()) {
            put_field_head(out, TAG_PREV_KV, prev.bytes().len());
            out.put_slice(prev.bytes());
        }
    }

    /// [`Self::encode_wire`] into a buffer of its own.
    #[must_use]
    pub fn wire(&self, with_prev: bool) -> Bytes {
        let mut out = BytesMut::with_capacity(self.wire_len(with_prev));
        self.encode_wire(with_prev, &mut out);
        out.freeze()
    }

    /// Memory the event keeps alive, in bytes, roughly.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        let prev = self.prev_kv().map_or(0, |kv| kv.bytes().len());
        size_of::<Self>() + self.key.len() + self.kv.bytes().len() + prev
    }
}

/// The pair that a delete event carries: key and `mod_revision`, nothing else (WA-16).
#[must_use]
pub fn deleted_kv(key: &[u8], mod_revision: i64) -> StoredKv {
    let mut out = BytesMut::with_capacity(key.len() + 22);
    if !key.is_empty() {
        put_field_head(&mut out, 0x0a, key.len());
        out.put_slice(key);
    }
    out.put_u8(0x18);
    put_varint(&mut out, mod_revision.cast_unsigned());
    StoredKv::from_encoded(out.freeze())
}

/// All changes of one revision, in the order of their sub-revisions.
#[derive(Debug)]
pub struct EventBlock {
    /// The main revision.
    pub revision: i64,
    /// Its changes; never empty.
    pub events: Vec<Event>,
}

impl EventBlock {
    /// Puts the events of one revision together.
    #[must_use]
    pub fn new(revision: i64, events: Vec<Event>) -> Arc<Self> {
        Arc::new(Self { revision, events })
    }

    /// Memory the block keeps alive, in bytes, roughly.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        size_of::<Self>() + self.events.iter().map(Event::heap_bytes).sum::<usize>()
    }
}

/// Bytes of a length-delimited field with a one-byte tag.
fn field_len(payload: usize) -> usize {
    1 + varint_len(payload as u64) + payload
}

fn put_field_head(out: &mut BytesMut, tag: u8, payload: usize) {
    out.put_u8(tag);
    put_varint(out, payload as u64);
}

fn put_varint(out: &mut BytesMut, mut value: u64) {
    while value >= 0x80 {
        out.put_u8((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

fn varint_len(value: u64) -> usize {
    (64 - (value | 1).leading_zeros() as usize).div_ceil(7)
}

#[cfg(test)]
mod tests;
