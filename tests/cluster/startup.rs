//! Members that begin: what they know before anybody leads, what they tell, and on which port.

use etcdrs_tests::http;
use etcdrs_tests::server::{Server, Setup, free_port};
use futures_util::future::join_all;
use tokio::io::AsyncReadExt as _;

use crate::support::*;

/// U25: whoever restarts alone knows its cluster, its members and who was removed, although nothing
/// can be applied any more.
#[tokio::test]
async fn u_25_a_member_that_restarts_alone_knows_its_cluster() {
    let mut cluster = Shape::new().flag("strict-reconfig-check", false).start().await;
    let mut clients = cluster.clients(0).await;
    let added = clients.try_member_add(add_request("http://127.0.0.1:1", true)).await.unwrap();
    let gone = added.member.unwrap().id;
    clients.try_member_remove(gone).await.unwrap();
    clients.put("a", "1").await;
    cluster.wait_equal(&[0, 1, 2]).await;
    let header = clients.status().await.header.unwrap();
    let members = clients.members().await;
    let port = cluster.members[0].peer_port();
    let version = http::get(port, "/version").await.unwrap().body;
    assert!(!version.contains("not_decided"), "{version}");
    cluster.members.iter_mut().for_each(Server::kill);

    cluster.members[0].begin_restart().unwrap();
    let expected: Vec<u64> = members.iter().map(|member| member.id).collect();
    // etcd finds them in the committed part of its log, which takes a moment.
    let told = eventually("its peer port names all members", || async {
        let answer = http::get(port, "/members").await.ok()?;
        let told: serde_json::Value = serde_json::from_str(&answer.body).ok()?;
        let ids = told.as_array()?.iter().map(|member| member["id"].as_u64());
        (ids.collect::<Option<Vec<_>>>()? == expected).then_some(told)
    });
    let told = told.await;
    for (told, member) in told.as_array().unwrap().iter().zip(&members) {
        assert_eq!(
            (&told["name"], &told["peerURLs"][0]),
            (&member.name[..].into(), &member.peer_urls[0][..].into(),)
        );
    }
    assert_eq!(http::get(port, "/version").await.unwrap().body, version);
    let (from, cluster_id) = (format!("{gone:x}"), format!("{:x}", header.cluster_id));
    let to = format!("{:x}", header.member_id);
    let headers = stream_headers(&cluster_id, &from, &to);
    let path = format!("/raft/stream/message/{from}");
    let refused = http::exchange(port, "GET", &path, &headers, b"").await.unwrap();
    assert_eq!(refused.status, 410, "{refused:?}");
    let log = cluster.members[0].log().text();
    assert!(!log.contains("ready to serve client requests"), "{log}");
}

/// What a member sends when it asks for a stream.
fn stream_headers<'a>(cluster: &'a str, from: &'a str, to: &'a str) -> [(&'a str, &'a str); 6] {
    [
        ("X-Etcd-Cluster-ID", cluster),
        ("X-Server-From", from),
        ("X-Server-Version", "3.5.1"),
        ("X-Min-Cluster-Version", "3.0.0"),
        ("X-Raft-To", to),
        // Ours speak no other; etcd does not care.
        ("X-Etcdrs-Format", "1"),
    ]
}

/// U28, U37: a member tells its name until it is heard, and serves no client before that.
#[tokio::test]
async fn u_28_u_37_a_member_offers_its_name_until_there_is_a_majority() {
    let ports: Vec<(u16, u16)> = (0..3).map(|_| (free_port(), free_port())).collect();
    let names: Vec<String> = (ports.iter().enumerate())
        .map(|(at, (_, peer))| format!("m{at}=http://127.0.0.1:{peer}"))
        .collect();
    let setup = |at: usize| {
        Setup::new()
            .ports(ports[at].0, ports[at].1)
            .flag("name", format!("m{at}"))
            .flag("initial-cluster", names.join(","))
            .flag("heartbeat-interval", 50)
            .flag("election-timeout", 500)
    };
    let first = setup(0).spawn().unwrap();
    let failed = ["failed to publish local member to cluster through raft"];
    assert!(first.log().wait_for(&failed, LIMIT).await, "{}", first.log().text());
    assert!(!first.log().text().contains("ready to serve client requests"));
    let mut members = vec![first, setup(1).spawn().unwrap(), setup(2).spawn().unwrap()];
    for ready in join_all(members.iter_mut().map(Server::wait_ready)).await {
        ready.unwrap();
    }
    for member in &members {
        let all_named = || async {
            let list = member.clients().await.members().await;
            list.iter().all(|m| !m.name.is_empty() && !m.client_urls.is_empty()).then_some(())
        };
        eventually("every name and client URL", all_named).await;
    }
}

/// U32: the cluster's version is agreed on at once, not with the next round of questions.
#[tokio::test]
async fn u_32_the_version_of_a_new_cluster_is_agreed_at_once() {
    let cluster = Cluster::start().await;
    for member in &cluster.members {
        let agreed = || async {
            let told = http::get(member.client_port(), "/version").await.ok()?.body;
            let told: serde_json::Value = serde_json::from_str(&told).ok()?;
            (told["etcdcluster"] != "not_decided").then_some(told)
        };
        let told = eventually("an agreed version", agreed).await;
        let minor = |text: &serde_json::Value| {
            let text = text.as_str().unwrap();
            text.rsplit_once('.').unwrap().0.to_owned()
        };
        assert_eq!(minor(&told["etcdcluster"]), minor(&told["etcdserver"]), "{told}");
    }
    if cluster.members[0].flavour() == Flavour::Current {
        for member in &cluster.members {
            let log = member.log().text();
            assert!(!log.contains("before the cluster version is decided"), "{log}");
        }
    }
}

/// U52: what members ask each other is not for clients.
#[tokio::test]
async fn u_52_clients_find_no_route_of_peers() {
    let s = Server::start().await;
    let nothing = http::get(s.peer_port(), "/nothing").await.unwrap();
    for (method, path) in [
        ("GET", "/raft/probing"),
        ("POST", "/raft"),
        ("GET", "/raft/stream/message/1"),
        ("POST", "/raft/snapshot"),
        ("GET", "/members"),
        ("GET", "/members/hashkv"),
        ("POST", "/members/promote/1"),
        ("POST", "/leases"),
    ] {
        let there = http::send(s.peer_port(), method, path).await;
        let there = there.unwrap_or_else(|error| panic!("{method} {path}: {error}"));
        let unknown = (there.status, &there.body) == (404, &nothing.body);
        assert!(!unknown, "{method} {path} of the peer port: {there:?}");
        let here = http::send(s.client_port(), method, path).await.unwrap();
        assert_eq!(here.status, 404, "{method} {path}: {here:?}");
    }
}

/// A number from `/metrics`, if it is there.
async fn metric(s: &Server, name: &str) -> Option<f64> {
    let text = http::get(s.client_port(), "/metrics").await.ok()?.body;
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
    value.trim().parse().ok()
}

/// Tasks and file descriptors of the server.
async fn burden(s: &Server) -> (f64, usize) {
    let tasks = match s.flavour() {
        Flavour::Current => "etcd_rs_tasks",
        Flavour::Etcd35 => "go_goroutines",
    };
    let open = std::fs::read_dir(format!("/proc/{}/fd", s.pid().unwrap())).unwrap().count();
    (metric(s, tasks).await.expect("a number of tasks"), open)
}

/// U56, U59: streams that come and go, or are replaced by the next one, leave nothing behind.
#[tokio::test]
async fn u_59_a_thousand_reconnects_leave_no_task_behind() {
    const RECONNECTS: usize = 1000;
    let s = Server::start().await;
    let mut clients = s.clients().await;
    let url = format!("http://127.0.0.1:{}", free_port());
    let learner = clients.try_member_add(add_request(&url, true)).await.unwrap().member.unwrap().id;
    let header = clients.status().await.header.unwrap();
    let cluster_id = format!("{:x}", header.cluster_id);
    let (from, to) = (format!("{learner:x}"), format!("{:x}", header.member_id));
    let headers = stream_headers(&cluster_id, &from, &to);
    let open = |stream: &'static str| {
        let path = format!("/raft/stream/{stream}/{from}");
        let (port, headers) = (s.peer_port(), &headers);
        async move {
            let mut connection = http::open(port, "GET", &path, headers, b"").await.unwrap();
            let mut head = [0; 512];
            let length = connection.read(&mut head).await.unwrap();
            let head = String::from_utf8_lossy(&head[..length]);
            assert!(head.starts_with("HTTP/1.1 200"), "{head}");
            connection
        }
    };
    let mut older = Vec::new();
    for stream in ["message", "msgapp"].into_iter().cycle().take(20) {
        older.push(open(stream).await);
    }
    older.clear();
    let calm = burden(&s).await;
    for at in 0..RECONNECTS {
        let connection = open(if at % 2 == 0 { "message" } else { "msgapp" }).await;
        if at % 4 < 2 {
            older.push(connection);
        }
        // Each of these was replaced by a newer one long ago: the server has closed it.
        if older.len() > 20 {
            let mut rest = Vec::new();
            let closed = older.remove(0).read_to_end(&mut rest).await;
            assert!(
                closed.is_ok()
                    || closed.is_err_and(|e| e.kind() == std::io::ErrorKind::ConnectionReset)
            );
        }
    }
    older.clear();
    let as_before = || async {
        let now = burden(&s).await;
        println!("tasks and descriptors: {calm:?}, now {now:?}");
        (now.0 <= calm.0 + 8.0 && now.1 <= calm.1 + 4).then_some(())
    };
    eventually("the number of tasks and descriptors of before", as_before).await;
}
