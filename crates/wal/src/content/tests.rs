//! Golden bytes and round trips.

use proptest::prelude::*;

use super::*;
use crate::record::{LENGTH_BYTES, Record};

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

/// The start of a fresh segment of etcd 3.4.23 (storage-and-raft.md §1.2, golden bytes).
#[test]
fn sr_1_2_golden_bytes() {
    let golden_metadata = hex("08aefb9692cdd0b9bcbb0110c091ede984aea3a84a");
    let metadata = metadata(&mut Cursor(&golden_metadata)).unwrap();
    let mut encoder = Encoder::default();
    encoder.crc();
    encoder.metadata(&metadata);
    assert_eq!(encoder.chain, Chain(0x1bc1_835b));
    encoder.mark(&SnapshotMark::default());
    assert_eq!(encoder.chain, Chain(0xa8ea_a24b));
    let want = hex("0400000000000084 08041000 00000000
         1f00000000000081 080110db8686de011a15 08aefb9692cdd0b9bcbb0110c091ede984aea3a84a 00
         0e00000000000082 080510cbc4aac70a1a04 08001000 0000");
    assert_eq!(encoder.buffer, want);
}

#[test]
fn an_entry_distinguishes_no_data_from_empty_data() {
    let encoded = |data: Option<Bytes>| {
        let mut encoder = Encoder::default();
        let entry = Entry { term: Term(2), index: LogIndex(3), data, ..Entry::default() };
        encoder.entry(&entry);
        let (record, _) = Record::decode_prefix(&encoder.buffer[LENGTH_BYTES..]).unwrap();
        let data = record.data.unwrap().to_vec();
        assert_eq!(Content::decode(Kind::Entry, &data), Ok(Content::Entry(entry)));
        data
    };
    assert_eq!(encoded(None), hex("0800 1002 1803"));
    assert_eq!(encoded(Some(Bytes::new())), hex("0800 1002 1803 2200"));
    assert_eq!(encoded(Some(Bytes::from_static(b"x"))), hex("0800 1002 1803 2201 78"));
}

#[test]
fn other_field_sets_are_refused() {
    let refused = |kind, bytes: &str| {
        let damage = Content::decode(kind, &hex(bytes)).unwrap_err();
        assert!(matches!(damage, Damage::Content(_)), "{bytes}: {damage:?}");
    };
    refused(Kind::Entry, "0800 1002 1800"); // index 0
    refused(Kind::Entry, "0801 1002 1803"); // conf change without data
    refused(Kind::Entry, "0803 1002 1803 2200"); // unknown kind
    refused(Kind::Entry, "1002 1803"); // a field is missing
    refused(Kind::Entry, "0800 1002 1803 2200 00"); // something behind
    refused(Kind::HardState, "0801 1002");
    refused(Kind::HardState, "0801 1002 1803 7800"); // our bit is written only when set
    refused(Kind::HardState, "0801 1002 1803 2200");
    refused(Kind::Metadata, "0801 1002 1803");
    refused(Kind::Mark, "0801");
    refused(Kind::Mark, "0801 1002 1a05 00");
}

#[test]
fn the_committed_vote_is_one_more_field() {
    let mut encoder = Encoder::default();
    let vote = Vote { term: Term(1), member: MemberId(2), committed: true };
    encoder.hard_state(&HardState { vote, commit: LogIndex(3) });
    let tail = hex("0801 1002 1803 7801");
    assert!(encoder.buffer.windows(tail.len()).any(|window| window == tail));
}

prop_compose! {
    fn any_entry()(kind in 0..3_u64, term: u64, index in 1..u64::MAX, data: Option<Vec<u8>>) -> Entry {
        let kind = EntryKind::from_wire(kind).unwrap();
        let data = data.or_else(|| (kind != EntryKind::Normal).then(Vec::new));
        Entry { kind, term: Term(term), index: LogIndex(index), data: data.map(Bytes::from) }
    }
}

fn any_content() -> impl Strategy<Value = Content> {
    prop_oneof![
        any_entry().prop_map(Content::Entry),
        (any::<u64>(), any::<u64>(), any::<u64>(), any::<bool>()).prop_map(
            |(term, member, commit, committed)| {
                let vote = Vote { term: Term(term), member: MemberId(member), committed };
                Content::HardState(HardState { vote, commit: LogIndex(commit) })
            }
        ),
        (any::<u64>(), any::<u64>(), any::<Option<Vec<u64>>>()).prop_map(
            |(index, term, voters)| {
                let conf_state = voters.map(|voters| ConfState { voters, ..ConfState::default() });
                Content::Mark(SnapshotMark { index: LogIndex(index), term: Term(term), conf_state })
            }
        ),
        (any::<u64>(), any::<u64>()).prop_map(|(node, cluster)| {
            Content::Metadata(Metadata { node_id: MemberId(node), cluster_id: ClusterId(cluster) })
        }),
    ]
}

proptest! {
    #[test]
    fn contents_round_trip(content in any_content()) {
        let mut encoder = Encoder::default();
        match &content {
            Content::Metadata(metadata) => encoder.metadata(metadata),
            Content::Entry(entry) => encoder.entry(entry),
            Content::HardState(hard_state) => encoder.hard_state(hard_state),
            Content::Mark(mark) => encoder.mark(mark),
            Content::Crc => encoder.crc(),
        }
        let (record, _) = Record::decode_prefix(&encoder.buffer[LENGTH_BYTES..]).unwrap();
        let data = record.data.unwrap();
        prop_assert_eq!(Chain(0).extended(data), Chain(record.crc));
        prop_assert_eq!(Content::decode(record.kind, data), Ok(content));
    }

    #[test]
    fn any_bytes_decode_or_are_refused(bytes: Vec<u8>) {
        for kind in [Kind::Metadata, Kind::Entry, Kind::HardState, Kind::Mark] {
            let _ = Content::decode(kind, &bytes);
        }
    }
}
