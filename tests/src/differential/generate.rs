//! Random requests, legal and illegal.

use bytes::Bytes;

use super::execute::Answer;
use crate::pb;
use crate::random::Random;
use crate::request::{IntoOp, TargetUnion};

/// Both servers run with this limit.
pub const MAX_TXN_OPS: usize = 6;

/// No lease of a run may expire in it: the moment of expiry is not part of an answer.
const LONG_TTL_SECONDS: i64 = 5000;

pub(super) const KEYS: [&[u8]; 16] = [
    b"a",
    b"aa",
    b"ab",
    b"b",
    b"b\0",
    b"c",
    b"d",
    b"k/1",
    b"k/2",
    b"k/3",
    b"k/4",
    b"l",
    b"m",
    b"\0",
    b"\xff",
    b"\xff\xff",
];
pub(super) const ENDS: [&[u8]; 10] =
    [b"", b"\0", b"b", b"c", b"k/", b"k0", b"m", b"z", b"a", b"\xff\xff"];
const VALUES: [&[u8]; 8] = [b"", b"1", b"2", b"10", b"x", b"y", b"yy", b"\xff\0"];
const LEASES: [i64; 5] = [1, 2, 3, -4, i64::MAX];

/// A request of a run.
#[derive(Clone, Debug)]
pub enum Wanted {
    /// KV.Range
    Range(pb::RangeRequest),
    /// KV.Put
    Put(pb::PutRequest),
    /// KV.DeleteRange
    Delete(pb::DeleteRangeRequest),
    /// KV.Txn
    Txn(pb::TxnRequest),
    /// KV.Compact
    Compact(pb::CompactionRequest),
    /// Lease.LeaseGrant
    Grant(pb::LeaseGrantRequest),
    /// Lease.LeaseRevoke
    Revoke(pb::LeaseRevokeRequest),
    /// Lease.LeaseKeepAlive with one message
    KeepAlive(pb::LeaseKeepAliveRequest),
    /// Lease.LeaseTimeToLive
    TimeToLive(pb::LeaseTimeToLiveRequest),
    /// Lease.LeaseLeases
    Leases,
    /// Maintenance.HashKV
    HashKv(pb::HashKvRequest),
}

/// Makes the requests of one seed.
pub struct Generator {
    random: Random,
    revision: i64,
    compacted: i64,
    /// What the transaction in the making may hold besides ranges and plain puts. A delete that
    /// its overlap check overlooks (TX-05) followed by a put that needs the key stops 3.5.1.
    txn_deletes: bool,
}

impl Generator {
    /// For servers that hold nothing.
    pub fn new(seed: u64) -> Self {
        Self { random: Random::new(seed), revision: 1, compacted: -1, txn_deletes: true }
    }

    /// The newest revision both servers answered.
    pub fn revision(&self) -> i64 {
        self.revision
    }

    /// The last compacted revision, -1 without one.
    pub fn compacted(&self) -> i64 {
        self.compacted
    }

    /// Follows the revisions of an answer.
    pub fn learn(&mut self, wanted: &Wanted, answer: &Answer) {
        self.revision = self.revision.max(answer.revision());
        if let (Wanted::Compact(request), Answer::Compact(_)) = (wanted, answer) {
            self.compacted = request.revision;
        }
    }

    /// The next request.
    pub fn request(&mut self) -> Wanted {
        match self.random.below(100) {
            0..30 => Wanted::Range(self.range()),
            30..52 => Wanted::Put(self.put()),
            52..60 => Wanted::Delete(self.delete()),
            60..86 => {
                self.txn_deletes = self.flag(2);
                Wanted::Txn(self.txn(0))
            }
            86..89 => Wanted::Compact(self.compaction()),
            89..92 => Wanted::Grant(self.grant()),
            92..94 => Wanted::Revoke(pb::LeaseRevokeRequest { id: self.lease() }),
            94..96 => Wanted::KeepAlive(pb::LeaseKeepAliveRequest { id: self.lease() }),
            96..98 => {
                let keys = self.flag(2);
                Wanted::TimeToLive(pb::LeaseTimeToLiveRequest { id: self.lease(), keys })
            }
            98 => Wanted::Leases,
            _ => {
                let revision = self.any_revision();
                // 3.6 hashes at the compacted revision, 3.5.1 refuses.
                let same = revision == self.compacted && revision > 0;
                Wanted::HashKv(pb::HashKvRequest { revision: if same { 0 } else { revision } })
            }
        }
    }

    fn flag(&mut self, one_in: u64) -> bool {
        self.random.one_in(one_in)
    }

    fn key(&mut self) -> Bytes {
        if self.flag(60) {
            return Bytes::new();
        }
        Bytes::from_static(self.random.pick(&KEYS))
    }

    fn end(&mut self) -> Bytes {
        Bytes::from_static(self.random.pick(&ENDS))
    }

    fn lease(&mut self) -> i64 {
        if self.flag(8) { 404 } else { self.random.pick(&LEASES) }
    }

    /// Past, present, future, nonsense.
    fn any_revision(&mut self) -> i64 {
        match self.random.below(12) {
            0..6 => 0,
            6 => -1,
            7 => self.revision + 1,
            8 => self.compacted,
            9 => -(self.random.below(5) as i64),
            10 => self.random.pick(&[i64::MIN, i64::MAX, 1, self.compacted - 1]),
            _ => self.past_revision(),
        }
    }

    fn past_revision(&mut self) -> i64 {
        self.revision - self.random.below(20) as i64
    }

    fn bound(&mut self) -> i64 {
        if self.flag(6) { self.past_revision() } else { 0 }
    }

    fn range(&mut self) -> pb::RangeRequest {
        let mut request = pb::RangeRequest {
            key: self.key(),
            range_end: self.end(),
            revision: self.any_revision(),
            serializable: self.flag(3),
            ..Default::default()
        };
        if self.flag(2) {
            request.limit = self.random.pick(&[1, 2, 3, 5, 100, -1, i64::MAX, i64::MIN]);
        }
        if self.flag(2) {
            // Numbers outside the enums kill 3.5.1 and are left to the conformance tests.
            request.sort_order = self.random.below(3) as i32;
            request.sort_target = self.random.below(5) as i32;
        }
        request.keys_only = self.flag(5);
        request.count_only = self.flag(6);
        request.min_mod_revision = self.bound();
        request.max_mod_revision = self.bound();
        request.min_create_revision = self.bound();
        request.max_create_revision = self.bound();
        request
    }

    fn put(&mut self) -> pb::PutRequest {
        let mut request = pb::PutRequest { key: self.key(), ..Default::default() };
        request.prev_kv = self.flag(3);
        request.ignore_value = self.flag(8);
        request.ignore_lease = self.flag(8);
        if !request.ignore_value || self.flag(6) {
            request.value = Bytes::from_static(self.random.pick(&VALUES));
        }
        if self.flag(4) {
            request.lease = self.lease();
        }
        if self.flag(300) {
            request.value = Bytes::from(vec![b'v'; 70_000]);
        }
        request
    }

    fn delete(&mut self) -> pb::DeleteRangeRequest {
        let range_end = if self.flag(2) { Bytes::new() } else { self.end() };
        pb::DeleteRangeRequest { key: self.key(), range_end, prev_kv: self.flag(2) }
    }

    fn compaction(&mut self) -> pb::CompactionRequest {
        let revision = if self.flag(2) { self.any_revision() } else { self.revision - 10 };
        pb::CompactionRequest { revision, physical: self.flag(3) }
    }

    fn grant(&mut self) -> pb::LeaseGrantRequest {
        let ttl = match self.random.below(6) {
            0 => self.random.pick(&[9_000_000_000, 9_000_000_001, i64::MAX]),
            _ => LONG_TTL_SECONDS + self.random.below(1000) as i64,
        };
        pb::LeaseGrantRequest { ttl, id: self.random.pick(&LEASES) }
    }

    fn txn(&mut self, depth: usize) -> pb::TxnRequest {
        let most = MAX_TXN_OPS as u64 + u64::from(self.flag(10));
        let compares = self.random.below(3);
        let (taken, other) = (self.random.below(most + 1), self.random.below(3));
        pb::TxnRequest {
            compare: (0..compares).map(|_| self.compare()).collect(),
            success: (0..taken).map(|_| self.op(depth)).collect(),
            failure: (0..other).map(|_| self.op(depth)).collect(),
        }
    }

    fn op(&mut self, depth: usize) -> pb::RequestOp {
        match self.random.below(40) {
            0 => pb::RequestOp { request: None },
            1..17 => self.range().op(),
            30..36 if self.txn_deletes => self.delete().op(),
            17..36 => {
                let mut put = self.put();
                put.ignore_value &= !self.txn_deletes;
                put.ignore_lease &= !self.txn_deletes;
                put.op()
            }
            _ if depth < 3 => self.txn(depth + 1).op(),
            _ => self.range().op(),
        }
    }

    fn compare(&mut self) -> pb::Compare {
        let near = self.past_revision();
        let target_union = match self.random.below(7) {
            0 => Some(TargetUnion::Version(self.random.below(4) as i64)),
            1 => Some(TargetUnion::CreateRevision(near)),
            2 => Some(TargetUnion::ModRevision(near)),
            3 => Some(TargetUnion::Value(Bytes::from_static(self.random.pick(&VALUES)))),
            4 => Some(TargetUnion::Lease(self.lease())),
            5 => Some(TargetUnion::Version(0)),
            _ => None,
        };
        // Mostly the target that fits the operand, so that comparisons are decided by data.
        let fitting = match &target_union {
            Some(TargetUnion::CreateRevision(_)) => 1,
            Some(TargetUnion::ModRevision(_)) => 2,
            Some(TargetUnion::Value(_)) => 3,
            Some(TargetUnion::Lease(_)) => 4,
            _ => 0,
        };
        let target = if self.flag(8) { self.random.below(7) as i32 } else { fitting };
        let result = if self.flag(30) { 9 } else { self.random.below(4) as i32 };
        let range_end = if self.flag(5) { self.end() } else { Bytes::new() };
        pb::Compare { result, target, key: self.key(), target_union, range_end }
    }
}
