//! `cargo xtask dist`: the release archive (storage-and-raft.md, row U62).
//!
//! `etcd-rs-v<version>-linux-<arch>.tar.gz` unpacks to one folder with the programs, README.md,
//! LICENSE and SHA256SUMS. Each program has etcd's name for it too, as a hard link, so that any one
//! of the files can be moved or copied to a folder of programs alone. The same sources give the same
//! names, order, owners and times in the archive.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail, ensure};

const HELP: &str = "\
usage: cargo xtask dist [options]

  --out DIR      where the archive goes (default target/dist)
  --bins DIR     pack the programs of this folder instead of building them
  --fast         compress quickly and less, to try it out
";

/// Programs, and the names of etcd's under which they are known too.
const PROGRAMS: &[(&str, &[&str])] =
    &[("etcd-rs", &["etcd"]), ("etcdctl-rs", &["etcdctl", "etcdutl"]), ("benchmark-rs", &[])];
const PAGES: [&str; 2] = ["README.md", "LICENSE"];
const SUMS: &str = "SHA256SUMS";

/// Runs the task.
pub(crate) fn run(root: &Path, args: &[String]) -> anyhow::Result<()> {
    let (mut out, mut bins) = (root.join("target/dist"), None);
    let mut gzip = "gzip -n -9";
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let mut value = || args.next().with_context(|| format!("{arg} needs a value\n{HELP}"));
        match arg.as_str() {
            "--out" => out = value()?.into(),
            "--fast" => gzip = "gzip -n -1",
            "--bins" => bins = Some(PathBuf::from(value()?)),
            "--help" | "-h" => {
                print!("{HELP}");
                return Ok(());
            }
            other => bail!("unknown option {other:?}\n{HELP}"),
        }
    }
    let bins = match bins {
        Some(bins) => bins,
        None => build(root)?,
    };
    let name = format!("etcd-rs-v{}-linux-{}", version(&bins)?, arch());
    std::fs::create_dir_all(&out)?;
    let folder = out.join(&name);
    collect(root, &bins, &folder)?;
    let archive = format!("{name}.tar.gz");
    pack(root, &out, &name, &archive, gzip)?;
    std::fs::remove_dir_all(&folder)?;
    try_out(&out, &name, &archive)?;
    let sum = shell(Command::new("sha256sum").arg(&archive).current_dir(&out))?;
    std::fs::write(out.join(format!("{archive}.sha256")), &sum)?;
    let path = out.join(&archive);
    let mib = std::fs::metadata(&path)?.len() as f64 / f64::from(1 << 20);
    println!("{} ({mib:.1} MiB)\n{}", path.display(), sum.trim());
    Ok(())
}

fn build(root: &Path) -> anyhow::Result<PathBuf> {
    let mut cargo = Command::new("cargo");
    cargo.args(["build", "--release", "--locked"]);
    for package in ["etcdrs-server", "etcdrs-ctl", "etcdrs-benchmark"] {
        cargo.args(["--package", package]);
    }
    ensure!(cargo.current_dir(root).status()?.success(), "the release build failed");
    Ok(root.join("target/release"))
}

/// What the server says about itself.
fn version(bins: &Path) -> anyhow::Result<String> {
    let told = shell(Command::new(bins.join("etcd-rs")).arg("--version"))?;
    let line = told.lines().find_map(|l| l.strip_prefix("etcd-rs Version: "));
    Ok(line.context("etcd-rs --version names no version")?.trim().to_string())
}

/// The machine's name in etcd's archives.
fn arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// Fills the folder that is to be packed.
fn collect(root: &Path, bins: &Path, folder: &Path) -> anyhow::Result<()> {
    if folder.exists() {
        std::fs::remove_dir_all(folder)?;
    }
    std::fs::create_dir_all(folder)?;
    let mut files: Vec<&str> = PAGES.to_vec();
    for page in PAGES {
        std::fs::copy(root.join(page), folder.join(page))?;
    }
    for (program, names) in PROGRAMS {
        let path = folder.join(program);
        let from = bins.join(program);
        std::fs::copy(&from, &path).with_context(|| format!("copying {}", from.display()))?;
        // Lines of sources are four fifths of a program; names of functions stay for traces.
        shell(Command::new("strip").arg("--strip-debug").arg(&path))?;
        for name in *names {
            std::fs::hard_link(&path, folder.join(name))?;
        }
        files.push(program);
        files.extend(*names);
    }
    files.sort_unstable();
    let sums = shell(Command::new("sha256sum").args(&files).current_dir(folder))?;
    std::fs::write(folder.join(SUMS), sums)?;
    Ok(())
}

fn pack(root: &Path, out: &Path, name: &str, archive: &str, gzip: &str) -> anyhow::Result<()> {
    let time = shell(Command::new("git").args(["log", "-1", "--format=@%ct"]).current_dir(root))?;
    let mut tar = Command::new("tar");
    tar.args(["--create", "--sort=name", "--owner=0", "--group=0", "--numeric-owner"]);
    tar.args([format!("--mtime={}", time.trim()), format!("--use-compress-program={gzip}")]);
    tar.args(["--file", archive, name]).current_dir(out);
    shell(&mut tar).map(drop)
}

/// Does with the archive what its users do: unpack, check sums, copy to a folder of programs, run.
fn try_out(out: &Path, name: &str, archive: &str) -> anyhow::Result<()> {
    let trial = std::env::temp_dir().join(format!("etcd-rs-dist-{}", std::process::id()));
    let bin = trial.join("bin");
    std::fs::create_dir_all(&bin)?;
    shell(Command::new("tar").arg("-xzf").arg(out.join(archive)).current_dir(&trial))?;
    let unpacked = trial.join(name);
    shell(Command::new("sha256sum").args(["--check", "--quiet", SUMS]).current_dir(&unpacked))?;
    for (program, argument) in [("etcd", "--version"), ("etcdctl", "version")] {
        std::fs::copy(unpacked.join(program), bin.join(program))?;
        let told = shell(Command::new(bin.join(program)).arg(argument))?;
        let first = told.lines().next().unwrap_or_default().to_string();
        println!("{program} {argument}: {first}");
        let expected = first.to_lowercase().starts_with(&format!("{program} version: "));
        ensure!(expected, "{program} {argument} answers {first:?}");
    }
    std::fs::remove_dir_all(&trial)?;
    Ok(())
}

/// Runs a command; gives what it prints.
fn shell(command: &mut Command) -> anyhow::Result<String> {
    let output = command.output().with_context(|| format!("running {command:?}"))?;
    if !output.status.success() {
        bail!("{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8(output.stdout)?)
}
