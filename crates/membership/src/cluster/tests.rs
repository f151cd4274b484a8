//! Tests of the cluster against a real database.

use etcdrs_backend::Options;
use etcdrs_proto::membershippb::Attributes;
use tempfile::TempDir;

use super::*;
use crate::member_id;

fn backend() -> (Backend, TempDir) {
    let dir = tempfile::tempdir().unwrap();
    (Backend::open(&dir.path().join("db"), &Options::default()).unwrap(), dir)
}

fn member(url: &str) -> MemberRecord {
    let peer_urls = vec![url.to_owned()];
    let id = member_id(&peer_urls, "etcd-cluster", None);
    MemberRecord { id, peer_urls, ..MemberRecord::default() }
}

/// Changes the cluster, and checks that the rows then say the same as the memory.
fn change(backend: &Backend, cluster: &mut Cluster, apply: impl FnOnce(&mut Cluster, &mut Batch)) {
    let mut batch = backend.batch();
    apply(cluster, &mut batch);
    backend.write(batch).unwrap();
    assert_eq!(Cluster::open(backend).unwrap(), *cluster);
}

#[test]
fn an_empty_database_is_an_empty_cluster() {
    let (backend, _dir) = backend();
    let cluster = Cluster::open(&backend).unwrap();
    assert!(cluster.is_empty());
    assert_eq!(cluster.version(), None);
}

#[test]
fn bootstrap_publish_and_version() {
    let (backend, _dir) = backend();
    let mut cluster = Cluster::default();
    let first = member("http://localhost:2380");
    let id = first.id;
    change(&backend, &mut cluster, |cluster, batch| cluster.insert(batch, first));
    assert_eq!(cluster.bootstrap_id().to_string(), "cdf818194e3a8c32");
    let row = backend.get(Bucket::Members, b"8e9e05c52164694d").unwrap().unwrap();
    let json = r#"{"id":10276657743932975437,"peerURLs":["http://localhost:2380"]}"#;
    assert_eq!(&row[..], json.as_bytes());

    let publish = ClusterMemberAttrSetRequest {
        member_id: id.0,
        member_attributes: Some(Attributes {
            name: "default".to_owned(),
            client_urls: vec!["http://localhost:2379".to_owned()],
        }),
    };
    change(&backend, &mut cluster, |cluster, batch| {
        assert!(cluster.set_attributes(batch, &publish));
    });
    let published = cluster.member(id).unwrap();
    assert_eq!((published.name.as_str(), published.client_urls.len()), ("default", 1));

    change(&backend, &mut cluster, |cluster, batch| cluster.set_version(batch, "3.7.0"));
    assert_eq!(cluster.version(), Some("3.7.0"));
    let row = backend.get(Bucket::Cluster, b"clusterVersion").unwrap();
    assert_eq!(row.as_deref(), Some(&b"3.7.0"[..]));
}

#[test]
fn publishing_for_an_unknown_member_changes_nothing() {
    let (backend, _dir) = backend();
    let mut cluster = Cluster::default();
    let publish = ClusterMemberAttrSetRequest { member_id: 5, member_attributes: None };
    change(&backend, &mut cluster, |cluster, batch| {
        assert!(!cluster.set_attributes(batch, &publish));
        assert!(batch.is_empty());
    });
}

#[test]
fn mb_08_members_are_sorted_by_id() {
    let (backend, _dir) = backend();
    let mut cluster = Cluster::default();
    change(&backend, &mut cluster, |cluster, batch| {
        for port in 1..=5 {
            cluster.insert(batch, member(&format!("http://localhost:{port}")));
        }
    });
    let ids: Vec<MemberId> = cluster.members().map(|member| member.id).collect();
    assert!(ids.is_sorted());
    assert_eq!((ids.len(), ids), (cluster.len(), cluster.member_ids()));
}

#[test]
fn mb_09_a_removed_id_stays_known() {
    let (backend, _dir) = backend();
    let mut cluster = Cluster::default();
    let gone = member("http://localhost:2380");
    let id = gone.id;
    change(&backend, &mut cluster, |cluster, batch| cluster.insert(batch, gone));
    change(&backend, &mut cluster, |cluster, batch| cluster.remove(batch, id));
    assert!(cluster.is_empty() && cluster.is_removed(id));
}

#[test]
fn damaged_rows_are_named() {
    let damage = |bucket, key: &[u8], value: &[u8]| {
        let (backend, _dir) = backend();
        let mut batch = backend.batch();
        batch.put(bucket, key, value);
        backend.write(batch).unwrap();
        Cluster::open(&backend).unwrap_err().to_string()
    };
    assert_eq!(damage(Bucket::Members, b"1", b"{"), "corrupt row of member \"1\"");
    assert_eq!(damage(Bucket::Members, b"xyz", b"{}"), "corrupt member id \"xyz\"");
    assert_eq!(damage(Bucket::Members, b"1", br#"{"id":2}"#), "corrupt member id \"1\"");
    assert_eq!(damage(Bucket::Cluster, b"clusterVersion", b"\xff"), "corrupt cluster version");
}

fn learner(url: &str) -> MemberRecord {
    MemberRecord { is_learner: true, ..member(url) }
}

#[test]
fn changes_apply_once_with_their_rows() {
    let (backend, _dir) = backend();
    let mut cluster = Cluster::default();
    let joiner = learner("http://b:1");
    let id = joiner.id;
    change(&backend, &mut cluster, |cluster, batch| cluster.insert(batch, member("http://a:1")));
    let moved = vec!["http://c:1".to_owned()];
    for (step, learners, urls) in [
        (Change::Add(joiner.clone()), 1, "http://b:1"),
        (Change::Promote(id), 0, "http://b:1"),
        (Change::Update { id, peer_urls: moved }, 0, "http://c:1"),
    ] {
        change(&backend, &mut cluster, |cluster, batch| {
            assert_eq!(cluster.apply(batch, &step), Ok(Applied::Changed));
        });
        change(&backend, &mut cluster, |cluster, batch| {
            assert_eq!(cluster.apply(batch, &step), Ok(Applied::Unchanged));
            assert!(batch.is_empty());
        });
        assert_eq!(cluster.members().filter(|member| member.is_learner).count(), learners);
        assert_eq!(cluster.member(id).unwrap().peer_urls, [urls]);
    }
    for applied in [Applied::Changed, Applied::Unchanged] {
        change(&backend, &mut cluster, |cluster, batch| {
            assert_eq!(cluster.apply(batch, &Change::Remove(id)), Ok(applied));
        });
    }
    // MB-09: the id does not come back, by no change at all.
    for step in [Change::Add(joiner), Change::Promote(id)] {
        change(&backend, &mut cluster, |cluster, batch| {
            assert_eq!(cluster.apply(batch, &step), Err(Refused::MemberNotFound));
            assert!(batch.is_empty());
        });
    }
}

#[test]
fn a_promotion_keeps_what_the_member_published() {
    let (backend, _dir) = backend();
    let mut cluster = Cluster::default();
    let joiner = MemberRecord { name: "b".into(), ..learner("http://b:1") };
    let id = joiner.id;
    change(&backend, &mut cluster, |cluster, batch| {
        cluster.apply(batch, &Change::Add(joiner.clone())).unwrap();
        cluster.apply(batch, &Change::Promote(id)).unwrap();
    });
    assert_eq!(*cluster.member(id).unwrap(), MemberRecord { is_learner: false, ..joiner });
}

#[test]
fn what_breaks_a_rule_is_refused_on_every_member_alike() {
    let (backend, _dir) = backend();
    let mut cluster = Cluster::default();
    let first = member("http://a:1");
    change(&backend, &mut cluster, |cluster, batch| cluster.insert(batch, first.clone()));
    let twin = MemberRecord { id: MemberId(7), ..first.clone() };
    let other = MemberRecord { peer_urls: vec!["http://z:1".to_owned()], ..first };
    for (step, why) in [
        (Change::Add(twin), Refused::PeerUrlExists),
        (Change::Add(other), Refused::MemberExists),
        (Change::Remove(MemberId(7)), Refused::MemberNotFound),
        (Change::Promote(MemberId(7)), Refused::MemberNotFound),
    ] {
        change(&backend, &mut cluster, |cluster, batch| {
            assert_eq!(cluster.apply(batch, &step), Err(why));
            assert!(batch.is_empty());
        });
    }
}

#[test]
fn a_bootstrap_clears_what_an_interrupted_one_left() {
    let (backend, _dir) = backend();
    let mut cluster = Cluster::default();
    change(&backend, &mut cluster, |cluster, batch| {
        cluster.bootstrap(batch, [member("http://a:1"), member("http://b:1")].into_iter());
    });
    change(&backend, &mut cluster, |cluster, batch| {
        cluster.bootstrap(batch, [member("http://b:1"), member("http://c:1")].into_iter());
    });
    let mut urls: Vec<_> = cluster.members().map(|member| member.peer_urls[0].as_str()).collect();
    urls.sort_unstable();
    assert_eq!(urls, ["http://b:1", "http://c:1"]);
    assert!(!cluster.is_removed(member("http://a:1").id));
}

#[test]
fn u24_force_new_leaves_one_voter() {
    let (backend, _dir) = backend();
    let mut cluster = Cluster::default();
    let (own, voter, third) = (learner("http://a:1"), member("http://b:1"), learner("http://c:1"));
    change(&backend, &mut cluster, |cluster, batch| {
        cluster.bootstrap(batch, [own.clone(), voter.clone(), third.clone()].into_iter());
    });
    change(&backend, &mut cluster, |cluster, batch| cluster.force_new(batch, &[own.id]));
    assert_eq!(cluster.members().collect::<Vec<_>>(), [&MemberRecord { is_learner: false, ..own }]);
    assert!(cluster.is_removed(voter.id) && cluster.is_removed(third.id));
    // A member that has not applied its own addition yet is its own cluster all the same.
    let late = MemberId(77);
    change(&backend, &mut cluster, |cluster, batch| cluster.force_new(batch, &[late]));
    assert_eq!(cluster.member_ids(), [late]);
    assert_eq!(cluster.member(late).unwrap().peer_urls, ["http://localhost:2380"]);
}
