//! What can go wrong.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use rocksdb::ErrorKind;

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
    /// The file that names the manifest is damaged, or names one that is not there.
    #[error("database pointer {path:?} is damaged: it names {found:?}")]
    Pointer {
        /// The file.
        path: PathBuf,
        /// What it holds.
        found: String,
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

    /// As [`Self::new`] for what reads: damage is told to whoever asked to hear of it.
    pub(crate) fn reading(
        operation: &'static str,
        listener: Option<&OnDamage>,
    ) -> impl Fn(rocksdb::Error) -> Self {
        move |source| {
            let is_damage = matches!(source.kind(), ErrorKind::Corruption | ErrorKind::IOError);
            if let Some(OnDamage(tell)) = listener.filter(|_| is_damage) {
                tell(&format!("{operation} database: {source}"));
            }
            Self { operation, source }
        }
    }
}

/// Hears of a file that cannot be read or whose checksum is wrong, in words that name the file.
///
/// The read that met it fails too. But callers far away see an error of one request, and what is
/// wrong is the whole member: its files rot, and other damage may not have a checksum.
#[derive(Clone)]
pub struct OnDamage(pub Arc<dyn Fn(&str) + Send + Sync>);

impl fmt::Debug for OnDamage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OnDamage")
    }
}
