//! What a member that begins asks: running members over HTTP, a discovery service as its client.

use std::sync::Arc;
use std::time::Duration;

use etcdrs_client::{Client, Config as ClientConfig, Credentials, Get, Put, WatchOptions};
use etcdrs_membership::MemberRecord;
use etcdrs_proto::mvccpb;
use etcdrs_rafthttp_transport::{Connect, PeerMember, PeerUrl, client::Client as PeerClient};
use etcdrs_tls::{ClientTls, ClientTlsInfo};
use etcdrs_types::MemberId;

use crate::bootstrap::{Listing, PeerInfo, Registered, Registry, RemoteCluster};
use crate::config::{Config, DiscoveryFlags};
use crate::listen::given;

/// Asks running members on their peer URLs.
pub(crate) struct PeerQuestions {
    client: PeerClient,
}

impl PeerQuestions {
    pub(crate) fn new(connector: Arc<dyn Connect>) -> Self {
        Self { client: PeerClient::new(connector, Duration::from_secs(1)) }
    }
}

impl PeerQuestions {
    /// The version of the server at `url`.
    pub(crate) async fn server_version(
        &self,
        url: &str,
        limit: Duration,
    ) -> Result<String, String> {
        let client = self.client.with_limit(limit);
        let versions = client.version(&parse(url)?).await.map_err(|error| error.to_string())?;
        Ok(versions.server)
    }
}

fn parse(url: &str) -> Result<PeerUrl, String> {
    url.parse::<PeerUrl>().map_err(|error| error.to_string())
}

fn record(member: PeerMember) -> MemberRecord {
    MemberRecord {
        id: MemberId(member.id),
        name: member.name,
        peer_urls: member.peer_urls,
        client_urls: member.client_urls,
        is_learner: member.is_learner,
    }
}

impl PeerInfo for PeerQuestions {
    async fn members(&self, url: &str, limit: Duration) -> Result<RemoteCluster, String> {
        let client = self.client.with_limit(limit);
        let told = client.members(&parse(url)?).await;
        let (id, members) = told.map_err(|error| error.to_string())?;
        Ok(RemoteCluster { id, members: members.into_iter().map(record).collect() })
    }

    async fn cluster_version(&self, url: &str, limit: Duration) -> Result<String, String> {
        let client = self.client.with_limit(limit);
        let versions = client.version(&parse(url)?).await.map_err(|error| error.to_string())?;
        Ok(versions.cluster)
    }

    async fn downgrade_enabled(&self, url: &str, limit: Duration) -> Result<bool, String> {
        let client = self.client.with_limit(limit);
        client.downgrade_enabled(&parse(url)?).await.map_err(|error| error.to_string())
    }
}

/// The discovery service of `--discovery-endpoints`, connected to when it is first asked.
pub(crate) struct DiscoveryClient {
    flags: DiscoveryFlags,
    client: tokio::sync::OnceCell<Client>,
}

impl DiscoveryClient {
    pub(crate) fn new(config: &Config) -> Self {
        Self { flags: config.discovery.clone(), client: tokio::sync::OnceCell::new() }
    }

    async fn client(&self) -> Result<&Client, String> {
        let flags = &self.flags;
        let connect = async {
            let mut config = ClientConfig::new(flags.endpoints.iter().map(String::as_str));
            config.dial_timeout = flags.dial_timeout;
            config.call_timeout = Some(flags.request_timeout);
            config.keepalive_time = Some(flags.keepalive_time);
            config.keepalive_timeout = flags.keepalive_timeout;
            config.credentials = credentials(flags);
            config.tls = tls(flags).await?;
            Client::connect(config).await.map_err(|error| error.to_string())
        };
        self.client.get_or_try_init(|| connect).await
    }
}

/// How to encrypt, if a flag says anything about it.
async fn tls(flags: &DiscoveryFlags) -> Result<Option<ClientTls>, String> {
    if !flags.asks_for_tls() {
        return Ok(None);
    }
    let info = ClientTlsInfo {
        cert_file: given(&flags.cert_file),
        key_file: given(&flags.key_file),
        trusted_ca_file: given(&flags.trusted_ca_file),
        insecure_skip_verify: flags.insecure_skip_tls_verify,
        ..ClientTlsInfo::default()
    };
    let made = tokio::task::spawn_blocking(move || ClientTls::new(info)).await;
    made.map_err(|error| error.to_string())?.map(Some).map_err(|error| error.to_string())
}

/// `--discovery-user=name[:password]`.
fn credentials(flags: &DiscoveryFlags) -> Option<Credentials> {
    if flags.user.is_empty() {
        return None;
    }
    let (user, password) = match flags.user.split_once(':') {
        Some((user, password)) if flags.password.is_empty() => (user, password),
        _ => (flags.user.as_str(), flags.password.as_str()),
    };
    Some(Credentials { user: user.to_owned(), password: password.to_owned() })
}

fn registered(kv: mvccpb::KeyValue) -> Registered {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Registered { key: text(&kv.key), value: text(&kv.value), create_revision: kv.create_revision }
}

impl Registry for DiscoveryClient {
    async fn get(&self, key: &str) -> Result<Option<String>, String> {
        let get = Get::key(key.to_owned());
        let found = self.client().await?.get(get).await.map_err(|error| error.to_string())?;
        Ok(found.kvs.into_iter().next().map(|kv| registered(kv).value))
    }

    async fn list(&self, prefix: &str) -> Result<Listing, String> {
        let found = self.client().await?.get(Get::prefix(prefix)).await;
        let found = found.map_err(|error| error.to_string())?;
        let revision = found.header.map_or(0, |header| header.revision);
        Ok(Listing { revision, found: found.kvs.into_iter().map(registered).collect() })
    }

    async fn put(&self, key: &str, value: &str) -> Result<(), String> {
        let put = Put::new(key.to_owned(), value.to_owned());
        self.client().await?.put(put).await.map(drop).map_err(|error| error.to_string())
    }

    async fn wait(&self, prefix: &str, from_revision: i64) -> Result<Listing, String> {
        let options = WatchOptions::prefix(prefix).start_revision(from_revision).without_deletes();
        let watcher = self.client().await?.watch(options).await;
        let mut watcher = watcher.map_err(|error| error.to_string())?;
        loop {
            let next = watcher.next().await.map_err(|error| error.to_string())?;
            let Some(answer) = next else { return Err("the discovery service is gone".into()) };
            if answer.events.is_empty() {
                continue;
            }
            let revision = answer.header.map_or(0, |header| header.revision);
            let found = answer.events.into_iter().filter_map(|event| event.kv).map(registered);
            return Ok(Listing { revision, found: found.collect() });
        }
    }
}
