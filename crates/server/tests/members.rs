//! The list of members is held against raft's membership at start (issue 3, Build 3).
#![allow(clippy::unwrap_used, reason = "a failed step of a test is best shown where it happens")]

use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};

use etcdrs_backend::{Backend, Batch, Options};
use etcdrs_membership::{Cluster, MemberRecord};
use etcdrs_platform::OsFs;
use etcdrs_raft_glue::live_database;
use etcdrs_snap::DbDirs;
use etcdrs_types::MemberId;

/// A member of one in a directory of its own.
struct Member {
    dir: tempfile::TempDir,
    client: String,
    peer: String,
}

/// Does not outlive a test that fails.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn url() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

impl Member {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), client: url(), peer: url() }
    }

    /// Starts it and stops it as soon as it serves: its output, and whether it did.
    fn run(&self) -> (String, bool) {
        let mut server = Running(
            Command::new(env!("CARGO_BIN_EXE_etcd-rs"))
                .arg("--data-dir")
                .arg(self.dir.path())
                .args(["--listen-client-urls", &self.client])
                .args(["--advertise-client-urls", &self.client])
                .args(["--listen-peer-urls", &self.peer])
                .args(["--initial-advertise-peer-urls", &self.peer])
                .stderr(Stdio::piped())
                .spawn()
                .unwrap(),
        );
        let (mut text, mut served) = (String::new(), false);
        // The output ends with the process.
        for line in BufReader::new(server.0.stderr.take().unwrap()).lines() {
            let line = line.unwrap();
            if !served && line.contains("ready to serve client requests") {
                served = true;
                let mut kill = Command::new("kill");
                assert!(kill.arg(server.0.id().to_string()).status().unwrap().success());
            }
            text = text + &line + "\n";
        }
        let end = server.0.wait().unwrap();
        assert!(served || end.code() == Some(1), "{end:?}\n{text}");
        (text, served)
    }

    /// Changes the rows while it does not run.
    fn edit(&self, edit: impl FnOnce(&mut Cluster, &mut Batch)) {
        let member = self.dir.path().join("member");
        let databases = DbDirs::new(OsFs, &member.join("snap"));
        let live = live_database(&OsFs, &member.join("wal"), &databases).unwrap();
        let backend = Backend::open(&live, &Options::default()).unwrap();
        let mut cluster = Cluster::open(&backend).unwrap();
        let mut batch = backend.batch();
        edit(&mut cluster, &mut batch);
        backend.write(batch).unwrap();
        backend.flush().unwrap();
    }

    #[track_caller]
    fn is_refused(&self, difference: &str) {
        let (text, served) = self.run();
        assert!(!served, "it started:\n{text}");
        let told = "the member list and raft's membership differ: ";
        assert!(text.contains(&format!("{told}{difference}")), "{text}");
        assert!(text.contains("etcdctl member remove"), "no way to mend it:\n{text}");
    }
}

#[test]
fn a_member_list_that_differs_from_raft_is_found_at_start() {
    let member = Member::new();
    for _ in 0..2 {
        let (text, served) = member.run();
        assert!(served, "{text}");
    }
    let stranger = MemberId(0xabc);
    let record = MemberRecord { id: stranger, ..MemberRecord::default() };
    member.edit(|cluster, batch| cluster.insert(batch, record));
    member.is_refused("member abc is in the member list only. ");

    // Nothing was changed by that: without the difference the member starts.
    member.edit(|cluster, batch| cluster.remove(batch, stranger));
    let (text, served) = member.run();
    assert!(served, "{text}");

    let mut own = MemberId(0);
    member.edit(|cluster, batch| {
        own = cluster.member_ids()[0];
        cluster.remove(batch, own);
    });
    member.is_refused(&format!("member {own} was removed but is in raft. "));
}
