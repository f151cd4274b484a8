//! Runs a cluster whose members break a promise, and the same cluster with members that do not.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use etcdrs_tests::robustness::check::Rule;
use etcdrs_tests::robustness::faults::Kind;
use etcdrs_tests::robustness::net::Layer;
use etcdrs_tests::robustness::run::{Report, RunOptions, run};
use etcdrs_tests::robustness::traffic::Traffic;
use etcdrs_tests::target::{Flavour, Target, repository};
use tokio::sync::Mutex;

/// A fault of ours, and the run that is to find it.
#[derive(Clone, Debug)]
pub(crate) struct Planted {
    /// Its failpoint, with the action if that is more than `return`.
    pub(crate) fault: &'static str,
    /// The only member that has it; none: all have it.
    pub(crate) only_at: Option<usize>,
    /// Failpoints of both runs, which are no faults but give this one its chance.
    pub(crate) chance: &'static str,
    /// How many members there are.
    pub(crate) members: usize,
    /// What goes wrong around them.
    pub(crate) kinds: &'static [Kind],
    /// How long there is load.
    pub(crate) seconds: u64,
    /// Seed of the run.
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
            members: 1,
            kinds: &[],
            seconds: 3,
            seed: 1,
            rules,
        }
    }

    fn options(&self, binary: PathBuf) -> RunOptions {
        RunOptions {
            members: self.members,
            seed: self.seed,
            duration: Duration::from_secs(self.seconds),
            faults: self.kinds.to_vec(),
            traffic: Traffic::default(),
            layer: Layer::Proxy,
            target: Target { binary, flavour: Flavour::Current },
            folder: None,
        }
    }

    fn failpoints(&self) -> String {
        let action = if self.fault.contains('=') { "" } else { "=return" };
        format!("{}{action};{}", self.fault, self.chance)
    }

    /// Runs with the fault until it is found, and without it.
    pub(crate) async fn is_found(self) {
        // One cluster at a time: two cores are few.
        let mut clean = TURN.lock().await;
        let folder = tempfile::tempdir().unwrap();
        let binary = wrapped(folder.path(), &self.failpoints(), self.only_at, self.chance);
        let mut options = self.options(binary);
        options.folder = Some(folder.path().join("record"));
        let begun = Instant::now();
        let report = run(&options).await.unwrap_or_else(|error| panic!("{error:#}"));
        let seconds = begun.elapsed().as_secs_f64();
        let broken: BTreeSet<Rule> = report.verdict.violations.iter().map(|v| v.rule).collect();
        println!("FOUND | {} | {broken:?} | {} | {seconds:.1}", self.fault, self.seed);
        assert!(
            self.rules.iter().any(|rule| broken.contains(rule)),
            "{} was not found by {:?}: {broken:?}\n{}",
            self.fault,
            self.rules,
            told(&report)
        );
        // The same run serves several faults.
        let key = format!("{:?}", (self.members, self.kinds, self.seconds, self.seed, self.chance));
        if !clean.contains(&key) {
            let binary = wrapped(folder.path(), self.chance, None, self.chance);
            let report = run(&self.options(binary)).await;
            let report = report.unwrap_or_else(|error| panic!("{error:#}"));
            assert!(report.is_clean(), "without a fault: {}", told(&report));
            clean.insert(key);
        }
    }
}

/// Whose turn it is, and the runs that were seen to be clean.
static TURN: Mutex<BTreeSet<String>> = Mutex::const_new(BTreeSet::new());

fn told(report: &Report) -> String {
    let Report { faults, explanation, folder, verdict, .. } = report;
    format!("{}\nfaults: {faults:?}\n{explanation}\nrecord: {folder:?}", verdict.counts)
}

/// A script that starts the server with failpoints, and members other than `only_at` with `others`.
fn wrapped(folder: &Path, failpoints: &str, only_at: Option<usize>, others: &str) -> PathBuf {
    let path = folder.join("etcd-rs");
    let server = server().display();
    let start =
        |failpoints: &str| format!("ETCD_RS_FAILPOINTS='{failpoints}' exec {server} \"$@\"");
    let which = only_at.map_or("*".into(), |member| format!("--name=m{member}"));
    let text = format!(
        "#!/bin/sh\ncase \"$1\" in\n{which}) {} ;;\n*) {} ;;\nesac\n",
        start(failpoints),
        start(others)
    );
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

/// Builds the server with failpoints unless it is fresh.
fn server() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let exe = std::env::current_exe().unwrap();
        let profile = exe.ancestors().find(|dir| dir.join("deps").is_dir()).unwrap();
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut build = Command::new(cargo);
        build.args(["build", "--quiet", "-p", "etcdrs-tests", "--features", "planted"]);
        build.args(["--bin", "etcd-rs-planted", "--target-dir"]).arg(profile.parent().unwrap());
        if profile.file_name().is_some_and(|name| name == "release") {
            build.arg("--release");
        }
        let output = build.current_dir(repository()).output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "cannot build the server:\n{told}");
        profile.join("etcd-rs-planted")
    })
}
