//! Places in the tree, and walks from leaf to leaf.

use etcdrs_types::{KeyRange, RangeEnd};

use super::slot::Slot;
use super::tree::{KeyParts, Path, Tree};

/// A place between keys. Valid until the tree changes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cursor {
    pub(super) path: Path,
    pub(super) position: usize,
}

impl Cursor {
    /// The position in the leaf, if a key stands there.
    pub(super) fn position(&self, tree: &Tree) -> Option<usize> {
        (self.position < tree.leaves[self.path.leaf as usize].slots.len()).then_some(self.position)
    }

    pub(super) fn key<'t>(&self, tree: &'t Tree) -> KeyParts<'t> {
        let keys = &tree.leaves[self.path.leaf as usize].keys;
        KeyParts { prefix: keys.prefix(), suffix: keys.suffix(self.position) }
    }

    /// The key at the cursor, which stands before one.
    pub(crate) fn first_key(&self, tree: &Tree) -> Vec<u8> {
        self.key(tree).to_vec()
    }

    /// The start of the leaf after this one.
    pub(super) fn next_leaf(&self, tree: &Tree) -> Option<Self> {
        let mut path = self.path;
        let level = (0..tree.height).rev().find(|&level| {
            let (node, child) = path.steps[level];
            (child as usize) + 1 < tree.inners[node as usize].children.len()
        })?;
        path.steps[level].1 += 1;
        let (node, child) = path.steps[level];
        let mut node = tree.inners[node as usize].children[child as usize];
        for step in &mut path.steps[level + 1..tree.height] {
            *step = (node, 0);
            node = tree.inners[node as usize].children[0];
        }
        path.leaf = node;
        Some(Self { path, position: 0 })
    }

    /// Hands the keys of this leaf that lie before the end of `range` to `each`, which says
    /// whether to go on. Returns where to go on, or `None` when the range or `each` is done.
    pub(crate) fn visit_leaf<'t>(
        mut self,
        tree: &'t Tree,
        range: &KeyRange,
        mut each: impl FnMut(KeyParts<'t>, &'t Slot) -> bool,
    ) -> Option<Self> {
        let leaf = &tree.leaves[self.path.leaf as usize];
        let len = leaf.slots.len();
        let end = match &range.end {
            RangeEnd::Unbounded => len,
            RangeEnd::Before(end) => leaf.keys.search(end).unwrap_or_else(|position| position),
            RangeEnd::Single => match leaf.keys.search(&range.start) {
                Ok(position) => position + 1,
                Err(_) => 0,
            },
        };
        while self.position < end {
            let key =
                KeyParts { prefix: leaf.keys.prefix(), suffix: leaf.keys.suffix(self.position) };
            if !each(key, &leaf.slots[self.position]) {
                return None;
            }
            self.position += 1;
        }
        if end < len { None } else { self.next_leaf(tree) }
    }

    /// If nothing in this leaf changed after main revision `at`, and all of it lies in `range`:
    /// its number of live keys, and the next leaf.
    pub(crate) fn unchanged_leaf(
        self,
        tree: &Tree,
        range: &KeyRange,
        at: i64,
    ) -> Option<(u32, Option<Self>)> {
        let leaf = &tree.leaves[self.path.leaf as usize];
        let whole = self.position == 0
            && match &range.end {
                RangeEnd::Unbounded => true,
                RangeEnd::Before(end) => leaf.keys.search(end) == Err(leaf.slots.len()),
                RangeEnd::Single => false,
            };
        (whole && leaf.newest <= at).then(|| (leaf.live, self.next_leaf(tree)))
    }
}
