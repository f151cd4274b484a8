//! Building the tree at once from sorted keys.

use super::packed::Packed;
use super::slot::Slot;
use super::tree::{INNER_MAX, Inner, LEAF_MAX, Leaf, Tree, separator};

/// Keys that a leaf gets; some room is left for later ones.
const LEAF_FILL: usize = LEAF_MAX - 4;
/// Children that an inner node gets.
const INNER_FILL: usize = INNER_MAX - 4;

/// Takes keys in ascending order.
#[derive(Debug, Default)]
pub(crate) struct Builder {
    /// Keys and slots of the leaf that is being filled.
    keys: Packed,
    slots: Vec<Slot>,
    leaves: Vec<Leaf>,
    /// Before each leaf but the first.
    separators: Vec<Vec<u8>>,
    entries: usize,
    past_bytes: usize,
}

impl Builder {
    pub(crate) fn push(&mut self, key: &[u8], slot: Slot) {
        if self.keys.len() == LEAF_FILL {
            self.close_leaf();
        }
        self.entries += 1;
        self.past_bytes += slot.heap_bytes();
        self.keys.push(key);
        self.slots.push(slot);
    }

    fn close_leaf(&mut self) {
        let keys = self.keys.tightened();
        if let Some(left) = self.leaves.last() {
            self.separators.push(separator(&left.keys, &keys));
        }
        let mut slots = Vec::with_capacity(self.slots.len());
        slots.append(&mut self.slots);
        self.keys.clear();
        let live = slots.iter().map(|slot| u32::from(slot.is_live())).sum();
        let newest = slots.iter().map(|slot| slot.revision().main).max().unwrap_or(0);
        self.leaves.push(Leaf { keys, slots, live, newest });
    }

    pub(crate) fn finish(mut self) -> Tree {
        if self.keys.len() == 0 && self.leaves.is_empty() {
            return Tree::default();
        }
        self.close_leaf();
        let Self { leaves, mut separators, entries, past_bytes, .. } = self;
        let mut inners: Vec<Inner> = Vec::new();
        let mut level: Vec<(u32, u32)> =
            leaves.iter().enumerate().map(|(number, leaf)| (number as u32, leaf.live)).collect();
        let mut height = 0;
        while level.len() > 1 {
            height += 1;
            let mut above = Vec::new();
            let mut above_separators = Vec::new();
            for (number, nodes) in level.chunks(INNER_FILL).enumerate() {
                let begin = number * INNER_FILL;
                let mut inside = Packed::default();
                separators[begin..begin + nodes.len() - 1].iter().for_each(|key| inside.push(key));
                if number > 0 {
                    above_separators.push(separators[begin - 1].clone());
                }
                let inner = Inner {
                    separators: inside.tightened(),
                    children: nodes.iter().map(|&(node, _)| node).collect(),
                    live: nodes.iter().map(|&(_, live)| live).collect(),
                };
                above.push((inners.len() as u32, nodes.iter().map(|&(_, live)| live).sum()));
                inners.push(inner);
            }
            (level, separators) = (above, above_separators);
        }
        let (root, live) = level[0];
        let live = i64::from(live);
        Tree { leaves, inners, root, height, live, entries, past_bytes, ..Tree::default() }
    }
}
