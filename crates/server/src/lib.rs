//! The etcd-rs server: gRPC and HTTP services, configuration, wiring.
//!
//! [`run`] is the whole program; [`Server`] is the same inside another one:
//!
//! ```no_run
//! # async fn example() -> Result<(), etcdrs_server::StartError> {
//! use etcdrs_server::{Config, Server};
//! let server = Server::start(Config { data_dir: "demo.etcd".into(), ..Config::default() }).await?;
//! println!("clients connect to {}", server.client_urls()[0]);
//! server.stop().await;
//! # Ok(())
//! # }
//! ```
//!
//! Invariants:
//! - Nothing is acknowledged before it is durable and applied here.
//! - What takes long (big ranges, hashes, snapshots, compaction) runs on the blocking pool; the
//!   runtime's thread serves, proposes and applies.
//! - gRPC codes and texts come from one file, `api/status.rs`.
#![deny(missing_docs)]

mod api;
mod auto_compaction;
#[cfg(feature = "bench-hooks")]
pub mod bench_hooks;
pub(crate) mod bootstrap;
pub mod config;
mod grpc;
mod http;
mod listen;
mod logging;
mod metrics;
mod peers;
mod program;
mod server;

pub use crate::config::{Config, ConfigError, Url};
pub use crate::listen::SecurityError;
pub use crate::program::run;
pub use crate::server::{Fatal, Server, StartError};

/// The version told to clients: that of the etcd whose behaviour this server has.
pub const ETCD_VERSION: &str = "3.7.1";

/// Compiles the example of README.md.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeExample;
