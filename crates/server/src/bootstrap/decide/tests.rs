//! Every row of storage-and-raft.md §4.11, and every refusal.

use etcdrs_membership::member_id;
use etcdrs_types::ClusterId;

use super::*;

const THREE: &str = "a=http://10.0.0.1:1,b=http://10.0.0.2:1,c=http://10.0.0.3:1";
const VERSION: Version = Version { major: 3, minor: 7, patch: 1 };

struct Case {
    name: &'static str,
    advertised: Vec<Url>,
    initial: &'static str,
    state: State,
    force_new: bool,
    learners_max: usize,
    disk: Disk,
    answers: Answers,
}

/// Member `a` of three, with nothing on disk and nobody answering.
fn case(state: State) -> Case {
    Case {
        name: "a",
        advertised: urls("http://10.0.0.1:1"),
        initial: THREE,
        state,
        force_new: false,
        learners_max: 1,
        disk: Disk::Empty,
        answers: Answers::default(),
    }
}

fn urls(text: &str) -> Vec<Url> {
    Url::parse_list(text).expect("urls")
}

impl Case {
    fn decide(&self) -> Result<Bootstrap, BootstrapError> {
        let setup = Setup {
            name: self.name,
            advertised: &self.advertised,
            initial: InitialCluster::parse(self.initial).expect("cluster"),
            token: "tkn",
            state: self.state,
            force_new: self.force_new,
            learners_max: self.learners_max,
            version: VERSION,
        };
        decide(&setup, &self.disk, &self.answers)
    }

    #[track_caller]
    fn refused(&self, text: &str) {
        assert_eq!(self.decide().expect_err("refused").to_string(), text);
    }

    /// The cluster that runs, told by others, with the versions they have.
    fn running(mut self, members: Vec<MemberRecord>, versions: &[Option<Version>]) -> Self {
        let told = members.iter().map(|member| member.id).zip(versions.iter().copied());
        self.answers.versions = told.collect();
        self.answers.cluster = Ok(RemoteCluster { id: ClusterId(0xabc), members });
        self
    }
}

fn running(name: &str, id: u64, url: &str) -> MemberRecord {
    MemberRecord {
        id: MemberId(id),
        name: name.to_owned(),
        peer_urls: vec![url.to_owned()],
        client_urls: if name.is_empty() { Vec::new() } else { vec!["http://c:1".to_owned()] },
        is_learner: false,
    }
}

/// `a` was added under an id of its own; `b` and `c` run.
fn three() -> Vec<MemberRecord> {
    vec![
        running("c", 0xcc, "http://10.0.0.3:1"),
        running("", 0xaa, "http://10.0.0.1:1"),
        running("b", 0xbb, "http://10.0.0.2:1"),
    ]
}

const OK: &[Option<Version>] = &[Some(VERSION.cluster()), None, None];

#[test]
fn t_row_no_log_and_new() {
    let started = case(State::New).decide().expect("begins");
    assert_eq!(started.kind, Kind::New);
    let own = member_id(&["http://10.0.0.1:1".to_owned()], "tkn", None);
    assert_eq!(started.member_id, own);
    let ids: Vec<MemberId> = started.members.iter().map(|member| member.id).collect();
    assert!(ids.is_sorted() && ids.len() == 3);
    assert_eq!(started.cluster_id, cluster_id(&ids));
    let named = started.members.iter().all(|m| m.is_started() && m.client_urls.is_empty());
    assert!(named, "{:?}", started.members);
    // The other members come to the same cluster (U15).
    let mut other = case(State::New);
    (other.name, other.advertised) = ("b", urls("http://10.0.0.2:1"));
    let other = other.decide().expect("begins");
    assert_eq!((other.cluster_id, other.members), (started.cluster_id, started.members));
}

#[test]
fn t_row_no_log_and_existing() {
    let started = case(State::Existing).running(three(), OK).decide().expect("joins");
    assert_eq!((started.kind, started.member_id), (Kind::Join, MemberId(0xaa)));
    assert_eq!(started.cluster_id, ClusterId(0xabc));
    let ids: Vec<u64> = started.members.iter().map(|member| member.id.0).collect();
    assert_eq!(ids, [0xaa, 0xbb, 0xcc]);
}

#[test]
fn t_row_log_whatever_the_flags_say() {
    let disk = Disk::Log {
        member_id: MemberId(7),
        cluster_id: ClusterId(8),
        members: vec![running("x", 7, "http://10.0.0.9:1")],
    };
    for state in [State::New, State::Existing] {
        let mut case = case(state);
        (case.disk, case.name, case.advertised) = (disk.clone(), "nobody", urls("http://z:1"));
        let started = case.decide().expect("restarts");
        assert_eq!(started.kind, Kind::Restart);
        assert_eq!((started.member_id, started.cluster_id), (MemberId(7), ClusterId(8)));
        assert_eq!(started.members.len(), 1);
    }
}

#[test]
fn t_row_log_and_force_new_cluster() {
    let learner = MemberRecord { is_learner: true, ..running("a", 1, "http://10.0.0.1:1") };
    let members = vec![learner.clone(), running("b", 2, "http://10.0.0.2:1")];
    let mut case = case(State::New);
    case.force_new = true;
    case.disk = Disk::Log { member_id: MemberId(1), cluster_id: ClusterId(8), members };
    let started = case.decide().expect("forces");
    assert_eq!((started.kind, started.cluster_id), (Kind::ForceNew, ClusterId(8)));
    assert_eq!(started.members, [MemberRecord { is_learner: false, ..learner }]);
    // A member that is not in its own rows gets etcd's default URL.
    case.disk = Disk::Log { member_id: MemberId(1), cluster_id: ClusterId(8), members: Vec::new() };
    let started = case.decide().expect("forces");
    assert_eq!(started.members[0].peer_urls, ["http://localhost:2380"]);
    // Without a log there is nothing to force.
    case.disk = Disk::Empty;
    assert_eq!(case.decide().expect("begins").kind, Kind::New);
}

#[test]
fn a_new_cluster_must_name_this_member_as_it_advertises() {
    let mut case = case(State::New);
    case.name = "zz";
    case.refused("couldn't find local name \"zz\" in the initial cluster configuration");
    // The texts below are what etcd 3.5.1 printed for the same flags.
    case.name = "a";
    case.initial = "a=http://127.0.0.1:33302";
    case.advertised = urls("http://localhost:33302");
    case.refused("--initial-cluster has a=http://127.0.0.1:33302 but missing from --initial-advertise-peer-urls=http://localhost:33302 (\"http://localhost:33302\"(resolved from \"http://localhost:33302\") != \"http://127.0.0.1:33302\"(resolved from \"http://127.0.0.1:33302\"))");
    case.initial = "a=http://127.0.0.1:33302,a=http://127.0.0.1:33312";
    case.advertised = urls("http://127.0.0.1:33302");
    case.refused("--initial-cluster has a=http://127.0.0.1:33312 but missing from --initial-advertise-peer-urls=http://127.0.0.1:33302 (len([\"http://127.0.0.1:33302\"]) != len([\"http://127.0.0.1:33302\" \"http://127.0.0.1:33312\"]))");
    case.initial = "a=http://127.0.0.1:33302";
    case.advertised = urls("http://127.0.0.1:33302,http://127.0.0.1:33312");
    case.refused("--initial-advertise-peer-urls has http://127.0.0.1:33312 but missing from --initial-cluster=a=http://127.0.0.1:33302,a=http://127.0.0.1:33312");
    case.initial = "a=http://127.0.0.1:33302,b=http://127.0.0.1:33302";
    case.advertised = urls("http://127.0.0.1:33302");
    case.refused(
        "initial cluster a=http://127.0.0.1:33302,b=http://127.0.0.1:33302 has duplicate url",
    );
}

#[test]
fn t_u15_a_member_that_was_there_before_is_refused() {
    let own = case(State::New).decide().expect("begins").member_id;
    let known = |name| vec![running(name, own.0, "http://10.0.0.1:1")];
    case(State::New)
        .running(known("a"), &[])
        .refused(&format!("member {own} has already been bootstrapped"));
    // One that is only known by the flags, as in a cluster that has just begun, is not.
    assert!(case(State::New).running(known(""), &[]).decide().is_ok());
    assert!(case(State::New).running(three(), &[]).decide().is_ok());
}

#[test]
fn a_joiner_must_fit_the_cluster_that_runs() {
    case(State::Existing).refused("cannot fetch cluster info from peer urls: could not retrieve cluster information from the given URLs");
    let mut two = three();
    two.pop();
    case(State::Existing).running(two, OK).refused("error validating peerURLs {ClusterID:abc Members:[&{ID:cc RaftAttributes:{PeerURLs:[http://10.0.0.3:1] IsLearner:false} Attributes:{Name:c ClientURLs:[http://c:1]}} &{ID:aa RaftAttributes:{PeerURLs:[http://10.0.0.1:1] IsLearner:false} Attributes:{Name: ClientURLs:[]}}] RemovedMemberIDs:[]}: member count is unequal");
    let mut moved = three();
    moved[2].peer_urls = vec!["http://10.0.0.9:1".to_owned(), "http://10.0.0.8:1".to_owned()];
    let error = case(State::Existing).running(moved, OK).decide().expect_err("moved").to_string();
    assert!(
        error.ends_with("PeerURLs: no match found for existing member (bb, [http://10.0.0.9:1 http://10.0.0.8:1]), last resolver error (len([\"http://10.0.0.9:1\" \"http://10.0.0.8:1\"]) != len([\"http://10.0.0.3:1\"]))"),
        "{error}"
    );
    let mut nameless = case(State::Existing);
    nameless.name = "zz";
    nameless.refused("couldn't find local name \"zz\" in the initial cluster configuration");
    let mut doubled = case(State::Existing);
    doubled.initial = "a=http://10.0.0.1:1,b=http://10.0.0.1:1";
    doubled.refused("initial cluster a=http://10.0.0.1:1,b=http://10.0.0.1:1 has duplicate url");
}

#[test]
fn a_joiner_must_speak_the_clusters_version() {
    let at = |minor| Some(Version { major: 3, minor, patch: 0 });
    let told = |versions: &[Option<Version>]| case(State::Existing).running(three(), versions);
    for fine in [&[at(7), None, None][..], &[at(0), None, at(7)], &[None, None, at(6)]] {
        assert!(told(fine).decide().is_ok(), "{fine:?}");
    }
    // The second one is this member itself; nobody else tells anything there.
    for bad in
        [&[at(8), None, None][..], &[at(7), None, at(8)], &[None, None, None], &[None, at(7)]]
    {
        told(bad).refused("incompatible with current running cluster");
    }
    told(&[Some(Version { major: 2, minor: 3, patch: 0 }), None, None])
        .refused("incompatible with current running cluster");
    let mut downgrading = told(&[at(8), None, at(8)]);
    downgrading.answers.downgrading = true;
    assert!(downgrading.decide().is_ok());
    let mut too_far = told(&[at(9), None, at(8)]);
    too_far.answers.downgrading = true;
    too_far.refused("incompatible with current running cluster");
}

#[test]
fn a_joiner_counts_learners() {
    let mut members = three();
    members[1].is_learner = true;
    let started = case(State::Existing).running(members.clone(), OK).decide().expect("joins");
    assert!(started.members[0].is_learner);
    members[0].is_learner = true;
    let case = case(State::Existing).running(members, OK);
    case.refused("membership: too many learner members in cluster");
}
