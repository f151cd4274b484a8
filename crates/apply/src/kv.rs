//! Single key-value requests, and the translation of a range request.

use bytes::Bytes;
use etcdrs_lease::Lessor;
use etcdrs_mvcc::{RangeError, RangeQuery, SortOrder, SortTarget, StoredKv, Txn};
use etcdrs_platform::failpoint::strikes;
use etcdrs_proto::etcdserverpb as pb;
use etcdrs_types::{KeyRange, LeaseId};

use crate::error::{ApplyError, Refusal};

/// What a put did.
pub(crate) struct Put {
    pub(crate) revision: i64,
    pub(crate) prev: Option<StoredKv>,
}

/// What a delete did.
pub(crate) struct Delete {
    pub(crate) revision: i64,
    pub(crate) deleted: i64,
    pub(crate) prev: Vec<StoredKv>,
}

/// Translates a request into a query of the store. Numbers outside the enums were refused before
/// (RG-01); they fall back to the default here, so that replay never depends on them.
#[must_use]
pub fn range_query(request: &pb::RangeRequest) -> RangeQuery {
    use pb::range_request as wire;
    RangeQuery {
        range: KeyRange::from_wire(request.key.clone(), request.range_end.clone()),
        revision: request.revision,
        limit: usize::try_from(request.limit).unwrap_or(0),
        order: match wire::SortOrder::try_from(request.sort_order) {
            Ok(wire::SortOrder::Ascend) => SortOrder::Ascend,
            Ok(wire::SortOrder::Descend) => SortOrder::Descend,
            Ok(wire::SortOrder::None) | Err(_) => SortOrder::None,
        },
        target: match wire::SortTarget::try_from(request.sort_target) {
            Ok(wire::SortTarget::Version) => SortTarget::Version,
            Ok(wire::SortTarget::Create) => SortTarget::Create,
            Ok(wire::SortTarget::Mod) => SortTarget::Mod,
            Ok(wire::SortTarget::Value) => SortTarget::Value,
            Ok(wire::SortTarget::Key) | Err(_) => SortTarget::Key,
        },
        keys_only: request.keys_only,
        count_only: request.count_only,
        min_mod_revision: request.min_mod_revision,
        max_mod_revision: request.max_mod_revision,
        min_create_revision: request.min_create_revision,
        max_create_revision: request.max_create_revision,
        leave_cold: false,
    }
}

/// The refusal that a range error stands for, or the failure it is.
pub(crate) fn refused(error: RangeError) -> Result<Refusal, ApplyError> {
    match error {
        RangeError::Compacted => Ok(Refusal::Compacted),
        RangeError::Future => Ok(Refusal::FutureRevision),
        failure => Err(ApplyError::Read(failure)),
    }
}

/// What a put by itself needs to hold before it runs (PD-02): etcd looks at the lease first.
pub(crate) fn check_put(
    txn: &Txn<'_, '_>,
    lessor: &Lessor,
    put: &pb::PutRequest,
) -> Result<(), Refusal> {
    check_lease(lessor, put)?;
    check_key(txn, put)
}

/// What a put inside a transaction needs to hold (TX-11): etcd looks at the key first.
pub(crate) fn check_txn_put(
    txn: &Txn<'_, '_>,
    lessor: &Lessor,
    put: &pb::PutRequest,
) -> Result<(), Refusal> {
    check_key(txn, put)?;
    check_lease(lessor, put)
}

fn check_key(txn: &Txn<'_, '_>, put: &pb::PutRequest) -> Result<(), Refusal> {
    let needed = put.ignore_value || put.ignore_lease;
    if needed && txn.lookup(&put.key).is_none() { Err(Refusal::KeyNotFound) } else { Ok(()) }
}

fn check_lease(lessor: &Lessor, put: &pb::PutRequest) -> Result<(), Refusal> {
    let id = LeaseId(put.lease);
    if id.is_some() && !lessor.contains(id) { Err(Refusal::LeaseNotFound) } else { Ok(()) }
}

/// Runs a put that [`check_put`] passed.
pub(crate) fn put(
    txn: &mut Txn<'_, '_>,
    lessor: &mut Lessor,
    request: &pb::PutRequest,
) -> Result<Put, ApplyError> {
    let previous =
        if request.prev_kv || request.ignore_value { txn.get(&request.key)? } else { None };
    let value = match &previous {
        Some(stored) if request.ignore_value => stored.value_bytes(),
        _ => request.value.clone(),
    };
    let lease = if request.ignore_lease {
        txn.lookup(&request.key).map_or(LeaseId::NONE, |meta| meta.lease)
    } else {
        LeaseId(request.lease)
    };
    let done = txn.put(&request.key, &value, lease);
    let old_lease = done.previous.map_or(LeaseId::NONE, |meta| meta.lease);
    if old_lease != lease {
        lessor.detach(old_lease, &request.key);
        lessor.attach(lease, &request.key);
    }
    let mut prev = previous.filter(|_| request.prev_kv);
    if strikes("planted-older-prev", 0) && prev.is_some() {
        prev = older(txn, &request.key);
    }
    Ok(Put { revision: done.revision.main, prev })
}

/// A pair of some revisions ago.
fn older(txn: &Txn<'_, '_>, key: &Bytes) -> Option<StoredKv> {
    let revision = (txn.revision() - 10).max(1);
    let query = RangeQuery { revision, ..RangeQuery::new(KeyRange::single(key.clone())) };
    txn.range(&query).ok()?.kvs.pop()
}

/// Runs a delete.
pub(crate) fn delete(
    txn: &mut Txn<'_, '_>,
    lessor: &mut Lessor,
    request: &pb::DeleteRangeRequest,
) -> Result<Delete, ApplyError> {
    let range = KeyRange::from_wire(request.key.clone(), request.range_end.clone());
    let prev =
        if request.prev_kv { txn.range(&RangeQuery::new(range.clone()))?.kvs } else { Vec::new() };
    let deleted = txn.delete_range(&range);
    for gone in &deleted {
        lessor.detach(gone.meta.lease, &gone.key);
    }
    Ok(Delete {
        revision: txn.revision(),
        deleted: i64::try_from(deleted.len()).unwrap_or(i64::MAX),
        prev,
    })
}
