//! Messages between members that work.

mod common;

use bytes::Bytes;
use common::{Member, connected, numbered, numbers, raw};
use etcdrs_rafthttp_transport::{AddError, Lane, SendError};
use etcdrs_types::MemberId;

async fn exchange(members: &[Member], count: u64) {
    let pairs = || {
        members.iter().flat_map(move |from| {
            members.iter().filter(move |to| to.id != from.id).map(move |to| (from, to))
        })
    };
    let sending =
        pairs().flat_map(|(from, to)| [Lane::Append, Lane::Control].map(|lane| (from, to, lane)));
    let sending = sending.map(|(from, to, lane)| async move {
        for number in 0..count {
            from.send(to.id, lane, numbered(lane, number)).await;
        }
    });
    futures_util::future::join_all(sending).await;
    let per_member = count as usize * 2 * (members.len() - 1);
    for (from, to) in pairs() {
        to.recorder.until("all messages", |seen| seen.messages.len() >= per_member).await;
        for lane in [Lane::Append, Lane::Control] {
            let came = numbers(&to.recorder.seen.borrow(), from.id, lane);
            assert!(came.into_iter().eq(0..count), "{lane:?} from {} to {}", from.id, to.id);
        }
    }
}

/// T08, T09: each lane keeps its order.
#[tokio::test]
async fn t09_two_members_exchange_100_000_messages_a_lane() {
    let members = connected(&[0xa, 0xb]).await;
    exchange(&members, 100_000).await;
}

#[tokio::test]
async fn three_members_exchange_messages() {
    let members = connected(&[0xa, 0xb, 0xc]).await;
    exchange(&members, 10_000).await;
    for member in members {
        member.stop().await;
    }
}

/// T10: a member that gets no streams is sent `POST`s, still in order.
#[tokio::test]
async fn t10_without_streams_messages_are_posted() {
    let (one, two) = (Member::start(0xa).await, Member::start(0xb).await);
    // `two` does not know `one`, so it opens no streams to it.
    one.add(&two);
    for number in 0..2000 {
        one.send(two.id, Lane::Append, numbered(Lane::Append, number)).await;
    }
    one.until_up(two.id).await;
    two.recorder.until("all messages", |seen| seen.messages.len() == 2000).await;
    let came = numbers(&two.recorder.seen.borrow(), one.id, Lane::Append);
    assert!(came.into_iter().eq(0..2000));
}

/// The way changes from `POST` to streams under load, and order holds.
#[tokio::test]
async fn order_holds_when_streams_take_over() {
    let (one, two) = (Member::start(0xa).await, Member::start(0xb).await);
    one.add(&two);
    for number in 0..20_000 {
        one.send(two.id, Lane::Control, numbered(Lane::Control, number)).await;
        if number == 500 {
            two.add(&one);
        }
    }
    two.recorder.until("all messages", |seen| seen.messages.len() == 20_000).await;
    let came = numbers(&two.recorder.seen.borrow(), one.id, Lane::Control);
    assert!(came.into_iter().eq(0..20_000));
}

/// T17: somebody unknown is refused, but can be answered from then on.
#[tokio::test]
async fn t17_an_unknown_sender_becomes_a_remote() {
    let (one, two) = (Member::start(0xa).await, Member::start(0xb).await);
    one.add(&two);
    let urls = vec![one.url.clone()];
    two.recorder.until("the unknown sender", |seen| seen.unknown == [(one.id, urls.clone())]).await;
    assert!(two.transport.peers()[0].is_remote);
    two.transport.send(one.id, Lane::Control, Bytes::from_static(b"here is a snapshot")).unwrap();
    one.recorder.until("the answer", |seen| seen.messages.len() == 1).await;
    // As a member it gets streams; nothing is added twice.
    two.add(&one);
    two.add(&one);
    two.transport.add_remote(one.id, &urls).unwrap();
    one.until_up(two.id).await;
    two.until_up(one.id).await;
    assert_eq!(two.transport.peers().len(), 1);
    assert!(!two.transport.peers()[0].is_remote);
}

/// T29: the first URL is dead, traffic moves to the second.
#[tokio::test]
async fn t29_a_dead_url_is_left_for_the_next() {
    let (one, two) = (Member::start(0xa).await, Member::start(0xb).await);
    let dead = {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        format!("http://{}", listener.local_addr().unwrap())
    };
    for (from, to) in [(&one, &two), (&two, &one)] {
        from.transport.add_peer(to.id, &[dead.clone(), to.url.clone()]).unwrap();
    }
    one.until_up(two.id).await;
    two.until_up(one.id).await;
    exchange(&[one, two], 100).await;
}

/// T32: a new URL works without a restart, and a removed peer is gone.
#[tokio::test]
async fn t32_peers_are_updated_and_removed() {
    let (one, two) = (Member::start(0xa).await, Member::start(0xb).await);
    one.add(&two);
    two.add_at(&one, "http://127.0.0.1:1");
    two.transport.update_peer(one.id, std::slice::from_ref(&one.url)).unwrap();
    two.transport.update_peer(MemberId(99), std::slice::from_ref(&one.url)).unwrap();
    assert!(two.transport.update_peer(one.id, &[]).is_err());
    one.until_up(two.id).await;
    assert!(one.transport.active_since(two.id).is_some());
    one.transport.remove_peer(two.id);
    one.transport.remove_peer(two.id);
    one.recorder.until("the link goes down", |seen| !seen.is_up(two.id)).await;
    assert_eq!(one.transport.active_since(two.id), None);
    let gone = one.transport.send(two.id, Lane::Append, Bytes::new());
    assert_eq!(gone, Err(SendError::Unknown));
    // It comes back, as when a log is replayed (T34).
    one.add(&two);
    one.recorder
        .until("the link comes up again", |seen| {
            seen.links == [(two.id, true), (two.id, false), (two.id, true)]
        })
        .await;
}

/// T36, T18: after a stop there is nothing.
#[tokio::test]
async fn t36_stop_ends_everything_while_messages_flow() {
    let mut members = connected(&[0xa, 0xb]).await;
    let (two, one) = (members.pop().unwrap(), members.pop().unwrap());
    let sender = one.transport.clone();
    let (to, url) = (two.id, two.url.clone());
    let flow = tokio::spawn(async move {
        while sender.send(to, Lane::Append, numbered(Lane::Append, 0)) != Err(SendError::Unknown) {
            tokio::task::yield_now().await;
        }
        sender
    });
    two.recorder.until("messages flow", |seen| seen.messages.len() > 1000).await;
    let port = one.port;
    one.stop().await;
    let stopped = flow.await.unwrap();
    assert_eq!(stopped.add_peer(to, std::slice::from_ref(&url)), Err(AddError::Stopped));
    assert_eq!(stopped.add_remote(to, std::slice::from_ref(&url)), Err(AddError::Stopped));
    two.recorder.until("the link is down", |seen| !seen.is_up(MemberId(0xa))).await;
    // The same member again, on the same port: the link heals.
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await.unwrap();
    let again = Member::start_on(0xa, listener, port, |_| {}).await;
    again.add(&two);
    two.until_up(again.id).await;
    again.until_up(two.id).await;
}

/// Heartbeats keep an idle link, and probes measure it (T27, T31).
#[tokio::test]
async fn t27_an_idle_link_stays_up() {
    let quick = |config: &mut etcdrs_rafthttp_transport::Config| {
        config.read_timeout = std::time::Duration::from_millis(600);
    };
    let one = Member::start_with(0xa, quick).await;
    let two = Member::start_with(0xb, quick).await;
    let mut proxy = raw::Proxy::start(one.port).await;
    one.add(&two);
    two.add_at(&one, &proxy.url);
    one.until_up(two.id).await;
    two.until_up(one.id).await;
    let before = *proxy.reads.borrow();
    // Two streams, three heartbeats each in a read time-out: several time-outs pass here.
    proxy.reads.wait_for(|reads| *reads > before + 24).await.unwrap();
    assert_eq!(one.recorder.seen.borrow().links, [(two.id, true)]);
    assert!(one.recorder.seen.borrow().messages.is_empty());
    one.recorder.until("a probe", |seen| seen.probed > 0).await;
    let status = &one.transport.peers()[0];
    assert!(status.rtt.is_some() && status.clock_drift_ms.is_some());
}
