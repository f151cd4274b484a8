//! What the program tells whoever started it through `NOTIFY_SOCKET`, as systemd does.
#![allow(clippy::unwrap_used, reason = "a failed step of a test is best shown where it happens")]

use std::net::TcpListener;
use std::os::unix::net::UnixDatagram;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Far above what a start takes; a test that waits this long has failed.
const PATIENCE: Duration = Duration::from_secs(60);

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn url() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

#[test]
fn readiness_and_stopping_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let next = || {
        let mut notice = [0; 256];
        let length = socket.recv(&mut notice).unwrap();
        String::from_utf8(notice[..length].to_vec()).unwrap()
    };
    let (client, peer) = (url(), url());
    let mut server = Running(
        Command::new(env!("CARGO_BIN_EXE_etcd-rs"))
            .arg("--data-dir")
            .arg(folder.path().join("data"))
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &format!("default={peer}")])
            .env("NOTIFY_SOCKET", &path)
            .stderr(Stdio::null())
            .spawn()
            .unwrap(),
    );
    assert_eq!(next().trim_end(), "READY=1");
    let mut kill = Command::new("kill");
    assert!(kill.arg(server.0.id().to_string()).status().unwrap().success());
    assert_eq!(next().trim_end(), "STOPPING=1");
    server.0.wait().unwrap();
}
