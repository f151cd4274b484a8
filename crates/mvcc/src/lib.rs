//! Multi-version key-value store with etcd's semantics, and its watch hub
