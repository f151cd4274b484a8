//! Rows 63-66, 68-70, 73: leases.

use crate::support::*;

/// V31, V33.
#[tokio::test]
async fn row_063_le_01_ids() {
    let (_s, mut c) = fresh().await;
    let first = c.grant(0, 60).await;
    let second = c.grant(0, 60).await;
    assert!(first.id > 0 && second.id > 0 && first.id != second.id);
    assert_eq!((first.ttl, first.error.as_str()), (60, ""));
    let negative = c.grant(-7, -5).await;
    assert_eq!((negative.id, negative.ttl), (-7, 2));
    assert_eq!(c.grant(1234, 100).await.id, 1234);
    expect_error(c.try_grant(1234, 100).await, errors::LEASE_EXISTS);
    c.put_with_lease("k", -7).await;
    assert_eq!(c.get("k").await.unwrap().lease, -7);
}

/// V32.
#[tokio::test]
async fn row_064_le_01_le_02_ttl_floor_and_ceiling() {
    let (_s, mut c) = fresh().await;
    for ttl in [i64::MIN, -1, 0, 1, 2] {
        assert_eq!(c.grant(0, ttl).await.ttl, 2, "{ttl}");
    }
    assert_eq!(c.grant(0, 3).await.ttl, 3);
    assert_eq!(c.grant(77, 9_000_000_000).await.ttl, 9_000_000_000);
    expect_error(c.try_grant(0, 9_000_000_001).await, errors::LEASE_TTL_TOO_LARGE);
    expect_error(c.try_grant(77, i64::MAX).await, errors::LEASE_TTL_TOO_LARGE);
}

/// V36, V37, V38.
#[tokio::test]
async fn row_065_le_03_revoke() {
    let (_s, mut c) = fresh().await;
    expect_error(c.try_revoke(99).await, errors::LEASE_NOT_FOUND);
    c.grant(5, 60).await;
    assert_eq!(c.try_revoke(5).await.unwrap().revision(), 1);
    c.grant(6, 60).await;
    for key in ["l2", "l3", "l1"] {
        c.put_with_lease(key, 6).await;
    }
    let mut w = c.watch();
    w.create(pb::WatchCreateRequest { prev_kv: true, ..watching::on_range("l", "m") }).await;
    assert_eq!(c.try_revoke(6).await.unwrap().revision(), 5);
    let group = w.next().await;
    let seen: Vec<_> = group.events.iter().map(|e| e.kv.as_ref().unwrap().clone()).collect();
    assert_eq!(keys(&seen), ["l1", "l2", "l3"]);
    assert!(seen.iter().all(|kv| kv.mod_revision == 5));
    assert!(group.events.iter().all(|e| e.prev_kv.as_ref().unwrap().lease == 6));
    expect_error(c.try_revoke(6).await, errors::LEASE_NOT_FOUND);
    assert_eq!(c.time_to_live(6).await.ttl, -1);
}

/// V34.
#[tokio::test]
async fn row_066_le_04_keep_alive() {
    let (_s, mut c) = fresh().await;
    let absent = c.keep_alive(99).await;
    assert_eq!((absent.id, absent.ttl, absent.revision()), (99, 0, 1));
    c.grant(5, 30).await;
    c.put("a", "").await;
    let requests = [5, 98, 5].map(|id| pb::LeaseKeepAliveRequest { id });
    let requests = futures_util::stream::iter(requests);
    let mut answers = limited(c.lease.lease_keep_alive(requests)).await.unwrap();
    for (id, ttl) in [(5, 30), (98, 0), (5, 30)] {
        let answer = answers.message().await.unwrap().unwrap();
        assert_eq!((answer.id, answer.ttl, answer.revision()), (id, ttl, 2));
    }
    assert_eq!(answers.message().await.unwrap(), None, "our half-close ends it cleanly");
}

#[tokio::test]
async fn row_066_le_04_renewal_keeps_a_lease_past_its_ttl() {
    let (_s, mut c) = fresh().await;
    c.grant(5, 2).await;
    c.grant(6, 2).await;
    c.put_with_lease("kept", 5).await;
    c.put_with_lease("lost", 6).await;
    let mut w = c.watch();
    w.create(watching::on("lost")).await;
    let lost = loop {
        assert_eq!(c.keep_alive(5).await.ttl, 2);
        if let Some(lost) = w.next_within(Duration::from_millis(300)).await {
            break lost;
        }
    };
    assert_eq!(lost.events[0].r#type, EventType::Delete as i32);
    assert_eq!(c.keep_alive(6).await.ttl, 0);
    assert!(c.get("kept").await.is_some());
    assert_eq!(c.keep_alive(5).await.ttl, 2);
}

/// A keep-alive that comes between the end of a lease and its revocation waits for the latter:
/// whoever is told 0 finds the keys gone. Leases that end 25 ms apart meet the scans of the server
/// at every distance.
#[tokio::test]
async fn row_066_le_04_ttl_zero_comes_after_the_revocation() {
    let (_s, mut c) = fresh().await;
    let mut ticks = tokio::time::interval(Duration::from_millis(25));
    for id in 100..124 {
        ticks.tick().await;
        c.grant(id, 2).await;
        let put = pb::PutRequest { lease: id, ..put(format!("k{id}"), "v") };
        c.try_put(put).await.unwrap();
    }
    tokio::time::sleep(Duration::from_millis(2100 - 24 * 25)).await;
    ticks.reset();
    let mut gone = 0;
    for id in 100..124 {
        ticks.tick().await;
        if c.keep_alive(id).await.ttl == 0 {
            assert!(c.get(format!("k{id}")).await.is_none(), "lease {id} is gone, its key is not");
            gone += 1;
        }
    }
    assert!(gone > 0, "no keep-alive came too late");
}

/// V35.
#[tokio::test]
async fn row_068_le_07_time_to_live() {
    let (_s, mut c) = fresh().await;
    let absent = c.time_to_live(99).await;
    assert_eq!((absent.id, absent.ttl, absent.granted_ttl, absent.keys.len()), (99, -1, 0, 0));
    c.grant(5, 600).await;
    for key in ["b", "a"] {
        c.put_with_lease(key, 5).await;
    }
    let lease = c.time_to_live(5).await;
    assert_eq!((lease.id, lease.granted_ttl), (5, 600));
    assert!((500..600).contains(&lease.ttl), "remaining seconds, rounded down: {}", lease.ttl);
    assert_eq!(lease.keys, ["a", "b"]);
    let request = pb::LeaseTimeToLiveRequest { id: 5, keys: false };
    let answer = limited(c.lease.lease_time_to_live(request)).await.unwrap();
    assert!(answer.keys.is_empty(), "keys were not asked for");
}

#[tokio::test]
async fn row_069_le_08_list() {
    let (_s, mut c) = fresh().await;
    assert!(c.leases().await.is_empty());
    for id in [9, -3, 4] {
        c.grant(id, 600).await;
    }
    assert_eq!(c.leases().await, [-3, 4, 9]);
    c.try_revoke(4).await.unwrap();
    assert_eq!(c.leases().await, [-3, 9]);
}

#[tokio::test]
async fn row_070_le_09_le_13_expiry_deletes_and_is_never_early() {
    let (_s, mut c) = fresh().await;
    let mut w = c.watch();
    w.create(watching::on_range("l", "m")).await;
    let start = tokio::time::Instant::now();
    for id in 1..=20 {
        c.grant(id, 3).await;
        let key = format!("l{id:02}");
        c.try_put(pb::PutRequest { lease: id, ..put(key, "v") }).await.unwrap();
    }
    w.events(20).await;
    let mut gone = Vec::new();
    while gone.len() < 20 {
        let group = w.next().await;
        assert!(start.elapsed() >= Duration::from_secs(3), "a lease expired early");
        for event in &group.events {
            assert_eq!(event.r#type, EventType::Delete as i32);
            let kv = event.kv.clone().unwrap();
            assert_eq!((facts(&kv).0, kv.create_revision, kv.version), (&b""[..], 0, 0));
            gone.push(kv.key);
        }
    }
    gone.sort();
    gone.dedup();
    assert_eq!(gone.len(), 20);
    assert!(c.leases().await.is_empty());
    assert_eq!(c.range(range("l", "m")).await.count, 0);
}

#[tokio::test]
async fn row_073_le_10_survives_restart() {
    let (mut s, mut c) = fresh().await;
    c.grant(5, 600).await;
    c.grant(6, 3).await;
    c.put_with_lease("a", 5).await;
    c.put_with_lease("b", 6).await;
    for stop_cleanly in [true, false] {
        if stop_cleanly {
            s.terminate().await;
        } else {
            s.kill();
        }
        s.restart().await;
        let mut c = s.clients().await;
        let lease = c.time_to_live(5).await;
        assert_eq!((lease.granted_ttl, lease.keys), (600, vec![Bytes::from_static(b"a")]));
        assert!(lease.ttl > 500);
    }
    let mut c = s.clients().await;
    let mut w = c.watch();
    w.create(pb::WatchCreateRequest { start_revision: 4, ..watching::on("b") }).await;
    let gone = w.events(1).await;
    assert_eq!(gone[0].r#type, EventType::Delete as i32, "expiry goes on after a restart");
    let revision = c.revision().await;
    assert_eq!(c.try_revoke(5).await.unwrap().revision(), revision + 1);
    assert!(c.get("a").await.is_none());
}
