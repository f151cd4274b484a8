//! What a member starts as: a function of flags, data directory and answers.

use std::collections::BTreeMap;

use etcdrs_membership::{MemberRecord, Version, cluster_id};
use etcdrs_types::MemberId;

use super::error::FetchError;
use super::resolve::{Addresses, check_same};
use super::{Bootstrap, BootstrapError, Disk, Kind, RemoteCluster, urls_of};
use crate::config::{InitialCluster, Url};

/// `--initial-cluster-state`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// The cluster begins now.
    New,
    /// The cluster runs, and this member was added to it.
    Existing,
}

/// The flags that matter at a start.
#[derive(Clone, Debug)]
pub(crate) struct Setup<'a> {
    /// `--name`.
    pub(crate) name: &'a str,
    /// `--initial-advertise-peer-urls`.
    pub(crate) advertised: &'a [Url],
    /// `--initial-cluster`, or what was discovered in its place.
    pub(crate) initial: InitialCluster,
    /// What goes into the ids beside the URLs.
    pub(crate) token: &'a str,
    /// `--initial-cluster-state`.
    pub(crate) state: State,
    /// `--force-new-cluster`.
    pub(crate) force_new: bool,
    /// `--max-learners`.
    pub(crate) learners_max: usize,
    /// This server's version.
    pub(crate) version: Version,
}

/// What others said, as far as the case needs it.
#[derive(Clone, Debug)]
pub(crate) struct Answers {
    /// Addresses of the hosts in URLs.
    pub(crate) addresses: Addresses,
    /// The cluster that runs.
    pub(crate) cluster: Result<RemoteCluster, FetchError>,
    /// The cluster version that each of its other members tells.
    pub(crate) versions: BTreeMap<MemberId, Option<Version>>,
    /// Whether they say that they are being downgraded.
    pub(crate) downgrading: bool,
}

impl Default for Answers {
    fn default() -> Self {
        Self {
            addresses: Addresses::default(),
            cluster: Err(FetchError::Unreachable),
            versions: BTreeMap::new(),
            downgrading: false,
        }
    }
}

/// Decides; the table of storage-and-raft.md §4.11.
///
/// # Errors
///
/// [`BootstrapError`] if the flags contradict themselves or the cluster that runs.
pub(crate) fn decide(
    setup: &Setup<'_>,
    disk: &Disk,
    answers: &Answers,
) -> Result<Bootstrap, BootstrapError> {
    match (disk, setup.state) {
        (Disk::Log { member_id, cluster_id, members }, _) => {
            let (member_id, cluster_id, members) = (*member_id, *cluster_id, members.clone());
            if !setup.force_new {
                return Ok(Bootstrap { member_id, cluster_id, members, kind: Kind::Restart });
            }
            let own = members.into_iter().find(|member| member.id == member_id);
            // A member that never applied its own addition is its own cluster all the same.
            let own = own.unwrap_or_else(|| MemberRecord {
                id: member_id,
                peer_urls: vec![Url::localhost(2380).to_string()],
                ..MemberRecord::default()
            });
            let members = vec![MemberRecord { is_learner: false, ..own }];
            Ok(Bootstrap { member_id, cluster_id, members, kind: Kind::ForceNew })
        }
        (Disk::Empty, State::New) => begin(setup, answers),
        (Disk::Empty, State::Existing) => join(setup, answers),
    }
}

fn begin(setup: &Setup<'_>, answers: &Answers) -> Result<Bootstrap, BootstrapError> {
    setup.check_new(&answers.addresses)?;
    let members = setup.records()?;
    let own = setup.own_of(&members)?;
    // Another member that runs may remember this one. If nobody answers, nobody runs yet.
    if let Ok(cluster) = &answers.cluster
        && let Some(known) = cluster.members.iter().find(|member| member.id == own.id)
        && !known.client_urls.is_empty()
    {
        return Err(BootstrapError::AlreadyBootstrapped(own.id));
    }
    let ids: Vec<_> = members.iter().map(|member| member.id).collect();
    let (member_id, cluster_id) = (own.id, cluster_id(&ids));
    Ok(Bootstrap { member_id, cluster_id, members, kind: Kind::New })
}

fn join(setup: &Setup<'_>, answers: &Answers) -> Result<Bootstrap, BootstrapError> {
    setup.check_existing()?;
    let cluster = answers.cluster.as_ref().map_err(|error| *error)?;
    let own = setup
        .find_own(cluster, &answers.addresses)
        .map_err(|why| BootstrapError::OtherMembers { existing: describe(cluster), why })?;
    let versions = answers.versions.iter().filter(|(id, _)| **id != own.id);
    if !compatible(setup.version, versions.filter_map(|(_, at)| *at), answers.downgrading) {
        return Err(BootstrapError::Incompatible);
    }
    if cluster.members.iter().filter(|member| member.is_learner).count() > setup.learners_max {
        return Err(BootstrapError::TooManyLearners);
    }
    let member_id = own.id;
    let mut members = cluster.members.clone();
    members.sort_by_key(|member| member.id);
    Ok(Bootstrap { member_id, cluster_id: cluster.id, members, kind: Kind::Join })
}

/// Whether a server of version `own` may join a cluster whose members tell these cluster versions:
/// at least one must tell, and none must be older than any cluster or newer than the server. In a
/// downgrade the cluster is still one minor version ahead.
fn compatible(own: Version, told: impl Iterator<Item = Version>, downgrading: bool) -> bool {
    let most = if downgrading { own.next_minor() } else { own.cluster() };
    let mut told = told.peekable();
    told.peek().is_some() && told.all(|at| at >= Version::CLUSTER_MIN && at <= most)
}

impl Setup<'_> {
    /// The URLs that `--initial-cluster` gives this member.
    pub(super) fn own_urls(&self) -> Result<&[Url], BootstrapError> {
        let urls = self.initial.members.get(self.name).map(Vec::as_slice);
        urls.ok_or_else(|| BootstrapError::LocalName(self.name.to_owned()))
    }

    /// What can be said of a new cluster before anybody is asked.
    pub(super) fn check_new(&self, addresses: &Addresses) -> Result<(), BootstrapError> {
        self.check_advertised(self.own_urls()?, addresses)?;
        self.check_duplicates()
    }

    /// The same of a member that joins; where it is was told when it was added.
    pub(super) fn check_existing(&self) -> Result<(), BootstrapError> {
        self.own_urls()?;
        self.check_duplicates()
    }

    fn check_duplicates(&self) -> Result<(), BootstrapError> {
        if self.initial.has_duplicate_url() {
            return Err(BootstrapError::DuplicateUrl(self.initial.to_string()));
        }
        Ok(())
    }

    fn check_advertised(&self, own: &[Url], addresses: &Addresses) -> Result<(), BootstrapError> {
        let Err(why) = check_same(self.advertised, own, addresses) else { return Ok(()) };
        let join = |urls: Vec<String>| urls.join(",");
        let advertised = join(self.advertised.iter().map(Url::to_string).collect());
        let missing = |from: &[Url], urls: &[Url]| -> Vec<Url> {
            urls.iter().filter(|url| !from.contains(url)).cloned().collect()
        };
        let unannounced = missing(self.advertised, own);
        let unlisted = missing(own, self.advertised);
        // etcd shows what is advertised here, in the form of the other flag.
        let listed = InitialCluster::of(self.name, self.advertised);
        let text = if !unannounced.is_empty() {
            let unannounced = InitialCluster::of(self.name, &unannounced);
            format!(
                "--initial-cluster has {unannounced} but missing from --initial-advertise-peer-urls={advertised} ({why})"
            )
        } else if !unlisted.is_empty() {
            let unlisted = join(unlisted.iter().map(Url::to_string).collect());
            format!(
                "--initial-advertise-peer-urls has {unlisted} but missing from --initial-cluster={listed}"
            )
        } else {
            format!("failed to resolve {advertised} to match --initial-cluster={listed} ({why})")
        };
        Err(BootstrapError::Advertised(text))
    }

    /// The members by the flags.
    fn records(&self) -> Result<Vec<MemberRecord>, BootstrapError> {
        self.initial.records(self.token).map_err(BootstrapError::SameId)
    }

    fn own_of(&self, members: &[MemberRecord]) -> Result<MemberRecord, BootstrapError> {
        let own = members.iter().find(|member| member.name == self.name);
        own.cloned().ok_or_else(|| BootstrapError::LocalName(self.name.to_owned()))
    }

    /// Where the other members may be asked, sorted.
    pub(super) fn remote_urls(&self) -> Result<Vec<String>, BootstrapError> {
        let members = self.records()?;
        let others = members.into_iter().filter(|member| member.name != self.name);
        let mut urls: Vec<String> = others.flat_map(|member| member.peer_urls).collect();
        urls.sort();
        Ok(urls)
    }

    /// Finds a member of the flags for every member that runs, and among them this one.
    pub(super) fn find_own<'c>(
        &self,
        cluster: &'c RemoteCluster,
        addresses: &Addresses,
    ) -> Result<&'c MemberRecord, String> {
        if cluster.members.len() != self.initial.members.len() {
            return Err("member count is unequal".into());
        }
        let mut own = None;
        for remote in &cluster.members {
            let mut last = String::new();
            let found = self.initial.members.iter().find(|(_, urls)| {
                let same = check_same(&urls_of(remote), urls, addresses);
                same.map_err(|why| last = why).is_ok()
            });
            match found {
                Some((name, _)) if name == self.name => own = Some(remote),
                Some(_) => {}
                None => {
                    return Err(format!(
                        "PeerURLs: no match found for existing member ({}, [{}]), last resolver error ({last})",
                        remote.id,
                        remote.peer_urls.join(" ")
                    ));
                }
            }
        }
        own.ok_or_else(|| format!("PeerURLs: no existing member matches {:?}", self.name))
    }
}

/// A running cluster as etcd prints it in this place.
fn describe(cluster: &RemoteCluster) -> String {
    let members: Vec<String> = cluster
        .members
        .iter()
        .map(|member| {
            let MemberRecord { id, name, peer_urls, client_urls, is_learner } = member;
            let (peers, clients) = (peer_urls.join(" "), client_urls.join(" "));
            format!(
                "&{{ID:{id} RaftAttributes:{{PeerURLs:[{peers}] IsLearner:{is_learner}}} Attributes:{{Name:{name} ClientURLs:[{clients}]}}}}"
            )
        })
        .collect();
    format!("{{ClusterID:{} Members:[{}] RemovedMemberIDs:[]}}", cluster.id, members.join(" "))
}

#[cfg(test)]
mod tests;
