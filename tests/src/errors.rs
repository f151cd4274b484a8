//! Codes and texts of v3-api.md §4 that the tests expect, and the check for them.

use std::fmt::Debug;

use tonic::{Code, Status};

/// A code with its exact text.
pub type Expected = (Code, &'static str);

/// A key is missing.
pub const EMPTY_KEY: Expected = (Code::InvalidArgument, "etcdserver: key is not provided");
/// An operation that needs an existing key, or an operation without a variant.
pub const KEY_NOT_FOUND: Expected = (Code::InvalidArgument, "etcdserver: key not found");
/// `ignore_value` with a value.
pub const VALUE_PROVIDED: Expected = (Code::InvalidArgument, "etcdserver: value is provided");
/// `ignore_lease` with a lease.
pub const LEASE_PROVIDED: Expected = (Code::InvalidArgument, "etcdserver: lease is provided");
/// A transaction over `max-txn-ops`.
pub const TOO_MANY_OPS: Expected =
    (Code::InvalidArgument, "etcdserver: too many operations in txn request");
/// Overlapping writes in one branch.
pub const DUPLICATE_KEY: Expected =
    (Code::InvalidArgument, "etcdserver: duplicate key given in txn request");
/// A sort enum outside its numbers.
pub const INVALID_SORT_OPTION: Expected =
    (Code::InvalidArgument, "etcdserver: invalid sort option");
/// Below the compacted revision.
pub const COMPACTED: Expected =
    (Code::OutOfRange, "etcdserver: mvcc: required revision has been compacted");
/// Above the current revision.
pub const FUTURE_REVISION: Expected =
    (Code::OutOfRange, "etcdserver: mvcc: required revision is a future revision");
/// Unknown lease.
pub const LEASE_NOT_FOUND: Expected = (Code::NotFound, "etcdserver: requested lease not found");
/// Lease id in use.
pub const LEASE_EXISTS: Expected = (Code::FailedPrecondition, "etcdserver: lease already exists");
/// TTL over nine billion seconds.
pub const LEASE_TTL_TOO_LARGE: Expected = (Code::OutOfRange, "etcdserver: too large lease TTL");
/// A proposal over `max-request-bytes`.
pub const REQUEST_TOO_LARGE: Expected = (Code::InvalidArgument, "etcdserver: request is too large");
/// MoveLeader to a member that cannot take it.
pub const BAD_LEADER_TRANSFEREE: Expected =
    (Code::FailedPrecondition, "etcdserver: bad leader transferee");
/// MoveLeader on a member that does not lead.
pub const NOT_LEADER: Expected = (Code::FailedPrecondition, "etcdserver: not leader");
/// The syntax of a new member's URLs.
pub const MEMBER_BAD_URLS: Expected =
    (Code::InvalidArgument, "etcdserver: given member URLs are invalid");
/// A peer URL of another member.
pub const PEER_URL_EXISTS: Expected =
    (Code::FailedPrecondition, "etcdserver: Peer URLs already exists");
/// An id that is unknown or was removed.
pub const MEMBER_NOT_FOUND: Expected = (Code::NotFound, "etcdserver: member not found");
/// Promotion of a voter.
pub const MEMBER_NOT_LEARNER: Expected =
    (Code::FailedPrecondition, "etcdserver: can only promote a learner member");
/// Promotion of a learner that is behind.
pub const LEARNER_NOT_READY: Expected = (
    Code::FailedPrecondition,
    "etcdserver: can only promote a learner member which is in sync with leader",
);
/// More than `--max-learners`.
pub const TOO_MANY_LEARNERS: Expected =
    (Code::FailedPrecondition, "etcdserver: too many learner members in cluster");
/// The strict check of who has started; declared with another code, but this one is on the wire
/// (ER-1).
pub const NOT_ENOUGH_STARTED: Expected =
    (Code::Unknown, "etcdserver: re-configuration failed due to not enough started members");
/// The strict check of who is connected.
pub const UNHEALTHY: Expected = (Code::Unavailable, "etcdserver: unhealthy cluster");
/// A call that wants a leader where none is known.
pub const NO_LEADER: Expected = (Code::Unavailable, "etcdserver: no leader");

/// Fails unless `result` is exactly this error.
#[track_caller]
pub fn expect_error<T: Debug>(result: Result<T, Status>, expected: Expected) {
    match result {
        Ok(answer) => panic!("expected {expected:?}, got {answer:?}"),
        Err(status) => assert_eq!((status.code(), status.message()), expected),
    }
}
