//! The machine driven by entries, as the log would.

use bytes::Bytes;
use etcdrs_apply::{Answer, Entry, Machine, OpResult, Options, Outcome, Payload, Refusal};
use etcdrs_backend::Backend;
use etcdrs_mvcc::RangeQuery;
use etcdrs_proto::etcdserverpb as pb;
use etcdrs_types::{KeyRange, LeaseId, LogIndex, Term};
use pb::request_op::Request;
use prost::Message as _;

struct Bench {
    machine: Machine,
    next: u64,
    // Last, so that the database closes before its directory goes: RocksDB would wait for it.
    dir: tempfile::TempDir,
}

fn options() -> Options {
    Options { store: Default::default(), lease: Default::default(), watch: Default::default() }
}

fn open(dir: &std::path::Path) -> Machine {
    let backend = Backend::open(&dir.join("db"), &Default::default()).expect("open backend");
    Machine::open(backend, options()).expect("open machine").machine
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("temp dir");
        let machine = open(dir.path());
        Self { dir, machine, next: 1 }
    }

    fn entry(&mut self, request: pb::InternalRaftRequest) -> Entry {
        let index = LogIndex(self.next);
        self.next += 1;
        let payload = Payload::Request(request.encode_to_vec().into());
        Entry { index, term: Term(1), payload }
    }

    fn apply(&mut self, requests: Vec<pb::InternalRaftRequest>) -> Vec<Outcome> {
        let entries: Vec<Entry> = requests.into_iter().map(|r| self.entry(r)).collect();
        self.machine.apply(&entries).expect("apply")
    }

    fn one(&mut self, request: pb::InternalRaftRequest) -> Outcome {
        self.apply(vec![request]).remove(0)
    }

    fn restart(self) -> Self {
        let Self { dir, machine, next } = self;
        machine.shared().backend().flush().expect("flush");
        drop(machine);
        let machine = open(dir.path());
        Self { dir, machine, next }
    }

    /// `key=value@mod` for every key.
    fn dump(&self) -> String {
        let reader = self.machine.shared().reader;
        let all = reader.range(&RangeQuery::new(KeyRange::all())).expect("range");
        let pairs = all.kvs.iter().map(|kv| {
            let kv = kv.decode().expect("stored pairs decode");
            let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
            format!("{}={}@{}", text(&kv.key), text(&kv.value), kv.mod_revision)
        });
        pairs.collect::<Vec<_>>().join(" ")
    }
}

fn put_request(key: &str, value: &str, lease: i64) -> pb::PutRequest {
    pb::PutRequest {
        key: Bytes::copy_from_slice(key.as_bytes()),
        value: Bytes::copy_from_slice(value.as_bytes()),
        lease,
        ..Default::default()
    }
}

fn put(key: &str, value: &str) -> pb::InternalRaftRequest {
    pb::InternalRaftRequest { put: Some(put_request(key, value, 0)), ..Default::default() }
}

fn leased(key: &str, lease: i64) -> pb::InternalRaftRequest {
    pb::InternalRaftRequest { put: Some(put_request(key, "", lease)), ..Default::default() }
}

fn grant(id: i64, ttl: i64) -> pb::InternalRaftRequest {
    let lease_grant = Some(pb::LeaseGrantRequest { id, ttl });
    pb::InternalRaftRequest { lease_grant, ..Default::default() }
}

fn txn(success: Vec<Request>) -> pb::InternalRaftRequest {
    let ops = success.into_iter().map(|op| pb::RequestOp { request: Some(op) }).collect();
    let txn = pb::TxnRequest { success: ops, ..Default::default() };
    pb::InternalRaftRequest { txn: Some(txn), ..Default::default() }
}

fn range_op(key: &str, revision: i64) -> Request {
    let key = Bytes::copy_from_slice(key.as_bytes());
    Request::RequestRange(pb::RangeRequest { key, revision, ..Default::default() })
}

#[test]
fn rv_01_rv_02_revisions_start_at_one_and_count_changing_requests() {
    let mut bench = Bench::new();
    let none = pb::InternalRaftRequest {
        delete_range: Some(pb::DeleteRangeRequest { key: "x".into(), ..Default::default() }),
        ..Default::default()
    };
    let outcomes = bench.apply(vec![none, put("a", "1"), put("a", "1")]);
    let revisions: Vec<i64> = outcomes.iter().map(|outcome| outcome.revision).collect();
    assert_eq!(revisions, [1, 2, 3]);
    assert_eq!(bench.dump(), "a=1@3");
}

#[test]
fn entries_of_one_batch_see_each_other_and_nothing_is_visible_before() {
    let mut bench = Bench::new();
    let outcomes = bench.apply(vec![put("a", "1"), txn(vec![range_op("a", 0)])]);
    let Ok(Answer::Txn(answer)) = &outcomes[1].result else { panic!("not a txn") };
    let OpResult::Range(found) = &answer.results[0] else { panic!("not a range") };
    assert_eq!(found.kvs.len(), 1);
}

#[test]
fn tx_11_a_refused_txn_writes_nothing() {
    let mut bench = Bench::new();
    let put_op = |key: &str, lease| Request::RequestPut(put_request(key, "v", lease));
    let outcome = bench.one(txn(vec![put_op("q", 0), range_op("q", 9999)]));
    assert_eq!(outcome.result.map(drop), Err(Refusal::FutureRevision));
    let outcome = bench.one(txn(vec![put_op("q", 0), put_op("r", 77)]));
    assert_eq!(outcome.result.map(drop), Err(Refusal::LeaseNotFound));
    assert_eq!((outcome.revision, bench.dump()), (1, String::new()));
}

#[test]
fn le_03_pd_04_leases_hold_keys_and_take_them_along() {
    let mut bench = Bench::new();
    bench.apply(vec![
        grant(7, 100),
        grant(8, 100),
        leased("l2", 7),
        leased("l1", 7),
        leased("x", 7),
    ]);
    bench.one(leased("x", 8));
    let mut bench = bench.restart();
    let revoke = pb::InternalRaftRequest {
        lease_revoke: Some(pb::LeaseRevokeRequest { id: 7 }),
        ..Default::default()
    };
    let outcome = bench.one(revoke.clone());
    assert_eq!(outcome.revision, 6, "two keys go in one revision");
    assert_eq!(bench.dump(), "x=@5");
    assert_eq!(bench.one(revoke).result.map(drop), Err(Refusal::LeaseNotFound));
    assert_eq!(bench.one(grant(8, 5)).result.map(drop), Err(Refusal::LeaseExists));
}

#[test]
fn an_expiry_of_an_earlier_term_is_void() {
    let mut bench = Bench::new();
    bench.apply(vec![grant(7, 100), leased("k", 7)]);
    let expire = |term| {
        let request = pb::LeaseExpireRequest { ids: vec![7], term };
        pb::InternalRaftRequest { lease_revokes: Some(request), ..Default::default() }
    };
    assert_eq!(bench.one(expire(9)).result.map(drop), Err(Refusal::StaleTerm));
    assert_eq!(bench.dump(), "k=@2");
    assert!(bench.one(expire(1)).result.is_ok());
    assert_eq!(bench.dump(), "");
}

fn checkpoint(id: i64, remaining_ttl: i64, term: u64) -> pb::InternalRaftRequest {
    let checkpoints = vec![pb::LeaseCheckpoint { id, remaining_ttl }];
    let request = pb::LeaseCheckpointRequest { checkpoints, term };
    pb::InternalRaftRequest { lease_checkpoint: Some(request), ..Default::default() }
}

fn cluster_version(version: &str) -> pb::InternalRaftRequest {
    let set = etcdrs_proto::membershippb::ClusterVersionSetRequest { ver: version.into() };
    pb::InternalRaftRequest { cluster_version_set: Some(set.into()), ..Default::default() }
}

impl Bench {
    /// What a leader would give the lease now, seconds.
    fn left(&self, id: i64) -> i64 {
        let found = self.machine.shared().lessor.lock().time_to_live(LeaseId(id), 0);
        found.expect("there is such a lease").remaining_seconds
    }
}

#[test]
fn le_11_records_are_stored_from_cluster_version_3_6_on() {
    for (version, after_restart) in [("3.5.0", 100), ("3.6.0", 40), ("3.7.0", 40)] {
        let mut bench = Bench::new();
        bench.apply(vec![cluster_version(version), grant(7, 100), checkpoint(7, 40, 1)]);
        assert_eq!(bench.left(7), 40);
        let mut bench = bench.restart();
        assert_eq!(bench.left(7), after_restart, "{version}");
        // What a renewal forgets stays forgotten, whatever the version is by then.
        bench.apply(vec![cluster_version("3.5.0"), checkpoint(7, 0, 1)]);
        assert_eq!(bench.restart().left(7), 100, "{version}");
    }
}

#[test]
fn le_11_a_record_of_an_earlier_term_is_void() {
    let mut bench = Bench::new();
    bench.one(grant(7, 100));
    let refused = bench.one(checkpoint(7, 40, 9)).result.map(drop);
    assert_eq!((refused, bench.left(7)), (Err(Refusal::StaleTerm), 100));
    // etcd's own entries have none.
    assert!(bench.one(checkpoint(7, 40, 0)).result.is_ok());
    assert_eq!(bench.left(7), 40);
}

#[test]
fn al_04_al_05_alarms_block_what_they_should_and_survive_a_restart() {
    let mut bench = Bench::new();
    bench.one(put("a", "1"));
    let alarm = |action, alarm| {
        let request = pb::AlarmRequest { action, member_id: 5, alarm };
        pb::InternalRaftRequest { alarm: Some(request.into()), ..Default::default() }
    };
    bench.one(alarm(1, 1));
    let mut bench = bench.restart();
    let delete = pb::InternalRaftRequest {
        delete_range: Some(pb::DeleteRangeRequest { key: "a".into(), ..Default::default() }),
        ..Default::default()
    };
    assert_eq!(bench.one(put("b", "1")).result.map(drop), Err(Refusal::NoSpace));
    assert_eq!(bench.one(grant(1, 5)).result.map(drop), Err(Refusal::NoSpace));
    assert!(bench.one(delete.clone()).result.is_ok());
    bench.one(alarm(1, 2));
    assert_eq!(bench.one(delete.clone()).result.map(drop), Err(Refusal::Corrupt));
    bench.apply(vec![alarm(2, 1), alarm(2, 2)]);
    assert!(bench.machine.shared().alarms().is_empty());
    assert!(bench.one(put("b", "1")).result.is_ok());
}

#[test]
fn a_restart_goes_on_at_the_applied_index_and_refuses_a_gap() {
    let mut bench = Bench::new();
    bench.apply(vec![put("a", "1"), put("b", "2")]);
    let mut bench = bench.restart();
    assert_eq!(bench.machine.applied(), (LogIndex(2), Term(1)));
    assert_eq!(bench.dump(), "a=1@2 b=2@3");
    bench.next = 5;
    let gap = bench.entry(put("c", "3"));
    let error = bench.machine.apply(&[gap]).expect_err("a gap").to_string();
    assert_eq!(error, "entry 5 after 2 breaks the order");
    bench.next = 3;
    assert_eq!(bench.one(put("c", "3")).revision, 4);
}

#[test]
fn the_same_entries_make_the_same_state_in_any_batching() {
    let requests = || {
        let mut all = vec![grant(9, 50)];
        for i in 0..60 {
            all.push(put(&format!("k{}", i % 7), &i.to_string()));
            all.push(leased(&format!("l{}", i % 3), 9));
            if i % 11 == 0 {
                let delete = pb::DeleteRangeRequest {
                    key: "k2".into(),
                    range_end: "k5".into(),
                    ..Default::default()
                };
                all.push(pb::InternalRaftRequest {
                    delete_range: Some(delete),
                    ..Default::default()
                });
            }
        }
        all
    };
    let (mut one_by_one, mut at_once) = (Bench::new(), Bench::new());
    for request in requests() {
        one_by_one.one(request);
    }
    at_once.apply(requests());
    assert_eq!(one_by_one.dump(), at_once.dump());
    let hash = |bench: &Bench| bench.machine.shared().reader.hash_kv(0).expect("hash").hash;
    assert_eq!(hash(&one_by_one), hash(&at_once));
}
