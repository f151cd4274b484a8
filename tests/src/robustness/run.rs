//! A whole run: cluster, load, faults, rest, verdict.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::check::{Rule, Verdict, Violation, check};
use super::cluster::Cluster;
use super::faults::{Faults, Kind, Means, commit};
use super::history::{History, Operation};
use super::member::RECOVERY_LIMIT;
use super::net::Layer;
use super::traffic::{self, Traffic};
use super::watchers::{self, Seat, Told};
use super::wire::Wire;
use super::{report, settle, steps};
use crate::random::Random;
use crate::target::{Flavour, Target};

/// What a run is to be.
#[derive(Clone, Debug)]
pub struct RunOptions {
    /// How many members.
    pub members: usize,
    /// Fixes requests and faults.
    pub seed: u64,
    /// How long there is load.
    pub duration: Duration,
    /// Which faults; those that do not apply to the binary or the size are left out.
    pub faults: Vec<Kind>,
    /// The load.
    pub traffic: Traffic,
    /// What carries the faults of the network.
    pub layer: Layer,
    /// The server.
    pub target: Target,
    /// Whether it has failpoints that this may use.
    pub failpoints: bool,
    /// Whether members talk to each other by TLS, with certificates that they make themselves.
    pub peer_tls: bool,
    /// Where to write the record; without it only a bad one is written, to the temporary folder.
    pub folder: Option<PathBuf>,
}

impl RunOptions {
    fn means(&self) -> Means {
        Means {
            members: self.members,
            flavour: self.target.flavour,
            layer: self.layer,
            failpoints: self.failpoints,
            peer_tls: self.peer_tls,
        }
    }
}

/// What came of it.
#[derive(Debug)]
pub struct Report {
    /// The checker's words.
    pub verdict: Verdict,
    /// How often each fault was done.
    pub faults: BTreeMap<Kind, usize>,
    /// Faults that were asked for and cannot happen here.
    pub left_out: Vec<Kind>,
    /// Steps that some member came by, as far as they were counted.
    pub passed: BTreeSet<String>,
    /// What carried the faults.
    pub layers: Vec<String>,
    /// The command that does it again.
    pub replay: String,
    /// Where the record lies.
    pub folder: Option<PathBuf>,
    /// The violations in words.
    pub explanation: String,
}

impl Report {
    /// True if nothing was broken.
    pub fn is_clean(&self) -> bool {
        self.verdict.is_clean()
    }
}

/// The tasks of a run, and what they give when it ends.
struct Load {
    seat: Seat,
    stop: watch::Sender<bool>,
    over: watch::Sender<bool>,
    callers: JoinSet<Vec<Operation>>,
    watchers: JoinSet<()>,
}

impl Load {
    fn start(options: &RunOptions, wire: &Wire) -> Self {
        let (stop, stopped) = watch::channel(false);
        let (over, is_over) = watch::channel(false);
        let seat = Seat {
            wire: wire.clone(),
            told: Told::default(),
            newest: Arc::new(watch::Sender::new(1)),
            stopped: stopped.clone(),
            over: is_over,
            flavour: options.target.flavour,
        };
        let (traffic, seed) = (options.traffic, options.seed);
        let (mut callers, mut watchers) = (JoinSet::new(), JoinSet::new());
        for member in 0..options.members {
            watchers.spawn(watchers::scribe(seat.clone(), member));
        }
        for number in 0..traffic.watchers {
            let random = Random::new(seed ^ (0x3a_u64 << 40) ^ u64::from(number));
            watchers.spawn(watchers::wanderer(seat.clone(), 2000 + number, random));
        }
        for number in 0..traffic.clients {
            let stopped = stopped.clone();
            callers.spawn(traffic::client(number, seed, traffic, wire.clone(), stopped));
        }
        if traffic.compactions {
            callers.spawn(traffic::keeper(seed, seat.clone(), stopped));
        }
        Self { seat, stop, over, callers, watchers }
    }

    async fn stop_calls(&mut self) -> Vec<Operation> {
        self.stop.send_replace(true);
        let mut operations = Vec::new();
        while let Some(done) = self.callers.join_next().await {
            operations.extend(done.expect("a client does not panic"));
        }
        operations
    }

    async fn stop_watchers(&mut self, last: i64) {
        settle::drain(&self.seat.told, last, self.seat.wire.now()).await;
        self.over.send_replace(true);
        while self.watchers.join_next().await.is_some() {}
    }
}

/// The faults that were done, with the words for each.
type Done = Vec<(Kind, String)>;

/// Runs and checks.
///
/// # Errors
///
/// When the cluster does not start at all. A cluster that does not recover is a violation.
pub async fn run(options: &RunOptions) -> Result<Report> {
    let started = Cluster::start(&options.target, options.means(), options.seed).await;
    let mut cluster = started.context("start")?;
    let wire = Wire::new(cluster.endpoints.clone(), cluster.publics.clone());
    let mut history = History { operations: settle::prepare(&wire).await?, ..Default::default() };
    let mut load = Load::start(options, &wire);
    let end = Instant::now() + options.duration;
    let (done, mut violations) = do_faults(options, &mut cluster, &wire, end).await;
    tokio::time::sleep_until(end).await;
    history.operations.extend(load.stop_calls().await);
    violations.extend(finish(&mut cluster, &wire, &mut load, &mut history).await);
    history.watches = load.seat.told.watches();
    history.replacements.clone_from(&cluster.replacements);
    conclude(options, &cluster, &history, done, violations)
}

async fn do_faults(
    options: &RunOptions,
    cluster: &mut Cluster,
    wire: &Wire,
    end: Instant,
) -> (Done, Vec<Violation>) {
    let all = options.faults.iter().copied();
    let kinds: Vec<Kind> = all.filter(|kind| kind.applies(options.means())).collect();
    let mut faults = Faults::new(options.seed, &kinds, options.members);
    let mut done = Done::new();
    while let Some(fault) = faults.draw().filter(|_| Instant::now() < end) {
        let began = super::describe::time(wire.now());
        let limit = Instant::now() + RECOVERY_LIMIT;
        let problem = match tokio::time::timeout_at(limit, commit(cluster, fault, wire)).await {
            Ok(Ok(what)) => {
                done.push((fault.kind(), format!("{began}: {what}")));
                continue;
            }
            Ok(Err(error)) => format!("after {fault}: {error:#}"),
            Err(_) => format!("after {fault}: it took too long"),
        };
        return (done, vec![Violation::new(Rule::NoRecovery, problem)]);
    }
    (done, Vec::new())
}

fn conclude(
    options: &RunOptions,
    cluster: &Cluster,
    history: &History,
    done: Done,
    violations: Vec<Violation>,
) -> Result<Report> {
    let mut verdict = check(history);
    verdict.violations.splice(0..0, violations);
    let mut faults = BTreeMap::new();
    for (kind, _) in &done {
        *faults.entry(*kind).or_default() += 1;
    }
    let explanation = verdict.explain(history, 10);
    let (layers, replay) = (layers(options), replay(options));
    let all = options.faults.iter().copied();
    let left_out = all.filter(|kind| !kind.applies(options.means())).collect();
    let mut passed = cluster.passed.clone();
    passed.retain(|name| steps::names().contains(name.as_str()));
    let folder = None;
    let mut report =
        Report { verdict, faults, left_out, passed, layers, replay, folder, explanation };
    report.folder = match (&options.folder, report.is_clean()) {
        (Some(folder), _) => Some(folder.clone()),
        (None, true) => None,
        (None, false) => Some(tempfile::Builder::new().prefix("robustness-").tempdir()?.keep()),
    };
    if let Some(folder) = &report.folder {
        let told: Vec<String> = done.into_iter().map(|(_, text)| text).collect();
        report::write(folder, &report, history, &told, cluster)?;
    }
    Ok(report)
}

/// Heals, lets everything come to rest and collects what is there. What does not recover is a
/// violation.
async fn finish(
    cluster: &mut Cluster,
    wire: &Wire,
    load: &mut Load,
    history: &mut History,
) -> Vec<Violation> {
    let mut violations = Vec::new();
    let settled = match cluster.heal().await {
        Ok(()) => settle::settle(cluster, wire).await,
        Err(error) => Err(error),
    };
    match settled {
        Ok(settled) => {
            load.stop_watchers(settled.revision).await;
            history.operations.extend(settled.operations);
            history.ends = settled.ends;
        }
        Err(error) => {
            violations.push(Violation::new(Rule::NoRecovery, format!("{error:#}")));
            load.watchers.abort_all();
        }
    }
    cluster.note_passed().await;
    for text in cluster.casualties() {
        violations.push(Violation::new(Rule::MemberDied, text));
    }
    violations
}

fn layers(options: &RunOptions) -> Vec<String> {
    let network = match options.layer {
        Layer::Proxy => "a proxy on every path",
        Layer::Namespaces => "network namespaces (cuts only: no delay, slowness, resets, damage)",
    };
    let mut layers = vec![format!("{} processes", options.members), network.into()];
    layers.extend(options.failpoints.then(|| "failpoints".to_owned()));
    layers.extend(options.peer_tls.then(|| "TLS between members".to_owned()));
    layers
}

/// The steps that no member came by.
#[must_use]
pub fn not_passed(passed: &BTreeSet<String>) -> Vec<&'static str> {
    steps::names().into_iter().filter(|name| !passed.contains(*name)).collect()
}

fn replay(options: &RunOptions) -> String {
    let faults: Vec<String> = options.faults.iter().map(ToString::to_string).collect();
    let faults = if faults.is_empty() { "none".into() } else { faults.join(",") };
    let traffic = options.traffic;
    format!(
        "cargo xtask robustness --seconds {} --seed {} --members {} \
         --faults {faults} --layer {} --clients {} --rate {} --watchers {}{} --binary {}",
        options.duration.as_secs(),
        options.seed,
        options.members,
        if options.layer == Layer::Proxy { "proxy" } else { "namespaces" },
        traffic.clients,
        traffic.calls_per_second,
        traffic.watchers,
        if options.peer_tls { " --tls yes" } else { "" },
        options.target.binary.display()
    )
}

/// A server by its path, with its flavour by what it says of itself.
///
/// # Errors
///
/// When it cannot be executed.
pub fn target_at(binary: PathBuf) -> Result<Target> {
    let output = std::process::Command::new(&binary).arg("--version").output();
    let output = output.with_context(|| format!("execute {}", binary.display()))?;
    let is_35 = String::from_utf8_lossy(&output.stdout).contains("etcd Version: 3.5.");
    let flavour = if is_35 { Flavour::Etcd35 } else { Flavour::Current };
    Ok(Target { binary, flavour })
}
