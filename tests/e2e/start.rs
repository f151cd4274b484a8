//! What a start says, checks and listens on (storage-and-raft.md §6.1).

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use etcdrs_tests::http;
use etcdrs_tests::request::range;
use etcdrs_tests::server::{Server, Setup, free_port};
use etcdrs_tests::target::{self, Flavour, Target};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::{mpsc, oneshot};

use crate::bad_start::refused;

/// Long enough for anything on two busy cores.
const LIMIT: Duration = Duration::from_secs(30);
/// Long enough to see that nothing happens.
const QUIET: Duration = Duration::from_millis(500);

/// The server under test behind a line of shell that ends by executing what follows it.
fn behind(folder: &Path, shell: &str) -> Target {
    let target = target::under_test();
    let binary = folder.join("server.sh");
    let script = format!("#!/bin/sh\n{shell} '{}' \"$@\"\n", target.binary.display());
    fs::write(&binary, script).unwrap();
    fs::set_permissions(&binary, fs::Permissions::from_mode(0o755)).unwrap();
    // A process that another test starts right now may have the file open for writing still.
    while Command::new(&binary).arg("--version").output().is_err() {}
    Target { binary, ..target }
}

/// The one line of a log with this message.
fn line(s: &Server, message: &str) -> Value {
    let text = s.log().text();
    let json = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut found: Vec<Value> = json.filter(|line| line["msg"] == message).collect();
    assert_eq!(found.len(), 1, "lines {message:?} in:\n{text}");
    found.remove(0)
}

/// U02, U16, U22: the steps of a start come once each and in order; the log has the settings.
#[tokio::test]
async fn u_02_u_22_a_start_tells_its_steps_and_settings() {
    let s = Setup::new().flag("force-new-cluster", true).flag("snapshot-count", 777).start().await;
    let text = s.log().text();
    let steps = [
        "configuring peer listeners",
        "configuring client listeners",
        "starting an etcd server",
        "ready to serve client requests",
    ];
    let places = steps.map(|step| {
        line(&s, step);
        text.find(step).unwrap()
    });
    assert!(places.is_sorted(), "{places:?} in:\n{text}");

    let told = line(&s, "starting an etcd server");
    let url = |port| format!("http://127.0.0.1:{port}");
    let (client, peer) = (url(s.client_port()), url(s.peer_port()));
    let data = s.data_dir().to_str().unwrap();
    let expected = [
        ("name", Value::from("default")),
        ("data-dir", data.into()),
        ("member-dir", format!("{data}/member").into()),
        ("heartbeat-interval", "100ms".into()),
        ("election-timeout", "1s".into()),
        ("snapshot-count", 777.into()),
        ("initial-cluster", format!("default={peer}").into()),
        ("force-new-cluster", true.into()),
    ];
    for (key, value) in expected {
        assert_eq!(told[key], value, "{key} in {told}");
    }
    for (key, url) in [
        ("listen-client-urls", &client),
        ("advertise-client-urls", &client),
        ("listen-peer-urls", &peer),
        ("initial-advertise-peer-urls", &peer),
    ] {
        assert!(told[key].to_string().contains(url), "{key} in {told}");
    }
}

async fn version_of(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> String {
    let request = b"GET /version HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    stream.write_all(request).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

/// U03, U05, U53: every URL is listened on: ports of IPv4, of IPv6, of all addresses, and sockets.
#[tokio::test]
async fn u_03_u_05_every_url_is_listened_on() {
    let folder = tempfile::tempdir().unwrap();
    // The form that every etcd takes: the host is the name of a file in the working directory.
    let target = behind(folder.path(), &format!("cd {} && exec", folder.path().display()));
    let socket = folder.path().join("localhost:1");
    let [near, all, six, peer, other] = std::array::from_fn(|_| free_port());
    let clients = format!(
        "http://127.0.0.1:{near},http://0.0.0.0:{all},http://[::1]:{six},unix://localhost:1"
    );
    let peers = format!("http://127.0.0.1:{peer},http://127.0.0.1:{other}");
    let s = Setup::of(target)
        .ports(near, peer)
        .flag("listen-client-urls", clients)
        .flag("listen-peer-urls", peers)
        .start()
        .await;
    for port in [near, all, peer, other] {
        let answer = http::get(port, "/version").await.unwrap();
        assert!(answer.status == 200 && answer.body.contains("etcdserver"), "{port}: {answer:?}");
    }
    let answers = [
        version_of(TcpStream::connect(("::1", six)).await.unwrap()).await,
        version_of(UnixStream::connect(&socket).await.unwrap()).await,
    ];
    for answer in answers {
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    let log = s.log().text();
    for port in [near, all, six] {
        let address = format!(":{port}");
        let serving = |line: &&str| line.contains("serving client traffic insecurely");
        let lines = log.lines().filter(serving).filter(|line| line.contains(&address));
        assert_eq!(lines.count(), 1, "port {port} in:\n{log}");
    }
}

/// U07: with no descriptor left for a client there is no start; with one there is.
#[tokio::test]
async fn u_07_the_limit_of_file_descriptors_is_checked() {
    let folder = tempfile::tempdir().unwrap();
    let log = refused(Setup::of(behind(folder.path(), "ulimit -n 150; exec"))).await;
    let text = "file descriptor limit of etcd process is too low; please set higher";
    assert!(log.lines().any(|line| line.contains(text) && line.contains("150")), "{log}");
    let s = Setup::of(behind(folder.path(), "ulimit -n 151; exec")).spawn().unwrap();
    assert!(s.log().wait_for(&["ready to serve client requests"], LIMIT).await);
    // etcd's gateway is a client too, and takes the only place.
    if s.flavour() == Flavour::Current {
        for _ in 0..3 {
            assert_eq!(http::get(s.client_port(), "/version").await.unwrap().status, 200);
        }
    }
}

/// U08: whoever comes when all places are taken waits, and is served when one is free.
#[tokio::test]
async fn u_08_connections_beyond_the_limit_wait() {
    const CLIENTS: usize = 20;
    let folder = tempfile::tempdir().unwrap();
    let mut s = Setup::of(behind(folder.path(), "ulimit -n 160; exec")).spawn().unwrap();
    s.wait_ready().await.unwrap();
    let places = match s.flavour() {
        Flavour::Current => 10,
        // Its gateway has one of them.
        Flavour::Etcd35 => 9,
    };
    let (answered, mut answers) = mpsc::unbounded_channel();
    for _ in 0..CLIENTS {
        let mut stream = TcpStream::connect(("127.0.0.1", s.client_port())).await.unwrap();
        let answered = answered.clone();
        tokio::spawn(async move {
            stream.write_all(b"GET /version HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
            let mut first = [0];
            stream.read_exact(&mut first).await.unwrap();
            let (leave, left) = oneshot::channel::<()>();
            answered.send(leave).unwrap();
            // It stays until it is told to leave, or the test ends.
            let _ = left.await;
        });
    }
    let mut inside = Vec::new();
    while inside.len() < places {
        inside.push(tokio::time::timeout(LIMIT, answers.recv()).await.unwrap().unwrap());
    }
    let busy = cpu_ticks(&s);
    assert!(tokio::time::timeout(QUIET, answers.recv()).await.is_err(), "more than {places}");
    // A hundredth of a second each: waiting is no work.
    assert!(cpu_ticks(&s) - busy < 35, "{} ticks of 50", cpu_ticks(&s) - busy);
    for _ in places..CLIENTS {
        drop(inside.pop());
        inside.push(tokio::time::timeout(LIMIT, answers.recv()).await.unwrap().unwrap());
    }
    assert!(!s.log().text().contains("could not accept"), "{}", s.log().text());
}

/// Processor time of the server so far, hundredths of a second.
fn cpu_ticks(s: &Server) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{}/stat", s.pid().unwrap())).unwrap();
    let (_, fields) = stat.rsplit_once(')').unwrap();
    let fields: Vec<&str> = fields.split_ascii_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

/// U09: the kernel asks after whoever is connected, within 30 seconds.
#[tokio::test]
async fn u_09_whoever_is_connected_is_asked_after() {
    let s = Server::start().await;
    for port in [s.client_port(), s.peer_port()] {
        let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let own = stream.local_addr().unwrap().port();
        let (near, far) = (format!("0100007F:{port:04X}"), format!("0100007F:{own:04X}"));
        let look = || async {
            let table = fs::read_to_string("/proc/net/tcp").unwrap();
            let mut rows = table.lines().map(|row| row.split_ascii_whitespace());
            let row = rows.find(|row| {
                let mut ends = row.clone().skip(1);
                ends.next() == Some(&near) && ends.next() == Some(&far)
            });
            // The timer that runs, and when it fires, in hundredths of a second.
            let (timer, fires) = row?.nth(5)?.split_once(':')?;
            (timer == "02").then(|| u64::from_str_radix(fires, 16).unwrap())
        };
        let fires = etcdrs_tests::cluster::eventually("a keep-alive timer", look).await;
        assert!((1..=3000).contains(&fires), "port {port}: in {fires}/100 s");
    }
}

/// U12: a name that ends in `.wal` makes a member that was there before; a spare file does not.
#[tokio::test]
async fn u_12_a_log_decides() {
    let folder = tempfile::tempdir().unwrap();
    let wal = |name: &str| {
        let data = folder.path().join(name);
        fs::create_dir_all(data.join("member/wal")).unwrap();
        data
    };
    let spare = wal("spare");
    fs::write(spare.join("member/wal/0.tmp"), [0; 4096]).unwrap();
    let s = Setup::new().data_dir(&spare).start().await;
    s.clients().await.put("a", "1").await;
    drop(s);

    let old = wal("old");
    fs::write(old.join("member/wal/0000000000000000-0000000000000000.wal"), "").unwrap();
    if target::under_test().flavour == Flavour::Etcd35 {
        return; // It takes the folder for an old member's too, and panics.
    }
    let log = refused(Setup::new().data_dir(&old)).await;
    assert!(!log.contains("ready to serve client requests"), "{log}");
    assert!(log.contains("server has already been initialized"), "{log}");
}

/// U17, U20, U23: ids, term, index and data are those of before, and the log says how far they go.
#[tokio::test]
async fn u_17_u_20_a_restart_goes_on_where_it_was() {
    let mut s = Setup::new().flag("snapshot-count", 20).start().await;
    let mut c = s.clients().await;
    for at in 0..70 {
        c.put(format!("k{at:02}"), "v").await;
    }
    let keys = c.range(range("k", "l")).await.kvs;
    let mut before = c.status().await;
    for orderly in [true, false] {
        if orderly {
            s.terminate().await;
        } else {
            s.kill();
        }
        s.restart().await;
        let mut c = s.clients().await;
        let after = c.status().await;
        let ids = |status: &etcdrs_tests::pb::StatusResponse| {
            let header = status.header.as_ref().unwrap();
            (header.cluster_id, header.member_id, header.revision)
        };
        assert_eq!(ids(&after), ids(&before));
        assert!(after.raft_index >= before.raft_index, "{before:?} {after:?}");
        assert!(after.raft_term > before.raft_term, "{before:?} {after:?}");
        assert_eq!(c.range(range("k", "l")).await.kvs, keys);
        if s.flavour() == Flavour::Current {
            let told = line(&s, "kvstore restored");
            let (revision, applied) = (&told["current-rev"], &told["applied-index"]);
            assert!(revision.as_i64().is_some_and(|at| (1..=71).contains(&at)), "{told}");
            assert!(applied.as_u64().is_some_and(|at| at <= before.raft_index), "{told}");
            assert!(applied.as_u64().is_some_and(|at| at >= 20), "no snapshot: {told}");
        } else {
            assert!(s.log().text().contains("recovered v3 backend from snapshot"));
        }
        before = after;
    }
}

/// What lies below a folder: lengths and times of change.
fn files_of(folder: &Path) -> BTreeMap<PathBuf, (u64, SystemTime)> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let meta = entry.metadata().unwrap();
        if meta.is_dir() {
            found.extend(files_of(&entry.path()));
        }
        found.insert(entry.path(), (meta.len(), meta.modified().unwrap()));
    }
    found
}

/// U18: a member whose directories cannot be written says which one, before it changes anything.
/// Root may write everywhere, so they are mounted read-only, for the server alone.
#[tokio::test]
async fn u_18_directories_that_cannot_be_written_are_named() {
    if !Command::new("unshare").args(["-m", "true"]).status().is_ok_and(|end| end.success()) {
        println!("no namespaces here: nothing is shown");
        return;
    }
    let mut s = Server::start().await;
    s.clients().await.put("a", "1").await;
    s.terminate().await;
    let old = s.flavour() == Flavour::Etcd35;
    let before = files_of(&s.data_dir().join("member"));
    let folder = tempfile::tempdir().unwrap();
    for (dir, text) in [
        ("member", "cannot write to member directory"),
        ("member/wal", "cannot write to WAL directory"),
    ] {
        let dir = s.data_dir().join(dir).display().to_string();
        let mount = format!("mount --bind {dir} {dir} && mount -o remount,ro,bind {dir}");
        let shell = format!("exec unshare -m sh -c '{mount} && exec \"$0\" \"$@\"'");
        let ports = (s.client_port(), s.peer_port());
        let setup = Setup::of(behind(folder.path(), &shell)).data_dir(s.data_dir());
        let log = refused(setup.ports(ports.0, ports.1)).await;
        // 3.5.1 looks at the folder of snapshots first, and then opens its database.
        let said = log.contains(text) || old && log.contains("failed to create snapshot directory");
        assert!(said && log.contains(&dir), "{text}, {dir} in:\n{log}");
        assert!(old || files_of(&s.data_dir().join("member")) == before, "{dir} changed");
    }
    s.restart().await;
    assert_eq!(s.clients().await.get("a").await.unwrap().value, "1");
}
