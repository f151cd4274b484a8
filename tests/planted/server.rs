//! `etcd-rs` with failpoints compiled in. `ETCD_RS_FAILPOINTS` tells it what to do wrong from the
//! start, the port of `ETCD_RS_FAILPOINTS_HTTP` later.

use std::process::ExitCode;

fn main() -> ExitCode {
    match etcdrs_platform::failpoint::serve_control() {
        Ok(None) => {}
        Ok(Some(address)) => eprintln!("failpoints are listened for at {address}"),
        Err(error) => {
            eprintln!("no port for failpoints: {error}");
            return ExitCode::FAILURE;
        }
    }
    // Variables that are not text cannot be ours.
    let environment = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    etcdrs_server::run(std::env::args_os().skip(1), environment)
}
