//! Clients that others wrote, unchanged, against the server: the `etcd-client` crate, Python's
//! `etcd3`, and the etcdctl of etcd 3.5.1.
#![allow(clippy::unwrap_used, reason = "a failed step of a test is best shown where it happens")]

mod etcd_client_crate;
mod etcdctl;
mod python;
