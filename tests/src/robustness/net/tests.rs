//! The proxy alone: what passes, what does not, and for whom.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::Network;
use crate::robustness::member::Public;

/// A connection through the proxy: our end, the member's end, and what serves them.
struct Pair {
    network: Network,
    near: TcpStream,
    far: TcpStream,
    _serving: JoinSet<()>,
}

/// A network of `members`, with a connection from this process to member 0. With `as_member` this
/// process counts as that member.
async fn connect(members: usize, as_member: Option<usize>) -> Pair {
    let publics: Vec<Arc<Public>> = (0..members).map(|_| Arc::default()).collect();
    if let Some(member) = as_member {
        publics[member].pid.store(std::process::id(), std::sync::atomic::Ordering::SeqCst);
    }
    let network = Network::new(publics, 1, None);
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = proxy.local_addr().unwrap().port();
    let serving = network.serve(proxy, 0, server.local_addr().unwrap().port());
    let near = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let (far, _) = server.accept().await.unwrap();
    Pair { network, near, far, _serving: serving }
}

async fn send(from: &mut TcpStream, to: &mut TcpStream, bytes: &[u8]) -> Vec<u8> {
    from.write_all(bytes).await.unwrap();
    let mut got = vec![0; bytes.len()];
    to.read_exact(&mut got).await.unwrap();
    got
}

#[tokio::test]
async fn bytes_pass_both_ways_and_are_counted_by_direction() {
    let mut pair = connect(2, None).await;
    assert_eq!(send(&mut pair.near, &mut pair.far, b"there").await, b"there");
    assert_eq!(send(&mut pair.far, &mut pair.near, b"and back").await, b"and back");
    let clients = pair.network.clients();
    assert_eq!((pair.network.passed(clients, 0), pair.network.passed(0, clients)), (5, 8));
}

#[tokio::test]
async fn diallers_are_known_by_their_process() {
    let mut pair = connect(2, Some(1)).await;
    send(&mut pair.near, &mut pair.far, b"there").await;
    assert_eq!(pair.network.passed(1, 0), 5);
    assert_eq!(pair.network.passed(pair.network.clients(), 0), 0);
}

/// One direction is cut: the other goes on, and what waited comes after healing.
#[tokio::test]
async fn a_cut_has_a_direction() {
    let mut pair = connect(2, Some(1)).await;
    pair.network.change(1, 0, |path| path.cut = true);
    pair.near.write_all(b"held").await.unwrap();
    assert_eq!(send(&mut pair.far, &mut pair.near, b"back").await, b"back");
    assert_eq!(pair.network.passed(1, 0), 0);
    pair.network.heal();
    let mut got = [0; 4];
    pair.far.read_exact(&mut got).await.unwrap();
    assert_eq!(&got, b"held");
}

#[tokio::test]
async fn resets_are_seen_at_both_ends() {
    let mut pair = connect(2, Some(1)).await;
    send(&mut pair.near, &mut pair.far, b"there").await;
    pair.network.reset(0, 1);
    for stream in [&mut pair.near, &mut pair.far] {
        let ended = stream.read(&mut [0]).await;
        assert!(ended.is_err(), "{ended:?}");
    }
}

#[tokio::test]
async fn damage_changes_bytes_and_not_their_number() {
    let mut pair = connect(2, Some(1)).await;
    pair.network.change(1, 0, |path| path.damaged_one_in = 10);
    let sent = vec![7; 1000];
    let got = send(&mut pair.near, &mut pair.far, &sent).await;
    let changed = got.iter().filter(|byte| **byte != 7).count();
    assert!((20..400).contains(&changed), "{changed}");
}

#[tokio::test]
async fn slow_and_late_paths_lose_nothing() {
    let mut pair = connect(2, Some(1)).await;
    pair.network.change(1, 0, |path| {
        path.bytes_per_second = 100_000;
        path.delay = Duration::from_millis(2);
        path.jitter = Duration::from_millis(5);
    });
    let sent: Vec<u8> = (0..5000u32).map(|at| at as u8).collect();
    assert_eq!(send(&mut pair.near, &mut pair.far, &sent).await, sent);
}
