//! Checks of a transaction before it goes anywhere (TX-02..TX-05). Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use etcdrs_proto::etcdserverpb as pb;
use pb::request_op::Request;
use tonic::Status;

use crate::api::{check, status};

/// Checks sizes, keys and overlaps of a transaction.
pub(crate) fn txn(request: &pb::TxnRequest, ops_max: usize) -> Result<(), Status> {
    shape(request, ops_max)?;
    overlaps(&request.success)?;
    overlaps(&request.failure)?;
    Ok(())
}

/// Sizes and keys, all the way down; overlaps come only after everything else is in order.
fn shape(request: &pb::TxnRequest, ops_max: usize) -> Result<(), Status> {
    let used = request.compare.len().max(request.success.len()).max(request.failure.len());
    if used > ops_max {
        return Err(status::too_many_ops());
    }
    if request.compare.iter().any(|compare| compare.key.is_empty()) {
        return Err(status::empty_key());
    }
    for op in request.success.iter().chain(&request.failure) {
        // A nested transaction gets what its parent left over (TX-03).
        one(op, ops_max - used)?;
    }
    Ok(())
}

fn one(op: &pb::RequestOp, ops_max: usize) -> Result<(), Status> {
    match &op.request {
        Some(Request::RequestRange(range)) => check::range(range),
        Some(Request::RequestPut(put)) => check::put(put),
        Some(Request::RequestDeleteRange(delete)) => check::delete(delete),
        Some(Request::RequestTxn(nested)) => shape(nested, ops_max),
        None => Err(status::key_not_found()),
    }
}

/// Whether every top-level operation of both branches is a range (TX-12).
pub(crate) fn is_read_only(request: &pb::TxnRequest) -> bool {
    let mut ops = request.success.iter().chain(&request.failure);
    ops.all(|op| matches!(op.request, Some(Request::RequestRange(_))))
}

/// Whether a read-only transaction may be answered from local state (TX-12).
pub(crate) fn is_serializable(request: &pb::TxnRequest) -> bool {
    let mut ops = request.success.iter().chain(&request.failure);
    ops.all(|op| match &op.request {
        Some(Request::RequestRange(range)) => range.serializable,
        _ => false,
    })
}

/// Keys that a branch puts, and intervals that it deletes.
#[derive(Default)]
struct Touched<'a> {
    puts: BTreeSet<&'a [u8]>,
    deletes: Intervals<'a>,
}

/// Disjoint half-open intervals. An end of `None` is the single key at the start.
///
/// Invariant: no two intervals overlap, so that the one that starts last before a key decides.
#[derive(Default)]
struct Intervals<'a> {
    by_start: BTreeMap<&'a [u8], &'a [u8]>,
    points: BTreeSet<&'a [u8]>,
}

impl<'a> Intervals<'a> {
    fn insert(&mut self, key: &'a [u8], range_end: &'a [u8]) {
        if range_end.is_empty() {
            self.points.insert(key);
            return;
        }
        // An end of `\0` is an ordinary key here, which makes the interval inverted (TX-05).
        if key >= range_end {
            return;
        }
        let (mut start, mut end) = (key, range_end);
        let touches = |(s, e): &(&&'a [u8], &&'a [u8])| **s <= range_end && **e >= key;
        let merged: Vec<&[u8]> = self
            .by_start
            .range::<[u8], _>((Bound::Unbounded, Bound::Included(range_end)))
            .rev()
            .take_while(|(_, e)| ***e >= *key)
            .filter(touches)
            .map(|(s, _)| *s)
            .collect();
        for other in merged {
            if let Some(other_end) = self.by_start.remove(other) {
                start = start.min(other);
                end = end.max(other_end);
            }
        }
        self.by_start.insert(start, end);
    }

    fn contains(&self, key: &[u8]) -> bool {
        self.points.contains(key)
            || self
                .by_start
                .range::<[u8], _>((Bound::Unbounded, Bound::Included(key)))
                .next_back()
                .is_some_and(|(_, end)| *end > key)
    }

    fn merge(&mut self, other: Self) {
        for (start, end) in other.by_start {
            self.insert(start, end);
        }
        self.points.extend(other.points);
    }
}

/// TX-04: within a branch a key is put once, and not put where the branch deletes. Deletes of
/// this level count for every nested put; deletes of a nested transaction only for later ones.
fn overlaps(ops: &[pb::RequestOp]) -> Result<Touched<'_>, Status> {
    let mut touched = Touched::default();
    for op in ops {
        if let Some(Request::RequestDeleteRange(delete)) = &op.request {
            touched.deletes.insert(&delete.key, &delete.range_end);
        }
    }
    for op in ops {
        if let Some(Request::RequestTxn(nested)) = &op.request {
            nested_overlaps(nested, &mut touched)?;
        }
    }
    for op in ops {
        if let Some(Request::RequestPut(put)) = &op.request {
            let key = &put.key[..];
            if touched.deletes.contains(key) || !touched.puts.insert(key) {
                return Err(status::duplicate_key());
            }
        }
    }
    Ok(touched)
}

fn nested_overlaps<'a>(
    nested: &'a pb::TxnRequest,
    touched: &mut Touched<'a>,
) -> Result<(), Status> {
    let then = overlaps(&nested.success)?;
    let otherwise = overlaps(&nested.failure)?;
    for key in &then.puts {
        if touched.deletes.contains(key) || !touched.puts.insert(key) {
            return Err(status::duplicate_key());
        }
    }
    for key in &otherwise.puts {
        // Only one of the two branches runs, so both may put the same key.
        let repeated = !touched.puts.insert(key) && !then.puts.contains(key);
        if repeated || touched.deletes.contains(key) {
            return Err(status::duplicate_key());
        }
    }
    touched.deletes.merge(then.deletes);
    touched.deletes.merge(otherwise.deletes);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(key: &'static str) -> pb::RequestOp {
        let put = pb::PutRequest { key: key.into(), ..Default::default() };
        pb::RequestOp { request: Some(Request::RequestPut(put)) }
    }

    fn delete(key: &'static str, end: &'static str) -> pb::RequestOp {
        let delete =
            pb::DeleteRangeRequest { key: key.into(), range_end: end.into(), ..Default::default() };
        pb::RequestOp { request: Some(Request::RequestDeleteRange(delete)) }
    }

    fn get(key: &'static str) -> pb::RequestOp {
        let range = pb::RangeRequest { key: key.into(), ..Default::default() };
        pb::RequestOp { request: Some(Request::RequestRange(range)) }
    }

    fn nested(success: Vec<pb::RequestOp>, failure: Vec<pb::RequestOp>) -> pb::RequestOp {
        let txn = pb::TxnRequest { compare: vec![], success, failure };
        pb::RequestOp { request: Some(Request::RequestTxn(txn)) }
    }

    #[track_caller]
    fn check(success: Vec<pb::RequestOp>, ops_max: usize, want: &str) {
        let request = pb::TxnRequest { compare: vec![], success, failure: vec![] };
        let got = match txn(&request, ops_max) {
            Ok(()) => "ok".to_owned(),
            Err(status) => status.message().trim_start_matches("etcdserver: ").to_owned(),
        };
        assert_eq!(got, want);
    }

    const DUPLICATE: &str = "duplicate key given in txn request";

    #[test]
    fn tx_04_duplicate_key_matrix() {
        check(vec![put("a"), put("a")], 128, DUPLICATE); // V15
        check(vec![nested(vec![put("a")], vec![put("a")])], 128, "ok"); // V16
        check(
            vec![nested(vec![put("p")], vec![]), nested(vec![delete("p", "")], vec![])],
            128,
            "ok",
        ); // V17
        check(
            vec![nested(vec![delete("p", "")], vec![]), nested(vec![put("p")], vec![])],
            128,
            DUPLICATE,
        ); // V18
        check(vec![put("b"), delete("a", "z")], 128, DUPLICATE); // V19
        check(vec![put("b"), delete("a", "\0")], 128, "ok"); // V20, TX-05
        check(vec![delete("a", "c"), delete("b", "d"), put("d")], 128, "ok");
        check(vec![delete("a", "c"), delete("b", "d"), put("c")], 128, DUPLICATE);
        check(vec![nested(vec![put("a")], vec![]), put("a")], 128, DUPLICATE);
        check(vec![nested(vec![put("a")], vec![]), nested(vec![], vec![put("a")])], 128, DUPLICATE);
    }

    #[test]
    fn tx_02_tx_03_sizes_and_empty_operations() {
        check(vec![get("a"); 129], 128, "too many operations in txn request"); // V13
        check(vec![nested(vec![get("a"); 3], vec![])], 3, "too many operations in txn request"); // V14
        check(vec![nested(vec![get("a"); 2], vec![])], 3, "ok");
        check(vec![pb::RequestOp { request: None }], 128, "key not found"); // V27
        check(vec![put("")], 128, "key is not provided");
    }

    #[test]
    fn intervals_merge() {
        let mut intervals = Intervals::default();
        for (start, end) in [("a", "c"), ("e", "g"), ("b", "f"), ("x", "y")] {
            intervals.insert(start.as_bytes(), end.as_bytes());
        }
        assert_eq!(intervals.by_start.len(), 2);
        for (key, inside) in [("a", true), ("d", true), ("f", true), ("g", false), ("x", true)] {
            assert_eq!(intervals.contains(key.as_bytes()), inside, "{key}");
        }
    }
}
