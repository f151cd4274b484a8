//! A member ends at a named step, or sleeps there.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::time::{Instant, timeout};

use super::Fault;
use crate::pb;
use crate::robustness::cluster::{Cluster, LAG};
use crate::robustness::steps::{self, Occasion};

/// A step that the load leads to is waited for this long at least.
const WAIT_MIN: Duration = Duration::from_secs(2);
/// A step on the way of a database, which begins when links are up again, or at the end of an
/// orderly stop, which waits for peers and clients.
const WAIT_LONG: Duration = Duration::from_secs(8);
/// A process that was told to end is gone within this.
const END_LIMIT: Duration = Duration::from_secs(5);
/// How long it is waited until a member lags so far that it needs the database.
const LAG_LIMIT: Duration = Duration::from_secs(12);
const PAUSE: Duration = Duration::from_millis(20);
const LOOK: Duration = Duration::from_millis(200);
/// Nothing that is asked for takes longer on a cluster that is well.
const ASK_LIMIT: Duration = Duration::from_secs(2);

/// What became of an armed failpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Met {
    /// The member did not come by it.
    No,
    /// It ended the member there, or acted in another way.
    Yes,
    /// The member ended for another reason: the end of its log.
    Died(String),
}

/// Waits for the fault's step at its member, or at whoever leads if only a leader comes by it, and
/// starts the member again if that ended it.
pub(super) async fn step(cluster: &mut Cluster, fault: Fault) -> Result<String> {
    let (occasion, name) = steps::choose(fault.step, cluster.members.len());
    let mut member = fault.member;
    if matches!(occasion, Occasion::Lead | Occasion::Change | Occasion::SendDatabase) {
        member = cluster.leader().await.unwrap_or(member);
    }
    // One in four sleeps, which is no end but holds up all that waits for it.
    let sleeps = fault.variant >= 6 && occasion != Occasion::Stop;
    let millis = fault.length.as_millis().clamp(50, 2000);
    let action = if sleeps { format!("sleep({millis})") } else { "exit".to_owned() };
    let told = format!(", {name}={action} at member {member}");
    let running = &cluster.members[member];
    if !running.runs() || running.is_paused() {
        return Ok(told + ", which does not run");
    }
    let began = match occasion {
        Occasion::ReceiveDatabase => receive(cluster, member, name, &action).await?,
        Occasion::SendDatabase => send(cluster, member, name, &action).await?,
        Occasion::Start | Occasion::Create => start(cluster, member, name, &action)?,
        _ => {
            cluster.members[member].arm(name, &action).await?;
            // It may end on the way, or have other troubles just then.
            let provoking = provoke(cluster, fault, member, occasion);
            let _ = timeout(ASK_LIMIT, provoking).await;
            true
        }
    };
    if !began {
        return Ok(told + ", to which nothing led");
    }
    let wait = match occasion {
        Occasion::ReceiveDatabase | Occasion::SendDatabase | Occasion::Stop => WAIT_LONG,
        _ => fault.length.max(WAIT_MIN),
    };
    let met = outcome(cluster, member, name, wait).await?;
    if occasion == Occasion::Stop {
        // As a supervisor would, in the end.
        cluster.members[member].kill();
    }
    cluster.start_missing()?;
    match met {
        Met::Yes => Ok(told),
        // It was asked to.
        Met::Died(_) if occasion == Occasion::Stop => Ok(told + ", which it did not come by"),
        Met::Died(why) => bail!("member {member} ended by itself, not at {name}: {why}"),
        Met::No => Ok(told + ", which it did not come by"),
    }
}

/// Waits whether a failpoint acts, and disarms it if it ended nothing.
pub(super) async fn outcome(
    cluster: &mut Cluster,
    at: usize,
    name: &'static str,
    wait: Duration,
) -> Result<Met> {
    let member = &mut cluster.members[at];
    let limit = Instant::now() + wait;
    let mut ended = None;
    while ended.is_none() && Instant::now() < limit {
        ended = member.wait_end(LOOK).await;
        // One that sleeps need not sleep again.
        if ended.is_none() && member.acted(name).await {
            break;
        }
    }
    if ended.is_none() {
        match member.disarm(name).await {
            Ok(0) => return Ok(Met::No),
            Ok(_) => {
                cluster.passed.insert(name.to_owned());
                return Ok(Met::Yes);
            }
            // It ended just now.
            Err(error) => match member.wait_end(END_LIMIT).await {
                Some(status) => ended = Some(status),
                None => return Err(error),
            },
        }
    }
    if member.exit_step().as_deref() == Some(name) {
        cluster.passed.insert(name.to_owned());
        return Ok(Met::Yes);
    }
    let status = ended.map_or(String::new(), |status| status.to_string());
    Ok(Met::Died(format!("{status}:\n{}", member.tail())))
}

/// Does what leads to the step beside the load.
async fn provoke(cluster: &Cluster, fault: Fault, member: usize, occasion: Occasion) -> Result<()> {
    match occasion {
        Occasion::Stop => cluster.members[member].ask_to_end()?,
        Occasion::Election => {
            // To this member, or away from it. Refused while an election runs, which is as good.
            let leads = cluster.leader().await == Some(member);
            cluster.move_leader(if leads { fault.other } else { member }).await?;
        }
        Occasion::Defragment => {
            let mut clients = cluster.direct(member).await?;
            clients.maintenance.defragment(pb::DefragmentRequest {}).await?;
        }
        Occasion::Change | Occasion::Changed => {
            // What it was before: every change goes through the log.
            let id = cluster.status(member).await?.header.context("a header")?.member_id;
            let mut clients = cluster.direct(member).await?;
            let urls = vec![cluster.peer_urls[member].clone()];
            clients.try_member_update(id, urls).await?;
        }
        _ => {}
    }
    Ok(())
}

/// A member is away until it needs the database, and comes by the step when it gets it.
async fn receive(
    cluster: &mut Cluster,
    member: usize,
    name: &'static str,
    action: &str,
) -> Result<bool> {
    if !fall_behind(cluster, member).await? {
        return Ok(false);
    }
    cluster.members[member].launch_armed(Some((name, action)))?;
    Ok(true)
}

/// The same, for whoever sends it.
async fn send(
    cluster: &mut Cluster,
    leader: usize,
    name: &'static str,
    action: &str,
) -> Result<bool> {
    let away = (leader + 1) % cluster.members.len();
    if !fall_behind(cluster, away).await? {
        return Ok(false);
    }
    cluster.members[leader].arm(name, action).await?;
    cluster.start_missing()?;
    Ok(true)
}

/// A start at which old segments of the log are deleted.
fn start(cluster: &mut Cluster, at: usize, name: &'static str, action: &str) -> Result<bool> {
    let member = &mut cluster.members[at];
    member.kill();
    member.launch_armed(Some((name, action)))?;
    Ok(true)
}

/// Keeps a member away until the others have more than they keep for it. Starts it again and says
/// no if that takes too long.
async fn fall_behind(cluster: &mut Cluster, member: usize) -> Result<bool> {
    cluster.heal().await?;
    cluster.members[member].kill();
    let limit = Instant::now() + LAG_LIMIT;
    let mut first = None;
    while Instant::now() < limit {
        if let Some(leader) = cluster.leader().await
            && let Ok(status) = cluster.status(leader).await
        {
            let now = status.raft_index;
            if now > *first.get_or_insert(now) + LAG {
                return Ok(true);
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
    cluster.start_missing()?;
    Ok(false)
}
