//! Typed async client for etcd 3.4 and later and for etcd-rs.
//!
//! One [`Client`] is a cheap handle on a set of connections, one per endpoint. Calls go round
//! robin over the endpoints; keys and values are [`bytes::Bytes`] from the socket to the caller.
//!
//! ```no_run
//! use etcdrs_client::{Client, Config, Get, Put, WatchOptions};
//!
//! # async fn run() -> Result<(), etcdrs_client::Error> {
//! let client = Client::connect(Config::new(["127.0.0.1:2379"])).await?;
//! client.put(Put::new("greeting", "hello")).await?;
//! let answer = client.get(Get::key("greeting")).await?;
//! assert_eq!(answer.kvs[0].value, "hello");
//!
//! let mut watcher = client.watch(WatchOptions::prefix("greet")).await?;
//! while let Some(update) = watcher.next().await? {
//!     println!("{} events", update.events.len());
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # Invariants
//! - A request that writes is sent again only if it has certainly never reached a server.
//! - A [`Watcher`] delivers revisions in order and without gaps, over any number of broken
//!   connections, until it ends with an error that says why (a compaction, say).
//! - Every queue between a connection and a caller is bounded.

mod channel;
mod cluster;
mod config;
mod dial;
mod discovery;
mod error;
mod kv;
mod lease;
mod maintenance;
mod retry;
mod txn;
mod watch;

pub use etcdrs_proto::etcdserverpb as pb;
pub use etcdrs_proto::mvccpb;
pub use etcdrs_tls as tls;

pub use crate::channel::Client;
pub use crate::config::{Config, Credentials};
pub use crate::discovery::discover_endpoints;
pub use crate::error::{Error, ErrorKind};
pub use crate::kv::{Delete, Get, Put};
pub use crate::lease::{KeepAlive, LeaseStream};
pub use crate::maintenance::SnapshotStream;
pub use crate::txn::{Compare, Op, Txn};
pub use crate::watch::{WatchOptions, WatchStream, Watcher};

/// Compiles the example of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
