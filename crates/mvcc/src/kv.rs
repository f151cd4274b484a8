//! Stored key-value pairs: `mvccpb.KeyValue` in encoded form.

use bytes::{BufMut, Bytes};
use etcdrs_proto::mvccpb;
use etcdrs_types::{LeaseId, Revision};
use prost::Message as _;

const TAG_KEY: u8 = 0x0a;
const TAG_CREATE_REVISION: u8 = 0x10;
const TAG_MOD_REVISION: u8 = 0x18;
const TAG_VERSION: u8 = 0x20;
const TAG_VALUE: u8 = 0x2a;
const TAG_LEASE: u8 = 0x30;

/// An encoded `mvccpb.KeyValue`, as it lies in bucket `key` and goes into answers.
///
/// Cheap to clone; clones share the bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct StoredKv(pub(crate) Bytes);

impl StoredKv {
    /// Takes bytes that are an encoded `mvccpb.KeyValue`.
    #[must_use]
    pub fn from_encoded(bytes: Bytes) -> Self {
        Self(bytes)
    }

    /// The encoded message.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// The encoded message, shared.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        self.0.clone()
    }

    /// The message. The key and value share the stored bytes.
    ///
    /// # Errors
    /// If the bytes are no `KeyValue`, which only damage on disk can bring about.
    pub fn decode(&self) -> Result<mvccpb::KeyValue, prost::DecodeError> {
        mvccpb::KeyValue::decode(self.0.clone())
    }

    /// The fields, without copying. `None` if the bytes are no `KeyValue` in canonical form.
    #[must_use]
    pub fn fields(&self) -> Option<KvFields<'_>> {
        KvFields::parse(&self.0)
    }

    /// The value field; empty if there is none.
    #[must_use]
    pub fn value(&self) -> &[u8] {
        self.fields().map_or(&[], |fields| fields.value)
    }

    /// The value field, shared.
    #[must_use]
    pub fn value_bytes(&self) -> Bytes {
        self.0.slice_ref(self.value())
    }

    /// The key field; empty if there is none.
    #[must_use]
    pub fn key(&self) -> &[u8] {
        self.fields().map_or(&[], |fields| fields.key)
    }

    /// The key field, shared.
    #[must_use]
    pub fn key_bytes(&self) -> Bytes {
        self.0.slice_ref(self.key())
    }

    /// The same pair without its value (RG-07).
    #[must_use]
    pub fn without_value(&self) -> Self {
        let Some(fields) = self.fields() else { return self.clone() };
        let meta = KeyMeta {
            create_revision: fields.create_revision,
            mod_revision: Revision::main(fields.mod_revision),
            version: fields.version,
            lease: fields.lease,
        };
        encode(fields.key, &[], &meta)
    }
}

impl std::fmt::Debug for StoredKv {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.fields() {
            Some(fields) => fields.fmt(f),
            None => f.debug_tuple("StoredKv").field(&self.0).finish(),
        }
    }
}

/// The fields of a [`StoredKv`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KvFields<'a> {
    /// The key.
    pub key: &'a [u8],
    /// Main revision of the put that made the key.
    pub create_revision: i64,
    /// Main revision of this put.
    pub mod_revision: i64,
    /// Number of puts since the key was made, this one included.
    pub version: i64,
    /// The value.
    pub value: &'a [u8],
    /// The lease, or none.
    pub lease: LeaseId,
}

impl<'a> KvFields<'a> {
    /// Reads fields in any order; unknown ones are an error, because nobody writes them.
    fn parse(mut rest: &'a [u8]) -> Option<Self> {
        let mut fields = Self::default();
        while let [tag, tail @ ..] = rest {
            rest = tail;
            let number = take_varint(&mut rest)?;
            match *tag {
                TAG_KEY => fields.key = take_slice(&mut rest, number)?,
                TAG_VALUE => fields.value = take_slice(&mut rest, number)?,
                TAG_CREATE_REVISION => fields.create_revision = number.cast_signed(),
                TAG_MOD_REVISION => fields.mod_revision = number.cast_signed(),
                TAG_VERSION => fields.version = number.cast_signed(),
                TAG_LEASE => fields.lease = LeaseId(number.cast_signed()),
                _ => return None,
            }
        }
        Some(fields)
    }
}

/// What the index knows of the newest version of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyMeta {
    /// Main revision of the put that made the key.
    pub create_revision: i64,
    /// Revision of the newest put.
    pub mod_revision: Revision,
    /// Number of puts since the key was made.
    pub version: i64,
    /// The lease, or none.
    pub lease: LeaseId,
}

/// Encodes a pair as etcd does: fields by number, those with the default value left out.
pub(crate) fn encode(key: &[u8], value: &[u8], meta: &KeyMeta) -> StoredKv {
    let mut out = Vec::with_capacity(encoded_len(key.len(), value.len(), meta));
    encode_into(key, value, meta, &mut out);
    debug_assert_eq!(out.len(), out.capacity());
    StoredKv(out.into())
}

fn encode_into(key: &[u8], value: &[u8], meta: &KeyMeta, out: &mut Vec<u8>) {
    put_slice(out, TAG_KEY, key);
    put_number(out, TAG_CREATE_REVISION, meta.create_revision);
    put_number(out, TAG_MOD_REVISION, meta.mod_revision.main);
    put_number(out, TAG_VERSION, meta.version);
    put_slice(out, TAG_VALUE, value);
    put_number(out, TAG_LEASE, meta.lease.0);
}

/// The value of a tombstone row: a `KeyValue` with the key alone (storage-and-raft.md §3.1).
pub(crate) fn encode_tombstone(key: &[u8], out: &mut Vec<u8>) {
    put_slice(out, TAG_KEY, key);
}

fn encoded_len(key: usize, value: usize, meta: &KeyMeta) -> usize {
    let slice = |len: usize| if len == 0 { 0 } else { 1 + varint_len(len as u64) + len };
    let number = |value: i64| if value == 0 { 0 } else { 1 + varint_len(value.cast_unsigned()) };
    slice(key)
        + slice(value)
        + number(meta.create_revision)
        + number(meta.mod_revision.main)
        + number(meta.version)
        + number(meta.lease.0)
}

fn put_slice(out: &mut Vec<u8>, tag: u8, bytes: &[u8]) {
    if !bytes.is_empty() {
        out.put_u8(tag);
        put_varint(out, bytes.len() as u64);
        out.extend_from_slice(bytes);
    }
}

fn put_number(out: &mut Vec<u8>, tag: u8, value: i64) {
    if value != 0 {
        out.put_u8(tag);
        put_varint(out, value.cast_unsigned());
    }
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

const fn varint_len(value: u64) -> usize {
    (64 - (value | 1).leading_zeros() as usize).div_ceil(7)
}

fn take_varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, tail) = rest.split_first()?;
        *rest = tail;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

fn take_slice<'a>(rest: &mut &'a [u8], len: u64) -> Option<&'a [u8]> {
    let (slice, tail) = rest.split_at_checked(usize::try_from(len).ok()?)?;
    *rest = tail;
    Some(slice)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stored_pairs_are_what_prost_would_write() {
        for (value, lease, version) in [(&b"v"[..], 0, 1), (b"", -7, 300), (&[9; 500], 5, i64::MAX)]
        {
            let meta = KeyMeta {
                create_revision: 2,
                mod_revision: Revision { main: 1 << 40, sub: 3 },
                version,
                lease: LeaseId(lease),
            };
            let stored = encode(b"key", value, &meta);
            let message = stored.decode().unwrap();
            assert_eq!(message.encode_to_vec(), stored.bytes());
            assert_eq!(message.mod_revision, 1 << 40);
            let fields = stored.fields().unwrap();
            assert_eq!((fields.key, fields.value), (&b"key"[..], value));
            assert_eq!((fields.version, fields.lease.0), (version, lease));
            assert_eq!(stored.value_bytes(), value);
            let bare = stored.without_value().decode().unwrap();
            assert_eq!(bare, mvccpb::KeyValue { value: Bytes::new(), ..message });
        }
    }

    #[test]
    fn damaged_pairs_are_noticed() {
        for bytes in [
            &b"\x0a\x05abc"[..],
            b"\x18",
            b"\x18\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
            b"\x7a\x01",
        ] {
            assert_eq!(StoredKv::from_encoded(Bytes::copy_from_slice(bytes)).fields(), None);
        }
    }
}
