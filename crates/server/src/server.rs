//! A running server: storage opened, raft started, listeners bound, everything stopped in order.

mod announce;
mod error;
mod members;
mod pulse;
mod storage;
mod versions;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use etcdrs_mvcc::watch::Wake;
use etcdrs_platform::{OsFs, SystemClock, process};
use etcdrs_raft_glue::Node;
use etcdrs_rafthttp_transport::{self as rafthttp, Accept, Connect, Transport};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tower::ServiceExt as _;
use tower::util::BoxCloneSyncService;

pub use self::error::{Fatal, StartError};
use crate::ETCD_VERSION;
use crate::api::{Api, Compactor, Inner, Leadership, Pace, Settings, Space, policy};
use crate::auto_compaction;
use crate::config::{Config, Retention, Url};
use crate::grpc::Body;
use crate::listen::{self, Dial, Guard, Limits, Listener, Port, Security, Serve};
use crate::metrics::Metrics;
use crate::peers::{self, Delivery, PeerAnswers, PeerDialer, PeerDoor, PeerQuestions, Wire};

/// Watchers fed in one round of the task that reads history for them.
const CATCH_UP_WATCHERS: usize = 512;
/// Keys whose values are read into memory in one slice after a start.
const WARM_KEYS: usize = 2000;
/// Pause before the member's record is offered again.
const PUBLISH_PAUSE: Duration = Duration::from_millis(100);
/// Pause of that task when a round brought nothing.
const FEED_PAUSE: Duration = Duration::from_millis(10);
/// How often progress timers are looked at.
const PROGRESS_TICK: Duration = Duration::from_millis(50);

/// A server. Dropping it does not stop it; [`Server::stop`] does.
pub struct Server {
    api: Api,
    node: Node<OsFs>,
    client_urls: Vec<Url>,
    clients: Listeners,
    peers: Listeners,
    tasks: Vec<JoinHandle<()>>,
    fatal: watch::Receiver<Option<String>>,
    damage: watch::Receiver<Option<String>>,
    removal: watch::Receiver<bool>,
    transport: Transport,
}

impl Server {
    /// Opens the data directory, joins or makes its cluster of one, and serves clients. Returns
    /// once a client can be answered. Runs on the tokio runtime that it is called on.
    ///
    /// # Errors
    ///
    /// [`StartError`] says what could not be opened, bound or agreed, and how to mend it.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        let metrics = Metrics::new(ETCD_VERSION);
        // Bound before anything is opened: a port in use must not leave a database.
        let ports = Ports::open(&config).await?;
        announce::settings(&config);
        let Ports { security, peer, clients, metrics_only } = ports;
        let links = Links::new(security.dial);
        let storage::Storage { machine, raft, bootstrap, damage } =
            storage::open(&config, Arc::clone(&metrics.wal), &links.questions()).await?;
        let state = machine.machine.shared();
        let wire = Wire::default();
        let node = Node::start(OsFs, raft, machine, Arc::new(wire.clone())).await?;
        let raft = node.handle();
        // The log is replayed as far as it was known to be committed, and nobody is told of yet.
        if let Err(error) = members::compare(&state, raft.member()).await {
            node.stop().await;
            return Err(error);
        }
        let fatal = node.fatal();
        let (stop, stopped) = watch::channel(false);
        let pace = Pace { batch: config.compaction_batch, pause: config.compaction_pause };
        let compactor = Compactor::spawn(state.reader.clone(), pace, metrics.clone());
        let (clock, stop_seen) = (SystemClock::new(), stopped.clone());
        let api = Api::new(Inner {
            raft: raft.clone(),
            state: state.clone(),
            settings: settings(&config),
            clock,
            compactor,
            metrics,
            stop: stop_seen,
            transport: OnceLock::new(),
            leadership: Leadership::default(),
            space: Space::default(),
        });
        let (removed, removal) = watch::channel(false);
        let delivery = Delivery { inbound: raft.inbound(), state: state.clone(), removed };
        let transport = links.transport(&config, &api, delivery);
        peers::introduce(&transport, &bootstrap)?;
        wire.connect(transport.clone());
        let (stop_peers, stopped_peers) = watch::channel(false);
        let peers = serve_peers(peer, security.peers, &transport, &api, &config, &stopped_peers);
        let answering = api.clone();
        raft.inbound().set_answering(Box::new(move |_, question| {
            let api = answering.clone();
            Box::pin(async move { api.answer_peer(question).await })
        }));
        let mut tasks = background(&api, &transport, &config);
        let client_urls = clients.urls();
        tasks.push(tokio::spawn(versions::monitor(api.clone(), links.questions())));
        publish(&api, &config, &client_urls, fatal.clone(), removal.clone()).await?;
        versions::decided(&api).await;
        let clients = serve_clients(&api, clients, metrics_only, &config, &stopped);
        tracing::info!("ready to serve client requests");
        Ok(Self {
            api,
            node,
            transport,
            client_urls,
            clients: Listeners { stop, open: clients },
            peers: Listeners { stop: stop_peers, open: peers },
            tasks,
            fatal,
            damage,
            removal,
        })
    }

    /// Where clients are served, with the ports that were bound.
    #[must_use]
    pub fn client_urls(&self) -> &[Url] {
        &self.client_urls
    }

    /// Waits until the server fails by itself, which it must not outlive.
    pub async fn failed(&self) -> Fatal {
        let (mut fatal, mut damage) = (self.fatal.clone(), self.damage.clone());
        // The sender of damage lives as long as the database, which this server has open.
        tokio::select! {
            Ok(what) = damage.wait_for(Option::is_some) => {
                let what = what.clone().unwrap_or_default();
                Fatal(format!("the database is damaged: {what}"))
            }
            raft = fatal.wait_for(Option::is_some) => match raft {
                Ok(reason) => Fatal(reason.clone().unwrap_or_default()),
                Err(_) => Fatal("raft ended without a word".into()),
            },
        }
    }

    /// Waits until this member was removed from its cluster, which it has to leave then.
    pub async fn removed(&self) {
        let (mut told, api) = (self.removal.clone(), self.api.clone());
        tokio::select! {
            // The sender lives as long as the transport.
            _ = told.wait_for(|removed| *removed) => {}
            () = api.removed_by_log() => {}
        }
    }

    /// Stops in order: leadership handed over, no new calls, streams ended with `Unavailable`,
    /// peers, raft, log, database.
    pub async fn stop(self) {
        tracing::info!("closing etcd server");
        self.api.hand_over_before_stop().await;
        // Calls that were taken are answered with the help of peers.
        self.clients.close().await;
        self.transport.stop().await;
        self.peers.close().await;
        for task in &self.tasks {
            task.abort();
        }
        self.node.stop().await;
        let backend = self.api.state.backend().clone();
        // Shortens the next start; what is not flushed is replayed from the log.
        let flushed = tokio::task::spawn_blocking(move || backend.flush()).await;
        if let Ok(Err(error)) = flushed {
            tracing::warn!(%error, "could not flush the database");
        }
        tracing::info!("closed etcd server");
    }
}

/// What accepts connections, and what ends that.
struct Listeners {
    stop: watch::Sender<bool>,
    open: Vec<JoinHandle<()>>,
}

impl Listeners {
    /// Accepts no more, and waits for what was accepted, each listener as long as it lets that.
    async fn close(self) {
        self.stop.send_replace(true);
        for listener in self.open {
            // A listener that panicked has nothing left to stop.
            let _ = listener.await;
        }
    }
}

/// How this member reaches its peers.
struct Links {
    connector: Arc<dyn Connect>,
}

impl Links {
    fn new(dial: Dial) -> Self {
        Self { connector: Arc::new(PeerDialer::new(dial)) }
    }

    fn questions(&self) -> PeerQuestions {
        PeerQuestions::new(Arc::clone(&self.connector))
    }

    fn transport(&self, config: &Config, api: &Api, delivery: Delivery) -> Transport {
        let (member, cluster) = (api.raft.member(), api.raft.cluster());
        let base = rafthttp::Config::new(member, cluster, Arc::clone(&self.connector));
        let urls = config.initial_advertise_peer_urls.iter().map(Url::to_string).collect();
        let config = rafthttp::Config {
            server_version: ETCD_VERSION.into(),
            peer_urls: urls,
            dial_timeout: Duration::from_secs(1) + config.election,
            read_timeout: config.peer_read_timeout,
            write_timeout: config.peer_write_timeout,
            clock: Arc::new(api.clock),
            observer: Arc::new(api.metrics.peers.observer(member)),
            ..base
        };
        let transport = Transport::new(config, Arc::new(delivery));
        if api.transport.set(transport.clone()).is_err() {
            tracing::error!("the peer transport was made twice");
        }
        transport
    }
}

/// What runs beside the answering of calls.
fn background(api: &Api, transport: &Transport, config: &Config) -> Vec<JoinHandle<()>> {
    let peers = peers::keep(transport.clone(), api.raft.clone(), api.state.clone());
    // The configuration was checked before anything was started.
    let retention = config.retention().unwrap_or(Retention::Everything);
    vec![
        tokio::spawn(auto_compaction::run(api.clone(), retention)),
        tokio::spawn(peers),
        tokio::spawn(api.clone().run_lessor(config.election)),
        tokio::spawn(api.clone().follow_membership()),
        tokio::spawn(feed_watchers(api.clone())),
        tokio::spawn(tick_progress(api.clone())),
        tokio::spawn(pulse::measure(api.clone(), config.heartbeat)),
        tokio::spawn(warm_values(api.clone())),
        tokio::spawn(follow_installs(api.clone())),
        tokio::spawn(api.clone().watch_space(storage::keeper(config))),
        tokio::spawn(api.clone().watch_for_leader(config.election)),
    ]
}

fn serve_peers(
    bound: Vec<(Url, Listener)>,
    guard: Option<Guard>,
    transport: &Transport,
    api: &Api,
    config: &Config,
    stopped: &watch::Receiver<bool>,
) -> Vec<JoinHandle<()>> {
    let router = transport.router(Arc::new(PeerAnswers(api.clone())));
    let defaults = rafthttp::Limits::default();
    let limits = rafthttp::Limits {
        write_timeout: config.peer_write_timeout,
        // The door has limits of its own, and says more when they are passed.
        handshake_timeout: 2 * etcdrs_tls::HANDSHAKE_TIMEOUT,
        connections_max: defaults.connections_max
            + guard.as_ref().map_or(0, |_| Guard::PENDING_MAX),
        ..defaults
    };
    let serve = |(url, listener): (Url, Listener)| {
        tracing::info!(address = %url, "serving peer traffic");
        let guard = guard.clone().filter(|_| url.is_secure());
        let door = guard.map(|guard| Arc::new(PeerDoor(guard)) as Arc<dyn Accept>);
        let (listener, file) = match listener {
            Listener::Tcp(listener) => (rafthttp::Listener::Tcp(listener), None),
            Listener::Unix(listener, file) => (rafthttp::Listener::Unix(listener), Some(file)),
        };
        let serving = rafthttp::serve(listener, router.clone(), door, limits, stopped.clone());
        tokio::spawn(async move {
            serving.await;
            drop(file);
        })
    };
    bound.into_iter().map(serve).collect()
}

fn serve_clients(
    api: &Api,
    clients: ClientPorts,
    metrics_only: Vec<Port>,
    config: &Config,
    stopped: &watch::Receiver<bool>,
) -> Vec<JoinHandle<()>> {
    let limits = Limits {
        connections_max: clients.slots,
        max_concurrent_streams: config.concurrent_streams_max,
        keepalive_interval: config.keepalive_interval,
        keepalive_timeout: config.keepalive_timeout,
    };
    let front = Front::new(api.clone());
    let serve =
        |port, front| tokio::spawn(listen::serve(port, front, limits.clone(), stopped.clone()));
    let mut listeners = Vec::new();
    for port in clients.ports {
        for url in &port.urls {
            if url.is_secure() {
                tracing::info!(address = %url, "serving client traffic securely");
            } else {
                tracing::info!(address = %url, "serving client traffic insecurely; this is strongly discouraged!");
            }
        }
        listeners.push(serve(port, front.clone()));
    }
    for port in metrics_only {
        for url in &port.urls {
            tracing::info!(address = %url, "serving metrics");
        }
        listeners.push(serve(port, front.clone().http_only()));
    }
    listeners
}

fn settings(config: &Config) -> Settings {
    Settings {
        request_bytes_max: config.request_bytes_max,
        txn_ops_max: config.txn_ops_max,
        request_timeout: config.request_timeout(),
        quota_bytes: config.effective_quota_bytes(),
        progress_interval: config.progress_interval,
        reconfiguration: policy(config),
        election: config.election,
        version: ETCD_VERSION,
    }
}

/// Everything that is listened on, bound.
struct Ports {
    security: Security,
    peer: Vec<(Url, Listener)>,
    clients: ClientPorts,
    metrics_only: Vec<Port>,
}

/// Where clients come, and how many at once on each port.
struct ClientPorts {
    ports: Vec<Port>,
    slots: usize,
}

impl ClientPorts {
    fn urls(&self) -> Vec<Url> {
        self.ports.iter().flat_map(|port| port.urls.clone()).collect()
    }
}

impl Ports {
    async fn open(config: &Config) -> Result<Self, StartError> {
        let for_security = config.clone();
        let security = tokio::task::spawn_blocking(move || Security::open(&for_security)).await??;
        announce::peer_listeners(&config.listen_peer_urls);
        let mut peer = Vec::new();
        for url in &config.listen_peer_urls {
            let (listener, url) = Listener::bind(url).await.map_err(StartError::Bind)?;
            peer.push((url, listener));
        }
        let guard = security.clients.as_ref();
        let bind = |urls| async move { listen::bind(urls, guard).await.map_err(StartError::Bind) };
        announce::client_listeners(&config.listen_client_urls);
        let ports = bind(&config.listen_client_urls).await?;
        // A system that does not tell its limit has none.
        let limit = process::file_descriptors().map_or(u64::MAX, |found| found.limit);
        let reserved = listen::RESERVED_DESCRIPTORS;
        let slots = listen::slots(limit).ok_or(StartError::FewDescriptors { limit, reserved })?;
        let metrics_only = bind(&config.listen_metrics_urls).await?;
        Ok(Self { security, peer, clients: ClientPorts { ports, slots }, metrics_only })
    }
}

/// Waits until raft works, then tells the cluster who this member is.
async fn publish(
    api: &Api,
    config: &Config,
    client_urls: &[Url],
    mut fatal: watch::Receiver<Option<String>>,
    mut removal: watch::Receiver<bool>,
) -> Result<(), StartError> {
    let defaults = Config::default();
    // Nobody can reach port 0: a listener that chose its port advertises what it got.
    let advertised = if config.advertise_client_urls == defaults.advertise_client_urls
        && config.listen_client_urls != defaults.listen_client_urls
    {
        client_urls
    } else {
        &config.advertise_client_urls
    };
    let urls: Vec<String> = advertised.iter().map(Url::to_string).collect();
    let work = async {
        loop {
            match api.publish(&config.name, &urls).await {
                Ok(()) => return,
                Err(status) => {
                    let error = status.message();
                    tracing::warn!(error, "failed to publish local member to cluster through raft");
                    tokio::time::sleep(PUBLISH_PAUSE).await;
                }
            }
        }
    };
    tokio::select! {
        () = work => Ok(()),
        _ = removal.wait_for(|removed| *removed) => Err(StartError::Removed),
        reason = fatal.wait_for(Option::is_some) => {
            let reason = reason.ok().and_then(|reason| reason.clone()).unwrap_or_default();
            Err(StartError::Raft(etcdrs_raft_glue::StartError::Raft(reason)))
        }
    }
}

/// Wakes the task that feeds lagging watchers.
struct WakeFeeder(Notify);

impl Wake for WakeFeeder {
    fn wake(&self) {
        self.0.notify_one();
    }
}

async fn feed_watchers(api: Api) {
    let wake = Arc::new(WakeFeeder(Notify::new()));
    let waker: Arc<dyn Wake> = wake.clone();
    api.state.hub.on_lagging(waker);
    loop {
        while api.state.hub.has_lagging() {
            let hub = api.state.hub.clone();
            let round = tokio::task::spawn_blocking(move || hub.catch_up(CATCH_UP_WATCHERS));
            let more = matches!(round.await, Ok(true));
            if !more && api.state.hub.has_lagging() {
                // History could not be read, or somebody fell behind just now.
                tokio::time::sleep(FEED_PAUSE).await;
            }
        }
        wake.0.notified().await;
    }
}

/// Reads newest values into memory after a start, in slices between which others have their turn.
async fn warm_values(api: Api) {
    let mut job = api.state.reader.warm_job();
    loop {
        let slice = tokio::task::spawn_blocking(move || {
            let more = job.step(WARM_KEYS);
            (job, more)
        });
        let Ok((back, more)) = slice.await else { return };
        job = back;
        match more {
            Ok(true) => tokio::task::yield_now().await,
            Ok(false) => return,
            Err(error) => {
                tracing::warn!(%error, "could not read values into memory");
                return;
            }
        }
    }
}

/// After a database of the leader took the place of this member's: its values are cold, and what
/// the leader had not removed yet is to be removed here.
async fn follow_installs(api: Api) {
    let mut installs = api.raft.watch_installs();
    while installs.changed().await.is_ok() {
        api.compactor.wake();
        warm_values(api.clone()).await;
    }
}

async fn tick_progress(api: Api) {
    let mut ticks = tokio::time::interval(PROGRESS_TICK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        api.state.hub.tick(api.now_ms());
    }
}

type Reflection = BoxCloneSyncService<
    http::Request<hyper::body::Incoming>,
    http::Response<tonic::body::Body>,
    std::convert::Infallible,
>;

/// What a listener calls.
#[derive(Clone)]
struct Front {
    api: Api,
    router: axum::Router,
    reflection: Reflection,
    http_only: bool,
}

impl Front {
    fn new(api: Api) -> Self {
        let reflection = tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(etcdrs_proto::FILE_DESCRIPTOR_SET)
            .build_v1()
            .expect("the committed descriptors are complete");
        let reflection = BoxCloneSyncService::new(reflection);
        Self { router: crate::http::router(api.clone()), api, reflection, http_only: false }
    }

    fn http_only(self) -> Self {
        Self { http_only: true, ..self }
    }
}

impl Serve for Front {
    async fn grpc(&self, request: http::Request<hyper::body::Incoming>) -> http::Response<Body> {
        if self.http_only {
            return self.http(request).await;
        }
        if request.uri().path().starts_with("/grpc.reflection.") {
            return match self.reflection.clone().oneshot(request).await {
                Ok(response) => response.map(Body::tonic),
                Err(never) => match never {},
            };
        }
        self.api.call(request).await
    }

    async fn http(&self, request: http::Request<hyper::body::Incoming>) -> http::Response<Body> {
        match self.router.clone().oneshot(request).await {
            Ok(response) => response.map(Body::http),
            Err(never) => match never {},
        }
    }
}
