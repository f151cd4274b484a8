//! Frames: how messages and snapshot chunks lie in a body. Pure; the layout stands in FORMAT.md.

#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use bytes::{Buf as _, Bytes, BytesMut};

/// Bytes before the payload: length, checksum, kind, and a checksum of these three.
pub(crate) const HEADER_BYTES: usize = 12;
/// Largest payload of a frame, bytes; etcd's limit of a message.
pub(crate) const PAYLOAD_BYTES_MAX: usize = 512 * 1024 * 1024;
/// Up to here the memory of a frame that comes in pieces is taken at once.
const RESERVE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Smaller payloads are copied together; larger ones are passed on as they are.
const COPY_BYTES_MAX: usize = 16 * 1024;

/// What a frame holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Nothing: shows that the link lives.
    Heartbeat = 0,
    /// A message.
    Message = 1,
    /// What the receiver must know before the chunks.
    SnapshotHead = 2,
    /// A piece of the database.
    SnapshotChunk = 3,
    /// Length and checksum of all chunks.
    SnapshotEnd = 4,
    /// The receiver's answer to a snapshot.
    SnapshotAnswer = 5,
}

impl Kind {
    fn from_byte(byte: u8) -> Option<Self> {
        [
            Self::Heartbeat,
            Self::Message,
            Self::SnapshotHead,
            Self::SnapshotChunk,
            Self::SnapshotEnd,
            Self::SnapshotAnswer,
        ]
        .into_iter()
        .find(|kind| *kind as u8 == byte)
    }
}

/// One whole frame. The payload shares the memory it was read into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) kind: Kind,
    pub(crate) payload: Bytes,
    /// CRC32C of the payload, checked.
    pub(crate) checksum: u32,
}

/// Why bytes are not frames. Whoever sent them cannot be followed any further.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FrameError {
    #[error("damaged frame header")]
    Header,
    #[error("unknown frame kind {0}")]
    Kind(u8),
    #[error("frame of {bytes} bytes is larger than the limit of {max}")]
    TooLarge { bytes: usize, max: usize },
    #[error("frame checksum mismatch")]
    Checksum,
}

struct Header {
    kind: Kind,
    payload_bytes: usize,
    checksum: u32,
}

impl Header {
    fn parse(bytes: &[u8; HEADER_BYTES], bytes_max: usize) -> Result<Self, FrameError> {
        let mut rest = &bytes[..];
        let payload_bytes = rest.get_u32() as usize;
        let checksum = rest.get_u32();
        let kind = rest.get_u8();
        if rest != head_check(&bytes[..9]) {
            return Err(FrameError::Header);
        }
        let kind = Kind::from_byte(kind).ok_or(FrameError::Kind(kind))?;
        if payload_bytes > bytes_max {
            return Err(FrameError::TooLarge { bytes: payload_bytes, max: bytes_max });
        }
        Ok(Self { kind, payload_bytes, checksum })
    }
}

/// The last three bytes of a header. Without them a flipped bit in the length would be noticed
/// only after that many bytes, and the link would look alive until then.
fn head_check(start: &[u8]) -> [u8; 3] {
    let [_, check @ ..] = crc32c::crc32c(start).to_be_bytes();
    check
}

/// The header of a frame with this payload.
pub(crate) fn header(kind: Kind, payload: &[u8]) -> [u8; HEADER_BYTES] {
    let length = u32::try_from(payload.len()).expect("callers keep payloads below 512 MiB");
    let mut bytes = [0; HEADER_BYTES];
    bytes[..4].copy_from_slice(&length.to_be_bytes());
    bytes[4..8].copy_from_slice(&crc32c::crc32c(payload).to_be_bytes());
    bytes[8] = kind as u8;
    let check = head_check(&bytes[..9]);
    bytes[9..].copy_from_slice(&check);
    bytes
}

/// Frames on their way out, in as few pieces as possible without copying large payloads.
#[derive(Default)]
pub(crate) struct Encoder {
    ready: VecDeque<Bytes>,
    small: BytesMut,
}

impl Encoder {
    pub(crate) fn push(&mut self, kind: Kind, payload: &Bytes) {
        self.small.extend_from_slice(&header(kind, payload));
        if payload.len() <= COPY_BYTES_MAX {
            self.small.extend_from_slice(payload);
        } else {
            self.ready.push_back(self.small.split().freeze());
            self.ready.push_back(payload.clone());
        }
    }

    /// Makes room for small frames of this many bytes in all.
    pub(crate) fn reserve(&mut self, bytes: usize) {
        self.small.reserve(bytes);
    }

    /// The next piece.
    pub(crate) fn pop(&mut self) -> Option<Bytes> {
        self.ready.pop_front().or_else(|| {
            let small = self.small.split();
            (!small.is_empty()).then(|| small.freeze())
        })
    }

    /// Bytes that [`Self::pop`] will still give.
    pub(crate) fn remaining(&self) -> usize {
        self.ready.iter().map(Bytes::len).sum::<usize>() + self.small.len()
    }
}

/// Frames out of pieces of a body, however it was cut.
pub(crate) struct Decoder {
    bytes_max: usize,
    /// What came last and was not looked at yet.
    piece: Bytes,
    /// The beginning of a frame whose end is still to come.
    partial: BytesMut,
}

impl Decoder {
    /// Refuses frames with more than `bytes_max` bytes of payload.
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { bytes_max, piece: Bytes::new(), partial: BytesMut::new() }
    }

    /// Adds a piece, after [`Self::next`] has returned `None`.
    pub(crate) fn feed(&mut self, piece: Bytes) {
        debug_assert!(self.piece.is_empty());
        self.piece = piece;
    }

    /// Whether the bytes so far end between two frames.
    pub(crate) fn is_empty(&self) -> bool {
        self.piece.is_empty() && self.partial.is_empty()
    }

    /// The next frame, or `None` when more bytes are needed.
    pub(crate) fn next(&mut self) -> Result<Option<Frame>, FrameError> {
        if self.partial.is_empty()
            && let Some(start) = self.piece.first_chunk()
        {
            let header = Header::parse(start, self.bytes_max)?;
            let frame_bytes = HEADER_BYTES + header.payload_bytes;
            if self.piece.len() >= frame_bytes {
                let frame = self.piece.split_to(frame_bytes);
                return whole(&header, frame).map(Some);
            }
            self.partial.reserve(frame_bytes.min(RESERVE_BYTES_MAX));
        }
        self.next_in_pieces()
    }

    fn next_in_pieces(&mut self) -> Result<Option<Frame>, FrameError> {
        self.fill(HEADER_BYTES);
        let Some(start) = self.partial.first_chunk() else { return Ok(None) };
        let header = Header::parse(start, self.bytes_max)?;
        let frame_bytes = HEADER_BYTES + header.payload_bytes;
        if self.partial.len() == HEADER_BYTES {
            self.partial.reserve(header.payload_bytes.min(RESERVE_BYTES_MAX));
        }
        self.fill(frame_bytes);
        if self.partial.len() < frame_bytes {
            return Ok(None);
        }
        let frame = std::mem::take(&mut self.partial).freeze();
        whole(&header, frame).map(Some)
    }

    /// Moves bytes into the partial frame until it has `goal` of them or there are no more.
    fn fill(&mut self, goal: usize) {
        let missing = goal.saturating_sub(self.partial.len()).min(self.piece.len());
        self.partial.extend_from_slice(&self.piece[..missing]);
        self.piece.advance(missing);
        if self.piece.is_empty() {
            // An empty slice would still hold on to the memory of the whole piece.
            self.piece = Bytes::new();
        }
    }
}

fn whole(header: &Header, mut frame: Bytes) -> Result<Frame, FrameError> {
    frame.advance(HEADER_BYTES);
    if crc32c::crc32c(&frame) != header.checksum {
        return Err(FrameError::Checksum);
    }
    Ok(Frame { kind: header.kind, payload: frame, checksum: header.checksum })
}
