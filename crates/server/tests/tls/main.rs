//! TLS and unix sockets of the program, from outside: real processes, real clients.
//!
//! Tests that need etcd's own etcdctl find it by `ETCDCTL_BIN`, in `PATH` or in `.testenv/bin`,
//! and say so where there is none.

mod clients;
mod discovery;
mod etcdctl;
mod harness;
mod hostile;
mod peers;
#[path = "../../../tls/tests/pki/mod.rs"]
mod pki;
mod refused;
