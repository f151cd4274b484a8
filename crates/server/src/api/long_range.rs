//! Answers to `KV.Range` that are too long to be built in one go.
//!
//! A gRPC message begins with its length, so the range is walked twice at one revision: once to
//! learn the length, once to send the pairs as the client takes them. Between the two nothing of
//! the answer is in memory; small answers are kept from the first walk.

use etcdrs_mvcc::{RangeQuery, RangeResult, StoredKv};
use tonic::Status;

use crate::api::pages::{Pace, Pages};
use crate::api::wire::{self, Header};
use crate::api::{Api, encode, status};
use crate::grpc::{self, Payload, Sender};

/// Answers up to this size are built in memory.
const KEPT_BYTES_MAX: usize = 4 << 20;
/// The largest message that Go's gRPC sends.
const MESSAGE_BYTES_MAX: usize = i32::MAX as usize;
/// Pages that wait for the client to read.
const QUEUE: usize = 2;
const PACE: Pace = Pace { first_keys: 1000, page_bytes: 1 << 20 };

/// What the first walk found.
struct Measured {
    kvs: Vec<StoredKv>,
    kv_bytes: usize,
    more: bool,
    count: i64,
}

/// Answers a query that wants keys in order without filters.
pub(crate) async fn answer(api: &Api, query: RangeQuery) -> Result<Payload, Status> {
    let pinned = api.state.reader.current_revision();
    let header = api.header(pinned);
    let pages = || Pages::new(api.state.reader.clone(), query.clone(), pinned, PACE);
    let measured = measure(pages()).await?;
    let Measured { kvs, kv_bytes, more, count } = measured;
    if kv_bytes <= KEPT_BYTES_MAX {
        let result = RangeResult { revision: pinned, kvs, more, count };
        return Ok(encode::range(&header, &result));
    }
    let tail = encode::range_tail(more, count);
    let bytes = header.field_len() + kv_bytes + tail.len();
    if bytes > MESSAGE_BYTES_MAX {
        return Err(status::message_too_large(bytes, MESSAGE_BYTES_MAX));
    }
    let (sender, receiver) = grpc::channel(QUEUE);
    let pages = pages();
    tokio::spawn(async move {
        if let Err(status) = send(pages, &header, bytes, &sender).await {
            sender.fail(status).await;
            return;
        }
        sender.send(tail).await;
    });
    Ok(Payload::Stream(receiver))
}

async fn measure(mut pages: Pages) -> Result<Measured, Status> {
    let mut found = Measured { kvs: Vec::new(), kv_bytes: 0, more: false, count: 0 };
    loop {
        let (back, page) = pages.next().await?;
        pages = back;
        let Some(page) = page else { return Ok(found) };
        found.kv_bytes +=
            page.kvs.iter().map(|kv| wire::bytes_len(kv.bytes().len())).sum::<usize>();
        if let Some((more, count)) = page.end {
            (found.more, found.count) = (more, count);
        }
        if found.kv_bytes <= KEPT_BYTES_MAX {
            found.kvs.extend(page.kvs);
        } else {
            found.kvs = Vec::new();
        }
    }
}

/// Sends everything but the tail. A client that goes away ends it.
async fn send(
    mut pages: Pages,
    header: &Header,
    bytes: usize,
    sender: &Sender,
) -> Result<(), Status> {
    let mut open = sender.send(encode::range_head(header, bytes)).await;
    while open {
        let (back, page) = pages.next().await?;
        pages = back;
        let Some(page) = page else { break };
        open = sender.send(encode::range_pairs(&page.kvs)).await;
    }
    Ok(())
}
