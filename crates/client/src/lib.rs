//! Typed async client for etcd and etcd-rs
