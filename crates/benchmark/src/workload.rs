//! What clients ask for.

mod kv;
mod lease;

pub use kv::{Fill, Keys, List, Mixed, Put, Range, TxnPut, Update};
pub use lease::{Grant, KeepAlive};

use crate::clock::Random;
use crate::http2::Keep;

/// The next request of a client.
#[derive(Debug, Clone, Copy)]
pub struct Call {
    /// Method, such as `/etcdserverpb.KV/Put`.
    pub path: &'static str,
    /// What is kept of the answer.
    pub keep: Keep,
}

/// Makes the requests of one connection's clients. Each connection has a copy of its own.
pub trait Workload: Clone + Send + 'static {
    /// Names of the kinds of operation, for the report.
    fn classes(&self) -> &'static [&'static str];

    /// Begins operation number `n` on behalf of `client`: encodes its first request into the empty
    /// `out`.
    fn begin(&mut self, n: u64, client: usize, random: &mut Random, out: &mut Vec<u8>) -> Call;

    /// Goes on with an operation after an answer: encodes the next request into the empty `out`, or
    /// ends the operation by `None`.
    fn go_on(&mut self, _client: usize, _answer: &[u8], _out: &mut Vec<u8>) -> Option<Call> {
        None
    }

    /// Which kind of operation the one that `client` has under way is.
    fn class(&self, _client: usize) -> usize {
        0
    }

    /// All operations of a client go through one stream of this method, which stays open.
    fn streaming(&self) -> Option<&'static str> {
        None
    }
}
