//! What can go wrong, by operation.

use std::path::PathBuf;

/// Why a proposal has no outcome.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// Another member leads, or none does; nothing was appended.
    #[error("not the leader")]
    NotLeader,
    /// The entry was dropped while another leader took over: it may or may not have been applied.
    #[error("leader changed, outcome unknown")]
    OutcomeUnknown,
    /// The queue of proposals is full.
    #[error("too many requests")]
    Overloaded,
    /// The member is stopping or has failed.
    #[error("stopped")]
    Stopped,
}

/// Why a read may not run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// No quorum confirmed that this member still leads, or there is no leader.
    #[error("no leader confirmed the read")]
    NoLeader,
    /// Another leader took over while the old one was asked.
    #[error("leader changed")]
    LeaderChanged,
    /// The member is stopping or has failed.
    #[error("stopped")]
    Stopped,
}

/// Why a member could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The write-ahead log could not be created.
    #[error("create log in {dir:?}")]
    CreateLog {
        /// The log's directory.
        dir: PathBuf,
        /// Why.
        source: etcdrs_wal::CreateError,
    },
    /// The write-ahead log could not be opened.
    #[error("open log in {dir:?}")]
    OpenLog {
        /// The log's directory.
        dir: PathBuf,
        /// Why.
        source: etcdrs_wal::OpenError,
    },
    /// The log's writer thread could not be started.
    #[error("start log writer")]
    Thread(#[source] std::io::Error),
    /// An entry of the log cannot be read.
    #[error("read log: {0}")]
    Entry(String),
    /// Snapshot files could not be read or written.
    #[error("snapshot files")]
    Snap(#[from] etcdrs_snap::Error),
    /// There is no log, but a database that is in use: without what the log knows, its votes above
    /// all, the member must not go on.
    #[error(
        "no log in {dir}, but the database is at entry {applied}: put the log back, or remove the \
         member and add it again with an empty data directory"
    )]
    LogMissing {
        /// Where the log should be.
        dir: PathBuf,
        /// The database's applied index.
        applied: u64,
    },
    /// The database is ahead of the log, which no crash can cause.
    #[error(
        "database is at entry {applied}, but the log ends at {last}: the log was replaced or cut"
    )]
    LogBehind {
        /// The database's applied index.
        applied: u64,
        /// The log's last index.
        last: u64,
    },
    /// The database needs entries that the log no longer has.
    #[error(
        "database is at entry {applied}, but the log begins after {purged}: database replaced or rolled back"
    )]
    DatabaseBehind {
        /// The database's applied index.
        applied: u64,
        /// The log's purge mark.
        purged: u64,
    },
    /// There is a log, but the database that goes with it is gone.
    #[error(
        "database file ({path:?}) of the backend is missing: restore it, or remove the data directory and start anew"
    )]
    DatabaseMissing {
        /// Where the database should be.
        path: PathBuf,
    },
    /// The state machine refused.
    #[error("state machine")]
    Machine(#[from] etcdrs_apply::ApplyError),
    /// openraft's settings are inconsistent.
    #[error("raft configuration: {0}")]
    Config(String),
    /// openraft stopped while it started.
    #[error("start raft: {0}")]
    Raft(String),
}

/// Why the membership did not change.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// Another member leads, or none does.
    #[error("not the leader")]
    NotLeader,
    /// The membership is another one by now, or was not committed yet.
    #[error("the membership is changing")]
    Raced,
    /// Raft does not allow this change.
    #[error("membership change refused: {0}")]
    Refused(String),
    /// The leader changed on the way: it may have happened or not.
    #[error("leader changed, outcome unknown")]
    OutcomeUnknown,
    /// The member is stopping or has failed.
    #[error("stopped")]
    Stopped,
}

/// Why the leadership was not handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransferError {
    /// This member does not lead.
    #[error("not the leader")]
    NotLeader,
    /// The target is no voter.
    #[error("the target does not vote")]
    BadTarget,
    /// The target is silent, or too far behind to win.
    #[error("the target does not keep up")]
    TargetLags,
    /// The target did not take over in time.
    #[error("the target did not take over in time")]
    TimedOut,
    /// The member is stopping or has failed.
    #[error("stopped")]
    Stopped,
}

/// Why a question to the leader has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    /// It was not asked.
    #[error("the leader cannot be reached")]
    Unreachable,
    /// The link broke before the answer came.
    #[error("the leader was lost before it answered")]
    Lost,
}
