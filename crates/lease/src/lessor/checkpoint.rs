//! The leader writes down what is left of its leases (LE-11), so that its successor does not give
//! them their whole time again.
//!
//! A record must not cut short a renewal that a client was told of. So a renewal is answered only
//! when no record from before it is left, or may still come: [`Lessor::checkpoint_state`].

use std::collections::BTreeMap;
use std::ops::Bound;

use etcdrs_types::LeaseId;

use super::Lessor;

/// Records of one entry of the log.
const BATCH: usize = 1000;
/// What a record costs, milliseconds: a thousand a second, as etcd.
const RECORD_MS: u64 = 1;
/// Leases that one call looks at, which holds up everything else.
const LOOKS_MAX: usize = 10_000;

/// What a renewal has to do about records before it is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckpointState {
    /// Nothing.
    None,
    /// A record goes through the log: wait for it.
    UnderWay,
    /// There is a record, or there may be: forget it through the log.
    Recorded,
}

/// A record that was proposed and is not known to be applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unsettled {
    UnderWay,
    /// The proposal failed, but its entry may still come.
    InDoubt,
}

/// Where the leader's walk through its leases stands; it begins anew each interval.
#[derive(Debug)]
pub(super) struct Sweep {
    /// When this walk began, milliseconds.
    began: u64,
    /// When it goes on, milliseconds.
    next: u64,
    /// The lease that was looked at last; `None` before a walk.
    after: Option<LeaseId>,
    unsettled: BTreeMap<LeaseId, Unsettled>,
}

impl Sweep {
    /// A new leader knows of every lease what the records say: there is time.
    pub(super) fn first(now: u64, interval_ms: Option<u64>) -> Self {
        let next = now.saturating_add(interval_ms.unwrap_or(u64::MAX));
        Self { began: now, next, after: None, unsettled: BTreeMap::new() }
    }

    /// A committed entry forgot the record of a lease.
    pub(super) fn forgotten(&mut self, id: LeaseId) {
        if self.unsettled.get(&id) == Some(&Unsettled::InDoubt) {
            self.unsettled.remove(&id);
        }
    }
}

/// A part of the leader-local half: records.
impl Lessor {
    /// What is to be recorded now: leases, and the seconds they have left. The caller proposes it
    /// and says how that ended: [`Self::checkpoints_written`], [`Self::checkpoints_in_doubt`].
    ///
    /// Nothing without [`Options::checkpoint_interval_ms`](crate::Options). Leases that end within
    /// an interval are left out, and those of whose time nothing is gone.
    pub fn due_checkpoints(&mut self, now: u64) -> Vec<(LeaseId, i64)> {
        let Some(interval_ms) = self.options.checkpoint_interval_ms else { return Vec::new() };
        self.arm(now);
        let Some(clocks) = &mut self.clocks else { return Vec::new() };
        let sweep = &mut clocks.sweep;
        if now < sweep.next {
            return Vec::new();
        }
        let start = sweep.after.map_or(Bound::Unbounded, Bound::Excluded);
        if sweep.after.is_none() {
            sweep.began = now;
        }
        let mut walk = self.by_id.range((start, Bound::Unbounded)).take(LOOKS_MAX);
        let mut due = Vec::new();
        let mut looks = 0;
        while due.len() < BATCH
            && let Some((&id, &slot)) = walk.next()
        {
            (looks, sweep.after) = (looks + 1, Some(id));
            let lease = self.places[slot as usize].lease.as_ref();
            let lease = lease.expect("by_id names taken places only");
            let left_ms = lease.deadline.saturating_sub(now);
            // Rounded up: a record must not shorten a lease.
            let left_seconds = i64::try_from(left_ms.div_ceil(1000)).unwrap_or(i64::MAX);
            if left_ms > interval_ms && left_seconds < lease.ttl_seconds {
                due.push((id, left_seconds));
                sweep.unsettled.insert(id, Unsettled::UnderWay);
            }
        }
        sweep.next = now + due.len() as u64 * RECORD_MS;
        if due.len() < BATCH && looks < LOOKS_MAX {
            sweep.after = None;
            sweep.next = sweep.next.max(sweep.began.saturating_add(interval_ms));
        }
        due
    }

    /// The entry with these records was applied.
    pub fn checkpoints_written(&mut self, points: &[(LeaseId, i64)]) {
        let Some(clocks) = &mut self.clocks else { return };
        for (id, _) in points {
            clocks.sweep.unsettled.remove(id);
        }
    }

    /// The proposal of these records failed, but its entry may still come.
    pub fn checkpoints_in_doubt(&mut self, points: &[(LeaseId, i64)]) {
        let Some(clocks) = &mut self.clocks else { return };
        for (id, _) in points {
            clocks.sweep.unsettled.insert(*id, Unsettled::InDoubt);
        }
    }

    /// What a renewal of a lease has to do about records before it is answered: asked after
    /// [`Self::renew`], whose deadline all later records know.
    #[must_use]
    pub fn checkpoint_state(&self, id: LeaseId) -> CheckpointState {
        let unsettled = self.clocks.as_ref().and_then(|clocks| clocks.sweep.unsettled.get(&id));
        match unsettled {
            Some(Unsettled::UnderWay) => CheckpointState::UnderWay,
            Some(Unsettled::InDoubt) => CheckpointState::Recorded,
            None if self.get(id).is_some_and(|lease| lease.checkpoint_seconds > 0) => {
                CheckpointState::Recorded
            }
            None => CheckpointState::None,
        }
    }
}
