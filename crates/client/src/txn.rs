//! Transactions: compares, then one of two lists of operations, atomically.

use bytes::Bytes;

use crate::channel::Client;
use crate::error::Error;
use crate::kv::{Delete, Get, Put};
use crate::pb;
use crate::pb::compare::{CompareResult, CompareTarget, TargetUnion};
use crate::pb::request_op::Request;
use crate::retry::Rpc;

/// Not repeated even when it only reads, as in etcd's client.
const TXN: Rpc = Rpc::once("/etcdserverpb.KV/Txn");

/// A condition on one key (or, with [`Compare::range_end`], on each key of a range).
#[derive(Clone, Debug, PartialEq)]
#[must_use]
pub struct Compare(pb::Compare);

impl Compare {
    fn new(
        key: impl Into<Bytes>,
        target: CompareTarget,
        result: CompareResult,
        union: TargetUnion,
    ) -> Self {
        Self(pb::Compare {
            result: result.into(),
            target: target.into(),
            key: key.into(),
            target_union: Some(union),
            ..Default::default()
        })
    }

    /// On how often the key was written since it was created; 0 for an absent key.
    pub fn version(key: impl Into<Bytes>, result: CompareResult, version: i64) -> Self {
        Self::new(key, CompareTarget::Version, result, TargetUnion::Version(version))
    }

    /// On the revision that created the key; 0 for an absent key.
    pub fn create_revision(key: impl Into<Bytes>, result: CompareResult, revision: i64) -> Self {
        Self::new(key, CompareTarget::Create, result, TargetUnion::CreateRevision(revision))
    }

    /// On the revision that last wrote the key; 0 for an absent key.
    pub fn mod_revision(key: impl Into<Bytes>, result: CompareResult, revision: i64) -> Self {
        Self::new(key, CompareTarget::Mod, result, TargetUnion::ModRevision(revision))
    }

    /// On the value, bytewise; false for an absent key.
    pub fn value(key: impl Into<Bytes>, result: CompareResult, value: impl Into<Bytes>) -> Self {
        Self::new(key, CompareTarget::Value, result, TargetUnion::Value(value.into()))
    }

    /// On the lease the key is attached to; 0 for none.
    pub fn lease(key: impl Into<Bytes>, result: CompareResult, id: i64) -> Self {
        Self::new(key, CompareTarget::Lease, result, TargetUnion::Lease(id))
    }

    /// The condition must hold for every key from the given one up to this end.
    pub fn range_end(mut self, end: impl Into<Bytes>) -> Self {
        self.0.range_end = end.into();
        self
    }
}

impl From<pb::Compare> for Compare {
    fn from(compare: pb::Compare) -> Self {
        Self(compare)
    }
}

/// One operation of a transaction.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    /// Reads keys.
    Get(Get),
    /// Writes a key.
    Put(Put),
    /// Removes keys.
    Delete(Delete),
    /// A transaction in the transaction.
    Txn(Txn),
}

impl From<Get> for Op {
    fn from(get: Get) -> Self {
        Self::Get(get)
    }
}

impl From<Put> for Op {
    fn from(put: Put) -> Self {
        Self::Put(put)
    }
}

impl From<Delete> for Op {
    fn from(delete: Delete) -> Self {
        Self::Delete(delete)
    }
}

impl From<Txn> for Op {
    fn from(txn: Txn) -> Self {
        Self::Txn(txn)
    }
}

impl From<Op> for pb::RequestOp {
    fn from(op: Op) -> Self {
        let request = match op {
            Op::Get(get) => Request::RequestRange(get.into()),
            Op::Put(put) => Request::RequestPut(put.into()),
            Op::Delete(delete) => Request::RequestDeleteRange(delete.into()),
            Op::Txn(txn) => Request::RequestTxn(txn.0),
        };
        Self { request: Some(request) }
    }
}

/// A transaction being put together; every method adds to its list.
///
/// ```
/// use etcdrs_client::{Compare, Get, Put, Txn, pb::compare::CompareResult};
///
/// let create = Txn::new()
///     .when([Compare::create_revision("k", CompareResult::Equal, 0)])
///     .and_then([Put::new("k", "v")])
///     .or_else([Get::key("k")]);
/// # let _ = create;
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
#[must_use]
pub struct Txn(pb::TxnRequest);

impl Txn {
    /// Always succeeds and does nothing, until something is added.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds conditions; all must hold for success.
    pub fn when(mut self, compares: impl IntoIterator<Item = Compare>) -> Self {
        self.0.compare.extend(compares.into_iter().map(|compare| compare.0));
        self
    }

    /// Adds operations for success.
    pub fn and_then<O: Into<Op>>(mut self, ops: impl IntoIterator<Item = O>) -> Self {
        self.0.success.extend(ops.into_iter().map(|op| pb::RequestOp::from(op.into())));
        self
    }

    /// Adds operations for failure.
    pub fn or_else<O: Into<Op>>(mut self, ops: impl IntoIterator<Item = O>) -> Self {
        self.0.failure.extend(ops.into_iter().map(|op| pb::RequestOp::from(op.into())));
        self
    }
}

impl From<pb::TxnRequest> for Txn {
    fn from(request: pb::TxnRequest) -> Self {
        Self(request)
    }
}

impl Client {
    /// Runs a transaction. Never sent twice.
    ///
    /// # Errors
    /// As [`Client::put`].
    pub async fn txn(&self, txn: impl Into<Txn>) -> Result<pb::TxnResponse, Error> {
        self.call(TXN, txn.into().0).await
    }
}
