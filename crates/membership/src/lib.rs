//! Members of a cluster: ids, records, changes and their rules, versions.
//!
//! [`Cluster`] is the replicated list of members as the buckets `members`, `members_removed` and
//! `cluster` hold it, in etcd's JSON. It changes only by committed entries, sees no clock, and its
//! rows change in the same batch as its memory. Ids are pure functions of the configuration
//! ([`member_id`], [`cluster_id`]).
//!
//! A membership change goes three steps: the leader asks [`View::check`] whether it is allowed,
//! writes a [`ChangeRequest`] into the entry that also changes raft's voters, and every member
//! gives the committed entry to [`Cluster::apply`]. At start, when the log is replayed,
//! [`Cluster::compare`] holds the rows against raft's own membership.
//!
//! Invariants:
//! - An id is never used twice: a removed one stays in `members_removed` for ever.
//! - What is in memory equals the rows once the batch is written.
//! - What `apply` does depends on the applied entries alone, never on flags or reachability.
#![deny(missing_docs)]

mod change;
mod cluster;
mod compare;
mod ids;
mod record;
mod rules;
mod version;

pub use crate::change::{Change, ChangeRequest, DecodeError};
pub use crate::cluster::{Applied, Cluster, OpenError};
pub use crate::compare::Mismatch;
pub use crate::ids::{cluster_id, member_id};
pub use crate::record::MemberRecord;
pub use crate::rules::{HEALTH_MS, Policy, Refused, View};
pub use crate::version::{ParseVersionError, Version, negotiate};

/// Compiles the README's example.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeDoctests;
