//! Tests of the shell: who is asked, in which order, and who is not.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Mutex;

use super::*;

/// A name service of a test.
#[derive(Default)]
pub(super) struct FakeDns {
    hosts: BTreeMap<String, String>,
    services: BTreeMap<String, Vec<SrvRecord>>,
    asked: Mutex<Vec<String>>,
}

impl FakeDns {
    pub(super) fn host(mut self, host: &str, address: &str) -> Self {
        self.hosts.insert(host.into(), address.into());
        self
    }

    pub(super) fn srv(mut self, service: &str, targets: &[(&str, u16)]) -> Self {
        let records = targets
            .iter()
            .map(|(target, port)| SrvRecord { target: (*target).into(), port: *port })
            .collect();
        self.services.insert(service.into(), records);
        self
    }
}

impl Resolver for FakeDns {
    async fn address(&self, host: &str, port: u16) -> Result<SocketAddr, String> {
        self.asked.lock().expect("no panic").push(host.to_owned());
        let address = self.hosts.get(host).map_or(host, String::as_str);
        format!("{address}:{port}").parse().map_err(|_| format!("lookup {host}: no such host"))
    }

    async fn srv(&self, name: &str) -> Result<Vec<SrvRecord>, String> {
        let found = self.services.get(name).cloned();
        found.ok_or_else(|| format!("lookup {name}: no such host"))
    }
}

/// Members that answer, by URL.
#[derive(Default)]
struct FakePeers {
    clusters: BTreeMap<String, RemoteCluster>,
    versions: BTreeMap<String, String>,
    downgrading: bool,
    asked: Mutex<Vec<String>>,
}

impl PeerInfo for FakePeers {
    async fn members(&self, url: &str, _limit: Duration) -> Result<RemoteCluster, String> {
        self.asked.lock().expect("no panic").push(format!("{url}/members"));
        self.clusters.get(url).cloned().ok_or_else(|| "connection refused".to_owned())
    }

    async fn cluster_version(&self, url: &str, _limit: Duration) -> Result<String, String> {
        self.asked.lock().expect("no panic").push(format!("{url}/version"));
        self.versions.get(url).cloned().ok_or_else(|| "connection refused".to_owned())
    }

    async fn downgrade_enabled(&self, _url: &str, _limit: Duration) -> Result<bool, String> {
        Ok(self.downgrading)
    }
}

/// A discovery service that nobody may ask.
struct NoRegistry;

impl Registry for NoRegistry {
    async fn get(&self, key: &str) -> Result<Option<String>, String> {
        panic!("asked for {key}")
    }

    async fn list(&self, prefix: &str) -> Result<Listing, String> {
        panic!("asked for {prefix}")
    }

    async fn put(&self, key: &str, _value: &str) -> Result<(), String> {
        panic!("asked to put {key}")
    }

    async fn wait(&self, prefix: &str, _from_revision: i64) -> Result<Listing, String> {
        panic!("asked to wait for {prefix}")
    }
}

const PATIENCE: Patience = Patience {
    resolve: Duration::from_millis(5),
    retry: Duration::from_millis(1),
    bootstrapped: Duration::from_secs(1),
    members: Duration::from_secs(1),
    version: Duration::from_secs(1),
};

const VERSION: Version = Version { major: 3, minor: 7, patch: 1 };

async fn start(
    config: &Config,
    disk: &Disk,
    peers: &FakePeers,
    dns: &FakeDns,
) -> Result<Bootstrap, BootstrapError> {
    let network = Network { peers, resolver: dns, registry: &NoRegistry, patience: PATIENCE };
    is_send(run(config, VERSION, disk, &network)).await
}

/// A server may be started on a runtime of several threads.
fn is_send<F: Future + Send>(start: F) -> F {
    start
}

fn config(name: &str, advertised: &str, initial: &str, state: &str) -> Config {
    Config {
        name: name.into(),
        initial_advertise_peer_urls: Url::parse_list(advertised).expect("urls"),
        initial_cluster: initial.into(),
        initial_cluster_state: state.into(),
        ..Config::default()
    }
}

const THREE: &str = "a=http://10.0.0.1:1,b=http://10.0.0.2:1,c=http://10.0.0.3:1";

/// The cluster of `THREE` as it runs, with `c` added and not yet started.
fn running() -> RemoteCluster {
    let mut members = InitialCluster::parse(THREE).expect("cluster").records("t").expect("ids");
    for member in &mut members {
        if member.name == "c" {
            member.name.clear();
            member.id = MemberId(0xc0de);
        } else {
            member.client_urls = vec!["http://client:1".into()];
        }
    }
    RemoteCluster { id: ClusterId(0xabc), members }
}

fn answering(urls: &[&str]) -> FakePeers {
    FakePeers {
        clusters: urls.iter().map(|url| ((*url).to_owned(), running())).collect(),
        versions: urls.iter().map(|url| ((*url).to_owned(), "3.7.0".to_owned())).collect(),
        ..FakePeers::default()
    }
}

#[tokio::test]
async fn a_log_wins_and_nobody_is_asked() {
    let disk = Disk::Log { member_id: MemberId(1), cluster_id: ClusterId(2), members: Vec::new() };
    let mut config = config("a", "http://10.0.0.1:1", "", "existing");
    config.discovery.endpoints = vec!["http://d:1".into()];
    config.discovery.srv_domain = "example.com".into();
    let (peers, dns) = (FakePeers::default(), FakeDns::default());
    let started = start(&config, &disk, &peers, &dns).await.expect("restarts");
    assert_eq!((started.kind, started.member_id), (Kind::Restart, MemberId(1)));
    assert!(peers.asked.lock().expect("no panic").is_empty());
}

/// For whoever sets the state without the flag, which takes no other word.
#[tokio::test]
async fn u_26_another_state_than_new_or_existing_is_refused() {
    let config = config("a", "http://10.0.0.1:1", THREE, "neither");
    let (peers, dns) = (answering(&["http://10.0.0.2:1"]), FakeDns::default());
    let error = start(&config, &Disk::Empty, &peers, &dns).await.expect_err("refused");
    assert_eq!(error.to_string(), "unsupported bootstrap config");
    assert!(peers.asked.lock().expect("no panic").is_empty());
}

#[tokio::test]
async fn a_new_cluster_asks_the_others_whether_it_runs() {
    let config = config("a", "http://10.0.0.1:1", THREE, "new");
    let (peers, dns) = (FakePeers::default(), FakeDns::default());
    let started = start(&config, &Disk::Empty, &peers, &dns).await.expect("begins");
    assert_eq!((started.kind, started.members.len()), (Kind::New, 3));
    let asked = peers.asked.lock().expect("no panic").clone();
    assert_eq!(asked, ["http://10.0.0.2:1/members", "http://10.0.0.3:1/members"]);
    assert!(dns.asked.lock().expect("no panic").is_empty(), "equal texts need no DNS");
}

#[tokio::test]
async fn advertised_names_are_resolved() {
    let config = config("a", "http://one.example:1", "a=http://10.0.0.1:1", "new");
    let (peers, dns) = (FakePeers::default(), FakeDns::default());
    let error = start(&config, &Disk::Empty, &peers, &dns).await.expect_err("unknown host");
    assert_eq!(
        error.to_string(),
        "--initial-cluster has a=http://10.0.0.1:1 but missing from --initial-advertise-peer-urls=http://one.example:1 (lookup one.example: no such host)"
    );
    let dns = dns.host("one.example", "10.0.0.1");
    let started = start(&config, &Disk::Empty, &peers, &dns).await.expect("begins");
    assert_eq!(started.members[0].peer_urls, ["http://10.0.0.1:1"]);
}

#[tokio::test]
async fn t_u16_a_joiner_takes_ids_from_who_runs() {
    let config = config("c", "http://10.0.0.3:1", THREE, "existing");
    let peers = answering(&["http://10.0.0.2:1"]);
    let started = start(&config, &Disk::Empty, &peers, &FakeDns::default()).await.expect("joins");
    assert_eq!(started.kind, Kind::Join);
    assert_eq!((started.member_id, started.cluster_id), (MemberId(0xc0de), ClusterId(0xabc)));
    let asked = peers.asked.lock().expect("no panic").clone();
    assert_eq!(asked[..2], ["http://10.0.0.1:1/members", "http://10.0.0.2:1/members"]);
    assert!(!asked.iter().any(|url| url.starts_with("http://10.0.0.3")), "{asked:?}");
}

#[tokio::test]
async fn t_u16_a_joiner_by_name_is_found_by_address() {
    let initial = THREE.replace("10.0.0.3", "c.example");
    let config = config("c", "http://c.example:1", &initial, "existing");
    let dns = FakeDns::default().host("c.example", "10.0.0.3");
    let started = start(&config, &Disk::Empty, &answering(&["http://10.0.0.1:1"]), &dns).await;
    assert_eq!(started.map(|started| started.member_id), Ok(MemberId(0xc0de)));
}

#[tokio::test]
async fn t_u16_nobody_answers() {
    let config = config("c", "http://10.0.0.3:1", THREE, "existing");
    let started = start(&config, &Disk::Empty, &answering(&[]), &FakeDns::default()).await;
    assert_eq!(
        started.expect_err("nobody").to_string(),
        "cannot fetch cluster info from peer urls: could not retrieve cluster information from the given URLs"
    );
}

#[tokio::test]
async fn one_that_has_members_no_more_is_no_source() {
    let config = config("c", "http://10.0.0.3:1", THREE, "existing");
    let mut peers = answering(&["http://10.0.0.1:1"]);
    peers.clusters.values_mut().for_each(|cluster| cluster.members.clear());
    let error = start(&config, &Disk::Empty, &peers, &FakeDns::default()).await;
    assert_eq!(error, Err(BootstrapError::Fetch(FetchError::NoMembers)));
}

#[tokio::test]
async fn a_newer_cluster_is_joined_in_a_downgrade_only() {
    let config = config("c", "http://10.0.0.3:1", THREE, "existing");
    let mut peers = answering(&["http://10.0.0.1:1"]);
    peers.versions.values_mut().for_each(|version| *version = "3.8.0".into());
    let started = start(&config, &Disk::Empty, &peers, &FakeDns::default()).await;
    assert_eq!(started, Err(BootstrapError::Incompatible));
    peers.downgrading = true;
    let started = start(&config, &Disk::Empty, &peers, &FakeDns::default()).await;
    assert!(started.is_ok());
}

#[tokio::test]
async fn members_found_by_dns_begin_a_cluster() {
    let mut config = config("me", "http://10.0.0.2:1", "", "new");
    config.discovery.srv_domain = "example.com".into();
    let targets = [("a.example.com.", 1), ("b.example.com.", 1)];
    let dns = FakeDns::default()
        .host("a.example.com", "10.0.0.1")
        .host("b.example.com", "10.0.0.2")
        .srv("_etcd-server._tcp.example.com", &targets);
    let started = start(&config, &Disk::Empty, &FakePeers::default(), &dns).await.expect("begins");
    let own = started.members.iter().find(|member| member.id == started.member_id);
    assert_eq!(own.map(|own| own.peer_urls.clone()), Some(vec!["http://b.example.com:1".into()]));
    assert_eq!(started.members.len(), 2);
}
