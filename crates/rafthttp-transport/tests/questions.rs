//! The small questions between members: exact answers, and our client for them (operations.md
//! §3.6).

mod common;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use common::raw::{ask, fake_peer};
use common::{CLUSTER, Member};
use etcdrs_rafthttp_transport::client::{CallError, Client, Failure};
use etcdrs_rafthttp_transport::{
    HashError, HashKv, LeaseError, PeerApi as _, PeerUrl, PlainTcp, PromoteError,
};
use etcdrs_types::{ClusterId, MemberId};

#[tokio::test]
async fn answers_are_etcds_to_the_letter() {
    let member = Member::start(0xa).await;
    let check = async |method: &str, path: &str, body: &[u8], want: (u16, &str)| {
        let answer = ask(member.port, method, path, &[], body).await;
        assert_eq!((answer.status, &*answer.body), want, "{method} {path}");
        answer
    };
    let list = concat!(
        r#"[{"id":1,"peerURLs":["http://a:2380"],"name":"m1","clientURLs":["http://a:2379"]},"#,
        r#"{"id":2,"peerURLs":["http://b:2380"],"isLearner":true}]"#,
        "\n"
    );
    let answer = check("GET", "/members", b"", (200, list)).await;
    assert_eq!(answer.header("Content-Type"), Some("application/json"));
    assert_eq!(answer.header("X-Etcd-Cluster-ID"), Some("c1"));
    let wrong = (405, "Method Not Allowed\n");
    assert_eq!(check("POST", "/members", b"", wrong).await.header("Allow"), Some("GET"));
    let gone = (404, "member x1 not found in cluster\n");
    check("POST", "/members/promote/x1", b"", gone).await;
    check("POST", "/members/promote/9", b"", (404, "membership: ID not found\n")).await;
    let text = "membership: can only promote a learner member\n";
    check("POST", "/members/promote/2", b"", (412, text)).await;
    let text = "etcdserver: can only promote a learner member which is in sync with leader\n";
    check("POST", "/members/promote/3", b"", (412, text)).await;
    check("POST", "/members/promote/4", b"", (408, "timeout while promoting\n")).await;
    let text = r#"{"message":"Internal Server Error"}"#;
    check("POST", "/members/promote/6", b"", (500, text)).await;
    let allow = check("GET", "/members/promote/1", b"", wrong).await;
    assert_eq!(allow.header("Allow"), Some("POST"));
    let hash = r#"{"header":{"revision":9},"hash":77,"hash_revision":9}"#;
    check("GET", "/members/hashkv", br#"{"revision":0}"#, (200, hash)).await;
    let text = "mvcc: required revision has been compacted\n";
    check("GET", "/members/hashkv", br#"{"revision":1}"#, (400, text)).await;
    check("GET", "/members/hashkv", b"x", (400, "error unmarshalling request\n")).await;
    let foreign = [("X-Etcd-Cluster-ID", "c2")];
    let answer = ask(member.port, "GET", "/members/hashkv", &foreign, b"{}").await;
    assert_eq!((answer.status, &*answer.body), (412, "cluster ID mismatch\n"));
    let versions = r#"{"etcdserver":"3.7.1","etcdcluster":"3.7.0","storage":"3.7.0"}"#;
    check("GET", "/version", b"", (200, versions)).await;
    check("GET", "/downgrade/enabled", b"", (200, "false")).await;
    let answer = check("GET", "/leases", b"", wrong).await;
    assert_eq!(answer.header("Allow"), None);
    check("POST", "/leases", b"renewed", (200, "renewed")).await;
    check("POST", "/leases", b"not found", (404, "lease not found\n")).await;
    check("POST", "/leases", b"not primary", (400, "not a primary lessor\n")).await;
    check("POST", "/leases/internal", b"not primary", (500, "not a primary lessor\n")).await;
    let text = "waiting for node to catch up its applied index has timed out\n";
    check("POST", "/leases/internal", b"late", (408, text)).await;
    check("POST", "/leases", b"bad", (400, "error unmarshalling request\n")).await;
    let large = vec![0; 65 * 1024];
    check("POST", "/leases", &large, (413, "request body too large\n")).await;
}

fn client() -> Client {
    Client::new(Arc::new(PlainTcp::default()), Duration::from_secs(20))
}

#[tokio::test]
async fn the_client_understands_the_answers() {
    let member = Member::start(0xa).await;
    let url: PeerUrl = member.url.parse().unwrap();
    let client = client().for_cluster(CLUSTER);
    let (cluster, members) = client.members(&url).await.unwrap();
    let mut expected = common::api::Fake.members();
    expected.reverse();
    assert_eq!((cluster, members), (CLUSTER, expected.clone()));
    assert_eq!(client.version(&url).await.unwrap(), common::api::Fake.version());
    assert!(!client.downgrade_enabled(&url).await.unwrap());
    let promoted = client.promote(&url, MemberId(1), Some("secret")).await.unwrap();
    assert_eq!(promoted, expected);
    for (id, want) in [
        (2, PromoteError::NotLearner),
        (3, PromoteError::NotReady),
        (4, PromoteError::Timeout("timeout while promoting".into())),
        (5, PromoteError::Unavailable),
        (6, PromoteError::Internal),
        (7, PromoteError::NotFound),
    ] {
        let refused = client.promote(&url, MemberId(id), None).await.unwrap_err();
        assert!(matches!(refused, Failure::Refused(got) if got == want), "{id}");
    }
    let hash = HashKv { revision: 9, hash: 77, compact_revision: 0, hash_revision: 9 };
    assert_eq!(client.hash_kv(&url, 0).await.unwrap(), hash);
    for (revision, want) in [
        (1, HashError::Compacted),
        (2, HashError::Future),
        (3, HashError::Other("disk on fire".into())),
    ] {
        let refused = client.hash_kv(&url, revision).await.unwrap_err();
        assert!(matches!(refused, Failure::Refused(got) if got == want), "{revision}");
    }
    let foreign = client.for_cluster(ClusterId(0xc2)).hash_kv(&url, 0).await.unwrap_err();
    assert!(matches!(foreign, Failure::Refused(HashError::OtherCluster)));
    let renewed = client.lease_renew(&url, Bytes::from_static(b"renewed")).await.unwrap();
    assert_eq!(renewed, "renewed");
    for (question, want) in [
        ("not found", LeaseError::NotFound),
        ("not primary", LeaseError::NotPrimary),
        ("late", LeaseError::Timeout),
        ("bad", LeaseError::Malformed),
    ] {
        for renew in [true, false] {
            let question = Bytes::from_static(question.as_bytes());
            let refused = if renew {
                client.lease_renew(&url, question).await.unwrap_err()
            } else {
                client.lease_internal(&url, question).await.unwrap_err()
            };
            assert!(matches!(refused, Failure::Refused(got) if got == want));
        }
    }
}

#[tokio::test]
async fn the_client_gives_up() {
    let (mute, _asked) = fake_peer(Vec::new()).await;
    let short = client().with_limit(Duration::from_millis(100));
    let url: PeerUrl = format!("http://127.0.0.1:{mute}").parse().unwrap();
    assert!(matches!(short.members(&url).await, Err(CallError::Timeout)));
    let url: PeerUrl = "http://127.0.0.1:1".parse().unwrap();
    assert!(matches!(short.members(&url).await, Err(CallError::Connection(_))));
    let text = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nno".to_vec();
    let (port, _asked) = fake_peer(text).await;
    let url: PeerUrl = format!("http://127.0.0.1:{port}").parse().unwrap();
    assert!(matches!(client().members(&url).await, Err(CallError::Malformed(_))));
    assert!(matches!(client().version(&url).await, Err(CallError::Malformed(_))));
    let endless = [&b"HTTP/1.1 200 OK\r\n\r\n"[..], &vec![b'['; 5 << 20]].concat();
    let (port, _asked) = fake_peer(endless).await;
    let url: PeerUrl = format!("http://127.0.0.1:{port}").parse().unwrap();
    assert!(matches!(client().members(&url).await, Err(CallError::Connection(_))));
}
