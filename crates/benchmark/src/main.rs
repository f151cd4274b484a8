//! `benchmark-rs`: see the library.

use std::process::ExitCode;

use clap::Parser as _;
use etcdrs_benchmark::cli::{self, Cli};

fn main() -> ExitCode {
    match cli::run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("benchmark-rs: {e:#}");
            ExitCode::FAILURE
        }
    }
}
