//! The simulation of three members, with a tokio whose random choices are the seed's too.
//!
//! Tokio draws the order in which it wakes those who wait for the same thing; only a build with
//! `tokio_unstable` lets a test choose these numbers. It costs the server some percent of its
//! speed, so it is a build of its own, in a target folder of its own.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::bail;

const HELP: &str = "\
usage: cargo xtask simulate [options]

  --seeds A..B, --seeds N   these seeds (default: those of CI)
  --trace FILE              write every message, answer and fault of the run
";

/// A cargo command that runs tests of the simulation.
pub(crate) fn cargo(root: &Path) -> Command {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or(root.join("target"), PathBuf::from);
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
    cargo.args(["test", "--package", "etcdrs-tests", "--test", "simulation", "--target-dir"]);
    cargo.arg(target.join("simulation")).current_dir(root);
    cargo.env("RUSTFLAGS", "--cfg tokio_unstable");
    cargo
}

pub(crate) fn run(root: &Path, args: &[String]) -> anyhow::Result<()> {
    let mut cargo = cargo(root);
    let mut args = args.iter();
    let mut chosen = false;
    while let Some(flag) = args.next() {
        if matches!(flag.as_str(), "--help" | "-h") {
            print!("{HELP}");
            return Ok(());
        }
        let Some(value) = args.next() else { bail!("{flag} needs a value\n{HELP}") };
        match flag.as_str() {
            "--seeds" => {
                chosen = true;
                cargo.env("ETCD_RS_TEST_SEEDS", value)
            }
            "--trace" => cargo.env("ETCD_RS_TEST_TRACE", std::path::absolute(value)?),
            other => bail!("unknown flag {other}\n{HELP}"),
        };
    }
    cargo.args(["--quiet", "--", "--nocapture"]);
    if chosen {
        cargo.args(["--ignored", "chosen_seeds"]);
    }
    if !cargo.status()?.success() {
        bail!("the simulation found something");
    }
    Ok(())
}
