//! The cluster, and all that happens to it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use etcdrs_mvcc::RangeQuery;
use etcdrs_platform::{CrashMode, ThreadRandom};
use etcdrs_raft_glue::Handle;
use etcdrs_tests::request;
use etcdrs_tests::robustness::check::{Rule, Verdict, Violation, check};
use etcdrs_tests::robustness::history::{History, MemberEnd, Operation, Request};
use etcdrs_types::{KeyRange, MemberId};

use crate::member::{Common, Member, VirtualClock};
use crate::network::{Network, Weather};
use crate::scribe::Book;
use crate::trace::Trace;
use crate::{calls, faults};

/// A healed cluster is well after this.
const RECOVERY: Duration = Duration::from_secs(30);

/// What a run is to be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) members: usize,
    pub(crate) clients: u32,
    /// Virtual.
    pub(crate) load: Duration,
    pub(crate) faults: bool,
}

/// What came of it.
pub(crate) struct Report {
    pub(crate) verdict: Verdict,
    pub(crate) explanation: String,
    pub(crate) faults: Vec<String>,
    /// Equal for equal seeds.
    pub(crate) trace: (u64, u64),
    /// Terms that were led, for a look at how much happened.
    pub(crate) terms: usize,
    pub(crate) installs: u64,
}

pub(crate) struct World {
    pub(crate) seed: u64,
    pub(crate) network: Network,
    pub(crate) trace: Trace,
    common: Common,
    /// `None` while a member is being started or ended.
    members: Mutex<Vec<Option<Member>>>,
    ids: AtomicU64,
    over: AtomicBool,
    /// Who led in which term.
    leaders: Mutex<BTreeMap<u64, MemberId>>,
    root: PathBuf,
}

/// Runs a plan from begin to end on a runtime of its own.
pub(crate) fn simulate(plan: Plan) -> Report {
    // The thread's random numbers are the seed's from here on.
    let run = std::thread::Builder::new().name(format!("seed {}", plan.seed)).spawn(move || {
        ThreadRandom::seed(plan.seed);
        let mut builder = tokio::runtime::Builder::new_current_thread();
        #[cfg(tokio_unstable)]
        builder.rng_seed(tokio::runtime::RngSeed::from_bytes(&plan.seed.to_le_bytes()));
        let runtime = builder.enable_time().start_paused(true).build().unwrap();
        runtime.block_on(run(plan))
    });
    match run.unwrap().join() {
        Ok(report) => report,
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

async fn run(plan: Plan) -> Report {
    let root = tempfile::Builder::new().prefix("simulation-").tempdir().unwrap();
    let world = World::begin(plan, root.path().to_owned()).await;
    let leaders = tokio::spawn(Arc::clone(&world).follow_leaders());
    let mut load = tokio::task::JoinSet::new();
    for client in 0..plan.clients {
        load.spawn(calls::client(Arc::clone(&world), client));
    }
    load.spawn(calls::keeper(Arc::clone(&world)));
    let faults = plan.faults.then(|| tokio::spawn(faults::commit(Arc::clone(&world))));
    tokio::time::sleep(plan.load).await;
    world.over.store(true, Ordering::Relaxed);
    let mut history = History::default();
    while let Some(done) = load.join_next().await {
        history.operations.extend(done.unwrap());
    }
    let faults = match faults {
        Some(faults) => faults.await.unwrap(),
        None => Vec::new(),
    };
    world.network.heal();
    world.start_all().await;
    let mut violations = world.settle(&mut history).await;
    leaders.abort();
    violations.extend(leaders.await.ok());
    let (terms, installs) = (world.leaders.lock().unwrap().len(), world.installs());
    world.end().await;
    let mut verdict = check(&history);
    verdict.violations.extend(violations);
    let explanation = verdict.explain(&history, 5);
    Report { verdict, explanation, faults, trace: world.trace.sum(), terms, installs }
}

impl World {
    async fn begin(plan: Plan, root: PathBuf) -> Arc<Self> {
        let Plan { seed, members, .. } = plan;
        let trace = Trace::new();
        let network = Network::new(seed, trace.clone());
        let common = Common {
            network: network.clone(),
            book: Book::new(members, trace.clone()),
            clock: Arc::new(VirtualClock::new()),
            lives: AtomicU64::new(0),
        };
        let ids: Vec<MemberId> = (1..=members as u64).map(MemberId).collect();
        let mut running = Vec::new();
        for (seat, id) in ids.iter().enumerate() {
            let mut member = Member::new(seed, &root, *id, seat);
            member.start(&common, &ids).await;
            running.push(Some(member));
        }
        Arc::new(Self {
            seed,
            network,
            trace,
            common,
            members: Mutex::new(running),
            ids: AtomicU64::new(members as u64),
            over: AtomicBool::new(false),
            leaders: Mutex::default(),
            root,
        })
    }

    pub(crate) fn load_is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    pub(crate) fn seats(&self) -> usize {
        self.members.lock().unwrap().len()
    }

    /// The revision that every member's watcher was told.
    pub(crate) fn told_by_all(&self) -> i64 {
        self.common.book.told_by_all()
    }

    /// Looks at a member, unless it is being started or ended.
    pub(crate) fn with_member<T>(
        &self,
        seat: usize,
        look: impl FnOnce(&Member) -> Option<T>,
    ) -> Option<T> {
        self.members.lock().unwrap()[seat].as_ref().and_then(look)
    }

    pub(crate) fn handle(&self, seat: usize) -> Option<Handle> {
        self.with_member(seat, |member| Some(member.life.as_ref()?.handle.clone()))
    }

    /// The member's id; it never changes but in [`Self::settle_in`].
    pub(crate) fn id(&self, seat: usize) -> MemberId {
        self.with_member(seat, |member| Some(member.id)).expect("nobody starts or ends it now")
    }

    pub(crate) fn next_id(&self) -> MemberId {
        MemberId(self.ids.fetch_add(1, Ordering::Relaxed) + 1)
    }

    /// The seat of the leader, if somebody says that it leads.
    pub(crate) fn leader(&self) -> Option<usize> {
        (0..self.seats())
            .find(|seat| self.handle(*seat).is_some_and(|handle| handle.status().is_leader))
    }

    pub(crate) fn set(&self, from: usize, to: usize, weather: Weather) {
        let path = (self.id(from), self.id(to));
        self.network.set(path, weather);
    }

    /// The member's syncs take up to so much longer from now on.
    pub(crate) fn slow_down(&self, seat: usize, millis: u64) {
        if let Some(member) = &self.members.lock().unwrap()[seat] {
            member.disk.slow(millis);
        }
    }

    /// One of the member's next syncs fails.
    pub(crate) fn fail_sync(&self, seat: usize, nth: u64) {
        if let Some(member) = &self.members.lock().unwrap()[seat] {
            member.fs.fail_sync(nth);
        }
    }

    fn take(&self, seat: usize) -> Member {
        self.members.lock().unwrap()[seat].take().expect("one task starts and ends members")
    }

    fn put_back(&self, member: Member) {
        let seat = member.seat;
        self.members.lock().unwrap()[seat] = Some(member);
    }

    /// Ends a member without a warning.
    pub(crate) async fn go_dark(&self, seat: usize, mode: CrashMode) {
        let mut member = self.take(seat);
        member.crash(&self.common, mode).await;
        self.put_back(member);
    }

    /// The same, and starts it again later.
    pub(crate) async fn crash(&self, seat: usize, mode: CrashMode, later: Duration) {
        self.go_dark(seat, mode).await;
        tokio::time::sleep(later).await;
        self.start_all().await;
    }

    pub(crate) async fn stop(&self, seat: usize) {
        let mut member = self.take(seat);
        member.stop(&self.common).await;
        self.put_back(member);
    }

    /// Starts those that do not run.
    pub(crate) async fn start_all(&self) {
        for seat in 0..self.seats() {
            let mut member = self.take(seat);
            if member.life.is_none() {
                // Their logs know who belongs to the cluster.
                member.start(&self.common, &[]).await;
            }
            self.put_back(member);
        }
    }

    /// A new member with an empty disk takes a seat.
    pub(crate) async fn settle_in(&self, seat: usize, id: MemberId) {
        drop(self.take(seat));
        let mut member = Member::new(self.seed, &self.root, id, seat);
        member.start(&self.common, &[]).await;
        self.put_back(member);
    }

    /// Waits until a member stops by itself.
    pub(crate) async fn failed(&self, seat: usize) {
        let fatal = self.with_member(seat, |member| Some(member.life.as_ref()?.fatal()));
        if let Some(mut fatal) = fatal {
            // An end without a word is one as well.
            drop(fatal.wait_for(Option::is_some).await);
        }
    }

    /// Ends with words when two members lead in one term.
    async fn follow_leaders(self: Arc<Self>) -> Violation {
        loop {
            tokio::time::sleep(Duration::from_millis(5)).await;
            for handle in (0..self.seats()).filter_map(|seat| self.handle(seat)) {
                let status = handle.status();
                if !status.is_leader {
                    continue;
                }
                let mut leaders = self.leaders.lock().unwrap();
                let first = *leaders.entry(status.term.0).or_insert(handle.member());
                if first != handle.member() {
                    let text = format!("{first} and {} lead in {:?}", handle.member(), status.term);
                    return Violation::new(Rule::MemberDied, text);
                }
            }
        }
    }

    fn installs(&self) -> u64 {
        let handles = (0..self.seats()).filter_map(|seat| self.handle(seat));
        handles.map(|handle| *handle.watch_installs().borrow()).sum()
    }

    async fn end(&self) {
        for seat in 0..self.seats() {
            self.stop(seat).await;
        }
    }

    /// Healed: everybody takes a write, and holds the same at the end.
    async fn settle(&self, history: &mut History) -> Vec<Violation> {
        let settled = tokio::time::timeout(RECOVERY, async {
            for seat in 0..self.seats() {
                self.must_put(seat, history).await;
            }
            let revision = self.must_put(0, history).await;
            loop {
                tokio::time::sleep(Duration::from_millis(20)).await;
                let ends: Vec<_> = (0..self.seats()).filter_map(|seat| self.end_of(seat)).collect();
                let all = ends.len() == self.seats();
                if all && ends.iter().all(|end| end.revision == revision && end.hash != 0) {
                    return (revision, ends);
                }
            }
        });
        let Ok((revision, ends)) = settled.await else {
            let text = format!("not well {RECOVERY:?} after all was healed: {}", self.describe());
            history.watches = self.common.book.finish(0);
            return vec![Violation::new(Rule::NoRecovery, text)];
        };
        // What was applied is told within the same moment.
        tokio::time::sleep(Duration::from_millis(500)).await;
        history.ends = ends;
        history.watches = self.common.book.finish(revision);
        Vec::new()
    }

    async fn must_put(&self, seat: usize, history: &mut History) -> i64 {
        loop {
            let value = format!("end.{}", history.operations.len());
            let put = Request::Put(request::put("z/end", value));
            let operation = calls::call(self, 901, seat, put).await;
            let done = operation.as_ref().and_then(Operation::revision);
            history.operations.extend(operation);
            if let Some(revision) = done {
                return revision;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn end_of(&self, seat: usize) -> Option<MemberEnd> {
        let (shared, handle) = self.with_member(seat, |member| {
            member.life.as_ref().map(|life| (life.shared.clone(), life.handle.clone()))
        })?;
        let range = KeyRange::from_wire("\0".into(), "\0".into());
        let all = shared.reader.range(&RangeQuery::new(range)).ok()?;
        let hash = shared.reader.hash_kv(all.revision).ok()?;
        let members = handle.membership();
        Some(MemberEnd {
            member: seat,
            revision: all.revision,
            hash: hash.hash,
            compact_revision: hash.compact_revision,
            kvs: all.kvs.iter().map(|kv| kv.decode().expect("it decodes")).collect(),
            leases: Vec::new(),
            members: members.voters.iter().chain(&members.learners).map(|id| id.0).collect(),
        })
    }

    fn describe(&self) -> String {
        let members = (0..self.seats()).map(|seat| match self.handle(seat) {
            Some(handle) => format!(
                "{} {:?} {:?}",
                handle.member(),
                handle.status(),
                self.with_member(seat, |member| member.life.as_ref()?.fatal().borrow().clone())
            ),
            None => format!("seat {seat} does not run"),
        });
        members.collect::<Vec<_>>().join("; ")
    }
}
