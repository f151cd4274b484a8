//! Snapshots: `POST /raft/snapshot`, a head and checked chunks in one direction, an answer back.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::body::Body;
use bytes::{Buf as _, Bytes};
use futures_util::{Stream, StreamExt as _};
use http::{HeaderValue, Method, StatusCode, header};
use http_body_util::BodyExt as _;
use parking_lot::Mutex;
use tokio::time::{Instant, timeout};

use crate::config::{SNAPSHOT_CHUNK_BYTES_MAX, SNAPSHOT_HEAD_BYTES_MAX};
use crate::frame::{Decoder, Frame, FrameError, HEADER_BYTES, Kind, header};
use crate::http1::HttpError;
use crate::peer::Peer;
use crate::{inbound, reply};

pub(crate) const PATH: &str = "/raft/snapshot";
const END_BYTES: usize = 12;

/// Why a snapshot did not arrive.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotSendError {
    /// Nobody by this id is known.
    #[error("member not found")]
    Unknown,
    /// The head is larger than 16 MiB.
    #[error("snapshot head of {0} bytes is too large")]
    HeadTooLarge(usize),
    /// The chunks ended in an error.
    #[error("could not read the snapshot: {0}")]
    Source(io::Error),
    /// The peer could not be reached, or the connection broke.
    #[error("could not send the snapshot: {0}")]
    Connection(String),
    /// Nothing moved, or no answer came, for too long.
    #[error("the peer did not take the snapshot in time")]
    Timeout,
    /// This member was removed from the cluster (403).
    #[error("the member has been permanently removed from the cluster")]
    Removed,
    /// The peer refused it.
    #[error("snapshot refused with status {status}: {text}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// The peer's words.
        text: String,
    },
    /// The transport stops.
    #[error("transport stopped")]
    Stopped,
}

/// Why a snapshot could not be read to its end.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotReadError {
    /// The connection broke before the end.
    #[error("snapshot ended early: {0}")]
    Broken(String),
    /// Nothing came for too long.
    #[error("snapshot stalled")]
    Stalled,
    /// It is not what was sent.
    #[error("snapshot is damaged: {0}")]
    Damaged(String),
}

impl From<FrameError> for SnapshotReadError {
    fn from(error: FrameError) -> Self {
        Self::Damaged(error.to_string())
    }
}

/// Length and checksum of all chunks so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Total {
    bytes: u64,
    checksum: u32,
}

impl Total {
    fn add(&mut self, chunk_bytes: usize, checksum: u32) {
        self.checksum = crc32c::crc32c_combine(self.checksum, checksum, chunk_bytes);
        self.bytes += chunk_bytes as u64;
    }

    fn to_bytes(self) -> Bytes {
        let mut bytes = Vec::with_capacity(END_BYTES);
        bytes.extend_from_slice(&self.bytes.to_be_bytes());
        bytes.extend_from_slice(&self.checksum.to_be_bytes());
        bytes.into()
    }

    fn parse(mut bytes: &[u8]) -> Option<Self> {
        (bytes.len() == END_BYTES)
            .then(|| Self { bytes: bytes.get_u64(), checksum: bytes.get_u32() })
    }
}

/// Sends a snapshot and returns the answer.
pub(crate) async fn send<S>(peer: &Peer, head: Bytes, chunks: S) -> Result<Bytes, SnapshotSendError>
where
    S: Stream<Item = io::Result<Bytes>> + Send + 'static,
{
    if head.len() > SNAPSHOT_HEAD_BYTES_MAX {
        return Err(SnapshotSendError::HeadTooLarge(head.len()));
    }
    let context = &peer.context;
    let observer = &context.config.observer;
    let start = context.now();
    observer.snapshot_send_started(peer.id);
    let result = tokio::select! {
        result = exchange(peer, head, chunks) => result,
        () = context.stopped() => Err(SnapshotSendError::Stopped),
    };
    observer.snapshot_sent(peer.id, result.is_ok(), context.now().since(start));
    if matches!(result, Err(SnapshotSendError::Removed)) {
        peer.removed_by_peer();
    }
    result
}

async fn exchange<S>(peer: &Peer, head: Bytes, chunks: S) -> Result<Bytes, SnapshotSendError>
where
    S: Stream<Item = io::Result<Bytes>> + Send + 'static,
{
    let context = &peer.context;
    let url = peer.urls.pick();
    let connection = context.dial().open(&url).await;
    let mut connection = connection.map_err(|error| {
        peer.urls.failed(&url);
        SnapshotSendError::Connection(error.to_string())
    })?;
    let progress = Arc::new(Progress::default());
    let rate = context.config.snapshot_bytes_per_second;
    let body = Body::from_stream(frames(head, Box::pin(chunks), rate, progress.clone()));
    let mut request = context.request(peer, &url, (Method::POST, PATH), body);
    let content_type = HeaderValue::from_static("application/octet-stream");
    request.headers_mut().insert(header::CONTENT_TYPE, content_type);
    let answer_bytes_max = SNAPSHOT_HEAD_BYTES_MAX + HEADER_BYTES;
    let answer = tokio::select! {
        answer = connection.exchange(request, answer_bytes_max) => answer,
        () = progress.stalled(context.config.snapshot_timeout) => {
            return Err(SnapshotSendError::Timeout);
        }
    };
    peer.sent(usize::try_from(progress.bytes.load(Ordering::Relaxed)).unwrap_or(usize::MAX));
    if let Some(error) = progress.failure.lock().take() {
        return Err(SnapshotSendError::Source(error));
    }
    let answer = answer.map_err(|error: HttpError| {
        peer.urls.failed(&url);
        SnapshotSendError::Connection(error.to_string())
    })?;
    match answer.status() {
        StatusCode::OK => answer_of(answer.into_body()),
        StatusCode::FORBIDDEN if inbound::says_removed(answer.body()) => {
            Err(SnapshotSendError::Removed)
        }
        status => {
            let text = reply::text_of(answer.body());
            Err(SnapshotSendError::Refused { status: status.as_u16(), text })
        }
    }
}

fn answer_of(body: Bytes) -> Result<Bytes, SnapshotSendError> {
    let mut decoder = Decoder::new(SNAPSHOT_HEAD_BYTES_MAX);
    decoder.feed(body);
    match decoder.next() {
        Ok(Some(Frame { kind: Kind::SnapshotAnswer, payload, .. })) => Ok(payload),
        Ok(_) => Err(SnapshotSendError::Connection("the answer is no answer".into())),
        Err(error) => Err(SnapshotSendError::Connection(error.to_string())),
    }
}

/// The answer to a snapshot as a body.
pub(crate) fn answer_body(answer: &Bytes) -> Bytes {
    let header = header(Kind::SnapshotAnswer, answer);
    Bytes::from([&header[..], &answer[..]].concat())
}

/// How far a snapshot has come.
#[derive(Default)]
struct Progress {
    bytes: AtomicU64,
    /// The error that ended the chunks; the connection only knows that its body failed.
    failure: Mutex<Option<io::Error>>,
}

impl Progress {
    /// Returns when nothing has moved for `limit`.
    async fn stalled(&self, limit: Duration) {
        let mut before = u64::MAX;
        loop {
            tokio::time::sleep(limit).await;
            let now = self.bytes.load(Ordering::Relaxed);
            if std::mem::replace(&mut before, now) == now {
                return;
            }
        }
    }
}

/// A snapshot on its way out.
struct Sender<S> {
    chunks: S,
    ready: VecDeque<Bytes>,
    total: Total,
    ended: bool,
    progress: Arc<Progress>,
    bytes_per_second: Option<u64>,
    start: Instant,
}

/// Head, chunks and end as frames. Holds one item of `chunks` at a time.
fn frames<S>(
    head: Bytes,
    chunks: S,
    bytes_per_second: Option<u64>,
    progress: Arc<Progress>,
) -> impl Stream<Item = io::Result<Bytes>> + Send
where
    S: Stream<Item = io::Result<Bytes>> + Send + Unpin + 'static,
{
    let mut sender = Sender {
        chunks,
        ready: VecDeque::new(),
        total: Total::default(),
        ended: false,
        progress,
        bytes_per_second,
        start: Instant::now(),
    };
    sender.frame(Kind::SnapshotHead, head);
    futures_util::stream::try_unfold(sender, |mut sender| async move {
        Ok(sender.next().await?.map(|piece| (piece, sender)))
    })
}

impl<S: Stream<Item = io::Result<Bytes>> + Unpin> Sender<S> {
    fn frame(&mut self, kind: Kind, payload: Bytes) {
        self.ready.push_back(Bytes::copy_from_slice(&header(kind, &payload)));
        self.ready.push_back(payload);
    }

    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        while self.ready.is_empty() && !self.ended {
            match self.chunks.next().await {
                Some(Ok(chunk)) => {
                    if let Some(due) = self.due() {
                        tokio::time::sleep_until(due).await;
                    }
                    self.chunk(chunk);
                }
                Some(Err(error)) => {
                    let text = error.to_string();
                    *self.progress.failure.lock() = Some(error);
                    return Err(io::Error::other(text));
                }
                None => {
                    self.ended = true;
                    self.frame(Kind::SnapshotEnd, self.total.to_bytes());
                }
            }
        }
        let piece = self.ready.pop_front();
        let bytes = piece.as_ref().map_or(0, Bytes::len) as u64;
        self.progress.bytes.fetch_add(bytes, Ordering::Relaxed);
        Ok(piece)
    }

    fn chunk(&mut self, mut chunk: Bytes) {
        while !chunk.is_empty() {
            let piece = chunk.split_to(chunk.len().min(SNAPSHOT_CHUNK_BYTES_MAX));
            self.total.add(piece.len(), crc32c::crc32c(&piece));
            self.frame(Kind::SnapshotChunk, piece);
        }
    }

    /// When what was sent before fits the rate.
    fn due(&self) -> Option<Instant> {
        let rate = self.bytes_per_second.filter(|rate| *rate > 0)?;
        let millis = self.total.bytes.saturating_mul(1000) / rate;
        Some(self.start + Duration::from_millis(millis))
    }
}

/// A snapshot that arrives: its chunks in order, each checked.
pub struct SnapshotBody {
    body: Body,
    decoder: Decoder,
    total: Total,
    ended: bool,
    read_timeout: Duration,
}

impl SnapshotBody {
    /// Reads the head of a snapshot.
    pub(crate) async fn open(
        body: Body,
        read_timeout: Duration,
    ) -> Result<(Bytes, Self), SnapshotReadError> {
        let decoder = Decoder::new(SNAPSHOT_HEAD_BYTES_MAX);
        let mut this = Self { body, decoder, total: Total::default(), ended: false, read_timeout };
        let head = this.frame().await?;
        if head.kind != Kind::SnapshotHead {
            return Err(SnapshotReadError::Damaged("it has no head".into()));
        }
        Ok((head.payload, this))
    }

    /// The next chunk, or `None` once all have come and their number of bytes and checksum are
    /// those of the sender. Safe to cancel.
    ///
    /// # Errors
    ///
    /// The snapshot is broken, and what came before the error is worth nothing.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, SnapshotReadError> {
        if self.ended {
            return Ok(None);
        }
        let frame = self.frame().await?;
        match frame.kind {
            Kind::SnapshotChunk => {
                self.total.add(frame.payload.len(), frame.checksum);
                Ok(Some(frame.payload))
            }
            Kind::SnapshotEnd if Total::parse(&frame.payload) == Some(self.total) => {
                self.ended = true;
                Ok(None)
            }
            Kind::SnapshotEnd => Err(SnapshotReadError::Damaged("chunks are missing".into())),
            _ => Err(SnapshotReadError::Damaged("frame of an unexpected kind".into())),
        }
    }

    /// The chunks as a stream. It has come to its end only when it has ended without an error.
    pub fn into_stream(self) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
        futures_util::stream::try_unfold(self, |mut body| async move {
            let chunk = body.chunk().await.map_err(io::Error::other)?;
            Ok(chunk.map(|chunk| (chunk, body)))
        })
    }

    async fn frame(&mut self) -> Result<Frame, SnapshotReadError> {
        loop {
            if let Some(frame) = self.decoder.next()? {
                return Ok(frame);
            }
            match timeout(self.read_timeout, self.body.frame()).await {
                Ok(Some(Ok(frame))) => self.decoder.feed(frame.into_data().unwrap_or_default()),
                Ok(Some(Err(error))) => return Err(SnapshotReadError::Broken(error.to_string())),
                Ok(None) => return Err(SnapshotReadError::Broken("the body ended".into())),
                Err(_) => return Err(SnapshotReadError::Stalled),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A sender that has sent `bytes`.
    fn sender(
        bytes: u64,
        bytes_per_second: Option<u64>,
    ) -> Sender<futures_util::stream::Empty<io::Result<Bytes>>> {
        Sender {
            chunks: futures_util::stream::empty(),
            ready: VecDeque::new(),
            total: Total { bytes, checksum: 0 },
            ended: false,
            progress: Arc::default(),
            bytes_per_second,
            start: Instant::now(),
        }
    }

    #[test]
    fn a_rate_is_a_time_for_each_chunk() {
        assert_eq!(sender(1000, None).due(), None);
        assert_eq!(sender(1000, Some(0)).due(), None);
        let limited = sender(1500, Some(1000));
        assert_eq!(limited.due(), Some(limited.start + Duration::from_millis(1500)));
        let fresh = sender(0, Some(1000));
        assert_eq!(fresh.due(), Some(fresh.start));
    }

    #[test]
    fn totals_are_those_of_the_whole() {
        let mut total = Total::default();
        for chunk in [&b"some "[..], b"", b"chunks"] {
            total.add(chunk.len(), crc32c::crc32c(chunk));
        }
        assert_eq!(total, Total { bytes: 11, checksum: crc32c::crc32c(b"some chunks") });
        assert_eq!(Total::parse(&total.to_bytes()), Some(total));
        assert_eq!(Total::parse(b"short"), None);
    }
}
