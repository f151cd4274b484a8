//! A member as a process, with its log, and clients of it.
#![expect(clippy::unwrap_used, reason = "a helper of tests, where a panic is the report")]

use std::future::Future;
use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use etcdrs_client::{Client, Config, Error, Get, Put};
use etcdrs_tls::{ClientTls, ClientTlsInfo, ServerTlsInfo};
use rcgen::ExtendedKeyUsagePurpose as Usage;
use tempfile::TempDir;
use tokio::sync::watch;

use crate::pki::{Leaf, Pki};

/// Longer than anything here takes; a test that hangs ends by it.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// A port that nobody listens on now.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// How a member is started.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    pub(crate) client: String,
    pub(crate) peer: String,
    pub(crate) flags: Vec<String>,
}

impl Setup {
    /// On free ports: `https` for clients, nothing for peers.
    pub(crate) fn secure() -> Self {
        Self::with("https", "http")
    }

    pub(crate) fn with(client: &str, peer: &str) -> Self {
        let url = |scheme: &str| format!("{scheme}://127.0.0.1:{}", free_port());
        Self { client: url(client), peer: url(peer), flags: Vec::new() }
    }

    pub(crate) fn flag(mut self, name: &str, value: impl std::fmt::Display) -> Self {
        self.flags.push(format!("--{name}={value}"));
        self
    }

    pub(crate) fn file(self, name: &str, path: &Path) -> Self {
        self.flag(name, path.display())
    }

    /// The flags for what the library calls by these names; `side` is empty or `peer-`.
    pub(crate) fn tls(self, side: &str, info: &ServerTlsInfo) -> Self {
        let files = [
            (format!("{side}cert-file"), &info.cert_file),
            (format!("{side}key-file"), &info.key_file),
            (format!("{side}trusted-ca-file"), &info.trusted_ca_file),
            (
                if side.is_empty() { "client-crl-file" } else { "peer-crl-file" }.into(),
                &info.crl_file,
            ),
        ];
        let mut setup = self;
        for (name, path) in &files {
            if let Some(path) = path {
                setup = setup.file(name, path);
            }
        }
        if info.client_cert_auth {
            setup = setup.flag(&format!("{side}client-cert-auth"), true);
        }
        setup
    }

    pub(crate) fn spawn(&self) -> Member {
        self.spawn_named("default", None)
    }

    pub(crate) fn spawn_named(&self, name: &str, initial_cluster: Option<&str>) -> Member {
        let dir = TempDir::new().unwrap();
        let own = format!("{name}={}", self.peer);
        let mut child = Command::new(env!("CARGO_BIN_EXE_etcd-rs"))
            .current_dir(dir.path())
            .args(["--name", name, "--data-dir", "data"])
            .args(["--listen-client-urls", &self.client, "--advertise-client-urls", &self.client])
            .args(["--listen-peer-urls", &self.peer])
            .args(["--initial-advertise-peer-urls", &self.peer])
            .args(["--initial-cluster", initial_cluster.unwrap_or(&own)])
            .args(&self.flags)
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = follow(child.stderr.take().unwrap());
        Member { child, dir, log, client: self.client.clone() }
    }

    pub(crate) async fn start(&self) -> Member {
        let mut member = self.spawn();
        member.logs("ready to serve client requests").await;
        member
    }
}

/// What a process writes, as it comes. The sender is gone when the process is.
pub(crate) fn follow(output: impl Read + Send + 'static) -> watch::Receiver<String> {
    let (write, text) = watch::channel(String::new());
    std::thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            write.send_modify(|text| {
                text.push_str(&line);
                text.push('\n');
            });
        }
    });
    text
}

/// A running member.
pub(crate) struct Member {
    child: Child,
    dir: TempDir,
    log: watch::Receiver<String>,
    pub(crate) client: String,
}

impl Member {
    /// Waits for a text in the log.
    #[track_caller]
    pub(crate) fn logs(&mut self, text: &str) -> impl Future<Output = ()> {
        self.logs_times(text, 1)
    }

    /// Waits until a text stands so often in the log.
    #[track_caller]
    pub(crate) fn logs_times(&mut self, text: &str, times: usize) -> impl Future<Output = ()> {
        let from = std::panic::Location::caller();
        async move {
            let seen = self.log.wait_for(|log| log.matches(text).count() >= times);
            if !matches!(tokio::time::timeout(LIMIT, seen).await, Ok(Ok(_))) {
                panic!("{from}: no {times} times {text:?} in the log:\n{}", self.log());
            }
        }
    }

    pub(crate) fn log(&self) -> String {
        self.log.borrow().clone()
    }

    /// Waits until the process has ended; its whole log.
    pub(crate) async fn ended(&mut self) -> String {
        // The thread that writes the log ends with the process.
        let over = self.log.wait_for(|_| false);
        let _ = tokio::time::timeout(LIMIT, over).await.expect("it ends");
        self.child.wait().unwrap();
        self.log()
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// A client of it.
    pub(crate) async fn client(&self, tls: &ClientTlsInfo) -> Client {
        connect(&self.client, tls).await
    }

    /// Whether a client with these settings is served.
    pub(crate) async fn serves(&self, tls: &ClientTlsInfo) -> Result<(), Error> {
        works(&self.client(tls).await).await
    }

    /// Nobody answers a client with these settings, and the log has said why so often.
    #[track_caller]
    pub(crate) fn refuses<'a>(
        &'a mut self,
        tls: &'a ClientTlsInfo,
        why: &'a str,
    ) -> impl Future<Output = ()> + 'a {
        let from = std::panic::Location::caller();
        async move {
            let before = self.log().matches(why).count();
            if let Ok(()) = self.serves(tls).await {
                panic!("{from}: it was served");
            }
            self.logs_times(why, before + 1).await;
        }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A client of an endpoint.
pub(crate) async fn connect(endpoint: &str, tls: &ClientTlsInfo) -> Client {
    let mut config = Config::new([endpoint]);
    config.tls = Some(ClientTls::new(tls.clone()).unwrap());
    config.call_timeout = Some(Duration::from_secs(3));
    Client::connect(config).await.unwrap()
}

/// A write and a read.
pub(crate) async fn works(client: &Client) -> Result<(), Error> {
    client.put(Put::new("key", "value")).await?;
    let found = client.get(Get::key("key")).await?;
    assert_eq!(found.kvs[0].value, "value");
    Ok(())
}

/// What a member has: one certificate for both directions.
pub(crate) fn member() -> Leaf {
    Leaf {
        common_name: "member",
        names: vec!["localhost", "127.0.0.1"],
        usages: vec![Usage::ServerAuth, Usage::ClientAuth],
        serial: 7,
        expired: false,
    }
}

/// A member's settings: certificates of this PKI on both sides.
pub(crate) fn strict_member(pki: &Pki, name: &str, leaf: &Leaf) -> ServerTlsInfo {
    let (cert, key) = pki.issue(name, leaf);
    ServerTlsInfo {
        cert_file: Some(cert),
        key_file: Some(key),
        trusted_ca_file: Some(pki.path("ca.pem")),
        client_cert_auth: true,
        ..ServerTlsInfo::default()
    }
}
