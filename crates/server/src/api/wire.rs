//! Hand-written encoding of the messages that carry most bytes.
//!
//! Field numbers are those of proto/etcd; fields with the default value are left out, as every
//! protobuf writer does. Stored pairs are spliced in as they are.

use bytes::BufMut;
use prost::encoding::{encode_varint, encoded_len_varint};

/// `ResponseHeader`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) cluster_id: u64,
    pub(crate) member_id: u64,
    pub(crate) revision: i64,
    pub(crate) raft_term: u64,
}

impl Header {
    /// A header with nothing but a revision: that of operations inside a transaction (RV-08).
    pub(crate) fn revision_only(revision: i64) -> Self {
        Self { revision, ..Self::default() }
    }

    /// Bytes of the message without tag and length.
    pub(crate) fn len(&self) -> usize {
        let revision = self.revision.cast_unsigned();
        [self.cluster_id, self.member_id, revision, self.raft_term]
            .into_iter()
            .filter(|number| *number != 0)
            .map(|number| 1 + encoded_len_varint(number))
            .sum()
    }

    /// Bytes of the message as field 1.
    pub(crate) fn field_len(&self) -> usize {
        // Four numbers never pass 127 bytes, so the length is one byte.
        2 + self.len()
    }

    /// Writes the message as field 1, even when it is empty.
    pub(crate) fn put(&self, out: &mut impl BufMut) {
        out.put_u8(0x0a);
        out.put_u8(self.len() as u8);
        put_number(out, 0x08, self.cluster_id);
        put_number(out, 0x10, self.member_id);
        put_number(out, 0x18, self.revision.cast_unsigned());
        put_number(out, 0x20, self.raft_term);
    }

    /// The generated message.
    pub(crate) fn message(&self) -> etcdrs_proto::etcdserverpb::ResponseHeader {
        etcdrs_proto::etcdserverpb::ResponseHeader {
            cluster_id: self.cluster_id,
            member_id: self.member_id,
            revision: self.revision,
            raft_term: self.raft_term,
        }
    }
}

/// Writes a varint field unless it is zero. `tag` is the field's one-byte key.
pub(crate) fn put_number(out: &mut impl BufMut, tag: u8, number: u64) {
    if number != 0 {
        out.put_u8(tag);
        encode_varint(number, out);
    }
}

/// Bytes of a varint field with a one-byte key.
pub(crate) fn number_len(number: u64) -> usize {
    if number == 0 { 0 } else { 1 + encoded_len_varint(number) }
}

/// Bytes of a length-delimited field with a one-byte key.
pub(crate) fn bytes_len(length: usize) -> usize {
    1 + encoded_len_varint(length as u64) + length
}

/// Writes a length-delimited field, even when it is empty.
pub(crate) fn put_bytes(out: &mut impl BufMut, tag: u8, bytes: &[u8]) {
    put_prefix(out, tag, bytes.len());
    out.put_slice(bytes);
}

/// Writes key and length of a length-delimited field.
pub(crate) fn put_prefix(out: &mut impl BufMut, tag: u8, length: usize) {
    out.put_u8(tag);
    encode_varint(length as u64, out);
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;

    #[test]
    fn headers_are_what_prost_would_write() {
        for header in [
            Header::default(),
            Header::revision_only(7),
            Header { cluster_id: u64::MAX, member_id: 1 << 40, revision: -1, raft_term: 300 },
        ] {
            let mut got = Vec::new();
            header.put(&mut got);
            assert_eq!(got.len(), header.field_len());
            assert_eq!(got[2..], header.message().encode_to_vec());
        }
    }
}
