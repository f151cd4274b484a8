//! The named buckets and their column families.

/// A named set of sorted rows. The names are etcd's (storage-and-raft.md §3.2), but for
/// [`Bucket::Index`], which is ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Bucket {
    /// Revision -> encoded `mvccpb.KeyValue`.
    Key,
    /// User key and revision -> what the key index needs of it. Not a bucket of etcd.
    Index,
    /// Lease id -> encoded `leasepb.Lease`.
    Lease,
    /// Applied index, term, membership, compaction marks.
    Meta,
    /// Cluster version and downgrade job.
    Cluster,
    /// Member id -> its attributes.
    Members,
    /// Ids of members that were removed.
    MembersRemoved,
    /// Alarms that are raised.
    Alarm,
    /// Whether auth is on, and its revision.
    Auth,
    /// User name -> user.
    AuthUsers,
    /// Role name -> role.
    AuthRoles,
}

impl Bucket {
    /// Every bucket, in the order of their numbers.
    pub const ALL: [Self; 11] = [
        Self::Key,
        Self::Index,
        Self::Lease,
        Self::Meta,
        Self::Cluster,
        Self::Members,
        Self::MembersRemoved,
        Self::Alarm,
        Self::Auth,
        Self::AuthUsers,
        Self::AuthRoles,
    ];

    /// The name of the bucket and of its column family.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Key => "key",
            Self::Index => "index",
            Self::Lease => "lease",
            Self::Meta => "meta",
            Self::Cluster => "cluster",
            Self::Members => "members",
            Self::MembersRemoved => "members_removed",
            Self::Alarm => "alarm",
            Self::Auth => "auth",
            Self::AuthUsers => "authUsers",
            Self::AuthRoles => "authRoles",
        }
    }

    /// Whether etcd has this bucket too, so that exports and hashes of the whole contain it.
    #[must_use]
    pub const fn is_etcds(self) -> bool {
        !matches!(self, Self::Index)
    }

    /// The number RocksDB gave the column family. Families are made once, in the order of
    /// [`Self::ALL`], after `default`, which has number 0; `open` checks that it came out so.
    pub(crate) const fn family_id(self) -> u8 {
        self as u8 + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_follow_the_list() {
        for (position, bucket) in Bucket::ALL.into_iter().enumerate() {
            assert_eq!(bucket as usize, position);
            // One byte holds the varint of a batch record.
            assert!(bucket.family_id() < 0x80);
        }
    }
}
