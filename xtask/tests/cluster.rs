//! `cargo xtask cluster` as people use it: start, talk, cut a cable, Ctrl-C.
//!
//! The programs are those that lie beside xtask's own (`cargo build --workspace --bins` first, as
//! `cargo xtask ci` does); without them a test says so and stands aside. The network test also needs
//! root and ip.
#![allow(clippy::unwrap_used, reason = "a failed step of a test is best shown where it happens")]

use std::io::{BufRead as _, BufReader, Lines, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Output, Stdio};

const XTASK: &str = env!("CARGO_BIN_EXE_xtask");

fn program(name: &str) -> Option<PathBuf> {
    let path = Path::new(XTASK).with_file_name(name);
    let there = path.is_file();
    if !there {
        eprintln!("{} is not built: nothing to test", path.display());
    }
    there.then_some(path)
}

/// A folder of this test alone, gone with it.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let folder = format!("etcd-rs-xtask-{name}-{}", std::process::id());
        Self(std::env::temp_dir().join(folder))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A running `xtask cluster`.
struct Cluster {
    child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
    /// Everything it said so far.
    said: Vec<String>,
}

impl Cluster {
    fn start(server: &Path, folder: &Folder, options: &[&str]) -> Self {
        let mut child = Command::new(XTASK)
            .args(["cluster", "--bin"])
            .arg(server)
            .arg("--dir")
            .arg(&folder.0)
            .args(options)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let input = child.stdin.take().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, input, output, said: Vec::new() }
    }

    /// Reads up to the line with `text`; gives that line.
    fn until(&mut self, text: &str) -> String {
        for line in self.output.by_ref() {
            let line = line.unwrap();
            self.said.push(line.clone());
            if line.contains(text) {
                return line;
            }
        }
        panic!("never said {text:?}, but: {:#?}", self.said);
    }

    /// Waits until all serve; gives the words before `etcdctl`'s and the endpoints.
    fn ready(&mut self) -> (Vec<String>, Vec<String>) {
        self.until("all 3 members are ready");
        let hint = self.until("--endpoints=");
        let (before, after) = hint.split_once("etcdctl --endpoints=").unwrap();
        let endpoints = after.split(' ').next().unwrap().split(',');
        let before = before.split_whitespace().map(String::from).collect();
        (before, endpoints.map(String::from).collect())
    }

    fn order(&mut self, line: &str) {
        writeln!(self.input, "{line}").unwrap();
        self.until("done");
    }

    fn pids(&self) -> Vec<String> {
        let words = self.said.iter().filter_map(|l| l.split_once("  pid ")).map(|(_, rest)| rest);
        words.map(|rest| rest.split(' ').next().unwrap().to_string()).collect()
    }

    /// Ends it as Ctrl-C does; nothing may be left.
    fn interrupt(mut self) {
        let pids = self.pids();
        assert_eq!(pids.len(), 3, "{:#?}", self.said);
        let kill = ["-INT".to_string(), self.child.id().to_string()];
        assert!(Command::new("kill").args(kill).status().unwrap().success());
        assert!(self.child.wait().unwrap().success());
        let left: Vec<_> = pids.iter().filter(|p| Path::new("/proc").join(p).exists()).collect();
        assert!(left.is_empty(), "still running: {left:?}");
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // It tears its members down, which a kill would leave behind.
            let _ = Command::new("kill").arg(self.child.id().to_string()).status();
            let _ = self.child.wait();
        }
    }
}

fn run(words: &[String]) -> Output {
    Command::new(&words[0]).args(&words[1..]).output().unwrap()
}

/// etcdctl, behind the words that bring it to where the members can be reached.
struct Ctl<'a> {
    before: &'a [String],
    program: &'a Path,
}

impl Ctl<'_> {
    fn call(&self, endpoints: &[String], arguments: &[&str]) -> Output {
        let mut words = self.before.to_vec();
        words.push(self.program.to_string_lossy().into_owned());
        words.push(format!("--endpoints={}", endpoints.join(",")));
        words.extend(arguments.iter().map(|a| a.to_string()));
        run(&words)
    }

    /// The same for a write during an election: one that was on its way to a leader that is gone
    /// times out, and it is the client's business to write again.
    fn eventually(&self, endpoints: &[String], arguments: &[&str]) {
        let done = (0..10).any(|_| self.call(endpoints, arguments).status.success());
        assert!(done, "{arguments:?}: ten attempts failed");
    }

    fn must(&self, endpoints: &[String], arguments: &[&str]) -> String {
        let output = self.call(endpoints, arguments);
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }
}

/// A client port such that those of three members, and their peer ports, are free.
fn free_base() -> u16 {
    let free = |base: &u16| {
        let ports = [0, 1, 10_000, 10_001, 20_000, 20_001].map(|step| base + step);
        ports.iter().all(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
    };
    let first = 11_000 + (std::process::id() % 500) as u16 * 4;
    (first..12_999).step_by(4).find(free).unwrap()
}

#[test]
fn three_members_start_and_leave_nothing_behind() {
    let (Some(server), Some(ctl)) = (program("etcd-rs"), program("etcdctl-rs")) else { return };
    let folder = Folder::new("plain");
    let base = free_base().to_string();
    let mut cluster = Cluster::start(&server, &folder, &["--base-port", &base]);
    let (before, endpoints) = cluster.ready();
    let ctl = Ctl { before: &before, program: &ctl };
    let members = ctl.must(&endpoints[..1], &["member", "list"]);
    for n in 0..3 {
        assert!(members.contains(&format!("etcd-node-{n}")), "{members}");
    }
    ctl.must(&endpoints[..1], &["put", "here", "there"]);
    cluster.order("kill 2");
    ctl.eventually(&endpoints[..2], &["put", "here", "without the third"]);
    cluster.order("start 2");
    cluster.until("etcd-node-2 is ready");
    let value = ctl.must(&endpoints[2..], &["get", "--print-value-only", "here"]);
    assert_eq!(value, "without the third\n");
    // A member that came back is stopped too, though its process is not in the first lines.
    let pids: Vec<String> = (0..3)
        .map(|n| std::fs::read_to_string(folder.0.join(format!("etcd-node-{n}/pid"))).unwrap())
        .collect();
    cluster.interrupt();
    assert!(pids.iter().all(|p| !Path::new("/proc").join(p).exists()));
    assert!(!folder.0.exists(), "data without --keep is removed");
}

#[test]
fn a_port_in_use_is_refused_before_anything_starts() {
    let Some(server) = program("etcd-rs") else { return };
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let folder = Folder::new("taken");
    let output = Command::new(XTASK)
        .args(["cluster", "--members", "1", "--base-port", &port, "--bin"])
        .arg(server)
        .arg("--dir")
        .arg(&folder.0)
        .output()
        .unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success());
    assert!(told.contains(&format!("127.0.0.1:{port}")) && told.contains("etcd-node-0"), "{told}");
    assert!(!folder.0.exists());
}

fn may_make_namespaces() -> bool {
    let probe = format!("etcd-rs-probe-{}", std::process::id());
    let ip = |arguments: &[&str]| {
        let mut ip = Command::new("ip");
        ip.args(arguments).stderr(Stdio::null());
        ip.status().is_ok_and(|status| status.success())
    };
    let may = ip(&["netns", "add", &probe])
        && ip(&["-n", &probe, "link", "add", "br0", "type", "bridge"])
        && ip(&["-n", &probe, "link", "add", "port0", "type", "veth", "peer", "name", "port1"]);
    ip(&["netns", "del", &probe]);
    if !may {
        eprintln!("no root, no ip, or no veth: nothing to test");
    }
    may
}

/// The three-node layout, one cable pulled out and plugged in again, writes all the while.
#[test]
fn writes_go_on_while_a_node_is_cut_off_and_it_catches_up_when_healed() {
    let (Some(server), Some(ctl)) = (program("etcd-rs"), program("etcdctl-rs")) else { return };
    if !may_make_namespaces() {
        return;
    }
    let folder = Folder::new("netns");
    let mut cluster = Cluster::start(&server, &folder, &["--netns"]);
    let (before, endpoints) = cluster.ready();
    let namespace = before.last().unwrap().clone();
    let ctl = Ctl { before: &before, program: &ctl };
    ctl.must(&endpoints, &["put", "k", "whole"]);
    for cut in 0..3 {
        let others: Vec<String> = endpoints
            .iter()
            .enumerate()
            .filter(|(n, _)| *n != cut)
            .map(|(_, e)| e.clone())
            .collect();
        cluster.order(&format!("cut {cut}"));
        let alone = &endpoints[cut..=cut];
        let lost = ctl.call(alone, &["--dial-timeout=1s", "--command-timeout=1s", "get", "k"]);
        assert!(!lost.status.success(), "a cut member answers: {lost:?}");
        ctl.eventually(&others, &["put", "k", "after an election, if the leader was cut off"]);
        for n in 0..20 {
            let value = format!("cut {cut}, write {n}");
            ctl.must(&others, &["put", "k", &value]);
        }
        cluster.order(&format!("heal {cut}"));
        // Linearizable, so it has to have caught up.
        let got = ctl.must(alone, &["--dial-timeout=15s", "--command-timeout=15s", "get", "k"]);
        assert_eq!(got, format!("k\ncut {cut}, write 19\n"));
    }
    cluster.interrupt();
    let left = Command::new("ip").args(["netns", "list"]).output().unwrap();
    let left = String::from_utf8(left.stdout).unwrap();
    assert!(!left.contains(namespace.trim_end_matches("lan")), "{left}");
}
