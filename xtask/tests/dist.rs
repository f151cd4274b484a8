//! `cargo xtask dist` as its users meet it: an archive whose programs run wherever they are copied.
//!
//! The programs are those beside xtask's own, as in `cluster.rs`; without them the test stands aside.
#![allow(clippy::unwrap_used, reason = "a failed step of a test is best shown where it happens")]

use std::path::{Path, PathBuf};
use std::process::Command;

const XTASK: &str = env!("CARGO_BIN_EXE_xtask");

/// A folder of this test alone, gone with it.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// What a program prints; it must end well.
fn run(program: &Path, args: &[&str]) -> String {
    let output = Command::new(program).args(args).env_clear().output().unwrap();
    assert!(output.status.success(), "{program:?} {args:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// U62.
#[test]
fn u_62_programs_of_the_archive_run_after_copying() {
    let bins = Path::new(XTASK).parent().unwrap();
    if ["etcd-rs", "etcdctl-rs", "benchmark-rs"].iter().any(|name| !bins.join(name).is_file()) {
        eprintln!("the programs are not built: nothing to test");
        return;
    }
    let folder = Folder(std::env::temp_dir().join(format!("etcd-rs-u62-{}", std::process::id())));
    let (out, bin) = (folder.0.join("out"), folder.0.join("bin"));
    std::fs::create_dir_all(&bin).unwrap();
    let options = ["dist", "--fast", "--bins", bins.to_str().unwrap(), "--out"];
    let made = Command::new(XTASK).args(options).arg(&out).output().unwrap();
    assert!(made.status.success(), "{made:?}");

    let archives = std::fs::read_dir(&out).unwrap().map(|entry| entry.unwrap().path());
    let archive = archives.into_iter().find(|path| path.extension().is_some_and(|e| e == "gz"));
    let archive = archive.expect("an archive");
    let unpack = Command::new("tar").arg("-xzf").arg(&archive).current_dir(&folder.0).status();
    assert!(unpack.unwrap().success());
    let name = archive.file_name().unwrap().to_str().unwrap().trim_end_matches(".tar.gz");
    for program in ["etcd", "etcdctl", "etcd-rs", "etcdctl-rs"] {
        std::fs::copy(folder.0.join(name).join(program), bin.join(program)).unwrap();
    }
    std::fs::remove_dir_all(folder.0.join(name)).unwrap();
    assert!(run(&bin.join("etcd"), &["--version"]).starts_with("etcd Version: "));
    assert!(run(&bin.join("etcd-rs"), &["--help"]).contains("--initial-cluster"));
    assert!(run(&bin.join("etcdctl"), &["version"]).starts_with("etcdctl version: "));
    assert!(run(&bin.join("etcdctl-rs"), &["--help"]).contains("member"));
}
