//! Who may do what: users, roles, permissions, and the tokens of those who logged in.
//!
//! [`AuthStore`] is the replicated part, as the buckets `auth`, `authUsers` and `authRoles` hold it.
//! It changes only by committed entries and sees no clock. [`Needs`] tells what a request asks for,
//! by one visitor for all places that decide; [`AuthStore::allows`] decides.
//!
//! Invariants:
//! - What is not allowed is denied: a request without an identity, of a user that is gone, or based
//!   on older auth data than the store's, gets nothing while auth is on.
//! - What is in memory equals the rows once the batch is written, and what is derived from roles is
//!   derived anew with every change and at every load, so that members never differ.
//! - A range is judged as the typed [`KeyRange`](etcdrs_types::KeyRange) that was read once from the
//!   wire.
//! - No password is kept or shown: rows hold what the caller hashed.
#![deny(missing_docs)]

mod error;
mod grants;
mod needs;
mod store;
mod tokens;

pub use crate::error::{OpenError, Refused};
pub use crate::grants::Grants;
pub use crate::needs::{LeaseKeys, Need, Needs};
pub use crate::store::{AuthStore, Identity, Password, ROOT};
pub use crate::tokens::{SimpleTokens, TOKEN_LETTERS};

/// Compiles the README's example.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeDoctests;
