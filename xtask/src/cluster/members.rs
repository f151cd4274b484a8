//! The processes of the members, their folders and their logs.

use std::fmt::Write as _;
use std::fs::File;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender};
use std::time::Duration;

use anyhow::{Context as _, ensure};

use super::Event;
use super::lan::Lan;
use super::layout::Layout;
use crate::stopwatch::Stopwatch;

/// Lines of a log that are shown when its member ended.
const LAST_LINES: usize = 5;

/// All members.
pub(super) struct Members {
    layout: Layout,
    program: PathBuf,
    dir: PathBuf,
    /// Sockets on which members tell that they serve. Short paths: a socket's may have 107 bytes.
    sockets: PathBuf,
    children: Vec<Option<Child>>,
    ready: Vec<bool>,
    told: bool,
}

impl Members {
    /// Makes the folders. What lies there already is used with `keep` and refused without.
    pub(super) fn new(
        layout: Layout,
        program: PathBuf,
        dir: &Path,
        keep: bool,
    ) -> anyhow::Result<Self> {
        let used = layout.places.iter().map(|p| dir.join(&p.name)).find(|folder| folder.exists());
        if let Some(used) = used.filter(|_| !keep) {
            let used = used.display();
            anyhow::bail!("{used} exists; go on with it by --keep, or remove it, or use --dir");
        }
        for place in &layout.places {
            std::fs::create_dir_all(dir.join(&place.name))?;
        }
        let sockets = std::env::temp_dir().join(format!("etcd-rs-cluster-{}", std::process::id()));
        std::fs::create_dir_all(&sockets)?;
        let count = layout.places.len();
        let children = (0..count).map(|_| None).collect();
        let (dir, ready) = (dir.to_path_buf(), vec![false; count]);
        Ok(Self { layout, program, dir, sockets, children, ready, told: false })
    }

    /// Takes the notices of members that serve; they send them as they would to systemd.
    pub(super) fn listen(&self, events: &Sender<Event>) -> anyhow::Result<()> {
        for index in 0..self.count() {
            let socket = UnixDatagram::bind(self.socket(index))?;
            let events = events.clone();
            std::thread::Builder::new().name("ready".into()).spawn(move || {
                let mut notice = [0; 256];
                while let Ok(length) = socket.recv(&mut notice) {
                    let ready = notice[..length].starts_with(b"READY=1");
                    if ready && events.send(Event::Ready(index)).is_err() {
                        return;
                    }
                }
            })?;
        }
        Ok(())
    }

    pub(super) fn count(&self) -> usize {
        self.children.len()
    }

    /// Members that have not ended, as far as is known.
    pub(super) fn running(&self) -> usize {
        self.children.iter().flatten().count()
    }

    pub(super) fn name(&self, index: usize) -> &str {
        &self.layout.places[index].name
    }

    pub(super) fn start_all(&mut self, lan: Option<&Lan>) -> anyhow::Result<()> {
        (0..self.count()).try_for_each(|index| self.start(index, lan))
    }

    /// Starts a member on its folder.
    pub(super) fn start(&mut self, index: usize, lan: Option<&Lan>) -> anyhow::Result<()> {
        let name = self.name(index).to_string();
        ensure!(self.children[index].is_none(), "{name} is running");
        let log = File::options().create(true).append(true).open(self.log(index))?;
        let mut words: Vec<_> = lan.map(|l| l.inside(index)).into_iter().flatten().collect();
        words.push(self.program.to_string_lossy().into_owned());
        let (first, rest) = words.split_first().context("a program has a name")?;
        let child = Command::new(first)
            .args(rest)
            .args(self.layout.arguments(index))
            .arg("--data-dir")
            .arg(self.dir.join(&name).join("data"))
            .env("NOTIFY_SOCKET", self.socket(index))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            // Ctrl-C of a terminal goes to a whole group; members are stopped one by one, by us.
            .process_group(0)
            .spawn()
            .with_context(|| format!("starting {}", self.program.display()))?;
        std::fs::write(self.dir.join(&name).join("pid"), child.id().to_string())?;
        self.children[index] = Some(child);
        Ok(())
    }

    /// Ends a member without giving it a chance.
    pub(super) fn kill(&mut self, index: usize) -> anyhow::Result<()> {
        let child = self.children[index].take();
        let mut child = child.with_context(|| format!("{} is not running", self.name(index)))?;
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    /// Notes a member that serves; true when with it, for the first time, all do.
    pub(super) fn all_ready_once(&mut self, index: usize) -> bool {
        self.ready[index] = true;
        let all = self.ready.iter().all(|ready| *ready) && !self.told;
        self.told |= all;
        all
    }

    /// Tells which members ended by themselves, and the end of their logs.
    pub(super) fn report_ended(&mut self) -> anyhow::Result<()> {
        for index in 0..self.count() {
            let Some(child) = &mut self.children[index] else { continue };
            let Some(status) = child.try_wait()? else { continue };
            self.children[index] = None;
            println!("{} ended: {status}; {}:", self.name(index), self.log(index).display());
            let log = std::fs::read_to_string(self.log(index)).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            let last = &lines[lines.len().saturating_sub(LAST_LINES)..];
            last.iter().for_each(|line| println!("  {line}"));
        }
        Ok(())
    }

    /// Stops all members in order, and by force what is left after `limit`.
    pub(super) fn stop(&mut self, limit: Duration, events: &Receiver<Event>) -> anyhow::Result<()> {
        for child in self.children.iter().flatten() {
            let mut kill = Command::new("kill");
            kill.args(["-TERM", &child.id().to_string()]);
            // One that ended this moment is as good as stopped.
            let _ = kill.stderr(Stdio::null()).status();
        }
        let watch = Stopwatch::start();
        loop {
            for slot in &mut self.children {
                if let Some(child) = slot
                    && child.try_wait()?.is_some()
                {
                    *slot = None;
                }
            }
            if self.running() == 0 {
                return Ok(());
            }
            let left = limit.saturating_sub(watch.elapsed());
            // Any event is a reason to look again; SIGCHLD is the one to expect.
            if left.is_zero() || events.recv_timeout(left).is_err() {
                break;
            }
        }
        for index in 0..self.count() {
            if self.children[index].is_some() {
                println!("{} did not stop within {limit:?}", self.name(index));
                self.kill(index)?;
            }
        }
        Ok(())
    }

    /// Removes what this run made, the data only without `keep`.
    pub(super) fn clean(&self, keep: bool) -> anyhow::Result<()> {
        std::fs::remove_dir_all(&self.sockets)?;
        if keep {
            println!("data and logs: {}", self.dir.display());
            return Ok(());
        }
        for place in &self.layout.places {
            std::fs::remove_dir_all(self.dir.join(&place.name))?;
        }
        // Not ours to remove if something else lies there.
        let _ = std::fs::remove_dir(&self.dir);
        Ok(())
    }

    /// Who listens where.
    pub(super) fn describe(&self) -> String {
        let mut out = String::new();
        for (index, place) in self.layout.places.iter().enumerate() {
            let pid = self.children[index].as_ref().map_or(0, Child::id);
            let (name, client, peer) = (&place.name, place.client_url(), place.peer_url());
            let log = self.log(index);
            let _ = writeln!(
                out,
                "{name}  clients {client}  peers {peer}  pid {pid}  log {}",
                log.display()
            );
        }
        out
    }

    /// A command line to begin with.
    pub(super) fn hint(&self, lan: Option<&Lan>) -> String {
        let before = lan.map(|l| format!("ip netns exec {} ", l.switch())).unwrap_or_default();
        format!("{before}etcdctl --endpoints={} endpoint status -w table", self.layout.endpoints())
    }

    fn log(&self, index: usize) -> PathBuf {
        self.dir.join(self.name(index)).join("log")
    }

    fn socket(&self, index: usize) -> PathBuf {
        self.sockets.join(index.to_string())
    }
}

impl Drop for Members {
    fn drop(&mut self) {
        for child in self.children.iter_mut().flatten() {
            // Nothing is left to do for a child that is gone already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
