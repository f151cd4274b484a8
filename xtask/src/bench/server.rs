//! A server under test: a process with a data folder and two ports of its own.

use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail};

use crate::stopwatch::Stopwatch;

/// The rounds of a bench rewrite the same keys without compaction, which is more than etcd's default
/// quota holds.
const QUOTA: &str = "8589934592";

/// One server and how to start it again.
pub(super) struct Server {
    /// Name for tables and logs.
    pub(super) name: &'static str,
    program: PathBuf,
    folder: PathBuf,
    client_port: u16,
    peer_port: u16,
    child: Option<Child>,
}

impl Server {
    /// Starts `program` on a fresh folder below `parent` and waits until it answers.
    pub(super) fn start(
        name: &'static str,
        program: &Path,
        parent: &Path,
        load: &Path,
    ) -> anyhow::Result<Self> {
        let folder = parent.join(name);
        std::fs::create_dir_all(&folder)?;
        let mut server = Self {
            name,
            program: program.to_path_buf(),
            folder,
            client_port: free_port()?,
            peer_port: free_port()?,
            child: None,
        };
        server.restart(load)?;
        Ok(server)
    }

    /// Host and port of the client API.
    pub(super) fn endpoint(&self) -> String {
        format!("127.0.0.1:{}", self.client_port)
    }

    /// Process id of the running server.
    pub(super) fn pid(&self) -> anyhow::Result<u32> {
        Ok(self.child.as_ref().context("the server is not running")?.id())
    }

    /// Starts the process on its folder; gives the time to the first answered read.
    pub(super) fn restart(&mut self, load: &Path) -> anyhow::Result<Duration> {
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
            .args(["--quota-backend-bytes", QUOTA, "--log-level", "warn"])
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
    pub(super) fn stop(&mut self, signal: &str) -> anyhow::Result<()> {
        let Some(mut child) = self.child.take() else { return Ok(()) };
        let mut kill = Command::new("kill");
        kill.arg(format!("-{signal}")).arg(child.id().to_string());
        kill.status().context("running kill")?;
        child.wait()?;
        Ok(())
    }

    /// Bytes of the data folder.
    pub(super) fn disk(&self) -> u64 {
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

fn free_port() -> anyhow::Result<u16> {
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
