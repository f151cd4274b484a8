//! What the peer port answers to `/raft…`: operations.md §3.7, §6.6, storage-and-raft.md §4.9.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use axum::routing::any;
use bytes::Bytes;
use etcdrs_types::MemberId;
use http::{HeaderMap, Method, StatusCode};
use http_body_util::BodyExt as _;
use tokio::time::timeout;

use crate::api::{self, PeerApi};
use crate::frame::{Decoder, Kind, PAYLOAD_BYTES_MAX};
use crate::handler::SnapshotRefused;
use crate::headers::{
    self, FORMAT, FORMAT_NOW, INCOMPATIBLE_VERSION, LANE, PLACE, RAFT_TO, SERVER_FROM,
};
use crate::lane::{Lane, StreamBody};
use crate::order::{Place, Way};
use crate::peer::Peer;
use crate::probe::{self, Health};
use crate::reply::Refusal;
use crate::snapshot::{self, SnapshotBody, SnapshotReadError};
use crate::transport::Transport;
use crate::{reply, time};

const STREAM_PREFIX: &str = "/raft/stream/";
const REMOVED: &str = "cannot process message from removed member";
const MISMATCH: &str = "cannot process message to mismatch member";
const UNREADABLE: &str = "error reading raft message";
const STOPPED: &str = "transport stopped";
const MALFORMED: &str = "error unmarshalling raft message";

/// Whether a refusal means removal, and not that a damaged request named another member.
pub(crate) fn says_removed(body: &[u8]) -> bool {
    reply::text_of(body).contains(REMOVED)
}

/// Everything on the peer port.
pub(crate) fn router(transport: Transport, peer_api: Arc<dyn PeerApi>) -> Router {
    let raft = Router::new()
        .route("/raft", any(messages))
        .route(snapshot::PATH, any(receive_snapshot))
        .route(probe::PATH, any(probing))
        .route(STREAM_PREFIX, any(stream))
        .route("/raft/stream/{*rest}", any(stream))
        .with_state(transport.clone());
    raft.merge(api::router(transport, peer_api)).fallback(|| async { reply::not_found() })
}

async fn probing(State(transport): State<Transport>) -> Response {
    let now = time::format(transport.context().config.clock.wall_unix_ms());
    reply::json(StatusCode::OK, &Health { ok: true, now }, "\n")
}

async fn stream(State(transport): State<Transport>, request: Request) -> Response {
    let mut response = match open_stream(&transport, &request) {
        Ok(body) => {
            let place = body.place();
            let mut response = Response::new(Body::new(body));
            response.headers_mut().insert(PLACE, place);
            response
        }
        Err(refusal) => refusal.into(),
    };
    transport.context().identity.mark_stream(response.headers_mut());
    response
}

fn open_stream(transport: &Transport, request: &Request) -> Result<StreamBody, Refusal> {
    let context = transport.context();
    let headers = request.headers();
    if request.method() != Method::GET {
        return Err(Refusal::Method(Method::GET));
    }
    let precondition = |text: &'static str| Refusal::text(StatusCode::PRECONDITION_FAILED, text);
    let missing = |text: &'static str| Refusal::text(StatusCode::NOT_FOUND, text);
    context.identity.check(headers).map_err(precondition)?;
    let path = request.uri().path().strip_prefix(STREAM_PREFIX).unwrap_or_default();
    let (lane, from) = path.rsplit_once('/').unwrap_or((path, ""));
    let lane = Lane::from_path(lane).ok_or_else(|| missing("invalid path"))?;
    let from = headers::parse_member(from).ok_or_else(|| missing("invalid from"))?;
    if context.handler.is_removed(from) {
        const REASON: &str = "rejected stream from remote peer because it was removed";
        context.identity.log_refusal(from, REASON, headers);
        return Err(Refusal::text(StatusCode::GONE, "removed member"));
    }
    let Some(peer) = transport.member(from) else {
        context.identity.log_refusal(from, "failed to find remote peer in cluster", headers);
        transport.heard_from(from, headers::peer_urls(headers));
        return Err(missing("error sender not found"));
    };
    if !context.identity.is_target(headers) {
        context.identity.log_refusal(from, "to field mismatch", headers);
        return Err(precondition("to field mismatch"));
    }
    if headers.get(FORMAT).is_none_or(|format| format != FORMAT_NOW) {
        context.identity.log_refusal(from, "other format of frames", headers);
        return Err(precondition(INCOMPATIBLE_VERSION));
    }
    context.identity.accepted(from);
    let closed = || Refusal::text(StatusCode::SERVICE_UNAVAILABLE, STOPPED);
    StreamBody::attach(peer, lane).ok_or_else(closed)
}

async fn messages(State(transport): State<Transport>, request: Request) -> Response {
    let mut response = match take_messages(&transport, request).await {
        Ok(()) => {
            let mut done = Response::new(Body::empty());
            *done.status_mut() = StatusCode::NO_CONTENT;
            done
        }
        Err(refusal) => refusal.into(),
    };
    transport.context().identity.mark_answer(response.headers_mut());
    response
}

async fn take_messages(transport: &Transport, request: Request) -> Result<(), Refusal> {
    let context = transport.context();
    let from = admit(transport, request.method(), request.headers())?;
    let bad = |text: &'static str| {
        context.config.observer.receive_failed(from.unwrap_or_default());
        Refusal::text(StatusCode::BAD_REQUEST, text)
    };
    let order = match from {
        Some(from) => order_of(transport, from, request.headers())?,
        None => None,
    };
    let mut body = request.into_body();
    let mut decoder = Decoder::new(PAYLOAD_BYTES_MAX);
    let mut batch = Vec::new();
    loop {
        let piece = match timeout(context.config.read_timeout, body.frame()).await {
            Ok(Some(Ok(frame))) => frame.into_data().unwrap_or_default(),
            Ok(None) => break,
            Ok(Some(Err(_))) | Err(_) => return Err(bad(UNREADABLE)),
        };
        let bytes = piece.len();
        decoder.feed(piece);
        while let Some(frame) = decoder.next().map_err(|_| bad(MALFORMED))? {
            if frame.kind != Kind::Message {
                return Err(bad(MALFORMED));
            }
            batch.push(frame.payload);
        }
        let from = from.ok_or_else(|| bad(MALFORMED))?;
        if transport.is_stopped() {
            return Err(Refusal::text(StatusCode::SERVICE_UNAVAILABLE, STOPPED));
        }
        if !batch.is_empty() {
            context.config.observer.received(from, bytes);
            let mut deliver = || context.handler.receive(from, &mut batch);
            let delivered = match &order {
                Some((peer, lane, place)) => peer.gate(*lane).pass(*place, deliver),
                None => {
                    deliver();
                    true
                }
            };
            if !delivered {
                return Err(Refusal::text(StatusCode::CONFLICT, "superseded"));
            }
            if let Some(peer) = transport.peer(from) {
                peer.delivered(batch.len());
            }
            batch.clear();
        }
    }
    if from.is_none() || !decoder.is_empty() {
        return Err(bad(MALFORMED));
    }
    Ok(())
}

/// The sender, and where in its order a `POST` belongs. One that says nothing of it is taken as it
/// comes; one that says something else is damaged.
fn order_of(
    transport: &Transport,
    from: MemberId,
    headers: &HeaderMap,
) -> Result<Option<(Arc<Peer>, Lane, Place)>, Refusal> {
    let (lane, place) = (reply::header_text(headers, LANE), reply::header_text(headers, PLACE));
    if lane.is_none() && place.is_none() {
        return Ok(None);
    }
    let lane = lane.and_then(Lane::from_path);
    let order = lane.zip(place).and_then(|(lane, place)| {
        let way = Way { from, to: transport.context().config.member };
        Some((lane, Place::parse(place, way).ok()?))
    });
    let (lane, place) = order.ok_or_else(|| Refusal::text(StatusCode::BAD_REQUEST, MALFORMED))?;
    Ok(transport.peer(from).map(|peer| (peer, lane, place)))
}

/// The checks that messages and snapshots share. The sender is absent if it does not say who it
/// is, which is a matter of the body.
fn admit(
    transport: &Transport,
    method: &Method,
    headers: &HeaderMap,
) -> Result<Option<MemberId>, Refusal> {
    let context = transport.context();
    if method != Method::POST {
        return Err(Refusal::Method(Method::POST));
    }
    context
        .identity
        .check(headers)
        .map_err(|text| Refusal::text(StatusCode::PRECONDITION_FAILED, text))?;
    let Some(from) = headers::member(headers, SERVER_FROM) else { return Ok(None) };
    if context.handler.is_removed(from) {
        const REASON: &str = "rejected Raft message from removed member";
        context.identity.log_refusal(from, REASON, headers);
        return Err(Refusal::Message(StatusCode::FORBIDDEN, REMOVED));
    }
    if headers.contains_key(RAFT_TO) && !context.identity.is_target(headers) {
        const REASON: &str = "rejected Raft message to mismatch member";
        context.identity.log_refusal(from, REASON, headers);
        return Err(Refusal::Message(StatusCode::FORBIDDEN, MISMATCH));
    }
    context.identity.accepted(from);
    transport.heard_from(from, headers::peer_urls(headers));
    Ok(Some(from))
}

async fn receive_snapshot(State(transport): State<Transport>, request: Request) -> Response {
    let mut response = match take_snapshot(&transport, request).await {
        Ok(answer) => {
            let body = snapshot::answer_body(&answer);
            reply::with_type(StatusCode::OK, "application/octet-stream", body)
        }
        Err(refusal) => refusal.into(),
    };
    transport.context().identity.mark_answer(response.headers_mut());
    response
}

async fn take_snapshot(transport: &Transport, request: Request) -> Result<Bytes, Refusal> {
    let context = transport.context();
    let from = admit(transport, request.method(), request.headers())?;
    let from = from.ok_or_else(|| Refusal::text(StatusCode::BAD_REQUEST, MALFORMED))?;
    let observer = &context.config.observer;
    let start = context.now();
    observer.snapshot_receive_started(from);
    let result = tokio::select! {
        biased;
        () = context.stopped() => {
            Err(Refusal::text(StatusCode::SERVICE_UNAVAILABLE, STOPPED))
        }
        result = store_snapshot(transport, from, request.into_body()) => result,
    };
    observer.snapshot_received(from, result.is_ok(), context.now().since(start));
    result.inspect_err(|refusal| {
        tracing::warn!(remote_snapshot_sender_id = %from, error = ?refusal, "refused a snapshot");
    })
}

async fn store_snapshot(
    transport: &Transport,
    from: MemberId,
    body: Body,
) -> Result<Bytes, Refusal> {
    let context = transport.context();
    let opened = SnapshotBody::open(body, context.config.read_timeout).await;
    let (head, body) = opened.map_err(|error| {
        let text = match error {
            SnapshotReadError::Damaged(_) => MALFORMED,
            _ => UNREADABLE,
        };
        context.config.observer.receive_failed(from);
        Refusal::text(StatusCode::BAD_REQUEST, text)
    })?;
    context.handler.receive_snapshot(from, head, body).await.map_err(|refused| match refused {
        SnapshotRefused::Malformed(text) => Refusal::text(StatusCode::BAD_REQUEST, text),
        SnapshotRefused::Failed(text) => Refusal::text(StatusCode::INTERNAL_SERVER_ERROR, text),
    })
}
