//! etcdctl-rs: administer etcd and etcd-rs from the command line.
//!
//! Flags, environment, outputs and exit codes are those of etcdctl 3.7 (reference: ctl.md), so
//! that scripts written for it go on working. The tool also works against etcd 3.4 and later.
//!
//! # Invariants
//! - Formatting is pure: an [`Answer`](print::Answer) in, bytes out; commands never print.
//! - Arguments are checked before the cluster is asked anything, the output format before any
//!   request is sent only for its name: `-w table` of a command without a table fails after the
//!   request was done, as in etcdctl.

mod argify;
mod cli;
mod commands;
mod failure;
mod go;
mod print;
mod secure;
mod session;

use std::ffi::OsString;
use std::process::ExitCode;

use crate::failure::Failure;

/// Runs the tool on the process's arguments and says with which code to exit.
#[must_use]
pub fn main() -> ExitCode {
    run(std::env::args_os().collect())
}

/// Runs the tool on these arguments, the first of which is the program's name.
#[must_use]
pub fn run(args: Vec<OsString>) -> ExitCode {
    let outcome = cli::parse(&args).and_then(|cli| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Failure::error(error.to_string()))?;
        let outcome = runtime.block_on(commands::run(cli, &args));
        // A read of standard input may still block a helper thread; nobody waits for it.
        runtime.shutdown_background();
        outcome
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}
