//! What the data of a record says: the inner layer of the format (storage-and-raft.md §1.2).
//! Pure. As with frames, the one form that etcd's writer makes is the only one accepted.

use bytes::Bytes;
use etcdrs_proto::raftpb::ConfState;
use etcdrs_types::{ClusterId, LogIndex, MemberId, Term};
use prost::Message;

use crate::error::Damage;
use crate::record::{Chain, Cursor, Kind, VARINT_BYTES_MAX, put, write_varint};
use crate::types::{Entry, EntryKind, HardState, Metadata, SnapshotMark, Vote};

/// Space for four fields: tag and varint each.
const FIELDS_BYTES_MAX: usize = 4 * (1 + VARINT_BYTES_MAX);

/// A few varint fields, encoded without a heap allocation.
struct Fields {
    bytes: [u8; FIELDS_BYTES_MAX],
    len: usize,
}

impl Fields {
    const fn new() -> Self {
        Self { bytes: [0; FIELDS_BYTES_MAX], len: 0 }
    }

    #[inline]
    fn varint(&mut self, number: u8, value: u64) {
        self.tagged(number << 3, value);
    }

    /// A bytes field without its bytes.
    #[inline]
    fn bytes_head(&mut self, number: u8, len: usize) {
        self.tagged(number << 3 | 2, len as u64);
    }

    #[inline]
    fn tagged(&mut self, tag: u8, value: u64) {
        self.bytes[self.len] = tag;
        self.len += 1;
        self.len += write_varint(&mut self.bytes[self.len..], value);
    }

    fn encoded(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// Encodes records into a buffer and carries the checksum along.
#[derive(Debug, Default)]
pub(crate) struct Encoder {
    pub(crate) buffer: Vec<u8>,
    pub(crate) chain: Chain,
}

impl Encoder {
    fn record(&mut self, kind: Kind, head: &[u8], tail: &[u8]) {
        self.chain = self.chain.extended(head).extended(tail);
        put(&mut self.buffer, kind, self.chain, head, tail);
    }

    /// The record that opens a segment.
    pub(crate) fn crc(&mut self) {
        put(&mut self.buffer, Kind::Crc, self.chain, &[], &[]);
    }

    pub(crate) fn metadata(&mut self, metadata: &Metadata) {
        let mut fields = Fields::new();
        fields.varint(1, metadata.node_id.0);
        fields.varint(2, metadata.cluster_id.0);
        self.record(Kind::Metadata, fields.encoded(), &[]);
    }

    pub(crate) fn entry(&mut self, entry: &Entry) {
        let mut fields = Fields::new();
        fields.varint(1, u64::from(entry.kind.to_wire()));
        fields.varint(2, entry.term.0);
        fields.varint(3, entry.index.0);
        let data = match &entry.data {
            None => &[][..],
            Some(data) => {
                fields.bytes_head(4, data.len());
                &data[..]
            }
        };
        self.record(Kind::Entry, fields.encoded(), data);
    }

    pub(crate) fn hard_state(&mut self, hard_state: &HardState) {
        let HardState { vote, commit } = hard_state;
        let mut fields = Fields::new();
        fields.varint(1, vote.term.0);
        fields.varint(2, vote.member.0);
        fields.varint(3, commit.0);
        if vote.committed {
            fields.varint(15, 1);
        }
        self.record(Kind::HardState, fields.encoded(), &[]);
    }

    pub(crate) fn mark(&mut self, mark: &SnapshotMark) {
        let mut fields = Fields::new();
        fields.varint(1, mark.index.0);
        fields.varint(2, mark.term.0);
        let conf_state = mark.conf_state.as_ref().map(ConfState::encode_to_vec);
        if let Some(conf_state) = &conf_state {
            fields.bytes_head(3, conf_state.len());
        }
        self.record(Kind::Mark, fields.encoded(), conf_state.as_deref().unwrap_or_default());
    }
}

/// The content of a record whose checksum was verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    Metadata(Metadata),
    Entry(Entry),
    HardState(HardState),
    Crc,
    Mark(SnapshotMark),
}

impl Content {
    pub(crate) fn decode(kind: Kind, data: &[u8]) -> Result<Self, Damage> {
        let mut cursor = Cursor(data);
        let (decoded, name) = match kind {
            Kind::Crc => return Ok(Self::Crc),
            Kind::Metadata => (metadata(&mut cursor).map(Self::Metadata), "metadata"),
            Kind::Entry => (entry(&mut cursor).map(Self::Entry), "entry"),
            Kind::HardState => (hard_state(&mut cursor).map(Self::HardState), "hard state"),
            Kind::Mark => (mark(&mut cursor).map(Self::Mark), "snapshot"),
        };
        decoded.filter(|_| cursor.is_at_end()).ok_or(Damage::Content(name))
    }
}

fn metadata(cursor: &mut Cursor<'_>) -> Option<Metadata> {
    let node_id = MemberId(cursor.varint_field(1)?);
    let cluster_id = ClusterId(cursor.varint_field(2)?);
    Some(Metadata { node_id, cluster_id })
}

fn entry(cursor: &mut Cursor<'_>) -> Option<Entry> {
    let kind = EntryKind::from_wire(cursor.varint_field(1)?)?;
    let term = Term(cursor.varint_field(2)?);
    let index = LogIndex(cursor.varint_field(3)?);
    let data = match cursor.is_at_end() {
        true => None,
        false => Some(Bytes::copy_from_slice(cursor.bytes_field(4)?)),
    };
    let entry = Entry { kind, term, index, data };
    is_well_formed(&entry).then_some(entry)
}

/// What holds for every entry, in a batch as on disk.
pub(crate) fn is_well_formed(entry: &Entry) -> bool {
    // A conf change without data is what a hard state looks like when its type flips.
    entry.index.0 != 0 && (entry.kind == EntryKind::Normal || entry.data.is_some())
}

fn hard_state(cursor: &mut Cursor<'_>) -> Option<HardState> {
    let term = Term(cursor.varint_field(1)?);
    let member = MemberId(cursor.varint_field(2)?);
    let commit = LogIndex(cursor.varint_field(3)?);
    // `false` is written by leaving the field out, so there is no second form of it.
    let committed = match cursor.is_at_end() {
        true => false,
        false if cursor.varint_field(15)? == 1 => true,
        false => return None,
    };
    Some(HardState { vote: Vote { term, member, committed }, commit })
}

fn mark(cursor: &mut Cursor<'_>) -> Option<SnapshotMark> {
    let index = LogIndex(cursor.varint_field(1)?);
    let term = Term(cursor.varint_field(2)?);
    let conf_state = match cursor.is_at_end() {
        true => None,
        false => Some(ConfState::decode(cursor.bytes_field(3)?).ok()?),
    };
    Some(SnapshotMark { index, term, conf_state })
}

#[cfg(test)]
mod tests;
