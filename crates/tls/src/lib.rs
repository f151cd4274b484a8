//! Everything etcd does with TLS, for peers and clients, on rustls.
//!
//! [`ServerTls`] takes connections, [`ClientTls`] opens them; both are made from file names and
//! settings as etcd's flags give them, and both follow their files: a certificate, CA or
//! revocation list that is replaced counts from the next handshake on, without a restart.
//! [`SelfSigned`] makes the certificates of `--auto-tls` and `--peer-auto-tls`.
//!
//! # Invariants
//! - No handshake takes longer than [`HANDSHAKE_TIMEOUT`].
//! - Files that cannot be read or do not fit together never replace ones that did: the last good
//!   set stays in use, and the trouble is logged once.
//! - A client certificate is judged anew on every connection: where one is asked for, sessions
//!   are not resumed, so that a revocation counts at once.
//! - There is one way in for all listeners, so that no listener can lack a check another one has.
//!
//! Texts are those of etcd and of Go's TLS where they have any: people search logs for them.
#![deny(missing_docs)]

mod ciphers;
mod client;
mod der;
mod error;
mod files;
mod info;
mod names;
mod peer;
mod reload;
mod self_signed;
mod server;
mod verify;
mod words;

pub use rustls;

pub use crate::client::{ClientStream, ClientTls};
pub use crate::error::{ConfigError, HandshakeError, Rejected};
pub use crate::info::{ClientTlsInfo, Protocol, ServerTlsInfo, TlsVersion};
pub use crate::names::{LookUp, Names, SystemNames};
pub use crate::peer::{PeerCertificate, SourceError};
pub use crate::self_signed::{SelfSigned, SelfSignedUse};
pub use crate::server::{Accepted, HANDSHAKE_TIMEOUT, ServerStream, ServerTls};

/// Compiles the example of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
