//! Puts, reads and transactions.

use std::collections::HashMap;

use bytes::Bytes;
use etcdrs_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use etcdrs_proto::etcdserverpb::request_op::Request;
use etcdrs_proto::etcdserverpb::{Compare, PutRequest, RangeRequest, RequestOp, TxnRequest};
use prost::Message;

use super::{Call, Workload};
use crate::clock::Random;
use crate::http2::Keep;
use crate::scan;

const PUT: Call = Call { path: "/etcdserverpb.KV/Put", keep: Keep::Nothing };
const RANGE: Call = Call { path: "/etcdserverpb.KV/Range", keep: Keep::Nothing };
const TXN: Call = Call { path: "/etcdserverpb.KV/Txn", keep: Keep::Nothing };

fn encode(message: &impl Message, out: &mut Vec<u8>) {
    message.encode(out).expect("a Vec grows as needed");
}

/// Keys of a fixed size and a number of different ones.
#[derive(Debug, Clone)]
pub struct Keys {
    /// Bytes of a key.
    pub size: usize,
    /// How many different ones there are.
    pub space: u64,
    /// One after the other instead of at random.
    pub sequential: bool,
}

impl Keys {
    /// A key for operation `n`: its number as a varint, padded with zeros, as etcd's tool has it.
    pub fn key(&self, n: u64, random: &mut Random) -> Bytes {
        let number = if self.sequential { n % self.space } else { random.below(self.space) };
        let mut key = Vec::with_capacity(self.size.max(10));
        let mut rest = number;
        while rest >= 0x80 {
            key.push(rest as u8 | 0x80);
            rest >>= 7;
        }
        key.push(rest as u8);
        key.resize(self.size, 0);
        key.into()
    }
}

/// A value of `size` printable bytes.
fn value(size: usize) -> Bytes {
    let mut value = vec![0; size];
    Random::new(size as u64).fill(&mut value);
    value.into()
}

/// Single puts.
#[derive(Debug, Clone)]
pub struct Put {
    keys: Keys,
    value: Bytes,
}

impl Put {
    /// Puts values of `size` bytes.
    pub fn new(keys: Keys, size: usize) -> Self {
        Self { keys, value: value(size) }
    }
}

impl Workload for Put {
    fn classes(&self) -> &'static [&'static str] {
        &["put"]
    }

    fn begin(&mut self, n: u64, _: usize, random: &mut Random, out: &mut Vec<u8>) -> Call {
        let key = self.keys.key(n, random);
        encode(&PutRequest { key, value: self.value.clone(), ..Default::default() }, out);
        PUT
    }
}

/// The same read again and again, or single keys out of a key space.
#[derive(Debug, Clone)]
pub struct Range {
    /// What is sent; with `keys`, all but the key.
    pub request: RangeRequest,
    /// Where keys come from, when it is not always the same one.
    pub keys: Option<Keys>,
}

impl Workload for Range {
    fn classes(&self) -> &'static [&'static str] {
        &["range"]
    }

    fn begin(&mut self, n: u64, _: usize, random: &mut Random, out: &mut Vec<u8>) -> Call {
        if let Some(keys) = &self.keys {
            self.request.key = keys.key(n, random);
        }
        encode(&self.request, out);
        RANGE
    }
}

/// Transactions that only put.
#[derive(Debug, Clone)]
pub struct TxnPut {
    keys: Keys,
    value: Bytes,
    ops: u64,
}

impl TxnPut {
    /// `ops` puts each.
    pub fn new(keys: Keys, size: usize, ops: u64) -> Self {
        Self { keys, value: value(size), ops }
    }
}

impl Workload for TxnPut {
    fn classes(&self) -> &'static [&'static str] {
        &["txn"]
    }

    fn begin(&mut self, n: u64, _: usize, random: &mut Random, out: &mut Vec<u8>) -> Call {
        // One transaction must not put a key twice, so its keys follow each other.
        let first = if self.keys.sequential { n * self.ops } else { random.below(self.keys.space) };
        let sequence = Keys { sequential: true, ..self.keys.clone() };
        let success = (0..self.ops.min(self.keys.space))
            .map(|i| put_op(sequence.key(first + i, random), self.value.clone()))
            .collect();
        encode(&TxnRequest { success, ..Default::default() }, out);
        TXN
    }
}

fn put_op(key: Bytes, value: Bytes) -> RequestOp {
    let put = PutRequest { key, value, ..Default::default() };
    RequestOp { request: Some(Request::RequestPut(put)) }
}

/// Transactions that read or write, in a given proportion.
#[derive(Debug, Clone)]
pub struct Mixed {
    keys: Keys,
    value: Bytes,
    read: RangeRequest,
    /// Share of reads, 0 to 1.
    reads: f64,
    /// Whether a client's operation under way is a write.
    writing: HashMap<usize, bool>,
}

impl Mixed {
    /// `ratio` is reads per write.
    pub fn new(keys: Keys, size: usize, read: RangeRequest, ratio: f64) -> Self {
        let reads = if ratio.is_finite() { ratio / (1.0 + ratio) } else { 1.0 };
        Self { keys, value: value(size), read, reads, writing: HashMap::new() }
    }
}

impl Workload for Mixed {
    fn classes(&self) -> &'static [&'static str] {
        &["read", "write"]
    }

    fn begin(&mut self, n: u64, client: usize, random: &mut Random, out: &mut Vec<u8>) -> Call {
        let writing = random.below(1 << 20) as f64 >= self.reads * f64::from(1 << 20);
        self.writing.insert(client, writing);
        let op = if writing {
            put_op(self.keys.key(n, random), self.value.clone())
        } else {
            RequestOp { request: Some(Request::RequestRange(self.read.clone())) }
        };
        encode(&TxnRequest { success: vec![op], ..Default::default() }, out);
        TXN
    }

    fn class(&self, client: usize) -> usize {
        usize::from(self.writing.get(&client).copied().unwrap_or(false))
    }
}

/// What kube-apiserver does to change an object: get it, then a transaction that puts it if its
/// revision is unchanged and reads it otherwise.
#[derive(Debug, Clone)]
pub struct Update {
    keys: Keys,
    value: Bytes,
    /// The key a client is about to change.
    under_way: HashMap<usize, Bytes>,
}

impl Update {
    /// Updates to values of `size` bytes.
    pub fn new(keys: Keys, size: usize) -> Self {
        Self { keys, value: value(size), under_way: HashMap::new() }
    }
}

impl Workload for Update {
    fn classes(&self) -> &'static [&'static str] {
        &["update"]
    }

    fn begin(&mut self, n: u64, client: usize, random: &mut Random, out: &mut Vec<u8>) -> Call {
        let key = self.keys.key(n, random);
        self.under_way.insert(client, key.clone());
        encode(&RangeRequest { key, ..Default::default() }, out);
        Call { keep: Keep::Last, ..RANGE }
    }

    fn go_on(&mut self, client: usize, answer: &[u8], out: &mut Vec<u8>) -> Option<Call> {
        let key = self.under_way.remove(&client)?;
        // kvs is field 2 of the answer, mod_revision field 3 of a pair; 0 if there is none yet.
        let revision = scan::number(scan::bytes(answer, 2), 3) as i64;
        let compare = Compare {
            result: CompareResult::Equal.into(),
            target: CompareTarget::Mod.into(),
            key: key.clone(),
            target_union: Some(TargetUnion::ModRevision(revision)),
            ..Default::default()
        };
        let read = RangeRequest { key: key.clone(), ..Default::default() };
        let failure = vec![RequestOp { request: Some(Request::RequestRange(read)) }];
        let success = vec![put_op(key, self.value.clone())];
        encode(&TxnRequest { compare: vec![compare], success, failure }, out);
        Some(TXN)
    }
}

/// Name of a key of [`Fill`]: keys lie in groups, as objects do in namespaces.
fn group_key(group: u64, member: Option<u64>) -> String {
    match member {
        Some(member) => format!("/bench/{group:06}/{member:06}"),
        None => format!("/bench/{group:06}/"),
    }
}

/// Loads keys in groups, for [`List`].
#[derive(Debug, Clone)]
pub struct Fill {
    /// Keys in all.
    pub keys: u64,
    /// Keys of a group.
    pub per_group: u64,
    /// Puts of one transaction.
    pub batch: u64,
    value: Bytes,
}

impl Fill {
    /// Loads values of `size` bytes.
    pub fn new(keys: u64, per_group: u64, batch: u64, size: usize) -> Self {
        Self { keys, per_group, batch, value: value(size) }
    }

    /// Operations it takes.
    pub fn operations(&self) -> u64 {
        self.keys.div_ceil(self.batch)
    }
}

impl Workload for Fill {
    fn classes(&self) -> &'static [&'static str] {
        &["txn"]
    }

    fn begin(&mut self, n: u64, _: usize, _: &mut Random, out: &mut Vec<u8>) -> Call {
        let numbers = n * self.batch..((n + 1) * self.batch).min(self.keys);
        let success = numbers
            .map(|i| {
                let key = group_key(i / self.per_group, Some(i % self.per_group));
                let mut value = vec![0; self.value.len()];
                Random::new(i + 1).fill(&mut value);
                put_op(key.into(), value.into())
            })
            .collect();
        encode(&TxnRequest { success, ..Default::default() }, out);
        TXN
    }
}

/// Lists of what [`Fill`] loaded.
#[derive(Debug, Clone)]
pub struct List {
    request: RangeRequest,
    /// Groups to choose from; 0 lists across all of them.
    groups: u64,
    /// Follow a list with a limit to its end at its revision, one page an operation, as Kubernetes
    /// does.
    pages: bool,
    walks: HashMap<usize, Walk>,
}

/// A client's way through the pages.
#[derive(Debug, Clone, Default)]
struct Walk {
    /// Key to go on from; empty before the first page.
    next: Bytes,
    revision: i64,
    first_page: bool,
}

impl List {
    /// Lists by `request`, whose key and end are filled in.
    pub fn new(request: RangeRequest, groups: u64, pages: bool) -> Self {
        Self { request, groups, pages, walks: HashMap::new() }
    }

    fn prefix(&self, random: &mut Random) -> (Bytes, Bytes) {
        if self.groups == 0 {
            return ("/bench/".into(), "/bench0".into());
        }
        let start = group_key(random.below(self.groups), None);
        let end = format!("{}0", start.trim_end_matches('/'));
        (start.into(), end.into())
    }
}

impl Workload for List {
    fn classes(&self) -> &'static [&'static str] {
        if self.pages { &["first page", "later pages"] } else { &["list"] }
    }

    fn begin(&mut self, _: u64, client: usize, random: &mut Random, out: &mut Vec<u8>) -> Call {
        let (key, range_end) = self.prefix(random);
        let mut request = RangeRequest { key, range_end, ..self.request.clone() };
        if !self.pages {
            encode(&request, out);
            return RANGE;
        }
        let walk = self.walks.entry(client).or_default();
        walk.first_page = walk.next.is_empty();
        if !walk.first_page {
            request.key = walk.next.clone();
            request.revision = walk.revision;
        }
        encode(&request, out);
        Call { keep: Keep::Last, ..RANGE }
    }

    fn go_on(&mut self, client: usize, answer: &[u8], _: &mut Vec<u8>) -> Option<Call> {
        if self.pages {
            let walk = self.walks.entry(client).or_default();
            if walk.first_page {
                walk.revision = scan::number(scan::bytes(answer, 1), 3) as i64;
            }
            let more = scan::number(answer, 3) != 0;
            let last = scan::bytes(scan::bytes(answer, 2), 1);
            walk.next = if more { [last, &[0]].concat().into() } else { Bytes::new() };
        }
        None
    }

    fn class(&self, client: usize) -> usize {
        let later = self.walks.get(&client).is_some_and(|w| !w.first_page);
        usize::from(self.pages && later)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use etcdrs_proto::etcdserverpb::{RangeResponse, ResponseHeader};
    use etcdrs_proto::mvccpb::KeyValue;

    fn random() -> Random {
        Random::new(1)
    }

    #[test]
    fn keys_are_of_the_size_and_sequence_asked_for() {
        let keys = Keys { size: 8, space: 300, sequential: true };
        assert_eq!(&keys.key(1, &mut random())[..], [1, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(keys.key(299, &mut random()).len(), 8);
        assert_eq!(keys.key(300, &mut random()), keys.key(0, &mut random()));
    }

    #[test]
    fn an_update_compares_the_revision_it_read() {
        let mut update = Update::new(Keys { size: 4, space: 1, sequential: true }, 3);
        let mut out = Vec::new();
        update.begin(0, 9, &mut random(), &mut out);
        let kv = KeyValue { mod_revision: 77, ..Default::default() };
        let answer = RangeResponse { kvs: vec![kv], ..Default::default() }.encode_to_vec();
        out.clear();
        assert!(update.go_on(9, &answer, &mut out).is_some());
        let txn = TxnRequest::decode(out.as_slice()).unwrap();
        assert_eq!(txn.compare[0].target_union, Some(TargetUnion::ModRevision(77)));
        assert!(update.go_on(9, &answer, &mut out).is_none(), "two steps, not more");
    }

    #[test]
    fn pages_go_on_behind_the_last_key_at_the_first_revision() {
        let request = RangeRequest { limit: 1, ..Default::default() };
        let mut list = List::new(request, 0, true);
        let mut out = Vec::new();
        list.begin(0, 0, &mut random(), &mut out);
        assert_eq!(list.class(0), 0);
        let page = |revision, more| RangeResponse {
            header: Some(ResponseHeader { revision, ..Default::default() }),
            kvs: vec![KeyValue { key: "/bench/a".into(), ..Default::default() }],
            more,
            ..Default::default()
        };
        list.go_on(0, &page(5, true).encode_to_vec(), &mut Vec::new());
        out.clear();
        list.begin(1, 0, &mut random(), &mut out);
        let second = RangeRequest::decode(out.as_slice()).unwrap();
        assert_eq!((second.revision, second.key, list.class(0)), (5, "/bench/a\0".into(), 1));
        list.go_on(0, &page(9, false).encode_to_vec(), &mut Vec::new());
        out.clear();
        list.begin(2, 0, &mut random(), &mut out);
        assert_eq!(RangeRequest::decode(out.as_slice()).unwrap().revision, 0, "a new walk");
    }

    #[test]
    fn a_fill_loads_every_key_once() {
        let mut fill = Fill::new(10, 4, 3, 1);
        assert_eq!(fill.operations(), 4);
        let mut keys = Vec::new();
        for n in 0..4 {
            let mut out = Vec::new();
            fill.begin(n, 0, &mut random(), &mut out);
            for op in TxnRequest::decode(out.as_slice()).unwrap().success {
                let Some(Request::RequestPut(put)) = op.request else { panic!() };
                keys.push(put.key);
            }
        }
        assert_eq!(keys.len(), 10);
        assert_eq!(keys[9], "/bench/000002/000001");
    }
}
