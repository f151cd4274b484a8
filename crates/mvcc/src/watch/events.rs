//! Choices of events out of shared blocks.

use std::sync::Arc;

use bytes::BytesMut;

use crate::event::{Event, EventBlock};

/// Which events of a block are meant. Ascending, never empty.
#[derive(Clone, Debug)]
pub(super) enum Picks {
    /// Neighbours.
    Run { first: u32, len: u32 },
    /// Others.
    List(Vec<u32>),
}

impl Picks {
    pub(super) const fn one(at: u32) -> Self {
        Self::Run { first: at, len: 1 }
    }

    pub(super) fn push(&mut self, at: u32) {
        match self {
            Self::Run { first, len } if *first + *len == at => *len += 1,
            Self::Run { first, len } => {
                let mut list: Vec<u32> = (*first..*first + *len).collect();
                list.push(at);
                *self = Self::List(list);
            }
            Self::List(list) => list.push(at),
        }
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Self::Run { len, .. } => *len as usize,
            Self::List(list) => list.len(),
        }
    }

    pub(super) fn of<'a>(&'a self, block: &'a EventBlock) -> impl Iterator<Item = &'a Event> {
        let (run, list): (&[Event], &[u32]) = match self {
            Self::Run { first, len } => {
                (&block.events[*first as usize..(*first + *len) as usize], &[])
            }
            Self::List(list) => (&[], list),
        };
        run.iter().chain(list.iter().map(|&at| &block.events[at as usize]))
    }
}

/// Some events of one block.
pub(super) type Part = (Arc<EventBlock>, Picks);

/// The events of one answer: whole revisions, in order, shared with everyone who watches them.
#[derive(Clone, Debug)]
pub struct Events(pub(super) Parts);

#[derive(Clone, Debug)]
pub(super) enum Parts {
    One(Part),
    Many(Vec<Part>),
}

impl Events {
    pub(super) fn parts(&self) -> &[Part] {
        match &self.0 {
            Parts::One(part) => std::slice::from_ref(part),
            Parts::Many(parts) => parts,
        }
    }

    /// Takes the previous pairs away from events up to the revision `compacted`, whose previous
    /// state can't be read any more (WA-17). Others hold the same blocks and may be writing them
    /// out just now, so those events are copied.
    pub(super) fn forget_prev(&mut self, compacted: i64) {
        let parts = match &mut self.0 {
            Parts::One(part) => std::slice::from_mut(part),
            Parts::Many(parts) => parts,
        };
        for (block, picks) in parts {
            if block.revision > compacted {
                return;
            }
            let events: Vec<Event> = picks.of(block).map(Event::without_prev).collect();
            *picks = Picks::Run { first: 0, len: events.len() as u32 };
            *block = EventBlock::new(block.revision, events);
        }
    }

    /// The events in order.
    pub fn iter(&self) -> impl Iterator<Item = &Event> {
        self.parts().iter().flat_map(|(block, picks)| picks.of(block))
    }

    /// How many there are; never 0.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "it never is")]
    pub fn len(&self) -> usize {
        self.parts().iter().map(|(_, picks)| picks.len()).sum()
    }

    /// Bytes that [`Self::encode_wire`] writes.
    #[must_use]
    pub fn wire_len(&self, with_prev: bool) -> usize {
        self.iter().map(|event| event.wire_len(with_prev)).sum()
    }

    /// Writes every event as [`Event::encode_wire`] does.
    pub fn encode_wire(&self, with_prev: bool, out: &mut BytesMut) {
        for event in self.iter() {
            event.encode_wire(with_prev, out);
        }
    }
}
