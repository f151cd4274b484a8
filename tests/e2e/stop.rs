//! What clients see of a server that stops.

use std::time::Duration;

use etcdrs_tests::server::Server;
use etcdrs_tests::watch;
use tonic::{Code, Status};

/// A connection that just ends is Unavailable to the official clients; tonic calls it Unknown.
fn is_unavailable(end: &Status) -> bool {
    let cut = ["h2 protocol error", "transport error"];
    end.code() == Code::Unavailable
        || end.code() == Code::Unknown && cut.iter().any(|text| end.message().starts_with(text))
}

/// CL-12: official clients open a watch again after Unavailable or Internal only.
#[tokio::test]
async fn watch_streams_end_as_unavailable_and_do_not_hold_the_stop_up() {
    let mut s = Server::start().await;
    let mut c = s.clients().await;
    c.put("a", "1").await;
    let mut sessions: Vec<_> = (0..3).map(|_| c.watch()).collect();
    for session in &mut sessions {
        session.create(watch::on("a")).await;
    }
    let stop = tokio::time::timeout(Duration::from_secs(10), s.terminate());
    stop.await.expect("open watches do not keep the server from ending");
    for session in &mut sessions {
        let end = session.try_next().await.unwrap_err();
        assert!(is_unavailable(&end), "{end:?}");
    }
    assert!(is_unavailable(&c.try_put(etcdrs_tests::request::put("b", "1")).await.unwrap_err()));
}
