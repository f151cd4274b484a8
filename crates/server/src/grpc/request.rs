//! Messages of requests.

use bytes::{Buf, Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tonic::{Code, Status};

use super::PREFIX_BYTES;

/// Reads the one message of a unary call, as it came on the wire.
///
/// # Errors
///
/// The status that the caller gets: too large, compressed, cut short.
pub(crate) async fn read_unary(body: Incoming, bytes_max: usize) -> Result<Bytes, Status> {
    let mut requests = Requests::new(body, bytes_max);
    match requests.next().await? {
        Some(message) => Ok(message),
        None => Err(Status::internal("grpc: the call carried no message")),
    }
}

/// The messages of a call, one by one.
pub(crate) struct Requests {
    body: Incoming,
    buffer: BytesMut,
    bytes_max: usize,
    ended: bool,
}

impl Requests {
    pub(crate) fn new(body: Incoming, bytes_max: usize) -> Self {
        Self { body, buffer: BytesMut::new(), bytes_max, ended: false }
    }

    /// The next message; `None` when the client half-closed.
    ///
    /// # Errors
    ///
    /// As [`read_unary`]; [`Code::Cancelled`] when the client went away.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, Status> {
        loop {
            if let Some(bytes) = announced(&self.buffer, self.bytes_max)?
                && self.buffer.len() >= PREFIX_BYTES + bytes
            {
                self.buffer.advance(PREFIX_BYTES);
                return Ok(Some(self.buffer.split_to(bytes).freeze()));
            }
            if self.ended {
                return if self.buffer.is_empty() {
                    Ok(None)
                } else {
                    Err(Status::internal("grpc: the call ended inside a message"))
                };
            }
            match self.body.frame().await {
                None => self.ended = true,
                Some(Err(_)) => return Err(Status::new(Code::Cancelled, "context canceled")),
                Some(Ok(frame)) => {
                    let Ok(data) = frame.into_data() else { continue };
                    // The usual case, a whole message in one frame, takes the frame's buffer.
                    if self.buffer.is_empty() {
                        match data.try_into_mut() {
                            Ok(owned) => self.buffer = owned,
                            Err(shared) => self.buffer.extend_from_slice(&shared),
                        }
                    } else {
                        self.buffer.extend_from_slice(&data);
                    }
                }
            }
        }
    }
}

/// The length that the buffer's first prefix announces, if the prefix is there.
fn announced(buffer: &[u8], bytes_max: usize) -> Result<Option<usize>, Status> {
    let Some(prefix) = buffer.first_chunk::<PREFIX_BYTES>() else { return Ok(None) };
    if prefix[0] != 0 {
        return Err(Status::unimplemented(
            "grpc: Decompressor is not installed for grpc-encoding of the request",
        ));
    }
    let bytes = u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]) as usize;
    if bytes > bytes_max {
        return Err(Status::resource_exhausted(format!(
            "grpc: received message larger than max ({bytes} vs. {bytes_max})"
        )));
    }
    Ok(Some(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn co_06_a_message_above_the_limit_is_refused_with_gos_text() {
        let status = announced(&[0, 0, 0x20, 0, 1], 2_097_152).expect_err("too large");
        assert_eq!(status.code(), Code::ResourceExhausted);
        assert_eq!(
            status.message(),
            "grpc: received message larger than max (2097153 vs. 2097152)"
        );
        assert_eq!(announced(&[0, 0, 0x20, 0, 0], 2_097_152).expect("fits"), Some(2_097_152));
        assert_eq!(announced(&[0, 0, 0], 10).expect("no prefix yet"), None);
        assert_eq!(announced(&[1, 0, 0, 0, 1], 10).expect_err("zip").code(), Code::Unimplemented);
    }
}
