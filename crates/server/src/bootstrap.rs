//! How a member finds out at its start who it is and who the others are.
//!
//! [`run`] asks whom it must: DNS for names of members, a discovery service for members that are
//! not known yet, running members for a cluster that exists. What follows from the flags, the data
//! directory and these answers is [`decide`], which asks nobody (storage-and-raft.md §4.11).
//!
//! Invariants:
//! - A log on disk wins over every flag: with one, nobody is asked anything.
//! - Ids come from the flags alone (a new cluster), from running members (a join) or from the log;
//!   they are never made up.

mod decide;
mod discovery;
mod dns;
mod error;
mod resolve;
mod srv;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::future::Future;
use std::time::Duration;

use etcdrs_membership::{MemberRecord, Version};
use etcdrs_types::{ClusterId, MemberId};
use futures_util::future::join_all;

pub(crate) use self::decide::{Answers, Setup, State, decide};
pub(crate) use self::discovery::{Listing, Registered, Registry};
pub(crate) use self::dns::SystemResolver;
pub(crate) use self::error::{BootstrapError, DiscoveryError};
pub(crate) use self::resolve::{Resolver, SrvRecord};
pub(crate) use self::srv::server_name;

use self::error::FetchError;
use self::resolve::{Addresses, check_same};
use crate::config::{Config, InitialCluster, Url};

/// What a member starts as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bootstrap {
    /// This member.
    pub(crate) member_id: MemberId,
    /// Its cluster.
    pub(crate) cluster_id: ClusterId,
    /// The members, by ascending id. Of a join: those that run, who send the log.
    pub(crate) members: Vec<MemberRecord>,
    /// By which way it starts.
    pub(crate) kind: Kind,
}

/// The ways to start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A cluster begins; its members are all voters and write the same first rows.
    New,
    /// The cluster runs; rows and log come from the others.
    Join,
    /// There is a log: go on where it ends.
    Restart,
    /// There is a log, and this member is to be the only one from now on.
    ForceNew,
}

/// What the data directory holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Disk {
    /// No log: whatever else lies there was never part of a cluster.
    Empty,
    /// A log, with the ids of its metadata and the members of the database.
    Log {
        /// This member.
        member_id: MemberId,
        /// Its cluster.
        cluster_id: ClusterId,
        /// The rows, as far as they are applied.
        members: Vec<MemberRecord>,
    },
}

/// A running cluster as one of its members describes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct RemoteCluster {
    /// Its id.
    pub(crate) id: ClusterId,
    /// Its members.
    pub(crate) members: Vec<MemberRecord>,
}

/// The questions to running members, over HTTP on their peer URLs.
pub(crate) trait PeerInfo: Sync {
    /// `GET <url>/members`: the list, and the cluster's id from the answer's header.
    fn members(
        &self,
        url: &str,
        limit: Duration,
    ) -> impl Future<Output = Result<RemoteCluster, String>> + Send;

    /// `GET <url>/version`: the field `etcdcluster`, such as `3.7.0`.
    fn cluster_version(
        &self,
        url: &str,
        limit: Duration,
    ) -> impl Future<Output = Result<String, String>> + Send;

    /// `GET <url>/downgrade/enabled`.
    fn downgrade_enabled(
        &self,
        url: &str,
        limit: Duration,
    ) -> impl Future<Output = Result<bool, String>> + Send;
}

/// Everything that [`run`] may ask.
pub(crate) struct Network<'a, P, R, D> {
    pub(crate) peers: &'a P,
    pub(crate) resolver: &'a R,
    pub(crate) registry: &'a D,
    pub(crate) patience: Patience,
}

/// How long to wait for answers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// All attempts to resolve the hosts of URLs that are to be compared.
    pub(crate) resolve: Duration,
    /// Between two attempts to reach the resolver or the discovery service.
    pub(crate) retry: Duration,
    /// Each member that is asked whether this one has been bootstrapped.
    pub(crate) bootstrapped: Duration,
    /// Each member that is asked for the members of a running cluster.
    pub(crate) members: Duration,
    /// Each member that is asked for its version.
    pub(crate) version: Duration,
}

impl Patience {
    /// etcd's limits.
    pub(crate) fn of(config: &Config) -> Self {
        Self {
            resolve: Duration::from_secs(30),
            retry: Duration::from_secs(1),
            bootstrapped: Duration::from_secs(1),
            members: Duration::from_secs(10),
            version: config.request_timeout(),
        }
    }
}

/// Finds out what this member starts as. `version` is this server's.
///
/// # Errors
///
/// [`BootstrapError`], in etcd's words where it has some.
pub(crate) async fn run<P: PeerInfo, R: Resolver, D: Registry>(
    config: &Config,
    version: Version,
    disk: &Disk,
    network: &Network<'_, P, R, D>,
) -> Result<Bootstrap, BootstrapError> {
    let discovers = !config.discovery.endpoints.is_empty();
    let mut setup = Setup::of(config, version)?;
    if matches!(disk, Disk::Log { .. }) {
        if discovers {
            tracing::warn!(
                wal_dir = %config.wal_dir().display(),
                "discovery token is ignored since cluster already initialized; valid logs are found"
            );
        }
        let started = decide(&setup, disk, &Answers::default())?;
        if started.kind == Kind::ForceNew {
            tracing::warn!(member_id = %started.member_id, "forcing restart member");
        }
        return Ok(started);
    }
    if !config.discovery.srv_domain.is_empty() {
        setup.initial = srv::members(network.resolver, config).await?;
    }
    let mut answers = Answers::default();
    match setup.state {
        State::New => {
            let own = setup.own_urls()?;
            answers.addresses = network.addresses(setup.advertised, own).await;
            setup.check_new(&answers.addresses)?;
            let others = setup.remote_urls()?;
            answers.cluster = network.fetch(&others, network.patience.bootstrapped).await;
            let started = decide(&setup, disk, &answers)?;
            if !discovers {
                return Ok(started);
            }
            let (registry, patience) = (network.registry, network.patience.retry);
            let own = setup.initial.to_string();
            let token = &config.discovery.token;
            let found = discovery::join(registry, token, started.member_id, &own, patience).await?;
            setup.initial = found;
            decide(&setup, disk, &answers)
        }
        State::Existing => {
            setup.check_existing()?;
            let others = setup.remote_urls()?;
            let cluster = network.fetch(&others, network.patience.members).await;
            if let Ok(cluster) = &cluster {
                answers.addresses = network.addresses_of(cluster, &setup.initial).await;
                if let Ok(own) = setup.find_own(cluster, &answers.addresses) {
                    let others = || cluster.members.iter().filter(|member| member.id != own.id);
                    answers.versions = network.versions(others()).await;
                    if answers.versions.values().flatten().any(|at| *at > version) {
                        answers.downgrading = network.downgrading(others()).await;
                    }
                }
            }
            answers.cluster = cluster;
            decide(&setup, disk, &answers)
        }
    }
}

/// A member's peer URLs, as far as they are any.
fn urls_of(member: &MemberRecord) -> Vec<Url> {
    member.peer_urls.iter().filter_map(|url| Url::parse(url).ok()).collect()
}

impl<P: PeerInfo, R: Resolver, D> Network<'_, P, R, D> {
    /// Resolves the hosts of two lists that will be compared; none if they are the same as texts.
    async fn addresses(&self, a: &[Url], b: &[Url]) -> Addresses {
        let unknown = Addresses::default();
        if check_same(a, b, &unknown).is_ok() {
            return unknown;
        }
        resolve::all(self.resolver, a.iter().chain(b).collect(), self.patience).await
    }

    /// The same for the members that run and those of the flags.
    async fn addresses_of(&self, cluster: &RemoteCluster, initial: &InitialCluster) -> Addresses {
        let unknown = Addresses::default();
        let remote: Vec<Vec<Url>> = cluster.members.iter().map(urls_of).collect();
        let listed = |urls: &Vec<Url>| {
            initial.members.values().any(|local| check_same(urls, local, &unknown).is_ok())
        };
        if remote.iter().all(listed) {
            return unknown;
        }
        let urls = remote.iter().chain(initial.members.values()).flatten().collect();
        resolve::all(self.resolver, urls, self.patience).await
    }

    /// The cluster as the first member that answers describes it.
    async fn fetch(&self, urls: &[String], limit: Duration) -> Result<RemoteCluster, FetchError> {
        for url in urls {
            match self.peers.members(url, limit).await {
                Ok(cluster) if cluster.members.is_empty() => return Err(FetchError::NoMembers),
                Ok(cluster) => return Ok(cluster),
                Err(error) => {
                    tracing::warn!(address = %format!("{url}/members"), error, "failed to get cluster response");
                }
            }
        }
        Err(FetchError::Unreachable)
    }

    /// The cluster version that each member tells, `None` for one that tells none.
    async fn versions(
        &self,
        members: impl Iterator<Item = &MemberRecord>,
    ) -> BTreeMap<MemberId, Option<Version>> {
        let limit = self.patience.version;
        let asked = members.map(|member| async move {
            let told = first(&member.peer_urls, |url| self.peers.cluster_version(url, limit)).await;
            let version = told.as_ref().and_then(|text| text.parse().ok());
            if version.is_none() {
                tracing::warn!(remote_member_id = %member.id, told, "failed to get version");
            }
            (member.id, version)
        });
        join_all(asked).await.into_iter().collect()
    }

    /// Whether all members that answer say that a downgrade goes on.
    async fn downgrading(&self, members: impl Iterator<Item = &MemberRecord>) -> bool {
        let limit = self.patience.version;
        let asked = members.map(|member| {
            first(&member.peer_urls, move |url| self.peers.downgrade_enabled(url, limit))
        });
        let told: Vec<bool> = join_all(asked).await.into_iter().flatten().collect();
        !told.is_empty() && told.into_iter().all(|enabled| enabled)
    }
}

/// The first answer that one of a member's URLs gives.
async fn first<'a, T, F>(urls: &'a [String], ask: impl Fn(&'a str) -> F) -> Option<T>
where
    F: Future<Output = Result<T, String>>,
{
    for url in urls {
        if let Ok(answer) = ask(url).await {
            return Some(answer);
        }
    }
    None
}

impl<'a> Setup<'a> {
    /// The flags, for clusters whose members they name.
    fn of(config: &'a Config, version: Version) -> Result<Self, BootstrapError> {
        let (initial, token) = config.initial_cluster().map_err(BootstrapError::Initial)?;
        let state = match config.initial_cluster_state.as_str() {
            "new" => State::New,
            "existing" => State::Existing,
            _ => return Err(BootstrapError::Unsupported),
        };
        Ok(Self {
            name: &config.name,
            advertised: &config.initial_advertise_peer_urls,
            initial,
            token,
            state,
            force_new: config.force_new_cluster,
            learners_max: config.learners_max,
            version,
        })
    }
}
