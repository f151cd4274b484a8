//! RocksDB column families as etcd's named buckets, with atomic batches
