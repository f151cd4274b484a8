//! The members of a run and the network around them.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::member::{Member, Plan, Public};
use super::net::Network;
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

struct Ports {
    /// The process itself: clients, peers.
    own: (u16, u16),
    /// The proxies before it: clients, peers.
    proxies: (u16, u16),
}

impl Cluster {
    /// Starts `count` members of a fresh cluster and waits until all are healthy.
    pub async fn start(target: &Target, count: usize, seed: u64) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("etcdrs-robustness-").tempdir()?;
        let publics: Vec<Arc<Public>> = (0..count).map(|_| Arc::default()).collect();
        let network = Network::new(publics.clone(), seed);
        let mut serving = Vec::new();
        let mut ports = Vec::new();
        for member in 0..count {
            let own = (free_port(), free_port());
            let clients = TcpListener::bind("127.0.0.1:0").await?;
            let peers = TcpListener::bind("127.0.0.1:0").await?;
            let proxies = (clients.local_addr()?.port(), peers.local_addr()?.port());
            serving.push(network.serve(clients, member, own.0));
            serving.push(network.serve(peers, member, own.1));
            ports.push(Ports { own, proxies });
        }
        let members = (0..count)
            .map(|index| {
                let plan = Plan {
                    index,
                    target: target.clone(),
                    data_dir: folder.path().join(format!("member-{index}")),
                    client_port: ports[index].own.0,
                    args: flags(target.flavour, folder.path(), index, &ports),
                    prefix: Vec::new(),
                };
                Member::new(plan, publics[index].clone())
            })
            .collect();
        let endpoints =
            ports.iter().map(|ports| format!("http://127.0.0.1:{}", ports.proxies.0)).collect();
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
        let port = self.members[member].client_port();
        Ok(Clients::try_connect(&format!("http://127.0.0.1:{port}")).await?)
    }

    /// What ended by itself or panicked.
    pub fn casualties(&mut self) -> Vec<String> {
        let ended = self.members.iter_mut().filter_map(Member::died).collect::<Vec<_>>();
        ended.into_iter().chain(self.members.iter().filter_map(Member::panicked)).collect()
    }
}

/// The flags of one member. Peers know each other by the proxies' ports.
fn flags(flavour: Flavour, folder: &std::path::Path, index: usize, ports: &[Ports]) -> Vec<String> {
    let url = |port: u16| format!("http://127.0.0.1:{port}");
    let (own, proxies) = (ports[index].own, ports[index].proxies);
    let all: Vec<String> =
        ports.iter().enumerate().map(|(at, p)| format!("m{at}={}", url(p.proxies.1))).collect();
    let mut flags = vec![
        format!("--name=m{index}"),
        format!("--data-dir={}", folder.join(format!("member-{index}")).display()),
        format!("--listen-client-urls={}", url(own.0)),
        format!("--advertise-client-urls={}", url(proxies.0)),
        format!("--listen-peer-urls={}", url(own.1)),
        format!("--initial-advertise-peer-urls={}", url(proxies.1)),
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
