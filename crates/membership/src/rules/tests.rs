//! Tests of the rules, as tables: a cluster in words, a change, the answer.

use etcdrs_backend::Batch;

use super::*;

/// Builds clusters: each member is an id and how it is. `+` started, `-` never started, `l` a
/// started learner, `x` removed. Its peer URL is `http://<id>:1`.
struct World {
    cluster: Cluster,
    connected_ms: BTreeMap<MemberId, u64>,
    matched: BTreeMap<MemberId, u64>,
    policy: Policy,
}

/// Member 1 looks, and is connected for long to every other member.
fn world(members: &[(u64, char)]) -> World {
    let (mut cluster, mut batch) = (Cluster::default(), Batch::new());
    let mut connected_ms = BTreeMap::new();
    let mut matched = BTreeMap::new();
    for &(id, how) in members {
        let id = MemberId(id);
        if how == 'x' {
            cluster.remove(&mut batch, id);
            continue;
        }
        cluster.insert(&mut batch, record(id.0, how));
        matched.insert(id, 1000);
        if id != MemberId(1) {
            connected_ms.insert(id, HEALTH_MS);
        }
    }
    World { cluster, connected_ms, matched, policy: Policy::default() }
}

fn record(id: u64, how: char) -> MemberRecord {
    MemberRecord {
        id: MemberId(id),
        name: if how == '-' { String::new() } else { format!("m{id}") },
        peer_urls: vec![format!("http://{id}:1")],
        client_urls: Vec::new(),
        is_learner: how == 'l',
    }
}

impl World {
    fn down(mut self, ids: &[u64]) -> Self {
        self.connected_ms.retain(|id, _| !ids.contains(&id.0));
        self
    }

    fn fresh(mut self, id: u64) -> Self {
        self.connected_ms.insert(MemberId(id), HEALTH_MS - 1);
        self
    }

    fn lax(mut self) -> Self {
        self.policy.strict = false;
        self
    }

    fn matched(mut self, id: u64, index: u64) -> Self {
        self.matched.insert(MemberId(id), index);
        self
    }

    #[track_caller]
    fn check(&self, change: &Change, want: Result<(), Refused>) {
        let World { cluster, connected_ms, matched, policy } = self;
        let local = MemberId(1);
        let view = View { cluster, local, connected_ms, matched, policy: *policy };
        assert_eq!(view.check(change), want);
    }
}

fn voter(id: u64) -> Change {
    Change::Add(record(id, '-'))
}

fn learner(id: u64) -> Change {
    Change::Add(MemberRecord { name: String::new(), ..record(id, 'l') })
}

fn remove(id: u64) -> Change {
    Change::Remove(MemberId(id))
}

fn promote(id: u64) -> Change {
    Change::Promote(MemberId(id))
}

const ONE: &[(u64, char)] = &[(1, '+')];
const TWO: &[(u64, char)] = &[(1, '+'), (2, '+')];
const THREE: &[(u64, char)] = &[(1, '+'), (2, '+'), (3, '+')];

#[test]
fn t_mb_03_ids_and_urls() {
    let cluster = world(&[(1, '+'), (2, '+'), (3, '+'), (8, 'x')]);
    cluster.check(&voter(8), Err(Refused::MemberNotFound));
    cluster.check(&voter(2), Err(Refused::MemberExists));
    let twin = Change::Add(MemberRecord { id: MemberId(9), ..record(2, '-') });
    cluster.check(&twin, Err(Refused::PeerUrlExists));
    cluster.check(&voter(9), Ok(()));
}

#[test]
fn t_mb_03_learners_are_counted() {
    world(ONE).check(&learner(9), Ok(()));
    let full = world(&[(1, '+'), (2, 'l')]);
    full.check(&learner(9), Err(Refused::TooManyLearners));
    let mut wide = full;
    wide.policy.learners_max = 2;
    wide.check(&learner(9), Ok(()));
    wide.policy.learners_max = 0;
    wide.check(&learner(9), Err(Refused::TooManyLearners));
}

#[test]
fn t_mb_04_add_wants_started_members() {
    // The second member of two has not started: a third one would leave the quorum to chance.
    let waiting = world(&[(1, '+'), (2, '-')]);
    waiting.check(&voter(9), Err(Refused::NotEnoughStarted));
    // Three with one not started: two of the four that would vote.
    world(&[(1, '+'), (2, '+'), (3, '-')]).check(&voter(9), Err(Refused::NotEnoughStarted));
    world(&[(1, '+'), (2, '+'), (3, '+'), (4, '-')]).check(&voter(9), Ok(()));
    // The exception of one.
    world(ONE).check(&voter(9), Ok(()));
    world(&[(1, '-')]).check(&voter(9), Err(Refused::NotEnoughStarted));
    // A learner that has not started is no voter.
    world(&[(1, '+'), (2, 'l')]).check(&voter(9), Ok(()));
    waiting.lax().check(&voter(9), Ok(()));
}

#[test]
fn t_mb_04_add_wants_a_quorum_that_is_connected_for_5_s() {
    // 3.7 counts the new member as down: three of four must be there.
    world(THREE).check(&voter(9), Ok(()));
    world(THREE).down(&[3]).check(&voter(9), Err(Refused::Unhealthy));
    world(THREE).fresh(3).check(&voter(9), Err(Refused::Unhealthy));
    world(THREE).down(&[3]).lax().check(&voter(9), Ok(()));
    // Of five voters one may be away: four of six.
    let five = &[(1, '+'), (2, '+'), (3, '+'), (4, '+'), (5, '+')];
    world(five).down(&[5]).check(&voter(9), Ok(()));
    world(five).down(&[4, 5]).check(&voter(9), Err(Refused::Unhealthy));
    // The same for learners, and both must be there of two.
    world(THREE).down(&[3]).check(&learner(9), Err(Refused::Unhealthy));
    world(TWO).down(&[2]).check(&learner(9), Err(Refused::Unhealthy));
    world(TWO).check(&voter(9), Ok(()));
}

#[test]
fn t_mb_05_remove() {
    world(THREE).check(&remove(2), Ok(()));
    world(THREE).check(&remove(1), Ok(()));
    world(THREE).check(&remove(7), Err(Refused::MemberNotFound));
    world(&[(1, '+'), (2, '+'), (3, 'x')]).check(&remove(3), Err(Refused::MemberNotFound));
    world(TWO).check(&remove(2), Ok(()));
    // A learner may always go, whatever state the others are in.
    world(&[(1, '+'), (2, '-'), (3, 'l')]).check(&remove(3), Ok(()));
}

#[test]
fn t_mb_05_remove_keeps_a_quorum() {
    // What would be left has not started.
    let waiting = world(&[(1, '+'), (2, '-')]);
    waiting.check(&remove(1), Err(Refused::NotEnoughStarted));
    waiting.check(&remove(2), Ok(()));
    // With one away, the one that is away may go and none of the others.
    world(THREE).down(&[3]).check(&remove(3), Ok(()));
    world(THREE).down(&[3]).check(&remove(2), Err(Refused::Unhealthy));
    world(THREE).down(&[3]).check(&remove(1), Err(Refused::Unhealthy));
    // One whose link has just come up counts as reachable, but not as part of the quorum.
    world(THREE).fresh(3).check(&remove(3), Err(Refused::Unhealthy));
    world(THREE).down(&[3]).lax().check(&remove(2), Ok(()));
}

#[test]
fn t_mb_05_the_only_voter_stays_even_without_the_strict_check() {
    world(ONE).check(&remove(1), Err(Refused::NotEnoughStarted));
    world(ONE).lax().check(&remove(1), Err(Refused::NotEnoughStarted));
    world(&[(1, '+'), (2, 'l')]).lax().check(&remove(1), Err(Refused::NotEnoughStarted));
}

#[test]
fn t_mb_06_update_changes_urls_only() {
    let update = |id, url: &str| {
        let peer_urls = vec![url.to_owned()];
        Change::Update { id: MemberId(id), peer_urls }
    };
    let cluster = world(&[(1, '+'), (2, '+'), (8, 'x')]).down(&[2]);
    cluster.check(&update(2, "http://elsewhere:1"), Ok(()));
    cluster.check(&update(2, "http://2:1"), Ok(()));
    cluster.check(&update(2, "http://1:1"), Err(Refused::PeerUrlExists));
    cluster.check(&update(7, "http://7:1"), Err(Refused::MemberNotFound));
    cluster.check(&update(8, "http://8:1"), Err(Refused::MemberNotFound));
    // The server does not look at the syntax of these.
    cluster.check(&update(2, "anything"), Ok(()));
}

#[test]
fn t_mb_07_promote_wants_nine_tenths() {
    let cluster = || world(&[(1, '+'), (2, '+'), (3, 'l')]);
    cluster().check(&promote(3), Ok(()));
    cluster().matched(3, 900).check(&promote(3), Ok(()));
    cluster().matched(3, 899).check(&promote(3), Err(Refused::LearnerNotReady));
    cluster().matched(3, 0).check(&promote(3), Err(Refused::LearnerNotReady));
    cluster().check(&promote(7), Err(Refused::MemberNotFound));
    cluster().check(&promote(2), Err(Refused::NotLearner));
    cluster().matched(2, 1).check(&promote(2), Err(Refused::LearnerNotReady));
    cluster().matched(1, u64::MAX).check(&promote(3), Err(Refused::LearnerNotReady));
}

#[test]
fn t_mb_07_promote_counts_the_learner_as_started() {
    world(&[(1, '+'), (2, '-'), (3, 'l')]).check(&promote(3), Ok(()));
    let thin = || world(&[(1, '+'), (2, '-'), (3, '-'), (4, 'l')]);
    thin().check(&promote(4), Err(Refused::NotEnoughStarted));
    thin().lax().check(&promote(4), Ok(()));
}

#[test]
fn t_mb_09_a_removed_id_is_refused_in_every_change() {
    let cluster = world(&[(1, '+'), (2, '+'), (8, 'x')]).matched(8, 1000);
    let update = Change::Update { id: MemberId(8), peer_urls: vec!["http://8:2".to_owned()] };
    for change in [voter(8), learner(8), remove(8), promote(8), update] {
        cluster.check(&change, Err(Refused::MemberNotFound));
    }
}
