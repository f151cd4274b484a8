//! A member's process: started, killed, stopped, paused, and started again on the same folder.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::client::Clients;
use crate::log::Log;
use crate::target::{Flavour, Target};

/// Generous, because a loaded machine with two cores builds and tests at once.
const START_LIMIT: Duration = Duration::from_secs(45);
/// The longest that a fault and its healing may take when all goes well.
pub(super) const RECOVERY_LIMIT: Duration = Duration::from_secs(90);
const READ_LIMIT: Duration = Duration::from_secs(2);
const STOP_LIMIT: Duration = Duration::from_secs(8);
const TAIL_LINES: usize = 40;

/// What others may know of a member while its process comes and goes.
#[derive(Debug, Default)]
pub struct Public {
    /// Counts the lives of the process: odd while one runs.
    pub life: AtomicU64,
    /// The process, 0 for none.
    pub pid: AtomicU32,
}

/// How a member is started.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Which one, from 0.
    pub index: usize,
    /// The binary.
    pub target: Target,
    /// Its data.
    pub data_dir: PathBuf,
    /// Where clients reach the process itself.
    pub client_url: String,
    /// All flags.
    pub args: Vec<String>,
    /// What stands before the binary on the command line, to run it elsewhere.
    pub prefix: Vec<String>,
}

/// A member.
pub struct Member {
    plan: Plan,
    public: std::sync::Arc<Public>,
    child: Option<Child>,
    logs: Vec<Log>,
    paused: bool,
}

impl Member {
    /// A member that was not started yet.
    pub fn new(plan: Plan, public: std::sync::Arc<Public>) -> Self {
        Self { plan, public, child: None, logs: Vec::new(), paused: false }
    }

    /// Starts the process without waiting for it to serve.
    pub fn launch(&mut self) -> Result<()> {
        let mut words = self.plan.prefix.iter().map(PathBuf::from).collect::<Vec<_>>();
        words.push(self.plan.target.binary.clone());
        let mut child = Command::new(&words[0])
            .args(&words[1..])
            .args(&self.plan.args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("start {}", words[0].display()))?;
        let log = Log::default();
        log.follow(child.stdout.take().context("no stdout")?);
        log.follow(child.stderr.take().context("no stderr")?);
        self.logs.push(log);
        self.public.pid.store(child.id(), Ordering::SeqCst);
        self.public.life.fetch_add(1, Ordering::SeqCst);
        self.child = Some(child);
        self.paused = false;
        Ok(())
    }

    /// Waits until it answers a linearizable read, which needs a leader.
    pub async fn wait_healthy(&mut self) -> Result<()> {
        let limit = tokio::time::Instant::now() + START_LIMIT;
        while tokio::time::Instant::now() < limit {
            if let Some(died) = self.died() {
                bail!(died);
            }
            if tokio::time::timeout(READ_LIMIT, self.reads()).await.is_ok_and(|read| read.is_ok()) {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        bail!("member {} is not healthy:\n{}", self.plan.index, self.tail())
    }

    async fn reads(&self) -> Result<()> {
        let mut clients = Clients::try_connect(&self.plan.client_url).await?;
        clients.try_range(crate::request::get("health")).await?;
        Ok(())
    }

    /// True while the process runs.
    pub fn runs(&self) -> bool {
        self.child.is_some()
    }

    /// Tells of a process that ended by itself, or whose log has a panic.
    pub fn died(&mut self) -> Option<String> {
        let index = self.plan.index;
        let child = self.child.as_mut()?;
        if let Ok(Some(status)) = child.try_wait() {
            self.forget();
            return Some(format!("member {index} ended by itself, {status}:\n{}", self.tail()));
        }
        None
    }

    /// The first panic in any life's log.
    pub fn panicked(&self) -> Option<String> {
        let line = self.logs.iter().find_map(Log::panic_line)?;
        Some(format!("member {} panicked: {line}", self.plan.index))
    }

    fn forget(&mut self) {
        self.child = None;
        self.public.pid.store(0, Ordering::SeqCst);
        // A life that ended must not be taken for the next one.
        self.public.life.fetch_add(1, Ordering::SeqCst);
    }

    /// kill -9.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            self.forget();
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// SIGTERM, and waits for the end; false if it took too long and was killed, as a supervisor
    /// would. Without its peers or clients a member may well wait for them.
    pub async fn terminate(&mut self) -> Result<bool> {
        if self.child.is_none() {
            return Ok(true);
        }
        self.signal(Signal::TERM)?;
        let ended = match self.logs.last() {
            Some(log) => log.wait_closed(STOP_LIMIT).await,
            None => true,
        };
        self.kill();
        Ok(ended)
    }

    /// SIGSTOP.
    pub fn pause(&mut self) -> Result<()> {
        self.paused = true;
        self.signal(Signal::STOP)
    }

    /// SIGCONT.
    pub fn resume(&mut self) -> Result<()> {
        self.paused = false;
        self.signal(Signal::CONT)
    }

    /// True between pause and resume.
    pub fn is_paused(&self) -> bool {
        self.paused && self.runs()
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let Some(child) = &self.child else { return Ok(()) };
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).context("process id")?;
        kill_process(pid, signal).context("send a signal")
    }

    /// Where clients reach the process itself.
    pub fn client_url(&self) -> &str {
        &self.plan.client_url
    }

    /// What the server behaves like.
    pub fn flavour(&self) -> Flavour {
        self.plan.target.flavour
    }

    /// Its data.
    pub fn data_dir(&self) -> &Path {
        &self.plan.data_dir
    }

    /// The end of the newest log.
    pub fn tail(&self) -> String {
        self.logs.last().map_or(String::new(), |log| log.tail(TAIL_LINES))
    }

    /// All logs, one life after the other.
    pub fn log_text(&self) -> String {
        let lives: Vec<String> = self.logs.iter().map(Log::text).collect();
        lives.join("\n--- the process was started again ---\n")
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        // A stopped process takes the kill as well.
        self.kill();
    }
}
