//! A server under test: a process with a data folder and two ports of its own, and the load
//! generator to drive it.

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
    client_port: u16,
    peer_port: u16,
    child: Option<Child>,
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
        let folder = parent.join(name);
        std::fs::create_dir_all(&folder)?;
        let mut server = Self {
            name,
            program: program.to_path_buf(),
            flags: flags.to_vec(),
            folder,
            client_port: free_port()?,
            peer_port: free_port()?,
            child: None,
        };
        server.restart(load)?;
        Ok(server)
    }

    /// Host and port of the client API.
    pub(crate) fn endpoint(&self) -> String {
        format!("127.0.0.1:{}", self.client_port)
    }

    /// Process id of the running server.
    pub(crate) fn pid(&self) -> anyhow::Result<u32> {
        Ok(self.child.as_ref().context("the server is not running")?.id())
    }

    /// Starts the process on its folder; gives the time to the first answered read.
    pub(crate) fn restart(&mut self, load: &Path) -> anyhow::Result<Duration> {
        let client = format!("http://{}", self.endpoint());
        let peer = format!("http://127.0.0.1:{}", self.peer_port);
        let log = File::options().create(true).append(true).open(self.log())?;
        let watch = Stopwatch::start();
        let child = Command::new(&self.program)
            .args(["--name", "bench", "--data-dir"])
            .arg(self.folder.join("data"))
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &format!("bench={peer}")])
            .args(["--log-level", "warn"])
            .args(&self.flags)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("starting {}", self.program.display()))?;
        self.child = Some(child);
        let ready = Command::new(load)
            .args(["wait", "--json", "--seconds", "120", "--endpoints", &self.endpoint()])
            .stdout(Stdio::null())
            .status()?;
        let took = watch.elapsed();
        if !ready.success() {
            bail!("{} does not answer; its log: {}", self.name, self.log().display());
        }
        Ok(took)
    }

    fn log(&self) -> PathBuf {
        self.folder.join("log")
    }

    /// Ends the process by `TERM` or `KILL` and waits for its end.
    pub(crate) fn stop(&mut self, signal: &str) -> anyhow::Result<()> {
        let Some(mut child) = self.child.take() else { return Ok(()) };
        let mut kill = Command::new("kill");
        kill.arg(format!("-{signal}")).arg(child.id().to_string());
        kill.status().context("running kill")?;
        child.wait()?;
        Ok(())
    }

    /// Runs the load generator against the server; gives its report.
    pub(crate) fn call(&self, load: &Path, command: &[String]) -> anyhow::Result<Value> {
        let output = Command::new(load)
            .args(command)
            .args(["--json", "--endpoints", &self.endpoint()])
            .args(["--server-pid", &self.pid()?.to_string()])
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

    /// The text of `/metrics`.
    pub(crate) fn metrics(&self) -> anyhow::Result<String> {
        let mut connection = TcpStream::connect(self.endpoint())?;
        let host = self.endpoint();
        write!(connection, "GET /metrics HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n")?;
        let mut answer = String::new();
        connection.read_to_string(&mut answer)?;
        Ok(answer)
    }

    /// Bytes of the data folder.
    pub(crate) fn disk(&self) -> u64 {
        size_of(&self.folder.join("data"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // Nothing is left to do for a child that is gone already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
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

pub(crate) fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
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
