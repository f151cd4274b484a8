//! openraft on top of wal, snap and apply
