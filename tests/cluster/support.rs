//! What every group of tests uses.

use std::process::Command;

pub(crate) use std::time::Duration;

pub(crate) use etcdrs_tests::client::{Clients, limited};
pub(crate) use etcdrs_tests::cluster::{Cluster, Shape, add_request, eventually};
pub(crate) use etcdrs_tests::errors::{self, expect_error};
pub(crate) use etcdrs_tests::mvccpb::event::EventType;
pub(crate) use etcdrs_tests::pb;
pub(crate) use etcdrs_tests::request::*;
pub(crate) use etcdrs_tests::target::{self, Flavour};
pub(crate) use etcdrs_tests::watch as watching;
pub(crate) use tonic::{Code, Status};

/// For what no rule gives a time: long enough for two busy cores.
pub(crate) const LIMIT: Duration = Duration::from_secs(40);

/// Runs etcdctl to its end: standard output, or what went wrong.
pub(crate) async fn etcdctl(endpoints: &str, args: &str) -> Result<String, String> {
    let mut command = Command::new(target::etcdctl());
    command.env("ETCDCTL_API", "3").arg(format!("--endpoints={endpoints}"));
    command.args(args.split_whitespace());
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    if output.status.success() {
        Ok(text)
    } else {
        Err(text + &String::from_utf8_lossy(&output.stderr))
    }
}

/// Puts keys `{prefix}0` to `{prefix}{count}` through a connection, several at a time.
pub(crate) async fn fill(clients: &Clients, prefix: &'static str, count: usize) {
    const WRITERS: usize = 16;
    let writers = (0..WRITERS).map(|writer| {
        let mut clients = clients.clone();
        async move {
            for at in (writer..count).step_by(WRITERS) {
                clients.put(format!("{prefix}{at}"), "v").await;
            }
        }
    });
    futures_util::future::join_all(writers).await;
}

/// True for what a client has to expect while the leader changes or a connection breaks.
pub(crate) fn is_passing(status: &Status) -> bool {
    let cut = ["h2 protocol error", "transport error"];
    status.code() == Code::Unavailable
        || status.code() == Code::DeadlineExceeded
        // etcd 3.5.1 while the lead moves.
        || status.message() == "raft proposal dropped"
        || status.code() == Code::Unknown
            && cut.iter().any(|text| status.message().starts_with(text))
}
