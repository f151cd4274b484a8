//! Tests of the checker: hand-made records it must accept or reject, and random ones.

mod bad_answers;
mod bad_ends;
mod bad_leases;
mod bad_watches;
mod bad_writes;
mod generate;
mod good;
mod mutate;
mod random;
mod world;

use crate::pb;
use crate::request;
use crate::robustness::history::Request;

/// A put of a text.
fn put(key: &'static str, value: &'static str) -> Request {
    Request::Put(request::put(key, value))
}

/// A put with a lease.
fn put_with(key: &'static str, value: &'static str, lease: i64) -> Request {
    Request::Put(pb::PutRequest { lease, ..request::put(key, value) })
}

/// A linearizable read.
fn get(key: &'static str) -> Request {
    Request::Range(request::get(key))
}

/// A read that may be stale.
fn stale_get(key: &'static str) -> Request {
    Request::Range(pb::RangeRequest { serializable: true, ..request::get(key) })
}

/// A read at a revision.
fn get_at(key: &'static str, revision: i64) -> Request {
    Request::Range(pb::RangeRequest { revision, ..request::get(key) })
}

/// A delete of one key.
fn delete(key: &'static str) -> Request {
    Request::Delete(request::delete(key))
}

/// A transaction without comparisons that puts two keys.
fn put_both(first: &'static str, second: &'static str, value: &'static str) -> Request {
    use request::IntoOp;
    let ops = vec![request::put(first, value).op(), request::put(second, value).op()];
    Request::Txn(request::then(ops))
}

/// A lease of some seconds.
fn grant(id: i64, ttl: i64) -> Request {
    Request::Grant(pb::LeaseGrantRequest { ttl, id })
}

/// The early end of a lease.
fn revoke(id: i64) -> Request {
    Request::Revoke(pb::LeaseRevokeRequest { id })
}

/// A renewal.
fn renew(id: i64) -> Request {
    Request::KeepAlive(pb::LeaseKeepAliveRequest { id })
}

/// A compaction.
fn compact(revision: i64) -> Request {
    Request::Compact(pb::CompactionRequest { revision, physical: false })
}
