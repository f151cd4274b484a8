//! Transactions: compares first, checks next, then the branch that was chosen (v3-api.md §3.6).

use std::cmp::Ordering;

use etcdrs_lease::Lessor;
use etcdrs_mvcc::{KvFields, RangeError, RangeQuery, RangeResult, Reader, Txn};
use etcdrs_platform::failpoint::strikes;
use etcdrs_proto::etcdserverpb as pb;
use etcdrs_types::KeyRange;
use pb::compare::{CompareResult, CompareTarget, TargetUnion};
use pb::request_op::Request;

use crate::error::{ApplyError, Refusal};
use crate::kv;
use crate::outcome::{OpResult, TxnAnswer};

/// What compares and checks read: a write transaction before its first change, or a reader.
trait View {
    fn range(&self, query: &RangeQuery) -> Result<RangeResult, RangeError>;
}

impl View for Txn<'_, '_> {
    fn range(&self, query: &RangeQuery) -> Result<RangeResult, RangeError> {
        Txn::range(self, query)
    }
}

/// A reader held at one revision.
struct Pinned<'a> {
    reader: &'a Reader,
    revision: i64,
}

impl View for Pinned<'_> {
    fn range(&self, query: &RangeQuery) -> Result<RangeResult, RangeError> {
        let pinned;
        let query = if query.revision <= 0 {
            pinned = RangeQuery { revision: self.revision, ..query.clone() };
            &pinned
        } else {
            query
        };
        let mut result = self.reader.range(query)?;
        result.revision = self.revision;
        Ok(result)
    }
}

/// A transaction that is shown an old state: a planted fault.
struct Stale<'a, 'b, 'c> {
    txn: &'a Txn<'b, 'c>,
    revision: i64,
}

impl View for Stale<'_, '_, '_> {
    fn range(&self, query: &RangeQuery) -> Result<RangeResult, RangeError> {
        self.txn.range(&RangeQuery { revision: self.revision, ..query.clone() })
    }
}

/// Which branch each transaction of a request takes, in the order of a walk down the taken
/// branches. All compares are evaluated before anything runs (TX-06).
fn choose(view: &impl View, txn: &pb::TxnRequest, path: &mut Vec<bool>) -> Result<(), RangeError> {
    let mut holds = true;
    for compare in &txn.compare {
        if !compare_holds(view, compare)? {
            holds = false;
            break;
        }
    }
    path.push(holds);
    for op in branch(txn, holds) {
        if let Some(Request::RequestTxn(nested)) = &op.request {
            choose(view, nested, path)?;
        }
    }
    Ok(())
}

fn branch(txn: &pb::TxnRequest, succeeded: bool) -> &[pb::RequestOp] {
    if succeeded { &txn.success } else { &txn.failure }
}

fn compare_holds(view: &impl View, compare: &pb::Compare) -> Result<bool, RangeError> {
    let target = CompareTarget::try_from(compare.target);
    let range = KeyRange::from_wire(compare.key.clone(), compare.range_end.clone());
    let query = RangeQuery::new(range);
    let found = view.range(&query)?.kvs;
    if found.is_empty() {
        // An absent key has no value to compare, not even an unequal one (TX-07).
        let absent = KvFields::default();
        return Ok(target != Ok(CompareTarget::Value) && pair_holds(compare, target, &absent));
    }
    Ok(found
        .iter()
        .all(|stored| stored.fields().is_some_and(|fields| pair_holds(compare, target, &fields))))
}

fn pair_holds(
    compare: &pb::Compare,
    target: Result<CompareTarget, prost::UnknownEnumValue>,
    kv: &KvFields<'_>,
) -> bool {
    // An operand of another target counts as zero or empty (TX-09).
    let ordering = match (target, &compare.target_union) {
        (Ok(CompareTarget::Version), Some(TargetUnion::Version(v))) => kv.version.cmp(v),
        (Ok(CompareTarget::Version), _) => kv.version.cmp(&0),
        (Ok(CompareTarget::Create), Some(TargetUnion::CreateRevision(v))) => {
            kv.create_revision.cmp(v)
        }
        (Ok(CompareTarget::Create), _) => kv.create_revision.cmp(&0),
        (Ok(CompareTarget::Mod), Some(TargetUnion::ModRevision(v))) => kv.mod_revision.cmp(v),
        (Ok(CompareTarget::Mod), _) => kv.mod_revision.cmp(&0),
        (Ok(CompareTarget::Lease), Some(TargetUnion::Lease(v))) => kv.lease.0.cmp(v),
        (Ok(CompareTarget::Lease), _) => kv.lease.0.cmp(&0),
        (Ok(CompareTarget::Value), Some(TargetUnion::Value(v))) => kv.value.cmp(&v[..]),
        (Ok(CompareTarget::Value), _) => kv.value.cmp(&[][..]),
        (Err(_), _) => Ordering::Equal,
    };
    match CompareResult::try_from(compare.result) {
        Ok(CompareResult::Equal) => ordering.is_eq(),
        Ok(CompareResult::NotEqual) => ordering.is_ne(),
        Ok(CompareResult::Greater) => ordering.is_gt(),
        Ok(CompareResult::Less) => ordering.is_lt(),
        Err(_) => true,
    }
}

/// A walk down the branches that [`choose`] chose.
struct Path<'a> {
    chosen: std::slice::Iter<'a, bool>,
}

impl<'a> Path<'a> {
    fn new(chosen: &'a [bool]) -> Self {
        Self { chosen: chosen.iter() }
    }

    fn next(&mut self) -> bool {
        *self.chosen.next().expect("choose() pushed one turn for each transaction on the path")
    }
}

/// Revisions that a range may name.
#[derive(Clone, Copy)]
pub(crate) struct Bounds {
    pub(crate) current: i64,
    pub(crate) compacted: i64,
}

/// Checks every range revision on the path (TX-11). Negative revisions are compared as they are:
/// unlike a plain range, below -1 is always compacted.
fn check_ranges(bounds: Bounds, txn: &pb::TxnRequest, path: &mut Path<'_>) -> Result<(), Refusal> {
    let succeeded = path.next();
    for op in branch(txn, succeeded) {
        match &op.request {
            Some(Request::RequestRange(range)) if range.revision != 0 => {
                if range.revision > bounds.current {
                    return Err(Refusal::FutureRevision);
                }
                if range.revision < bounds.compacted {
                    return Err(Refusal::Compacted);
                }
            }
            Some(Request::RequestTxn(nested)) => check_ranges(bounds, nested, path)?,
            _ => {}
        }
    }
    Ok(())
}

/// Checks every put on the path (TX-11).
fn check_puts(
    view: &Txn<'_, '_>,
    lessor: &Lessor,
    txn: &pb::TxnRequest,
    path: &mut Path<'_>,
) -> Result<(), Refusal> {
    let succeeded = path.next();
    for op in branch(txn, succeeded) {
        match &op.request {
            Some(Request::RequestPut(put)) => kv::check_txn_put(view, lessor, put)?,
            Some(Request::RequestTxn(nested)) => check_puts(view, lessor, nested, path)?,
            _ => {}
        }
    }
    Ok(())
}

/// Runs a write transaction. A refusal leaves the store untouched.
pub(crate) fn write(
    txn: &mut Txn<'_, '_>,
    lessor: &mut Lessor,
    bounds: Bounds,
    request: &pb::TxnRequest,
) -> Result<Result<TxnAnswer, Refusal>, ApplyError> {
    let mut chosen = Vec::with_capacity(1);
    if strikes("planted-stale-compare", 0) {
        let revision = (bounds.current - 8).max(bounds.compacted).max(1);
        choose(&Stale { txn, revision }, request, &mut chosen)?;
    } else {
        choose(&*txn, request, &mut chosen)?;
    }
    let checked = check_puts(txn, lessor, request, &mut Path::new(&chosen))
        .and_then(|()| check_ranges(bounds, request, &mut Path::new(&chosen)));
    if let Err(refusal) = checked {
        return Ok(Err(refusal));
    }
    run(txn, lessor, request, &mut Path::new(&chosen)).map(Ok)
}

fn run(
    txn: &mut Txn<'_, '_>,
    lessor: &mut Lessor,
    request: &pb::TxnRequest,
    path: &mut Path<'_>,
) -> Result<TxnAnswer, ApplyError> {
    let succeeded = path.next();
    let ops = branch(request, succeeded);
    let mut results = Vec::with_capacity(ops.len());
    for op in ops {
        results.push(match &op.request {
            Some(Request::RequestRange(range)) => {
                OpResult::Range(txn.range(&kv::range_query(range))?)
            }
            Some(Request::RequestPut(put)) => {
                let done = kv::put(txn, lessor, put)?;
                OpResult::Put { revision: done.revision, prev: done.prev }
            }
            Some(Request::RequestDeleteRange(delete)) => {
                let done = kv::delete(txn, lessor, delete)?;
                OpResult::Delete { revision: done.revision, deleted: done.deleted, prev: done.prev }
            }
            Some(Request::RequestTxn(nested)) => OpResult::Txn(run(txn, lessor, nested, path)?),
            // Refused before it was proposed; answered like a read of nothing if it ever comes.
            None => continue,
        });
    }
    Ok(TxnAnswer { succeeded, results })
}

/// Runs a transaction that only reads (TX-12) at the reader's current revision, which is returned
/// beside the answer.
///
/// # Errors
///
/// [`RangeError::Compacted`] or [`RangeError::Future`] as TX-11 says, and failures of the backend.
pub fn read_only_txn(
    reader: &Reader,
    request: &pb::TxnRequest,
) -> Result<(i64, TxnAnswer), RangeError> {
    let view = Pinned { reader, revision: reader.current_revision() };
    let mut chosen = Vec::with_capacity(1);
    choose(&view, request, &mut chosen)?;
    let bounds = Bounds { current: view.revision, compacted: reader.compact_revision() };
    check_ranges(bounds, request, &mut Path::new(&chosen)).map_err(|refusal| match refusal {
        Refusal::FutureRevision => RangeError::Future,
        _ => RangeError::Compacted,
    })?;
    let succeeded = chosen[0];
    let mut results = Vec::new();
    for op in branch(request, succeeded) {
        if let Some(Request::RequestRange(range)) = &op.request {
            results.push(OpResult::Range(view.range(&kv::range_query(range))?));
        }
    }
    Ok((view.revision, TxnAnswer { succeeded, results }))
}

/// Whether a put stands anywhere in the transaction, in either branch.
#[must_use]
pub fn has_put(txn: &pb::TxnRequest) -> bool {
    txn.success.iter().chain(&txn.failure).any(|op| match &op.request {
        Some(Request::RequestPut(_)) => true,
        Some(Request::RequestTxn(nested)) => has_put(nested),
        _ => false,
    })
}
