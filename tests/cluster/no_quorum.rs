//! What is left without a majority, and what learners and waiting clients are told.

use tonic::Request;

use crate::support::*;

/// Short enough that a request is given up after six seconds.
fn quick() -> Shape {
    Shape::new().flag("heartbeat-interval", 50).flag("election-timeout", 500)
}

/// A cluster of which only member 0 still runs, and knows that nobody leads.
async fn alone(shape: Shape) -> (Cluster, Clients) {
    let mut cluster = shape.start().await;
    let mut clients = cluster.clients(0).await;
    clients.put("k", "v").await;
    cluster.wait_equal(&[0, 1, 2]).await;
    cluster.members[1].kill();
    cluster.members[2].kill();
    let lost = || {
        let mut clients = clients.clone();
        async move { (clients.status().await.leader == 0).then_some(()) }
    };
    eventually("the loss of the leader is noticed", lost).await;
    (cluster, clients)
}

/// Metadata with which a client says that it wants a leader.
fn with_leader<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("hasleader", "true".parse().unwrap());
    request
}

/// MT-01, HT, RG-02: local answers go on.
#[tokio::test]
async fn mt_01_a_member_alone_answers_what_is_local() {
    let (cluster, mut c) = alone(quick()).await;
    let status = c.status().await;
    assert_eq!(status.leader, 0);
    assert!(status.errors.contains(&"etcdserver: no leader".to_owned()), "{:?}", status.errors);
    let local = pb::RangeRequest { serializable: true, ..get("k") };
    assert_eq!(c.range(local).await.kvs[0].value, "v");
    assert_eq!(c.members().await.len(), 3);
    c.try_hash_kv(0).await.unwrap();
    let port = cluster.members[0].client_port();
    let health = etcdrs_tests::http::get(port, "/health").await.unwrap();
    let told = r#"{"health":"false","reason":"RAFT NO LEADER"}"#;
    assert_eq!((health.status, health.body.trim_end()), (503, told));
    // etcd 3.5.1 wants a leader here as well.
    if cluster.members[0].flavour() == Flavour::Current {
        let local = etcdrs_tests::http::get(port, "/health?serializable=true").await.unwrap();
        let told = r#"{"health":"true","reason":""}"#;
        assert_eq!((local.status, &local.body[..]), (200, told));
    }
}

/// Row 5, LE-05: who wants a leader is told at once that there is none.
#[tokio::test]
async fn row_005_le_05_has_leader_is_refused_without_one() {
    let (_cluster, mut c) = alone(quick()).await;
    let range = pb::RangeRequest { serializable: true, ..get("k") };
    expect_error(limited(c.kv.range(with_leader(range))).await, errors::NO_LEADER);
    expect_error(limited(c.kv.put(with_leader(put("k", "w")))).await, errors::NO_LEADER);
    let list = with_leader(pb::MemberListRequest { linearizable: false });
    expect_error(limited(c.cluster.member_list(list)).await, errors::NO_LEADER);
    let requests = futures_util::stream::iter([pb::LeaseKeepAliveRequest { id: 1 }]);
    let refused = match limited(c.lease.lease_keep_alive(with_leader(requests))).await {
        Ok(mut answers) => answers.message().await.map(drop),
        Err(status) => Err(status),
    };
    expect_error(refused, errors::NO_LEADER);
}

/// Row 5: a stream that wants a leader is cut when the leader is lost, another one is not.
#[tokio::test]
async fn row_005_streams_that_want_a_leader_end_when_it_is_lost() {
    let mut cluster = quick().start().await;
    let mut c = cluster.clients(0).await;
    let mut patient = c.watch();
    patient.create(watching::on("k")).await;
    let create = pb::watch_request::RequestUnion::CreateRequest(watching::on("k"));
    let first = pb::WatchRequest { request_union: Some(create) };
    let (keep, mut more) = tokio::sync::mpsc::channel::<pb::WatchRequest>(1);
    keep.send(first).await.unwrap();
    let requests = futures_util::stream::poll_fn(move |context| more.poll_recv(context));
    let mut strict = limited(c.watch.watch(with_leader(requests))).await.unwrap();
    assert!(strict.message().await.unwrap().unwrap().created);
    cluster.members[1].kill();
    cluster.members[2].kill();
    let end = tokio::time::timeout(LIMIT, strict.message()).await.unwrap();
    expect_error(end, errors::NO_LEADER);
    cluster.members[1].restart().await;
    cluster.leader_among(&[0, 1]).await;
    c.put("k", "v").await;
    patient.events(1).await;
}

/// CO-02, CO-04, W08: what those are told who wait for a majority, and that they are told.
#[tokio::test]
async fn co_02_w_08_requests_that_need_a_majority_time_out_with_their_texts() {
    let (_cluster, c) = alone(quick()).await;
    let (mut a, mut b, mut d, mut e) = (c.clone(), c.clone(), c.clone(), c.clone());
    let (write, read, list, grant) = tokio::join!(
        a.try_put(put("k", "w")),
        b.try_range(get("k")),
        d.try_member_list(true),
        e.try_grant(9, 60),
    );
    let told = [
        ("put", write.map(drop)),
        ("range", read.map(drop)),
        ("member list", list.map(drop)),
        ("grant", grant.map(drop)),
    ];
    for (call, answer) in told {
        let status = answer.expect_err(call);
        let timed_out = status.code() == Code::Unavailable
            && status.message().starts_with("etcdserver: request timed out");
        // Without a leader etcd cannot even queue a proposal; the raw text appears then (CO-02).
        let raw = matches!(status.code(), Code::DeadlineExceeded | Code::Unknown)
            && status.message() == "context deadline exceeded";
        assert!(timed_out || raw, "{call}: {status:?}");
    }
}

/// CO-02, W08: the leader that lost its followers knows why a write timed out.
#[tokio::test]
async fn co_02_w_08_a_leader_without_followers_blames_the_connection() {
    let mut cluster = quick().start().await;
    cluster.move_leader(0).await;
    let mut clients = cluster.clients(0).await;
    clients.put("k", "v").await;
    cluster.members[1].kill();
    cluster.members[2].kill();
    let status = clients.try_put(put("k", "w")).await.unwrap_err();
    let known = [
        "etcdserver: request timed out",
        "etcdserver: request timed out, possibly due to previous leader failure",
        "etcdserver: request timed out, possibly due to connection lost",
    ];
    assert!(known.contains(&status.message()), "{status:?}");
    assert_eq!(status.code(), Code::Unavailable);
    println!("told: {}", status.message());
    // Whatever became of it, the member serves again with a majority.
    cluster.members[1].restart().await;
    clients.put("k", "x").await;
    assert_eq!(clients.get("k").await.unwrap().value, "x");
}

/// MB-11, row 6: learners answer status and serializable reads only.
#[tokio::test]
async fn mb_11_row_006_learners_serve_little() {
    let mut cluster = Shape::new().size(1).start().await;
    cluster.clients(0).await.put("k", "v").await;
    let at = cluster.join(true).await;
    let mut c = cluster.clients(at).await;
    assert!(c.status().await.is_learner);
    let local = pb::RangeRequest { serializable: true, ..get("k") };
    let arrived = || {
        let (mut c, local) = (c.clone(), local.clone());
        async move { c.range(local).await.kvs.pop() }
    };
    assert_eq!(eventually("the log arrives", arrived).await.value, "v");
    let code = match cluster.members[at].flavour() {
        Flavour::Current => Code::FailedPrecondition,
        Flavour::Etcd35 => Code::Unavailable,
    };
    let refused = (code, "etcdserver: rpc not supported for learner");
    expect_error(c.try_range(get("k")).await, refused);
    expect_error(c.try_put(put("k", "w")).await, refused);
    expect_error(c.try_txn(then(vec![put("k", "w").op()])).await, refused);
    expect_error(c.try_grant(1, 60).await, refused);
    expect_error(c.try_compact(1).await, refused);
    expect_error(c.try_member_list(false).await, refused);
    expect_error(c.try_hash_kv(0).await, refused);
    let mut session = c.watch();
    session.request(watching::on("k"));
    expect_error(session.try_next().await, refused);
    let target_id = cluster.id(at).await;
    let mut leader = cluster.clients(0).await;
    let moved = leader.maintenance.move_leader(pb::MoveLeaderRequest { target_id }).await;
    expect_error(moved, errors::BAD_LEADER_TRANSFEREE);
}
