//! What the peer transport tells, under etcd's names (operations.md §4.3).

use std::time::Duration;

use etcdrs_rafthttp_transport::Observer;
use etcdrs_types::MemberId;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

type Label = (&'static str, String);
type By<M, C = fn() -> M> = Family<[Label; 1], M, C>;
type ByPair<M> = Family<[Label; 2], M>;

/// Counters by peer. Cloneable; one for the registry, one for the transport.
#[derive(Clone)]
pub(crate) struct PeerMetrics {
    sent_bytes: By<Counter>,
    received_bytes: By<Counter>,
    sent_failures: By<Counter>,
    received_failures: By<Counter>,
    round_trip: By<Histogram, Buckets>,
    active: ByPair<Gauge>,
    disconnected: ByPair<Counter>,
    snapshot_sends: Snapshots,
    snapshot_receipts: Snapshots,
}

#[derive(Clone)]
struct Snapshots {
    success: By<Counter>,
    failures: By<Counter>,
    inflight: By<Gauge>,
    seconds: By<Histogram, Buckets>,
}

/// Where the buckets of a histogram begin, and how many there are, each twice the one before.
#[derive(Clone, Copy)]
struct Buckets(f64, u16);

impl MetricConstructor<Histogram> for Buckets {
    fn new_metric(&self) -> Histogram {
        Histogram::new(exponential_buckets(self.0, 2.0, self.1))
    }
}

fn by<M: Default>() -> By<M> {
    Family::new_with_constructor(M::default)
}

fn to(peer: MemberId) -> [Label; 1] {
    [("To", peer.to_string())]
}

fn from(peer: MemberId) -> [Label; 1] {
    [("From", peer.to_string())]
}

impl Snapshots {
    fn new(registry: &mut Registry, what: &str) -> Self {
        let name = |suffix: &str| format!("etcd_network_snapshot_{what}_{suffix}");
        let this = Self {
            success: by(),
            failures: by(),
            inflight: by(),
            seconds: Family::new_with_constructor(Buckets(0.1, 10)),
        };
        let verb = if what == "send" { "sent" } else { "received" };
        registry.register(
            name("success"),
            format!("Total number of successful snapshots {verb}"),
            this.success.clone(),
        );
        registry.register(
            name("failures"),
            format!("Total number of snapshots that could not be {verb}"),
            this.failures.clone(),
        );
        registry.register(
            name("inflights_total"),
            format!("Total number of snapshots that are being {verb}"),
            this.inflight.clone(),
        );
        registry.register(
            name("total_duration_seconds"),
            format!("Total latency distributions of snapshots {verb}"),
            this.seconds.clone(),
        );
        this
    }

    fn ended(&self, label: &[Label; 1], ok: bool, took: Duration) {
        self.inflight.get_or_create(label).dec();
        self.seconds.get_or_create(label).observe(took.as_secs_f64());
        let ended = if ok { &self.success } else { &self.failures };
        ended.get_or_create(label).inc();
    }
}

impl PeerMetrics {
    pub(super) fn new(registry: &mut Registry) -> Self {
        let this = Self {
            sent_bytes: by(),
            received_bytes: by(),
            sent_failures: by(),
            received_failures: by(),
            round_trip: Family::new_with_constructor(Buckets(0.0001, 16)),
            active: Family::default(),
            disconnected: Family::default(),
            snapshot_sends: Snapshots::new(registry, "send"),
            snapshot_receipts: Snapshots::new(registry, "receive"),
        };
        let name = |suffix: &str| format!("etcd_network_{suffix}");
        registry.register(
            name("peer_sent_bytes"),
            "The total number of bytes sent to peers",
            this.sent_bytes.clone(),
        );
        registry.register(
            name("peer_received_bytes"),
            "The total number of bytes received from peers",
            this.received_bytes.clone(),
        );
        registry.register(
            name("peer_sent_failures"),
            "The total number of send failures from peers",
            this.sent_failures.clone(),
        );
        registry.register(
            name("peer_received_failures"),
            "The total number of receive failures from peers",
            this.received_failures.clone(),
        );
        registry.register(
            name("peer_round_trip_time_seconds"),
            "Round-Trip-Time histogram between peers",
            this.round_trip.clone(),
        );
        registry.register(
            name("active_peers"),
            "The current number of active peer connections",
            this.active.clone(),
        );
        registry.register(
            name("disconnected_peers"),
            "The total number of disconnected peers",
            this.disconnected.clone(),
        );
        this
    }

    /// For the transport of `local`.
    pub(crate) fn observer(&self, local: MemberId) -> impl Observer {
        Observing { metrics: self.clone(), local }
    }
}

struct Observing {
    metrics: PeerMetrics,
    local: MemberId,
}

impl Observing {
    fn pair(&self, peer: MemberId) -> [Label; 2] {
        [("Local", self.local.to_string()), ("Remote", peer.to_string())]
    }
}

impl Observer for Observing {
    fn sent(&self, peer: MemberId, bytes: usize) {
        self.metrics.sent_bytes.get_or_create(&to(peer)).inc_by(bytes as u64);
    }

    fn received(&self, peer: MemberId, bytes: usize) {
        self.metrics.received_bytes.get_or_create(&from(peer)).inc_by(bytes as u64);
    }

    fn send_failed(&self, peer: MemberId, messages: usize) {
        self.metrics.sent_failures.get_or_create(&to(peer)).inc_by(messages as u64);
    }

    fn receive_failed(&self, peer: MemberId) {
        self.metrics.received_failures.get_or_create(&from(peer)).inc();
    }

    fn round_trip(&self, peer: MemberId, took: Duration) {
        self.metrics.round_trip.get_or_create(&to(peer)).observe(took.as_secs_f64());
    }

    fn active(&self, peer: MemberId, active: bool) {
        let pair = self.pair(peer);
        if active {
            self.metrics.active.get_or_create(&pair).inc();
        } else {
            self.metrics.active.get_or_create(&pair).dec();
            self.metrics.disconnected.get_or_create(&pair).inc();
        }
    }

    fn snapshot_send_started(&self, peer: MemberId) {
        self.metrics.snapshot_sends.inflight.get_or_create(&to(peer)).inc();
    }

    fn snapshot_sent(&self, peer: MemberId, ok: bool, took: Duration) {
        self.metrics.snapshot_sends.ended(&to(peer), ok, took);
    }

    fn snapshot_receive_started(&self, peer: MemberId) {
        self.metrics.snapshot_receipts.inflight.get_or_create(&from(peer)).inc();
    }

    fn snapshot_received(&self, peer: MemberId, ok: bool, took: Duration) {
        self.metrics.snapshot_receipts.ended(&from(peer), ok, took);
    }
}
