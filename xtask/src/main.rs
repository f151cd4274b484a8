//! Repository tasks: `cargo xtask <task>`.
//!
//! Everything a person or a machine does to this repository beside plain cargo commands is a task
//! here, so that it is written once, in Rust, and works on every system cargo works on.

mod bench;
mod ci;
mod cluster;
mod codegen;
mod dist;
mod instructions;
mod simulate;
mod size;
mod stopwatch;
mod tidy;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

const HELP: &str = "\
usage: cargo xtask <task> [options]

  ci [step...]        every check there is, or only the named steps
  tidy                the house rules no compiler checks
  bench [--help]      this server and a real etcd side by side
  instructions        instruction counts of the hot functions against the committed ones
  size [--help]       memory and stalls of this server with a store larger than its memory budget
  cluster [--help]    a cluster of this server on this machine, until Ctrl-C
  robustness [--help] a cluster under load and faults, judged by the checker
  simulate [--help]   three members on virtual time; every run repeatable from its seed
  dist [--help]       the release archive
  codegen [--check]   generate proto/src/gen from the .proto files (or check that it is current)
";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("xtask: {e:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &[String]) -> anyhow::Result<()> {
    let root = workspace_root();
    match args.split_first().map(|(task, rest)| (task.as_str(), rest)) {
        Some(("ci", rest)) => ci::run(&root, rest),
        Some(("tidy", _)) => tidy::run(&root),
        Some(("bench", rest)) => bench::run(&root, rest),
        Some(("instructions", rest)) => instructions::run(&root, rest),
        Some(("size", rest)) => size::run(&root, rest),
        Some(("cluster", rest)) => cluster::run(&root, rest),
        Some(("robustness", rest)) => robustness(&root, rest),
        Some(("simulate", rest)) => simulate::run(&root, rest),
        Some(("dist", rest)) => dist::run(&root, rest),
        Some(("codegen", rest)) => codegen::run(&root, rest),
        Some(("help" | "--help" | "-h", _)) | None => {
            print!("{HELP}");
            Ok(())
        }
        Some((other, _)) => anyhow::bail!("unknown task {other:?}\n{HELP}"),
    }
}

/// Runs the program of the tests package, which this one does not depend on.
fn robustness(root: &Path, args: &[String]) -> anyhow::Result<()> {
    let cargo = std::env::var_os("CARGO").unwrap_or("cargo".into());
    let status = std::process::Command::new(cargo)
        .args(["run", "--quiet", "--package", "etcdrs-tests", "--bin", "robustness", "--"])
        .args(args)
        .current_dir(root)
        .status()?;
    anyhow::ensure!(status.success(), "robustness: not clean");
    Ok(())
}

/// The folder that holds the workspace's Cargo.toml.
fn workspace_root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask/ lies in the root").to_path_buf()
}
