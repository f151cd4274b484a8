//! The members of a run and the network around them.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::member::{Member, Plan, Public};
use super::net::namespaces::Namespaces;
use super::net::{Layer, Network};
use crate::client::Clients;
use crate::server::free_port;
use crate::target::{Flavour, Target};

/// How often idle watchers that ask for it are told of progress.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(300);

/// All members, each behind proxies for its peers and its clients.
pub struct Cluster {
    /// By number.
    pub members: Vec<Member>,
    /// Between them, and between clients and them.
    pub network: Network,
    /// What others may see of the members.
    pub publics: Vec<Arc<Public>>,
    /// Where clients connect.
    pub endpoints: Vec<String>,
    _serving: Vec<JoinSet<()>>,
    _folder: TempDir,
}

/// Where a member is reached.
struct Place {
    /// The process itself: clients, peers.
    own: (String, String),
    /// What others know: the proxies, if there are any.
    known: (String, String),
}

impl Cluster {
    /// Starts `count` members of a fresh cluster and waits until all are healthy.
    pub async fn start(target: &Target, count: usize, seed: u64, layer: Layer) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("etcdrs-robustness-").tempdir()?;
        let publics: Vec<Arc<Public>> = (0..count).map(|_| Arc::default()).collect();
        let namespaces = match layer {
            Layer::Proxy => None,
            Layer::Namespaces => Some(Namespaces::create(count)?),
        };
        let network = Network::new(publics.clone(), seed, namespaces);
        let mut serving = Vec::new();
        let mut places = Vec::new();
        for member in 0..count {
            places.push(match network.namespaces() {
                Some(namespaces) => in_namespace(&namespaces.address(member)),
                None => behind_proxies(&network, member, &mut serving).await?,
            });
        }
        let members = (0..count)
            .map(|index| {
                let plan = Plan {
                    index,
                    target: target.clone(),
                    data_dir: folder.path().join(format!("member-{index}")),
                    client_url: places[index].own.0.clone(),
                    args: flags(target.flavour, folder.path(), index, &places),
                    prefix: network.namespaces().map_or(Vec::new(), |n| n.prefix(index)),
                };
                Member::new(plan, publics[index].clone())
            })
            .collect();
        let endpoints = places.iter().map(|place| place.known.0.clone()).collect();
        let mut cluster =
            Self { members, network, publics, endpoints, _serving: serving, _folder: folder };
        cluster.start_missing()?;
        cluster.wait_healthy().await?;
        Ok(cluster)
    }

    /// Starts the members that do not run.
    pub fn start_missing(&mut self) -> Result<()> {
        self.members.iter_mut().filter(|member| !member.runs()).try_for_each(Member::launch)
    }

    /// Ends all faults: paused members go on, missing ones start, everything passes.
    pub async fn heal(&mut self) -> Result<()> {
        self.network.heal();
        for member in &mut self.members {
            if member.is_paused() {
                member.resume()?;
            }
        }
        self.start_missing()?;
        self.wait_healthy().await
    }

    /// Waits until every member answers that it is healthy.
    pub async fn wait_healthy(&mut self) -> Result<()> {
        for member in &mut self.members {
            member.wait_healthy().await?;
        }
        Ok(())
    }

    /// The member that leads, asked of the members themselves.
    pub async fn leader(&self) -> Option<usize> {
        for (at, member) in self.members.iter().enumerate() {
            if member.runs()
                && !member.is_paused()
                && let Ok(status) = self.status(at).await
                && status.header.is_some_and(|header| header.member_id == status.leader)
            {
                return Some(at);
            }
        }
        None
    }

    /// Status of one member, not through the proxy.
    pub async fn status(&self, member: usize) -> Result<crate::pb::StatusResponse> {
        let asked = async {
            let mut clients = self.direct(member).await?;
            let answer = clients.maintenance.status(crate::pb::StatusRequest {}).await?;
            anyhow::Ok(answer.into_inner())
        };
        tokio::time::timeout(Duration::from_secs(1), asked).await.context("no status in time")?
    }

    /// Moves the lead to another member; says which, if it worked.
    pub async fn move_leader(&self, to: usize) -> Result<()> {
        let Some(leader) = self.leader().await else { bail!("nobody leads") };
        let target_id = self.status(to).await?.header.context("a header")?.member_id;
        let mut clients = self.direct(leader).await?;
        let request = crate::pb::MoveLeaderRequest { target_id };
        let moved = clients.maintenance.move_leader(request);
        tokio::time::timeout(Duration::from_secs(5), moved).await.context("no answer")??;
        Ok(())
    }

    /// A connection to the process itself.
    pub async fn direct(&self, member: usize) -> Result<Clients> {
        Ok(Clients::try_connect(self.members[member].client_url()).await?)
    }

    /// What ended by itself or panicked.
    pub fn casualties(&mut self) -> Vec<String> {
        let ended = self.members.iter_mut().filter_map(Member::died).collect::<Vec<_>>();
        ended.into_iter().chain(self.members.iter().filter_map(Member::panicked)).collect()
    }
}

fn in_namespace(address: &str) -> Place {
    let urls = (format!("http://{address}:2379"), format!("http://{address}:2380"));
    Place { own: urls.clone(), known: urls }
}

async fn behind_proxies(
    network: &Network,
    member: usize,
    serving: &mut Vec<JoinSet<()>>,
) -> Result<Place> {
    let url = |port: u16| format!("http://127.0.0.1:{port}");
    let mut urls = Vec::new();
    for _ in ["clients", "peers"] {
        let own = free_port();
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        urls.push((url(own), url(listener.local_addr()?.port())));
        serving.push(network.serve(listener, member, own));
    }
    let (clients, peers) = (urls.swap_remove(0), urls.swap_remove(0));
    Ok(Place { own: (clients.0, peers.0), known: (clients.1, peers.1) })
}

/// The flags of one member.
fn flags(
    flavour: Flavour,
    folder: &std::path::Path,
    index: usize,
    places: &[Place],
) -> Vec<String> {
    let (own, known) = (&places[index].own, &places[index].known);
    let all: Vec<String> =
        places.iter().enumerate().map(|(at, place)| format!("m{at}={}", place.known.1)).collect();
    let mut flags = vec![
        format!("--name=m{index}"),
        format!("--data-dir={}", folder.join(format!("member-{index}")).display()),
        format!("--listen-client-urls={}", own.0),
        format!("--advertise-client-urls={}", known.0),
        format!("--listen-peer-urls={}", own.1),
        format!("--initial-advertise-peer-urls={}", known.1),
        format!("--initial-cluster={}", all.join(",")),
        "--initial-cluster-token=robustness".to_owned(),
        // Often enough that kills and cuts fall into snapshots and purges.
        "--snapshot-count=300".to_owned(),
    ];
    let interval = format!("{}ms", PROGRESS_INTERVAL.as_millis());
    match flavour {
        Flavour::Current => flags.extend([
            "--snapshot-catchup-entries=100".to_owned(),
            format!("--watch-progress-notify-interval={interval}"),
            "--compaction-batch-limit=20".to_owned(),
        ]),
        Flavour::Etcd35 => flags.extend([
            format!("--experimental-watch-progress-notify-interval={interval}"),
            "--experimental-compaction-batch-limit=20".to_owned(),
        ]),
    }
    flags
}
