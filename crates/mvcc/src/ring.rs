//! Recent events, within a budget.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use etcdrs_types::KeyRange;

use crate::{EventBlock, EventKind};

/// What one birth or death of a key costs, besides the key that it shares with the event.
const TALLY_BYTES: usize = size_of::<Tally>();

/// The newest event blocks without a gap, and the births and deaths among them.
#[derive(Debug)]
pub(crate) struct Ring {
    blocks: VecDeque<(Arc<EventBlock>, usize)>,
    tallies: VecDeque<Tally>,
    bytes: usize,
    budget: usize,
    /// Every change from this main revision on is in the ring.
    from: i64,
}

#[derive(Debug)]
struct Tally {
    main: i64,
    /// +1 for a birth, -1 for a death.
    delta: i64,
    key: Bytes,
}

impl Ring {
    pub(crate) fn new(budget: usize, current: i64) -> Self {
        Self {
            blocks: VecDeque::new(),
            tallies: VecDeque::new(),
            bytes: 0,
            budget,
            from: current + 1,
        }
    }

    pub(crate) fn push(&mut self, block: &Arc<EventBlock>) {
        for event in &block.events {
            let delta = match event.kind {
                EventKind::Put if event.created => 1,
                EventKind::Put => continue,
                EventKind::Delete => -1,
            };
            self.tallies.push_back(Tally { main: block.revision, delta, key: event.key.clone() });
            self.bytes += TALLY_BYTES;
        }
        let bytes = block.heap_bytes();
        self.bytes += bytes;
        self.blocks.push_back((Arc::clone(block), bytes));
    }

    /// Drops the oldest blocks until the budget holds.
    pub(crate) fn trim(&mut self) {
        while self.bytes > self.budget {
            let Some((block, bytes)) = self.blocks.pop_front() else { return };
            self.bytes -= bytes;
            self.from = block.revision + 1;
            while self.tallies.front().is_some_and(|tally| tally.main <= block.revision) {
                self.tallies.pop_front();
                self.bytes -= TALLY_BYTES;
            }
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// By how much the number of keys in `range` grew after main revision `at`; `None` if the
    /// ring does not reach back that far.
    pub(crate) fn growth_since(&self, at: i64, range: &KeyRange) -> Option<i64> {
        if self.from > at + 1 {
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
