//! What a committed request answers.

use etcdrs_membership::MemberRecord;
use etcdrs_mvcc::{RangeResult, StoredKv};
use etcdrs_types::LeaseId;

use crate::alarm::Alarm;
use crate::error::Refusal;

/// The result of one entry.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The store's revision after the entry (the header revision of most answers).
    pub revision: i64,
    /// The answer, or why there is none.
    pub result: Result<Answer, Refusal>,
}

/// The body of an answer, by request.
#[derive(Clone, Debug)]
pub enum Answer {
    /// Nothing but a header.
    Empty,
    /// A put.
    Put {
        /// The pair it replaced, if asked for.
        prev: Option<StoredKv>,
    },
    /// A delete.
    Delete {
        /// How many keys are gone.
        deleted: i64,
        /// The pairs that are gone, if asked for, in key order.
        prev: Vec<StoredKv>,
    },
    /// A range (only as a request in the log by itself, which no client causes).
    Range(RangeResult),
    /// A transaction.
    Txn(TxnAnswer),
    /// A granted lease.
    LeaseGrant {
        /// Its id.
        id: LeaseId,
        /// What was granted, seconds.
        ttl_seconds: i64,
    },
    /// Alarms: those asked for, or those changed.
    Alarms(Vec<Alarm>),
    /// A changed member record.
    Member(Box<MemberRecord>),
}

/// The outcome of a transaction.
#[derive(Clone, Debug, Default)]
pub struct TxnAnswer {
    /// Whether all compares held.
    pub succeeded: bool,
    /// One result for each operation of the branch that ran.
    pub results: Vec<OpResult>,
}

/// The result of one operation inside a transaction, with the revision for its own header.
#[derive(Clone, Debug)]
pub enum OpResult {
    /// A range.
    Range(RangeResult),
    /// A put.
    Put {
        /// Header revision.
        revision: i64,
        /// The pair it replaced, if asked for.
        prev: Option<StoredKv>,
    },
    /// A delete.
    Delete {
        /// Header revision.
        revision: i64,
        /// How many keys are gone.
        deleted: i64,
        /// The pairs that are gone, if asked for.
        prev: Vec<StoredKv>,
    },
    /// A nested transaction; its header is present but empty (RV-08).
    Txn(TxnAnswer),
}
