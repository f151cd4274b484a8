//! `KV.RangeStream`: a range in chunks, all of one revision (v3-api.md §3.4).

use etcdrs_apply::range_query;
use etcdrs_mvcc::{RangeQuery, RangeResult};
use etcdrs_proto::etcdserverpb as pb;
use etcdrs_types::{KeyRange, RangeEnd};
use tonic::{Code, Status};

use crate::api::dispatch::decode;
use crate::api::{Api, check, encode, status};
use crate::grpc::{self, Body, Requests, Sender};

/// Keys of the first chunk (RS-04).
const FIRST_KEYS: usize = 10;
/// Chunks that wait for the client to read.
const QUEUE: usize = 2;

impl Api {
    pub(crate) async fn range_stream(
        &self,
        method: usize,
        mut requests: Requests,
    ) -> Result<Body, Status> {
        let Some(raw) = requests.next().await? else {
            return Err(Status::internal("grpc: the call carried no message"));
        };
        let request: pb::RangeRequest = decode(&raw)?;
        check::range_stream(&request)?;
        if !request.serializable {
            self.barrier().await?;
        }
        let (sender, receiver) = grpc::channel(QUEUE);
        let api = self.clone();
        tokio::spawn(async move {
            let result = api.send_chunks(&request, &sender).await;
            let code = result.as_ref().map_or_else(Status::code, |()| Code::Ok);
            api.metrics.rpcs.handled(method, code);
            if let Err(status) = result {
                sender.fail(status).await;
            }
        });
        Ok(Body::stream(receiver))
    }

    async fn send_chunks(&self, request: &pb::RangeRequest, sender: &Sender) -> Result<(), Status> {
        let reader = &self.state.reader;
        let pinned = reader.current_revision();
        let header = self.header(pinned);
        let mut query = range_query(request);
        let limit = std::mem::take(&mut query.limit);
        if query.revision <= 0 {
            query.revision = pinned;
        }
        let mut sent = 0;
        let mut keys = FIRST_KEYS;
        loop {
            let left = limit.saturating_sub(sent);
            query.limit = if limit == 0 { keys } else { keys.min(left) };
            let chunk = self.read_chunk(&query).await?;
            let count = chunk.count + i64::try_from(sent).unwrap_or(i64::MAX);
            sent += chunk.kvs.len();
            let ended = query.count_only || !chunk.more || (limit > 0 && sent >= limit);
            let last = ended.then_some((&header, chunk.more, count));
            let frame = encode::range_chunk(&chunk.kvs, last);
            let bytes = frame.len();
            if !sender.send(frame).await || ended {
                return Ok(());
            }
            keys = next_keys(keys, bytes, self.settings.request_bytes_max);
            let Some(last) = chunk.kvs.last() else { return Ok(()) };
            query.range = after(last.key(), &query.range);
        }
    }

    async fn read_chunk(&self, query: &RangeQuery) -> Result<RangeResult, Status> {
        let (reader, query) = (self.state.reader.clone(), query.clone());
        let read = tokio::task::spawn_blocking(move || reader.range(&query));
        read.await.map_err(status::task_ended)?.map_err(|error| status::range_error(&error))
    }
}

/// RS-04: doubles while chunks are small, halves when they are large.
fn next_keys(keys: usize, chunk_bytes: usize, target_bytes: usize) -> usize {
    if chunk_bytes < target_bytes / 2 {
        keys.saturating_mul(2)
    } else if chunk_bytes > target_bytes.saturating_mul(2) {
        (keys / 2).max(1)
    } else {
        keys
    }
}

/// What is left of `range` behind `key`.
fn after(key: &[u8], range: &KeyRange) -> KeyRange {
    let mut start = Vec::with_capacity(key.len() + 1);
    start.extend_from_slice(key);
    start.push(0);
    // A single key has no rest; an empty interval says so.
    let end = match &range.end {
        RangeEnd::Single => RangeEnd::Before(range.start.clone()),
        end => end.clone(),
    };
    KeyRange { start: start.into(), end }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rs_04_chunks_grow_and_shrink() {
        assert_eq!(next_keys(10, 100, 1000), 20);
        assert_eq!(next_keys(10, 700, 1000), 10);
        assert_eq!(next_keys(10, 2001, 1000), 5);
        assert_eq!(next_keys(1, 2001, 1000), 1);
    }

    #[test]
    fn the_rest_of_a_range_excludes_the_key() {
        let rest = after(b"b", &KeyRange::prefix(b""));
        assert!(!rest.contains(b"b") && rest.contains(b"b\0"));
        assert!(after(b"b", &KeyRange::single("b")).is_empty());
    }
}
