//! The ways a member may begin, and the words with which it refuses to.

use etcdrs_tests::cluster::TOKEN;
use etcdrs_tests::server::{Server, Setup, free_port};

use crate::support::*;

/// The output of a server that must not start, without the escapes of JSON.
async fn refused(setup: Setup) -> String {
    let mut server = setup.spawn().unwrap();
    let end = server.wait_exit().await;
    let text = server.log().text().replace("\\\"", "\"");
    assert_eq!(end.code(), Some(1), "{end:?}\n{text}");
    text
}

/// Fails unless the start is refused with one of these texts.
async fn expect_refusal(setup: Setup, texts: &[&str]) {
    let told = refused(setup).await;
    assert!(texts.iter().any(|text| told.contains(text)), "none of {texts:?} in:\n{told}");
}

/// MB-01, U15, operations §2.4: the ids are those that etcd gives for the same flags.
#[tokio::test]
async fn mb_01_u_15_ids_are_those_of_etcd() {
    let theirs = Shape::of(target::etcd()).start().await;
    let mut expected = theirs.clients(0).await.members().await;
    let cluster_id = theirs.clients(0).await.status().await.header.unwrap().cluster_id;
    let shape = Shape::new().ports_of(&theirs);
    drop(theirs);
    let ours = shape.start().await;
    for at in 0..3 {
        let mut clients = ours.clients(at).await;
        let header = clients.status().await.header.unwrap();
        assert_eq!(header.cluster_id, cluster_id);
        expected.sort_by_key(|member| member.id);
        assert_eq!(clients.members().await, expected);
    }
}

/// Operations §2.6: the initial cluster has to name the member as it calls itself.
#[tokio::test]
async fn an_initial_cluster_without_this_member_is_refused() {
    let (client, peer, other) = (free_port(), free_port(), free_port());
    let setup = || Setup::new().ports(client, peer);
    let url = format!("http://127.0.0.1:{peer}");
    let stranger = "couldn't find local name \"zz\" in the initial cluster configuration";
    expect_refusal(setup().flag("name", "zz"), &[stranger]).await;

    let names = format!("default=http://127.0.0.1:{other}");
    let missing = format!("--initial-cluster has {names} but missing from");
    expect_refusal(setup().flag("initial-cluster", &names), &[&missing]).await;

    let twice = format!("default={url},other={url}");
    let duplicate = format!("initial cluster {twice} has duplicate url");
    expect_refusal(setup().flag("initial-cluster", &twice), &[&duplicate]).await;

    let extra = format!("{url},http://127.0.0.1:{other}");
    let more = setup().flag("initial-advertise-peer-urls", &extra);
    expect_refusal(more, &["--initial-cluster must include", "but missing from"]).await;
}

/// U16, operations §2.7: a member that joins asks the others, who have to know it.
#[tokio::test]
async fn u_16_joining_with_a_wrong_initial_cluster_is_refused() {
    let mut cluster = Shape::new().flag("strict-reconfig-check", false).start().await;
    let known = cluster.initial_cluster();
    let at = cluster.new_place();
    let all = cluster.initial_cluster();
    let unequal = "member count is unequal";
    let setup = cluster.setup(at, &all, "existing");
    let told = refused(setup).await;
    assert!(told.contains("error validating peerURLs") && told.contains(unequal), "{told}");

    let id = cluster.add(1, at, true).await;
    let elsewhere = format!("http://127.0.0.1:{}", free_port());
    let wrong = format!("{known},m3={elsewhere}");
    let setup = cluster
        .setup(at, &wrong, "existing")
        .flag("listen-peer-urls", &elsewhere)
        .flag("initial-advertise-peer-urls", &elsewhere);
    let texts = ["PeerURLs: no match found for existing member", "unmatched member while checking"];
    expect_refusal(setup, &texts).await;

    cluster.start_joining(at).await;
    assert_eq!(cluster.id(at).await, id);
}

/// U16: nobody there to ask.
#[tokio::test]
async fn u_16_joining_a_cluster_that_does_not_answer_is_refused() {
    let (client, peer) = (free_port(), free_port());
    let names = format!("default=http://127.0.0.1:{peer},a=http://127.0.0.1:{}", free_port());
    let setup = Setup::new()
        .ports(client, peer)
        .flag("initial-cluster", names)
        .flag("initial-cluster-state", "existing");
    let text = "cannot fetch cluster info from peer urls: could not retrieve cluster information \
                from the given URLs";
    expect_refusal(setup, &[text]).await;
}

/// U12, U17: once there is a log, the flags of the beginning do not count any more.
#[tokio::test]
async fn u_12_u_17_a_restart_ignores_the_flags_of_the_beginning() {
    let mut cluster = Cluster::start().await;
    let (id, follower) = (cluster.id(0).await, cluster.follower().await);
    cluster.members[0].terminate().await;
    let nobody = format!("m0={}", cluster.places[0].peer_url());
    cluster.members[0].add_flag("initial-cluster", nobody);
    cluster.members[0].add_flag("initial-cluster-token", "another");
    cluster.members[0].add_flag("initial-cluster-state", "existing");
    cluster.members[0].restart().await;
    assert_eq!(cluster.id(0).await, id);
    assert_eq!(cluster.clients(0).await.members().await.len(), 3);
    cluster.clients(follower).await.put("a", "1").await;
    cluster.wait_equal(&[0, 1, 2]).await;
}

/// U28: a new name is published at the next start.
#[tokio::test]
async fn u_28_a_new_name_reaches_all_members() {
    let mut cluster = Cluster::start().await;
    let id = cluster.id(1).await;
    cluster.members[1].terminate().await;
    cluster.members[1].add_flag("name", "renamed");
    cluster.members[1].restart().await;
    for at in 0..3 {
        let named = || async {
            let members = cluster.clients(at).await.members().await;
            members.into_iter().find(|member| member.id == id && member.name == "renamed")
        };
        eventually("the name arrives", named).await;
    }
}

/// U24, operations §2.8: one member of three goes on alone with the data and its ids, and others
/// may join it.
#[tokio::test]
async fn u_24_force_new_cluster_makes_one_member_of_three() {
    let mut cluster = Cluster::start().await;
    let mut clients = cluster.clients(0).await;
    fill(&clients, "k", 100).await;
    cluster.wait_equal(&[0, 1, 2]).await;
    let before = clients.status().await.header.unwrap();
    let revision = clients.revision().await;
    // An orderly stop: what was acknowledged but not noted as committed here would be dropped.
    for member in &mut cluster.members {
        member.terminate().await;
    }

    cluster.members[0].add_flag("force-new-cluster", true);
    cluster.members[0].restart().await;
    let mut clients = cluster.clients(0).await;
    let after = clients.status().await.header.unwrap();
    assert_eq!((after.member_id, after.cluster_id), (before.member_id, before.cluster_id));
    let members = clients.members().await;
    assert_eq!(members.len(), 1, "{members:?}");
    assert_eq!(members[0].peer_urls, [cluster.places[0].peer_url()]);
    assert_eq!(clients.revision().await, revision);
    clients.put("a", "1").await;

    cluster.members[0].remove_flag("force-new-cluster");
    cluster.members[0].kill();
    cluster.members[0].restart().await;
    assert_eq!(cluster.clients(0).await.get("a").await.unwrap().value, "1");
    cluster.places.truncate(1);
    cluster.members.truncate(1);
    let at = cluster.new_place();
    std::fs::remove_dir_all(&cluster.places[at].data_dir).unwrap();
    cluster.add(0, at, false).await;
    cluster.start_joining(at).await;
    cluster.members[at].wait_ready().await.unwrap();
    cluster.wait_equal(&[0, 1]).await;
    cluster.move_leader(1).await;
}

/// U24: a learner that is the only one left votes from then on. (etcd 3.5.1 leaves it without a
/// voter, and nobody ever leads.)
#[tokio::test]
async fn u_24_force_new_cluster_makes_a_voter_of_a_learner() {
    if target::under_test().flavour == Flavour::Etcd35 {
        return;
    }
    let mut cluster = Shape::new().size(1).start().await;
    let mut clients = cluster.clients(0).await;
    let at = cluster.join(true).await;
    let newest = clients.put("a", "1").await.header.unwrap().revision;
    let applied = || async {
        let status = cluster.clients(at).await.status().await;
        (status.header.unwrap().revision == newest).then_some(())
    };
    eventually("the learner has everything", applied).await;
    for member in &mut cluster.members {
        member.terminate().await;
    }
    cluster.members[at].add_flag("force-new-cluster", true);
    cluster.members[at].restart().await;
    cluster.members[at].remove_flag("force-new-cluster");
    // What it finds at its next start, too, is a cluster of one voter.
    cluster.members[at].bounce().await;
    let mut clients = cluster.clients(at).await;
    let members = clients.members().await;
    assert!(members.len() == 1 && !members[0].is_learner, "{members:?}");
    assert_eq!(clients.get("a").await.unwrap().value, "1");
    clients.put("a", "2").await;
}

/// U19, operations §2.10: three members find each other through a one-member etcd. (3.5.1 knows only
/// the older discovery.)
#[tokio::test]
async fn discovery_of_three_members_through_an_etcd() {
    if target::under_test().flavour == Flavour::Etcd35 {
        return;
    }
    let registry = Setup::of(target::etcd()).start().await;
    let mut records = registry.clients().await;
    let start = |name: &'static str, token: &'static str| {
        Setup::new()
            .without_initial_cluster()
            .flag("name", name)
            .flag("discovery-token", token)
            .flag("discovery-endpoints", registry.endpoint())
    };
    let text = "discovery: size key not found";
    expect_refusal(start("m0", "none"), &[text]).await;

    records.put(format!("/_etcd/registry/{TOKEN}/_config/size"), "3").await;
    let mut members: Vec<Server> =
        ["m0", "m1", "m2"].into_iter().map(|name| start(name, TOKEN).spawn().unwrap()).collect();
    let ready = futures_util::future::join_all(members.iter_mut().map(Server::wait_ready)).await;
    for outcome in ready {
        outcome.unwrap();
    }
    let mut clients = members[0].clients().await;
    let list = clients.try_member_list(true).await.unwrap().members;
    let mut names: Vec<&str> = list.iter().map(|member| &member.name[..]).collect();
    names.sort_unstable();
    assert_eq!(names, ["m0", "m1", "m2"]);
    clients.put("a", "1").await;
    assert_eq!(members[2].clients().await.get("a").await.unwrap().value, "1");
    let registered = format!("/_etcd/registry/{TOKEN}/members/");
    let end = format!("/_etcd/registry/{TOKEN}/members0");
    assert_eq!(records.range(range(registered, end)).await.count, 3);

    expect_refusal(start("m3", TOKEN), &["discovery: cluster is full", "discovery token was"])
        .await;
    // Whoever has a log does not ask again.
    members[1].terminate().await;
    drop(registry);
    members[1].restart().await;
    let log = members[1].log().text();
    let ignored = log.lines().find(|line| line.contains("discovery token is ignored"));
    let wal = members[1].data_dir().join("member/wal");
    assert!(ignored.is_some_and(|line| line.contains(wal.to_str().unwrap())), "{log}");
}
