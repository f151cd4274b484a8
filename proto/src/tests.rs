//! The generated code against the reference: numbers, names, the encoding of proto2 messages.

use std::collections::BTreeSet;

use bytes::Bytes;
use prost::Message;
use prost_types::{DescriptorProto, FileDescriptorSet};

use crate::etcdserverpb::{
    AuthenticateRequest, InternalRaftRequest, LeaseExpireRequest, PutRequest, WatchResponse,
};
use crate::{FILE_DESCRIPTOR_SET, METHODS, mvccpb, raftpb, walpb};

fn descriptors() -> FileDescriptorSet {
    FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).unwrap()
}

fn message(package: &str, name: &str) -> DescriptorProto {
    let files = descriptors().file;
    let mut all = files.into_iter().filter(|f| f.package() == package).flat_map(|f| f.message_type);
    all.find(|m| m.name() == name).unwrap_or_else(|| panic!("no message {package}.{name}"))
}

fn number(package: &str, message_name: &str, field: &str) -> i32 {
    let message = message(package, message_name);
    let found = message.field.iter().find(|f| f.name() == field);
    found.unwrap_or_else(|| panic!("no field {message_name}.{field}")).number()
}

/// v3-api.md §1.1: 42 methods in etcdserverpb, 2 for locks, 5 for elections, 3 for health.
#[test]
fn methods_are_all_52_and_agree_with_the_descriptors() {
    let count = |prefix: &str| METHODS.iter().filter(|m| m.service.starts_with(prefix)).count();
    assert_eq!(METHODS.len(), 52);
    assert_eq!(
        [count("etcdserverpb."), count("v3lockpb."), count("v3electionpb."), count("grpc.health.")],
        [42, 2, 5, 3]
    );

    let mut described = BTreeSet::new();
    for file in descriptors().file {
        for service in &file.service {
            for m in &service.method {
                let path = format!("/{}.{}/{}", file.package(), service.name(), m.name());
                described.insert((path, m.client_streaming(), m.server_streaming()));
            }
        }
    }
    let listed: BTreeSet<_> = METHODS
        .iter()
        .map(|m| (m.path.to_string(), m.client_streaming, m.server_streaming))
        .collect();
    assert_eq!(listed, described);
    for m in METHODS {
        assert_eq!(m.path, format!("/{}/{}", m.service, m.name));
    }
}

#[test]
fn streaming_kinds_match_the_reference() {
    let kind = |path: &str| {
        let m = METHODS.iter().find(|m| m.path == path).unwrap();
        (m.client_streaming, m.server_streaming)
    };
    assert_eq!(kind("/etcdserverpb.KV/Range"), (false, false));
    assert_eq!(kind("/etcdserverpb.KV/RangeStream"), (false, true));
    assert_eq!(kind("/etcdserverpb.Watch/Watch"), (true, true));
    assert_eq!(kind("/etcdserverpb.Lease/LeaseKeepAlive"), (true, true));
    assert_eq!(kind("/etcdserverpb.Maintenance/Snapshot"), (false, true));
    assert_eq!(kind("/v3electionpb.Election/Observe"), (false, true));
    assert_eq!(kind("/grpc.health.v1.Health/Watch"), (false, true));
}

/// v3-api.md §1.4-1.11: numbers that do not simply count up.
#[test]
fn field_numbers_match_the_reference() {
    for (message, field, expected) in [
        ("Compare", "range_end", 64),
        ("Compare", "lease", 8),
        ("WatchResponse", "events", 11),
        ("RangeRequest", "max_create_revision", 13),
        ("StatusResponse", "downgradeInfo", 13),
        ("InternalRaftRequest", "header", 100),
        ("InternalRaftRequest", "auth_enable", 1000),
        ("InternalRaftRequest", "authenticate", 1012),
        ("InternalRaftRequest", "auth_role_revoke_permission", 1204),
        ("InternalRaftRequest", "downgrade_info_set", 1302),
        ("InternalRaftRequest", "downgrade_version_test", 9900),
        ("InternalRaftRequest", "lease_revokes", 20001),
        ("LeaseCheckpointRequest", "term", 20001),
        ("Member", "peerURLs", 3),
        ("LeaseTimeToLiveResponse", "grantedTTL", 4),
        ("AuthUserAddRequest", "hashedPassword", 4),
    ] {
        assert_eq!(number("etcdserverpb", message, field), expected, "{message}.{field}");
    }
    assert_eq!(number("raftpb", "HardState", "vote_committed"), 15);
    assert_eq!(number("raftpb", "SnapshotMetadata", "term"), 3);
    assert_eq!(number("walpb", "Snapshot", "conf_state"), 3);
}

#[test]
fn internal_request_reserves_the_old_v2_field() {
    let request = message("etcdserverpb", "InternalRaftRequest");
    assert_eq!(request.reserved_name, ["v2"]);
    assert_eq!((request.reserved_range[0].start(), request.reserved_range[0].end()), (2, 3));
    assert!(size_of::<InternalRaftRequest>() <= 1024, "decoded for every entry of the log");
}

#[test]
fn internal_request_round_trips() {
    let request = InternalRaftRequest {
        id: 7,
        put: Some(PutRequest {
            key: Bytes::from_static(b"k"),
            value: Bytes::from_static(b"v"),
            ..Default::default()
        }),
        lease_revokes: Some(LeaseExpireRequest { ids: vec![1, -2], term: 3 }),
        auth_enable: Some(Box::default()),
        ..Default::default()
    };
    let encoded = request.encode_to_vec();
    assert_eq!(InternalRaftRequest::decode(encoded.as_slice()).unwrap(), request);
}

#[test]
fn bytes_fields_share_the_buffer_they_were_decoded_from() {
    let put = PutRequest { value: Bytes::from(vec![9; 4096]), ..Default::default() };
    let buffer = Bytes::from(put.encode_to_vec());
    let decoded = PutRequest::decode(buffer.clone()).unwrap();
    let inside = buffer.as_ptr_range();
    assert!(inside.contains(&decoded.value.as_ptr()));
}

#[test]
fn watch_response_events_use_field_11() {
    let response = WatchResponse { events: vec![mvccpb::Event::default()], ..Default::default() };
    assert_eq!(response.encode_to_vec(), [11 << 3 | 2, 0]);
}

/// storage-and-raft.md §1.2, golden bytes of a 3.4.23 log: zeros are written.
#[test]
fn log_records_are_encoded_as_etcd_does() {
    let crc = walpb::Record { r#type: 4, crc: 0, data: None };
    assert_eq!(crc.encode_to_vec(), [0x08, 0x04, 0x10, 0x00]);
    let mark = walpb::Snapshot { index: 0, term: 0, conf_state: None };
    assert_eq!(mark.encode_to_vec(), [0x08, 0x00, 0x10, 0x00]);
    let blank = raftpb::Entry { r#type: 0, term: 2, index: 5, data: None };
    assert_eq!(blank.encode_to_vec(), [0x08, 0x00, 0x10, 0x02, 0x18, 0x05]);
    let state = raftpb::HardState { term: 1, vote: 0, commit: 0, vote_committed: None };
    assert_eq!(state.encode_to_vec(), [0x08, 0x01, 0x10, 0x00, 0x18, 0x00]);
}

/// operations.md, peer protocol: newer writers leave zeros out, and a reader accepts that.
#[test]
fn log_records_without_zeros_are_read() {
    assert_eq!(raftpb::HardState::decode(&[][..]).unwrap(), raftpb::HardState::default());
    let entry = raftpb::Entry::decode(&[0x18, 0x05][..]).unwrap();
    assert_eq!((entry.term, entry.index, entry.data), (0, 5, None));
}

#[test]
fn passwords_never_show_in_debug_output() {
    let request = AuthenticateRequest { name: "root".into(), password: "hunter2".into() };
    let shown = format!("{request:?}");
    assert!(shown.contains("root") && !shown.contains("hunter2"), "{shown}");
}
