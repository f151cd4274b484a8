//! The lessor: leases, their keys, and the leader's clocks.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use etcdrs_backend::{Backend, Batch, Bucket, Scan};
use etcdrs_proto::leasepb;
use etcdrs_types::LeaseId;
use etcdrs_types::limits::{ELECTION_MS, LEASE_TTL_SECONDS_MAX};
use prost::Message;

pub use self::checkpoint::CheckpointState;
use self::checkpoint::Sweep;
use crate::expiry::{Ticket, Verdict, Wheel};

mod checkpoint;

#[cfg(test)]
mod tests;

/// Settings of a [`Lessor`].
#[derive(Clone, Debug)]
pub struct Options {
    /// Smallest TTL, seconds; smaller ones are raised to it (LE-02). See [`min_ttl_seconds`].
    pub min_ttl_seconds: i64,
    /// How long after an expired lease was offered it is offered again, milliseconds.
    pub retry_ms: u64,
    /// Expiries per second that the shell is willing to propose. A promoted lessor spreads the
    /// deadlines so that at most three quarters of it fall in one second (LE-10); etcd has 1000.
    pub revokes_per_second: usize,
    /// Time between two records of what is left of a lease, milliseconds; `None` makes none
    /// (LE-11, gate LeaseCheckpoint).
    pub checkpoint_interval_ms: Option<u64>,
    /// Whether records go into the leases' rows whatever the cluster's version (LE-11, gate
    /// LeaseCheckpointPersist).
    pub persist_checkpoints: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            min_ttl_seconds: min_ttl_seconds(ELECTION_MS),
            retry_ms: 7000,
            revokes_per_second: 100_000,
            checkpoint_interval_ms: None,
            persist_checkpoints: false,
        }
    }
}

/// The smallest TTL for an election time-out of `election_ms`: one and a half of it, rounded up to
/// whole seconds (LE-02).
#[must_use]
pub const fn min_ttl_seconds(election_ms: u64) -> i64 {
    (election_ms * 3 / 2).div_ceil(1000).cast_signed()
}

/// Why [`Lessor::open`] failed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The database could not be read.
    #[error("read leases")]
    Backend(#[from] etcdrs_backend::Error),
    /// A row of the lease bucket is not what this program writes.
    #[error("corrupt row of lease {key:02x?}")]
    Corrupt {
        /// The row's key.
        key: Vec<u8>,
    },
}

/// Why [`Lessor::grant`] refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GrantError {
    /// The TTL is above [`LEASE_TTL_SECONDS_MAX`].
    #[error("etcdserver: too large lease TTL")]
    TooLarge,
    /// A lease with this id exists (the id "no lease" counts as taken).
    #[error("etcdserver: lease already exists")]
    Exists,
}

/// There is no such lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("etcdserver: requested lease not found")]
pub struct NotFound;

/// Why [`Lessor::renew`] refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RenewError {
    /// There is no such lease.
    #[error("etcdserver: requested lease not found")]
    NotFound,
    /// This lessor keeps no clocks: the member does not lead.
    #[error("not a primary lessor")]
    NotPrimary,
    /// The lease has expired and waits for its revoke; the answer is TTL 0 once that is applied
    /// (LE-04).
    #[error("lease expired")]
    Expiring,
}

/// What is known of a lease's time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeToLive {
    /// The granted TTL, seconds.
    pub granted_seconds: i64,
    /// Whole seconds left, rounded down, never negative. Without clocks: the TTL that a new leader
    /// would start with.
    pub remaining_seconds: i64,
}

#[derive(Debug)]
struct Lease {
    id: LeaseId,
    ttl_seconds: i64,
    /// Last checkpointed remaining TTL, seconds; 0 for none.
    checkpoint_seconds: i64,
    /// When it expires by the leader's clock, milliseconds. Meaningless without clocks.
    deadline: u64,
    /// Copies, so that a key does not keep the request alive that brought it.
    keys: BTreeSet<Box<[u8]>>,
}

impl Lease {
    fn start_seconds(&self) -> i64 {
        if self.checkpoint_seconds > 0 { self.checkpoint_seconds } else { self.ttl_seconds }
    }

    fn row(&self, remaining_ttl: i64) -> Vec<u8> {
        let (id, ttl) = (self.id.0, self.ttl_seconds);
        leasepb::Lease { id, ttl, remaining_ttl }.encode_to_vec()
    }
}

/// The leader's clocks.
#[derive(Debug)]
struct Clocks {
    wheel: Wheel,
    sweep: Sweep,
    /// Granted since time was last told: they have no deadline yet.
    unarmed: Vec<Ticket>,
}

/// One place of the slab.
#[derive(Debug)]
struct Place {
    generation: u32,
    lease: Option<Lease>,
}

/// All leases. See the crate's documentation for its two halves.
#[derive(Debug)]
pub struct Lessor {
    options: Options,
    by_id: BTreeMap<LeaseId, u32>,
    places: Vec<Place>,
    free: Vec<u32>,
    /// Present while this member leads.
    clocks: Option<Clocks>,
}

/// The replicated half: the same calls with the same arguments on every member.
impl Lessor {
    /// Reads the leases of a database. The keys attached to them are not stored there: the caller
    /// attaches what the key-value store found at its start.
    ///
    /// # Errors
    ///
    /// [`OpenError`] if the bucket cannot be read or holds something else.
    pub fn open(backend: &Backend, options: Options) -> Result<Self, OpenError> {
        let mut lessor = Self {
            options,
            by_id: BTreeMap::new(),
            places: Vec::new(),
            free: Vec::new(),
            clocks: None,
        };
        let mut rows = backend.rows(Bucket::Lease, &Scan::all());
        while let Some((key, value)) = rows.next()? {
            let corrupt = || OpenError::Corrupt { key: key.to_vec() };
            let stored = leasepb::Lease::decode(value).map_err(|_| corrupt())?;
            if key != stored.id.to_be_bytes() {
                return Err(corrupt());
            }
            lessor.insert(LeaseId(stored.id), stored.ttl, stored.remaining_ttl);
        }
        Ok(lessor)
    }

    /// Grants a lease; returns the TTL that it got, seconds.
    ///
    /// # Errors
    ///
    /// [`GrantError::TooLarge`] is checked before [`GrantError::Exists`] (LE-01).
    pub fn grant(
        &mut self,
        batch: &mut Batch,
        id: LeaseId,
        ttl_seconds: i64,
    ) -> Result<i64, GrantError> {
        if ttl_seconds > LEASE_TTL_SECONDS_MAX {
            return Err(GrantError::TooLarge);
        }
        if !id.is_some() || self.contains(id) {
            return Err(GrantError::Exists);
        }
        let ticket = self.insert(id, ttl_seconds, 0);
        let lease = self.at(ticket).expect("it was inserted on the line above");
        let granted = lease.ttl_seconds;
        batch.put(Bucket::Lease, &id.0.to_be_bytes(), &lease.row(0));
        if let Some(clocks) = &mut self.clocks {
            clocks.unarmed.push(ticket);
        }
        Ok(granted)
    }

    /// Drops a lease; returns its keys, ascending, for the caller to delete (LE-03).
    ///
    /// # Errors
    ///
    /// [`NotFound`] if there is no such lease.
    pub fn revoke(&mut self, batch: &mut Batch, id: LeaseId) -> Result<Vec<Bytes>, NotFound> {
        let slot = self.by_id.remove(&id).ok_or(NotFound)?;
        let place = &mut self.places[slot as usize];
        let lease = place.lease.take().expect("by_id names taken places only");
        place.generation = place.generation.wrapping_add(1);
        self.free.push(slot);
        batch.delete(Bucket::Lease, &id.0.to_be_bytes());
        let rebuild = self.clocks.as_mut().is_some_and(|clocks| clocks.wheel.note_dead());
        if rebuild {
            self.rebuild_wheel();
        }
        Ok(lease.keys.into_iter().map(Bytes::from).collect())
    }

    /// Notes that `key` now belongs to lease `id`. No effect without such a lease.
    ///
    /// A key belongs to one lease at most (LE-12): the caller, who knows the key's previous lease
    /// from the store, detaches it from there first.
    pub fn attach(&mut self, id: LeaseId, key: &[u8]) {
        if let Some(lease) = self.get_mut(id) {
            lease.keys.insert(key.into());
        }
    }

    /// Notes that `key` no longer belongs to lease `id`. No effect if it did not.
    pub fn detach(&mut self, id: LeaseId, key: &[u8]) {
        if let Some(lease) = self.get_mut(id) {
            lease.keys.remove(key);
        }
    }

    /// Records what is left of a lease's TTL, seconds; 0 forgets an earlier record (LE-11). With
    /// `rows` the lease's row has it too. No effect without such a lease.
    pub fn checkpoint(&mut self, rows: Option<&mut Batch>, id: LeaseId, remaining_seconds: i64) {
        if remaining_seconds == 0
            && let Some(clocks) = &mut self.clocks
        {
            clocks.sweep.forgotten(id);
        }
        let Some(lease) = self.get_mut(id) else { return };
        lease.checkpoint_seconds = remaining_seconds;
        if let Some(rows) = rows {
            rows.put(Bucket::Lease, &id.0.to_be_bytes(), &lease.row(remaining_seconds));
        }
    }

    /// Goes on with the leases of `loaded`, as after the installation of a leader's snapshot, and
    /// returns what was. Settings stay; clocks do not run until the next [`Self::promote`], for who
    /// installs a snapshot does not lead.
    #[must_use = "freeing many leases takes a while: drop them where waiting is allowed"]
    pub fn replace(&mut self, loaded: Self) -> Self {
        let loaded = Self { options: self.options.clone(), clocks: None, ..loaded };
        std::mem::replace(self, loaded)
    }

    /// Whether records go into the leases' rows: [`Options::persist_checkpoints`].
    #[must_use]
    pub fn persists_checkpoints(&self) -> bool {
        self.options.persist_checkpoints
    }

    /// Whether there is such a lease.
    #[must_use]
    pub fn contains(&self, id: LeaseId) -> bool {
        self.by_id.contains_key(&id)
    }

    /// Number of leases.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// The keys of a lease, ascending; `None` without such a lease.
    #[must_use]
    pub fn keys(&self, id: LeaseId) -> Option<Vec<Bytes>> {
        let lease = self.get(id)?;
        Some(lease.keys.iter().map(|key| Bytes::copy_from_slice(key)).collect())
    }

    fn insert(&mut self, id: LeaseId, ttl_seconds: i64, checkpoint_seconds: i64) -> Ticket {
        let ttl_seconds = ttl_seconds.max(self.options.min_ttl_seconds);
        let keys = BTreeSet::new();
        let lease = Some(Lease { id, ttl_seconds, checkpoint_seconds, deadline: 0, keys });
        let slot = if let Some(slot) = self.free.pop() {
            self.places[slot as usize].lease = lease;
            slot
        } else {
            self.places.push(Place { generation: 0, lease });
            u32::try_from(self.places.len() - 1).expect("four billion leases do not fit in memory")
        };
        self.by_id.insert(id, slot);
        Ticket { slot, generation: self.places[slot as usize].generation }
    }

    fn get(&self, id: LeaseId) -> Option<&Lease> {
        self.places[*self.by_id.get(&id)? as usize].lease.as_ref()
    }

    fn get_mut(&mut self, id: LeaseId) -> Option<&mut Lease> {
        self.places[*self.by_id.get(&id)? as usize].lease.as_mut()
    }

    fn at(&self, ticket: Ticket) -> Option<&Lease> {
        let place = &self.places[ticket.slot as usize];
        place.lease.as_ref().filter(|_| place.generation == ticket.generation)
    }
}

/// The leader-local half: `now` is the caller's monotonic clock, milliseconds.
impl Lessor {
    /// Whether this lessor keeps clocks.
    #[must_use]
    pub fn is_primary(&self) -> bool {
        self.clocks.is_some()
    }

    /// Starts the clocks: every lease gets its remaining TTL (the last checkpoint, else the whole)
    /// plus `extension_ms` from `now` on, spread over time where too many would expire together
    /// (LE-10). To be called when the leader has applied the first entry of its term.
    pub fn promote(&mut self, now: u64, extension_ms: u64) {
        let base = now.saturating_add(extension_ms);
        let mut due = Vec::with_capacity(self.by_id.len());
        for (slot, place) in (0..).zip(&mut self.places) {
            if let Some(lease) = &mut place.lease {
                lease.deadline = deadline(base, lease.start_seconds());
                due.push((lease.deadline, slot));
            }
        }
        self.spread(due);
        let sweep = Sweep::first(now, self.options.checkpoint_interval_ms);
        self.clocks = Some(Clocks { wheel: Wheel::default(), sweep, unarmed: Vec::new() });
        self.rebuild_wheel();
    }

    /// Delays deadlines so that no second has more of them than three quarters of the rate.
    fn spread(&mut self, mut due: Vec<(u64, u32)>) {
        let per_second = (self.options.revokes_per_second * 3 / 4).max(1);
        if due.len() < self.options.revokes_per_second {
            return;
        }
        due.sort_unstable();
        for i in per_second..due.len() {
            let earliest = due[i - per_second].0.saturating_add(1000);
            if due[i].0 < earliest {
                due[i].0 = earliest;
                let lease = self.places[due[i].1 as usize].lease.as_mut();
                lease.expect("promote() listed taken places only").deadline = earliest;
            }
        }
    }

    /// Stops the clocks.
    pub fn demote(&mut self) {
        self.clocks = None;
    }

    /// Starts the clocks of leases granted since the last call. Every other call of this half does
    /// it too; calling it after each applied batch makes TTLs exact.
    pub fn arm(&mut self, now: u64) {
        let Some(clocks) = &mut self.clocks else { return };
        for ticket in clocks.unarmed.drain(..) {
            let place = &mut self.places[ticket.slot as usize];
            if place.generation != ticket.generation {
                continue;
            }
            let lease = place.lease.as_mut().expect("the generation changes when a lease goes");
            lease.deadline = deadline(now, lease.ttl_seconds);
            clocks.wheel.insert(lease.deadline, ticket);
        }
    }

    /// Gives a lease its whole TTL again; returns that, seconds.
    ///
    /// # Errors
    ///
    /// See [`RenewError`]. A lease that has expired is not renewed even if its revoke has not been
    /// applied yet.
    pub fn renew(&mut self, id: LeaseId, now: u64) -> Result<i64, RenewError> {
        if self.clocks.is_none() {
            return Err(RenewError::NotPrimary);
        }
        self.arm(now);
        let lease = self.get_mut(id).ok_or(RenewError::NotFound)?;
        if lease.deadline <= now {
            return Err(RenewError::Expiring);
        }
        // Never earlier than before: the wheel relies on deadlines that only move back, and a
        // promotion may have given more than the TTL.
        lease.deadline = lease.deadline.max(deadline(now, lease.ttl_seconds));
        Ok(lease.ttl_seconds)
    }

    /// Appends up to `max` leases that have expired by `now` to `out`. Those whose revoke is not
    /// applied meanwhile come again after [`Options::retry_ms`].
    pub fn expired(&mut self, now: u64, max: usize, out: &mut Vec<LeaseId>) {
        self.arm(now);
        let Some(clocks) = &mut self.clocks else { return };
        let (places, retry_ms) = (&self.places, self.options.retry_ms.max(1));
        let mut left = max;
        clocks.wheel.advance(now, |ticket| {
            let place = &places[ticket.slot as usize];
            let lease = place.lease.as_ref().filter(|_| place.generation == ticket.generation);
            let Some(lease) = lease else { return Verdict::Drop };
            if lease.deadline > now {
                return Verdict::At(lease.deadline);
            }
            if left == 0 {
                return Verdict::Stop;
            }
            left -= 1;
            out.push(lease.id);
            Verdict::NotBefore(now.saturating_add(retry_ms))
        });
    }

    /// What is left of a lease (LE-07); `None` without such a lease.
    pub fn time_to_live(&mut self, id: LeaseId, now: u64) -> Option<TimeToLive> {
        self.arm(now);
        let primary = self.is_primary();
        let lease = self.get(id)?;
        let remaining_seconds = if primary {
            i64::try_from(lease.deadline.saturating_sub(now) / 1000).unwrap_or(i64::MAX)
        } else {
            lease.start_seconds()
        };
        Some(TimeToLive { granted_seconds: lease.ttl_seconds, remaining_seconds })
    }

    /// All leases: by remaining time on the leader, by id elsewhere (LE-08).
    pub fn list(&mut self, now: u64) -> Vec<LeaseId> {
        self.arm(now);
        let mut all: Vec<_> = self.places.iter().filter_map(|place| place.lease.as_ref()).collect();
        if self.clocks.is_some() {
            all.sort_unstable_by_key(|lease| (lease.deadline, lease.id));
        } else {
            all.sort_unstable_by_key(|lease| lease.id);
        }
        all.into_iter().map(|lease| lease.id).collect()
    }

    /// Files every armed lease anew, which drops the entries of revoked ones.
    fn rebuild_wheel(&mut self) {
        let Some(clocks) = &mut self.clocks else { return };
        clocks.wheel.clear();
        let unarmed: BTreeSet<u32> = clocks.unarmed.iter().map(|ticket| ticket.slot).collect();
        for (slot, place) in (0..).zip(&self.places) {
            if let Some(lease) = &place.lease
                && !unarmed.contains(&slot)
            {
                let ticket = Ticket { slot, generation: place.generation };
                clocks.wheel.insert(lease.deadline, ticket);
            }
        }
    }
}

fn deadline(from_ms: u64, seconds: i64) -> u64 {
    from_ms.saturating_add(u64::try_from(seconds).unwrap_or(0).saturating_mul(1000))
}
