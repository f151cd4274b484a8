//! Rows 31-34: the streamed read of 3.7.

use tonic::Streaming;

use crate::support::*;

/// All messages of a stream, or its error with what came before.
async fn collect(
    mut stream: Streaming<pb::RangeStreamResponse>,
) -> (Vec<pb::RangeResponse>, Option<Status>) {
    let mut messages = Vec::new();
    loop {
        match stream.message().await {
            Ok(Some(message)) => messages.push(message.range_response.unwrap()),
            Ok(None) => return (messages, None),
            Err(status) => return (messages, Some(status)),
        }
    }
}

async fn stream(
    c: &mut Clients,
    request: pb::RangeRequest,
) -> Result<Vec<pb::RangeResponse>, Status> {
    let (messages, error) = collect(limited(c.kv.range_stream(request)).await?).await;
    error.map_or(Ok(messages), Err)
}

/// Checks RS-02 and gives the merged answer.
fn merge(messages: Vec<pb::RangeResponse>) -> pb::RangeResponse {
    let last = messages.len().checked_sub(1).expect("at least one message");
    let mut merged = pb::RangeResponse::default();
    for (at, message) in messages.into_iter().enumerate() {
        if at < last {
            assert_eq!((message.header, message.more, message.count), (None, false, 0));
            assert!(!message.kvs.is_empty());
        } else {
            assert!(message.header.is_some());
            (merged.header, merged.more, merged.count) =
                (message.header, message.more, message.count);
        }
        merged.kvs.extend(message.kvs);
    }
    merged
}

/// Fresh server with `count` keys, or None where the method does not exist.
async fn filled(count: usize) -> Option<(Server, Clients)> {
    let (s, mut c) = fresh().await;
    if Difference::NoRangeStream.applies(s.flavour()) {
        let refusal = stream(&mut c, get("a")).await.unwrap_err();
        assert_eq!(refusal.code(), Code::Unimplemented);
        return None;
    }
    fill(&c, "k/", count, &Bytes::from(vec![b'v'; 100])).await;
    Some((s, c))
}

#[tokio::test]
async fn row_031_rs_02_pieces_make_the_range_answer() {
    let Some((_s, mut c)) = filled(1000).await else { return };
    for request in [range("k/", "k0"), range("k/00000500", FROM_KEY), get("k/00000007")] {
        let whole = c.range(request.clone()).await;
        let messages = stream(&mut c, request.clone()).await.unwrap();
        assert!(messages[0].kvs.len() <= 10, "RS-04: the first piece is small");
        if whole.kvs.len() > 100 {
            assert!(messages.len() > 1, "{request:?} came in one piece");
        }
        assert_eq!(merge(messages), whole);
        let ascending = pb::RangeRequest { sort_order: SortOrder::Ascend as i32, ..request };
        assert_eq!(merge(stream(&mut c, ascending).await.unwrap()), whole);
    }
}

#[tokio::test]
async fn row_032_rs_03_revision_is_pinned() {
    let Some((_s, mut c)) = filled(2000).await else { return };
    let before = c.range(range("k/", "k0")).await;
    let open = limited(c.kv.range_stream(range("k/", "k0"))).await.unwrap();
    fill(&c, "k/", 500, &Bytes::from_static(b"changed")).await;
    c.delete(delete_range("k/00001000", "k/00001500")).await;
    let (messages, error) = collect(open).await;
    assert!(error.is_none());
    assert_eq!(merge(messages), before);
    let pinned = pb::RangeRequest { revision: before.revision(), ..range("k/", "k0") };
    let old = merge(stream(&mut c, pinned).await.unwrap());
    assert_eq!((old.kvs, old.count), (before.kvs, before.count));
}

#[tokio::test]
async fn row_033_rs_04_to_06_limits_and_counts() {
    let Some((_s, mut c)) = filled(100).await else { return };
    for limit in [1, 9, 10, 11, 50, 99, 100, 101, -1] {
        let request = pb::RangeRequest { limit, ..range("k/", "k0") };
        let whole = c.range(request.clone()).await;
        assert_eq!(merge(stream(&mut c, request).await.unwrap()), whole, "limit {limit}");
    }
    for request in [
        pb::RangeRequest { count_only: true, ..range("k/", "k0") },
        pb::RangeRequest { keys_only: true, limit: 5, ..range("k/", "k0") },
        range("x", "z"),
        range("z", "a"),
    ] {
        let whole = c.range(request.clone()).await;
        let messages = stream(&mut c, request.clone()).await.unwrap();
        assert_eq!(messages.len(), 1, "{request:?}");
        assert_eq!(merge(messages), whole, "{request:?}");
    }
}

#[tokio::test]
async fn row_034_rs_01_refusals() {
    let Some((_s, mut c)) = filled(20).await else { return };
    let mut check = async |request: pb::RangeRequest, expected| {
        expect_error(stream(&mut c, request).await, expected);
    };
    check(get(""), errors::EMPTY_KEY).await;
    check(pb::RangeRequest { sort_target: 9, ..get("a") }, errors::INVALID_SORT_OPTION).await;
    check(pb::RangeRequest { revision: 100, ..get("a") }, errors::FUTURE_REVISION).await;
    let order = (Code::Unimplemented, "RangeStream does not support custom sort orders");
    check(sorted("a", "z", SortTarget::Key, SortOrder::Descend), order).await;
    check(sorted("a", "z", SortTarget::Mod, SortOrder::Ascend), order).await;
    let filter = (Code::Unimplemented, "RangeStream does not support revision filters");
    check(pb::RangeRequest { min_mod_revision: 1, ..range("a", "z") }, filter).await;
    check(pb::RangeRequest { max_mod_revision: 1, ..range("a", "z") }, filter).await;
    check(pb::RangeRequest { min_create_revision: 1, ..range("a", "z") }, filter).await;
    check(pb::RangeRequest { max_create_revision: 1, ..range("a", "z") }, filter).await;
    c.compact(10).await;
    let old = pb::RangeRequest { revision: 9, ..get("a") };
    expect_error(stream(&mut c, old).await, errors::COMPACTED);
}

#[tokio::test]
async fn row_034_rs_07_compaction_in_mid_stream() {
    let Some((_s, mut c)) = filled(10).await else { return };
    // More than the windows of the connection hold, so that the server has to wait for us.
    fill(&c, "big/", 600, &Bytes::from(vec![b'v'; 100_000])).await;
    let mut open = limited(c.kv.range_stream(range("big/", "big0"))).await.unwrap();
    let first = open.message().await.unwrap().unwrap().range_response.unwrap();
    let revision = c.put("other", "").await.revision();
    c.compact(revision).await;
    let (messages, error) = collect(open).await;
    let got = first.kvs.len() + messages.iter().map(|m| m.kvs.len()).sum::<usize>();
    expect_error(error.map_or(Ok(()), Err), errors::COMPACTED);
    assert!(got < 600);
}
