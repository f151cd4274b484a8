//! How far away a peer is, and how wrong its clock.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use http::{Method, StatusCode};
use serde::{Deserialize, Serialize};
use tokio::time::{MissedTickBehavior, timeout};

use crate::config::{CLOCK_DRIFT_MS_MAX, PROBE_INTERVAL};
use crate::http1::{Connection, HttpError};
use crate::peer::Peer;
use crate::time;

pub(crate) const PATH: &str = "/raft/probing";
const ANSWER_BYTES_MAX: usize = 4 * 1024;

/// The answer to a probe.
#[derive(Serialize, Deserialize)]
pub(crate) struct Health {
    #[serde(rename = "OK")]
    pub(crate) ok: bool,
    #[serde(rename = "Now")]
    pub(crate) now: String,
}

#[derive(Debug, thiserror::Error)]
enum ProbeError {
    #[error(transparent)]
    Http(#[from] HttpError),
    #[error("unhealthy answer (status {0})")]
    Unhealthy(StatusCode),
}

struct Sample {
    rtt: Duration,
    clock_drift_ms: Option<i64>,
}

/// Probes a peer until it is aborted.
pub(crate) async fn run(peer: Arc<Peer>) {
    let mut ticks = tokio::time::interval(PROBE_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut connection = None;
    let mut smoothed: Option<Duration> = None;
    let (mut healthy, mut drifting) = (true, false);
    loop {
        ticks.tick().await;
        match probe(&peer, &mut connection).await {
            Ok(sample) => {
                let rtt = smoothed.map_or(sample.rtt, |old| smooth(old, sample.rtt));
                smoothed = Some(rtt);
                peer.measured(rtt, sample.clock_drift_ms);
                peer.context.config.observer.round_trip(peer.id, sample.rtt);
                let drift = sample.clock_drift_ms.unwrap_or(0);
                let drifts = drift.abs() > CLOCK_DRIFT_MS_MAX;
                if drifts && !drifting {
                    tracing::warn!(
                        remote_peer_id = %peer.id,
                        clock_drift_ms = drift,
                        ?rtt,
                        "prober found high clock drift"
                    );
                }
                drifting = drifts;
                if !std::mem::replace(&mut healthy, true) {
                    tracing::info!(remote_peer_id = %peer.id, ?rtt, "prober detected healthy status");
                }
            }
            Err(error) => {
                connection = None;
                if std::mem::replace(&mut healthy, false) {
                    tracing::warn!(
                        remote_peer_id = %peer.id,
                        rtt = ?smoothed.unwrap_or_default(),
                        %error,
                        "prober detected unhealthy status"
                    );
                }
            }
        }
    }
}

/// etcd's smoothing: a new sample weighs an eighth.
fn smooth(old: Duration, sample: Duration) -> Duration {
    (old * 7 + sample) / 8
}

async fn probe(peer: &Peer, kept: &mut Option<Connection>) -> Result<Sample, ProbeError> {
    let context = &peer.context;
    let url = peer.urls.pick();
    let mut connection = context.dial().reuse(kept.take(), &url).await?;
    let clock = &context.config.clock;
    let (start_ns, start_ms) = (clock.now_ns(), clock.wall_unix_ms());
    let request = context.request(peer, &url, (Method::GET, PATH), Body::empty());
    let answer =
        timeout(context.config.read_timeout, connection.exchange(request, ANSWER_BYTES_MAX))
            .await
            .map_err(|_| HttpError::Timeout)??;
    let rtt = Duration::from_nanos(clock.now_ns().saturating_sub(start_ns));
    let health: Option<Health> = serde_json::from_slice(answer.body()).ok();
    let Some(health) = health.filter(|health| health.ok && answer.status() == StatusCode::OK)
    else {
        return Err(ProbeError::Unhealthy(answer.status()));
    };
    let half_ms = i64::try_from(rtt.as_millis() / 2).unwrap_or(i64::MAX);
    let expected_ms = i64::try_from(start_ms).unwrap_or(i64::MAX).saturating_add(half_ms);
    *kept = Some(connection);
    let clock_drift_ms = time::parse(&health.now).map(|now| now.saturating_sub(expected_ms));
    Ok(Sample { rtt, clock_drift_ms })
}
