//! The deterministic state machine: one committed request in, one outcome out.
//!
//! [`Machine`] owns the store, the lessor and the member records and changes them only by
//! [`Machine::apply`], entry by entry. The same entries give the same state on every member.
//!
//! Invariants:
//! - No clock, no random source, no async runtime, no hash-ordered iteration, no local setting
//!   that could make two members answer differently. A refusal is an [`Outcome`].
//! - The applied index is written in the same atomic batch as the effects of the entries.
//! - [`Machine::replace`] puts the state of another database in place of everything at once; every
//!   [`Shared`] goes on with it.
//! - Nothing of a batch is visible to readers before the batch is written.
#![deny(missing_docs)]

mod alarm;
mod error;
mod kv;
mod lease;
mod machine;
mod outcome;
mod restore;
mod txn;

pub use crate::alarm::{Alarm, AlarmKind};
pub use crate::error::{ApplyError, OpenError, Refusal, ReplaceError};
pub use crate::kv::range_query;
pub use crate::machine::{Entry, Machine, Opened, Options, Payload, Shared};
pub use crate::outcome::{Answer, OpResult, Outcome, TxnAnswer};
pub use crate::restore::{Loaded, Position, Retired};
pub use crate::txn::{has_put, read_only_txn};

/// Compiles the example of README.md.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeExample;
