//! `cargo xtask ci`: the only list of checks.
//!
//! People, the hosted workflow and `.ci/run` all run this. Every step runs even when an earlier one
//! failed, so that one run shows everything that is wrong.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail};

use crate::stopwatch::Stopwatch;
use crate::{codegen, simulate, tidy};

/// Code behind features that only the instruction benches and the tests of planted faults turn on.
const CLIPPY: &[&str] = &[
    "clippy",
    "--workspace",
    "--all-targets",
    "--features",
    "etcdrs-server/bench-hooks,etcdrs-tests/planted",
    "--quiet",
    "--",
    "-D",
    "warnings",
];

const STEPS: &[(&str, Step)] = &[
    ("fmt", Step::Cargo(&["fmt", "--all", "--check"])),
    ("codegen", Step::Task(|root| codegen::run(root, &["--check".into()]))),
    ("tidy", Step::Task(tidy::run)),
    ("clippy", Step::Cargo(CLIPPY)),
    // The end-to-end tests start the programs, so these are built before.
    ("build", Step::Cargo(&["build", "--workspace", "--bins", "--quiet"])),
    (
        "test",
        Step::Tests(&[
            "test",
            "--workspace",
            "--no-fail-fast",
            "--lib",
            "--bins",
            "--tests",
            "--examples",
        ]),
    ),
    ("simulation", Step::Simulation),
    ("doc tests", Step::Tests(&["test", "--workspace", "--no-fail-fast", "--doc"])),
    ("deny", Step::Task(deny)),
];

enum Step {
    /// A cargo command.
    Cargo(&'static [&'static str]),
    /// A cargo command that prints `test result:` lines.
    Tests(&'static [&'static str]),
    /// The tests of the simulation, which is built another way.
    Simulation,
    /// A function of this program.
    Task(fn(&Path) -> anyhow::Result<()>),
}

struct Done {
    name: &'static str,
    took: Duration,
    error: Option<String>,
}

/// Runs the steps named in `args`, or all.
pub(crate) fn run(root: &Path, args: &[String]) -> anyhow::Result<()> {
    if let Some(unknown) = args.iter().find(|a| STEPS.iter().all(|(name, _)| name != a)) {
        let names: Vec<&str> = STEPS.iter().map(|(name, _)| *name).collect();
        bail!("no step {unknown:?}; steps: {}", names.join(", "));
    }
    let mut summaries = Vec::new();
    let mut done = Vec::new();
    for (name, step) in STEPS {
        if !args.is_empty() && !args.iter().any(|a| a == name) {
            continue;
        }
        println!("\n=== {name}");
        let watch = Stopwatch::start();
        let result = run_step(root, step, &mut summaries);
        let error = result.err().map(|e| format!("{e:#}"));
        if let Some(error) = &error {
            eprintln!("ci: {name}: {error}");
        }
        done.push(Done { name, took: watch.elapsed(), error });
    }
    report(&done, &summaries)
}

fn run_step(root: &Path, step: &Step, summaries: &mut Vec<String>) -> anyhow::Result<()> {
    match step {
        Step::Cargo(args) => cargo(root, args),
        Step::Tests(args) => {
            let mut cargo = Command::new("cargo");
            tests(cargo.args(*args).current_dir(root), summaries)
        }
        Step::Simulation => tests(&mut simulate::cargo(root), summaries),
        Step::Task(task) => task(root),
    }
}

fn cargo(root: &Path, args: &[&str]) -> anyhow::Result<()> {
    let status = Command::new("cargo").args(args).current_dir(root).status()?;
    if !status.success() {
        bail!("cargo {} failed", args.join(" "));
    }
    Ok(())
}

fn tests(cargo: &mut Command, summaries: &mut Vec<String>) -> anyhow::Result<()> {
    let mut child = cargo.stdout(Stdio::piped()).spawn()?;
    let stdout = child.stdout.take().context("stdout was piped")?;
    for line in BufReader::new(stdout).lines() {
        let line = line?;
        println!("{line}");
        if line.starts_with("test result:") {
            summaries.push(line);
        }
    }
    if !child.wait()?.success() {
        bail!("{cargo:?} failed");
    }
    Ok(())
}

/// Licences, sources and banned libraries; advisories too where `ETCD_RS_ADVISORIES` is set, since
/// their database is fetched from the network.
fn deny(root: &Path) -> anyhow::Result<()> {
    let mut program = Command::new(deny_program());
    program.args(["--all-features", "--config", ".cargo/deny.toml"]);
    program.args(["check", "bans", "licenses", "sources"]);
    if std::env::var_os("ETCD_RS_ADVISORIES").is_some() {
        program.arg("advisories");
    }
    let status = program.current_dir(root).status();
    let status = status.context("cargo-deny is missing; run ./xtask/setup.sh --tests")?;
    if !status.success() {
        bail!("cargo deny failed");
    }
    Ok(())
}

/// The one that setup.sh built, if there is one.
fn deny_program() -> std::path::PathBuf {
    let cache = std::env::var_os("ETCD_RS_CACHE").map(std::path::PathBuf::from);
    let home = || Some(std::path::PathBuf::from(std::env::var_os("HOME")?).join(".cache/etcd-rs"));
    let built = cache.or_else(home).map(|c| c.join("tools/bin/cargo-deny"));
    built.filter(|p| p.is_file()).unwrap_or_else(|| "cargo-deny".into())
}

fn report(done: &[Done], summaries: &[String]) -> anyhow::Result<()> {
    println!("\n=== tests");
    let mut total = [0u64; 3];
    for line in summaries {
        let counts = ["passed", "failed", "ignored"].map(|what| count(line, what));
        // A binary without tests is not worth a line.
        if counts != [0, 0, 0] {
            println!("{line}");
        }
        for (sum, count) in total.iter_mut().zip(counts) {
            *sum += count;
        }
    }
    let [passed, failed, ignored] = total;
    println!("all together: {passed} passed; {failed} failed; {ignored} ignored");

    println!("\n=== steps");
    for step in done {
        let mark = if step.error.is_none() { "ok  " } else { "FAIL" };
        println!("{mark} {:<10} {:>7.1} s", step.name, step.took.as_secs_f64());
    }
    let failed: Vec<&str> = done.iter().filter(|d| d.error.is_some()).map(|d| d.name).collect();
    if !failed.is_empty() {
        bail!("failed: {}", failed.join(", "));
    }
    Ok(())
}

/// The number before `what` in a `test result:` line.
fn count(line: &str, what: &str) -> u64 {
    let words: Vec<&str> = line.split([' ', ';', '.']).filter(|w| !w.is_empty()).collect();
    let at = words.iter().position(|w| *w == what);
    at.and_then(|i| words.get(i.checked_sub(1)?)).and_then(|n| n.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::count;

    #[test]
    fn counts_are_read_from_a_result_line() {
        let line = "test result: ok. 12 passed; 3 failed; 4 ignored; 0 measured; 0 filtered out";
        assert_eq!(["passed", "failed", "ignored", "lost"].map(|w| count(line, w)), [12, 3, 4, 0]);
    }
}
