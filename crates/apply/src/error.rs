//! Refusals, which are answers, and failures, which stop the member.

use std::path::PathBuf;

use etcdrs_types::{LogIndex, Term};

/// Why a committed request changed nothing. Part of the replicated outcome: equal on every member.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A put named a lease that does not exist, or a revoke did.
    #[error("requested lease not found")]
    LeaseNotFound,
    /// A grant named a lease that exists.
    #[error("lease already exists")]
    LeaseExists,
    /// A grant asked for more than [`etcdrs_types::limits::LEASE_TTL_SECONDS_MAX`].
    #[error("too large lease TTL")]
    LeaseTtlTooLarge,
    /// `ignore_value` or `ignore_lease` on a key that does not exist.
    #[error("key not found")]
    KeyNotFound,
    /// A revision below the compacted one.
    #[error("required revision has been compacted")]
    Compacted,
    /// A revision above the current one.
    #[error("required revision is a future revision")]
    FutureRevision,
    /// A write while an alarm tells that the space is used up.
    #[error("database space exceeded")]
    NoSpace,
    /// A write while an alarm tells that members differ.
    #[error("corrupt cluster")]
    Corrupt,
    /// The proposer no longer led when the entry was committed.
    #[error("proposal of an earlier term")]
    StaleTerm,
    /// A request of a kind that this version cannot apply.
    #[error("request kind {0} is not supported")]
    Unsupported(&'static str),
}

/// Why the machine could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The backend could not be read.
    #[error("read backend")]
    Backend(#[from] etcdrs_backend::Error),
    /// The key-value store could not be opened.
    #[error("open store")]
    Store(#[from] etcdrs_mvcc::OpenError),
    /// The leases could not be loaded.
    #[error("load leases")]
    Lease(#[from] etcdrs_lease::OpenError),
    /// The member records could not be loaded.
    #[error("load members")]
    Members(#[from] etcdrs_membership::OpenError),
    /// The database itself could not be opened.
    #[error("open database")]
    Database(#[from] etcdrs_backend::OpenError),
    /// A database that came from elsewhere is not what it was said to be.
    #[error("database {} stands at entry {} of term {}, not at {} of {}",
        path.display(), found.0, found.1, claimed.0, claimed.1)]
    Position {
        /// Its directory.
        path: PathBuf,
        /// Its newest applied entry: (index, term).
        found: (LogIndex, Term),
        /// What was said.
        claimed: (LogIndex, Term),
    },
    /// A row of bucket `meta` has the wrong shape.
    #[error("meta row {name:?} is damaged")]
    Meta {
        /// The row's key.
        name: &'static str,
    },
}

/// Why [`Machine::replace`](crate::Machine::replace) refused.
#[derive(Debug, thiserror::Error)]
pub enum ReplaceError {
    /// The database holds less of the log than was applied.
    #[error("a database at entry {offered} cannot replace one at {current}")]
    Behind {
        /// Its newest entry.
        offered: LogIndex,
        /// The machine's newest entry.
        current: LogIndex,
    },
    /// The database holds less of the history than was applied, whatever it says of the log.
    #[error(transparent)]
    Store(#[from] etcdrs_mvcc::ReplaceError),
}

/// Why a batch could not be applied. Final: the member must stop, because its state is unknown.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// A committed membership change cannot be read: the log is damaged, or of a newer version.
    #[error("decode the membership change of entry {index}")]
    Change {
        /// Which entry.
        index: LogIndex,
        /// Why not.
        source: etcdrs_membership::DecodeError,
    },
    /// The batch could not be written.
    #[error("write batch")]
    Write(#[from] etcdrs_mvcc::WriteError),
    /// A row outside a batch could not be written.
    #[error("write row")]
    Row(#[from] etcdrs_backend::Error),
    /// A stored pair does not decode.
    #[error("stored pair is damaged")]
    Pair(#[source] prost::DecodeError),
    /// Stored data could not be read while a request ran.
    #[error("read store")]
    Read(#[from] etcdrs_mvcc::RangeError),
    /// A committed entry holds no request.
    #[error("entry {index} does not decode: {source}")]
    Decode {
        /// The entry.
        index: LogIndex,
        /// What prost said.
        source: prost::DecodeError,
    },
    /// Entries must come in order and once.
    #[error("entry {got} after {applied} breaks the order")]
    Order {
        /// What came.
        got: LogIndex,
        /// The newest applied entry.
        applied: LogIndex,
    },
}
