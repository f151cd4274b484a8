//! The content of a `.snap` file (storage-and-raft.md §2.1). Pure.

use bytes::Bytes;
use etcdrs_proto::raftpb::{self, ConfState};
use etcdrs_proto::snappb;
use etcdrs_types::{LogIndex, Term};
use prost::Message;

/// What our own files carry as raftpb.Snapshot.data: etcd refuses a file whose data is empty, and
/// reads nothing from it since 3.7.
const OUR_DATA: &[u8] = br#"{"etcd-rs":1}"#;

/// A snapshot of the raft state: where the log stood, and who the members were.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Term of the last entry covered.
    pub term: Term,
    /// Index of the last entry covered.
    pub index: LogIndex,
    /// The members at that index.
    pub conf_state: ConfState,
    /// The rest of the message; empty means our own constant when saved.
    pub data: Bytes,
}

/// Why the content of a file is no snapshot.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// Nothing in the file, no data or no checksum.
    #[error("snap: empty snapshot")]
    Empty,
    /// The checksum is another one.
    #[error("snap: crc mismatch")]
    Crc,
    /// Not the message that it should be.
    #[error("snap: malformed snapshot")]
    Malformed,
}

/// Encodes the content of a file.
#[must_use]
pub(crate) fn encode(snapshot: &Snapshot) -> Vec<u8> {
    let Snapshot { term, index, conf_state, data } = snapshot;
    let data = if data.is_empty() { Bytes::from_static(OUR_DATA) } else { data.clone() };
    let metadata = raftpb::SnapshotMetadata {
        conf_state: Some(conf_state.clone()),
        index: index.0,
        term: term.0,
    };
    let data = raftpb::Snapshot { data: Some(data), metadata }.encode_to_vec();
    let crc = crc32c::crc32c(&data);
    snappb::Snapshot { crc, data: Some(data.into()) }.encode_to_vec()
}

/// Decodes the content of a file.
pub(crate) fn decode(content: &[u8]) -> Result<Snapshot, MessageError> {
    if content.is_empty() {
        return Err(MessageError::Empty);
    }
    let outer = snappb::Snapshot::decode(content).map_err(|_| MessageError::Malformed)?;
    let data = outer.data.unwrap_or_default();
    if data.is_empty() || outer.crc == 0 {
        return Err(MessageError::Empty);
    }
    if crc32c::crc32c(&data) != outer.crc {
        return Err(MessageError::Crc);
    }
    let inner = raftpb::Snapshot::decode(data).map_err(|_| MessageError::Malformed)?;
    let metadata = inner.metadata;
    Ok(Snapshot {
        term: Term(metadata.term),
        index: LogIndex(metadata.index),
        conf_state: metadata.conf_state.unwrap_or_default(),
        data: inner.data.unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_are_etcds() {
        let conf_state = ConfState { voters: vec![1], ..ConfState::default() };
        let data = Bytes::from_static(b"{}");
        let encoded = encode(&Snapshot { term: Term(2), index: LogIndex(3), conf_state, data });
        // crc = 1 varint, data = 2 bytes {data = 1, metadata = 2 {conf_state = 1 {voters = 1,
        // auto_leave = 5}, index = 2, term = 3}}
        let inner = [0x0a, 2, b'{', b'}', 0x12, 10, 0x0a, 4, 0x08, 1, 0x28, 0, 0x10, 3, 0x18, 2];
        let crc_bytes = encoded.len() - inner.len() - 3;
        assert_eq!((encoded[0], encoded[1 + crc_bytes]), (0x08, 0x12));
        assert_eq!(usize::from(encoded[2 + crc_bytes]), inner.len());
        assert_eq!(&encoded[3 + crc_bytes..], inner);
    }

    #[test]
    fn what_is_missing_is_named() {
        assert_eq!(decode(b""), Err(MessageError::Empty));
        assert_eq!(decode(&[0x08, 1, 0x12, 0]), Err(MessageError::Empty));
        assert_eq!(decode(&[0x08, 0, 0x12, 1, 0]), Err(MessageError::Empty));
        assert_eq!(decode(&[0x08, 1, 0x12, 1, 0]), Err(MessageError::Crc));
        assert_eq!(decode(&[0xff]), Err(MessageError::Malformed));
        let garbage = [0xff; 3];
        let mut content = snappb::Snapshot {
            crc: crc32c::crc32c(&garbage),
            data: Some(Bytes::copy_from_slice(&garbage)),
        }
        .encode_to_vec();
        assert_eq!(decode(&content), Err(MessageError::Malformed));
        content.truncate(4);
        assert_eq!(decode(&content), Err(MessageError::Malformed));
    }
}
