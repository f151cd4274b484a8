//! Write-ahead log in etcd's on-disk format, with group commit
