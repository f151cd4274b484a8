//! The `etcd-client` crate.

use std::time::Duration;

use etcd_client::{
    Client, Compare, CompareOp, DeleteOptions, Error, Event, EventType, GetOptions,
    LeaseGrantOptions, PutOptions, SortOrder, SortTarget, Txn, TxnOp, TxnOpResponse,
    WatchFilterType, WatchOptions, WatchStream,
};
use etcdrs_tests::server::Server;

const LIMIT: Duration = Duration::from_secs(20);

async fn connect() -> (Server, Client) {
    let server = Server::start().await;
    let client = Client::connect([server.endpoint()], None).await.unwrap();
    (server, client)
}

/// The next `count` events, without the created answer.
async fn events(stream: &mut WatchStream, count: usize) -> Vec<Event> {
    let mut events = Vec::new();
    while events.len() < count {
        let answer = tokio::time::timeout(LIMIT, stream.message()).await.expect("events in time");
        let answer = answer.unwrap().expect("the stream lives");
        assert!(!answer.canceled(), "{answer:?}");
        events.extend(answer.events().iter().cloned());
    }
    events
}

fn text(event: &Event) -> (EventType, &str, &str) {
    let kv = event.kv().unwrap();
    (event.event_type(), kv.key_str().unwrap(), kv.value_str().unwrap())
}

#[tokio::test]
async fn kv() {
    let (_s, mut client) = connect().await;
    for (key, value) in [("a", "1"), ("b", "2"), ("c", "3"), ("pre/1", "x"), ("pre/2", "y")] {
        client.put(key, value, None).await.unwrap();
    }
    let previous = client.put("a", "10", Some(PutOptions::new().with_prev_key())).await.unwrap();
    assert_eq!(previous.prev_key().unwrap().value_str().unwrap(), "1");
    assert_eq!(previous.header().unwrap().revision(), 7);

    let prefix = client.get("pre/", Some(GetOptions::new().with_prefix())).await.unwrap();
    assert_eq!((prefix.count(), prefix.kvs()[1].value_str().unwrap()), (2, "y"));
    let old = client.get("a", Some(GetOptions::new().with_revision(2))).await.unwrap();
    assert_eq!(old.kvs()[0].value_str().unwrap(), "1");
    let page = GetOptions::new().with_all_keys().with_limit(2);
    let page = client.get("", Some(page)).await.unwrap();
    assert!(page.more() && page.count() == 5 && page.kvs().len() == 2);
    let sorted = GetOptions::new().with_all_keys().with_sort(SortTarget::Mod, SortOrder::Descend);
    let sorted = client.get("", Some(sorted)).await.unwrap();
    assert_eq!(sorted.kvs()[0].key_str().unwrap(), "a");
    let count = GetOptions::new().with_from_key().with_count_only();
    assert_eq!(client.get("c", Some(count)).await.unwrap().count(), 3);

    let range = DeleteOptions::new().with_range("c").with_prev_key();
    let deleted = client.delete("a", Some(range)).await.unwrap();
    assert_eq!((deleted.deleted(), deleted.prev_kvs().len()), (2, 2));
    client.compact(8, None).await.unwrap();
    let compacted = client.get("c", Some(GetOptions::new().with_revision(3))).await;
    let Err(Error::GRpcStatus(status)) = compacted else { panic!("{compacted:?}") };
    assert_eq!(status.message(), "etcdserver: mvcc: required revision has been compacted");
}

#[tokio::test]
async fn txn() {
    let (_s, mut client) = connect().await;
    client.put("k", "old", None).await.unwrap();
    let swap = Txn::new()
        .when([
            Compare::value("k", CompareOp::Equal, "old"),
            Compare::version("k", CompareOp::Less, 2),
            Compare::create_revision("absent", CompareOp::Equal, 0),
        ])
        .and_then([TxnOp::put("k", "new", None), TxnOp::get("k", None)])
        .or_else([TxnOp::delete("k", None)]);
    let answer = client.txn(swap.clone()).await.unwrap();
    assert!(answer.succeeded());
    let TxnOpResponse::Get(read) = &answer.op_responses()[1] else { panic!("{answer:?}") };
    assert_eq!(read.kvs()[0].value_str().unwrap(), "new");
    let answer = client.txn(swap).await.unwrap();
    assert!(!answer.succeeded());
    let TxnOpResponse::Delete(gone) = &answer.op_responses()[0] else { panic!("{answer:?}") };
    assert_eq!(gone.deleted(), 1);
    let nested =
        Txn::new().and_then([TxnOp::txn(Txn::new().and_then([TxnOp::put("n", "1", None)]))]);
    client.txn(nested).await.unwrap();
    assert_eq!(client.get("n", None).await.unwrap().count(), 1);
}

#[tokio::test]
async fn watch_from_a_past_revision() {
    let (_s, mut client) = connect().await;
    for value in ["1", "2", "3"] {
        client.put("w/a", value, None).await.unwrap();
    }
    let options = WatchOptions::new().with_prefix().with_start_revision(3);
    let mut stream = client.watch("w/", Some(options)).await.unwrap();
    client.put("w/b", "live", None).await.unwrap();
    client.put("other", "", None).await.unwrap();
    client.delete("w/a", None).await.unwrap();
    let seen = events(&mut stream, 4).await;
    let seen: Vec<_> = seen.iter().map(text).collect();
    use EventType::{Delete, Put};
    let expected =
        [(Put, "w/a", "2"), (Put, "w/a", "3"), (Put, "w/b", "live"), (Delete, "w/a", "")];
    assert_eq!(seen, expected);
    stream.request_progress().await.unwrap();
    let progress = tokio::time::timeout(LIMIT, stream.message()).await.unwrap().unwrap().unwrap();
    assert_eq!((progress.watch_id(), progress.header().unwrap().revision()), (-1, 7));
    stream.cancel(0).await.unwrap();
    let end = tokio::time::timeout(LIMIT, stream.message()).await.unwrap().unwrap().unwrap();
    assert!(end.canceled());
}

#[tokio::test]
async fn watch_with_prev_kv_and_filters() {
    let (_s, mut client) = connect().await;
    client.put("k", "1", None).await.unwrap();
    let options = WatchOptions::new().with_prev_key().with_filters([WatchFilterType::NoPut]);
    let mut deletes = client.watch("k", Some(options)).await.unwrap();
    let options = WatchOptions::new().with_prev_key().with_filters([WatchFilterType::NoDelete]);
    let mut puts = client.watch("k", Some(options)).await.unwrap();
    client.put("k", "2", None).await.unwrap();
    client.delete("k", None).await.unwrap();
    client.put("k", "3", None).await.unwrap();
    let deletes = events(&mut deletes, 1).await;
    assert_eq!(text(&deletes[0]), (EventType::Delete, "k", ""));
    assert_eq!(deletes[0].prev_kv().unwrap().value_str().unwrap(), "2");
    let puts = events(&mut puts, 2).await;
    assert_eq!(text(&puts[0]), (EventType::Put, "k", "2"));
    assert_eq!(puts[0].prev_kv().unwrap().value_str().unwrap(), "1");
    assert_eq!(text(&puts[1]), (EventType::Put, "k", "3"));
    assert!(puts[1].prev_kv().is_none(), "a created key has no previous value");
}

#[tokio::test]
async fn lease_keep_alive_and_expiry() {
    let (_s, mut client) = connect().await;
    let granted = client.lease_grant(3, Some(LeaseGrantOptions::new().with_id(77))).await.unwrap();
    assert_eq!((granted.id(), granted.ttl()), (77, 3));
    client.put("leased", "v", Some(PutOptions::new().with_lease(77))).await.unwrap();
    let mut stream = client.watch("leased", None).await.unwrap();
    let (mut keeper, mut answers) = client.lease_keep_alive(77).await.unwrap();
    for _ in 0..3 {
        keeper.keep_alive().await.unwrap();
        let answer = tokio::time::timeout(LIMIT, answers.message()).await.unwrap();
        assert_eq!(answer.unwrap().unwrap().ttl(), 3);
    }
    let start = tokio::time::Instant::now();
    assert!(client.leases().await.unwrap().leases().iter().any(|lease| lease.id() == 77));
    let gone = events(&mut stream, 1).await;
    assert_eq!(text(&gone[0]), (EventType::Delete, "leased", ""));
    assert!(start.elapsed() > Duration::from_secs(2), "it expired early");
    assert_eq!(client.lease_time_to_live(77, None).await.unwrap().ttl(), -1);
    let revoked = client.lease_revoke(77).await;
    let Err(Error::GRpcStatus(status)) = revoked else { panic!("{revoked:?}") };
    assert_eq!(status.message(), "etcdserver: requested lease not found");
}

#[tokio::test]
async fn maintenance_and_members() {
    let (_s, mut client) = connect().await;
    client.put("k", "v", None).await.unwrap();
    let status = client.status().await.unwrap();
    assert!(status.version().starts_with("3.") && status.leader() != 0);
    assert_eq!(client.member_list().await.unwrap().members().len(), 1);
    client.hash_kv(0).await.unwrap();
    client.defragment().await.unwrap();
    let mut snapshot = client.snapshot().await.unwrap();
    let mut size = 0;
    while let Some(piece) = snapshot.message().await.unwrap() {
        size += piece.blob().len();
    }
    assert!(size > 0);
}
