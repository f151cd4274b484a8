//! The answer of a range, and when two answers are the same.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use crate::mvccpb::KeyValue;
use crate::pb;
use crate::request::{SortOrder, SortTarget};

/// The answer for the pairs of the range in key order. A `limit` cuts as RG-04 and RG-10 say.
pub(super) fn answer(request: &pb::RangeRequest, kvs: Vec<KeyValue>) -> pb::RangeResponse {
    let count = kvs.len() as i64;
    if request.count_only {
        return pb::RangeResponse { header: None, kvs: Vec::new(), more: false, count };
    }
    let mut kvs = in_order(request, kvs);
    let limit = usize::try_from(request.limit).unwrap_or(0);
    let more = limit > 0 && kvs.len() > limit;
    if more {
        kvs.truncate(limit);
    }
    if request.keys_only {
        for kv in &mut kvs {
            kv.value.clear();
        }
    }
    pb::RangeResponse { header: None, kvs, more, count }
}

/// Filtered and sorted, not yet cut.
fn in_order(request: &pb::RangeRequest, mut kvs: Vec<KeyValue>) -> Vec<KeyValue> {
    let descending = request.sort_order == SortOrder::Descend as i32;
    let unsorted = request.sort_order == SortOrder::None as i32;
    let by_key = request.sort_target == SortTarget::Key as i32;
    let filters = [
        request.min_mod_revision,
        request.max_mod_revision,
        request.min_create_revision,
        request.max_create_revision,
    ];
    if unsorted && !by_key && request.limit > 0 && filters.iter().all(|filter| *filter == 0) {
        // RG-10: only one pair more than wanted is fetched, and those are sorted.
        kvs.truncate(usize::try_from(request.limit).unwrap_or(0) + 1);
    }
    kvs.retain(|kv| passes(request, kv));
    kvs.sort_by(|a, b| {
        let order = compare(request.sort_target, a, b);
        if descending { order.reverse() } else { order }
    });
    kvs
}

fn passes(request: &pb::RangeRequest, kv: &KeyValue) -> bool {
    let within =
        |value: i64, min: i64, max: i64| (min == 0 || value >= min) && (max == 0 || value <= max);
    within(kv.mod_revision, request.min_mod_revision, request.max_mod_revision)
        && within(kv.create_revision, request.min_create_revision, request.max_create_revision)
}

fn compare(target: i32, a: &KeyValue, b: &KeyValue) -> Ordering {
    match SortTarget::try_from(target) {
        Ok(SortTarget::Version) => a.version.cmp(&b.version),
        Ok(SortTarget::Create) => a.create_revision.cmp(&b.create_revision),
        Ok(SortTarget::Mod) => a.mod_revision.cmp(&b.mod_revision),
        Ok(SortTarget::Value) => a.value.cmp(&b.value),
        Ok(SortTarget::Key) | Err(_) => a.key.cmp(&b.key),
    }
}

/// Compares an answer with the one that the state demands, up to what etcd leaves open: the order
/// of ties (RG-09) and the leases of `keys_only` (RG-07).
pub fn same_range(
    request: &pb::RangeRequest,
    expected: &pb::RangeResponse,
    actual: &pb::RangeResponse,
) -> Result<(), String> {
    if (expected.count, expected.more) != (actual.count, actual.more) {
        return Err(format!(
            "count and more are {}, {}, not {}, {}",
            expected.count, expected.more, actual.count, actual.more
        ));
    }
    let same = |a: &KeyValue, b: &KeyValue| {
        a == b || (request.keys_only && b.lease == 0 && KeyValue { lease: 0, ..a.clone() } == *b)
    };
    let equal = expected.kvs.len() == actual.kvs.len()
        && expected.kvs.iter().zip(&actual.kvs).all(|(a, b)| same(a, b));
    if equal || only_ties_differ(request, expected, actual) {
        return Ok(());
    }
    Err(format!("the pairs are {}, not {}", show(&expected.kvs), show(&actual.kvs)))
}

fn only_ties_differ(
    request: &pb::RangeRequest,
    expected: &pb::RangeResponse,
    actual: &pb::RangeResponse,
) -> bool {
    let target = request.sort_target;
    // A cut may have fallen into a tie, so that other pairs of it are shown; such an answer is not
    // decided here, and the traffic does not ask for it.
    if target == SortTarget::Key as i32 || actual.more || request.keys_only {
        return false;
    }
    let keys = |kvs: &[KeyValue]| kvs.iter().map(|kv| kv.key.clone()).collect::<BTreeSet<_>>();
    let sorted = expected.kvs.iter().zip(&actual.kvs).all(|(a, b)| compare(target, a, b).is_eq());
    sorted
        && expected.kvs.len() == actual.kvs.len()
        && keys(&expected.kvs) == keys(&actual.kvs)
        && actual.kvs.iter().all(|kv| expected.kvs.contains(kv))
}

fn show(kvs: &[KeyValue]) -> String {
    let pairs: Vec<String> = kvs.iter().map(crate::robustness::describe::pair).collect();
    format!("[{}]", pairs.join(", "))
}
