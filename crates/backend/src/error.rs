//! What can go wrong.

use std::path::PathBuf;

/// Why a database could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process, or this one, has it open.
    #[error("database {path:?} is in use by another process")]
    Locked {
        /// The directory.
        path: PathBuf,
    },
    /// There is no database, and none was to be made.
    #[error("no database in {path:?}")]
    Missing {
        /// The directory.
        path: PathBuf,
    },
    /// The directory holds something that this version does not read.
    #[error("database {path:?} has format {found:?}, this version reads {expected:?}")]
    Format {
        /// The directory.
        path: PathBuf,
        /// What the marker says; empty if there is none in a database that is not new.
        found: String,
        /// What it must say.
        expected: &'static str,
    },
    /// RocksDB does not run with the options that durability depends on.
    #[error("database {path:?}: atomic flush is not in effect")]
    NotAtomic {
        /// The directory.
        path: PathBuf,
    },
    /// The column families do not have the numbers that batches are written with.
    #[error("database {path:?}: column family {name} has number {found}, expected {expected}")]
    FamilyId {
        /// The directory.
        path: PathBuf,
        /// The column family.
        name: &'static str,
        /// Its number.
        found: u64,
        /// What it should be.
        expected: u64,
    },
    /// RocksDB refused.
    #[error("open database {path:?}")]
    Engine {
        /// The directory.
        path: PathBuf,
        /// What it said.
        source: rocksdb::Error,
    },
    /// The options file could not be read back.
    #[error("read options of database {path:?}")]
    Io {
        /// The directory.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
}

/// A failed operation of an open database.
#[derive(Debug, thiserror::Error)]
#[error("{operation} database")]
pub struct Error {
    operation: &'static str,
    source: rocksdb::Error,
}

impl Error {
    pub(crate) fn new(operation: &'static str) -> impl Fn(rocksdb::Error) -> Self {
        move |source| Self { operation, source }
    }
}
