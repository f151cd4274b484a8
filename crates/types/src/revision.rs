//! Revisions and their 17-byte key form.

/// Bytes of an encoded revision: main, `_`, sub.
pub const REVISION_KEY_BYTES: usize = 17;
/// Bytes of an encoded revision that marks a tombstone: a revision and `t`.
pub const TOMBSTONE_KEY_BYTES: usize = REVISION_KEY_BYTES + 1;

/// A point in the history of the store.
///
/// `main` grows by one with every transaction that changes something; `sub` counts the changes
/// inside that transaction from 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision {
    /// The transaction.
    pub main: i64,
    /// The change inside the transaction.
    pub sub: i64,
}

impl Revision {
    /// The revision of the first change of transaction `main`.
    #[must_use]
    pub const fn main(main: i64) -> Self {
        Self { main, sub: 0 }
    }

    /// Encodes as etcd's bucket `key` has it: big-endian main, `_`, big-endian sub
    /// (storage-and-raft.md §3.1). Byte order equals revision order.
    #[must_use]
    pub fn to_key(self) -> [u8; REVISION_KEY_BYTES] {
        let mut key = [0; REVISION_KEY_BYTES];
        key[..8].copy_from_slice(&self.main.to_be_bytes());
        key[8] = b'_';
        key[9..].copy_from_slice(&self.sub.to_be_bytes());
        key
    }

    /// The key of a tombstone at this revision: [`Self::to_key`] and `t`.
    #[must_use]
    pub fn to_tombstone_key(self) -> [u8; TOMBSTONE_KEY_BYTES] {
        let mut key = [0; TOMBSTONE_KEY_BYTES];
        key[..REVISION_KEY_BYTES].copy_from_slice(&self.to_key());
        key[REVISION_KEY_BYTES] = b't';
        key
    }

    /// Decodes a key of either form; the second value tells a tombstone. `None` if `key` has
    /// another shape.
    #[must_use]
    pub fn from_key(key: &[u8]) -> Option<(Self, bool)> {
        let tombstone = match key.len() {
            REVISION_KEY_BYTES => false,
            TOMBSTONE_KEY_BYTES if key[REVISION_KEY_BYTES] == b't' => true,
            _ => return None,
        };
        if key[8] != b'_' {
            return None;
        }
        let main = i64::from_be_bytes(key[..8].try_into().ok()?);
        let sub = i64::from_be_bytes(key[9..REVISION_KEY_BYTES].try_into().ok()?);
        Some((Self { main, sub }, tombstone))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_round_trip_and_sort_like_revisions() {
        let revisions = [
            Revision::main(1),
            Revision { main: 1, sub: 1 },
            Revision::main(2),
            Revision { main: 256, sub: 3 },
        ];
        for pair in revisions.windows(2) {
            assert!(pair[0].to_key() < pair[1].to_key());
        }
        for revision in revisions {
            assert_eq!(Revision::from_key(&revision.to_key()), Some((revision, false)));
            assert_eq!(Revision::from_key(&revision.to_tombstone_key()), Some((revision, true)));
        }
        assert_eq!(Revision::from_key(b"short"), None);
        assert_eq!(Revision::from_key(&[0; 17]), None);
    }
}
