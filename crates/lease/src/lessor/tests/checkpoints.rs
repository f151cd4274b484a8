//! LE-11: records of what is left of leases, on a clock that the tests move.

use super::*;

const MINUTE: u64 = 60_000;
const INTERVAL: u64 = 5 * MINUTE;

impl Fixture {
    /// A leader that records every five minutes.
    fn recording() -> Self {
        let mut fixture =
            Self::with(Options { checkpoint_interval_ms: Some(INTERVAL), ..Options::default() });
        fixture.lessor.promote(0, 0);
        fixture
    }

    fn checkpoint(&mut self, id: i64, remaining_seconds: i64) {
        self.apply(|lessor, batch| lessor.checkpoint(Some(batch), LeaseId(id), remaining_seconds));
    }

    /// Proposes and applies what is due, as the leader does.
    fn record(&mut self, now: u64) -> Vec<(i64, i64)> {
        let due = self.lessor.due_checkpoints(now);
        for (id, seconds) in &due {
            self.checkpoint(id.0, *seconds);
        }
        self.lessor.checkpoints_written(&due);
        due.iter().map(|(id, seconds)| (id.0, *seconds)).collect()
    }

    fn state(&self, id: i64) -> CheckpointState {
        self.lessor.checkpoint_state(LeaseId(id))
    }

    /// Another member takes over: what it gives the lease, seconds.
    fn left_under_the_next_leader(&mut self, id: i64) -> i64 {
        self.lessor.demote();
        self.lessor.promote(0, 0);
        self.remaining(id, 0).unwrap().1
    }
}

#[test]
fn le_11_a_record_is_what_the_next_leader_starts_with() {
    let mut fixture = Fixture::recording();
    fixture.grant(1, 3600).unwrap();
    fixture.grant(2, 3600).unwrap();
    fixture.lessor.arm(0);
    assert_eq!(fixture.record(INTERVAL - 1), []);
    assert_eq!(fixture.lessor.renew(LeaseId(2), INTERVAL - 100), Ok(3600));
    assert_eq!(fixture.record(INTERVAL), [(1, 3300)], "of lease 2 nothing is gone");
    assert_eq!(fixture.left_under_the_next_leader(1), 3300);
    assert_eq!(fixture.left_under_the_next_leader(2), 3600);
}

#[test]
fn le_11_without_the_gate_there_are_no_records() {
    let mut fixture = Fixture::new();
    fixture.lessor.promote(0, 0);
    fixture.grant(1, 36_000).unwrap();
    fixture.lessor.arm(0);
    for minute in 0..100 {
        assert_eq!(fixture.record(minute * MINUTE), []);
    }
    assert_eq!(fixture.left_under_the_next_leader(1), 36_000);
}

#[test]
fn le_11_records_go_on_each_interval_and_stop_near_the_end() {
    let mut fixture = Fixture::recording();
    fixture.grant(1, 1200).unwrap();
    fixture.lessor.arm(0);
    let mut records = Vec::new();
    for second in 0..1200 {
        let made = fixture.record(second * 1000);
        records.extend(made.into_iter().map(|(_, left)| (second, left)));
    }
    // With five minutes or less to go there is nothing worth a record.
    assert_eq!(records, [(300, 900), (600, 600)]);
}

#[test]
fn le_11_only_the_primary_records_and_a_new_one_waits_an_interval() {
    let mut fixture = Fixture::recording();
    fixture.grant(1, 36_000).unwrap();
    fixture.lessor.demote();
    assert_eq!(fixture.record(INTERVAL), []);
    fixture.lessor.promote(INTERVAL, 1000);
    assert_eq!(fixture.record(2 * INTERVAL - 1), []);
    // The extension is part of what is left.
    assert_eq!(fixture.record(2 * INTERVAL), [(1, 35_701)]);
}

#[test]
fn le_11_records_are_rounded_up() {
    let mut fixture = Fixture::recording();
    fixture.grant(1, 3600).unwrap();
    fixture.lessor.arm(0);
    assert_eq!(fixture.record(INTERVAL + 1), [(1, 3300)]);
}

#[test]
fn le_11_batches_of_a_thousand_a_thousand_a_second() {
    const COUNT: i64 = 25_000;
    let mut fixture = Fixture::recording();
    for id in 1..=COUNT {
        fixture.grant(id, 7200).unwrap();
    }
    fixture.lessor.arm(0);
    let (mut seen, mut now) = (Vec::new(), INTERVAL);
    while seen.len() < COUNT as usize {
        let made = fixture.record(now);
        assert!(made.len() <= 1000);
        seen.extend(made.iter().map(|(id, _)| *id));
        assert!(seen.len() as u64 <= 1000 + (now - INTERVAL), "more than a thousand a second");
        now += 100;
        assert!(now < INTERVAL + 30_000, "{} of {COUNT}", seen.len());
    }
    assert_eq!(seen, (1..=COUNT).collect::<Vec<_>>(), "each once");
    assert_eq!(fixture.record(2 * INTERVAL - 1), [], "the next walk begins an interval later");
    assert_eq!(fixture.record(2 * INTERVAL).len(), 1000);
}

#[test]
fn le_11_leases_that_need_no_record_are_passed_in_steps() {
    let mut fixture = Fixture::recording();
    for id in 1..=25_000 {
        fixture.grant(id, 60).unwrap();
    }
    fixture.grant(30_000, 3600).unwrap();
    fixture.lessor.arm(0);
    let made: Vec<usize> = (0..4).map(|step| fixture.record(INTERVAL + step).len()).collect();
    assert_eq!(made, [0, 0, 1, 0]);
}

/// The leases change while the walk goes on.
#[test]
fn le_11_the_walk_goes_on_where_a_lease_was_revoked() {
    let mut fixture = Fixture::recording();
    for id in 1..=1500 {
        fixture.grant(id, 3600).unwrap();
    }
    fixture.lessor.arm(0);
    assert_eq!(fixture.record(INTERVAL).len(), 1000);
    for id in 990..=1010 {
        fixture.revoke(id).unwrap();
    }
    let rest: Vec<i64> = fixture.record(INTERVAL + 1000).iter().map(|(id, _)| *id).collect();
    assert_eq!(rest, (1011..=1500).collect::<Vec<_>>());
}

#[test]
fn le_11_a_renewal_waits_for_a_record_under_way_and_forgets_it() {
    let mut fixture = Fixture::recording();
    fixture.grant(1, 3600).unwrap();
    fixture.lessor.arm(0);
    assert_eq!(fixture.state(1), CheckpointState::None);
    let due = fixture.lessor.due_checkpoints(INTERVAL);
    assert_eq!(fixture.state(1), CheckpointState::UnderWay);
    assert_eq!(fixture.lessor.renew(LeaseId(1), INTERVAL), Ok(3600));
    fixture.checkpoint(1, due[0].1);
    assert_eq!(fixture.state(1), CheckpointState::UnderWay, "until its proposer knows");
    fixture.lessor.checkpoints_written(&due);
    assert_eq!(fixture.state(1), CheckpointState::Recorded);
    fixture.checkpoint(1, 0);
    assert_eq!(fixture.state(1), CheckpointState::None);
    assert_eq!(fixture.left_under_the_next_leader(1), 3600);
}

#[test]
fn le_11_a_record_that_may_still_come_is_forgotten_too() {
    let mut fixture = Fixture::recording();
    fixture.grant(1, 3600).unwrap();
    fixture.lessor.arm(0);
    let due = fixture.lessor.due_checkpoints(INTERVAL);
    fixture.lessor.checkpoints_in_doubt(&due);
    assert_eq!(fixture.state(1), CheckpointState::Recorded);
    // It comes late, and then what the renewal proposed.
    fixture.checkpoint(1, due[0].1);
    assert_eq!(fixture.state(1), CheckpointState::Recorded);
    fixture.checkpoint(1, 0);
    assert_eq!(fixture.state(1), CheckpointState::None);
    // Who leads next proposed nothing.
    fixture.lessor.checkpoints_in_doubt(&due);
    fixture.lessor.demote();
    fixture.lessor.promote(0, 0);
    assert_eq!(fixture.state(1), CheckpointState::None);
}

#[test]
fn le_11_records_survive_a_restart_if_they_are_stored() {
    for stored in [false, true] {
        let mut fixture = Fixture::new();
        fixture.grant(1, 100).unwrap();
        for id in [1, 2] {
            fixture.apply(|lessor, batch| {
                lessor.checkpoint(stored.then_some(batch), LeaseId(id), 40);
            });
        }
        assert_eq!(fixture.state(1), CheckpointState::Recorded);
        fixture.lessor.promote(0, 0);
        assert_eq!(fixture.remaining(1, 0), Some((100, 40)));
        fixture.reopen();
        fixture.lessor.promote(0, 0);
        assert_eq!(fixture.remaining(1, 0), Some((100, if stored { 40 } else { 100 })));
        fixture.checkpoint(1, 0);
        fixture.reopen();
        assert_eq!(fixture.state(1), CheckpointState::None);
        assert!(!fixture.lessor.contains(LeaseId(2)), "a record makes no lease");
    }
}

#[test]
fn le_11_the_row_is_etcds() {
    let mut fixture = Fixture::new();
    fixture.grant(7, 100).unwrap();
    fixture.checkpoint(7, 40);
    let row = fixture.backend.get(Bucket::Lease, &7_i64.to_be_bytes()).unwrap().unwrap();
    let stored = leasepb::Lease::decode(&row[..]).unwrap();
    assert_eq!(stored, leasepb::Lease { id: 7, ttl: 100, remaining_ttl: 40 });
}
