//! A member is removed for good, and another one with an empty disk takes its place.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::time::{Instant, timeout};

use super::Fault;
use super::step::{self, Met};
use crate::client::Clients;
use crate::pb;
use crate::robustness::cluster::Cluster;
use crate::robustness::history::Replacement;
use crate::robustness::steps;
use crate::robustness::wire::Wire;
use crate::target::Flavour;

/// A healthy cluster makes a change within this: links count after 5 s (MB-04).
const CHANGE_LIMIT: Duration = Duration::from_secs(40);
/// A member that was removed while it runs learns of it, and ends, within this.
const LEAVE_LIMIT: Duration = Duration::from_secs(10);
const ASK_LIMIT: Duration = Duration::from_secs(8);
const PAUSE: Duration = Duration::from_millis(50);

/// One change of the membership.
#[derive(Clone, Debug)]
enum Change {
    Remove(u64),
    /// A learner at this URL.
    Add(String),
    Promote(u64),
}

impl Change {
    /// Whether the list of members says that it was made.
    fn is_made(&self, members: &[pb::Member]) -> bool {
        let find = |id: u64| members.iter().find(|member| member.id == id);
        match self {
            Self::Remove(id) => find(*id).is_none(),
            Self::Add(url) => members.iter().any(|member| member.peer_urls.contains(url)),
            Self::Promote(id) => find(*id).is_some_and(|member| !member.is_learner),
        }
    }

    async fn ask(&self, clients: &mut Clients) -> Result<(), tonic::Status> {
        match self {
            Self::Remove(id) => clients.try_member_remove(*id).await.map(drop),
            Self::Add(url) => {
                let peer_urls = vec![url.clone()];
                let request = pb::MemberAddRequest { peer_urls, is_learner: true };
                clients.try_member_add(request).await.map(drop)
            }
            Self::Promote(id) => clients.try_member_promote(*id).await.map(drop),
        }
    }
}

/// Removes the fault's member and puts another one in its place, as a learner first.
pub(super) async fn replace(cluster: &mut Cluster, fault: Fault, wire: &Wire) -> Result<String> {
    // One at a time, and nobody else is away: otherwise the rules forbid it, or a quorum is lost.
    cluster.heal().await?;
    let (at, by) = (fault.member, fault.other);
    let id = id_of(cluster, at).await?;
    let alive = fault.variant.is_multiple_of(2);
    let ours = cluster.members[at].flavour() == Flavour::Current;
    if !alive {
        cluster.members[at].kill();
    }
    make(cluster, by, Change::Remove(id)).await?;
    let mut told = String::from(if alive { ", removed alive" } else { ", removed dead" });
    if alive {
        match cluster.members[at].wait_end(LEAVE_LIMIT).await {
            Some(status) if status.success() || !ours => {}
            Some(status) => {
                let tail = cluster.members[at].tail();
                bail!("a removed member ended badly, {status}:\n{tail}");
            }
            None => told += ", which it did not hear of",
        }
        cluster.members[at].kill();
    }
    cluster.replacements.push(Replacement { member: at, at: wire.now() });
    cluster.members[at].succeed()?;
    let url = cluster.peer_urls[at].clone();
    let members = make(cluster, by, Change::Add(url.clone())).await?;
    let added = members.iter().find(|member| member.peer_urls.contains(&url));
    let added = added.context("the member that was added")?.id;
    told += &begin(cluster, fault).await?;
    if fault.variant >= 4 {
        // The leader goes while the new member learns.
        if let Some(leader) = cluster.leader().await.filter(|leader| *leader != at) {
            cluster.members[leader].kill();
            cluster.start_missing()?;
            told += ", leader killed";
        }
    }
    make(cluster, by, Change::Promote(added)).await?;
    Ok(format!("{told}, {id:x} replaced by {added:x}"))
}

/// The id of a member, which is well but may be busy.
async fn id_of(cluster: &Cluster, at: usize) -> Result<u64> {
    let limit = Instant::now() + CHANGE_LIMIT;
    loop {
        match cluster.status(at).await {
            Ok(status) => return Ok(status.header.context("a header")?.member_id),
            Err(error) if Instant::now() > limit => return Err(error),
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

/// Starts the new member; with failpoints its first start ends at a step of its own.
async fn begin(cluster: &mut Cluster, fault: Fault) -> Result<String> {
    let name = steps::of_creation(fault.step);
    let member = &mut cluster.members[fault.member];
    if !member.has_failpoints() || fault.variant % 4 < 2 {
        member.launch()?;
        return Ok(String::new());
    }
    member.launch_armed(Some((name, "exit")))?;
    let met = step::outcome(cluster, fault.member, name, ASK_LIMIT).await?;
    cluster.start_missing()?;
    match met {
        Met::Yes => Ok(format!(", ended at {name}")),
        Met::No => Ok(String::new()),
        Met::Died(why) => bail!("a new member did not begin: {why}"),
    }
}

/// Asks for a change until it is made; the members then.
async fn make(cluster: &mut Cluster, by: usize, change: Change) -> Result<Vec<pb::Member>> {
    let limit = Instant::now() + CHANGE_LIMIT;
    let mut last = String::from("nobody answered");
    while Instant::now() < limit {
        match timeout(ASK_LIMIT, attempt(cluster, by, &change)).await {
            Ok(Ok(members)) => return Ok(members),
            Ok(Err(error)) => last = format!("{error:#}"),
            Err(_) => last = "no answer in time".into(),
        }
        tokio::time::sleep(PAUSE).await;
    }
    bail!("{change:?} was not made: {last}")
}

/// Asks once. A change whose answer was lost may have been made.
async fn attempt(cluster: &Cluster, by: usize, change: &Change) -> Result<Vec<pb::Member>> {
    let mut clients = cluster.direct(by).await?;
    let before = clients.try_member_list(true).await?.members;
    if change.is_made(&before) {
        return Ok(before);
    }
    change.ask(&mut clients).await?;
    Ok(clients.try_member_list(true).await?.members)
}
