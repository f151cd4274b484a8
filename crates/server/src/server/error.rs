//! Why a server does not start or live on.

use std::io;
use std::path::PathBuf;

/// Why a server could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A port is taken, or an address is not this machine's.
    #[error("{0}")]
    Bind(#[source] io::Error),
    /// TLS cannot be set up as the flags ask for.
    #[error(transparent)]
    Security(#[from] crate::listen::SecurityError),
    /// There are too few file descriptors for even one client.
    #[error(
        "file descriptor limit of etcd process is too low; please set higher: {limit}, of which {reserved} are kept for the server itself"
    )]
    FewDescriptors {
        /// How many the process may have.
        limit: u64,
        /// How many it keeps for itself.
        reserved: u64,
    },
    /// The data directory cannot be made or written.
    #[error("cannot access data directory {path:?}: {source}")]
    DataDir {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The directory of the log and the database cannot be written, although they are there.
    #[error("cannot write to member directory: {path:?}: {source}")]
    MemberDir {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The directory of the log cannot be written, although the log is there.
    #[error("cannot write to WAL directory: {path:?}: {source}")]
    WalDir {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// `--initial-cluster` does not fit the other flags.
    #[error("{0}")]
    Bootstrap(String),
    /// The memory budget is too small for the parts that share it.
    #[error(
        "--memory-budget={given} is too small: values, events, log, memtables and blocks need at least {least} bytes together"
    )]
    MemoryBudget {
        /// What was asked for, bytes.
        given: u64,
        /// The least that works, bytes.
        least: u64,
    },
    /// Another server has the directory open.
    #[error(
        "data directory {path:?} is in use: its db file is flocked by another process; stop that server or choose another --data-dir"
    )]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// There is a database with entries, but no log to go with it.
    #[error(
        "the database holds entries up to {applied}, but there is no write-ahead log in {dir:?}: restore the log (or name it by --wal-dir), or start on an empty --data-dir"
    )]
    LogMissing {
        /// Where the log should be.
        dir: PathBuf,
        /// The database's newest entry.
        applied: u64,
    },
    /// The database could not be opened.
    #[error("open database: {}", chain(.0))]
    Backend(#[from] etcdrs_backend::OpenError),
    /// It cannot be told which database is in use.
    #[error("find the database in use: {}", chain(.0))]
    Database(#[from] etcdrs_raft_glue::DatabaseError),
    /// The state machine could not be opened.
    #[error("open state machine: {}", chain(.0))]
    Machine(#[from] etcdrs_apply::OpenError),
    /// Member records could not be written.
    #[error("write member records: {0}")]
    Records(#[from] etcdrs_backend::Error),
    /// The list of members is not what raft's membership says.
    #[error(transparent)]
    Members(#[from] etcdrs_membership::Mismatch),
    /// A peer's URL is none.
    #[error("peer URL: {0}")]
    PeerUrl(#[from] etcdrs_rafthttp_transport::AddError),
    /// The log or raft could not be started.
    #[error("start raft: {}", chain(.0))]
    Raft(#[from] etcdrs_raft_glue::StartError),
    /// The running members say that this one was removed.
    #[error(
        "the member has been permanently removed from the cluster; the data directory it used must be removed before it can join as a new member"
    )]
    Removed,
    /// A thread ended before it answered.
    #[error("a start-up task ended early: {0}")]
    Task(#[from] tokio::task::JoinError),
}

/// An error and what caused it, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.ends_with(&next) {
            text = format!("{text}: {next}");
        }
        cause = error.source();
    }
    text
}

/// Why a running server had to end.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Fatal(pub String);
