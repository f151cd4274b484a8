//! The client against a real etcd (`etcd` in `PATH`, or any server of its flags by `ETCD_BIN`).

mod harness;

use bytes::Bytes;
use etcdrs_client::mvccpb::event::EventType;
use etcdrs_client::pb::compare::CompareResult;
use etcdrs_client::pb::range_request::{SortOrder, SortTarget};
use etcdrs_client::{
    Client, Compare, Config, Credentials, Delete, ErrorKind, Get, Op, Put, Txn, WatchOptions,
    Watcher,
};
use tokio::time::timeout;

use crate::harness::{LIMIT, Proxy, Server, config, free_port};

/// The keys and revisions of the next `count` events.
async fn events(watcher: &mut Watcher, count: usize) -> Vec<(Bytes, i64)> {
    let mut seen = Vec::new();
    while seen.len() < count {
        let update = timeout(LIMIT, watcher.next()).await.expect("events come");
        let update = update.expect("the watch goes on").expect("the client is there");
        for event in update.events {
            let kv = event.kv.expect("an event has a key");
            seen.push((kv.key, kv.mod_revision));
        }
    }
    seen
}

#[tokio::test]
async fn keys_are_any_bytes() {
    let Some(server) = Server::start() else { return };
    let client = server.client().await;
    let key = Bytes::from_static(b"\x00\xff/\n");
    client.put(Put::new(key.clone(), vec![0xfe; 10])).await.unwrap();
    let put = client.put(Put::new(key.clone(), "").prev_kv()).await.unwrap();
    assert_eq!(put.prev_kv.unwrap().value, vec![0xfe; 10]);
    for i in 0..30 {
        client.put(Put::new(format!("k/{i:02}"), i.to_string())).await.unwrap();
    }
    let page = Get::prefix("k/").limit(7).sort(SortTarget::Key, SortOrder::Descend).keys_only();
    let page = client.get(page).await.unwrap();
    assert_eq!((page.kvs.len(), page.count, page.more), (7, 30, true));
    assert_eq!((&page.kvs[0].key[..], page.kvs[0].value.len()), (&b"k/29"[..], 0));
    assert_eq!(client.get(Get::prefix("").count_only()).await.unwrap().count, 31);
    // 3.5 has no RangeStream; the answer is the same.
    assert_eq!(client.get_in_pieces(Get::prefix("k/")).await.unwrap().kvs.len(), 30);
    let deleted = client.delete(Delete::prefix("k/").prev_kv()).await.unwrap();
    assert_eq!((deleted.deleted, deleted.prev_kvs.len()), (30, 30));
}

#[tokio::test]
async fn transactions_take_one_branch() {
    let Some(server) = Server::start() else { return };
    let client = server.client().await;
    let create = |value: &'static str| {
        Txn::new()
            .when([Compare::create_revision("k", CompareResult::Equal, 0)])
            .and_then([Put::new("k", value)])
            .or_else([Op::from(Get::key("k")), Op::from(Txn::new().and_then([Get::key("k")]))])
    };
    assert!(client.txn(create("first")).await.unwrap().succeeded);
    let lost = client.txn(create("second")).await.unwrap();
    assert_eq!((lost.succeeded, lost.responses.len()), (false, 2));
    let twice = client.txn(Txn::new().and_then([Put::new("a", ""), Put::new("a", "")])).await;
    let error = twice.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    assert_eq!(error.to_string(), "etcdserver: duplicate key given in txn request");
}

#[tokio::test]
async fn cl_03_writes_go_round_endpoints_that_do_not_listen() {
    let Some(server) = Server::start() else { return };
    server.client().await.status().await.unwrap();
    let dead = [free_port(), free_port()].map(|port| format!("127.0.0.1:{port}"));
    let [first, second] = dead;
    let client = Client::connect(config([first, server.endpoint(), second])).await.unwrap();
    for i in 0..10_i64 {
        let put = client.put(Put::new("k", i.to_string()).prev_kv()).await.unwrap();
        let header = put.header.unwrap();
        assert_eq!(header.revision, i + 2, "each write is done exactly once");
    }
}

#[tokio::test]
async fn without_a_server_a_call_ends_with_its_time() {
    let client = Client::connect(Config {
        call_timeout: Some(std::time::Duration::from_millis(100)),
        ..Config::new([format!("127.0.0.1:{}", free_port())])
    });
    let error = client.await.unwrap().get(Get::key("k")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DeadlineExceeded);
    assert_eq!(error.to_string(), "context deadline exceeded");
    assert_eq!(
        Client::connect(Config::new(Vec::<String>::new())).await.unwrap_err().kind(),
        ErrorKind::Config
    );
}

#[tokio::test]
async fn errors_have_a_kind_and_etcds_text() {
    let Some(server) = Server::start() else { return };
    let client = server.client().await;
    let empty = client.get(Get::key("")).await.unwrap_err();
    assert_eq!(empty.kind(), ErrorKind::InvalidArgument);
    assert_eq!(empty.text(), "etcdserver: key is not provided");
    let future = client.get(Get::key("k").revision(100)).await.unwrap_err();
    assert_eq!(future.kind(), ErrorKind::FutureRevision);
    client.put(Put::new("k", "1")).await.unwrap();
    client.put(Put::new("k", "2")).await.unwrap();
    client.compact(3, true).await.unwrap();
    let compacted = client.get(Get::key("k").revision(2)).await.unwrap_err();
    assert_eq!(compacted.kind(), ErrorKind::Compacted);
    let lease = client.put(Put::new("k", "").lease(99)).await.unwrap_err();
    assert_eq!(lease.kind(), ErrorKind::LeaseNotFound);
    assert_eq!(client.lease_revoke(99).await.unwrap_err().kind(), ErrorKind::LeaseNotFound);
}

#[tokio::test]
async fn wa_04_16_17_18_watches_from_the_past_with_filters_and_previous_pairs() {
    let Some(server) = Server::start() else { return };
    let client = server.client().await;
    for value in ["a", "b"] {
        client.put(Put::new("w", value)).await.unwrap();
    }
    client.delete(Delete::key("w")).await.unwrap();
    let options = WatchOptions::key("w").start_revision(3).prev_kv();
    let mut all = client.watch(options.clone()).await.unwrap();
    let mut seen = Vec::new();
    while seen.len() < 2 {
        seen.extend(all.next().await.unwrap().unwrap().events);
    }
    let kinds: Vec<EventType> = seen.iter().map(|event| event.r#type()).collect();
    assert_eq!(kinds, [EventType::Put, EventType::Delete]);
    assert_eq!(seen[0].prev_kv.as_ref().unwrap().value, "a");
    let mut deletes = client.watch(options.without_puts()).await.unwrap();
    assert_eq!(events(&mut deletes, 1).await, [(Bytes::from("w"), 4)]);
    deletes.request_progress().unwrap();
    let progress = all.next().await.unwrap().unwrap();
    assert_eq!((progress.events.len(), progress.header.unwrap().revision), (0, 4));
}

#[tokio::test]
async fn wa_06_09_a_watch_that_cannot_be_ends_with_the_reason() {
    let Some(server) = Server::start() else { return };
    let client = server.client().await;
    for i in 0..5 {
        client.put(Put::new("w", i.to_string())).await.unwrap();
    }
    client.compact(5, false).await.unwrap();
    let mut watcher = client.watch(WatchOptions::key("w").start_revision(2)).await.unwrap();
    let error = watcher.next().await.unwrap_err();
    assert_eq!((error.kind(), error.compact_revision()), (ErrorKind::Compacted, Some(5)));
    assert_eq!(watcher.next().await.unwrap_err().kind(), ErrorKind::Compacted, "it stays so");
    let range = etcdrs_types::KeyRange::from_wire("b".into(), "a".into());
    let refused = client.watch(WatchOptions::range(&range)).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InvalidArgument);
    // The stream lives on.
    let mut watcher = client.watch(WatchOptions::key("w").start_revision(6)).await.unwrap();
    assert_eq!(events(&mut watcher, 1).await.len(), 1);
}

#[tokio::test]
async fn cl_06_a_watch_goes_on_where_its_connection_broke() {
    let Some(server) = Server::start() else { return };
    let direct = server.client().await;
    let proxy = Proxy::start(server.endpoint()).await;
    let client = Client::connect(config([proxy.endpoint()])).await.unwrap();
    direct.put(Put::new("w", "first")).await.unwrap();
    let mut old = client.watch(WatchOptions::prefix("w").start_revision(2)).await.unwrap();
    let mut new = client.watch(WatchOptions::prefix("x")).await.unwrap();
    let mut seen = Vec::new();
    for round in 0..20 {
        for i in 0..10 {
            direct.put(Put::new(format!("w{i}"), round.to_string())).await.unwrap();
            if i == 5 {
                proxy.cut();
            }
        }
        seen.extend(events(&mut old, 3).await);
    }
    seen.extend(events(&mut old, 201 - seen.len()).await);
    let revisions: Vec<i64> = seen.iter().map(|(_, revision)| *revision).collect();
    assert_eq!(revisions, (2..=202).collect::<Vec<i64>>(), "each once and in order");
    direct.put(Put::new("x", "")).await.unwrap();
    assert_eq!(events(&mut new, 1).await, [(Bytes::from("x"), 203)]);
}

#[tokio::test]
async fn cl_06_a_watch_outlives_its_server() {
    let Some(mut server) = Server::start() else { return };
    let client = server.client().await;
    let mut watcher = client.watch(WatchOptions::key("w").start_revision(1)).await.unwrap();
    client.put(Put::new("w", "1")).await.unwrap();
    assert_eq!(events(&mut watcher, 1).await, [(Bytes::from("w"), 2)]);
    server.restart();
    let other = server.client().await;
    other.put(Put::new("w", "2")).await.unwrap();
    assert_eq!(events(&mut watcher, 1).await, [(Bytes::from("w"), 3)]);
    // Reads of the old client find the new server as well.
    assert_eq!(client.get(Get::key("w")).await.unwrap().kvs[0].value, "2");
}

#[tokio::test]
async fn a_slow_reader_loses_nothing_and_holds_up_nobody() {
    let Some(server) = Server::start() else { return };
    let client = server.client().await;
    let mut slow = client.watch(WatchOptions::prefix("w").start_revision(2)).await.unwrap();
    let mut quick = client.watch(WatchOptions::prefix("w").start_revision(2)).await.unwrap();
    // More answers than the queue holds, as each is waited for by the other watcher.
    const COUNT: usize = 2500;
    for i in 0..COUNT {
        client.put(Put::new("w", i.to_string())).await.unwrap();
        assert_eq!(events(&mut quick, 1).await.len(), 1);
    }
    let seen: Vec<i64> = events(&mut slow, COUNT).await.iter().map(|(_, r)| *r).collect();
    assert_eq!(seen, (2..2 + COUNT as i64).collect::<Vec<i64>>());
}

#[tokio::test]
async fn wa_22_fragments_are_joined() {
    let Some(server) = Server::start() else { return };
    let client = server.client().await;
    for i in 0..10_u8 {
        client.put(Put::new("big", vec![i; 600 * 1024])).await.unwrap();
    }
    let mut watcher = client.watch(WatchOptions::key("big").start_revision(2)).await.unwrap();
    // How much history comes in one answer is up to the server; etcd sends all 6 MB.
    let revisions: Vec<i64> = events(&mut watcher, 10).await.iter().map(|(_, r)| *r).collect();
    assert_eq!(revisions, (2..12).collect::<Vec<i64>>());
}

#[tokio::test]
async fn many_watchers_share_a_stream() {
    let Some(server) = Server::start() else { return };
    let client = server.client().await;
    let stream = client.watch_stream();
    let mut watchers = Vec::new();
    for i in 0..200 {
        watchers.push(stream.watch(WatchOptions::key(format!("k{i}"))).await.unwrap());
    }
    drop(watchers.split_off(100));
    for (i, watcher) in watchers.iter_mut().enumerate() {
        let put = client.put(Put::new(format!("k{i}"), "")).await.unwrap();
        let revision = put.header.unwrap().revision;
        assert_eq!(events(watcher, 1).await, [(Bytes::from(format!("k{i}")), revision)]);
    }
}

#[tokio::test]
async fn cl_04_a_lease_is_kept_alive_until_it_is_revoked() {
    let Some(server) = Server::start() else { return };
    let client = server.client().await;
    let id = client.lease_grant(3, 0).await.unwrap().id;
    client.put(Put::new("leased", "").lease(id)).await.unwrap();
    let mut alive = client.keep_alive(id).unwrap();
    for _ in 0..5 {
        let renewed = timeout(LIMIT, alive.next()).await.unwrap().expect("the lease lives");
        assert_eq!((renewed.id, renewed.ttl), (id, 3));
    }
    let state = client.lease_time_to_live(id, true).await.unwrap();
    assert_eq!((state.granted_ttl, &state.keys[..]), (3, &[Bytes::from("leased")][..]));
    assert_eq!(client.leases().await.unwrap().leases.len(), 1);
    assert_eq!(client.keep_alive_once(id).await.unwrap().ttl, 3);
    client.lease_revoke(id).await.unwrap();
    assert!(timeout(LIMIT, alive.next()).await.unwrap().is_none(), "the lease is gone");
    let gone = client.keep_alive_once(id).await.unwrap_err();
    assert_eq!(gone.kind(), ErrorKind::LeaseNotFound);
    assert_eq!(client.get(Get::key("leased")).await.unwrap().kvs.len(), 0);
    let mut stream = client.lease_stream();
    let other = client.lease_grant(60, 77).await.unwrap().id;
    assert_eq!((other, stream.renew(77).await.unwrap().ttl), (77, 60));
    assert_eq!(stream.renew(78).await.unwrap().ttl, 0);
}

#[tokio::test]
async fn cl_04_keep_alive_survives_a_broken_connection() {
    let Some(server) = Server::start() else { return };
    server.client().await.status().await.unwrap();
    let proxy = Proxy::start(server.endpoint()).await;
    let client = Client::connect(config([proxy.endpoint()])).await.unwrap();
    let id = client.lease_grant(5, 0).await.unwrap().id;
    let mut alive = client.keep_alive(id).unwrap();
    for _ in 0..4 {
        assert!(timeout(LIMIT, alive.next()).await.unwrap().is_some());
        proxy.cut();
    }
}

#[tokio::test]
async fn mt_05_snapshots_and_states_of_a_member() {
    let Some(server) = Server::start() else { return };
    let client = server.client().await.at(&server.endpoint()).await.unwrap();
    for i in 0..100 {
        client.put(Put::new(format!("k{i}"), vec![0; 1024])).await.unwrap();
    }
    let mut snapshot = client.snapshot().await.unwrap();
    let mut bytes = 0;
    while let Some(piece) = snapshot.next().await.unwrap() {
        bytes += piece.len() as u64;
    }
    assert_eq!((bytes, bytes % 512), (snapshot.received_bytes(), 32));
    let status = client.status().await.unwrap();
    assert_eq!(status.leader, status.header.unwrap().member_id);
    assert_eq!(client.member_list(true).await.unwrap().members.len(), 1);
    let [first, second] = [client.hash_kv(0).await.unwrap(), client.hash_kv(101).await.unwrap()];
    assert_eq!(first.hash, second.hash);
    assert!(client.alarms().await.unwrap().alarms.is_empty());
    client.hash().await.unwrap();
    client.defragment().await.unwrap();
    let refused = client.move_leader(1).await.unwrap_err();
    assert_eq!(refused.text(), "etcdserver: bad leader transferee");
}

#[tokio::test]
async fn cl_09_a_token_is_fetched_and_renewed() {
    let Some(mut server) = Server::start() else { return };
    let with = |server: &Server, password: &str| {
        let (user, password) = ("root".to_owned(), password.to_owned());
        let credentials = Some(Credentials { user, password });
        Client::connect(Config { credentials, dial_timeout: LIMIT, ..config([server.endpoint()]) })
    };
    // Authentication is off still, which is no error.
    match with(&server, "any").await {
        Ok(client) => client.put(Put::new("k", "")).await.unwrap(),
        Err(error) if error.kind() == ErrorKind::Unimplemented => {
            println!("skipped: the server has no authentication");
            return;
        }
        Err(error) => panic!("{error}"),
    };
    server.enable_auth().await;
    let anonymous = server.client().await.put(Put::new("k", "")).await.unwrap_err();
    assert_eq!(anonymous.text(), "etcdserver: user name is empty");
    let wrong = with(&server, "wrong").await.unwrap_err();
    assert_eq!(wrong.kind(), ErrorKind::PermissionDenied);
    let client = with(&server, "secret").await.unwrap();
    client.put(Put::new("k", "1")).await.unwrap();
    // A server forgets its tokens when it starts anew.
    server.restart();
    assert_eq!(client.get(Get::key("k")).await.unwrap().kvs[0].value, "1");
    client.put(Put::new("k", "2")).await.unwrap();
}
