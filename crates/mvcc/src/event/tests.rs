//! Tests of the wire form against prost's encoding.

use etcdrs_proto::{etcdserverpb::WatchResponse, mvccpb};
use prost::Message;

use super::*;

fn stored(kv: &mvccpb::KeyValue) -> StoredKv {
    StoredKv::from_encoded(kv.encode_to_vec().into())
}

fn pair(key: &'static str, value: &'static str, version: i64) -> mvccpb::KeyValue {
    mvccpb::KeyValue {
        key: key.into(),
        value: value.into(),
        create_revision: 3,
        mod_revision: 2 + version,
        version,
        lease: 7,
    }
}

fn decode(bytes: Bytes) -> mvccpb::Event {
    let response = WatchResponse::decode(bytes).unwrap();
    assert_eq!(response.events.len(), 1);
    response.events.into_iter().next().unwrap()
}

#[test]
fn wa_16_put_carries_the_whole_pair_and_prev_only_on_request() {
    let (old, new) = (pair("k", "old", 1), pair("k", "new", 2));
    let event = Event::put(
        Bytes::from_static(b"k"),
        Revision::main(4),
        false,
        stored(&new),
        PrevKv::Known(stored(&old)),
    );
    assert_eq!(event.wire(false).len(), event.wire_len(false));
    assert_eq!(event.wire(true).len(), event.wire_len(true));
    let plain = decode(event.wire(false));
    assert_eq!((plain.r#type, plain.kv, plain.prev_kv), (0, Some(new.clone()), None));
    assert_eq!(decode(event.wire(true)).prev_kv, Some(old));
}

#[test]
fn wa_16_delete_carries_key_and_mod_revision() {
    let kv = deleted_kv(b"key", 300);
    let event = Event::delete(Bytes::from_static(b"key"), Revision::main(300), kv, PrevKv::None);
    let decoded = decode(event.wire(true));
    let expected =
        mvccpb::KeyValue { key: "key".into(), mod_revision: 300, ..mvccpb::KeyValue::default() };
    assert_eq!((decoded.r#type, decoded.kv, decoded.prev_kv), (1, Some(expected), None));
}

#[test]
fn wa_17_prev_is_looked_up_once_at_the_revision_before() {
    let old = pair("k", "old", 1);
    let kv = deleted_kv(b"k", 9);
    let event = Event::delete(Bytes::from_static(b"k"), Revision::main(9), kv, PrevKv::Lookup);
    assert!(event.needs_prev());
    assert_eq!(decode(event.wire(true)).prev_kv, None);
    event.resolve_prev(|key, revision| {
        assert_eq!((&key[..], revision), (&b"k"[..], 8));
        Some(stored(&old))
    });
    event.resolve_prev(|_, _| unreachable!("the answer is kept"));
    assert!(!event.needs_prev());
    assert_eq!(decode(event.wire(true)).prev_kv, Some(old));
}

#[test]
fn long_payloads_have_long_lengths() {
    for len in [0, 1, 100, 127, 128, 16_383, 16_384, 3_000_000] {
        let kv = mvccpb::KeyValue {
            key: "k".into(),
            value: vec![b'x'; len].into(),
            ..mvccpb::KeyValue::default()
        };
        let event = Event::put(
            Bytes::from_static(b"k"),
            Revision::main(1),
            true,
            stored(&kv),
            PrevKv::None,
        );
        assert_eq!(event.wire(false).len(), event.wire_len(false));
        assert_eq!(decode(event.wire(false)).kv, Some(kv));
    }
}
