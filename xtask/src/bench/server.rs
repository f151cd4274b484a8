//! A server under test: one member or several, each a process with a data folder and two ports of
//! its own, and the load generator to drive them.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde_json::Value;

use crate::stopwatch::Stopwatch;

/// One server and how to start it again.
pub(crate) struct Server {
    /// Name for tables and logs.
    pub(crate) name: &'static str,
    program: PathBuf,
    flags: Vec<String>,
    folder: PathBuf,
    members: Vec<Member>,
}

/// One process of a server.
struct Member {
    client_port: u16,
    peer_port: u16,
    child: Option<Child>,
}

impl Member {
    fn endpoint(&self) -> String {
        format!("127.0.0.1:{}", self.client_port)
    }
}

/// Which members a load goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum To {
    /// All of them in turn, connection by connection.
    All,
    /// All but the leader.
    Followers,
}

impl Server {
    /// Starts `program` with `flags` on a fresh folder below `parent` and waits until it answers.
    pub(crate) fn start(
        name: &'static str,
        program: &Path,
        parent: &Path,
        load: &Path,
        flags: &[String],
    ) -> anyhow::Result<Self> {
        Self::start_cluster(name, program, parent, load, flags, 1)
    }

    /// The same with `count` members, until each of them answers.
    pub(crate) fn start_cluster(
        name: &'static str,
        program: &Path,
        parent: &Path,
        load: &Path,
        flags: &[String],
        count: usize,
    ) -> anyhow::Result<Self> {
        let folder = parent.join(name);
        std::fs::create_dir_all(folder.join("data"))?;
        let ports = free_ports(2 * count)?;
        let member =
            |pair: &[u16]| Member { client_port: pair[0], peer_port: pair[1], child: None };
        let mut server = Self {
            name,
            program: program.to_path_buf(),
            flags: flags.to_vec(),
            folder,
            members: ports.chunks_exact(2).map(member).collect(),
        };
        server.restart(load)?;
        Ok(server)
    }

    /// Host and port of the first member's client API.
    pub(crate) fn endpoint(&self) -> String {
        self.members[0].endpoint()
    }

    /// Endpoints of the members asked for, as `--endpoints` takes them.
    fn endpoints(&self, to: To) -> anyhow::Result<String> {
        let mut chosen = Vec::new();
        for member in &self.members {
            let endpoint = member.endpoint();
            if to == To::All || !is_leader(&metrics(&endpoint)?) {
                chosen.push(endpoint);
            }
        }
        Ok(chosen.join(","))
    }

    /// Process id of the first member.
    pub(crate) fn pid(&self) -> anyhow::Result<u32> {
        self.pids()?.first().copied().context("the server is not running")
    }

    fn pids(&self) -> anyhow::Result<Vec<u32>> {
        let pid = |m: &Member| m.child.as_ref().map(Child::id);
        let pids: Option<Vec<u32>> = self.members.iter().map(pid).collect();
        pids.context("the server is not running")
    }

    /// Starts the processes on their folders; gives the time to the first read answered by all.
    pub(crate) fn restart(&mut self, load: &Path) -> anyhow::Result<Duration> {
        let watch = Stopwatch::start();
        for index in 0..self.members.len() {
            let child = self.spawn(index)?;
            self.members[index].child = Some(child);
        }
        for member in &self.members {
            let ready = Command::new(load)
                .args(["wait", "--json", "--seconds", "120", "--endpoints", &member.endpoint()])
                .stdout(Stdio::null())
                .status()?;
            if !ready.success() {
                bail!("{} does not answer; its log: {}", self.name, self.log().display());
            }
        }
        Ok(watch.elapsed())
    }

    fn spawn(&self, index: usize) -> anyhow::Result<Child> {
        let peer = |m: &Member| format!("http://127.0.0.1:{}", m.peer_port);
        let cluster: Vec<String> =
            self.members.iter().enumerate().map(|(n, m)| format!("bench{n}={}", peer(m))).collect();
        let member = &self.members[index];
        let (client, peer) = (format!("http://{}", member.endpoint()), peer(member));
        let log = File::options().create(true).append(true).open(self.log())?;
        Command::new(&self.program)
            .args(["--name", &format!("bench{index}"), "--data-dir"])
            .arg(self.folder.join("data").join(index.to_string()))
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &cluster.join(",")])
            .args(["--log-level", "warn"])
            .args(&self.flags)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("starting {}", self.program.display()))
    }

    /// Of all members; lines say which.
    fn log(&self) -> PathBuf {
        self.folder.join("log")
    }

    /// Ends the processes by `TERM` or `KILL` and waits for their end.
    pub(crate) fn stop(&mut self, signal: &str) -> anyhow::Result<()> {
        for mut child in self.members.iter_mut().filter_map(|m| m.child.take()) {
            let mut kill = Command::new("kill");
            kill.arg(format!("-{signal}")).arg(child.id().to_string());
            kill.status().context("running kill")?;
            child.wait()?;
        }
        Ok(())
    }

    /// Runs the load generator against the server; gives its report.
    pub(crate) fn call(&self, load: &Path, command: &[String]) -> anyhow::Result<Value> {
        self.call_on(load, command, To::All)
    }

    /// The same against some members. What the server spends is what all members spend.
    pub(crate) fn call_on(&self, load: &Path, command: &[String], to: To) -> anyhow::Result<Value> {
        let pids: Vec<String> = self.pids()?.iter().map(u32::to_string).collect();
        let output = Command::new(load)
            .args(command)
            .args(["--json", "--endpoints", &self.endpoints(to)?])
            .args(["--server-pid", &pids.join(",")])
            .stderr(Stdio::inherit())
            .output()?;
        // Without a report it failed as a whole; with one, the report says what failed.
        if !output.status.success() && output.stdout.is_empty() {
            bail!("benchmark-rs {} failed", command.join(" "));
        }
        let report: Value = serde_json::from_slice(&output.stdout)?;
        let classes = report["classes"].as_array().context("a report without classes")?;
        if let Some(errors) =
            classes.iter().filter_map(|c| c["errors"].as_object()).find(|e| !e.is_empty())
        {
            bail!("operations failed: {errors:?}");
        }
        Ok(report)
    }

    /// The text of `/metrics` of the first member.
    pub(crate) fn metrics(&self) -> anyhow::Result<String> {
        metrics(&self.endpoint())
    }

    /// Bytes of the data folders.
    pub(crate) fn disk(&self) -> u64 {
        size_of(&self.folder.join("data"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        for mut child in self.members.iter_mut().filter_map(|m| m.child.take()) {
            // Nothing is left to do for a child that is gone already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn metrics(endpoint: &str) -> anyhow::Result<String> {
    let mut connection = TcpStream::connect(endpoint)?;
    write!(connection, "GET /metrics HTTP/1.1\r\nhost: {endpoint}\r\nconnection: close\r\n\r\n")?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer)?;
    Ok(answer)
}

fn is_leader(metrics: &str) -> bool {
    metrics.lines().any(|line| line.trim_end() == "etcd_server_is_leader 1")
}

/// Builds the load generator, and the server if that is ours; gives the load generator's path.
pub(crate) fn build(root: &Path, server: bool) -> anyhow::Result<PathBuf> {
    let mut cargo = Command::new("cargo");
    cargo.args(["build", "--release", "--quiet", "--package", "etcdrs-benchmark"]);
    if server {
        cargo.args(["--package", "etcdrs-server", "--bin", "etcd-rs"]);
    }
    cargo.args(["--bin", "benchmark-rs"]).current_dir(root);
    if !cargo.status()?.success() {
        bail!("the release build failed");
    }
    Ok(root.join("target/release/benchmark-rs"))
}

/// The words of a command line without quotes.
pub(crate) fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(String::from).collect()
}

/// A port nobody has.
pub(crate) fn free_port() -> anyhow::Result<u16> {
    Ok(free_ports(1)?[0])
}

/// Ports nobody has. All are held until all are found, so that none comes twice.
fn free_ports(count: usize) -> anyhow::Result<Vec<u16>> {
    let bind = |_| TcpListener::bind("127.0.0.1:0");
    let listeners = (0..count).map(bind).collect::<std::io::Result<Vec<_>>>()?;
    listeners.iter().map(|l| Ok(l.local_addr()?.port())).collect()
}

fn size_of(folder: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    entries
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(meta) if meta.is_dir() => size_of(&entry.path()),
            Ok(meta) => meta.len(),
            Err(_) => 0,
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_leader_is_known_by_its_metrics() {
        let text = "# HELP etcd_server_is_leader 1 is\r\netcd_server_is_leader 1\r\n";
        assert!(is_leader(text) && !is_leader(&text.replace("leader 1\r", "leader 0\r")));
    }

    #[test]
    fn no_port_comes_twice() {
        let mut ports = free_ports(14).unwrap();
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), 14);
    }
}
