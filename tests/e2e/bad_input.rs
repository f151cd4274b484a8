//! Requests no client should send. Each is refused with etcd's text where there is one, and the
//! server goes on. Size limits, 129 operations, empty keys, negative limits and future revisions
//! have their own rows in the conformance suite; here they come together and at random.

use bytes::Bytes;
use etcdrs_proto::METHODS;
use etcdrs_tests::errors::{self, expect_error};
use etcdrs_tests::random::Random;
use etcdrs_tests::request::{IntoOp, get, put, range, then};
use etcdrs_tests::server::Server;
use etcdrs_tests::target::Flavour;
use etcdrs_tests::{pb, raw, watch};
use tonic::Code;

#[tokio::test]
async fn refused_requests_change_nothing() {
    let s = Server::start().await;
    let mut c = s.clients().await;
    c.put("kept", "1").await;
    let large = put("large", vec![b'x'; 1_600_000]);
    expect_error(c.try_put(large).await, errors::REQUEST_TOO_LARGE);
    let over_grpc = put("larger", vec![b'x'; 3_000_000]);
    let status = c.try_put(over_grpc).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert!(status.message().starts_with("grpc: received message larger than max ("), "{status}");
    let too_many = then(vec![put("k", "v").op(); 129]);
    expect_error(c.try_txn(too_many).await, errors::TOO_MANY_OPS);
    expect_error(c.try_put(put("", "v")).await, errors::EMPTY_KEY);
    let future = pb::RangeRequest { revision: 1000, ..get("kept") };
    expect_error(c.try_range(future).await, errors::FUTURE_REVISION);
    let negative = pb::RangeRequest { limit: -5, ..range("a", "z") };
    assert_eq!(c.range(negative).await.kvs.len(), 1);
    let all = c.range(range("\0", "\0")).await;
    assert_eq!((all.count, all.header.unwrap().revision), (1, 2));
}

#[tokio::test]
async fn unknown_enum_numbers() {
    let s = Server::start().await;
    let mut c = s.clients().await;
    c.put("a", "1").await;
    if s.flavour() == Flavour::Current {
        // etcd 3.5.1 dies of these.
        let sort = pb::RangeRequest { sort_order: 77, ..range("a", "z") };
        expect_error(c.try_range(sort).await, errors::INVALID_SORT_OPTION);
        let alarm = pb::AlarmRequest { action: 99, member_id: 0, alarm: 0 };
        assert!(c.maintenance.alarm(alarm).await.is_err());
    }
    let mut session = c.watch();
    let strange = pb::WatchCreateRequest { filters: vec![42, -1], ..watch::on("a") };
    assert!(session.create(strange).await.created);
    c.put("a", "2").await;
    assert_eq!(session.events(1).await.len(), 1, "an unknown filter filters nothing");
    let compare = pb::Compare { result: 55, target: 66, key: "a".into(), ..Default::default() };
    let request = pb::TxnRequest { compare: vec![compare], ..Default::default() };
    assert!(c.txn(request).await.succeeded, "TX-09");
}

/// Bytes that look like protobuf, sent to every method of a key, lease or watch.
#[tokio::test]
async fn random_messages_never_stop_the_server() {
    const ROUNDS: usize = 40;
    const SEED: u64 = 11;
    let s = Server::start().await;
    if s.flavour() != Flavour::Current {
        return; // 3.5.1 stops at the first unknown sort number.
    }
    let mut c = s.clients().await;
    let mut random = Random::new(SEED);
    let services = ["etcdserverpb.KV", "etcdserverpb.Lease", "etcdserverpb.Maintenance"];
    let methods = METHODS.iter().filter(|method| services.iter().any(|s| method.path.contains(s)));
    for method in methods {
        for _ in 0..ROUNDS {
            let call = raw::server_stream(&c.channel, method.path, random_message(&mut random));
            let limit = std::time::Duration::from_millis(200);
            // Any answer is fine; the server must be there afterwards.
            let _ = tokio::time::timeout(limit, async { call.await?.message().await }).await;
        }
        assert!(s.log().panic_line().is_none(), "{} with seed {SEED}", method.path);
    }
    c.put("alive", "1").await;
}

fn random_message(random: &mut Random) -> Bytes {
    let mut message = Vec::new();
    for _ in 0..random.below(6) {
        let field = random.below(16) + 1;
        if random.one_in(2) {
            message.push((field << 3) as u8 & 0x7f);
            let value = if random.one_in(3) { random.word() } else { random.below(200) };
            prost::encoding::encode_varint(value, &mut message);
        } else {
            message.push(((field << 3) as u8 & 0x78) | 2);
            let length = random.below(10);
            message.push(length as u8);
            message.extend((0..length).map(|_| random.word() as u8));
        }
    }
    if random.one_in(6) {
        message.truncate(message.len() / 2);
    }
    message.into()
}
