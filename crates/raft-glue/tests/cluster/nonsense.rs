//! Messages of the past, of strangers, and no messages at all.

use bytes::Bytes;
use etcdrs_types::MemberId;

use crate::common::block_on;
use crate::members::{Cluster, PATIENCE, within};

/// R02, R08: what was said in an earlier term, comes twice, out of order, from somebody unknown or
/// in pieces changes nothing, and nobody falls over.
#[test]
fn r_08_messages_of_the_past_and_of_strangers_change_nothing() {
    block_on(async {
        let cluster = Cluster::of(3).await;
        let first = cluster.settled().await;
        let next = cluster.other_than(&[first]);
        cluster.switch.record();
        for i in 0..30 {
            cluster.put(first, &format!("k{i}")).await;
            cluster.revision(next).await;
        }
        within(cluster.handle(first).transfer_leader(next, PATIENCE)).await.expect("handed over");
        assert_eq!(cluster.settled().await, next);
        assert_eq!(cluster.put(next, "last").await, 32);
        let tape = cluster.switch.take_tape();
        assert!(tape.len() > 100, "{} messages", tape.len());
        let term = cluster.handle(first).status().term;

        let stranger = MemberId(5);
        for sent in tape.iter().chain(tape.iter().rev()) {
            let half = sent.message.slice(..sent.message.len() / 2);
            cluster.switch.deliver(sent.from, sent.to, sent.message.clone());
            cluster.switch.deliver(stranger, sent.to, sent.message.clone());
            cluster.switch.deliver(sent.from, sent.to, half);
            tokio::task::yield_now().await;
        }
        for id in (1..=3).map(MemberId) {
            for garbage in [&b""[..], &[0], &[0xff; 40], b"GET / HTTP/1.1\r\n\r\n"] {
                cluster.switch.deliver(stranger, id, Bytes::from_static(garbage));
            }
        }

        for i in 0..30 {
            assert_eq!(cluster.put(first, &format!("after{i}")).await, 33 + i);
        }
        assert_eq!(cluster.equal().await, 62);
        for member in cluster.members.values() {
            let status = member.handle.status();
            assert_eq!((status.leader, status.term), (Some(next), term));
        }
        cluster.end().await;
    });
}
