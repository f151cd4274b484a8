//! RocksDB column families as etcd's named buckets, with atomic batches.
//!
//! A [`Backend`] is one RocksDB directory. Rows live in [`Bucket`]s; a [`Batch`] changes any
//! number of them at once. RocksDB's own write-ahead log is off for every write, because the raft
//! log covers durability: after a crash the database is at some earlier batch, whole, and the
//! caller applies the rest again.
//!
//! Invariants:
//! - All buckets flush together (`atomic_flush`), so what a crash leaves is a prefix of the
//!   batches written. Fixed in code and checked at open.
//! - Nothing bypasses the memtables: no ingestion, no file deletion.
//! - A damaged block is an error of the read that meets it, never an answer.
//! - Column families keep the numbers that [`Bucket::ALL`] gives them.
//!
//! ```no_run
//! use etcdrs_backend::{Backend, Bucket, Options};
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let backend = Backend::open("/tmp/db".as_ref(), &Options::default())?;
//! let mut batch = backend.batch();
//! batch.put(Bucket::Meta, b"consistent_index", &7u64.to_be_bytes());
//! backend.write(batch)?;
//! assert_eq!(backend.get(Bucket::Meta, b"consistent_index")?.as_deref(), Some(&7u64.to_be_bytes()[..]));
//! # Ok(())
//! # }
//! ```

mod batch;
mod bucket;
mod check;
mod error;
mod export;
mod options;
mod rows;
mod store;

pub use crate::batch::Batch;
pub use crate::bucket::Bucket;
pub use crate::error::{Error, OnDamage, OpenError};
pub use crate::export::Export;
pub use crate::options::Options;
pub use crate::rows::{Row, Rows, Scan};
pub use crate::store::{Backend, MemoryUsage, Sizes, Snapshot};
