//! Clusters of several server processes on loopback, without anything between the members.

use std::path::PathBuf;
use std::time::Duration;

use futures_util::future::join_all;
use tempfile::TempDir;
use tokio::time::Instant;

use crate::client::Clients;
use crate::pb;
use crate::server::{Server, Setup, free_port};
use crate::target::{self, Flavour, Target};

/// A state that a healthy cluster reaches by itself is waited for this long.
const SETTLE_LIMIT: Duration = Duration::from_secs(40);
/// Between two looks at a state that no event tells of.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// The token of the clusters here.
pub const TOKEN: &str = "tkn";

/// What a cluster is to be like.
#[derive(Clone, Debug)]
pub struct Shape {
    target: Target,
    size: usize,
    flags: Vec<(String, String)>,
    ports: Vec<(u16, u16)>,
}

impl Default for Shape {
    fn default() -> Self {
        Self { target: target::under_test(), size: 3, flags: Vec::new(), ports: Vec::new() }
    }
}

impl Shape {
    /// Three members of the server under test.
    pub fn new() -> Self {
        Self::default()
    }

    /// Another binary.
    pub fn of(target: Target) -> Self {
        Self { target, ..Self::default() }
    }

    /// Another number of members.
    pub fn size(mut self, size: usize) -> Self {
        self.size = size;
        self
    }

    /// The client and peer ports of another cluster, which has ended.
    pub fn ports_of(mut self, other: &Cluster) -> Self {
        self.ports = other.places.iter().map(|p| (p.client_port, p.peer_port)).collect();
        self
    }

    /// A flag for every member.
    pub fn flag(mut self, flag: &str, value: impl ToString) -> Self {
        self.flags.push((flag.to_owned(), value.to_string()));
        self
    }

    /// Writes a snapshot often and keeps few entries behind it.
    pub fn small_log(self) -> Self {
        let current = self.target.flavour == Flavour::Current;
        let shape = self.flag("snapshot-count", 100);
        // etcd 3.5.1 has no flag for it and keeps 5,000.
        if current { shape.flag("snapshot-catchup-entries", 50) } else { shape }
    }

    /// Starts it and waits until every member serves.
    pub async fn start(self) -> Cluster {
        let mut cluster = self.spawn();
        cluster.wait_ready().await;
        cluster
    }

    /// Starts the processes only.
    pub fn spawn(self) -> Cluster {
        let folder = tempfile::Builder::new().prefix("etcdrs-cluster-").tempdir().unwrap();
        let mut places: Vec<Place> =
            (0..self.size).map(|at| Place::new(format!("m{at}"), &folder)).collect();
        for (place, ports) in places.iter_mut().zip(&self.ports) {
            (place.client_port, place.peer_port) = *ports;
        }
        let mut cluster = Cluster { shape: self, folder, places, members: Vec::new() };
        let initial = cluster.initial_cluster();
        for at in 0..cluster.places.len() {
            let setup = cluster.setup(at, &initial, "new");
            cluster.members.push(setup.spawn().unwrap());
        }
        cluster
    }
}

/// Where a member lives.
#[derive(Clone, Debug)]
pub struct Place {
    /// Its name.
    pub name: String,
    /// Its data.
    pub data_dir: PathBuf,
    /// Client port.
    pub client_port: u16,
    /// Peer port.
    pub peer_port: u16,
}

impl Place {
    fn new(name: String, folder: &TempDir) -> Self {
        let data_dir = folder.path().join(&name);
        Self { name, data_dir, client_port: free_port(), peer_port: free_port() }
    }

    /// The URL other members reach it at.
    pub fn peer_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.peer_port)
    }
}

/// Its members by number, in the order in which they were made.
pub struct Cluster {
    /// Their processes. They end before the folder goes.
    pub members: Vec<Server>,
    /// Where the members live.
    pub places: Vec<Place>,
    shape: Shape,
    folder: TempDir,
}

impl Cluster {
    /// Three members.
    pub async fn start() -> Self {
        Shape::new().start().await
    }

    /// `name=url` of every place.
    pub fn initial_cluster(&self) -> String {
        let all: Vec<String> =
            self.places.iter().map(|p| format!("{}={}", p.name, p.peer_url())).collect();
        all.join(",")
    }

    /// How the member at a place is started.
    pub fn setup(&self, at: usize, initial_cluster: &str, state: &str) -> Setup {
        let place = &self.places[at];
        let setup = Setup::of(self.shape.target.clone())
            .data_dir(&place.data_dir)
            .ports(place.client_port, place.peer_port)
            .flag("name", &place.name)
            .flag("initial-cluster", initial_cluster)
            .flag("initial-cluster-token", TOKEN)
            .flag("initial-cluster-state", state);
        self.shape.flags.iter().fold(setup, |setup, (flag, value)| setup.flag(flag, value))
    }

    /// A place for one more member, which is not started.
    pub fn new_place(&mut self) -> usize {
        let name = format!("m{}", self.places.len());
        self.places.push(Place::new(name, &self.folder));
        self.places.len() - 1
    }

    /// Adds a member by way of member 0, starts it, and waits until it serves; its number.
    pub async fn join(&mut self, learner: bool) -> usize {
        let at = self.new_place();
        self.add(0, at, learner).await;
        self.start_joining(at).await;
        at
    }

    /// Tells the cluster, by way of `through`, of the member at a place; its id.
    pub async fn add(&self, through: usize, at: usize, is_learner: bool) -> u64 {
        let mut clients = self.clients(through).await;
        let limit = Instant::now() + SETTLE_LIMIT;
        loop {
            let request = add_request(&self.places[at].peer_url(), is_learner);
            match clients.try_member_add(request).await {
                Ok(answer) => return answer.member.expect("the new member").id,
                // A link counts only after five seconds (MB-04).
                Err(status) if status.message() == "etcdserver: unhealthy cluster" => {
                    assert!(Instant::now() < limit, "{status:?}");
                    tokio::time::sleep(LOOK_INTERVAL).await;
                }
                Err(status) => panic!("{status:?}"),
            }
        }
    }

    /// Starts the newest place as a member of the running cluster, and waits until it serves.
    pub async fn start_joining(&mut self, at: usize) {
        assert_eq!(at, self.members.len(), "members start in the order of their places");
        let names = self.initial_cluster();
        let mut server = self.setup(at, &names, "existing").spawn().unwrap();
        // A learner is never healthy: the read that health asks for is not for learners.
        server.wait_serving().await.unwrap();
        self.members.push(server);
    }

    /// Waits until every member serves.
    pub async fn wait_ready(&mut self) {
        let waits = self.members.iter_mut().map(Server::wait_ready);
        for ready in join_all(waits).await {
            ready.unwrap();
        }
    }

    /// Stubs of a member.
    pub async fn clients(&self, at: usize) -> Clients {
        self.members[at].clients().await
    }

    /// Status of a member, if it answers.
    pub async fn try_status(&self, at: usize) -> Option<pb::StatusResponse> {
        self.members[at].pid()?;
        let asked = async {
            let mut clients = Clients::try_connect(&self.members[at].endpoint()).await.ok()?;
            let answer = clients.maintenance.status(pb::StatusRequest {}).await.ok()?;
            Some(answer.into_inner())
        };
        tokio::time::timeout(Duration::from_secs(2), asked).await.ok()?
    }

    /// The id of a member.
    pub async fn id(&self, at: usize) -> u64 {
        self.clients(at).await.status().await.header.expect("a header").member_id
    }

    /// Waits for a leader that a majority of the running members knows; its number.
    pub async fn leader(&self) -> usize {
        self.leader_among(&(0..self.members.len()).collect::<Vec<_>>()).await
    }

    /// As [`Self::leader`], asking these members only.
    pub async fn leader_among(&self, asked: &[usize]) -> usize {
        let look = || async {
            let answers = join_all(asked.iter().map(|&at| self.try_status(at))).await;
            let answers: Vec<_> = answers.into_iter().enumerate().collect();
            let told: Vec<u64> =
                answers.iter().filter_map(|(_, s)| Some(s.as_ref()?.leader)).collect();
            let first = *told.first()?;
            let agreed = first != 0 && told.iter().all(|&leader| leader == first);
            let leads = |status: &pb::StatusResponse| {
                status.header.as_ref().is_some_and(|header| header.member_id == first)
            };
            let (at, _) = answers.iter().find(|(_, s)| s.as_ref().is_some_and(leads))?;
            agreed.then_some(asked[*at])
        };
        eventually("a leader that all know", look).await
    }

    /// A member that does not lead.
    pub async fn follower(&self) -> usize {
        let leader = self.leader().await;
        (0..self.members.len()).find(|&at| at != leader).expect("more than one member")
    }

    /// The other members.
    pub fn others(&self, than: usize) -> Vec<usize> {
        (0..self.members.len()).filter(|&at| at != than).collect()
    }

    /// Makes a member lead; waits for a new one until it may.
    pub async fn move_leader(&self, to: usize) {
        let target_id = self.id(to).await;
        let moved = || async {
            let leader = self.leader().await;
            if leader != to {
                let request = pb::MoveLeaderRequest { target_id };
                let asked = self.clients(leader).await.maintenance.move_leader(request).await;
                if let Err(status) = asked {
                    println!("not moved yet: {status:?}");
                    return None;
                }
            }
            (self.leader().await == to).then_some(())
        };
        eventually("the lead moves", moved).await;
    }

    /// Waits until these members, to which nobody writes, have the same revision, and fails unless
    /// their data is the same then.
    pub async fn wait_equal(&self, asked: &[usize]) -> pb::HashKvResponse {
        let newest = self.clients(asked[0]).await.revision().await;
        let look = || async {
            let hashes = join_all(asked.iter().map(|&at| async move {
                let mut clients = self.clients(at).await;
                clients.try_hash_kv(0).await.ok()
            }));
            let hashes: Option<Vec<_>> = hashes.await.into_iter().collect();
            let hashes = hashes?;
            let stage = |h: &pb::HashKvResponse| {
                (h.header.as_ref().map_or(0, |header| header.revision), h.compact_revision)
            };
            let first = stage(&hashes[0]);
            if first.0 < newest || hashes.iter().any(|hash| stage(hash) != first) {
                return None;
            }
            let equal = hashes.iter().all(|hash| hash.hash == hashes[0].hash);
            assert!(equal, "the members hold different data: {hashes:?}");
            hashes.into_iter().next()
        };
        eventually("all members have all revisions", look).await
    }
}

/// A request to add a member.
pub fn add_request(peer_url: &str, is_learner: bool) -> pb::MemberAddRequest {
    pb::MemberAddRequest { peer_urls: vec![peer_url.to_owned()], is_learner }
}

/// Looks until there is something to see; fails the test when nothing comes.
pub async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, look: impl Fn() -> F) -> T {
    let limit = Instant::now() + SETTLE_LIMIT;
    while Instant::now() < limit {
        if let Some(seen) = look().await {
            return seen;
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
    panic!("did not happen: {what}");
}
