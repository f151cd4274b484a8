//! A follower installs a leader's snapshot: from the checkpoint over the stream to the machine that
//! goes on with it, in the order in which raft-glue calls it.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use etcdrs_apply::{
    AlarmKind, Entry, Loaded, Machine, OpenError, Options, Payload, Position, ReplaceError, Shared,
};
use etcdrs_backend::Backend;
use etcdrs_mvcc::RangeQuery;
use etcdrs_mvcc::watch::{Response, Wake, WatchSpec};
use etcdrs_platform::{Fs as _, OsFs};
use etcdrs_proto::{etcdserverpb as pb, membershippb};
use etcdrs_snap::{DbDirs, DbError, IncomingDb, OutgoingDb};
use etcdrs_types::{KeyRange, LogIndex, Term};
use prost::Message as _;

/// A member without its log.
struct Member {
    machine: Machine,
    dirs: DbDirs<OsFs>,
    _dir: tempfile::TempDir,
}

impl Member {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let snap_dir = dir.path().join("member/snap");
        OsFs.create_dir_all(&snap_dir, 0o700).unwrap();
        let dirs = DbDirs::new(OsFs, &snap_dir);
        Self { machine: open(&dirs), dirs, _dir: dir }
    }

    fn apply(&mut self, requests: &[pb::InternalRaftRequest]) {
        let next = self.machine.applied().0.0 + 1;
        let entries = (next..).zip(requests).map(|(index, request)| Entry {
            index: LogIndex(index),
            term: Term(7),
            payload: Payload::Request(request.encode_to_vec().into()),
        });
        let entries: Vec<Entry> = entries.collect();
        for slice in entries.chunks(10) {
            self.machine.apply(slice).unwrap();
        }
    }

    fn restart(self) -> Self {
        let Self { machine, dirs, _dir } = self;
        drop(machine);
        dirs.remove_partial().unwrap();
        dirs.remove_stale().unwrap();
        Self { machine: open(&dirs), dirs, _dir }
    }

    /// The stream of this member's database, as a peer gets it.
    fn stream(&self) -> Vec<Bytes> {
        let dir = self.dirs.sending_dir();
        let Position { applied: (index, term), .. } =
            self.machine.shared().checkpoint(&dir).unwrap();
        let outgoing = Arc::new(OutgoingDb::open(&self.dirs, dir, index, term).unwrap());
        let mut reader = outgoing.reader();
        std::iter::from_fn(|| reader.next_chunk().unwrap()).collect()
    }

    /// Everything a receiver does, in its order.
    fn install(&mut self, stream: &[Bytes]) {
        let mut incoming = IncomingDb::new(self.dirs.clone());
        stream.iter().for_each(|chunk| incoming.write(chunk).unwrap());
        let received = incoming.finish().unwrap();
        let at = (received.manifest().index, received.manifest().term);
        let position = Position::verify(received.dir(), at).unwrap();
        assert_eq!(position.applied, at);
        let dir = received.keep().unwrap();
        // The log is marked here.
        assert_eq!(self.dirs.switch_to(at.0).unwrap(), dir);
        let backend = self.machine.shared().backend().open_beside(&dir).unwrap();
        let loaded = Loaded::open(backend, self.machine.options()).unwrap();
        assert_eq!(loaded.position(), &position);
        let retired = self.machine.replace(loaded).unwrap();
        let old = retired.into_backend().close().expect("nobody reads");
        self.dirs.remove(&old).unwrap();
        assert_eq!(self.machine.shared().backend().path(), dir);
    }
}

fn options() -> Options {
    Options { store: Default::default(), lease: Default::default(), watch: Default::default() }
}

fn open(dirs: &DbDirs<OsFs>) -> Machine {
    let backend = Backend::open(&dirs.live().unwrap(), &Default::default()).unwrap();
    Machine::open(backend, options()).unwrap().machine
}

fn put(key: &str, value: &str, lease: i64) -> pb::InternalRaftRequest {
    let (key, value) = (key.to_owned().into(), value.to_owned().into());
    let put = Some(pb::PutRequest { key, value, lease, ..Default::default() });
    pb::InternalRaftRequest { put, ..Default::default() }
}

fn grant(id: i64) -> pb::InternalRaftRequest {
    let lease_grant = Some(pb::LeaseGrantRequest { id, ttl: 60 });
    pb::InternalRaftRequest { lease_grant, ..Default::default() }
}

fn compact(revision: i64) -> pb::InternalRaftRequest {
    let compaction = Some(pb::CompactionRequest { revision, physical: false });
    pb::InternalRaftRequest { compaction, ..Default::default() }
}

fn version(ver: &str) -> pb::InternalRaftRequest {
    let set = membershippb::ClusterVersionSetRequest { ver: ver.into() };
    let cluster_version_set = Some(set.into());
    pb::InternalRaftRequest { cluster_version_set, ..Default::default() }
}

fn alarm() -> pb::InternalRaftRequest {
    let alarm = Some(pb::AlarmRequest { action: 1, member_id: 5, alarm: 1 }.into());
    pb::InternalRaftRequest { alarm, ..Default::default() }
}

/// `key=value@revision` of every key, and everything else there is to see.
fn dump(shared: &Shared) -> String {
    let all = shared.reader.range(&RangeQuery::new(KeyRange::all())).unwrap();
    let pairs = all.kvs.iter().map(|kv| {
        let kv = kv.decode().unwrap();
        let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
        format!("{}={}@{}", text(&kv.key), text(&kv.value), kv.mod_revision)
    });
    let pairs: Vec<_> = pairs.collect();
    let mut lessor = shared.lessor.lock();
    let leases: Vec<_> =
        lessor.list(0).iter().map(|&id| (id.0, lessor.keys(id).unwrap())).collect();
    let cluster = shared.cluster.read().version().map(str::to_owned);
    let alarms = shared.alarms();
    let applied = shared.applied_index();
    format!("{pairs:?} {leases:?} {cluster:?} {alarms:?} {applied}")
}

struct Silent;

impl Wake for Silent {
    fn wake(&self) {}
}

fn first_half() -> Vec<pb::InternalRaftRequest> {
    let mut requests = vec![grant(1), grant(2), put("a", "1", 1), version("3.6.0")];
    requests.extend((0..30).map(|n| put(&format!("k{}", n % 5), &n.to_string(), 2)));
    requests
}

fn second_half() -> Vec<pb::InternalRaftRequest> {
    let lease_revoke = Some(pb::LeaseRevokeRequest { id: 2 });
    let mut requests = vec![grant(3), put("a", "2", 3), version("3.7.0"), compact(10)];
    requests.push(pb::InternalRaftRequest { lease_revoke, ..Default::default() });
    requests.extend((0..30).map(|n| put(&format!("k{}", n % 7), &format!("new {n}"), 0)));
    requests.push(alarm());
    requests
}

#[test]
fn a_follower_goes_on_with_the_leaders_database() {
    let (mut leader, mut follower) = (Member::new(), Member::new());
    leader.apply(&first_half());
    leader.apply(&second_half());
    follower.apply(&first_half());
    let shared = follower.machine.shared();
    let stream = shared.hub.stream(Arc::new(Silent));
    stream.create(WatchSpec::new(KeyRange::single("a"))).unwrap();
    let before = dump(&shared);
    let sent = leader.stream();
    // The leader goes on meanwhile, which the snapshot does not show.
    leader.apply(&[put("later", "1", 0)]);
    assert_eq!(dump(&shared), before);
    follower.install(&sent);
    assert_ne!(dump(&shared), before);
    assert_eq!(follower.machine.applied().0.0, leader.machine.applied().0.0 - 1);
    follower.apply(&[put("later", "1", 0)]);
    let want = dump(&leader.machine.shared());
    assert_eq!(dump(&shared), want, "handles from before show the new state");
    assert_eq!(shared.alarms()[0].kind, AlarmKind::NoSpace);
    assert!(!shared.lessor.lock().is_primary());
    while shared.hub.catch_up(10) {}
    let mut out = Vec::new();
    stream.poll(usize::MAX, &mut out);
    let [Response::Events { events, .. }] = &out[..] else { panic!("{out:?}") };
    let values: Vec<_> = events.iter().map(|event| event.kv.value().to_vec()).collect();
    assert_eq!(values, [b"2"], "what it missed, once");
    // Nothing but the database in use is left, and a start opens it.
    drop((stream, shared));
    let follower = follower.restart();
    assert_eq!(dump(&follower.machine.shared()), want);
    let names = OsFs.list(follower.dirs.dir()).unwrap();
    let names: Vec<_> = names.iter().map(|entry| entry.name.to_str().unwrap()).collect();
    let live = format!("db-{:016x}", leader.machine.applied().0.0 - 1);
    assert_eq!(names, ["CURRENT-DB", &live]);
    let hash = |member: &Member| member.machine.shared().reader.hash_kv(0).unwrap().hash;
    assert_eq!(hash(&follower), hash(&leader));
    // And again: a second snapshot takes the place of the first.
    let mut follower = follower;
    leader.apply(&first_half()[4..]);
    follower.install(&leader.stream());
    assert_eq!(dump(&follower.machine.shared()), dump(&leader.machine.shared()));
}

#[test]
fn what_is_not_what_it_claims_is_refused() {
    let mut leader = Member::new();
    leader.apply(&first_half());
    let dir = leader.dirs.sending_dir();
    let Position { applied, membership } = leader.machine.shared().checkpoint(&dir).unwrap();
    assert_eq!((applied, membership), (leader.machine.applied(), None));
    let error = Position::verify(&dir, (LogIndex(99), Term(7))).unwrap_err();
    assert!(matches!(error, OpenError::Position { .. }), "{error}");
    assert!(error.to_string().ends_with("stands at entry 34 of term 7, not at 99 of 7"), "{error}");
    let missing = leader.dirs.sending_dir();
    assert!(matches!(Position::read(&missing).unwrap_err(), OpenError::Database(_)));
    // A table file that lost its end is found when it is opened.
    let is_table = |path: &Path| path.extension().is_some_and(|ext| ext == "sst");
    let mut files = std::fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path());
    let table = files.find(|path| is_table(path)).unwrap();
    let content = std::fs::read(&table).unwrap();
    std::fs::remove_file(&table).unwrap();
    std::fs::write(&table, &content[..content.len() / 2]).unwrap();
    assert!(Position::verify(&dir, applied).is_err());
}

#[test]
fn a_database_from_before_is_refused_and_changes_nothing() {
    let (mut leader, mut follower) = (Member::new(), Member::new());
    leader.apply(&first_half());
    let dir = leader.dirs.sending_dir();
    leader.machine.shared().checkpoint(&dir).unwrap();
    follower.apply(&first_half());
    follower.apply(&second_half());
    let before = dump(&follower.machine.shared());
    let backend = follower.machine.shared().backend().open_beside(&dir).unwrap();
    let loaded = Loaded::open(backend, follower.machine.options()).unwrap();
    let Err(error) = follower.machine.replace(loaded) else { panic!("it is older") };
    assert!(matches!(error, ReplaceError::Behind { .. }), "{error}");
    assert_eq!(error.to_string(), "a database at entry 34 cannot replace one at 70");
    assert_eq!(dump(&follower.machine.shared()), before);
    follower.apply(&[version("3.8.0")]);
    assert_eq!(follower.machine.shared().cluster.read().version(), Some("3.8.0"));
    let error = follower.dirs.switch_to(LogIndex(34)).unwrap_err();
    assert!(matches!(error, DbError::Missing { .. }), "{error}");
}
