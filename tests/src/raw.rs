//! gRPC calls with hand-made bytes, for what no stub would send.

use bytes::{Buf, BufMut, Bytes};
use http::uri::PathAndQuery;
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::transport::Channel;
use tonic::{Request, Status, Streaming};

/// Leaves messages as they are.
#[derive(Clone, Copy, Debug, Default)]
pub struct BytesCodec;

impl Codec for BytesCodec {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for BytesCodec {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, target: &mut EncodeBuf<'_>) -> Result<(), Status> {
        target.put(item);
        Ok(())
    }
}

impl Decoder for BytesCodec {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, source: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(source.copy_to_bytes(source.remaining())))
    }
}

async fn ready(channel: &Channel) -> Grpc<Channel> {
    let mut grpc = Grpc::new(channel.clone());
    grpc.ready().await.expect("the connection is up");
    grpc
}

/// One message there, one back.
pub async fn unary(channel: &Channel, path: &'static str, body: Bytes) -> Result<Bytes, Status> {
    let mut grpc = ready(channel).await;
    let path = PathAndQuery::from_static(path);
    grpc.unary(Request::new(body), path, BytesCodec).await.map(tonic::Response::into_inner)
}

/// One message there, a stream back.
pub async fn server_stream(
    channel: &Channel,
    path: &'static str,
    body: Bytes,
) -> Result<Streaming<Bytes>, Status> {
    let mut grpc = ready(channel).await;
    let path = PathAndQuery::from_static(path);
    let answer = grpc.server_streaming(Request::new(body), path, BytesCodec).await;
    answer.map(tonic::Response::into_inner)
}
