//! Tests of the lessor, by rule of v3-api.md §3.8.

use etcdrs_backend::Options as BackendOptions;
use tempfile::TempDir;

use super::*;

mod checkpoints;

struct Fixture {
    backend: Backend,
    lessor: Lessor,
    options: Options,
    _dir: TempDir,
}

impl Fixture {
    fn new() -> Self {
        Self::with(Options::default())
    }

    fn with(options: Options) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let backend = Backend::open(&dir.path().join("db"), &BackendOptions::default()).unwrap();
        let lessor = Lessor::open(&backend, options.clone()).unwrap();
        Self { backend, lessor, options, _dir: dir }
    }

    /// Applies one entry: what `change` does, and its batch.
    fn apply<T>(&mut self, change: impl FnOnce(&mut Lessor, &mut Batch) -> T) -> T {
        let mut batch = self.backend.batch();
        let result = change(&mut self.lessor, &mut batch);
        self.backend.write(batch).unwrap();
        result
    }

    fn grant(&mut self, id: i64, ttl_seconds: i64) -> Result<i64, GrantError> {
        self.apply(|lessor, batch| lessor.grant(batch, LeaseId(id), ttl_seconds))
    }

    fn revoke(&mut self, id: i64) -> Result<Vec<Bytes>, NotFound> {
        self.apply(|lessor, batch| lessor.revoke(batch, LeaseId(id)))
    }

    fn expired(&mut self, now: u64) -> Vec<i64> {
        let mut out = Vec::new();
        self.lessor.expired(now, usize::MAX, &mut out);
        out.iter().map(|id| id.0).collect()
    }

    fn reopen(&mut self) {
        self.lessor = Lessor::open(&self.backend, self.options.clone()).unwrap();
    }

    fn remaining(&mut self, id: i64, now: u64) -> Option<(i64, i64)> {
        let found = self.lessor.time_to_live(LeaseId(id), now)?;
        Some((found.granted_seconds, found.remaining_seconds))
    }
}

#[test]
fn le_01_ids_are_taken_as_given_and_ttl_is_checked_first() {
    let mut fixture = Fixture::new();
    assert_eq!(fixture.grant(7, 10), Ok(10));
    assert_eq!(fixture.grant(-7, 9_000_000_000), Ok(9_000_000_000));
    assert_eq!(fixture.grant(7, 9_000_000_001), Err(GrantError::TooLarge));
    assert_eq!(fixture.grant(7, 10), Err(GrantError::Exists));
    assert_eq!(fixture.grant(0, 10), Err(GrantError::Exists));
    assert_eq!(fixture.lessor.len(), 2);
}

#[test]
fn le_02_small_ttls_are_raised_also_on_load() {
    assert_eq!(min_ttl_seconds(1000), 2);
    assert_eq!((min_ttl_seconds(50_000), min_ttl_seconds(100)), (75, 1));
    let mut fixture = Fixture::new();
    assert_eq!(fixture.grant(1, 1), Ok(2));
    assert_eq!(fixture.grant(2, -5), Ok(2));
    fixture.options.min_ttl_seconds = 30;
    fixture.reopen();
    assert_eq!(fixture.remaining(1, 0), Some((30, 30)));
}

#[test]
fn le_03_revoke_gives_the_keys_in_order() {
    let mut fixture = Fixture::new();
    fixture.grant(1, 10).unwrap();
    for key in ["b", "c", "a"] {
        fixture.lessor.attach(LeaseId(1), key.as_bytes());
    }
    fixture.lessor.detach(LeaseId(1), b"c");
    assert_eq!(fixture.lessor.keys(LeaseId(1)).unwrap(), ["a", "b"]);
    assert_eq!(fixture.revoke(1).unwrap(), ["a", "b"]);
    assert_eq!(fixture.revoke(1), Err(NotFound));
    assert_eq!(fixture.lessor.keys(LeaseId(1)), None);
}

#[test]
fn rows_are_etcds_and_come_back() {
    let mut fixture = Fixture::new();
    fixture.grant(0x1234, 60).unwrap();
    fixture.grant(5, 60).unwrap();
    fixture.revoke(5).unwrap();
    let row = fixture.backend.get(Bucket::Lease, &0x1234_i64.to_be_bytes()).unwrap().unwrap();
    let (id, ttl, remaining_ttl) = (0x1234, 60, 0);
    let stored = leasepb::Lease::decode(&row[..]).unwrap();
    assert_eq!(stored, leasepb::Lease { id, ttl, remaining_ttl });
    fixture.reopen();
    assert!(fixture.lessor.contains(LeaseId(0x1234)) && !fixture.lessor.contains(LeaseId(5)));
}

#[test]
fn a_damaged_row_is_named() {
    let fixture = Fixture::new();
    let mut batch = fixture.backend.batch();
    batch.put(Bucket::Lease, b"short", b"");
    fixture.backend.write(batch).unwrap();
    let error = Lessor::open(&fixture.backend, Options::default()).unwrap_err();
    assert!(matches!(error, OpenError::Corrupt { key } if key == b"short"));
}

#[test]
fn le_04_renewal_gives_the_whole_ttl_until_expiry() {
    let mut fixture = Fixture::new();
    fixture.lessor.promote(0, 0);
    fixture.grant(1, 10).unwrap();
    fixture.lessor.arm(1000);
    assert_eq!(fixture.remaining(1, 1001), Some((10, 9)));
    assert_eq!(fixture.lessor.renew(LeaseId(1), 10_999), Ok(10));
    assert!(fixture.expired(20_998).is_empty());
    assert_eq!(fixture.expired(20_999), [1]);
    assert_eq!(fixture.lessor.renew(LeaseId(1), 20_999), Err(RenewError::Expiring));
    fixture.revoke(1).unwrap();
    assert_eq!(fixture.lessor.renew(LeaseId(1), 21_000), Err(RenewError::NotFound));
}

#[test]
fn le_05_only_a_primary_renews() {
    let mut fixture = Fixture::new();
    fixture.grant(1, 10).unwrap();
    assert_eq!(fixture.lessor.renew(LeaseId(1), 0), Err(RenewError::NotPrimary));
    fixture.lessor.promote(0, 0);
    assert_eq!(fixture.lessor.renew(LeaseId(1), 0), Ok(10));
    fixture.lessor.demote();
    assert_eq!(fixture.lessor.renew(LeaseId(1), 0), Err(RenewError::NotPrimary));
    assert!(fixture.expired(u64::MAX).is_empty());
}

#[test]
fn le_07_time_to_live_rounds_down() {
    let mut fixture = Fixture::new();
    fixture.lessor.promote(0, 0);
    fixture.grant(1, 10).unwrap();
    assert_eq!(fixture.remaining(1, 0), Some((10, 10)));
    assert_eq!(fixture.remaining(1, 1), Some((10, 9)));
    assert_eq!(fixture.remaining(1, 60_000), Some((10, 0)));
    assert_eq!(fixture.remaining(2, 0), None);
}

#[test]
fn le_08_list_is_by_remaining_time_on_the_leader() {
    let mut fixture = Fixture::new();
    for (id, ttl) in [(1, 30), (2, 10), (3, 20)] {
        fixture.grant(id, ttl).unwrap();
    }
    assert_eq!(fixture.lessor.list(0), [LeaseId(1), LeaseId(2), LeaseId(3)]);
    fixture.lessor.promote(0, 0);
    assert_eq!(fixture.lessor.list(0), [LeaseId(2), LeaseId(3), LeaseId(1)]);
}

#[test]
fn le_09_an_unrevoked_lease_is_offered_again() {
    let mut fixture = Fixture::new();
    fixture.lessor.promote(0, 0);
    fixture.grant(1, 10).unwrap();
    fixture.lessor.arm(0);
    assert_eq!(fixture.expired(10_000), [1]);
    assert!(fixture.expired(10_001).is_empty());
    assert!(fixture.expired(16_999).is_empty());
    assert_eq!(fixture.expired(17_000 + 128), [1]);
    fixture.revoke(1).unwrap();
    assert!(fixture.expired(100_000).is_empty());
}

#[test]
fn le_09_no_more_than_asked_for_and_none_forgotten() {
    let mut fixture = Fixture::new();
    fixture.lessor.promote(0, 0);
    for id in 1..=1000 {
        fixture.grant(id, 5).unwrap();
    }
    fixture.lessor.arm(0);
    let mut out = Vec::new();
    for round in 1..=10 {
        fixture.lessor.expired(6000, 100, &mut out);
        assert_eq!(out.len(), round * 100);
    }
    fixture.lessor.expired(6000, 100, &mut out);
    out.sort_unstable();
    assert_eq!(out, (1..=1000).map(LeaseId).collect::<Vec<_>>());
}

#[test]
fn le_10_promotion_extends_and_spreads() {
    let options = Options { revokes_per_second: 100, ..Options::default() };
    let mut fixture = Fixture::with(options);
    for id in 1..=1000 {
        fixture.grant(id, 10 + id % 2).unwrap();
    }
    fixture.lessor.promote(5000, 1000);
    assert!(fixture.expired(15_999).is_empty(), "TTL and extension");
    let mut all = Vec::new();
    let mut now = 16_000;
    while all.len() < 1000 {
        let due = fixture.expired(now);
        assert!(due.len() <= 75, "three quarters of the rate in one second");
        for &id in &due {
            fixture.revoke(id).unwrap();
        }
        all.extend(due);
        now += 1000;
        assert!(now < 60_000);
    }
    all.sort_unstable();
    assert_eq!(all, (1..=1000).collect::<Vec<_>>());
}

#[test]
fn le_10_few_leases_are_not_spread() {
    let options = Options { revokes_per_second: 100, ..Options::default() };
    let mut fixture = Fixture::with(options);
    for id in 1..=99 {
        fixture.grant(id, 10).unwrap();
    }
    fixture.lessor.promote(0, 0);
    assert_eq!(fixture.expired(10_000).len(), 99);
}

#[test]
fn many_short_lives_do_not_grow_the_wheel_or_hurt_the_others() {
    let mut fixture = Fixture::new();
    fixture.lessor.promote(0, 0);
    fixture.grant(-1, 1000).unwrap();
    for id in 1..=30_000 {
        fixture.grant(id, 500).unwrap();
        fixture.lessor.arm(0);
        fixture.revoke(id).unwrap();
    }
    assert_eq!(fixture.lessor.places.len(), 2);
    assert_eq!(fixture.expired(2_000_000), [-1]);
}

/// Against a plain list of deadlines: never early, never forgotten.
#[test]
fn random_lives_agree_with_a_list() {
    let mut fixture = Fixture::with(Options { retry_ms: 1000, ..Options::default() });
    let mut seed = 11_u64;
    let mut roll = move |below: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (seed >> 33) % below
    };
    let mut deadlines: BTreeMap<i64, (u64, u64)> = BTreeMap::new();
    let mut now = 0;
    fixture.lessor.promote(0, 0);
    for step in 1..20_000 {
        now += roll(200);
        fixture.lessor.arm(now);
        let any = deadlines.keys().nth(roll(50) as usize).copied();
        match (roll(6), any) {
            (0 | 1, _) => {
                let ttl = 2 + roll(20);
                fixture.grant(step, ttl as i64).unwrap();
                fixture.lessor.arm(now);
                deadlines.insert(step, (now + ttl * 1000, ttl));
            }
            (2, Some(id)) => {
                let (deadline, ttl) = deadlines[&id];
                let renewed = fixture.lessor.renew(LeaseId(id), now);
                assert_eq!(renewed.is_ok(), deadline > now);
                if renewed.is_ok() {
                    deadlines.insert(id, (now + ttl * 1000, ttl));
                }
            }
            (3, Some(id)) => {
                fixture.revoke(id).unwrap();
                deadlines.remove(&id);
            }
            (4, _) => {
                let mut due = fixture.expired(now);
                due.sort_unstable();
                for id in due {
                    assert!(deadlines[&id].0 <= now, "never early");
                    // Some revokes get lost and must be offered again.
                    if roll(4) > 0 {
                        fixture.revoke(id).unwrap();
                        deadlines.remove(&id);
                    }
                }
            }
            _ => {}
        }
    }
    now += 1_000_000;
    let due: BTreeSet<i64> = fixture.expired(now).into_iter().collect();
    assert_eq!(due, deadlines.keys().copied().collect());
}

/// Run by hand: `cargo test --release -p etcdrs-lease million -- --ignored --nocapture`.
#[test]
#[ignore = "prints a measurement"]
#[expect(clippy::disallowed_methods, reason = "it measures time")]
fn a_million_leases() {
    let mut fixture = Fixture::new();
    fixture.lessor.promote(0, 0);
    let lap = |name: &str, since: std::time::Instant| {
        println!("{name}: {} ns each", since.elapsed().as_nanos() / 1_000_000);
    };
    let mut batch = fixture.backend.batch();
    let start = std::time::Instant::now();
    for id in 1..=1_000_000_i64 {
        let spread = LeaseId(id.wrapping_mul(0x9e37_79b9_7f4a_7c15_u64.cast_signed()));
        fixture.lessor.grant(&mut batch, spread, 60).unwrap();
        batch.clear();
    }
    fixture.lessor.arm(0);
    lap("grant", start);
    let ids = fixture.lessor.list(0);
    let start = std::time::Instant::now();
    for &id in &ids {
        fixture.lessor.renew(id, 30_000).unwrap();
    }
    lap("renew", start);
    let start = std::time::Instant::now();
    fixture.lessor.promote(40_000, 1000);
    lap("promote", start);
    let mut due = Vec::new();
    let start = std::time::Instant::now();
    fixture.lessor.expired(3_600_000, usize::MAX, &mut due);
    lap("expire", start);
    assert_eq!(due.len(), 1_000_000);
    let start = std::time::Instant::now();
    for id in due {
        fixture.lessor.revoke(&mut batch, id).unwrap();
        batch.clear();
    }
    lap("revoke", start);
}

#[test]
fn a_replaced_lessor_has_the_new_leases_and_no_clocks() {
    let mut leader = Fixture::new();
    let mut follower = Fixture::with(Options { retry_ms: 123, ..Options::default() });
    for id in [1, 2] {
        leader.grant(id, 60).unwrap();
        follower.grant(id, 60).unwrap();
        follower.lessor.attach(LeaseId(id), b"k");
    }
    // It led once, and its clocks say things that the new database knows nothing of.
    follower.lessor.promote(0, 0);
    assert!(follower.lessor.is_primary());
    leader.revoke(1).unwrap();
    leader.grant(3, 30).unwrap();
    let mut loaded = Lessor::open(&leader.backend, Options::default()).unwrap();
    loaded.attach(LeaseId(3), b"other");
    let old = follower.lessor.replace(loaded);
    assert_eq!((old.len(), old.keys(LeaseId(1)).unwrap().len()), (2, 1));
    let lessor = &mut follower.lessor;
    assert_eq!(lessor.list(0), [LeaseId(2), LeaseId(3)]);
    assert_eq!(lessor.keys(LeaseId(2)).unwrap(), [""; 0]);
    assert_eq!(lessor.keys(LeaseId(3)).unwrap(), ["other"]);
    assert_eq!(lessor.renew(LeaseId(2), 5), Err(RenewError::NotPrimary));
    assert_eq!(lessor.options.retry_ms, 123);
    assert!(follower.expired(u64::MAX).is_empty(), "no deadline runs on a follower");
    // A promotion gives every lease its whole time.
    follower.lessor.promote(1_000_000, 1000);
    assert_eq!(follower.remaining(3, 1_000_000), Some((30, 31)));
    assert_eq!(follower.expired(1_030_999), [0; 0]);
    assert_eq!(follower.expired(1_031_000), [3]);
    assert_eq!(follower.revoke(1), Err(NotFound));
}
