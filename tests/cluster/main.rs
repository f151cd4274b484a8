//! Clusters of real processes: membership, leaders that come and go, members that were away, the
//! peer port, and the many ways a member may begin.
//!
//! Every test starts its own members on loopback and passes on a real etcd 3.5.1 as well, unless
//! it says why not. Names carry the rule or row they are about.
#![allow(clippy::unwrap_used, reason = "a failed step of a test is best shown where it happens")]

mod support;

mod bootstrap;
mod catch_up;
mod clocks;
mod ctl;
mod failover;
mod failpoints;
mod leases;
mod load;
mod membership;
mod metrics;
mod no_quorum;
mod orderly_stop;
mod peer_port;
mod refused;
mod rows_v3;
mod startup;
mod through_any;
mod timeouts;
mod write_path;
