//! Where etcd 3.5.1, against which the tests are checked, differs from 3.7, which we are.
//!
//! A test asks [`Difference::applies`] where the two part; everything else must be equal.

use crate::target::Flavour;

/// A behaviour of 3.5.1 that 3.7 changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Difference {
    /// RG-07.
    KeysOnlyKeepsLease,
    /// RG-01.
    NoSortOptionCheck,
    /// RS-01.
    NoRangeStream,
    /// CP-02.
    TombstoneAtCompactionDropped,
    /// WA-05.
    NegativeWatchStartIsHistory,
    /// WA-26.
    ProgressWhileBehind,
    /// WA-24.
    ProgressForFutureStart,
    /// WA-10.
    RefusedWatchKeepsId,
    /// MT-01.
    StatusWithoutNewFields,
    /// MT-03, hash_revision.
    NoHashRevision,
    /// MT-03.
    NoHashAtCompactedRevision,
    /// MT-05, SnapshotResponse.version.
    NoSnapshotVersion,
    /// HT-1, HT-3.
    NoLivezNorStorageVersion,
    /// Design: we serve reflection, etcd does not.
    NoReflection,
    /// `HealthList` came with a newer gRPC library.
    NoHealthList,
    /// Design §4: the newest `.snap` holds metadata only and may be set aside.
    StartsAtDamagedSnapshot,
    /// storage-and-raft.md §1.8: a second process waits for the lock of the database.
    SecondServerWaits,
}

/// The whole list with the reason why each is not a fault of either.
pub const DIFFERENCES: &[(Difference, &str)] = &[
    (Difference::KeysOnlyKeepsLease, "3.7 answers keys_only from its index, which has no leases"),
    (Difference::NoSortOptionCheck, "3.6 refuses unknown sort enums; 3.5.1 panics on them"),
    (Difference::NoRangeStream, "KV.RangeStream came with 3.7"),
    (
        Difference::TombstoneAtCompactionDropped,
        "since 3.5.16 a delete made at the compacted revision stays for its watchers",
    ),
    (Difference::NegativeWatchStartIsHistory, "3.5.24 and 3.6.6 refuse a negative start"),
    (Difference::ProgressWhileBehind, "until 3.5.8 progress was answered while watchers lagged"),
    (Difference::ProgressForFutureStart, "3.6.2 fixed watchers whose start lies ahead"),
    (Difference::RefusedWatchKeepsId, "until 3.5.6 a refused watch kept the id it asked for"),
    (Difference::StatusWithoutNewFields, "storageVersion, dbSizeQuota, downgradeInfo are 3.6"),
    (Difference::NoHashRevision, "HashKVResponse.hash_revision is 3.6"),
    (
        Difference::NoHashAtCompactedRevision,
        "3.6 hashes at the compacted revision itself; 3.5.1 says Compacted",
    ),
    (Difference::NoSnapshotVersion, "SnapshotResponse.version is 3.6"),
    (Difference::NoLivezNorStorageVersion, "/livez and /readyz are 3.5.11, storage is 3.6"),
    (Difference::NoReflection, "we add gRPC reflection"),
    (Difference::NoHealthList, "Health.List came with a newer gRPC library"),
    (
        Difference::StartsAtDamagedSnapshot,
        "etcd 3.5 wants the newest .snap and its database file; we want the log only",
    ),
    (Difference::SecondServerWaits, "etcd waits for the database's lock; we say so and end"),
];

impl Difference {
    /// True if the server has the older behaviour.
    pub fn applies(self, flavour: Flavour) -> bool {
        flavour == Flavour::Etcd35
    }

    /// Why the two differ.
    pub fn reason(self) -> &'static str {
        DIFFERENCES
            .iter()
            .find(|(difference, _)| *difference == self)
            .map(|(_, reason)| *reason)
            .expect("every difference is in the list")
    }
}
