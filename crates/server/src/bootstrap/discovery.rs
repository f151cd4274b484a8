//! v3 discovery: members of a new cluster find each other in an etcd that runs already
//! (operations.md §2.10).
//!
//! Whoever makes a token writes how many members there will be; each member registers itself and
//! waits for the others. The first ones by creation count; who comes later is refused.

use std::future::Future;
use std::time::Duration;

use etcdrs_types::MemberId;

use super::{BootstrapError, DiscoveryError};
use crate::config::InitialCluster;

/// Where tokens live.
const REGISTRY: &str = "/_etcd/registry";
/// Attempts after which the pause between two of them grows no more: 2^8 s.
const BACKOFF_DOUBLINGS_MAX: u32 = 8;

/// The keys of the discovery service. Errors are of the connection, and worth another attempt.
pub(crate) trait Registry: Sync {
    /// The value of a key.
    fn get(&self, key: &str) -> impl Future<Output = Result<Option<String>, String>> + Send;

    /// Everything under a prefix.
    fn list(&self, prefix: &str) -> impl Future<Output = Result<Listing, String>> + Send;

    /// Writes a key.
    fn put(&self, key: &str, value: &str) -> impl Future<Output = Result<(), String>> + Send;

    /// What was put under a prefix at `from_revision` or later; waits until there is something.
    fn wait(
        &self,
        prefix: &str,
        from_revision: i64,
    ) -> impl Future<Output = Result<Listing, String>> + Send;
}

/// Keys of the discovery service at one revision.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Listing {
    /// The revision of the answer.
    pub(crate) revision: i64,
    /// What was found, in any order.
    pub(crate) found: Vec<Registered>,
}

/// One key of a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Registered {
    /// `…/members/<id>`.
    pub(crate) key: String,
    /// `name=url,name=url`.
    pub(crate) value: String,
    /// When it was created; the order of the members.
    pub(crate) create_revision: i64,
}

/// Registers a member and waits until the cluster is complete. `own` is its `name=url` list.
///
/// # Errors
///
/// [`DiscoveryError`]. A service that cannot be reached is tried again for ever.
pub(super) async fn join(
    registry: &impl Registry,
    token: &str,
    id: MemberId,
    own: &str,
    pause: Duration,
) -> Result<InitialCluster, BootstrapError> {
    let service = Service { registry, pause, prefix: format!("{REGISTRY}/{token}/members") };
    let key = format!("{}/{id}", service.prefix);
    let size = service.size(token).await?;
    service.members(size, &key).await?;
    service.again("register", || registry.put(&key, own)).await;
    tracing::info!(member_id = %id, "register member itself successfully");
    // Others may have come first in the meantime.
    let mut members = service.members(size, &key).await?;
    let (mut left, mut after) = (size.saturating_sub(members.found.len()), members.revision);
    while left > 0 {
        tracing::info!(found_peers = members.found.len(), needed_peers = left, "waiting for peers");
        let came = service.again("wait", || registry.wait(&service.prefix, after + 1)).await;
        after = after.max(came.revision);
        add(&mut members.found, came.found, &service.prefix);
        left = size.saturating_sub(members.found.len());
    }
    members.found.truncate(size);
    let values: Vec<&str> = members.found.iter().map(|member| member.value.as_str()).collect();
    let cluster =
        InitialCluster::parse(&values.join(",")).map_err(|_| DiscoveryError::InvalidPeerUrl)?;
    if cluster.has_duplicate_url() {
        return Err(DiscoveryError::DuplicateUrl(cluster.to_string()).into());
    }
    Ok(cluster)
}

struct Service<'a, R> {
    registry: &'a R,
    pause: Duration,
    prefix: String,
}

impl<R: Registry> Service<'_, R> {
    async fn size(&self, token: &str) -> Result<usize, DiscoveryError> {
        let key = format!("{REGISTRY}/{token}/_config/size");
        let value = self.again("get size", || self.registry.get(&key)).await;
        let size = value.ok_or(DiscoveryError::SizeNotFound)?.parse::<usize>();
        size.ok().filter(|&size| size > 0).ok_or(DiscoveryError::BadSize)
    }

    /// The members so far, the oldest first.
    async fn members(&self, size: usize, own: &str) -> Result<Listing, DiscoveryError> {
        let listing = self.again("list", || self.registry.list(&self.prefix)).await;
        let mut found = Vec::new();
        add(&mut found, listing.found, &self.prefix);
        let place = found.iter().position(|member| member.key == own);
        if place.unwrap_or(found.len()) >= size {
            tracing::warn!("failed to bootstrap; discovery token was already used");
            return Err(DiscoveryError::Full);
        }
        Ok(Listing { found, ..listing })
    }

    /// Asks until there is an answer.
    async fn again<T, F>(&self, what: &str, ask: impl Fn() -> F) -> T
    where
        F: Future<Output = Result<T, String>>,
    {
        let mut doublings = 0;
        loop {
            match ask().await {
                Ok(answer) => return answer,
                Err(reason) => {
                    doublings = BACKOFF_DOUBLINGS_MAX.min(doublings + 1);
                    let backoff = self.pause * (1 << doublings);
                    tracing::warn!(what, reason, ?backoff, "retry connecting to discovery service");
                    tokio::time::sleep(backoff).await;
                }
            }
        }
    }
}

/// Adds members that are none twice and have a name, and puts all in the order of their creation.
fn add(members: &mut Vec<Registered>, found: Vec<Registered>, prefix: &str) {
    for mut member in found {
        member.value = member.value.trim().to_owned();
        let under = member.key.strip_prefix(prefix).is_some_and(|rest| rest.starts_with('/'));
        if !under || !member.value.contains('=') {
            tracing::warn!(key = member.key, "invalid peer info returned from discovery service");
        } else if members.iter().any(|known| known.key == member.key) {
            tracing::warn!(key = member.key, "found duplicate peer from discovery service");
        } else {
            tracing::info!(
                key = member.key,
                value = member.value,
                "found peer from discovery service"
            );
            members.push(member);
        }
    }
    members.sort_by_key(|member| member.create_revision);
}

#[cfg(test)]
mod tests;
