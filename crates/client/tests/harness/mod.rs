//! A real etcd, and a proxy that can cut its connections.
#![expect(clippy::unwrap_used, reason = "a helper of tests, where a panic is the report")]
#![allow(dead_code, reason = "every test uses a part of it")]

use std::env;
use std::net::TcpListener as StdListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use etcdrs_client::{Client, Config, pb};
use etcdrs_proto::authpb;
use etcdrs_proto::etcdserverpb::auth_client::AuthClient;
use tempfile::TempDir;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tonic::transport::Channel;

/// Longer than anything here takes; a test that hangs ends by it.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// An etcd of one member on a directory of its own.
pub(crate) struct Server {
    program: PathBuf,
    process: Child,
    dir: TempDir,
    client_port: u16,
    peer_port: u16,
    flags: Vec<String>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A port that nobody listens on now.
pub(crate) fn free_port() -> u16 {
    StdListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn find() -> Option<PathBuf> {
    if let Some(path) = env::var_os("ETCD_BIN") {
        return Some(path.into());
    }
    let path = env::var_os("PATH")?;
    env::split_paths(&path).map(|dir| dir.join("etcd")).find(|file| file.is_file())
}

impl Server {
    /// Starts one; `None`, with a line that says so, where there is no etcd.
    pub(crate) fn start() -> Option<Self> {
        Self::start_with(&[])
    }

    /// Starts one with more flags. It listens for encrypted connections if any of them asks for
    /// certificates.
    pub(crate) fn start_with(flags: &[String]) -> Option<Self> {
        let Some(program) = find() else {
            println!("skipped: no etcd in PATH or ETCD_BIN");
            return None;
        };
        let (dir, client_port, peer_port) = (TempDir::new().unwrap(), free_port(), free_port());
        let process = Command::new("true").spawn().unwrap();
        let flags = flags.to_vec();
        let mut server = Self { program, process, dir, client_port, peer_port, flags };
        server.spawn();
        Some(server)
    }

    fn spawn(&mut self) {
        let encrypted = self.flags.iter().any(|flag| flag.contains("cert") || flag.contains("tls"));
        let scheme = if encrypted { "https" } else { "http" };
        let client = format!("{scheme}://127.0.0.1:{}", self.client_port);
        let peer = format!("http://127.0.0.1:{}", self.peer_port);
        let _ = self.process.wait();
        self.process = Command::new(&self.program)
            .args(["--name", "m1", "--log-level", "error", "--data-dir"])
            .arg(self.dir.path().join("data"))
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .arg(format!("--initial-cluster=m1={peer}"))
            .args(&self.flags)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
    }

    /// Kills the server as a power failure would.
    pub(crate) fn kill(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }

    /// Starts it again where it was.
    pub(crate) fn restart(&mut self) {
        self.kill();
        self.spawn();
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("127.0.0.1:{}", self.client_port)
    }

    /// A file or folder in the data directory.
    pub(crate) fn data(&self, name: &str) -> PathBuf {
        self.dir.path().join("data").join(name)
    }

    /// A root user with the root role, and authentication on.
    pub(crate) async fn enable_auth(&self) {
        self.client().await.status().await.unwrap();
        let endpoint = format!("http://{}", self.endpoint()).parse().unwrap();
        let mut auth = AuthClient::new(Channel::builder(endpoint).connect().await.unwrap());
        let options = Some(authpb::UserAddOptions::default());
        let (name, password) = ("root".to_owned(), "secret".to_owned());
        let user = pb::AuthUserAddRequest { name, password, options, ..Default::default() };
        auth.user_add(user).await.unwrap();
        auth.role_add(pb::AuthRoleAddRequest { name: "root".into() }).await.unwrap();
        let grant = pb::AuthUserGrantRoleRequest { user: "root".into(), role: "root".into() };
        auth.user_grant_role(grant).await.unwrap();
        auth.auth_enable(pb::AuthEnableRequest {}).await.unwrap();
    }

    /// A client of the server; its first call waits until the server is up.
    pub(crate) async fn client(&self) -> Client {
        Client::connect(config([self.endpoint()])).await.unwrap()
    }
}

/// A configuration in which nothing takes longer than [`LIMIT`].
pub(crate) fn config<const N: usize>(endpoints: [String; N]) -> Config {
    Config { call_timeout: Some(LIMIT), ..Config::new(endpoints) }
}

/// Passes connections on to a server until they are cut.
pub(crate) struct Proxy {
    port: u16,
    cuts: watch::Sender<u32>,
}

impl Proxy {
    pub(crate) async fn start(server: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (cuts, cut) = watch::channel(0);
        tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let (server, mut cut) = (server.clone(), cut.clone());
                cut.mark_unchanged();
                tokio::spawn(async move {
                    let Ok(mut far) = TcpStream::connect(server).await else { return };
                    tokio::select! {
                        _ = copy_bidirectional(&mut near, &mut far) => {}
                        _ = cut.changed() => {}
                    }
                });
            }
        });
        Self { port, cuts }
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Closes every connection; new ones are let through.
    pub(crate) fn cut(&self) {
        self.cuts.send_modify(|cuts| *cuts += 1);
    }
}
