//! Every command against a real etcd 3.5.1: the HTTP/2 client has to get along with a server it was
//! not written together with.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking, as tests do")]

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use clap::Parser as _;
use etcdrs_benchmark::cli::{Cli, measure};
use etcdrs_benchmark::report::Report;

struct Etcd {
    child: Child,
    endpoint: String,
    _data: tempfile::TempDir,
}

impl Etcd {
    fn start() -> Self {
        let default = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.testenv/bin/etcd");
        let program = std::env::var_os("ETCD_BIN").map_or(default, PathBuf::from);
        assert!(program.is_file(), "no etcd at {program:?}; run ./xtask/setup.sh --tests");
        let port = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let (endpoint, peer) =
            (format!("127.0.0.1:{}", port()), format!("http://127.0.0.1:{}", port()));
        let client = format!("http://{endpoint}");
        let data = tempfile::tempdir().unwrap();
        let child = Command::new(program)
            .arg("--data-dir")
            .arg(data.path().join("data"))
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &format!("default={peer}"), "--log-level", "error"])
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let etcd = Self { child, endpoint, _data: data };
        etcd.run("wait");
        etcd
    }

    fn run(&self, command: &str) -> Report {
        let pid = self.child.id().to_string();
        let words = ["benchmark-rs"].into_iter().chain(command.split_whitespace());
        let words = words.chain(["--json", "--endpoints", &self.endpoint, "--server-pid", &pid]);
        let report = measure(Cli::parse_from(words)).unwrap_or_else(|e| panic!("{command}: {e:#}"));
        assert_eq!(report.errors(), 0, "{command}: {}", report.text(false));
        report
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

fn count(report: &Report, class: &str) -> u64 {
    report.classes.iter().find(|c| c.name == class).map_or(0, |c| c.count)
}

#[test]
fn every_command_runs_against_a_real_etcd() {
    let etcd = Etcd::start();
    for (command, operations) in [
        ("put --conns 2 --clients 8 --threads 2 --total 300 --key-space-size 10", 300),
        // Larger than the windows a connection starts with.
        ("put --total 5 --val-size 1000000", 5),
        ("range - --total 50", 50),
        ("range --key-space-size 10 --clients 4 --total 50 --consistency s", 50),
        ("txn-put --total 20 --key-space-size 100 --txn-ops 10", 20),
        ("txn-mixed a --total 20 --key-space-size 10", 20),
        ("update --clients 4 --total 50 --key-space-size 100", 50),
        ("fill --keys 2000 --per-group 100 --clients 4", 20),
        ("list --groups 20 --clients 4 --total 50", 50),
        ("list --limit 300 --pages --clients 2 --total 21", 21),
        ("list --count-only --total 10", 10),
        ("lease-grant --clients 4 --total 50", 50),
        ("lease-keepalive --clients 4 --conns 2 --total 50", 50),
        ("lease-keepalive --clients 4 --conns 2 --total 50 --new-streams", 50),
    ] {
        let report = etcd.run(command);
        assert_eq!(report.units, operations, "{command}");
        assert!(report.server.is_some_and(|s| s.rss > 0), "{command}");
    }
}

#[test]
fn watchers_receive_every_event() {
    let etcd = Etcd::start();
    let report =
        etcd.run("watch --conns 2 --streams 3 --watch-per-stream 4 --put-total 50 --clients 4");
    assert_eq!(count(&report, "Watch creation"), 12);
    assert_eq!((count(&report, "Put"), count(&report, "Watch events received")), (50, 600));
    assert_eq!(report.units, 600);
    let latency = etcd.run("watch-latency --streams 2 --put-total 20 --put-rate 1000 --prevkv");
    assert_eq!(count(&latency, "Watch events received"), 400);
}

#[test]
fn stalls_are_measured() {
    let etcd = Etcd::start();
    etcd.run("fill --keys 1000");
    for operation in ["list", "compact", "defragment", "snapshot"] {
        let report = etcd.run(&format!("stall --operation {operation}"));
        assert!(report.extra["worst probe ms"] > 0.0, "{operation}");
    }
}
