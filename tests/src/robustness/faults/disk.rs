//! Disks that are slow, or that fail: by the failpoints of the server.

use std::time::Duration;

use anyhow::{Result, bail};
use tokio::time::Instant;

use super::Fault;
use crate::random::Random;
use crate::robustness::cluster::Cluster;
use crate::robustness::steps::DISK_FAILURES;

/// A disk is slow for this long and the fault's own length.
const SLOW: Duration = Duration::from_secs(1);
/// How often the slowness changes.
const CHANGE: Duration = Duration::from_millis(200);
const SYNC_MILLIS: std::ops::Range<u64> = 50..800;
/// Within this a failure that was met ends the member.
const END_LIMIT: Duration = Duration::from_secs(5);

/// Every sync of one member's log takes a while.
pub(super) async fn slow(cluster: &mut Cluster, fault: Fault) -> Result<()> {
    let mut random = Random::new(fault.step);
    let end = Instant::now() + SLOW + fault.length;
    while Instant::now() < end {
        let member = &mut cluster.members[fault.member];
        if !member.runs() || member.is_paused() {
            return Ok(());
        }
        let millis = SYNC_MILLIS.start + random.below(SYNC_MILLIS.end - SYNC_MILLIS.start);
        member.arm("wal-before-sync", &format!("sleep({millis})")).await?;
        tokio::time::sleep(CHANGE).await;
    }
    if !fault.stays {
        cluster.members[fault.member].disarm("wal-before-sync").await?;
    }
    Ok(())
}

/// A write, a sync or a flush of one member fails. What its disk holds is unknown from then on, so
/// it has to end, and is started again.
pub(super) async fn fail(cluster: &mut Cluster, fault: Fault) -> Result<String> {
    let name = DISK_FAILURES[fault.step as usize % DISK_FAILURES.len()];
    let member = &mut cluster.members[fault.member];
    if !member.runs() || member.is_paused() {
        return Ok(", which does not run".into());
    }
    member.arm(name, "return").await?;
    let ended = match member.wait_end(END_LIMIT).await {
        Some(status) => status,
        None => match member.disarm(name).await {
            Ok(0) => return Ok(format!(", which did not come by {name}")),
            Ok(struck) => match member.wait_end(END_LIMIT).await {
                Some(status) => status,
                None => bail!("{name} failed {struck} times, and the member lives on"),
            },
            // It ended just now.
            Err(_) => match member.wait_end(END_LIMIT).await {
                Some(status) => status,
                None => bail!("a member whose {name} may have failed does not answer"),
            },
        },
    };
    if ended.success() {
        bail!("{name} failed, and the member ended as if nothing was wrong:\n{}", member.tail());
    }
    super::commit::hold(fault).await;
    cluster.start_missing()?;
    Ok(format!(", whose {name} failed: {ended}"))
}
