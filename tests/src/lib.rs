//! What the tests of the whole product share: a harness that runs server processes, raw gRPC
//! clients, watch sessions, and the random generator of the differential test.
//!
//! Everything here works against two kinds of servers: ours, and a real etcd. Tests are first made
//! to pass on the real one, so that they state what etcd does and not what we believe it does; the
//! few places where our target (3.7) and the etcd at hand (3.5.1) part are listed in
//! [`difference`].
//!
//! Invariants:
//! - a process is ended by its own id, and at the latest when its [`server::Server`] is dropped;
//! - a server that panicked fails the test that owns it, even if all its answers were right;
//! - servers listen on loopback only.
#![allow(clippy::unwrap_used, reason = "a failed step of a test is best shown where it happens")]

pub mod client;
pub mod cluster;
pub mod difference;
pub mod differential;
pub mod errors;
pub mod http;
pub mod log;
pub mod random;
pub mod raw;
pub mod request;
pub mod robustness;
pub mod server;
pub mod target;
pub mod watch;

pub use etcdrs_proto::{etcdserverpb as pb, mvccpb};
