//! gRPC framing on hyper: requests in, answers out, without a copy that can be spared.
//!
//! tonic's own server would do the same through a contiguous buffer for each message; here a
//! unary answer may consist of pieces (a list of a million keys leaves as it was built), and
//! errors carry the texts of etcd's Go stack.

mod body;
mod request;
mod stream;

pub(crate) use self::body::{Body, Payload};
pub(crate) use self::request::{Requests, read_unary};
pub(crate) use self::stream::{Messages, Receiver, Sender, channel};

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderValue, Response, header};
use tonic::Status;

/// Bytes before each message: a flag for compression and the length.
pub(crate) const PREFIX_BYTES: usize = 5;

/// The prefix of an uncompressed message.
pub(crate) fn prefix(message_bytes: usize) -> [u8; PREFIX_BYTES] {
    let mut prefix = [0; PREFIX_BYTES];
    let length = u32::try_from(message_bytes).unwrap_or(u32::MAX);
    prefix[1..].copy_from_slice(&length.to_be_bytes());
    prefix
}

/// A message with its prefix, ready for the wire.
pub(crate) fn frame(message: &impl prost::Message) -> Bytes {
    let bytes = message.encoded_len();
    let mut frame = BytesMut::with_capacity(PREFIX_BYTES + bytes);
    frame.put_slice(&prefix(bytes));
    message.encode_raw(&mut frame);
    frame.freeze()
}

/// The answer of a unary call.
pub(crate) fn respond(result: Result<Payload, Status>) -> Response<Body> {
    match result {
        Ok(payload) => with_grpc_headers(Body::unary(payload)),
        Err(status) => refuse(&status),
    }
}

/// The answer of a streaming call.
pub(crate) fn respond_stream(body: Body) -> Response<Body> {
    with_grpc_headers(body)
}

/// An answer that consists of a status alone.
pub(crate) fn refuse(status: &Status) -> Response<Body> {
    let mut response = with_grpc_headers(Body::empty());
    if status.add_header(response.headers_mut()).is_err() {
        // Only a text that cannot be a header value comes here; the code alone always can.
        response.headers_mut().insert("grpc-status", HeaderValue::from(status.code() as i32));
    }
    response
}

fn with_grpc_headers(body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}
