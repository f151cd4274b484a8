//! One test, or a small group, for each row of v3-api.md §7 that the foundation must hold. A
//! function's name carries the row and the rule it shows; vectors of §3.17 are named in its doc.
//!
//! The suite runs against our server, and with `ETCD_RS_TEST_TARGET=/path/to/etcd` against a real
//! etcd 3.5.1; where 3.7 differs from that, a test asks `Difference`.
#![allow(clippy::unwrap_used, reason = "a failed step of a test is best shown where it happens")]

mod compaction;
mod lease;
mod maintenance;
mod put_delete;
mod range;
mod range_stream;
mod revisions;
mod support;
mod transport;
mod txn;
mod txn_checks;
mod watch;
mod watch_flow;
