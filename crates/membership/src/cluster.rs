//! The list of members and the cluster's version.

use std::collections::{BTreeMap, BTreeSet};

use etcdrs_backend::{Backend, Batch, Bucket, Scan};
use etcdrs_proto::membershippb::ClusterMemberAttrSetRequest;
use etcdrs_types::{ClusterId, MemberId};

use crate::{Change, MemberRecord, Refused, cluster_id};

/// Row of [`Bucket::Cluster`] that holds the cluster version as text.
const KEY_VERSION: &[u8] = b"clusterVersion";
/// Value of a row of [`Bucket::MembersRemoved`].
const REMOVED: &[u8] = b"removed";
/// Where etcd listens for peers when no flag says otherwise.
const DEFAULT_PEER_URL: &str = "http://localhost:2380";

/// Why [`Cluster::open`] failed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The database could not be read.
    #[error("read members")]
    Backend(#[from] etcdrs_backend::Error),
    /// A member's row is not its JSON.
    #[error("corrupt row of member {key:?}")]
    Member {
        /// The row's key.
        key: String,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// A row's key is not an id, or not the id of its member.
    #[error("corrupt member id {key:?}")]
    Id {
        /// The row's key.
        key: String,
    },
    /// The cluster version is not text.
    #[error("corrupt cluster version")]
    Version,
}

/// What applying a change did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    /// The members are others now.
    Changed,
    /// The change had been applied before.
    Unchanged,
}

/// The members, the ids that were removed, and the cluster version. Changed by committed entries
/// only.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cluster {
    members: BTreeMap<MemberId, MemberRecord>,
    removed: BTreeSet<MemberId>,
    version: Option<String>,
}

impl Cluster {
    /// Reads the cluster of a database; an empty database gives an empty cluster.
    ///
    /// # Errors
    ///
    /// [`OpenError`] if the buckets cannot be read or hold something else.
    pub fn open(backend: &Backend) -> Result<Self, OpenError> {
        let mut cluster = Self::default();
        let mut rows = backend.rows(Bucket::Members, &Scan::all());
        while let Some((key, value)) = rows.next()? {
            let id = parse_key(key)?;
            let member = MemberRecord::from_json(value)
                .map_err(|source| OpenError::Member { key: lossy(key), source })?;
            if member.id != id {
                return Err(OpenError::Id { key: lossy(key) });
            }
            cluster.members.insert(id, member);
        }
        let mut rows = backend.rows(Bucket::MembersRemoved, &Scan::all());
        while let Some((key, _)) = rows.next()? {
            cluster.removed.insert(parse_key(key)?);
        }
        if let Some(version) = backend.get(Bucket::Cluster, KEY_VERSION)? {
            let text = String::from_utf8(version.to_vec()).map_err(|_| OpenError::Version)?;
            cluster.version = Some(text);
        }
        Ok(cluster)
    }

    /// Every member, by ascending id (MB-08).
    pub fn members(&self) -> impl ExactSizeIterator<Item = &MemberRecord> {
        self.members.values()
    }

    /// One member.
    #[must_use]
    pub fn member(&self, id: MemberId) -> Option<&MemberRecord> {
        self.members.get(&id)
    }

    /// The ids of all members, ascending.
    #[must_use]
    pub fn member_ids(&self) -> Vec<MemberId> {
        self.members.keys().copied().collect()
    }

    /// Number of members.
    #[must_use]
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether there are none, as on a member that has yet to join.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Whether the id belonged to a member that was removed.
    #[must_use]
    pub fn is_removed(&self, id: MemberId) -> bool {
        self.removed.contains(&id)
    }

    /// The id that a cluster starting with the present members has. It never changes later, so
    /// it is to be asked for once, at bootstrap.
    #[must_use]
    pub fn bootstrap_id(&self) -> ClusterId {
        cluster_id(&self.member_ids())
    }

    /// The cluster version, such as `3.7.0`; `None` until one was agreed.
    #[must_use]
    pub fn version(&self) -> Option<&str> {
        self.version.as_deref()
    }

    /// Puts a member in, or in place of the one with its id. Whether that is allowed was decided
    /// before.
    pub fn insert(&mut self, batch: &mut Batch, member: MemberRecord) {
        batch.put(Bucket::Members, key(member.id).as_bytes(), &member.to_json());
        self.members.insert(member.id, member);
    }

    /// Makes `members` the only ones, as a new cluster begins. Rows that an interrupted start left
    /// behind go; none of their ids was ever used.
    pub fn bootstrap(&mut self, batch: &mut Batch, members: impl Iterator<Item = MemberRecord>) {
        for id in std::mem::take(&mut self.members).into_keys() {
            batch.delete(Bucket::Members, key(id).as_bytes());
        }
        members.for_each(|member| self.insert(batch, member));
    }

    /// Leaves `only` as the members, and as voters: what `--force-new-cluster` asks for. One that
    /// never applied its own addition gets etcd's default URL.
    pub fn force_new(&mut self, batch: &mut Batch, only: &[MemberId]) {
        let others: Vec<MemberId> =
            self.members.keys().copied().filter(|id| !only.contains(id)).collect();
        others.into_iter().for_each(|id| self.remove(batch, id));
        for &id in only {
            let peer_urls = vec![DEFAULT_PEER_URL.to_owned()];
            let unknown = || MemberRecord { id, peer_urls, ..MemberRecord::default() };
            let own = self.members.get(&id).cloned().unwrap_or_else(unknown);
            self.insert(batch, MemberRecord { is_learner: false, ..own });
        }
    }

    /// Takes a member out for ever; its id stays known as removed.
    pub fn remove(&mut self, batch: &mut Batch, id: MemberId) {
        batch.delete(Bucket::Members, key(id).as_bytes());
        batch.put(Bucket::MembersRemoved, key(id).as_bytes(), REMOVED);
        self.members.remove(&id);
        self.removed.insert(id);
    }

    /// Applies a committed change, the same on every member whatever its flags. A change that was
    /// applied before changes nothing.
    ///
    /// # Errors
    ///
    /// The rule of [`Cluster::check`] that the change breaks; nothing is changed then. A leader
    /// that checks before it appends never writes such an entry.
    pub fn apply(&mut self, batch: &mut Batch, change: &Change) -> Result<Applied, Refused> {
        if self.shows(change) {
            return Ok(Applied::Unchanged);
        }
        self.check(change)?;
        match change {
            Change::Add(member) => self.insert(batch, member.clone()),
            Change::Remove(id) => self.remove(batch, *id),
            Change::Promote(id) => self.edit(batch, *id, |member| member.is_learner = false),
            Change::Update { id, peer_urls } => {
                self.edit(batch, *id, |member| member.peer_urls.clone_from(peer_urls));
            }
        }
        Ok(Applied::Changed)
    }

    /// Whether the members are already as the change would leave them.
    fn shows(&self, change: &Change) -> bool {
        let known = self.member(change.member());
        match change {
            // Name and vote may have changed since it was added.
            Change::Add(added) => known.is_some_and(|member| member.peer_urls == added.peer_urls),
            Change::Promote(_) => known.is_some_and(|member| !member.is_learner),
            Change::Remove(id) => self.is_removed(*id),
            Change::Update { peer_urls, .. } => {
                known.is_some_and(|member| member.peer_urls == *peer_urls)
            }
        }
    }

    fn edit(&mut self, batch: &mut Batch, id: MemberId, edit: impl FnOnce(&mut MemberRecord)) {
        let member = self.members.get_mut(&id).expect("check() found the member");
        edit(member);
        batch.put(Bucket::Members, key(id).as_bytes(), &member.to_json());
    }

    /// Applies what a member publishes about itself: its name and client URLs. Tells whether the
    /// member is known; an unknown or removed one is left alone.
    pub fn set_attributes(
        &mut self,
        batch: &mut Batch,
        request: &ClusterMemberAttrSetRequest,
    ) -> bool {
        let Some(member) = self.members.get_mut(&MemberId(request.member_id)) else { return false };
        let published = request.member_attributes.clone().unwrap_or_default();
        member.name = published.name;
        member.client_urls = published.client_urls;
        batch.put(Bucket::Members, key(member.id).as_bytes(), &member.to_json());
        true
    }

    /// Applies an agreed cluster version.
    pub fn set_version(&mut self, batch: &mut Batch, version: &str) {
        batch.put(Bucket::Cluster, KEY_VERSION, version.as_bytes());
        self.version = Some(version.to_owned());
    }
}

/// Key of a member's row: its id in hex.
fn key(id: MemberId) -> String {
    id.to_string()
}

fn parse_key(key: &[u8]) -> Result<MemberId, OpenError> {
    std::str::from_utf8(key)
        .ok()
        .and_then(|text| u64::from_str_radix(text, 16).ok())
        .map(MemberId)
        .ok_or_else(|| OpenError::Id { key: lossy(key) })
}

fn lossy(key: &[u8]) -> String {
    String::from_utf8_lossy(key).into_owned()
}

#[cfg(test)]
mod tests;
