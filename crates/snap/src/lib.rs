//! Raft snapshot files (.snap) as etcd writes them
