//! A whole run: cluster, load, faults, rest, verdict.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::check::{Rule, Verdict, Violation, check};
use super::cluster::Cluster;
use super::faults::{Faults, Kind, commit};
use super::history::{History, Operation};
use super::traffic::{self, Traffic};
use super::watchers::{self, Seat, Told};
use super::wire::Wire;
use super::{report, settle};
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
    /// The server.
    pub target: Target,
    /// Where to write the record; without it only a bad one is written, to the temporary folder.
    pub folder: Option<PathBuf>,
}

/// What came of it.
#[derive(Debug)]
pub struct Report {
    /// The checker's words.
    pub verdict: Verdict,
    /// How often each fault was done.
    pub faults: BTreeMap<Kind, usize>,
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

/// Runs and checks.
///
/// # Errors
///
/// When the cluster does not start at all. A cluster that does not recover is a violation.
pub async fn run(options: &RunOptions) -> Result<Report> {
    let flavour = options.target.flavour;
    let kinds: Vec<Kind> = options
        .faults
        .iter()
        .copied()
        .filter(|kind| kind.applies(options.members, flavour))
        .collect();
    let mut cluster =
        Cluster::start(&options.target, options.members, options.seed).await.context("start")?;
    let wire = Wire::new(cluster.endpoints.clone(), cluster.publics.clone());
    let mut history = History { operations: settle::prepare(&wire).await?, ..Default::default() };
    let mut load = Load::start(options, &wire);
    let mut violations = Vec::new();
    let mut done: Vec<(Kind, String)> = Vec::new();
    let mut faults = Faults::new(options.seed, &kinds, options.members);
    let end = Instant::now() + options.duration;
    while let Some(fault) = faults.draw().filter(|_| Instant::now() < end) {
        let began = super::describe::time(wire.now());
        let kind = fault.kind();
        match tokio::time::timeout_at(
            end + super::member::RECOVERY_LIMIT,
            commit(&mut cluster, fault),
        )
        .await
        {
            Ok(Ok(what)) => done.push((kind, format!("{began}: {what}"))),
            Ok(Err(error)) => {
                let text = format!("after {fault}: {error:#}");
                violations.push(Violation::new(Rule::NoRecovery, text));
                break;
            }
            Err(_) => break,
        }
    }
    tokio::time::sleep_until(end).await;
    history.operations.extend(load.stop_calls().await);
    violations.extend(finish(&mut cluster, &wire, &mut load, &mut history).await);
    history.watches = load.seat.told.watches();
    let mut verdict = check(&history);
    verdict.violations.splice(0..0, violations);
    let counted = done.iter().fold(BTreeMap::new(), |mut all, (kind, _)| {
        *all.entry(*kind).or_default() += 1;
        all
    });
    let mut report = Report {
        explanation: verdict.explain(&history, 10),
        verdict,
        faults: counted,
        layers: vec!["processes".into(), "proxy on every path".into()],
        replay: replay(options),
        folder: None,
    };
    let folder = match (&options.folder, report.is_clean()) {
        (Some(folder), _) => Some(folder.clone()),
        (None, true) => None,
        (None, false) => Some(tempfile::Builder::new().prefix("robustness-").tempdir()?.keep()),
    };
    if let Some(folder) = folder {
        let told: Vec<String> = done.into_iter().map(|(_, text)| text).collect();
        report::write(&folder, &report, &history, &told, &cluster)?;
        report.folder = Some(folder);
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
    for text in cluster.casualties() {
        violations.push(Violation::new(Rule::MemberDied, text));
    }
    violations
}

fn replay(options: &RunOptions) -> String {
    let faults: Vec<String> = options.faults.iter().map(ToString::to_string).collect();
    let faults = if faults.is_empty() { "none".into() } else { faults.join(",") };
    let traffic = options.traffic;
    format!(
        "cargo run -p etcdrs-tests --bin robustness -- --seconds {} --seed {} --members {} \
         --faults {faults} --clients {} --rate {} --watchers {} --binary {}",
        options.duration.as_secs(),
        options.seed,
        options.members,
        traffic.clients,
        traffic.calls_per_second,
        traffic.watchers,
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
