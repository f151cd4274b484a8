//! Releases carry the program under etcd's names too; what it does under each.
#![allow(clippy::unwrap_used, reason = "a failed step of a test is best shown where it happens")]

use std::path::Path;
use std::process::{Command, Output};

fn run_as(name: &str, argument: &str) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let link = folder.path().join(name);
    std::os::unix::fs::symlink(Path::new(env!("CARGO_BIN_EXE_etcdctl-rs")), &link).unwrap();
    Command::new(link).arg(argument).output().unwrap()
}

#[test]
fn etcdctl_is_the_tool_itself() {
    let output = run_as("etcdctl", "version");
    assert!(output.status.success());
    assert!(output.stdout.starts_with(b"etcdctl version: "), "{output:?}");
}

#[test]
fn etcdutl_says_that_it_is_not_there_yet() {
    for argument in ["snapshot", "version"] {
        let output = run_as("etcdutl", argument);
        assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0), "{output:?}");
        assert!(output.stderr.starts_with(b"Error: etcdutl's offline commands"), "{output:?}");
    }
}
