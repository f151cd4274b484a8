//! Snapshots between members.

mod common;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use common::Member;
use common::raw::{Proxy, fake_peer};
use etcdrs_rafthttp_transport::SnapshotSendError;
use etcdrs_types::MemberId;
use futures_util::{Stream, StreamExt as _, stream};

const MIB: usize = 1 << 20;

/// `count` chunks of a mebibyte, made when asked for; `made` counts them.
fn chunks(count: u64, made: Arc<AtomicU64>) -> impl Stream<Item = io::Result<Bytes>> {
    stream::iter(0..count).map(move |number| {
        made.fetch_add(1, Ordering::SeqCst);
        Ok(Bytes::from(vec![number as u8; MIB]))
    })
}

/// T28: 64 MiB go through while a few at most are in memory or on the way.
#[tokio::test]
async fn t28_a_large_snapshot_needs_little_memory() {
    let (one, two) = (Member::start(0xa).await, Member::start(0xb).await);
    one.add(&two);
    let made = Arc::new(AtomicU64::new(0));
    let (counted, seen) = (made.clone(), two.recorder.seen.subscribe());
    let most_ahead = Arc::new(AtomicU64::new(0));
    let most = most_ahead.clone();
    let chunks = chunks(64, made).inspect(move |_| {
        let taken = seen.borrow().snapshot_bytes / MIB as u64;
        most.fetch_max(counted.load(Ordering::SeqCst) - taken, Ordering::SeqCst);
    });
    let head = Bytes::from_static(b"snapshot at 7");
    let answer = one.transport.send_snapshot(two.id, head.clone(), chunks).await.unwrap();
    assert_eq!(answer, format!("took {}", 64 * MIB));
    assert_eq!(two.recorder.seen.borrow().snapshots, [Ok((head, 64 * MIB as u64))]);
    // What the system's socket buffers can hold on loopback is the largest part of it.
    let most = most_ahead.load(Ordering::SeqCst);
    assert!(most <= 16, "{most} MiB were on the way");
}

#[tokio::test]
async fn a_damaged_snapshot_is_refused() {
    let (one, two) = (Member::start(0xa).await, Member::start(0xb).await);
    let proxy = Proxy::start(two.port).await;
    proxy.damage_request_after.store(3 * MIB as u64, Ordering::SeqCst);
    // A remote: no streams and probes that could meet the damage instead.
    one.transport.add_remote(two.id, std::slice::from_ref(&proxy.url)).unwrap();
    let sent = one.transport.send_snapshot(two.id, Bytes::new(), chunks(8, Arc::default())).await;
    two.recorder.until("the refusal", |seen| !seen.snapshots.is_empty()).await;
    let seen = two.recorder.seen.borrow();
    assert_eq!(seen.snapshots, [Err("snapshot is damaged: frame checksum mismatch".into())]);
    let error = sent.unwrap_err();
    let told = matches!(&error, SnapshotSendError::Refused { status: 400, text }
        if text == "snapshot is damaged: frame checksum mismatch");
    assert!(told || matches!(error, SnapshotSendError::Connection(_)), "{error:?}");
}

#[tokio::test]
async fn a_source_that_fails_fails_the_snapshot() {
    let (one, two) = (Member::start(0xa).await, Member::start(0xb).await);
    one.add(&two);
    let failing = stream::iter([Ok(Bytes::from(vec![0; MIB])), Err(io::Error::other("disk died"))]);
    let sent = one.transport.send_snapshot(two.id, Bytes::new(), failing).await;
    assert!(matches!(sent, Err(SnapshotSendError::Source(e)) if e.to_string() == "disk died"));
    two.recorder.until("the end", |seen| matches!(&seen.snapshots[..], [Err(_)])).await;
}

#[tokio::test]
async fn snapshots_to_nobody_and_to_the_dead_fail() {
    let one = Member::start_with(0xa, |config| {
        config.write_timeout = Duration::from_millis(200);
        config.snapshot_timeout = Duration::from_millis(400);
    })
    .await;
    let send = |to, count| {
        one.transport.send_snapshot(MemberId(to), Bytes::new(), chunks(count, Arc::default()))
    };
    assert!(matches!(send(9, 1).await, Err(SnapshotSendError::Unknown)));
    one.transport.add_remote(MemberId(1), &["http://127.0.0.1:1".to_owned()]).unwrap();
    assert!(matches!(send(1, 1).await, Err(SnapshotSendError::Connection(_))));
    // Takes the connection, and not what comes over it.
    let (port, _asked) = fake_peer(Vec::new()).await;
    one.transport.add_remote(MemberId(2), &[format!("http://127.0.0.1:{port}")]).unwrap();
    let stalled = send(2, 64).await.unwrap_err();
    let noticed = matches!(stalled, SnapshotSendError::Connection(_) | SnapshotSendError::Timeout);
    assert!(noticed, "{stalled:?}");
    // Takes everything, and never answers.
    assert!(matches!(send(2, 0).await, Err(SnapshotSendError::Timeout)));
}

/// T28: cancelled by a stop of either side.
#[tokio::test]
async fn t28_stop_ends_a_snapshot() {
    let (one, two) = (Member::start(0xa).await, Member::start(0xb).await);
    one.add(&two);
    let endless = stream::repeat_with(|| Ok(Bytes::from(vec![0; MIB])));
    let transport = one.transport.clone();
    let to = two.id;
    let sending =
        tokio::spawn(async move { transport.send_snapshot(to, Bytes::new(), endless).await });
    two.recorder.until("it has begun", |seen| seen.snapshot_bytes > 0).await;
    one.transport.stop().await;
    assert!(matches!(sending.await.unwrap(), Err(SnapshotSendError::Stopped)));
    two.recorder.until("the end", |seen| matches!(&seen.snapshots[..], [Err(_)])).await;

    let three = Member::start(0xc).await;
    three.add(&two);
    let endless = stream::repeat_with(|| Ok(Bytes::from(vec![0; MIB])));
    let transport = three.transport.clone();
    let sending =
        tokio::spawn(async move { transport.send_snapshot(to, Bytes::new(), endless).await });
    let before = two.recorder.seen.borrow().snapshot_bytes;
    two.recorder.until("it has begun", |seen| seen.snapshot_bytes > before).await;
    two.stop().await;
    assert!(sending.await.unwrap().is_err());
}
