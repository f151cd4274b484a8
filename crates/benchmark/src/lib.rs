//! Load generator for any etcd, in the manner of etcd's own benchmark tool.
//!
//! It measures from outside: latencies and throughput as a client sees them, and, given the server's
//! process ids, what an operation costs the server in processor time and memory. Since it usually
//! shares a machine with the server, it is built to be cheap: an HTTP/2 client of its own
//! ([`http2`]), one thread, no task or allocation per request beyond the messages.
//!
//! A load is a [`workload::Workload`], which makes requests, and a [`run::Plan`], which says how many
//! clients send them over how many connections. [`run::run`] gives a [`report::Report`].
//!
//! Invariants: each client has one operation under way at a time (a closed loop), as etcd's tool has
//! it; with a rate, clients wait for their turn before they send, and the wait is not latency.

pub mod cli;
pub mod clock;
pub mod hpack;
pub mod http2;
pub mod io;
pub mod report;
pub mod run;
pub mod scan;
pub mod stall;
pub mod usage;
pub mod watch;
pub mod workload;

/// Runs the example of README.md.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeExample;
