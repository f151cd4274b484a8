//! The members of a run and the network around them.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::failpoints::Control;
use super::faults::Means;
use super::history::Replacement;
use super::member::{Member, Plan, Public};
use super::net::namespaces::Namespaces;
use super::net::{Layer, Network};
use super::steps;
use crate::client::Clients;
use crate::server::free_port;
use crate::target::{Flavour, Target};

/// How often idle watchers that ask for it are told of progress.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(300);
/// Entries between two snapshots.
const SNAPSHOT_COUNT: u64 = 300;
/// Entries that are kept behind a snapshot.
const CATCHUP_ENTRIES: u64 = 100;
/// Who lacks more entries than this gets the database: the second snapshot from now on shortens the
/// log beyond what it has.
pub(super) const LAG: u64 = 2 * SNAPSHOT_COUNT + CATCHUP_ENTRIES;

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
    /// Members that were removed for good, and replaced.
    pub replacements: Vec<Replacement>,
    /// Failpoints that some member came by.
    pub passed: BTreeSet<String>,
    /// Where each member's peers reach it.
    pub(super) peer_urls: Vec<String>,
    _serving: Vec<JoinSet<()>>,
    _folder: TempDir,
}

/// Where a member is reached.
struct Place {
    /// The process itself: clients, peers.
    own: (String, String),
    /// What others know: the proxies, if there are any.
    known: (String, String),
    /// Its failpoints.
    control: String,
}

impl Cluster {
    /// Starts the members of a fresh cluster and waits until all are healthy.
    pub async fn start(target: &Target, means: Means, seed: u64) -> Result<Self> {
        let count = means.members;
        let folder = tempfile::Builder::new().prefix("etcdrs-robustness-").tempdir()?;
        let publics: Vec<Arc<Public>> = (0..count).map(|_| Arc::default()).collect();
        let namespaces = match means.layer {
            Layer::Proxy => None,
            Layer::Namespaces => Some(Namespaces::create(count)?),
        };
        let network = Network::new(publics.clone(), seed, namespaces);
        let mut serving = Vec::new();
        let mut places = Vec::new();
        for member in 0..count {
            places.push(match network.namespaces() {
                Some(namespaces) => in_namespace(&namespaces.address(member), means),
                None => behind_proxies(&network, member, means, &mut serving).await?,
            });
        }
        let members = (0..count)
            .map(|index| {
                let plan = Plan {
                    index,
                    target: target.clone(),
                    data_dir: folder.path().join(format!("member-{index}")),
                    client_url: places[index].own.0.clone(),
                    args: flags(means, folder.path(), index, &places),
                    prefix: network.namespaces().map_or(Vec::new(), |n| n.prefix(index)),
                    failpoints: means.failpoints.then(|| {
                        let address = places[index].control.clone();
                        (Control { address }, steps::ALWAYS)
                    }),
                };
                Member::new(plan, publics[index].clone())
            })
            .collect();
        let mut cluster = Self {
            members,
            network,
            publics,
            endpoints: places.iter().map(|place| place.known.0.clone()).collect(),
            replacements: Vec::new(),
            passed: BTreeSet::new(),
            peer_urls: places.into_iter().map(|place| place.known.1).collect(),
            _serving: serving,
            _folder: folder,
        };
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
            if member.runs() {
                member.disarm_all().await.context("disarm failpoints")?;
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

    /// Arms a failpoint of a member; [`Self::heal`] disarms it.
    pub async fn arm(&mut self, member: usize, name: &'static str, action: &str) -> Result<()> {
        self.members[member].arm(name, action).await
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

    /// Takes note of the failpoints that members have come by.
    pub(super) async fn note_passed(&mut self) {
        for member in &self.members {
            self.passed.extend(member.passed().await);
        }
    }

    /// What ended by itself or panicked.
    pub fn casualties(&mut self) -> Vec<String> {
        let ended = self.members.iter_mut().filter_map(Member::died).collect::<Vec<_>>();
        ended.into_iter().chain(self.members.iter().filter_map(Member::panicked)).collect()
    }
}

fn peer_scheme(means: Means) -> &'static str {
    if means.peer_tls { "https" } else { "http" }
}

fn in_namespace(address: &str, means: Means) -> Place {
    let peers = format!("{}://{address}:2380", peer_scheme(means));
    let urls = (format!("http://{address}:2379"), peers);
    Place { own: urls.clone(), known: urls, control: format!("{address}:2381") }
}

async fn behind_proxies(
    network: &Network,
    member: usize,
    means: Means,
    serving: &mut Vec<JoinSet<()>>,
) -> Result<Place> {
    let mut urls = Vec::new();
    for scheme in ["http", peer_scheme(means)] {
        let url = |port: u16| format!("{scheme}://127.0.0.1:{port}");
        let own = free_port();
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        urls.push((url(own), url(listener.local_addr()?.port())));
        serving.push(network.serve(listener, member, own));
    }
    let (clients, peers) = (urls.swap_remove(0), urls.swap_remove(0));
    let control = format!("127.0.0.1:{}", free_port());
    Ok(Place { own: (clients.0, peers.0), known: (clients.1, peers.1), control })
}

/// The flags of one member.
fn flags(means: Means, folder: &std::path::Path, index: usize, places: &[Place]) -> Vec<String> {
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
        format!("--snapshot-count={SNAPSHOT_COUNT}"),
        "--max-wals=2".to_owned(),
    ];
    flags.extend(means.peer_tls.then(|| "--peer-auto-tls=true".to_owned()));
    let interval = format!("{}ms", PROGRESS_INTERVAL.as_millis());
    match means.flavour {
        Flavour::Current => flags.extend([
            format!("--snapshot-catchup-entries={CATCHUP_ENTRIES}"),
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
