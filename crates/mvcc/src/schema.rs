//! Rows of the buckets `index` and `meta` (FORMAT.md).

use etcdrs_types::{LeaseId, Revision};

use crate::index::{Change, ChangeKind};

/// Row of bucket `meta`: the newest compaction that was accepted, as a revision key.
pub(crate) const SCHEDULED_COMPACT_ROW: &[u8] = b"scheduledCompactRev";
/// Row of bucket `meta`: the newest compaction whose removal is finished.
pub(crate) const FINISHED_COMPACT_ROW: &[u8] = b"finishedCompactRev";

/// Main (8 bytes) and sub (4).
const REVISION_BYTES: usize = 12;
/// Flags, create revision, version, lease.
const VALUE_BYTES: usize = 25;

/// The key of an index row: the user key, so escaped that rows sort by key and then by revision
/// (0 becomes 0 255, the end is 0 1), and the revision.
pub(crate) fn index_key(key: &[u8], revision: Revision, out: &mut Vec<u8>) {
    out.clear();
    out.reserve(key.len() + 2 + REVISION_BYTES);
    if key.contains(&0) {
        for &byte in key {
            out.push(byte);
            if byte == 0 {
                out.push(0xff);
            }
        }
    } else {
        out.extend_from_slice(key);
    }
    out.extend_from_slice(&[0, 1]);
    out.extend_from_slice(&revision.main.to_be_bytes());
    let sub = u32::try_from(revision.sub).expect("a transaction changes fewer than 2^31 keys");
    out.extend_from_slice(&sub.to_be_bytes());
}

/// What [`index_key`] was made of: writes the user key to `key`.
pub(crate) fn parse_index_key(row: &[u8], key: &mut Vec<u8>) -> Option<Revision> {
    let (escaped, revision) = row.split_at_checked(row.len().checked_sub(REVISION_BYTES)?)?;
    let escaped = escaped.strip_suffix(&[0, 1])?;
    key.clear();
    if escaped.contains(&0) {
        let mut rest = escaped;
        while let [byte, tail @ ..] = rest {
            key.push(*byte);
            rest = if *byte == 0 { tail.strip_prefix(&[0xff])? } else { tail };
        }
    } else {
        key.extend_from_slice(escaped);
    }
    let (main, sub) = revision.split_at(8);
    let main = i64::from_be_bytes(main.try_into().ok()?);
    let sub = i64::from(u32::from_be_bytes(sub.try_into().ok()?));
    Some(Revision { main, sub })
}

/// The value of an index row.
pub(crate) fn index_value(change: &Change) -> [u8; VALUE_BYTES] {
    let mut row = [0; VALUE_BYTES];
    match change.kind {
        ChangeKind::Put { create, version, lease, .. } => {
            row[1..9].copy_from_slice(&create.to_be_bytes());
            row[9..17].copy_from_slice(&version.to_be_bytes());
            row[17..].copy_from_slice(&lease.0.to_be_bytes());
        }
        ChangeKind::Delete => row[0] = 1,
    }
    row
}

/// What [`index_value`] was made of.
pub(crate) fn parse_index_value(row: &[u8], revision: Revision) -> Option<Change> {
    let row: &[u8; VALUE_BYTES] = row.try_into().ok()?;
    let number = |at: usize| row[at..at + 8].try_into().map(i64::from_be_bytes).ok();
    let kind = match row[0] {
        0 => ChangeKind::Put {
            create: number(1)?,
            version: number(9)?,
            lease: LeaseId(number(17)?),
            kv: None,
        },
        1 => ChangeKind::Delete,
        _ => return None,
    };
    Some(Change { revision, kind })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn index_rows_sort_by_key_then_revision() {
        let keys: [&[u8]; 8] =
            [b"\0", b"\0\0", b"\0\x01", b"a", b"a\0", b"a\0\xff", b"a\x01", b"ab"];
        let mut rows = Vec::new();
        for key in keys {
            for revision in
                [Revision::main(2), Revision { main: 2, sub: 1 }, Revision::main(1 << 40)]
            {
                let mut row = Vec::new();
                index_key(key, revision, &mut row);
                let mut back = Vec::new();
                assert_eq!(parse_index_key(&row, &mut back), Some(revision));
                assert_eq!(back, key);
                rows.push(row);
            }
        }
        assert!(rows.is_sorted());
        assert_eq!(parse_index_key(b"short", &mut Vec::new()), None);
    }

    #[test]
    fn index_values_round_trip() {
        let kind = ChangeKind::Put { create: 5, version: 6, lease: LeaseId(-7), kv: None };
        let change = Change { revision: Revision::main(9), kind };
        let back = parse_index_value(&index_value(&change), change.revision).unwrap();
        assert_eq!(back.meta(), change.meta());
        let delete = Change { revision: Revision::main(9), kind: ChangeKind::Delete };
        assert!(
            parse_index_value(&index_value(&delete), delete.revision).unwrap().meta().is_none()
        );
        assert!(parse_index_value(&[2; VALUE_BYTES], delete.revision).is_none());
    }
}
