//! The receiving side of a stream: opens it, reads it, opens it again.

use std::sync::Arc;

use axum::body::Body;
use bytes::Bytes;
use http::{Method, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::time::timeout;

use crate::frame::{Decoder, FrameError, Kind, PAYLOAD_BYTES_MAX};
use crate::headers::{FORMAT, FORMAT_NOW, PLACE};
use crate::http1::{Connection, HttpError};
use crate::lane::Lane;
use crate::order::Place;
use crate::peer::Peer;
use crate::reply;
use crate::url::PeerUrl;

/// Longest text of a refusal that is read, bytes.
const REFUSAL_BYTES_MAX: usize = 4 * 1024;

/// Why a stream could not be opened, or ended.
#[derive(Debug, thiserror::Error)]
enum StreamError {
    #[error(transparent)]
    Http(#[from] HttpError),
    #[error("stream broke: {0}")]
    Broken(hyper::Error),
    #[error("the remote peer closed the stream")]
    Closed,
    #[error("nothing was read in time")]
    Silent,
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error("frame of an unexpected kind")]
    Kind,
    #[error("the remote peer went on another way")]
    Superseded,
    #[error("the member has been permanently removed from the cluster")]
    Removed,
    #[error("failed to find local node in the remote peer")]
    Unknown,
    #[error("the stream type is unsupported")]
    Unsupported,
    #[error("{0}")]
    Refused(String),
    #[error("unhandled http status {0}")]
    Status(StatusCode),
}

impl StreamError {
    /// Whether the peer takes connections and says nothing.
    fn is_silence(&self) -> bool {
        matches!(self, Self::Silent | Self::Http(HttpError::Timeout))
    }
}

/// Keeps a stream of `lane` from `peer` open until it is aborted.
pub(crate) async fn run(peer: Arc<Peer>, lane: Lane) {
    let mut failures = 0;
    let mut logged = String::new();
    loop {
        let url = peer.urls.pick();
        let mut session = Session { peer: &peer, lane, alive: false };
        let error = session.run(&url).await;
        if std::mem::take(&mut session.alive) {
            failures = 0;
            logged.clear();
        }
        failures += 1;
        peer.urls.failed(&url);
        peer.heard(lane, error.is_silence());
        // A peer that is away fails in the same way many times a second.
        let text = error.to_string();
        if text != logged {
            log(&peer, lane, &url, &error);
            logged = text;
        }
        match error {
            StreamError::Removed => peer.removed_by_peer(),
            StreamError::Frame(_) | StreamError::Kind => {
                peer.context.config.observer.receive_failed(peer.id);
            }
            _ => {}
        }
        tokio::time::sleep(Peer::pause(failures)).await;
    }
}

fn log(peer: &Peer, lane: Lane, url: &PeerUrl, error: &StreamError) {
    tracing::warn!(
        stream_reader_type = lane.title(),
        local_member_id = %peer.context.config.member,
        remote_peer_id = %peer.id,
        %url,
        %error,
        "lost TCP streaming connection with remote peer"
    );
}

/// One stream from its request to its end.
struct Session<'a> {
    peer: &'a Peer,
    lane: Lane,
    /// A whole frame has come.
    alive: bool,
}

impl Session<'_> {
    async fn run(&mut self, url: &PeerUrl) -> StreamError {
        match self.open(url).await {
            Ok((mut connection, body, place)) => {
                let read = self.read(body, place);
                connection.during(read).await
            }
            Err(error) => error,
        }
    }

    async fn open(&self, url: &PeerUrl) -> Result<(Connection, Incoming, Place), StreamError> {
        let context = &self.peer.context;
        let mut connection = context.dial().open(url).await?;
        let path = format!("/raft/stream/{}/{}", self.lane.path(), context.config.member);
        let request = context.request(self.peer, url, (Method::GET, &path), Body::empty());
        let answer = timeout(context.config.read_timeout, connection.call(request))
            .await
            .map_err(|_| HttpError::Timeout)??;
        match answer.status() {
            StatusCode::OK if answer.headers().get(FORMAT).is_some_and(|f| f == FORMAT_NOW) => {
                let place = reply::header_text(answer.headers(), PLACE);
                let way = self.peer.way_in();
                let place = place.and_then(|place| Place::parse(place, way).ok());
                let place = place.ok_or(StreamError::Unsupported)?;
                self.peer.removal_denied();
                Ok((connection, answer.into_body(), place))
            }
            StatusCode::OK => Err(StreamError::Unsupported),
            StatusCode::GONE => Err(StreamError::Removed),
            StatusCode::NOT_FOUND => Err(StreamError::Unknown),
            StatusCode::PRECONDITION_FAILED => {
                let text = first_piece(answer.into_body());
                let limit = context.config.read_timeout;
                let text = connection.during(timeout(limit, text)).await.unwrap_or_default();
                Err(StreamError::Refused(text))
            }
            status => Err(StreamError::Status(status)),
        }
    }

    async fn read(&mut self, mut body: Incoming, place: Place) -> StreamError {
        let limit = self.peer.context.config.read_timeout;
        let mut decoder = Decoder::new(PAYLOAD_BYTES_MAX);
        let mut messages = Vec::new();
        loop {
            let piece = match timeout(limit, body.frame()).await {
                Ok(Some(Ok(frame))) => frame.into_data().unwrap_or_default(),
                Ok(Some(Err(error))) => return StreamError::Broken(error),
                Ok(None) => return StreamError::Closed,
                Err(_) => return StreamError::Silent,
            };
            let bytes = piece.len();
            decoder.feed(piece);
            let result = self.decode(&mut decoder, &mut messages);
            if !messages.is_empty() {
                self.peer.context.config.observer.received(self.peer.id, bytes);
                let handler = &self.peer.context.handler;
                let deliver = || handler.receive(self.peer.id, &mut messages);
                if !self.peer.gate(self.lane).pass(place, deliver) {
                    return StreamError::Superseded;
                }
                self.peer.delivered(messages.len());
                messages.clear();
            }
            if let Err(error) = result {
                return error;
            }
        }
    }

    /// Takes all whole messages out of the decoder.
    fn decode(
        &mut self,
        decoder: &mut Decoder,
        messages: &mut Vec<Bytes>,
    ) -> Result<(), StreamError> {
        while let Some(frame) = decoder.next()? {
            match frame.kind {
                Kind::Heartbeat => {}
                Kind::Message => messages.push(frame.payload),
                _ => return Err(StreamError::Kind),
            }
            if !std::mem::replace(&mut self.alive, true) {
                self.peer.heard(self.lane, false);
                tracing::info!(
                    stream_reader_type = self.lane.title(),
                    local_member_id = %self.peer.context.config.member,
                    remote_peer_id = %self.peer.id,
                    "established TCP streaming connection with remote peer"
                );
            }
        }
        Ok(())
    }
}

/// The beginning of a short text.
async fn first_piece(mut body: Incoming) -> String {
    let piece = match body.frame().await {
        Some(Ok(frame)) => frame.into_data().unwrap_or_default(),
        _ => Bytes::new(),
    };
    let piece = &piece[..piece.len().min(REFUSAL_BYTES_MAX)];
    String::from_utf8_lossy(piece).trim().to_owned()
}
