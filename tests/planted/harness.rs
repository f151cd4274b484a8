//! Runs a cluster whose members break a promise, and the same cluster with members that do not.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use etcdrs_tests::robustness::check::Rule;
use etcdrs_tests::robustness::failpoints;
use etcdrs_tests::robustness::faults::Kind;
use etcdrs_tests::robustness::net::Layer;
use etcdrs_tests::robustness::run::{Report, RunOptions, run};
use etcdrs_tests::robustness::traffic::Traffic;
use etcdrs_tests::target::{Flavour, Target};
use tokio::sync::Mutex;
use tokio::time::Instant;

/// A fault of ours, and the run that is to find it.
#[derive(Clone, Debug)]
pub(crate) struct Planted {
    /// Its failpoint, with the action if that is more than `return`.
    pub(crate) fault: &'static str,
    /// The only member that has it; none: all have it.
    pub(crate) only_at: Option<usize>,
    /// Failpoints of both runs, which are no faults but give this one its chance.
    pub(crate) chance: &'static str,
    /// Flags of all members, which overrule those of other runs.
    pub(crate) flags: &'static str,
    /// Whether what goes wrong around them may use failpoints too.
    pub(crate) failpoints: bool,
    /// How many members there are.
    pub(crate) members: usize,
    /// How many clients there are.
    pub(crate) clients: u32,
    /// What goes wrong around them.
    pub(crate) kinds: &'static [Kind],
    /// How long there is load.
    pub(crate) seconds: u64,
    /// Seed of the first run.
    pub(crate) seed: u64,
    /// Rules of which at least one has to be found broken.
    pub(crate) rules: &'static [Rule],
}

impl Planted {
    /// A fault that one calm member shows in no time.
    pub(crate) const fn new(fault: &'static str, rules: &'static [Rule]) -> Self {
        Self {
            fault,
            only_at: None,
            chance: "",
            flags: "",
            failpoints: false,
            members: 1,
            clients: 8,
            kinds: &[],
            seconds: 3,
            seed: 1,
            rules,
        }
    }

    async fn run(&self, seed: u64, binary: PathBuf, record: Option<&Path>) -> Report {
        let options = RunOptions {
            members: self.members,
            seed,
            duration: Duration::from_secs(self.seconds),
            faults: self.kinds.to_vec(),
            traffic: Traffic { clients: self.clients, ..Traffic::default() },
            layer: Layer::Proxy,
            target: Target { binary, flavour: Flavour::Current },
            failpoints: self.failpoints,
            peer_tls: false,
            folder: record.map(Path::to_path_buf),
        };
        run(&options).await.unwrap_or_else(|error| panic!("seed {seed}: {error:#}"))
    }

    /// Runs with the fault until it is found, and once without it, which must be clean.
    pub(crate) async fn must_be_found(self) {
        // One cluster at a time: two cores are few.
        let mut clean = TURN.lock().await;
        let folder = tempfile::tempdir().unwrap();
        server();
        let begun = Instant::now();
        let mut seed = self.seed;
        // What a seed fixes are the requests; on a busy machine few of them get through.
        while !self.shows(seed, folder.path()).await {
            seed += 1;
            assert!(seed < self.seed + ATTEMPTS, "{} was not found", self.fault);
        }
        let took = begun.elapsed().as_secs_f64();
        println!("FOUND {} with seed {seed} in {took:.1} s", self.fault);
        let Self { members, clients, kinds, seconds, chance, flags, .. } = self;
        let key = format!("{:?}", (members, clients, kinds, seconds, seed, chance, flags));
        if !clean.contains(&key) {
            let binary = self.wrapped(folder.path(), self.chance);
            let mut seed = seed;
            loop {
                let report = self.run(seed, binary.clone(), None).await;
                assert!(report.is_clean(), "without a fault: {}", told(&report));
                if report.verdict.counts.is_enough() {
                    break;
                }
                seed += 1;
                assert!(seed < self.seed + 2 * ATTEMPTS, "too little to judge by");
            }
            clean.insert(key);
        }
    }

    async fn shows(&self, seed: u64, folder: &Path) -> bool {
        let action = if self.fault.contains('=') { "" } else { "=return" };
        let binary = self.wrapped(folder, &format!("{}{action};{}", self.fault, self.chance));
        let report = self.run(seed, binary, Some(&folder.join("record"))).await;
        let broken: BTreeSet<Rule> = report.verdict.violations.iter().map(|v| v.rule).collect();
        let by = self.rules.iter().find(|rule| broken.contains(rule));
        println!("{}: {by:?} of {broken:?}\n  {}", self.fault, report.verdict.counts);
        by.is_some()
    }

    /// A script that starts the server with failpoints where they are wanted.
    fn wrapped(&self, folder: &Path, failpoints: &str) -> PathBuf {
        let path = folder.join("etcd-rs");
        let (server, flags) = (server().display(), self.flags);
        let start = |failpoints: &str| {
            format!("ETCD_RS_FAILPOINTS='{failpoints}' exec {server} \"$@\" {flags}")
        };
        let which = self.only_at.map_or("*".into(), |member| format!("--name=m{member}"));
        let (one, other) = (start(failpoints), start(self.chance));
        let text = format!("#!/bin/sh\ncase \"$1\" in\n{which}) {one} ;;\n*) {other} ;;\nesac\n");
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path
    }
}

/// Runs that a fault has to be found in.
const ATTEMPTS: u64 = 4;

/// Whose turn it is, and the runs that were seen to be clean.
static TURN: Mutex<BTreeSet<String>> = Mutex::const_new(BTreeSet::new());

fn told(report: &Report) -> String {
    let Report { faults, explanation, folder, verdict, .. } = report;
    format!("{}\nfaults: {faults:?}\n{explanation}\nrecord: {folder:?}", verdict.counts)
}

/// Builds the server with failpoints unless it is fresh.
fn server() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| failpoints::build(false).unwrap())
}
