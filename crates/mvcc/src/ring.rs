//! Recent events, within a budget.

use std::collections::VecDeque;
use std::sync::Arc;

use etcdrs_types::KeyRange;

use crate::{EventBlock, EventKind};

/// The share of the budget that births and deaths get, one part in so many.
const TALLY_SHARE: usize = 8;

/// The newest event blocks without a gap; and births and deaths of keys, further back if there
/// were few, so that a count of the past is the count of today less what changed.
#[derive(Debug)]
pub(crate) struct Ring {
    blocks: VecDeque<(Arc<EventBlock>, usize)>,
    bytes: usize,
    budget: usize,
    /// Every change from this main revision on is in `blocks`.
    from: i64,
    tallies: VecDeque<Tally>,
    tally_bytes: usize,
    /// Every birth and death from this main revision on is in `tallies`.
    tallies_from: i64,
}

#[derive(Debug)]
struct Tally {
    main: i64,
    /// +1 for a birth, -1 for a death.
    delta: i64,
    /// A copy: sharing the event's would keep its whole pair in memory.
    key: Box<[u8]>,
}

impl Tally {
    fn bytes(&self) -> usize {
        size_of::<Self>() + self.key.len()
    }
}

impl Ring {
    pub(crate) fn new(budget: usize, current: i64) -> Self {
        Self {
            blocks: VecDeque::new(),
            bytes: 0,
            budget,
            from: current + 1,
            tallies: VecDeque::new(),
            tally_bytes: 0,
            tallies_from: current + 1,
        }
    }

    pub(crate) fn push(&mut self, block: &Arc<EventBlock>) {
        for event in &block.events {
            let delta = match event.kind {
                EventKind::Put if event.created => 1,
                EventKind::Put => continue,
                EventKind::Delete => -1,
            };
            let tally = Tally { main: block.revision, delta, key: event.key[..].into() };
            self.tally_bytes += tally.bytes();
            self.tallies.push_back(tally);
        }
        let bytes = block.heap_bytes();
        self.bytes += bytes;
        self.blocks.push_back((Arc::clone(block), bytes));
    }

    /// Drops the oldest blocks, births and deaths until the budgets hold.
    pub(crate) fn trim(&mut self) {
        while self.tally_bytes > self.budget / TALLY_SHARE {
            let Some(tally) = self.tallies.pop_front() else { break };
            self.tally_bytes -= tally.bytes();
            self.tallies_from = tally.main + 1;
        }
        while self.bytes > self.budget - self.budget / TALLY_SHARE {
            let Some((block, bytes)) = self.blocks.pop_front() else { return };
            self.bytes -= bytes;
            self.from = block.revision + 1;
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes + self.tally_bytes
    }

    /// By how much the number of keys in `range` grew after main revision `at`; `None` if that is
    /// too long ago.
    pub(crate) fn growth_since(&self, at: i64, range: &KeyRange) -> Option<i64> {
        if self.tallies_from > at + 1 {
            return None;
        }
        let begin = self.tallies.partition_point(|tally| tally.main <= at);
        let tallies = self.tallies.range(begin..);
        Some(tallies.filter(|tally| range.contains(&tally.key)).map(|tally| tally.delta).sum())
    }

    /// Blocks of the revisions `from..=to`, at most `blocks_max`; `None` if the ring does not
    /// reach back to `from`.
    pub(crate) fn blocks(&self, from: i64, to: i64, max: usize) -> Option<Vec<Arc<EventBlock>>> {
        if self.from > from {
            return None;
        }
        let begin = self.blocks.partition_point(|(block, _)| block.revision < from);
        let blocks = self.blocks.range(begin..).map(|(block, _)| block);
        Some(blocks.take_while(|block| block.revision <= to).take(max).map(Arc::clone).collect())
    }
}
