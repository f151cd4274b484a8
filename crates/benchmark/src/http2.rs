//! gRPC over HTTP/2 from the client's side, as a state machine without input or output.
//!
//! A load generator shares its machine with the server it measures, so what it spends is missing
//! there: a general client library takes ten times the processor time of this module. It does what
//! any etcd needs and no more: many streams, flow control in both directions, no priorities, no push,
//! no compression. Invariants: bytes given to [`Connection::feed`] are never looked at twice, and
//! [`Connection::out`] is what must reach the socket, in order.

use std::collections::{HashMap, VecDeque};
use std::ops::Range;

use crate::hpack::{Decoder, Encoder, Malformed};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Largest frame both sides may send without asking.
const FRAME_MAX: usize = 16_384;
const FRAME_HEADER: usize = 9;
/// Length prefix of a gRPC message: one byte for compression, four for the length.
const MESSAGE_PREFIX: usize = 5;
/// What we let the peer send; the largest there is, so that a slow update never stops it.
const WINDOW: u32 = i32::MAX as u32;
/// The window both sides start with.
const WINDOW_DEFAULT: i64 = 65_535;
/// The connection's window is refilled after this many bytes.
const REFILL: u32 = 1 << 28;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;
const PRIORITY: u8 = 0x20;

const SETTING_MAX_STREAMS: u16 = 3;
const SETTING_WINDOW: u16 = 4;

/// Why a connection cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The peer broke a rule of HTTP/2.
    #[error("the server broke HTTP/2: {0}")]
    Protocol(&'static str),
    /// The peer's headers cannot be read.
    #[error(transparent)]
    Headers(#[from] Malformed),
    /// The peer closes the connection and says why.
    #[error("the server closes the connection: error {code} {reason}")]
    GoAway {
        /// HTTP/2 error code; 0 means a planned end.
        code: u32,
        /// Free text.
        reason: String,
    },
}

/// How much of the answers a caller wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// Nothing: answers are counted, not kept.
    Nothing,
    /// The last message, handed over at the end of the stream.
    Last,
    /// Each message, as it comes.
    Each,
}

/// What happened to a stream. `tag` is what [`Connection::open`] was given.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    /// A message arrived on a stream that keeps each.
    Message {
        /// The caller's name for the stream.
        tag: u64,
        /// The decoded gRPC message.
        message: Vec<u8>,
    },
    /// The stream is over.
    Closed {
        /// The caller's name for the stream.
        tag: u64,
        /// How it ended.
        status: Status,
        /// The last message, where it was to be kept.
        message: Vec<u8>,
        /// Bytes of all messages.
        bytes: u64,
    },
}

/// The end of a call, as the server reports it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Status {
    /// gRPC code; 0 is success.
    pub code: u32,
    /// Text for people.
    pub message: String,
}

impl Status {
    fn new(code: u32, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    /// The call succeeded.
    pub fn ok(&self) -> bool {
        self.code == 0
    }
}

#[derive(Debug)]
struct Stream {
    tag: u64,
    keep: Keep,
    /// What the peer allows to send; may be negative after a change of settings.
    window: i64,
    /// Request bytes that wait for the window.
    unsent: VecDeque<u8>,
    /// No more messages will be sent.
    half_closed: bool,
    status: Option<Status>,
    prefix: [u8; MESSAGE_PREFIX],
    prefix_have: usize,
    /// Bytes of the message under way that are still to come.
    rest: usize,
    message: Vec<u8>,
    bytes: u64,
    /// Received bytes the peer's window for the stream was not refilled for.
    consumed: u32,
}

#[derive(Debug)]
struct Waiting {
    id: u32,
    path: &'static str,
}

/// One connection.
#[derive(Debug)]
pub struct Connection {
    out: Vec<u8>,
    authority: String,
    token: Option<String>,
    encoder: Encoder,
    decoder: Decoder,
    streams: HashMap<u32, Stream>,
    /// Streams beyond the peer's limit, by number; numbers must go out in order.
    waiting: VecDeque<Waiting>,
    next_id: u32,
    window: i64,
    stream_window: i64,
    streams_max: usize,
    /// Header block under way: its stream, whether the stream ends with it, what came so far.
    block: Option<(u32, bool, Vec<u8>)>,
    /// Received bytes the peer's window was not refilled for.
    consumed: u32,
}

impl Connection {
    /// A connection to `authority` (host and port); the opening bytes are in [`Self::out`].
    pub fn new(authority: impl Into<String>, token: Option<String>) -> Self {
        let mut connection = Self {
            out: PREFACE.to_vec(),
            authority: authority.into(),
            token,
            encoder: Encoder::default(),
            decoder: Decoder::default(),
            streams: HashMap::new(),
            waiting: VecDeque::new(),
            next_id: 1,
            window: WINDOW_DEFAULT,
            stream_window: WINDOW_DEFAULT,
            streams_max: usize::MAX,
            block: None,
            consumed: 0,
        };
        let mut settings = Vec::new();
        for (setting, value) in [(2u16, 0u32), (SETTING_WINDOW, WINDOW)] {
            settings.extend_from_slice(&setting.to_be_bytes());
            settings.extend_from_slice(&value.to_be_bytes());
        }
        frame(&mut connection.out, SETTINGS, 0, 0, &settings);
        let more = WINDOW - WINDOW_DEFAULT as u32;
        frame(&mut connection.out, WINDOW_UPDATE, 0, 0, &more.to_be_bytes());
        connection
    }

    /// Bytes for the socket. The caller removes what it wrote.
    pub fn out(&mut self) -> &mut Vec<u8> {
        &mut self.out
    }

    /// Streams that are open or wait to be.
    pub fn active(&self) -> usize {
        self.streams.len()
    }

    /// Starts a call of `path` with a first message; `last` says that no other follows.
    /// Returns the stream for [`Self::send`].
    pub fn open(
        &mut self,
        path: &'static str,
        tag: u64,
        keep: Keep,
        message: &[u8],
        last: bool,
    ) -> u32 {
        let id = self.next_id;
        self.next_id += 2;
        let mut stream = Stream {
            tag,
            keep,
            window: self.stream_window,
            unsent: VecDeque::new(),
            half_closed: last,
            status: None,
            prefix: [0; MESSAGE_PREFIX],
            prefix_have: 0,
            rest: 0,
            message: Vec::new(),
            bytes: 0,
            consumed: 0,
        };
        push_message(&mut stream.unsent, message);
        self.streams.insert(id, stream);
        self.waiting.push_back(Waiting { id, path });
        self.start_waiting();
        id
    }

    /// Sends another message on a stream that was opened with more to come.
    pub fn send(&mut self, id: u32, message: &[u8]) {
        if let Some(stream) = self.streams.get_mut(&id) {
            push_message(&mut stream.unsent, message);
            self.flush(id);
        }
    }

    /// Abandons a stream; nothing is reported for it any more.
    pub fn cancel(&mut self, id: u32) {
        const CANCEL: u32 = 8;
        let started = !self.waiting.iter().any(|w| w.id == id);
        self.waiting.retain(|w| w.id != id);
        if self.streams.remove(&id).is_some() && started {
            frame(&mut self.out, RST_STREAM, 0, id, &CANCEL.to_be_bytes());
            self.start_waiting();
        }
    }

    /// Takes in what was received. Returns how many bytes were whole frames; the caller keeps the
    /// others and gives them again with more behind them.
    ///
    /// # Errors
    /// When the connection cannot go on.
    pub fn feed(&mut self, input: &[u8], events: &mut Vec<Event>) -> Result<usize, Error> {
        let mut at = 0;
        while let Some(header) = input.get(at..at + FRAME_HEADER) {
            let length =
                usize::from(header[0]) << 16 | usize::from(header[1]) << 8 | usize::from(header[2]);
            if length > FRAME_MAX {
                return Err(Error::Protocol("frame too large"));
            }
            let body = at + FRAME_HEADER..at + FRAME_HEADER + length;
            let Some(payload) = input.get(body.clone()) else { break };
            let id = be32(&header[5..]) & 0x7fff_ffff;
            self.frame(header[3], header[4], id, payload, events)?;
            at = body.end;
        }
        Ok(at)
    }

    fn frame(
        &mut self,
        kind: u8,
        flags: u8,
        id: u32,
        payload: &[u8],
        events: &mut Vec<Event>,
    ) -> Result<(), Error> {
        match kind {
            DATA => {
                self.refill(id, payload.len() as u32);
                let data = &payload[unpadded(flags, payload)?];
                self.data(id, data, events)?;
                if flags & END_STREAM != 0 {
                    self.close(id, None, events);
                }
            }
            HEADERS => {
                let mut range = unpadded(flags, payload)?;
                if flags & PRIORITY != 0 {
                    range.start += 5;
                }
                let block = payload.get(range).ok_or(Error::Protocol("short headers"))?;
                self.block = Some((id, flags & END_STREAM != 0, block.to_vec()));
                self.headers_end(flags, events)?;
            }
            CONTINUATION => {
                let (_, _, block) = self.block.as_mut().ok_or(Error::Protocol("continuation"))?;
                block.extend_from_slice(payload);
                self.headers_end(flags, events)?;
            }
            RST_STREAM => {
                let code = payload.get(..4).map_or(0, be32);
                self.close(id, Some(Status::new(14, format!("stream reset: {code}"))), events);
            }
            SETTINGS if flags & ACK == 0 => self.settings(payload),
            PING if flags & ACK == 0 => frame(&mut self.out, PING, ACK, 0, payload),
            GOAWAY => {
                let code = payload.get(4..8).map_or(0, be32);
                let reason = payload.get(8..).unwrap_or_default();
                let reason = String::from_utf8_lossy(reason).into_owned();
                return Err(Error::GoAway { code, reason });
            }
            WINDOW_UPDATE => self.window_update(id, payload.get(..4).map_or(0, be32)),
            _ => {}
        }
        Ok(())
    }

    fn settings(&mut self, payload: &[u8]) {
        for setting in payload.chunks_exact(6) {
            let value = be32(&setting[2..]);
            match u16::from_be_bytes([setting[0], setting[1]]) {
                SETTING_MAX_STREAMS => self.streams_max = value as usize,
                SETTING_WINDOW => {
                    let change = i64::from(value) - self.stream_window;
                    self.stream_window += change;
                    self.streams.values_mut().for_each(|s| s.window += change);
                }
                _ => {}
            }
        }
        frame(&mut self.out, SETTINGS, ACK, 0, &[]);
        self.flush_all();
        self.start_waiting();
    }

    fn window_update(&mut self, id: u32, more: u32) {
        if id == 0 {
            self.window += i64::from(more);
            self.flush_all();
        } else if let Some(stream) = self.streams.get_mut(&id) {
            stream.window += i64::from(more);
            self.flush(id);
        }
    }

    fn refill(&mut self, id: u32, consumed: u32) {
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.consumed += consumed;
            // Few answers are so large; the others need no frame of their own.
            if stream.consumed >= REFILL {
                frame(&mut self.out, WINDOW_UPDATE, 0, id, &stream.consumed.to_be_bytes());
                stream.consumed = 0;
            }
        }
        self.consumed += consumed;
        if self.consumed >= REFILL {
            frame(&mut self.out, WINDOW_UPDATE, 0, 0, &self.consumed.to_be_bytes());
            self.consumed = 0;
        }
    }

    fn data(&mut self, id: u32, mut data: &[u8], events: &mut Vec<Event>) -> Result<(), Error> {
        // A stream we cancelled may still have frames under way.
        let Some(stream) = self.streams.get_mut(&id) else { return Ok(()) };
        while !data.is_empty() {
            if stream.rest == 0 {
                let take = (MESSAGE_PREFIX - stream.prefix_have).min(data.len());
                let have = stream.prefix_have;
                stream.prefix[have..have + take].copy_from_slice(&data[..take]);
                stream.prefix_have += take;
                data = &data[take..];
                if stream.prefix_have < MESSAGE_PREFIX {
                    break;
                }
                if stream.prefix[0] != 0 {
                    return Err(Error::Protocol("compressed message nobody asked for"));
                }
                stream.prefix_have = 0;
                stream.rest = be32(&stream.prefix[1..]) as usize;
                stream.message.clear();
            }
            let take = stream.rest.min(data.len());
            if stream.keep != Keep::Nothing {
                stream.message.extend_from_slice(&data[..take]);
            }
            stream.bytes += take as u64;
            stream.rest -= take;
            data = &data[take..];
            if stream.rest == 0 && stream.keep == Keep::Each {
                let message = std::mem::take(&mut stream.message);
                events.push(Event::Message { tag: stream.tag, message });
            }
        }
        Ok(())
    }

    fn headers_end(&mut self, flags: u8, events: &mut Vec<Event>) -> Result<(), Error> {
        if flags & END_HEADERS == 0 {
            return Ok(());
        }
        let Some((id, ends, block)) = self.block.take() else { return Ok(()) };
        let (mut code, mut text, mut http) = (None, String::new(), None);
        self.decoder.decode(&block, |name, value| match name {
            b"grpc-status" => code = number(value),
            b"grpc-message" => text = String::from_utf8_lossy(value).into_owned(),
            b":status" => http = number(value),
            _ => {}
        })?;
        if let Some(stream) = self.streams.get_mut(&id) {
            if let Some(code) = code {
                stream.status = Some(Status::new(code, text));
            } else if http.is_some_and(|h| h != 200) {
                stream.status = Some(Status::new(2, format!("HTTP {}", http.unwrap_or(0))));
            }
        }
        if ends {
            self.close(id, None, events);
        }
        Ok(())
    }

    fn close(&mut self, id: u32, reset: Option<Status>, events: &mut Vec<Event>) {
        let Some(stream) = self.streams.remove(&id) else { return };
        let missing = || Status::new(13, "the server ended the stream without a status");
        let status = reset.or(stream.status).unwrap_or_else(missing);
        let message = if stream.keep == Keep::Last { stream.message } else { Vec::new() };
        events.push(Event::Closed { tag: stream.tag, status, message, bytes: stream.bytes });
        self.start_waiting();
    }

    fn start_waiting(&mut self) {
        while self.streams.len() - self.waiting.len() < self.streams_max {
            let Some(Waiting { id, path }) = self.waiting.pop_front() else { return };
            self.write_headers(id, path);
            self.flush(id);
        }
    }

    fn write_headers(&mut self, id: u32, path: &'static str) {
        let authority = std::mem::take(&mut self.authority);
        let token = self.token.take();
        let mut headers = vec![
            (":method", "POST"),
            (":scheme", "http"),
            (":path", path),
            (":authority", authority.as_str()),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
        ];
        headers.extend(token.as_deref().map(|t| ("token", t)));
        let start = self.out.len();
        frame(&mut self.out, HEADERS, END_HEADERS, id, &[]);
        self.encoder.encode(&headers, &mut self.out);
        let length = (self.out.len() - start - FRAME_HEADER) as u32;
        self.out[start..start + 3].copy_from_slice(&length.to_be_bytes()[1..]);
        self.authority = authority;
        self.token = token;
    }

    fn flush_all(&mut self) {
        let mut ids: Vec<u32> =
            self.streams.iter().filter(|(_, s)| !s.unsent.is_empty()).map(|(id, _)| *id).collect();
        ids.sort_unstable();
        ids.into_iter().for_each(|id| self.flush(id));
    }

    /// Sends what the windows allow of a stream that was started.
    fn flush(&mut self, id: u32) {
        if self.waiting.iter().any(|w| w.id == id) {
            return;
        }
        let Some(stream) = self.streams.get_mut(&id) else { return };
        while !stream.unsent.is_empty() {
            let allowed = self.window.min(stream.window).max(0) as usize;
            let take = stream.unsent.len().min(allowed).min(FRAME_MAX);
            if take == 0 {
                return;
            }
            let last = stream.half_closed && take == stream.unsent.len();
            let data: Vec<u8> = stream.unsent.drain(..take).collect();
            frame(&mut self.out, DATA, if last { END_STREAM } else { 0 }, id, &data);
            self.window -= take as i64;
            stream.window -= take as i64;
        }
    }
}

fn push_message(out: &mut VecDeque<u8>, message: &[u8]) {
    out.push_back(0);
    out.extend((message.len() as u32).to_be_bytes());
    out.extend(message);
}

fn frame(out: &mut Vec<u8>, kind: u8, flags: u8, id: u32, payload: &[u8]) {
    out.extend_from_slice(&(payload.len() as u32).to_be_bytes()[1..]);
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&id.to_be_bytes());
    out.extend_from_slice(payload);
}

/// Where the content of a frame lies that may be padded.
fn unpadded(flags: u8, payload: &[u8]) -> Result<Range<usize>, Error> {
    if flags & PADDED == 0 {
        return Ok(0..payload.len());
    }
    let padding = usize::from(*payload.first().ok_or(Error::Protocol("short frame"))?);
    let end = payload.len().checked_sub(padding).filter(|end| *end >= 1);
    Ok(1..end.ok_or(Error::Protocol("padding longer than the frame"))?)
}

fn be32(bytes: &[u8]) -> u32 {
    bytes.iter().take(4).fold(0, |sum, b| sum << 8 | u32::from(*b))
}

fn number(text: &[u8]) -> Option<u32> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

#[cfg(test)]
mod tests;
