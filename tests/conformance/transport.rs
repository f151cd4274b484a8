//! Rows 1, 8, 9 (and the single-service part of 10): the port, the methods, the encoding.

use etcdrs_proto::METHODS;
use etcdrs_tests::{http, raw};
use prost::Message;

use crate::support::*;

#[tokio::test]
async fn row_001_grpc_and_plain_http_share_the_port() {
    let (s, mut c) = fresh().await;
    c.put("a", "1").await;

    let health = http::get(s.client_port(), "/health").await.unwrap();
    let body: serde_json::Value = serde_json::from_str(&health.body).unwrap();
    assert_eq!((health.status, &body["health"]), (200, &"true".into()), "{health:?}");

    let version = http::get(s.client_port(), "/version").await.unwrap();
    let body: serde_json::Value = serde_json::from_str(&version.body).unwrap();
    assert!(body["etcdserver"].is_string() && body["etcdcluster"].is_string(), "{version:?}");

    let metrics = http::get(s.client_port(), "/metrics").await.unwrap();
    assert_eq!(metrics.status, 200);
    assert!(metrics.body.contains("etcd_server_has_leader 1"), "{}", metrics.body);

    assert_eq!(http::get(s.client_port(), "/no-such-page").await.unwrap().status, 404);
    assert_eq!(c.get("a").await.unwrap().value, "1");
}

#[tokio::test]
async fn row_001_ht_01_ht_03_probes() {
    let (s, _c) = fresh().await;
    if Difference::NoLivezNorStorageVersion.applies(s.flavour()) {
        return;
    }
    let version = http::get(s.client_port(), "/version").await.unwrap();
    let body: serde_json::Value = serde_json::from_str(&version.body).unwrap();
    for key in ["etcdserver", "etcdcluster", "storage"] {
        assert!(body[key].as_str().unwrap().starts_with("3."), "{version:?}");
    }
    for path in ["/livez", "/readyz"] {
        let probe = http::get(s.client_port(), path).await.unwrap();
        assert_eq!((probe.status, probe.body.as_str()), (200, "ok\n"), "{path}: {probe:?}");
        let verbose = http::get(s.client_port(), &format!("{path}?verbose")).await.unwrap();
        assert!(verbose.body.contains("[+]serializable_read ok"), "{verbose:?}");
    }
    let ready = http::get(s.client_port(), "/readyz?verbose").await.unwrap();
    for check in ["data_corruption", "linearizable_read", "non_learner"] {
        assert!(ready.body.contains(&format!("[+]{check} ok")), "{ready:?}");
    }
}

#[tokio::test]
async fn row_008_all_52_methods_are_registered() {
    let (s, c) = fresh().await;
    assert_eq!(METHODS.len(), 52);
    let mut unknown = Vec::new();
    for method in METHODS {
        let older = [
            (Difference::NoRangeStream, "/etcdserverpb.KV/RangeStream"),
            (Difference::NoHealthList, "/grpc.health.v1.Health/List"),
        ];
        if older.iter().any(|(d, path)| *path == method.path && d.applies(s.flavour())) {
            continue;
        }
        // Some calls wait for ever by their nature; those at least were not refused.
        let call = raw::server_stream(&c.channel, method.path, Bytes::new());
        let answer =
            tokio::time::timeout(Duration::from_millis(500), async { call.await?.message().await });
        if let Ok(Err(status)) = answer.await
            && status.message().starts_with("unknown ")
            && status.code() == Code::Unimplemented
        {
            unknown.push((method.path, status));
        }
    }
    assert!(unknown.is_empty(), "{unknown:#?}");
}

#[tokio::test]
async fn row_008_other_names_are_unimplemented() {
    let (_s, c) = fresh().await;
    let method = raw::unary(&c.channel, "/etcdserverpb.KV/Nope", Bytes::new()).await;
    let text = "unknown method Nope for service etcdserverpb.KV";
    expect_error(method, (Code::Unimplemented, text));
    let service = raw::unary(&c.channel, "/no.Such/Range", Bytes::new()).await;
    expect_error(service, (Code::Unimplemented, "unknown service no.Such"));
}

#[tokio::test]
async fn row_009_unknown_fields_are_tolerated() {
    let (_s, c) = fresh().await;
    let mut request = put("k", "v").encode_to_vec();
    request.extend_from_slice(&[0xba, 0x3e, 0x03, b'x', b'y', b'z']); // field 999, three bytes
    let answer = raw::unary(&c.channel, "/etcdserverpb.KV/Put", request.into()).await.unwrap();
    assert_eq!(pb::PutResponse::decode(answer).unwrap().revision(), 2);
}

#[tokio::test]
async fn row_009_field_numbers_of_a_key_value() {
    let (_s, mut c) = fresh().await;
    c.grant(7, 60).await;
    let request = [0x0a, 1, b'k', 0x12, 1, b'v', 0x18, 7]; // key, value, lease of PutRequest
    raw::unary(&c.channel, "/etcdserverpb.KV/Put", Bytes::copy_from_slice(&request)).await.unwrap();
    let request = Bytes::from_static(&[0x0a, 1, b'k']);
    let answer = raw::unary(&c.channel, "/etcdserverpb.KV/Range", request).await.unwrap();
    let kv = [0x0a, 1, b'k', 0x10, 2, 0x18, 2, 0x20, 1, 0x2a, 1, b'v', 0x30, 7];
    let mut tail = vec![0x12, kv.len() as u8];
    tail.extend_from_slice(&kv);
    tail.extend_from_slice(&[0x20, 1]); // count
    assert!(answer.ends_with(&tail), "{answer:?}");
}

#[tokio::test]
async fn row_009_malformed_message_is_an_error_of_the_call_only() {
    let (_s, mut c) = fresh().await;
    let truncated = Bytes::from_static(&[0x0a, 0x7f, b'k']);
    let answer = raw::unary(&c.channel, "/etcdserverpb.KV/Put", truncated).await;
    assert_eq!(answer.unwrap_err().code(), Code::Internal);
    assert_eq!(c.put("k", "v").await.revision(), 2);
}

#[tokio::test]
async fn row_010_health_service() {
    use etcdrs_proto::health::{HealthCheckRequest, HealthCheckResponse};
    let (_s, c) = fresh().await;
    let check = |service: &str| {
        let request = HealthCheckRequest { service: service.into() };
        raw::unary(&c.channel, "/grpc.health.v1.Health/Check", request.encode_to_vec().into())
    };
    let answer = HealthCheckResponse::decode(check("").await.unwrap()).unwrap();
    assert_eq!(answer.status, 1, "SERVING");
    expect_error(check("nope").await, (Code::NotFound, "unknown service"));
}

#[tokio::test]
async fn row_010_health_watch() {
    use etcdrs_proto::health::{HealthCheckRequest, HealthCheckResponse};
    let (_s, c) = fresh().await;
    for (service, status) in [("", 1), ("nope", 3)] {
        let request = HealthCheckRequest { service: service.into() };
        let body = request.encode_to_vec().into();
        let stream = raw::server_stream(&c.channel, "/grpc.health.v1.Health/Watch", body).await;
        let first = stream.unwrap().message().await.unwrap().unwrap();
        assert_eq!(HealthCheckResponse::decode(first).unwrap().status, status, "{service}");
    }
}

/// Ours only: tools such as grpcurl find the services without our files.
#[tokio::test]
async fn reflection_lists_the_services() {
    let (s, c) = fresh().await;
    if Difference::NoReflection.applies(s.flavour()) {
        return;
    }
    let list_services = Bytes::from_static(&[0x3a, 1, b'*']);
    let path = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
    let stream = raw::server_stream(&c.channel, path, list_services).await;
    let answer = stream.unwrap().message().await.unwrap().unwrap();
    let text = String::from_utf8_lossy(&answer);
    for service in ["etcdserverpb.KV", "etcdserverpb.Watch", "v3lockpb.Lock"] {
        assert!(text.contains(service), "no {service} in {text:?}");
    }
}
