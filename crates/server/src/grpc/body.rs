//! Bodies of answers.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue};
use http_body::{Frame, SizeHint};
use tonic::Status;

use crate::grpc::{Messages, Receiver};
use crate::grpc::{PREFIX_BYTES, prefix};

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// An encoded message: one piece with room for the prefix in front, or several pieces.
pub(crate) enum Payload {
    /// Prefix and message in one buffer.
    Framed(Bytes),
    /// A message in pieces, without its prefix.
    Pieces(VecDeque<Bytes>),
    /// A message that is still being made, with its prefix.
    Stream(Receiver),
}

impl Payload {
    /// Encodes a message that has no hand-written encoder.
    pub(crate) fn message(message: &impl prost::Message) -> Self {
        Self::Framed(super::frame(message))
    }

    /// Writes a message of `bytes` bytes by `write`.
    pub(crate) fn write(bytes: usize, write: impl FnOnce(&mut BytesMut)) -> Self {
        let mut frame = BytesMut::with_capacity(PREFIX_BYTES + bytes);
        frame.put_slice(&prefix(bytes));
        write(&mut frame);
        debug_assert_eq!(frame.len(), PREFIX_BYTES + bytes, "the announced length holds");
        Self::Framed(frame.freeze())
    }

    fn into_kind(self) -> Kind {
        let frames = match self {
            Self::Stream(messages) => {
                return Kind::Stream { messages: Box::new(messages), ended: false };
            }
            Self::Framed(frame) => VecDeque::from([frame]),
            Self::Pieces(mut pieces) => {
                let bytes = pieces.iter().map(Bytes::len).sum();
                pieces.push_front(Bytes::copy_from_slice(&prefix(bytes)));
                pieces
            }
        };
        Kind::Unary { frames, ended: false }
    }
}

/// The body of an answer on the client port.
pub(crate) struct Body(Kind);

enum Kind {
    /// Nothing: the headers said everything.
    Empty,
    /// A unary answer and, after it, the trailers.
    Unary { frames: VecDeque<Bytes>, ended: bool },
    /// A stream of messages; its end decides the trailers.
    Stream { messages: Box<dyn Messages>, ended: bool },
    /// An answer of the plain HTTP side.
    Http(axum::body::Body),
    /// An answer of a tonic service (reflection).
    Tonic(tonic::body::Body),
}

impl Body {
    pub(crate) fn empty() -> Self {
        Self(Kind::Empty)
    }

    pub(crate) fn unary(payload: Payload) -> Self {
        Self(payload.into_kind())
    }

    pub(crate) fn stream(messages: impl Messages + 'static) -> Self {
        Self(Kind::Stream { messages: Box::new(messages), ended: false })
    }

    /// A stream that ends with the status that `cut` returns, unless it has ended before.
    pub(crate) fn cut_by(self, cut: impl Future<Output = Status> + Send + 'static) -> Self {
        match self.0 {
            Kind::Stream { messages, ended } => {
                let messages = Box::new(Cut { messages, cut: Box::pin(cut) });
                Self(Kind::Stream { messages, ended })
            }
            other => Self(other),
        }
    }

    pub(crate) fn http(body: axum::body::Body) -> Self {
        Self(Kind::Http(body))
    }

    pub(crate) fn tonic(body: tonic::body::Body) -> Self {
        Self(Kind::Tonic(body))
    }
}

/// Messages until something else ends the call.
struct Cut {
    messages: Box<dyn Messages>,
    cut: Pin<Box<dyn Future<Output = Status> + Send>>,
}

impl Messages for Cut {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Status>>> {
        match self.cut.as_mut().poll(cx) {
            Poll::Ready(status) => Poll::Ready(Some(Err(status))),
            Poll::Pending => self.messages.poll_next(cx),
        }
    }
}

fn trailers(status: Option<&Status>) -> Frame<Bytes> {
    let mut headers = HeaderMap::with_capacity(2);
    match status {
        None => {
            headers.insert("grpc-status", HeaderValue::from_static("0"));
        }
        Some(status) => {
            if status.add_header(&mut headers).is_err() {
                headers.insert("grpc-status", HeaderValue::from(status.code() as i32));
            }
        }
    }
    Frame::trailers(headers)
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match &mut self.0 {
            Kind::Empty => Poll::Ready(None),
            Kind::Unary { frames, ended } => {
                if let Some(data) = frames.pop_front() {
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                if *ended {
                    return Poll::Ready(None);
                }
                *ended = true;
                Poll::Ready(Some(Ok(trailers(None))))
            }
            Kind::Stream { messages, ended } => {
                if *ended {
                    return Poll::Ready(None);
                }
                let next = std::task::ready!(messages.poll_next(cx));
                *ended = !matches!(next, Some(Ok(_)));
                Poll::Ready(Some(Ok(match next {
                    Some(Ok(data)) => Frame::data(data),
                    Some(Err(status)) => trailers(Some(&status)),
                    None => trailers(None),
                })))
            }
            Kind::Http(body) => Pin::new(body).poll_frame(cx).map_err(Into::into),
            Kind::Tonic(body) => Pin::new(body).poll_frame(cx).map_err(Into::into),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Empty => true,
            Kind::Unary { ended, .. } | Kind::Stream { ended, .. } => *ended,
            Kind::Http(body) => body.is_end_stream(),
            Kind::Tonic(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Http(body) => body.size_hint(),
            _ => SizeHint::default(),
        }
    }
}
