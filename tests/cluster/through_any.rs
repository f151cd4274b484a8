//! Calls through members that do not lead.

use crate::support::*;

/// CO-01, RG-02, row 21: what one member acknowledged, every other reads.
#[tokio::test]
async fn co_01_row_021_writes_and_reads_through_every_member() {
    let cluster = Cluster::start().await;
    let mut clients = Vec::new();
    for at in 0..3 {
        clients.push(cluster.clients(at).await);
    }
    for round in 0..30 {
        let (writer, reader) = (round % 3, (round + 1) % 3);
        let written = clients[writer].put("k", format!("{round}")).await;
        let seen = clients[reader].range(get("k")).await;
        assert_eq!(seen.kvs[0].value, format!("{round}"), "round {round}");
        let revision = |header: Option<pb::ResponseHeader>| header.unwrap().revision;
        assert!(revision(seen.header) >= revision(written.header));
    }
    for (at, client) in clients.iter_mut().enumerate() {
        let condition = compare(
            "k",
            CompareTarget::Value,
            CompareResult::Equal,
            TargetUnion::Value("29".into()),
        );
        let request = txn(vec![condition], vec![put(format!("t{at}"), "v").op()], Vec::new());
        assert!(client.txn(request).await.succeeded, "member {at}");
    }
    let deleted = clients[1].delete(delete_range("t", "u")).await;
    assert_eq!(deleted.deleted, 3);
    assert!(clients[2].range(range("t", "u")).await.kvs.is_empty());
    let at = clients[0].revision().await;
    clients[2].compact(at).await;
    for client in &mut clients {
        let old = client.try_range(pb::RangeRequest { revision: 2, ..get("k") }).await;
        expect_error(old, errors::COMPACTED);
    }
    cluster.wait_equal(&[0, 1, 2]).await;
}

/// WA rules: watchers of every member see the same events in the same order.
#[tokio::test]
async fn watchers_of_every_member_see_the_same() {
    let cluster = Cluster::start().await;
    let mut sessions = Vec::new();
    for at in 0..3 {
        let mut session = cluster.clients(at).await.watch();
        session.create(watching::on_all(1)).await;
        sessions.push(session);
    }
    for round in 0..20 {
        cluster.clients(round % 3).await.put(format!("k{round}"), "v").await;
    }
    let mut all = Vec::new();
    for session in &mut sessions {
        all.push(session.events(20).await);
    }
    assert_eq!(all[0], all[1]);
    assert_eq!(all[0], all[2]);
}

/// LE-05, LE-07, row 67: leases are made, renewed, looked up and ended through a follower.
#[tokio::test]
async fn le_05_row_067_leases_through_a_follower() {
    let cluster = Cluster::start().await;
    let mut follower = cluster.clients(cluster.follower().await).await;
    let lease = follower.grant(77, 60).await;
    assert_eq!((lease.id, lease.ttl), (77, 60));
    follower.put_with_lease("leased", 77).await;
    for at in 0..3 {
        let mut any = cluster.clients(at).await;
        assert_eq!(any.keep_alive(77).await.ttl, 60, "member {at}");
        assert_eq!(any.keep_alive(78).await.ttl, 0, "unknown, member {at}");
        let left = any.time_to_live(77).await;
        assert_eq!((left.granted_ttl, &left.keys[..]), (60, &["leased".into()][..]));
        assert!(left.ttl > 40, "{left:?}");
        assert_eq!(any.time_to_live(78).await.ttl, -1);
        eventually("the grant is applied everywhere", || {
            let mut any = any.clone();
            async move { (any.leases().await == [77]).then_some(()) }
        })
        .await;
    }
    follower.try_revoke(77).await.unwrap();
    expect_error(follower.try_revoke(77).await, errors::LEASE_NOT_FOUND);
    assert_eq!(follower.get("leased").await, None);
}

/// LE-04, LE-09, LE-13: a lease that nobody renews ends once, everywhere, and never early.
#[tokio::test]
async fn le_09_a_lease_expires_once_and_renewals_through_a_follower_count() {
    let cluster = Cluster::start().await;
    let follower = cluster.follower().await;
    let mut clients = cluster.clients(follower).await;
    let mut session = clients.watch();
    session.create(watching::on_all(0)).await;
    let granted = tokio::time::Instant::now();
    clients.grant(1, 2).await;
    clients.grant(2, 2).await;
    clients.put_with_lease("renewed", 1).await;
    clients.put_with_lease("left", 2).await;
    session.events(2).await;
    // The lease that is kept outlives the other one for as long as it takes to end.
    let gone = loop {
        assert_eq!(clients.keep_alive(1).await.ttl, 2);
        if let Some(answer) = session.next_within(Duration::from_millis(300)).await {
            break answer.events;
        }
    };
    assert!(granted.elapsed() >= Duration::from_secs(2), "{:?}", granted.elapsed());
    assert_eq!(gone.len(), 1, "{gone:?}");
    assert_eq!(
        (gone[0].r#type(), &gone[0].kv.as_ref().unwrap().key[..]),
        (EventType::Delete, &b"left"[..])
    );
    assert_eq!(clients.keep_alive(2).await.ttl, 0);
    // Exactly one deletion: the next event is that of the other lease.
    clients.try_revoke(1).await.unwrap();
    let last = session.events(1).await;
    assert_eq!(&last[0].kv.as_ref().unwrap().key[..], b"renewed");
}

/// LE-10, row 71: a new leader gives every lease its full time again, and ends it then.
#[tokio::test]
async fn le_10_row_071_a_leader_change_extends_leases() {
    let cluster = Cluster::start().await;
    let mut clients = cluster.clients(0).await;
    clients.grant(5, 6).await;
    clients.put_with_lease("k", 5).await;
    let low = || {
        let mut clients = clients.clone();
        async move { (clients.time_to_live(5).await.ttl <= 3).then_some(()) }
    };
    eventually("half of the lease is over", low).await;
    let follower = cluster.follower().await;
    cluster.move_leader(follower).await;
    let left = clients.time_to_live(5).await.ttl;
    assert!(left >= 4, "not extended: {left} s");
    let gone = || {
        let mut clients = clients.clone();
        async move { clients.get("k").await.is_none().then_some(()) }
    };
    eventually("the lease ends under its new leader", gone).await;
    assert_eq!(clients.time_to_live(5).await.ttl, -1);
}
