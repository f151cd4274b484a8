//! Frames and records: the outer two layers of the format (storage-and-raft.md §1.2, §1.3). Pure.
//!
//! Only one encoding of a record is accepted, the one that etcd's writer makes: fields in order,
//! shortest varints, zero padding. The checksum covers neither type nor length nor padding, so
//! strictness is what protects them.

use crate::error::Damage;

/// Bytes of the length field before each record.
pub(crate) const LENGTH_BYTES: usize = 8;
/// Frames are multiples of this.
const ALIGN: usize = 8;
/// What a power loss writes whole or not at all, for the torn-write test.
pub(crate) const SECTOR_BYTES: u64 = 512;

/// What a record is. The numbers are those of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Metadata = 1,
    Entry = 2,
    HardState = 3,
    Crc = 4,
    Mark = 5,
}

impl Kind {
    fn from_wire(number: u64) -> Result<Self, Damage> {
        match number {
            1 => Ok(Self::Metadata),
            2 => Ok(Self::Entry),
            3 => Ok(Self::HardState),
            4 => Ok(Self::Crc),
            5 => Ok(Self::Mark),
            other => Err(Damage::UnknownType(other)),
        }
    }
}

/// The rolling checksum: CRC-32C of the data of all records so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Chain(pub(crate) u32);

impl Chain {
    pub(crate) fn extended(self, data: &[u8]) -> Self {
        Self(crc32c::crc32c_append(self.0, data))
    }
}

/// What the length field says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Length {
    pub(crate) record_bytes: u64,
    pub(crate) padding_bytes: u64,
}

impl Length {
    fn of(record_bytes: usize) -> Self {
        let padding_bytes = (ALIGN - record_bytes % ALIGN) % ALIGN;
        Self { record_bytes: record_bytes as u64, padding_bytes: padding_bytes as u64 }
    }

    /// Bytes of the whole frame.
    pub(crate) fn frame_bytes(self) -> u64 {
        LENGTH_BYTES as u64 + self.record_bytes + self.padding_bytes
    }

    fn to_field(self) -> u64 {
        let flag = if self.padding_bytes == 0 { 0 } else { 0x80 | self.padding_bytes };
        flag << 56 | self.record_bytes
    }

    /// Reads the field; `None` where there is no record but preallocated space. The field lies in
    /// one sector, so that no power loss can leave a wrong one.
    pub(crate) fn from_field(field: u64) -> Result<Option<Self>, Damage> {
        if field == 0 {
            return Ok(None);
        }
        let record_bytes = field & ((1 << 56) - 1);
        let padding_bytes = record_bytes.wrapping_neg() % ALIGN as u64;
        let length = Self { record_bytes, padding_bytes };
        if record_bytes == 0 || length.to_field() != field {
            return Err(Damage::Length(field));
        }
        Ok(Some(length))
    }
}

/// A decoded record; `data` borrows from the buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Record<'a> {
    pub(crate) kind: Kind,
    pub(crate) crc: u32,
    pub(crate) data: Option<&'a [u8]>,
}

impl<'a> Record<'a> {
    /// Decodes the bytes between length field and padding.
    pub(crate) fn decode(bytes: &'a [u8]) -> Result<Self, Damage> {
        let (record, rest) = Self::decode_prefix(bytes)?;
        if rest.is_empty() { Ok(record) } else { Err(Damage::Record) }
    }

    /// Decodes the record that `bytes` begin with; its own fields say where it ends, except that
    /// a crc record ends before anything but data.
    pub(crate) fn decode_prefix(bytes: &'a [u8]) -> Result<(Self, &'a [u8]), Damage> {
        let mut cursor = Cursor(bytes);
        let number = cursor.varint_field(1).ok_or(Damage::Record)?;
        let crc = cursor.varint_field(2).ok_or(Damage::Record)?;
        let crc = u32::try_from(crc).map_err(|_| Damage::Record)?;
        let kind = Kind::from_wire(number)?;
        // Every record but the crc record has data.
        let data = match kind {
            Kind::Crc => None,
            _ => Some(cursor.bytes_field(3).ok_or(Damage::Record)?),
        };
        Ok((Self { kind, crc, data }, cursor.0))
    }
}

/// Appends a frame to `into`. The data comes in two parts, so that an entry's payload is copied
/// once, from where it lies into the buffer of the write.
pub(crate) fn put(into: &mut Vec<u8>, kind: Kind, crc: Chain, head: &[u8], tail: &[u8]) {
    let data_bytes = head.len() + tail.len();
    let mut prefix = [0_u8; 2 + 1 + VARINT_BYTES_MAX + 1 + VARINT_BYTES_MAX];
    let mut n = 0;
    prefix[n] = 1 << 3;
    prefix[n + 1] = kind as u8;
    prefix[n + 2] = 2 << 3;
    n += 3;
    n += write_varint(&mut prefix[n..], u64::from(crc.0));
    if kind != Kind::Crc {
        prefix[n] = 3 << 3 | 2;
        n += 1;
        n += write_varint(&mut prefix[n..], data_bytes as u64);
    }
    let length = Length::of(n + data_bytes);
    into.reserve(LENGTH_BYTES + n + data_bytes + ALIGN);
    into.extend_from_slice(&length.to_field().to_le_bytes());
    into.extend_from_slice(&prefix[..n]);
    into.extend_from_slice(head);
    into.extend_from_slice(tail);
    let padding = usize::try_from(length.padding_bytes).expect("padding is below 8");
    into.extend_from_slice(&[0; ALIGN][..padding]);
}

/// Whether a power loss can have made `bytes`, which lie at `offset` of the file, by leaving a
/// sector unwritten: some part of them inside one sector is all zeros (storage-and-raft.md §1.9).
pub(crate) fn has_zero_sector(bytes: &[u8], offset: u64) -> bool {
    let to_boundary = SECTOR_BYTES - offset % SECTOR_BYTES;
    let first = usize::try_from(to_boundary).expect("a sector is small").min(bytes.len());
    let (first, rest) = bytes.split_at(first);
    let is_lost = |chunk: &[u8]| !chunk.is_empty() && is_zero(chunk);
    is_lost(first) || rest.chunks(SECTOR_BYTES as usize).any(is_lost)
}

/// Whether all bytes are zero. Compares blocks, because a whole segment is checked at each start.
pub(crate) fn is_zero(bytes: &[u8]) -> bool {
    const BLOCK: [u8; 4096] = [0; 4096];
    bytes.chunks(BLOCK.len()).all(|chunk| chunk == &BLOCK[..chunk.len()])
}

/// How many bytes are left when the zeros at the end are cut off.
pub(crate) fn without_zeros(bytes: &[u8]) -> usize {
    const BLOCK_BYTES: usize = 4096;
    let last = bytes.chunks(BLOCK_BYTES).rposition(|chunk| !is_zero(chunk));
    last.map_or(0, |at| {
        let from = at * BLOCK_BYTES;
        let block = &bytes[from..bytes.len().min(from + BLOCK_BYTES)];
        from + block.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1)
    })
}

/// Most bytes of a varint.
pub(crate) const VARINT_BYTES_MAX: usize = 10;

/// Writes `value` in its shortest form and says how many bytes it took.
#[inline]
pub(crate) fn write_varint(into: &mut [u8], mut value: u64) -> usize {
    let mut n = 0;
    while value >= 0x80 {
        into[n] = (value & 0x7f) as u8 | 0x80;
        value >>= 7;
        n += 1;
    }
    into[n] = value as u8;
    n + 1
}

/// Reads protobuf fields in a fixed order, in shortest form only.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cursor<'a>(pub(crate) &'a [u8]);

impl<'a> Cursor<'a> {
    pub(crate) fn varint(&mut self) -> Option<u64> {
        let mut value = 0_u64;
        for n in 0..VARINT_BYTES_MAX {
            let byte = *self.0.get(n)?;
            let bits = u64::from(byte & 0x7f);
            if n == VARINT_BYTES_MAX - 1 && bits > 1 {
                return None;
            }
            value |= bits << (7 * n);
            if byte & 0x80 == 0 {
                // A last byte of 0 could have been left out.
                if byte == 0 && n > 0 {
                    return None;
                }
                self.0 = &self.0[n + 1..];
                return Some(value);
            }
        }
        None
    }

    fn tag(&mut self, tag: u8) -> Option<()> {
        let (first, rest) = self.0.split_first()?;
        if *first != tag {
            return None;
        }
        self.0 = rest;
        Some(())
    }

    /// The field `number` (below 16) as a varint; it must be next.
    pub(crate) fn varint_field(&mut self, number: u8) -> Option<u64> {
        self.tag(number << 3)?;
        self.varint()
    }

    /// The field `number` (below 16) as bytes; it must be next.
    pub(crate) fn bytes_field(&mut self, number: u8) -> Option<&'a [u8]> {
        self.tag(number << 3 | 2)?;
        let len = usize::try_from(self.varint()?).ok()?;
        let (bytes, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(bytes)
    }

    pub(crate) fn is_at_end(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn check_value_of_the_polynomial() {
        assert_eq!(Chain(0).extended(b"123456789"), Chain(0xe306_9283));
    }

    #[test]
    fn length_fields() {
        let with_padding = u64::from_le_bytes([4, 0, 0, 0, 0, 0, 0, 0x84]);
        let length = Length::from_field(with_padding).unwrap().unwrap();
        assert_eq!((length.record_bytes, length.padding_bytes, length.frame_bytes()), (4, 4, 16));
        assert_eq!(Length::from_field(0), Ok(None));
        assert_eq!(Length::from_field(0x70).unwrap().unwrap().frame_bytes(), 0x78);
        for field in [4, 5 | 0x84 << 56, 0x70 | 0x80 << 56, 0x80 << 56, 4 | 0xc4 << 56, 8 | 1 << 56]
        {
            assert_eq!(Length::from_field(field), Err(Damage::Length(field)), "{field:x}");
        }
    }

    #[test]
    fn zero_sectors() {
        assert!(!has_zero_sector(&[1; 2000], 8));
        let mut bytes = vec![1; 2000];
        bytes[504..1016].fill(0);
        assert!(has_zero_sector(&bytes, 8), "from sector start to sector end");
        assert!(!has_zero_sector(&bytes, 16), "across two sectors, neither of them whole");
        assert!(has_zero_sector(&[0, 1], 511), "a part of a sector counts");
        assert!(!has_zero_sector(&[], 511));
    }

    #[test]
    fn zeros_are_found_and_cut() {
        let mut bytes = vec![0; 10_000];
        assert!(is_zero(&bytes) && is_zero(&[]));
        assert_eq!((without_zeros(&bytes), without_zeros(&[])), (0, 0));
        for at in [0, 4095, 4096, 9999] {
            bytes[at] = 1;
            assert!(!is_zero(&bytes));
            assert_eq!(without_zeros(&bytes), at + 1);
        }
    }

    #[test]
    fn varints_are_accepted_in_shortest_form_only() {
        assert_eq!(Cursor(&[0x80, 0x01]).varint(), Some(128));
        assert_eq!(Cursor(&[0x80, 0x00]).varint(), None);
        assert_eq!(Cursor(&[0xff; 10]).varint(), None);
        assert_eq!(Cursor(&[0x80]).varint(), None);
        let mut bytes = [0; VARINT_BYTES_MAX];
        assert_eq!(write_varint(&mut bytes, u64::MAX), 10);
        assert_eq!(Cursor(&bytes).varint(), Some(u64::MAX));
    }

    proptest! {
        #[test]
        fn frames_round_trip(crc: u32, head in prop::collection::vec(any::<u8>(), 1..40), tail: Vec<u8>) {
            let mut frame = Vec::new();
            put(&mut frame, Kind::Entry, Chain(crc), &head, &tail);
            prop_assert_eq!(frame.len() % ALIGN, 0);
            let field = u64::from_le_bytes(frame[..8].try_into().unwrap());
            let length = Length::from_field(field).unwrap().unwrap();
            prop_assert_eq!(length.frame_bytes(), frame.len() as u64);
            let record = Record::decode(&frame[8..8 + length.record_bytes as usize]).unwrap();
            let data = [&head[..], &tail[..]].concat();
            prop_assert_eq!(record, Record { kind: Kind::Entry, crc, data: Some(&data) });
        }

        #[test]
        fn records_have_one_form(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(record) = Record::decode(&bytes) {
                let mut again = Vec::new();
                put(&mut again, record.kind, Chain(record.crc), record.data.unwrap_or_default(), &[]);
                prop_assert_eq!(&again[8..8 + bytes.len()], &bytes[..]);
            }
        }

        #[test]
        fn varints_round_trip(value: u64) {
            let mut bytes = [0; VARINT_BYTES_MAX];
            let n = write_varint(&mut bytes, value);
            let mut cursor = Cursor(&bytes[..n]);
            prop_assert_eq!(cursor.varint(), Some(value));
            prop_assert!(cursor.is_at_end());
        }
    }
}
