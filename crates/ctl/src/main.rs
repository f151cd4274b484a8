//! `etcdctl-rs`; everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    etcdrs_ctl::main()
}
