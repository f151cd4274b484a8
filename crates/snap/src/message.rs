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
