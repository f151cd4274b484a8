//! The database as a snapshot: sent, received, and put in place of the one in use.
//!
//! A sender makes a checkpoint of its database in a [`DbDirs::sending_dir`] and streams it with
//! [`OutgoingDb`]. A receiver writes the stream with [`IncomingDb`], looks at what came, keeps it
//! with [`ReceivedDb::keep`], and makes it the one to be opened with [`DbDirs::switch_to`].

mod dirs;
mod incoming;
mod manifest;
mod outgoing;

use std::io;
use std::path::{Path, PathBuf};

use etcdrs_platform::Fs;
use etcdrs_types::LogIndex;

pub use self::dirs::DbDirs;
pub(crate) use self::dirs::is_ours;
pub use self::incoming::{IncomingDb, IncomingError, ReceivedDb};
pub use self::manifest::{DbFile, Manifest, ManifestError};
pub use self::outgoing::{CHUNK_BYTES, OutgoingDb, OutgoingReader};

/// Why something could not be done with the databases on this disk.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DbError {
    /// The file system refused.
    #[error("{operation} {}", path.display())]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On which path.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The pointer file is not as it was written.
    #[error("{} is damaged: it does not name a database directory", path.display())]
    Pointer {
        /// The pointer file.
        path: PathBuf,
    },
    /// A database directory that should be there is not.
    #[error("database directory {} is missing", path.display())]
    Missing {
        /// The directory.
        path: PathBuf,
    },
    /// The database in use was about to be overwritten or removed.
    #[error("database directory {} is in use", path.display())]
    Live {
        /// The directory.
        path: PathBuf,
    },
    /// Another transfer of the same snapshot is under way, or was received and is looked at.
    #[error("snapshot {index} is being received already")]
    Exists {
        /// Its index.
        index: LogIndex,
    },
    /// A directory to be sent holds what no receiver would take.
    #[error("{} cannot be sent", path.display())]
    Content {
        /// The directory.
        path: PathBuf,
        /// Why not.
        source: ManifestError,
    },
}

fn failed(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> DbError {
    let path = path.to_owned();
    move |source| DbError::Io { operation, path, source }
}

/// A directory that goes away with this value, unless it is kept.
#[derive(Debug)]
struct Temporary<F: Fs> {
    fs: F,
    path: PathBuf,
    kept: bool,
}

impl<F: Fs> Temporary<F> {
    fn new(fs: F, path: PathBuf) -> Self {
        Self { fs, path, kept: false }
    }
}

impl<F: Fs> Drop for Temporary<F> {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        // The next start removes it as well.
        if let Err(error) = self.fs.remove_dir_all(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "could not remove directory");
        }
    }
}

#[cfg(test)]
mod tests;
