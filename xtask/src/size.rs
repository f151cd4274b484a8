//! `cargo xtask size`: memory and stalls of this server with a store larger than its memory budget.
//!
//! A store is loaded, read, listed, compacted, saved, defragmented and started again. After every
//! phase the resident memory is read, and its peak within the phase; both have to stay within what
//! the budget promises. While an operation on the whole store runs, a probe tells how long others
//! wait.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde_json::Value;

use crate::bench::rows::{PRELOAD, STALLS};
use crate::bench::server::{Server, build, free_port, words};
use crate::stopwatch::Stopwatch;

const HELP: &str = "\
usage: cargo xtask size [options]

  --keys N               keys to load (default 5,000,000)
  --value-bytes N        bytes of a value (default 1024)
  --memory-budget BYTES  the server's --memory-budget (default 1 GiB)
  --server PROGRAM       what to measure (default: this workspace, built with --release)
  --keep                 leave data and logs in the temporary folder

The default needs 10 GB of disk and about seven minutes on two cores.
";

/// Longest time that others may wait for an operation, milliseconds (design.md §9).
const STALL_BAR_MS: f64 = 100.0;
/// What one key may cost beside its own bytes.
const PER_KEY_BYTES: u64 = 110;
/// What the server may need whatever it holds.
const SLACK_BYTES: u64 = 200 << 20;
/// Length of the keys that `benchmark-rs fill` writes, `/bench/000000/000000`.
const KEY_BYTES: u64 = 20;
/// Keys of one group of `benchmark-rs fill`.
const PER_GROUP: u64 = 500;
/// A budget that no server can work with, and how it says so.
const TINY_BUDGET: &str = "1048576";
const TINY_TEXT: &str = "--memory-budget=1048576 is too small";
/// How long a server may take to refuse to start.
const REFUSAL: Duration = Duration::from_secs(20);
/// The longest message of etcd's gRPC server, bytes, and how a longer one is refused.
const MESSAGE_MAX: u64 = i32::MAX as u64;
const TOO_LONG_TEXT: &str = "trying to send message larger than max";
const LIST_OF_ALL: &str = "list of all in one answer";
const REFUSED: &str = "refused";
/// A probe beside pages: the stall probe of the load generator lists all in one answer.
const PROBE: &str = "put --conns 1 --clients 1 --rate 100 --total 1000000 --max-seconds 12";
const MIB: f64 = 1048576.0;

struct Options {
    keys: u64,
    value_bytes: u64,
    budget: u64,
    server: Option<PathBuf>,
    keep: bool,
}

impl Options {
    /// The most memory that may be resident.
    fn limit(&self) -> u64 {
        self.budget + self.keys * (KEY_BYTES + PER_KEY_BYTES) + SLACK_BYTES
    }
}

/// Resident memory of a process, bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Memory {
    now: u64,
    peak: u64,
}

/// What a phase found.
struct Phase {
    title: String,
    /// Its time or rate.
    found: String,
    memory: Memory,
    stall_ms: Option<f64>,
    /// What the server says about its memory, as name and bytes.
    parts: Vec<(String, f64)>,
}

/// Runs the task.
pub(crate) fn run(root: &Path, args: &[String]) -> anyhow::Result<()> {
    let Some(options) = parse(args)? else { return Ok(()) };
    let load = build(root, options.server.is_none())?;
    let program = options.server.clone().unwrap_or_else(|| root.join("target/release/etcd-rs"));
    let folder = std::env::temp_dir().join(format!("etcd-rs-size-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let watch = Stopwatch::start();
    let result = measure(&options, &load, &program, &folder);
    if options.keep {
        println!("data and logs: {}", folder.display());
    } else {
        std::fs::remove_dir_all(&folder)?;
    }
    let (phases, refusal) = result?;
    let checks = checks(&options, &phases, refusal);
    print(&phases, &checks);
    println!("{} keys of {} bytes, {:?}", options.keys, options.value_bytes, watch.elapsed());
    match checks.iter().filter(|c| !c.met).count() {
        0 => Ok(()),
        missed => bail!("{missed} bars missed"),
    }
}

fn parse(args: &[String]) -> anyhow::Result<Option<Options>> {
    let mut options =
        Options { keys: 5_000_000, value_bytes: 1024, budget: 1 << 30, server: None, keep: false };
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let mut value = || args.next().with_context(|| format!("{arg} needs a value\n{HELP}"));
        match arg.as_str() {
            "--keys" => options.keys = value()?.parse().context("--keys")?,
            "--value-bytes" => options.value_bytes = value()?.parse().context("--value-bytes")?,
            "--memory-budget" => options.budget = value()?.parse().context("--memory-budget")?,
            "--server" => options.server = Some(value()?.into()),
            "--keep" => options.keep = true,
            "--help" | "-h" => {
                print!("{HELP}");
                return Ok(None);
            }
            other => bail!("unknown option {other:?}\n{HELP}"),
        }
    }
    Ok(Some(options))
}

/// All phases, and the text with which a tiny budget was refused.
fn measure(
    options: &Options,
    load: &Path,
    program: &Path,
    folder: &Path,
) -> anyhow::Result<(Vec<Phase>, anyhow::Result<String>)> {
    let refusal = refusal(program, &folder.join("tiny"));
    let budget = options.budget.to_string();
    let flags = ["--memory-budget", &budget, "--quota-backend-bytes", "-1"].map(String::from);
    let server = Server::start("etcd-rs", program, folder, load, &flags)?;
    let mut run = Run { options, load, server, phases: Vec::new() };
    run.reads()?;
    let too_long = options.keys * (options.value_bytes + KEY_BYTES) > MESSAGE_MAX;
    for operation in STALLS {
        match operation {
            "list" if too_long => run.list_in_pages()?,
            _ => run.stall(operation)?,
        }
    }
    run.restart("TERM")?;
    run.restart("KILL")?;
    run.lists("lists of 500 after it")?;
    if too_long {
        run.list_refused()?;
    }
    Ok((run.phases, refusal))
}

/// Starts the server with a budget that is too small; gives what it says, if it ends by itself and
/// with a failure.
fn refusal(program: &Path, folder: &Path) -> anyhow::Result<String> {
    let url = || Ok::<_, anyhow::Error>(format!("http://127.0.0.1:{}", free_port()?));
    let (client, peer) = (url()?, url()?);
    let child = Command::new(program)
        .args(["--memory-budget", TINY_BUDGET, "--data-dir"])
        .arg(folder)
        .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
        .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
        .args(["--initial-cluster", &format!("default={peer}")])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let pid = child.id().to_string();
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || sender.send(child.wait_with_output()));
    let Ok(output) = receiver.recv_timeout(REFUSAL) else {
        Command::new("kill").args(["-KILL", &pid]).status()?;
        bail!("it started with {TINY_BUDGET} bytes");
    };
    let output = output?;
    if output.status.success() {
        bail!("it ended without a failure");
    }
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    let line = text.lines().find(|line| line.contains(TINY_TEXT));
    let line = line.with_context(|| format!("it did not say {TINY_TEXT:?} but {text}"))?;
    let message = serde_json::from_str::<Value>(line).ok();
    let message = message.as_ref().and_then(|m| m["error"].as_str());
    Ok(message.unwrap_or(line).to_string())
}

/// One server on its way through the phases.
struct Run<'a> {
    options: &'a Options,
    load: &'a Path,
    server: Server,
    phases: Vec<Phase>,
}

impl Run<'_> {
    fn reads(&mut self) -> anyhow::Result<()> {
        let Options { keys, value_bytes, .. } = *self.options;
        let fill = format!("fill --conns 4 --clients 16 --val-size {value_bytes} --keys {keys}");
        let groups = keys.div_ceil(PER_GROUP);
        self.load("load in transactions of 100", &fill)?;
        let list = format!("list --groups {groups} --conns 4 --clients 16 --max-seconds 20");
        self.load("reads of one random key", &format!("{list} --limit 1 --total 200000"))?;
        self.lists("lists of 500")?;
        let pages = "list --limit 500 --conns 1 --clients 1 --max-seconds 10 --total 100000";
        self.load("limit 500 of all", pages)?;
        self.load("all, in pages of 500", &format!("{pages} --pages"))
    }

    fn lists(&mut self, title: &str) -> anyhow::Result<()> {
        let groups = self.options.keys.div_ceil(PER_GROUP);
        let list = format!("list --groups {groups} --conns 4 --clients 16 --max-seconds 20");
        self.load(title, &format!("{list} --total {}", groups * 2))
    }

    /// A phase that is one run of the load generator.
    fn load(&mut self, title: &str, command: &str) -> anyhow::Result<()> {
        self.forget_peak()?;
        let report = self.server.call(self.load, &words(command))?;
        let rate = classes_rate(&report);
        let took = report["took"].as_f64().unwrap_or(f64::NAN);
        self.done(title, format!("{rate:.0}/s for {took:.1} s"), None)
    }

    /// A phase that is an operation on the whole store, with a probe beside it.
    fn stall(&mut self, operation: &str) -> anyhow::Result<()> {
        // Something to compact and to write back.
        self.server.call(self.load, &words(PRELOAD))?;
        self.forget_peak()?;
        let command = ["stall", "--operation", operation].map(String::from);
        let report = match self.server.call(self.load, &command) {
            Ok(report) => report,
            Err(error) => return self.done(operation, format!("failed: {error}"), None),
        };
        let extra = |name: &str| report["extra"][name].as_f64();
        let took = extra("operation seconds").context("a report without a time")?;
        let stall = extra("stall ms").context("a report without a stall")?;
        self.done(operation, format!("{took:.1} s"), Some(stall))
    }

    /// A list of all that no answer can hold.
    fn list_refused(&mut self) -> anyhow::Result<()> {
        self.forget_peak()?;
        let watch = Stopwatch::start();
        let found = match self.server.call(self.load, &words("list --total 1 --max-seconds 120")) {
            // The load generator shows a status text as it came, percent-encoded.
            Err(error) if format!("{error:#}").replace("%20", " ").contains(TOO_LONG_TEXT) => {
                format!("{REFUSED} in {:.1} s", watch.elapsed().as_secs_f64())
            }
            Err(error) => format!("failed: {error:#}"),
            Ok(_) => "answered".to_string(),
        };
        self.done(LIST_OF_ALL, found, None)
    }

    /// A walk through all keys in long pages, with puts beside it. No control is taken off here.
    fn list_in_pages(&mut self) -> anyhow::Result<()> {
        self.forget_peak()?;
        let pages = words("list --pages --limit 10000 --total 100000 --max-seconds 10");
        let (server, load) = (&self.server, self.load);
        let (probe, walk) = std::thread::scope(|scope| {
            let probe = scope.spawn(|| server.call(load, &words(PROBE)));
            let walk = server.call(load, &pages);
            (probe.join(), walk)
        });
        let probe = probe.map_err(|_| anyhow::anyhow!("the probe panicked"))??;
        let rate = classes_rate(&walk?) * 10_000.0;
        let worst = probe["classes"][0]["latency"]["max"].as_f64().context("no latency")?;
        self.done("list", format!("{rate:.0} keys/s"), Some(worst))
    }

    fn restart(&mut self, signal: &str) -> anyhow::Result<()> {
        if signal == "KILL" {
            // Something that only the log holds.
            self.server.call(self.load, &words(PRELOAD))?;
        }
        self.server.stop(signal)?;
        let took = self.server.restart(self.load)?;
        let title = format!("restart after SIG{signal}");
        self.done(&title, format!("{:.2} s", took.as_secs_f64()), None)
    }

    /// Has the kernel count the peak of resident memory anew.
    fn forget_peak(&self) -> anyhow::Result<()> {
        let file = format!("/proc/{}/clear_refs", self.server.pid()?);
        std::fs::write(&file, "5").with_context(|| format!("writing {file}"))
    }

    fn done(&mut self, title: &str, found: String, stall_ms: Option<f64>) -> anyhow::Result<()> {
        let file = format!("/proc/{}/status", self.server.pid()?);
        let status = std::fs::read_to_string(&file).with_context(|| format!("reading {file}"))?;
        let memory = memory(&status).with_context(|| format!("no memory in {file}"))?;
        let parts = parts(&self.server.metrics()?);
        let phase = Phase { title: title.into(), found, memory, stall_ms, parts };
        println!("{}, {:.1} GB on disk", phase.line(), self.server.disk() as f64 / 1e9);
        self.phases.push(phase);
        Ok(())
    }
}

impl Phase {
    fn line(&self) -> String {
        let Memory { now, peak } = self.memory;
        let stall = self.stall_ms.map_or(String::new(), |ms| format!("{ms:.1} ms"));
        let mut line = format!(
            "{:<28} {:>22} {:>9.0} {:>9.0} {stall:>11}  ",
            self.title,
            self.found,
            now as f64 / MIB,
            peak as f64 / MIB
        );
        for (name, bytes) in &self.parts {
            let _ = write!(line, " {name} {:.0}", bytes / MIB);
        }
        line
    }
}

/// Operations a second of all kinds.
fn classes_rate(report: &Value) -> f64 {
    let classes = report["classes"].as_array();
    classes.map_or(0.0, |all| all.iter().filter_map(|c| c["rate"].as_f64()).sum())
}

/// Resident memory and its peak out of `/proc/*/status`.
fn memory(status: &str) -> Option<Memory> {
    let kib = |name: &str| {
        let line = status.lines().find_map(|l| l.strip_prefix(name))?;
        line.split_whitespace().next()?.parse::<u64>().ok()
    };
    Some(Memory { now: kib("VmRSS:")? << 10, peak: kib("VmHWM:")? << 10 })
}

/// What `/metrics` says about memory: `etcd_rs_memory_<name>_bytes`.
fn parts(metrics: &str) -> Vec<(String, f64)> {
    let part = |line: &str| {
        let (name, bytes) = line.strip_prefix("etcd_rs_memory_")?.split_once("_bytes ")?;
        Some((name.replace('_', " "), bytes.trim().parse().ok()?))
    };
    metrics.lines().filter_map(part).collect()
}

/// A bar and whether it is met.
struct Check {
    met: bool,
    text: String,
}

fn checks(options: &Options, phases: &[Phase], refusal: anyhow::Result<String>) -> Vec<Check> {
    let limit = options.limit();
    let mib = |bytes: u64| bytes as f64 / MIB;
    let worst = |of: fn(&Memory) -> u64| phases.iter().max_by_key(|p| of(&p.memory));
    let memory = |what: &str, of: fn(&Memory) -> u64| {
        let (bytes, title) = worst(of).map_or((0, ""), |p| (of(&p.memory), p.title.as_str()));
        let text = format!("{what} {:.0} MiB ({title}) <= {:.0} MiB", mib(bytes), mib(limit));
        Check { met: bytes <= limit, text }
    };
    let stalls = phases.iter().filter(|p| STALLS.contains(&p.title.as_str()));
    // An operation that failed counts as one that stalls for ever.
    let stalls = stalls.map(|p| (p.stall_ms.unwrap_or(f64::INFINITY), p.title.as_str()));
    let (ms, title) = stalls.max_by(|a, b| a.0.total_cmp(&b.0)).unwrap_or((f64::INFINITY, ""));
    let stall = format!("worst stall {ms:.1} ms ({title}) <= {STALL_BAR_MS} ms");
    let restarts = phases.iter().filter(|p| p.title.starts_with("restart")).count();
    let (refused, told) = match refusal {
        Ok(text) => (true, format!("a tiny budget is refused: {text}")),
        Err(error) => (false, format!("a tiny budget is refused: {error:#}")),
    };
    let mut checks = vec![
        memory("most memory after a phase", |m| m.now),
        memory("most memory within a phase", |m| m.peak),
        Check { met: ms <= STALL_BAR_MS, text: stall },
        Check { met: restarts == 2, text: format!("{restarts} of 2 restarts answered") },
        Check { met: refused, text: told },
    ];
    if let Some(list) = phases.iter().find(|p| p.title == LIST_OF_ALL) {
        let text = format!("a list that no answer can hold is refused: {}", list.found);
        checks.push(Check { met: list.found.starts_with(REFUSED), text });
    }
    checks
}

fn print(phases: &[Phase], checks: &[Check]) {
    println!(
        "\n{:<28} {:>22} {:>9} {:>9} {:>11}   parts, MiB",
        "phase", "time or rate", "RSS MiB", "peak MiB", "worst stall"
    );
    for phase in phases {
        println!("{}", phase.line());
    }
    println!();
    for check in checks {
        println!("{} {}", if check.met { "PASS" } else { "MISS" }, check.text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> Options {
        parse(&[]).unwrap().unwrap()
    }

    fn phase(title: &str, bytes: u64, stall_ms: Option<f64>) -> Phase {
        let memory = Memory { now: bytes, peak: bytes + 1 };
        Phase { title: title.into(), found: String::new(), memory, stall_ms, parts: Vec::new() }
    }

    #[test]
    fn memory_is_read_from_status_and_metrics() {
        let found = memory("Name:\tx\nVmHWM:\t    20 kB\nVmRSS:\t      10 kB\n").unwrap();
        assert_eq!(found, Memory { now: 10 << 10, peak: 20 << 10 });
        let text = "# TYPE etcd_rs_memory_key_bytes gauge\netcd_rs_memory_key_bytes 12\nother 3\n";
        assert_eq!(parts(text), [("key".to_string(), 12.0)]);
    }

    #[test]
    fn every_bar_can_be_missed() {
        let limit = options().limit();
        let met = |phases: &[Phase], refusal| -> Vec<bool> {
            checks(&options(), phases, refusal).iter().map(|c| c.met).collect()
        };
        let good = || {
            let mut all = vec![phase("load", limit - 1, None)];
            all.extend(STALLS.map(|operation| phase(operation, 1, Some(STALL_BAR_MS))));
            all.extend(["restart a", "restart b"].map(|title| phase(title, 1, None)));
            all
        };
        assert_eq!(met(&good(), Ok("no".into())), [true; 5]);
        let mut bad = good();
        bad[0] = phase("load", limit, None);
        bad[1].stall_ms = None;
        bad.pop();
        let refusal = Err(anyhow::anyhow!("it started"));
        assert_eq!(met(&bad, refusal), [true, false, false, false, false]);
    }
}
