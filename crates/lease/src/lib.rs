//! Leases: grant, renew, attach keys, expire.
//!
//! A [`Lessor`] has two halves. The *replicated* half (grant, revoke, attach, detach, checkpoint)
//! is driven by committed entries, sees no clock and is equal on every member. The *leader-local*
//! half (promote, renew, expire, time to live) exists between [`Lessor::promote`] and
//! [`Lessor::demote`]; time comes in as milliseconds of the caller's monotonic clock.
//!
//! Invariants:
//! - A lease is never offered for expiry early; it may live longer than its TTL.
//! - An expired lease that was not revoked is offered again after the retry interval, and cannot
//!   be renewed any more by the leader that saw it expire.
//! - A record of what is left of a lease never outlives a renewal that its client was told of.
//! - The row of a lease in [`Bucket::Lease`](etcdrs_backend::Bucket) changes in the same batch as
//!   the effect of the entry that changed it.
#![deny(missing_docs)]

mod expiry;
mod lessor;

pub use crate::lessor::{
    CheckpointState, GrantError, Lessor, NotFound, OpenError, Options, RenewError, TimeToLive,
    min_ttl_seconds,
};

/// Compiles the README's example.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeDoctests;
