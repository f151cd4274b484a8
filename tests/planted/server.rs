//! `etcd-rs` with failpoints compiled in. `ETCD_RS_FAILPOINTS` tells it what to do wrong.

use std::process::ExitCode;

fn main() -> ExitCode {
    // Variables that are not text cannot be ours.
    let environment = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    etcdrs_server::run(std::env::args_os().skip(1), environment)
}
