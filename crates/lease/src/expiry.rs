//! The order in which leases come due: a wheel of coarse time slots with lazy renewal.
//!
//! Renewing a lease only writes its new deadline beside the lease. Its one entry stays where it
//! is, and moves on when its slot comes up and the deadline turns out to lie later. So a
//! keep-alive costs nothing here, and each lease costs one move per TTL.

use std::collections::BTreeMap;

/// Milliseconds of one slot, as a power of two: 128 ms.
const SLOT_SHIFT: u32 = 7;
/// Dead entries that are tolerated whatever the number of live ones.
const DEAD_MAX: usize = 4096;

/// Names a lease in the lessor's slab: place and generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ticket {
    /// Index in the slab.
    pub(crate) slot: u32,
    /// Distinguishes tenants of one slab place.
    pub(crate) generation: u32,
}

/// What to do with an entry whose time slot came up.
pub(crate) enum Verdict {
    /// The lease is gone.
    Drop,
    /// Look at it again when this time has come, milliseconds; a slot's length early is fine.
    At(u64),
    /// Look at it again after this time, milliseconds; a slot's length late is fine.
    NotBefore(u64),
    /// Nothing more is wanted now; keep it and stop.
    Stop,
}

/// Invariant: an entry lies in a slot at or before the deadline of its lease.
#[derive(Debug, Default)]
pub(crate) struct Wheel {
    slots: BTreeMap<u64, Vec<Ticket>>,
    entries: usize,
    dead: usize,
}

impl Wheel {
    /// Files a ticket to be looked at when `at` has come.
    pub(crate) fn insert(&mut self, at: u64, ticket: Ticket) {
        self.slots.entry(at >> SLOT_SHIFT).or_default().push(ticket);
        self.entries += 1;
    }

    /// Notes that one entry names a lease that is gone; tells whether a rebuild is worth it.
    #[must_use]
    pub(crate) fn note_dead(&mut self) -> bool {
        self.dead += 1;
        self.dead > DEAD_MAX && self.dead * 2 > self.entries
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Shows every entry whose slot has begun by `now` to `judge`, oldest slot first.
    pub(crate) fn advance(&mut self, now: u64, mut judge: impl FnMut(Ticket) -> Verdict) {
        let current = now >> SLOT_SHIFT;
        // Entries of the current slot that are not due yet go back to it once the walk is over.
        let mut later = Vec::new();
        'walk: while let Some(mut first) = self.slots.first_entry() {
            if *first.key() > current {
                break;
            }
            while let Some(ticket) = first.get_mut().pop() {
                match judge(ticket) {
                    Verdict::Drop => self.dead = self.dead.saturating_sub(1),
                    Verdict::At(at) => later.push((at, ticket)),
                    Verdict::NotBefore(at) => {
                        later.push((at.saturating_add((1 << SLOT_SHIFT) - 1), ticket));
                    }
                    Verdict::Stop => {
                        first.get_mut().push(ticket);
                        break 'walk;
                    }
                }
                self.entries -= 1;
            }
            first.remove();
        }
        for (at, ticket) in later {
            self.insert(at, ticket);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticket(slot: u32) -> Ticket {
        Ticket { slot, generation: 0 }
    }

    #[test]
    fn entries_come_up_in_time_and_stay_when_told() {
        let mut wheel = Wheel::default();
        for slot in [5_u32, 1, 3] {
            wheel.insert(u64::from(slot) * 1000, ticket(slot));
        }
        let mut seen = Vec::new();
        wheel.advance(900, |ticket| {
            seen.push(ticket.slot);
            Verdict::At(1000)
        });
        seen.clear();
        wheel.advance(3500, |ticket| {
            seen.push(ticket.slot);
            if ticket.slot == 3 { Verdict::Stop } else { Verdict::Drop }
        });
        assert_eq!(seen, [1, 3]);
        wheel.advance(3500, |ticket| {
            assert_eq!(ticket.slot, 3);
            Verdict::At(3600)
        });
        seen.clear();
        wheel.advance(10_000, |ticket| {
            seen.push(ticket.slot);
            Verdict::Drop
        });
        assert_eq!(seen, [3, 5]);
        assert_eq!(wheel.entries, 0);
    }

    #[test]
    fn many_dead_entries_ask_for_a_rebuild() {
        let mut wheel = Wheel::default();
        for slot in 0..10_000 {
            wheel.insert(1 << 40, ticket(slot));
        }
        let asked = (0..10_000).position(|_| wheel.note_dead());
        assert_eq!(asked, Some(5000));
    }
}
