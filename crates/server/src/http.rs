//! Plain HTTP: health, version, metrics (v3-api.md §2.6).

use axum::Router;
use axum::extract::{RawQuery, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use etcdrs_apply::AlarmKind;
use etcdrs_mvcc::RangeQuery;
use etcdrs_types::KeyRange;

use crate::api::Api;
use crate::metrics::Readings;

/// All paths; also what a metrics listener serves.
pub(crate) fn router(api: Api) -> Router {
    Router::new()
        .route("/version", get(version))
        .route("/health", get(health))
        .route("/metrics", get(metrics))
        .route("/livez", get(livez))
        .route("/livez/serializable_read", get(livez_serializable))
        .route("/readyz", get(readyz))
        .route("/readyz/data_corruption", get(readyz_data_corruption))
        .route("/readyz/serializable_read", get(readyz_serializable))
        .route("/readyz/linearizable_read", get(readyz_linearizable))
        .route("/readyz/non_learner", get(readyz_non_learner))
        .with_state(api)
}

async fn version(State(api): State<Api>) -> Response {
    let cluster = api.state.cluster.read().version().map(str::to_owned);
    let body = serde_json::json!({
        "etcdserver": api.settings.version,
        "etcdcluster": cluster.as_deref().unwrap_or("not_decided"),
        "storage": cluster.as_deref().unwrap_or("unknown"),
    });
    ([(header::CONTENT_TYPE, "application/json")], body.to_string()).into_response()
}

/// The values of a query parameter that may repeat.
fn values<'a>(query: &'a Option<String>, name: &'a str) -> impl Iterator<Item = &'a str> {
    let pairs = query.as_deref().unwrap_or_default().split('&');
    pairs
        .filter_map(|pair| pair.split_once('=').or(Some((pair, ""))))
        .filter_map(move |(key, value)| (key == name).then_some(value))
}

async fn health(State(api): State<Api>, RawQuery(query): RawQuery) -> Response {
    let excluded: Vec<&str> = values(&query, "exclude").collect();
    let serializable = values(&query, "serializable").any(|value| value == "true");
    let reason = unhealthy(&api, &excluded, serializable).await;
    let (code, healthy) = match reason {
        None => (StatusCode::OK, "true"),
        Some(_) => (StatusCode::SERVICE_UNAVAILABLE, "false"),
    };
    let body = serde_json::json!({ "health": healthy, "reason": reason.unwrap_or_default() });
    if code == StatusCode::OK {
        (code, [(header::CONTENT_TYPE, "application/json")], body.to_string()).into_response()
    } else {
        (code, format!("{body}\n")).into_response()
    }
}

/// HT-2: alarms, then the leader, then a read.
async fn unhealthy(api: &Api, excluded: &[&str], serializable: bool) -> Option<String> {
    for alarm in api.state.alarms() {
        let name = match alarm.kind {
            AlarmKind::NoSpace => "NOSPACE",
            AlarmKind::Corrupt => "CORRUPT",
            AlarmKind::Other(_) => "UNKNOWN",
        };
        if !excluded.contains(&name) {
            return Some(format!("ALARM {name}"));
        }
    }
    if !serializable && api.raft.status().leader.is_none() {
        return Some("RAFT NO LEADER".into());
    }
    read(api, serializable).await.err().map(|error| format!("RANGE ERROR:{error}"))
}

async fn read(api: &Api, serializable: bool) -> Result<(), String> {
    if !serializable {
        api.barrier().await.map_err(|status| status.message().to_owned())?;
    }
    let query = RangeQuery { limit: 1, keys_only: true, ..RangeQuery::new(KeyRange::all()) };
    api.state.reader.range(&query).map(drop).map_err(|error| error.to_string())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Check {
    SerializableRead,
    LinearizableRead,
    DataCorruption,
    NonLearner,
}

impl Check {
    const LIVE: [Self; 1] = [Self::SerializableRead];
    const READY: [Self; 4] =
        [Self::DataCorruption, Self::SerializableRead, Self::LinearizableRead, Self::NonLearner];

    const fn name(self) -> &'static str {
        match self {
            Self::SerializableRead => "serializable_read",
            Self::LinearizableRead => "linearizable_read",
            Self::DataCorruption => "data_corruption",
            Self::NonLearner => "non_learner",
        }
    }

    async fn run(self, api: &Api) -> Result<(), String> {
        match self {
            Self::SerializableRead => read(api, true).await,
            Self::LinearizableRead => read(api, false).await,
            Self::DataCorruption => {
                let corrupt = api.state.alarms().iter().any(|a| a.kind == AlarmKind::Corrupt);
                if corrupt { Err("alarm activated: CORRUPT".into()) } else { Ok(()) }
            }
            Self::NonLearner if api.is_learner() => Err("the local member is a learner".into()),
            Self::NonLearner => Ok(()),
        }
    }
}

/// HT-3.
async fn run_checks(api: &Api, checks: &[Check], query: &Option<String>, root: bool) -> Response {
    let excluded: Vec<&str> = if root { values(query, "exclude").collect() } else { Vec::new() };
    let verbose = values(query, "verbose").next().is_some();
    let mut lines = String::new();
    let mut failed = false;
    for check in checks {
        let name = check.name();
        if excluded.contains(&name) {
            lines.push_str(&format!("[+]{name} excluded: ok\n"));
            continue;
        }
        match check.run(api).await {
            Ok(()) => lines.push_str(&format!("[+]{name} ok\n")),
            Err(error) => {
                failed = true;
                lines.push_str(&format!("[-]{name} failed: {error}\n"));
            }
        }
    }
    match (failed, verbose) {
        (true, _) => (StatusCode::SERVICE_UNAVAILABLE, lines).into_response(),
        (false, true) => format!("{lines}ok\n").into_response(),
        (false, false) => "ok\n".into_response(),
    }
}

async fn livez(State(api): State<Api>, RawQuery(query): RawQuery) -> Response {
    run_checks(&api, &Check::LIVE, &query, true).await
}

async fn livez_serializable(State(api): State<Api>, RawQuery(query): RawQuery) -> Response {
    run_checks(&api, &[Check::SerializableRead], &query, false).await
}

async fn readyz(State(api): State<Api>, RawQuery(query): RawQuery) -> Response {
    run_checks(&api, &Check::READY, &query, true).await
}

async fn readyz_data_corruption(State(api): State<Api>, RawQuery(query): RawQuery) -> Response {
    run_checks(&api, &[Check::DataCorruption], &query, false).await
}

async fn readyz_serializable(State(api): State<Api>, RawQuery(query): RawQuery) -> Response {
    run_checks(&api, &[Check::SerializableRead], &query, false).await
}

async fn readyz_linearizable(State(api): State<Api>, RawQuery(query): RawQuery) -> Response {
    run_checks(&api, &[Check::LinearizableRead], &query, false).await
}

async fn readyz_non_learner(State(api): State<Api>, RawQuery(query): RawQuery) -> Response {
    run_checks(&api, &[Check::NonLearner], &query, false).await
}

async fn metrics(State(api): State<Api>) -> Response {
    // Asking the database for its sizes may wait for one of its locks.
    let text = tokio::task::spawn_blocking(move || api.metrics.text(&readings(&api))).await;
    match text {
        Ok(text) => ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text)
            .into_response(),
        Err(_) => StatusCode::SERVICE_UNAVAILABLE.into_response(),
    }
}

fn readings(api: &Api) -> Readings {
    let raft = api.raft.status();
    let stats = api.state.reader.stats();
    let hub = api.state.hub.stats();
    let backend = api.state.backend();
    let sizes = backend.sizes().unwrap_or_default();
    let memory = backend.memory();
    Readings {
        has_leader: raft.leader.is_some(),
        is_leader: raft.is_leader,
        committed: raft.committed.0,
        applied: raft.applied.0,
        revision: stats.revision,
        compact_revision: stats.compact_revision,
        keys: stats.keys,
        db_bytes: sizes.on_disk,
        db_in_use_bytes: sizes.in_use.min(sizes.on_disk),
        quota_bytes: api.settings.quota_bytes,
        watchers: hub.watchers,
        streams: hub.streams,
        slow_watchers: hub.slow_watchers,
        pending_events: hub.pending_events,
        events_total: hub.events_total,
        leases: api.state.lessor.lock().len(),
        memory: api.state.reader.memory(),
        log_cache_bytes: api.raft.log_cache().bytes,
        block_cache_bytes: memory.block_cache,
        memtable_bytes: memory.memtables,
    }
}
