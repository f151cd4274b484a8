//! Random requests that meet in few keys, so that mistakes in their order have consequences.
//!
//! Every put has a value of its own, so that a change in the log names its request.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::history::{Answer, Outcome, Request};
use crate::pb;
use crate::random::Random;
use crate::request::{
    CompareResult, CompareTarget, FROM_KEY, IntoOp, SortOrder, SortTarget, TargetUnion, compare,
    delete, delete_range, get, put, range, then, txn,
};

/// A client lets go of a lease after this many requests with it; it then ends by itself.
const LEASE_USES: u64 = 12;
const LEASES_MAX: usize = 3;

/// What the requests are about.
#[derive(Clone, Copy, Debug)]
pub struct Mix {
    /// How many keys there are.
    pub keys: u64,
    /// TTL of leases; 0 for no leases.
    pub ttl_seconds: i64,
    /// Values get up to this many bytes.
    pub value_bytes_max: u64,
}

impl Default for Mix {
    fn default() -> Self {
        Self { keys: 12, ttl_seconds: 2, value_bytes_max: 64 }
    }
}

/// The requests of one client.
#[derive(Clone, Debug)]
pub struct Requests {
    random: Random,
    client: u32,
    mix: Mix,
    values: u64,
    leases: Vec<Lease>,
    granted: i64,
    /// The newest modification of each key this client has seen, for compares that often hold.
    known: BTreeMap<Bytes, i64>,
    revision: i64,
}

#[derive(Clone, Copy, Debug)]
struct Lease {
    id: i64,
    uses: u64,
}

impl Requests {
    /// The sequence of a seed for one client, numbered from 0.
    pub fn new(seed: u64, client: u32, mix: Mix) -> Self {
        let random = Random::new(seed.wrapping_mul(1_000_003).wrapping_add(u64::from(client)));
        Self {
            random,
            client,
            mix,
            values: 0,
            leases: Vec::new(),
            granted: 0,
            known: BTreeMap::new(),
            revision: 1,
        }
    }

    /// The next request.
    pub fn draw(&mut self) -> Request {
        match self.random.below(100) {
            0..30 => Request::Put(self.put()),
            30..38 => Request::Delete(self.delete()),
            38..56 => Request::Txn(self.compare_and_swap()),
            56..62 => Request::Txn(self.several()),
            62..66 => Request::Txn(self.reads()),
            66..82 => Request::Range(self.read()),
            82..90 => Request::Range(pb::RangeRequest { serializable: true, ..self.read() }),
            _ if self.mix.ttl_seconds > 0 => self.lease(),
            _ => Request::Put(self.put()),
        }
    }

    /// Takes note of an end.
    pub fn learn(&mut self, request: &Request, outcome: &Outcome) {
        let Outcome::Answered(answer) = outcome else {
            // A lost grant may have happened, so its id is never used again.
            if let Request::Revoke(revoke) = request {
                self.leases.retain(|lease| lease.id != revoke.id);
            }
            return;
        };
        let revision = answer.header().map_or(0, |header| header.revision);
        self.revision = self.revision.max(revision);
        match answer {
            Answer::Grant(grant) => self.leases.push(Lease { id: grant.id, uses: 0 }),
            Answer::KeepAlive(renewed) if renewed.ttl == 0 => {
                self.leases.retain(|lease| lease.id != renewed.id);
            }
            Answer::Range(read) => {
                for kv in &read.kvs {
                    self.known.insert(kv.key.clone(), kv.mod_revision);
                }
            }
            Answer::Put(_) => {
                if let Request::Put(put) = request {
                    self.known.insert(put.key.clone(), revision);
                }
            }
            _ => {}
        }
    }

    fn key(&mut self) -> String {
        format!("k/{:02}", self.random.below(self.mix.keys))
    }

    fn value(&mut self) -> String {
        self.values += 1;
        let padding = self.random.below(self.mix.value_bytes_max.max(1));
        format!("{}.{}.{}", self.client, self.values, "x".repeat(padding as usize))
    }

    fn put(&mut self) -> pb::PutRequest {
        let lease = if self.random.one_in(5) { self.use_lease() } else { 0 };
        let (key, value) = (self.key(), self.value());
        let prev_kv = self.random.one_in(4);
        if self.random.one_in(24) {
            let kept = pb::PutRequest { ignore_value: true, prev_kv, ..put(key, "") };
            return pb::PutRequest { lease, ..kept };
        }
        pb::PutRequest { lease, prev_kv, ..put(key, value) }
    }

    fn delete(&mut self) -> pb::DeleteRangeRequest {
        let prev_kv = self.random.one_in(3);
        let start = self.key();
        if self.random.one_in(6) {
            let end = self.key();
            return pb::DeleteRangeRequest { prev_kv, ..delete_range(start, end) };
        }
        pb::DeleteRangeRequest { prev_kv, ..delete(start) }
    }

    fn read(&mut self) -> pb::RangeRequest {
        let mut request = match self.random.below(4) {
            0 => range("k/", "k0"),
            1 => range(self.key(), FROM_KEY),
            _ => get(self.key()),
        };
        if self.random.one_in(5) {
            // Mostly one that exists, now and then one of the future.
            request.revision = (self.revision + 3 - self.random.below(40) as i64).max(1);
        }
        match self.random.below(10) {
            0 => request.limit = 1 + self.random.below(4) as i64,
            1 => request.count_only = true,
            2 => request.keys_only = true,
            3 => {
                request.sort_target = SortTarget::Mod as i32;
                request.sort_order = SortOrder::Descend as i32;
            }
            4 => request.min_mod_revision = (self.revision - 20).max(0),
            _ => {}
        }
        request
    }

    /// The transaction of Kubernetes: change a key if it still is what was read, else read it.
    fn compare_and_swap(&mut self) -> pb::TxnRequest {
        let key = self.key();
        let known = self.known.get(key.as_bytes()).copied().unwrap_or(0);
        let condition = match self.random.below(6) {
            0 => compare(key.clone(), CompareTarget::Create, CompareResult::Equal, {
                TargetUnion::CreateRevision(0)
            }),
            1 => compare(key.clone(), CompareTarget::Version, CompareResult::Greater, {
                TargetUnion::Version(2)
            }),
            _ => compare(key.clone(), CompareTarget::Mod, CompareResult::Equal, {
                TargetUnion::ModRevision(known)
            }),
        };
        let change = if self.random.one_in(5) {
            delete(key.clone()).op()
        } else {
            put(key.clone(), self.value()).op()
        };
        txn(vec![condition], vec![change], vec![get(key).op()])
    }

    /// Two or three keys at once, with a read behind the writes, sometimes in an inner transaction.
    fn several(&mut self) -> pb::TxnRequest {
        let first = self.random.below(self.mix.keys);
        let count = 2 + self.random.below(2);
        let mut ops = Vec::new();
        for step in 0..count.min(self.mix.keys) {
            let key = format!("k/{:02}", (first + step) % self.mix.keys);
            ops.push(match self.random.below(4) {
                0 => delete(key).op(),
                _ => put(key, self.value()).op(),
            });
        }
        ops.push(range("k/", "k0").op());
        if self.random.one_in(4) {
            return then(vec![then(ops).op()]);
        }
        then(ops)
    }

    fn reads(&mut self) -> pb::TxnRequest {
        let serializable = self.random.one_in(2);
        let first = pb::RangeRequest { serializable, ..get(self.key()) };
        let all = pb::RangeRequest { serializable, ..range("k/", "k0") };
        then(vec![first.op(), all.op()])
    }

    /// The id of a lease this client holds, or 0.
    fn use_lease(&mut self) -> i64 {
        if self.leases.is_empty() {
            return 0;
        }
        let at = self.random.below(self.leases.len() as u64) as usize;
        self.leases[at].uses += 1;
        let id = self.leases[at].id;
        self.leases.retain(|lease| lease.uses < LEASE_USES);
        id
    }

    fn lease(&mut self) -> Request {
        let grants = self.leases.len() < LEASES_MAX && self.random.one_in(2);
        if grants || self.leases.is_empty() {
            self.granted += 1;
            let id = ((i64::from(self.client) + 1) << 32) + self.granted;
            return Request::Grant(pb::LeaseGrantRequest { id, ttl: self.mix.ttl_seconds });
        }
        let id = self.use_lease();
        if self.random.one_in(5) {
            self.leases.retain(|lease| lease.id != id);
            return Request::Revoke(pb::LeaseRevokeRequest { id });
        }
        Request::KeepAlive(pb::LeaseKeepAliveRequest { id })
    }
}
