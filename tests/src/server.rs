//! Server processes: start, stop, kill and restart on loopback with their own data folders.

use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::client::Clients;
use crate::http;
use crate::log::Log;
use crate::target::{self, Flavour, Target};

/// Generous, because a loaded machine with two cores builds and tests at once.
const START_LIMIT: Duration = Duration::from_secs(30);
const STOP_LIMIT: Duration = Duration::from_secs(20);
const PANIC_TAIL_LINES: usize = 60;

/// How a server is to be started.
#[derive(Clone, Debug)]
pub struct Setup {
    target: Target,
    args: Vec<String>,
    data_dir: Option<PathBuf>,
    ports: Option<(u16, u16)>,
    initial_cluster: bool,
}

impl Default for Setup {
    fn default() -> Self {
        Self::new()
    }
}

impl Setup {
    /// The server under test with a fresh data folder.
    pub fn new() -> Self {
        Self::of(target::under_test())
    }

    /// Another binary.
    pub fn of(target: Target) -> Self {
        Self { target, args: Vec::new(), data_dir: None, ports: None, initial_cluster: true }
    }

    /// Adds `--flag=value`.
    pub fn flag(mut self, flag: &str, value: impl ToString) -> Self {
        self.args.push(format!("--{flag}={}", value.to_string()));
        self
    }

    /// Uses a folder of the caller, which outlives the server.
    pub fn data_dir(mut self, path: &Path) -> Self {
        self.data_dir = Some(path.to_path_buf());
        self
    }

    /// Uses these client and peer ports, free or not.
    pub fn ports(mut self, client: u16, peer: u16) -> Self {
        self.ports = Some((client, peer));
        self
    }

    /// Leaves `--initial-cluster` away, for members that learn it elsewhere.
    pub fn without_initial_cluster(mut self) -> Self {
        self.initial_cluster = false;
        self
    }

    /// Starts the server and waits until it serves.
    pub async fn start(self) -> Server {
        // Another test process may take a port between our look at it and the server's start.
        for _ in 0..5 {
            let mut server = self.clone().spawn().unwrap();
            match server.wait_ready().await {
                Ok(()) => return server,
                Err(_) if server.log().text().contains("address already in use") => {}
                Err(error) => panic!("{error:#}"),
            }
        }
        panic!("no free port");
    }

    /// Starts the process only.
    pub fn spawn(self) -> Result<Server> {
        let temporary = tempfile::Builder::new().prefix("etcdrs-test-").tempdir()?;
        let data_dir = self.data_dir.unwrap_or_else(|| temporary.path().join("data"));
        let (client_port, peer_port) = self.ports.unwrap_or_else(|| (free_port(), free_port()));
        let mut server = Server {
            target: self.target,
            args: self.args,
            initial_cluster: self.initial_cluster,
            _temporary: temporary,
            data_dir,
            client_port,
            peer_port,
            child: None,
            log: Log::default(),
        };
        server.launch()?;
        Ok(server)
    }
}

/// A running (or ended) server process with its data folder.
pub struct Server {
    target: Target,
    args: Vec<String>,
    initial_cluster: bool,
    _temporary: TempDir,
    data_dir: PathBuf,
    client_port: u16,
    peer_port: u16,
    child: Option<Child>,
    log: Log,
}

impl Server {
    /// The server under test, ready.
    pub async fn start() -> Self {
        Setup::new().start().await
    }

    fn launch(&mut self) -> Result<()> {
        let client = format!("http://127.0.0.1:{}", self.client_port);
        let peer = format!("http://127.0.0.1:{}", self.peer_port);
        let mut command = Command::new(&self.target.binary);
        command
            .arg("--name=default")
            .arg(format!("--data-dir={}", self.data_dir.display()))
            .arg(format!("--listen-client-urls={client}"))
            .arg(format!("--advertise-client-urls={client}"))
            .arg(format!("--listen-peer-urls={peer}"))
            .arg(format!("--initial-advertise-peer-urls={peer}"))
            .args(self.initial_cluster.then(|| format!("--initial-cluster=default={peer}")))
            .args(&self.args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command
            .spawn()
            .with_context(|| format!("cannot execute {}", self.target.binary.display()))?;
        self.log = Log::default();
        self.log.follow(child.stdout.take().context("no stdout")?);
        self.log.follow(child.stderr.take().context("no stderr")?);
        self.child = Some(child);
        Ok(())
    }

    /// Waits until the server answers; the error has the end of its log.
    pub async fn wait_ready(&mut self) -> Result<()> {
        let ready = ["ready to serve client requests"];
        if !self.log.wait_for(&ready, START_LIMIT).await || !self.answers_health().await {
            let tail = self.log.tail(PANIC_TAIL_LINES);
            bail!("{} did not become ready:\n{tail}", self.target.binary.display());
        }
        Ok(())
    }

    /// As [`Self::wait_ready`] for a member that need not be healthy, as a learner never is.
    pub async fn wait_serving(&mut self) -> Result<()> {
        let ready = ["ready to serve client requests"];
        if !self.log.wait_for(&ready, START_LIMIT).await || !self.answers_version().await {
            let tail = self.log.tail(PANIC_TAIL_LINES);
            bail!("{} does not serve:\n{tail}", self.target.binary.display());
        }
        Ok(())
    }

    async fn answers_version(&self) -> bool {
        let limit = tokio::time::Instant::now() + START_LIMIT;
        while tokio::time::Instant::now() < limit {
            if http::get(self.client_port, "/version").await.is_ok_and(|a| a.status == 200) {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        false
    }

    /// etcd logs that it is ready shortly before its listener answers.
    async fn answers_health(&self) -> bool {
        let limit = tokio::time::Instant::now() + START_LIMIT;
        while tokio::time::Instant::now() < limit {
            if http::get(self.client_port, "/health").await.is_ok_and(|a| a.status == 200) {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        false
    }

    /// Raw stubs on one new connection.
    pub async fn clients(&self) -> Clients {
        Clients::connect(&self.endpoint()).await
    }

    /// `http://127.0.0.1:<client port>`.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.client_port)
    }

    /// The client port.
    pub fn client_port(&self) -> u16 {
        self.client_port
    }

    /// The peer port.
    pub fn peer_port(&self) -> u16 {
        self.peer_port
    }

    /// The data folder.
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// What the server behaves like.
    pub fn flavour(&self) -> Flavour {
        self.target.flavour
    }

    /// The output of the newest process.
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// Process id while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// `kill -9`, and waits until the process is gone.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// SIGTERM, and waits for the exit.
    pub async fn terminate(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.wait_exit().await
    }

    /// SIGTERM only.
    pub fn begin_terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// SIGSTOP.
    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// SIGCONT.
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        let pid = self.pid().expect("the server runs");
        let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).expect("a process id");
        kill_process(pid, signal).unwrap();
    }

    /// Waits until the process ends by itself.
    pub async fn wait_exit(&mut self) -> ExitStatus {
        let closed = self.log.wait_closed(STOP_LIMIT).await;
        let mut child = self.child.take().expect("the server runs");
        if !closed {
            child.kill().unwrap();
        }
        let status = child.wait().unwrap();
        assert!(closed, "the server did not end:\n{}", self.log.tail(PANIC_TAIL_LINES));
        status
    }

    /// Starts the ended server again on the same folder and ports, and waits until it serves.
    pub async fn restart(&mut self) {
        self.try_restart().await.unwrap();
    }

    /// As [`Self::restart`], for starts that may be refused.
    pub async fn try_restart(&mut self) -> Result<()> {
        self.begin_restart()?;
        self.wait_ready().await
    }

    /// Adds flags for the next starts; the last one of a name counts.
    pub fn add_flag(&mut self, flag: &str, value: impl ToString) {
        self.args.push(format!("--{flag}={}", value.to_string()));
    }

    /// Takes away the flags of a name that were added to the usual ones.
    pub fn remove_flag(&mut self, flag: &str) {
        let start = format!("--{flag}=");
        self.args.retain(|arg| !arg.starts_with(&start));
    }

    /// Starts the process again without waiting for anything.
    pub fn begin_restart(&mut self) -> Result<()> {
        assert!(self.child.is_none(), "the server still runs");
        self.check_panic();
        self.launch()
    }

    /// SIGTERM and start again.
    pub async fn bounce(&mut self) {
        self.terminate().await;
        self.restart().await;
    }

    fn check_panic(&self) {
        if let Some(line) = self.log.panic_line() {
            let tail = self.log.tail(PANIC_TAIL_LINES);
            panic!("the server panicked: {line}\n{tail}");
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended by itself already; both calls then do nothing.
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            eprintln!("--- end of the server's log\n{}\n---", self.log.tail(PANIC_TAIL_LINES));
        } else {
            self.check_panic();
        }
    }
}

/// A port of loopback nobody listens on. It lies below the range from which outgoing connections
/// get theirs, so that it stays free while a server restarts.
pub fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    const FIRST: u32 = 11_000;
    const COUNT: u32 = 20_000;
    for _ in 0..COUNT {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = FIRST + (std::process::id().wrapping_mul(211).wrapping_add(step)) % COUNT;
        let port = u16::try_from(port).expect("the range ends below 65536");
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
    panic!("no free port");
}
