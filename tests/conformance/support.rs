//! What every group of tests uses.

pub(crate) use std::time::Duration;

pub(crate) use bytes::Bytes;
pub(crate) use etcdrs_tests::client::{Clients, limited};
pub(crate) use etcdrs_tests::difference::Difference;
pub(crate) use etcdrs_tests::errors::{self, expect_error};
pub(crate) use etcdrs_tests::mvccpb::{Event, KeyValue, event::EventType};
pub(crate) use etcdrs_tests::pb;
pub(crate) use etcdrs_tests::request::*;
pub(crate) use etcdrs_tests::server::{Server, Setup};
pub(crate) use etcdrs_tests::watch::{self as watching, WatchSession};
pub(crate) use tonic::{Code, Status};

/// A fresh server and a connection to it.
pub(crate) async fn fresh() -> (Server, Clients) {
    with(Setup::new()).await
}

/// As [`fresh`], with flags.
pub(crate) async fn with(setup: Setup) -> (Server, Clients) {
    let server = setup.start().await;
    let clients = server.clients().await;
    (server, clients)
}

/// The keys of an answer as text.
pub(crate) fn keys(kvs: &[KeyValue]) -> Vec<&str> {
    kvs.iter().map(|kv| std::str::from_utf8(&kv.key).unwrap()).collect()
}

/// The metadata of a key that RV-05 is about, and its value.
pub(crate) fn facts(kv: &KeyValue) -> (&[u8], i64, i64, i64) {
    (&kv.value, kv.create_revision, kv.mod_revision, kv.version)
}

/// Keys `a`, `b`, `c` as vectors V04 and V05 make them; the revision is then 6.
pub(crate) async fn put_vectors(c: &mut Clients) {
    for (key, value) in [("a", "1"), ("b", "1"), ("c", "1"), ("b", "3"), ("a", "2")] {
        c.put(key, value).await;
    }
}

/// A comparison that never holds: key `never` does not exist.
pub(crate) fn never() -> pb::Compare {
    compare("never", CompareTarget::Version, CompareResult::Greater, TargetUnion::Version(0))
}

/// Puts `count` keys `prefix%08d`, several at a time, one revision each.
pub(crate) async fn fill(c: &Clients, prefix: &'static str, count: usize, value: &Bytes) {
    const WRITERS: usize = 16;
    let writers = (0..WRITERS).map(|writer| {
        let (mut c, value) = (c.clone(), value.clone());
        async move {
            for at in (writer..count).step_by(WRITERS) {
                c.put(format!("{prefix}{at:08}"), value.clone()).await;
            }
        }
    });
    futures_util::future::join_all(writers).await;
}
