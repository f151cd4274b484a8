//! etcd's own etcdctl 3.5.1, unchanged.
#![expect(clippy::unwrap_used, reason = "a helper of tests, where a panic is the report")]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::harness::{Setup, follow};
use crate::pki::{Leaf, Pki, client};

/// Between two writes that a watch should see.
const PAUSE: Duration = Duration::from_millis(100);

fn find() -> Option<PathBuf> {
    let named = std::env::var_os("ETCDCTL_BIN").map(PathBuf::from);
    let ours = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.testenv/bin/etcdctl");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let in_path = std::env::split_paths(&path).map(|dir| dir.join("etcdctl")).collect::<Vec<_>>();
    named.into_iter().chain([ours]).chain(in_path).find(|file| file.is_file())
}

struct Ctl {
    program: PathBuf,
    flags: Vec<String>,
    dir: PathBuf,
}

impl Ctl {
    fn command(&self, arguments: &str) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.flags).args(arguments.split(' ')).current_dir(&self.dir);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    async fn run(&self, arguments: &str) -> Result<String, String> {
        finish(self.command(arguments)).await
    }
}

async fn finish(mut command: Command) -> Result<String, String> {
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    if output.status.success() {
        Ok(text)
    } else {
        Err(text + &String::from_utf8_lossy(&output.stderr))
    }
}

/// Flags for etcdctl: the CA and the certificate of a client.
fn flags(pki: &Pki, endpoint: &str, leaf: &Leaf) -> Vec<String> {
    let (cert, key) = pki.issue("client", leaf);
    vec![
        format!("--endpoints={endpoint}"),
        "--command-timeout=3s".into(),
        format!("--cacert={}", pki.path("ca.pem").display()),
        format!("--cert={}", cert.display()),
        format!("--key={}", key.display()),
    ]
}

#[tokio::test]
async fn etcdctl_speaks_tls_with_client_certificates() {
    let Some(program) = find() else {
        println!("skipped: no etcdctl");
        return;
    };
    let pki = Pki::new();
    let mut member = Setup::secure().tls("", &pki.strict_server()).start().await;
    let dir = member.dir().to_owned();
    let ctl = Ctl { flags: flags(&pki, &member.client, &client()), program, dir };
    let mut watch = ctl.command("watch key").spawn().unwrap();
    let mut seen = follow(watch.stdout.take().unwrap());
    // Bigger than a TLS record, and than what a connection buffers.
    let value = "v".repeat(700_000);
    std::fs::write(member.dir().join("value"), &value).unwrap();
    let mut put = ctl.command("put big");
    put.stdin(std::fs::File::open(member.dir().join("value")).unwrap());
    assert_eq!(finish(put).await.as_deref(), Ok("OK\n"));
    assert_eq!(ctl.run("get big --print-value-only").await.unwrap().trim(), value);
    // The watch may begin after a put; one of them it will see.
    while !seen.borrow_and_update().contains("PUT\nkey\nvalue\n") {
        assert_eq!(ctl.run("put key value").await.as_deref(), Ok("OK\n"));
        let _ = tokio::time::timeout(PAUSE, seen.changed()).await;
    }
    watch.kill().unwrap();
    watch.wait().unwrap();
    let status = ctl.run("endpoint status -w table").await.unwrap();
    assert!(status.contains("3.7.1"), "{status}");
    assert!(ctl.run("endpoint health").await.is_ok());

    let bare = Ctl { flags: ctl.flags[..3].to_vec(), ..ctl };
    assert!(bare.run("get key").await.is_err());
    member.logs("tls: client didn't provide a certificate").await;
}

/// Sockets by a name that is a host; etcd's client sends the name of the socket as the host, and
/// one with a slash is none to hyper's HTTP/2.
#[tokio::test]
async fn etcdctl_speaks_through_unix_sockets() {
    let Some(program) = find() else {
        println!("skipped: no etcdctl");
        return;
    };
    let pki = Pki::new();
    let mut setup = Setup::secure().tls("", &pki.server());
    setup.client = "unix://localhost:1,unixs://localhost:2".into();
    let member = setup.start().await;
    let encrypted = flags(&pki, "unixs://localhost:2", &client());
    // This etcdctl encrypts as soon as it is given certificates.
    for flags in [vec!["--endpoints=unix://localhost:1".into()], encrypted] {
        let ctl = Ctl { program: program.clone(), flags, dir: member.dir().to_owned() };
        assert_eq!(ctl.run("put key value").await.as_deref(), Ok("OK\n"), "{}", member.log());
    }
}
