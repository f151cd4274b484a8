//! Ids, revisions, key ranges and every limit of etcd-rs by name.
//!
//! The bottom of the crate graph: plain values that every other crate names. No I/O, no clock, no
//! async, and no dependency on another crate of ours.
#![deny(missing_docs)]

mod ids;
pub mod limits;
mod range;
mod revision;

pub use crate::ids::{ClusterId, LeaseId, LogIndex, MemberId, Term};
pub use crate::range::{KeyRange, RangeEnd, prefix_end};
pub use crate::revision::{REVISION_KEY_BYTES, Revision, TOMBSTONE_KEY_BYTES};

/// Runs the example of README.md.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeExample;
