//! The failpoints of a running member, and the binary that has them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::target::repository;

/// What a member reads at its start: `name=action;name=action`.
pub(super) const ARMED_VARIABLE: &str = "ETCD_RS_FAILPOINTS";
/// Where a member listens for requests about its failpoints.
pub(super) const CONTROL_VARIABLE: &str = "ETCD_RS_FAILPOINTS_HTTP";
/// What a member says before a failpoint ends it; its name follows.
pub(super) const EXIT_SIGN: &str = "failpoint exit: ";
/// What the binary says of itself when it has failpoints.
const SIGN: &str = "failpoints are listened for at";

/// A member may be busy, or asleep in a failpoint of its own.
const LIMIT: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(10);

/// The control port of one member.
#[derive(Clone, Debug)]
pub struct Control {
    /// `host:port`.
    pub address: String,
}

impl Control {
    /// Arms a failpoint.
    pub async fn arm(&self, name: &str, action: &str) -> Result<()> {
        match self.ask("PUT", name, action).await? {
            (204, _) => Ok(()),
            (code, text) => bail!("{name}={action}: {code} {text}"),
        }
    }

    /// Disarms a failpoint, and tells how often it acted; `None` if it was not armed.
    pub async fn disarm(&self, name: &str) -> Result<Option<u64>> {
        match self.ask("DELETE", name, "").await? {
            (404, _) => Ok(None),
            (_, struck) => Ok(Some(struck.parse()?)),
        }
    }

    /// How often each failpoint was passed, and acted since it was armed.
    pub async fn counts(&self) -> Result<BTreeMap<String, (u64, u64)>> {
        let (_, text) = self.ask("GET", "", "").await?;
        let line = |line: &str| {
            let mut words = line.split(' ');
            let name = words.next()?.to_owned();
            let mut count = || words.next()?.parse().ok();
            Some((name, (count()?, count()?)))
        };
        Ok(text.lines().filter_map(line).collect())
    }

    /// A process that was started just now does not listen yet.
    async fn connect(&self) -> TcpStream {
        loop {
            if let Ok(stream) = TcpStream::connect(&self.address).await {
                return stream;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn ask(&self, method: &str, name: &str, body: &str) -> Result<(u16, String)> {
        let asking = async {
            let mut stream = self.connect().await;
            let length = body.len();
            let request =
                format!("{method} /{name} HTTP/1.1\r\nContent-Length: {length}\r\n\r\n{body}");
            stream.write_all(request.as_bytes()).await?;
            let mut text = String::new();
            stream.read_to_string(&mut text).await?;
            let (head, body) = text.split_once("\r\n\r\n").context("no answer")?;
            let code = head.split(' ').nth(1).context("no status")?.parse()?;
            anyhow::Ok((code, body.to_owned()))
        };
        tokio::time::timeout(LIMIT, asking).await.context("no answer in time")?
    }
}

/// Whether a binary can be told of failpoints while it runs.
pub fn has_failpoints(binary: &Path) -> bool {
    let output =
        Command::new(binary).arg("--version").env(CONTROL_VARIABLE, "127.0.0.1:0").output();
    output.is_ok_and(|output| String::from_utf8_lossy(&output.stderr).contains(SIGN))
}

/// Builds our server with failpoints unless it is fresh, optimised on request or if this program
/// is, and returns its path.
///
/// # Errors
///
/// When it cannot be built.
pub fn build(release: bool) -> Result<PathBuf> {
    let exe = std::env::current_exe()?;
    let profile = exe.ancestors().find(|dir| dir.join("deps").is_dir());
    let profile = profile.context("this program lies in no cargo target folder")?;
    let target = profile.parent().context("target folder")?;
    let release = release || profile.file_name().is_some_and(|name| name == "release");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    build.args(["build", "--quiet", "-p", "etcdrs-tests", "--features", "planted"]);
    build.args(["--bin", "etcd-rs-planted", "--target-dir"]).arg(target);
    build.args(release.then_some("--release"));
    let output = build.current_dir(repository()).output()?;
    if !output.status.success() {
        bail!("cannot build the server:\n{}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(target.join(if release { "release" } else { "debug" }).join("etcd-rs-planted"))
}
