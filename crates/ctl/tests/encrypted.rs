//! Runs `etcdctl-rs` against an etcd that takes encrypted connections only.
//!
//! Needs `etcd`, from `ETCD_BIN` or from `PATH`; without it the tests only say so.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

/// An etcd with a self-signed certificate.
struct Server {
    process: Child,
    dir: TempDir,
    port: u16,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn find() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os("ETCD_BIN") {
        return Some(path.into());
    }
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join("etcd")).find(|file| file.is_file())
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("it is bound").port()
}

impl Server {
    fn start() -> Option<Self> {
        let Some(program) = find() else {
            println!("skipped: no etcd in PATH or ETCD_BIN");
            return None;
        };
        let (dir, port, peer) = (TempDir::new().expect("a directory"), free_port(), free_port());
        let (client, peer) =
            (format!("https://127.0.0.1:{port}"), format!("http://127.0.0.1:{peer}"));
        let process = Command::new(program)
            .args(["--name", "m1", "--log-level", "error", "--auto-tls", "--data-dir"])
            .arg(dir.path())
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .arg(format!("--initial-cluster=m1={peer}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("etcd starts");
        Some(Self { process, dir, port })
    }

    /// Exit code, standard output and standard error of our tool.
    fn run(&self, line: &str, endpoint: &str) -> (Option<i32>, String, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_etcdctl-rs"));
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("ETCDCTL_")) {
            command.env_remove(name);
        }
        let endpoint = format!("{endpoint}127.0.0.1:{}", self.port);
        let certificate = self.dir.path().join("fixtures/client/cert.pem").display().to_string();
        let words = line.split(' ').map(|word| word.replace("{ca}", &certificate));
        let output = command.args(words).args(["--endpoints", &endpoint]).output();
        let output = output.expect("our tool runs");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
        (output.status.code(), text(output.stdout), text(output.stderr))
    }
}

#[test]
fn an_encrypted_server_is_reached_by_flags_or_by_scheme() {
    let Some(server) = Server::start() else { return };
    // Waits for the server too, which makes its certificate first.
    let first =
        "--insecure-transport=false --insecure-skip-tls-verify --command-timeout 60s put a 1";
    assert_eq!(server.run(first, "").0, Some(0));
    for (line, endpoint) in [
        ("--insecure-skip-tls-verify get a", "https://"),
        ("--cacert {ca} get a", ""),
        ("--cacert {ca} get a", "https://"),
    ] {
        let (code, out, err) = server.run(line, endpoint);
        assert_eq!((code, out.as_str()), (Some(0), "a\n1\n"), "{endpoint} {line}: {err}");
    }
    // Its own address is https, so that --cluster finds it again.
    let (code, out, err) = server.run("--cacert {ca} endpoint health --cluster", "");
    assert!(code == Some(0) && out.contains("is healthy"), "{out}{err}");
}

#[test]
fn a_server_that_nobody_vouches_for_is_named_as_the_reason() {
    let Some(server) = Server::start() else { return };
    let first = "--insecure-skip-tls-verify --command-timeout 60s put a 1";
    assert_eq!(server.run(first, "https://").0, Some(0));
    let (code, _, err) = server.run("--command-timeout 500ms get a", "https://");
    assert_eq!(code, Some(1));
    assert!(err.contains("x509: certificate signed by unknown authority"), "{err}");
    assert!(err.ends_with("\nError: context deadline exceeded\n"), "{err}");
}
