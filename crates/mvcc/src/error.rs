//! What can go wrong.

use etcdrs_types::Revision;

/// Why a read was refused or failed.
#[derive(Debug, thiserror::Error)]
pub enum RangeError {
    /// The revision is older than the compacted one.
    #[error("required revision has been compacted")]
    Compacted,
    /// The revision does not exist yet.
    #[error("required revision is a future revision")]
    Future,
    /// The database failed.
    #[error(transparent)]
    Backend(#[from] etcdrs_backend::Error),
    /// A row that the index knows of is missing or unreadable.
    #[error("row of revision {}_{} is missing or damaged", .0.main, .0.sub)]
    Corrupt(Revision),
}

/// Why a compaction was refused (CP-01).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CompactError {
    /// The revision is not above the compacted one.
    #[error("required revision has been compacted")]
    Compacted,
    /// The revision does not exist yet.
    #[error("required revision is a future revision")]
    Future,
}

/// A batch could not be written. Nothing of it is visible; the store must be opened anew.
#[derive(Debug, thiserror::Error)]
#[error("write batch")]
pub struct WriteError(#[from] pub etcdrs_backend::Error);

/// Why a store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The database failed.
    #[error(transparent)]
    Backend(#[from] etcdrs_backend::Error),
    /// Bucket `key` or `index` holds a row that is no such row.
    #[error("bucket {bucket} holds a malformed row {row:02x?}")]
    Malformed {
        /// The bucket.
        bucket: &'static str,
        /// The key of the row.
        row: Vec<u8>,
    },
    /// An index row names a revision that is not there.
    #[error("index names revision {}_{}, which bucket key does not have", .0.main, .0.sub)]
    MissingRow(Revision),
    /// The index rows and the revisions do not belong together.
    #[error("index rows end at {index:?}, revisions at {key:?}")]
    Disagree {
        /// Newest revision of bucket `index`.
        index: Revision,
        /// Newest revision of bucket `key`.
        key: Revision,
    },
}

/// A store cannot go on with a database that is older than itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a database at revision {offered} cannot replace one at revision {current}")]
pub struct ReplaceError {
    /// Newest revision of the database that was offered.
    pub offered: i64,
    /// Newest revision of the store.
    pub current: i64,
}
