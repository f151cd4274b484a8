//! Short lists of what is in memory, handed out as they lie there.

use std::ops::Bound;

use crate::RangeQuery;
use crate::state::{Shared, State};

/// Takes the pairs of a list.
pub trait Splice {
    /// Called once before the pairs: how many there are, and the bytes of all together.
    fn begin(&mut self, pairs: usize, bytes: usize);
    /// One pair, in key order: an encoded `mvccpb.KeyValue`.
    fn pair(&mut self, bytes: &[u8]);
}

/// What stands beside the pairs of a spliced list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spliced {
    /// The current revision, at which the list was read.
    pub revision: i64,
    /// Whether the limit cut something.
    pub more: bool,
    /// Keys in the range, whatever the limit says.
    pub count: i64,
}

/// Hands the answer of a plain query of the newest state to `sink`, without taking a reference to
/// each pair: one lock, two walks over the index, one copy. `None`, with nothing handed out, if
/// the query is of another kind, more than `pairs_max` pairs are wanted, or a value is cold.
pub(crate) fn splice(
    shared: &Shared,
    query: &RangeQuery,
    pairs_max: usize,
    sink: &mut impl Splice,
) -> Option<Spliced> {
    let whole_pairs = query.is_plain() && !query.keys_only && !query.count_only;
    if !whole_pairs || query.revision > 0 || query.range.is_single() || query.range.is_empty() {
        return None;
    }
    let state = shared.state.read();
    let count = state.tree.count(&query.range);
    let all = usize::try_from(count).ok()?;
    let wanted = if query.limit == 0 { all } else { all.min(query.limit) };
    if wanted > pairs_max {
        return None;
    }
    let mut bytes = 0;
    let warm = walk(&state, query, wanted, |pair| bytes += pair.len());
    if !warm {
        return None;
    }
    sink.begin(wanted, bytes);
    walk(&state, query, wanted, |pair| sink.pair(pair));
    Some(Spliced { revision: state.revision, more: all > wanted, count })
}

/// Visits the first `wanted` live pairs of the range. `false` if one of them is not in memory.
fn walk(state: &State, query: &RangeQuery, wanted: usize, mut each: impl FnMut(&[u8])) -> bool {
    let (mut left, mut warm) = (wanted, true);
    let mut cursor = (left > 0).then(|| state.tree.cursor(Bound::Included(&query.range.start[..])));
    while let Some(place) = cursor {
        cursor = place.visit_leaf(&state.tree, &query.range, |_, slot| {
            if !slot.is_live() {
                return true;
            }
            match slot.value() {
                Some(kv) => {
                    each(kv.bytes());
                    left -= 1;
                }
                None => warm = false,
            }
            warm && left > 0
        });
    }
    warm
}
