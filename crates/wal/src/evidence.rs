//! What the bytes behind a tear still tell.
//!
//! A writer never puts a commit index or a mark into the same unsynced stretch as the entries it
//! covers (see [`crate::wal`]), so that a power loss alone can not leave a record behind the tear
//! that calls a lost entry committed. Where such a record is found, the damage has another cause,
//! and cutting would forget entries that others rely on.

use std::collections::BTreeMap;

use etcdrs_types::LogIndex;

use crate::content::Content;
use crate::record::{Chain, Kind, LENGTH_BYTES, Length, Record, without_zeros};

const ALIGN: usize = 8;

/// The newest commit or snapshot index in the records of `tail`, which begins at the tear; `chain`
/// is the checksum before it. Only records are believed that continue the checksum of a record
/// that ends where they begin: values may contain anything, even pieces of logs.
pub(crate) fn newest_recorded(tail: &[u8], chain: Chain) -> LogIndex {
    let n_used = without_zeros(tail);
    let mut newest = LogIndex(0);
    // Checksums that a record at a place may continue.
    let mut chains: BTreeMap<usize, Vec<u32>> = BTreeMap::from([(0, vec![chain.0])]);
    if let Some((end, crc)) = first_frame(tail) {
        chains.entry(end).or_default().push(crc);
    }
    let mut at = 0;
    while at + LENGTH_BYTES < n_used {
        let Some((record, end)) = frame_at(tail, at) else {
            at += ALIGN;
            continue;
        };
        let data = record.data.unwrap_or_default();
        let continues = |crc: &u32| Chain(*crc).extended(data).0 == record.crc;
        let is_believed = chains.get(&at).is_some_and(|crcs| crcs.iter().any(continues));
        chains.entry(end).or_default().push(record.crc);
        if !is_believed {
            at += ALIGN;
            continue;
        }
        at = end;
        newest = newest.max(match Content::decode(record.kind, data) {
            Ok(Content::HardState(hard_state)) => hard_state.commit,
            Ok(Content::Mark(mark)) => mark.index,
            _ => LogIndex(0),
        });
    }
    newest
}

/// A whole frame at `at`, and where it ends.
fn frame_at(tail: &[u8], at: usize) -> Option<(Record<'_>, usize)> {
    let (field, rest) = tail[at..].split_first_chunk::<LENGTH_BYTES>()?;
    let length = Length::from_field(u64::from_le_bytes(*field)).ok()??;
    let record_bytes = usize::try_from(length.record_bytes).ok()?;
    let record = Record::decode(rest.get(..record_bytes)?).ok()?;
    let frame_bytes = usize::try_from(length.frame_bytes()).ok()?;
    (record.kind != Kind::Crc).then_some((record, at + frame_bytes))
}

/// Where the record at the tear ends by its own fields, whatever its length field says, and its
/// checksum.
fn first_frame(tail: &[u8]) -> Option<(usize, u32)> {
    let body = tail.get(LENGTH_BYTES..)?;
    let (record, rest) = Record::decode_prefix(body).ok()?;
    let end = LENGTH_BYTES + (body.len() - rest.len());
    Some((end.next_multiple_of(ALIGN), record.crc))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use etcdrs_types::Term;

    use super::*;
    use crate::content::Encoder;
    use crate::types::{Entry, HardState, SnapshotMark};

    fn entry(index: u64, data: &'static [u8]) -> Entry {
        let data = Some(Bytes::from_static(data));
        Entry { index: LogIndex(index), data, ..Entry::default() }
    }

    fn commit(commit: u64) -> HardState {
        HardState { commit: LogIndex(commit), ..HardState::default() }
    }

    #[test]
    fn a_commit_behind_a_broken_length_is_seen() {
        let mut encoder = Encoder::default();
        encoder.entry(&entry(7, b"payload"));
        encoder.hard_state(&commit(7));
        let mut tail = encoder.buffer;
        assert_eq!(newest_recorded(&tail, Chain(0)), LogIndex(7));
        tail[0] ^= 0x40;
        assert_eq!(newest_recorded(&tail, Chain(0)), LogIndex(7));
        tail[..8].fill(0);
        assert_eq!(newest_recorded(&tail, Chain(0)), LogIndex(7));
        tail.resize(4096, 0);
        assert_eq!(newest_recorded(&tail, Chain(0)), LogIndex(7));
    }

    #[test]
    fn a_mark_behind_a_lost_sector_is_seen() {
        let mut encoder = Encoder::default();
        encoder.entry(&entry(7, &[7; 700]));
        encoder.entry(&entry(8, b"intact"));
        encoder.mark(&SnapshotMark::new(Term(1), LogIndex(5)));
        let mut tail = encoder.buffer;
        tail[..512].fill(0);
        assert_eq!(newest_recorded(&tail, Chain(0)), LogIndex(5));
    }

    #[test]
    fn records_inside_values_are_not_believed() {
        let mut inner = Encoder { chain: Chain(99), ..Encoder::default() };
        inner.hard_state(&commit(1000));
        let mut value = vec![0; 6];
        value.extend_from_slice(&inner.buffer);
        let mut encoder = Encoder::default();
        encoder.entry(&Entry { data: Some(value.into()), ..entry(7, b"") });
        let found = encoder.buffer.windows(inner.buffer.len()).position(|w| w == inner.buffer);
        assert_eq!(found.map(|at| at % ALIGN), Some(0), "the test wants it where a frame may be");
        let mut tail = encoder.buffer;
        tail[0] ^= 0x40;
        assert_eq!(newest_recorded(&tail, Chain(0)), LogIndex(0));
        assert_eq!(newest_recorded(&[], Chain(0)), LogIndex(0));
        assert_eq!(newest_recorded(&[1; 9], Chain(0)), LogIndex(0));
    }
}
