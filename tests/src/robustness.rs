//! Clusters under load and faults, with a proof that nothing was promised and then broken.
//!
//! Clients record every call ([`history`]); [`check`] decides afterwards whether the record can be
//! the work of a correct store. It needs no search: every answer of etcd carries a revision, and
//! revisions are the total order, so a history is right if and only if
//!
//! - each revision of the final log is the effect of exactly one request that may have had it,
//! - each answer is what the log's state at its revision says,
//! - and revisions never contradict real time (reliability.md §3.2).
//!
//! Invariants:
//! - the checker does no I/O and reads no clock: the same record gives the same verdict;
//! - what a client could not know is never held against the server: a lost answer may have taken
//!   effect or not, at any time from its call on, but once;
//! - what the checker cannot decide it reports; it never passes something for want of data.

pub mod check;
pub mod describe;
pub mod history;
pub mod model;
pub mod requests;
pub mod store;

pub mod cluster;
pub mod failpoints;
pub mod faults;
pub mod member;
pub mod net;
pub mod report;
pub mod run;
mod settle;
mod steps;
pub mod traffic;
pub mod watchers;
pub mod wire;

#[cfg(test)]
mod tests;
