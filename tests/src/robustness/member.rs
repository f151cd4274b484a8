//! A member's process: started, killed, stopped, paused, and started again on the same folder.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use super::failpoints::{ARMED_VARIABLE, CONTROL_VARIABLE, Control, EXIT_SIGN};
use crate::client::Clients;
use crate::log::Log;
use crate::target::{Flavour, Target};

/// Generous, because a loaded machine with two cores builds and tests at once.
const START_LIMIT: Duration = Duration::from_secs(45);
/// The longest that a fault and its healing may take when all goes well.
pub(super) const RECOVERY_LIMIT: Duration = Duration::from_secs(120);
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
    /// Where its failpoints are controlled, if it has any, and those that are always armed.
    pub failpoints: Option<(Control, &'static str)>,
}

/// A member.
pub struct Member {
    plan: Plan,
    public: std::sync::Arc<Public>,
    child: Option<Child>,
    logs: Vec<Log>,
    paused: bool,
    /// Failpoints that were armed since its start and have to be disarmed.
    armed: BTreeSet<&'static str>,
    /// How many members were in this place before.
    predecessors: u32,
}

impl Member {
    /// A member that was not started yet.
    pub fn new(plan: Plan, public: std::sync::Arc<Public>) -> Self {
        let (logs, armed) = (Vec::new(), BTreeSet::new());
        Self { plan, public, child: None, logs, paused: false, armed, predecessors: 0 }
    }

    /// Starts the process without waiting for it to serve.
    pub fn launch(&mut self) -> Result<()> {
        self.launch_armed(None)
    }

    /// As [`Self::launch`], with a failpoint armed from the start.
    pub(super) fn launch_armed(&mut self, armed: Option<(&'static str, &str)>) -> Result<()> {
        let mut words = self.plan.prefix.iter().map(PathBuf::from).collect::<Vec<_>>();
        words.push(self.plan.target.binary.clone());
        let mut command = Command::new(&words[0]);
        if let Some((control, always)) = &self.plan.failpoints {
            let armed = armed.map_or(String::new(), |(name, action)| format!(";{name}={action}"));
            command.env(ARMED_VARIABLE, format!("{always}{armed}"));
            command.env(CONTROL_VARIABLE, &control.address);
        }
        self.armed = armed.map(|(name, _)| name).into_iter().collect();
        let mut child = command
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
        let status = self.child.as_mut()?.try_wait().ok()??;
        self.forget();
        let index = self.plan.index;
        Some(format!("member {index} ended by itself, {status}:\n{}", self.tail()))
    }

    /// Waits until the process ends by itself; `None` if it does not within `limit`.
    pub(super) async fn wait_end(&mut self, limit: Duration) -> Option<ExitStatus> {
        let log = self.logs.last()?.clone();
        if !log.wait_closed(limit).await {
            return None;
        }
        let status = self.child.as_mut()?.wait().ok()?;
        self.forget();
        Some(status)
    }

    /// The failpoint that ended the newest life, if one did.
    pub(super) fn exit_step(&self) -> Option<String> {
        let text = self.logs.last()?.text();
        Some(text.lines().find_map(|line| line.strip_prefix(EXIT_SIGN))?.to_owned())
    }

    /// Whether its server has failpoints.
    pub(super) fn has_failpoints(&self) -> bool {
        self.plan.failpoints.is_some()
    }

    fn control(&self) -> Result<&Control> {
        Ok(&self.plan.failpoints.as_ref().context("a server without failpoints")?.0)
    }

    /// Arms a failpoint.
    pub(super) async fn arm(&mut self, name: &'static str, action: &str) -> Result<()> {
        self.control()?.arm(name, action).await?;
        self.armed.insert(name);
        Ok(())
    }

    /// Disarms a failpoint, and tells how often it acted.
    pub(super) async fn disarm(&mut self, name: &'static str) -> Result<u64> {
        let struck = self.control()?.disarm(name).await?;
        self.armed.remove(name);
        Ok(struck.unwrap_or(0))
    }

    /// Disarms whatever was armed since the start.
    pub(super) async fn disarm_all(&mut self) -> Result<()> {
        while let Some(name) = self.armed.first() {
            self.disarm(name).await?;
        }
        Ok(())
    }

    /// The failpoints that this life came by, as far as the process answers.
    pub(super) async fn passed(&self) -> Vec<String> {
        if self.child.is_none() || self.paused {
            return Vec::new();
        }
        let Ok(control) = self.control() else { return Vec::new() };
        let counts = control.counts().await.unwrap_or_default();
        counts.into_iter().filter(|(_, (passed, _))| *passed > 0).map(|(name, _)| name).collect()
    }

    /// Whether a failpoint acted since it was armed, as far as the process answers.
    pub(super) async fn acted(&self, name: &str) -> bool {
        let Ok(control) = self.control() else { return false };
        control.counts().await.is_ok_and(|counts| counts.get(name).is_some_and(|(_, n)| *n > 0))
    }

    /// Makes this the place of another member, which begins with an empty disk. The process must
    /// have ended.
    pub(super) fn succeed(&mut self) -> Result<()> {
        std::fs::remove_dir_all(&self.plan.data_dir).context("remove a member's data")?;
        self.predecessors += 1;
        let name = format!("member-{}-{}", self.plan.index, self.predecessors);
        self.plan.data_dir.set_file_name(name);
        // The last flag of a name counts.
        self.plan.args.push(format!("--data-dir={}", self.plan.data_dir.display()));
        self.plan.args.push("--initial-cluster-state=existing".to_owned());
        Ok(())
    }

    /// The first panic in any life's log.
    pub fn panicked(&self) -> Option<String> {
        let line = self.logs.iter().find_map(Log::panic_line)?;
        Some(format!("member {} panicked: {line}", self.plan.index))
    }

    fn forget(&mut self) {
        self.child = None;
        self.armed.clear();
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

    /// SIGTERM, and no more.
    pub(super) fn ask_to_end(&self) -> Result<()> {
        self.signal(Signal::TERM)
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
