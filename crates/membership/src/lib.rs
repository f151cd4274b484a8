//! Members of a cluster: ids, records, versions.
//!
//! [`Cluster`] is the replicated list of members as the buckets `members`, `members_removed` and
//! `cluster` hold it, in etcd's JSON. It changes only by committed entries, sees no clock, and its
//! rows change in the same batch as its memory. Ids are pure functions of the configuration
//! ([`member_id`], [`cluster_id`]).
//!
//! Invariants:
//! - An id is never used twice: a removed one stays in `members_removed` for ever.
//! - What is in memory equals the rows once the batch is written.
#![deny(missing_docs)]

mod cluster;
mod ids;
mod record;

pub use crate::cluster::{Cluster, OpenError};
pub use crate::ids::{cluster_id, member_id};
pub use crate::record::MemberRecord;

/// Compiles the README's example.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeDoctests;
