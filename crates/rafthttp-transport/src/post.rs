//! Messages while there is no stream: `POST /raft`, everything that waits in each.
//!
//! etcd has four workers, one message a request. One worker a lane with a batch in each request
//! needs fewer requests and keeps the order.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderValue, Method, Request, StatusCode, header};
use tokio::time::timeout;

use crate::config::POST_IDLE;
use crate::frame::Encoder;
use crate::headers::{LANE, PLACE};
use crate::http1::{Connection, Dial, HttpError};
use crate::inbound;
use crate::lane::{Lane, Work, encode};
use crate::order::Place;
use crate::peer::{Context, Peer};
use crate::url::PeerUrl;

/// Longest text of a refusal, bytes.
const REFUSAL_BYTES_MAX: usize = 64 * 1024;
/// How much slower than this a link may not be: the time limit of a `POST` grows with its size.
const BYTES_PER_SECOND_MIN: usize = 1024 * 1024;

/// Why a `POST` failed.
#[derive(Debug, thiserror::Error)]
enum PostError {
    #[error(transparent)]
    Http(#[from] HttpError),
    #[error("the member has been permanently removed from the cluster")]
    Removed,
    #[error("unexpected http status {status} while posting: {text}")]
    Status { status: StatusCode, text: String },
}

impl Context {
    pub(crate) fn dial(&self) -> Dial<'_> {
        Dial {
            connector: &*self.config.connector,
            dial_timeout: self.config.dial_timeout,
            write_timeout: self.config.write_timeout,
        }
    }

    /// A request to a peer with all its headers.
    pub(crate) fn request(
        &self,
        peer: &Peer,
        url: &PeerUrl,
        (method, path): (Method, &str),
        body: Body,
    ) -> Request<Body> {
        let mut request = Request::new(body);
        *request.method_mut() = method;
        *request.uri_mut() = path.parse().expect("paths of this crate are paths");
        *request.headers_mut() = self.identity.request(peer.id, url);
        request
    }
}

/// Posts what waits in a lane until a stream takes over, a `POST` fails, or nothing comes.
pub(crate) async fn run(peer: Arc<Peer>, lane: Lane) {
    let mut connection = None;
    loop {
        match peer.queue(lane).next_work() {
            Work::Leave => return,
            Work::Wait => {
                let waited = timeout(POST_IDLE, peer.queue(lane).more.notified()).await;
                if waited.is_err() && peer.queue(lane).leave_if_idle() {
                    return;
                }
            }
            Work::Post { mut batch, streams_seen, posts_seen } => {
                let messages = batch.len();
                let url = peer.urls.pick();
                let place = Place { run: peer.run, stream: streams_seen, post: posts_seen };
                let order = (lane, place);
                match post(&peer, &url, order, &mut connection, &mut batch).await {
                    Ok(()) => {
                        peer.queue(lane).posted();
                        peer.posts_work(true, "");
                    }
                    Err(error) => return failed(&peer, lane, &url, messages, &error),
                }
            }
        }
    }
}

fn failed(peer: &Peer, lane: Lane, url: &PeerUrl, messages: usize, error: &PostError) {
    peer.urls.failed(url);
    let now = peer.context.now();
    let dropped = peer.queue(lane).post_failed(|failures| now + Peer::pause(failures));
    peer.count_dropped(messages + dropped);
    tracing::debug!(remote_peer_id = %peer.id, %url, %error, "could not post messages");
    if matches!(error, PostError::Removed) {
        peer.removed_by_peer();
    }
    peer.posts_work(false, &error.to_string());
}

async fn post(
    peer: &Peer,
    url: &PeerUrl,
    (lane, place): (Lane, Place),
    kept: &mut Option<Connection>,
    batch: &mut Vec<Bytes>,
) -> Result<(), PostError> {
    let context = &peer.context;
    let mut frames = Encoder::default();
    encode(&mut frames, batch);
    let bytes = frames.remaining();
    let mut connection = context.dial().reuse(kept.take(), url).await?;
    let mut request = context.request(peer, url, (Method::POST, "/raft"), body(frames));
    let headers = request.headers_mut();
    headers.insert(LANE, HeaderValue::from_static(lane.path()));
    headers.insert(PLACE, place.header(peer.way_out()));
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/protobuf"));
    headers.insert(header::CONTENT_LENGTH, bytes.into());
    let seconds = u64::try_from(bytes / BYTES_PER_SECOND_MIN).unwrap_or(u64::MAX);
    let limit = context.config.read_timeout + Duration::from_secs(seconds);
    let answer = timeout(limit, connection.exchange(request, REFUSAL_BYTES_MAX))
        .await
        .map_err(|_| HttpError::Timeout)??;
    match answer.status() {
        StatusCode::NO_CONTENT => {
            peer.sent(bytes);
            peer.removal_denied();
            *kept = Some(connection);
            Ok(())
        }
        StatusCode::FORBIDDEN if inbound::says_removed(answer.body()) => Err(PostError::Removed),
        status => {
            let text = String::from_utf8_lossy(answer.body()).trim().to_owned();
            Err(PostError::Status { status, text })
        }
    }
}

/// Frames as a body that is not copied together.
fn body(mut frames: Encoder) -> Body {
    let pieces = std::iter::from_fn(move || frames.pop().map(Ok::<_, std::convert::Infallible>));
    Body::from_stream(futures_util::stream::iter(pieces))
}
