//! `etcdctl-rs`; everything is in the library.

use std::ffi::OsStr;
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    // Releases link etcdutl to this program, so that whoever relies on it is told instead of left
    // with "command not found".
    let name = std::env::args_os().next();
    if name.as_deref().map(Path::new).and_then(Path::file_stem) == Some(OsStr::new("etcdutl")) {
        eprintln!(
            "Error: etcdutl's offline commands are not available in this version of etcd-rs; \
             `etcdctl snapshot save` and `etcdctl defrag` work on running members"
        );
        return ExitCode::FAILURE;
    }
    etcdrs_ctl::main()
}
