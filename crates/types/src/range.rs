//! Key ranges as the API means them (v3-api.md KR-01..KR-03).

use bytes::Bytes;

/// Where a [`KeyRange`] ends.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum RangeEnd {
    /// The range is the one key `start`.
    Single,
    /// All keys from `start` up to this one, which is not part of the range.
    Before(Bytes),
    /// All keys from `start` on.
    Unbounded,
}

/// A set of neighbouring keys.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct KeyRange {
    /// The first key that may be part of the range.
    pub start: Bytes,
    /// Where it ends.
    pub end: RangeEnd,
}

impl KeyRange {
    /// The range of exactly one key.
    pub fn single(key: impl Into<Bytes>) -> Self {
        Self { start: key.into(), end: RangeEnd::Single }
    }

    /// Every key there is.
    #[must_use]
    pub fn all() -> Self {
        Self { start: Bytes::new(), end: RangeEnd::Unbounded }
    }

    /// Every key that begins with `prefix`.
    ///
    /// ```
    /// use etcdrs_types::KeyRange;
    /// assert!(KeyRange::prefix(b"registry/").contains(b"registry/pods/a"));
    /// assert!(!KeyRange::prefix(b"registry/").contains(b"registry0"));
    /// ```
    #[must_use]
    pub fn prefix(prefix: &[u8]) -> Self {
        Self::from_wire(Bytes::copy_from_slice(prefix), prefix_end(prefix))
    }

    /// Reads the two byte strings of a request: an empty `range_end` means one key, `\0` means
    /// no end.
    #[must_use]
    pub fn from_wire(key: Bytes, range_end: Bytes) -> Self {
        let end = match &range_end[..] {
            [] => RangeEnd::Single,
            [0] => RangeEnd::Unbounded,
            _ => RangeEnd::Before(range_end),
        };
        Self { start: key, end }
    }

    /// The `range_end` that a request for this range carries.
    #[must_use]
    pub fn wire_end(&self) -> Bytes {
        match &self.end {
            RangeEnd::Single => Bytes::new(),
            RangeEnd::Before(end) => end.clone(),
            RangeEnd::Unbounded => Bytes::from_static(&[0]),
        }
    }

    /// Whether no key can be in the range (an end at or before the start).
    #[must_use]
    pub fn is_empty(&self) -> bool {
        matches!(&self.end, RangeEnd::Before(end) if end <= &self.start)
    }

    /// Whether the range names one key rather than an interval.
    #[must_use]
    pub fn is_single(&self) -> bool {
        self.end == RangeEnd::Single
    }

    /// Whether `key` lies in the range.
    #[must_use]
    pub fn contains(&self, key: &[u8]) -> bool {
        match &self.end {
            RangeEnd::Single => key == &self.start[..],
            RangeEnd::Before(end) => key >= &self.start[..] && key < &end[..],
            RangeEnd::Unbounded => key >= &self.start[..],
        }
    }
}

/// The end of the range of all keys with `prefix`: the prefix with its last byte below 0xff
/// raised by one and the rest cut, or `\0` (no end) where there is no such byte.
#[must_use]
pub fn prefix_end(prefix: &[u8]) -> Bytes {
    match prefix.iter().rposition(|&byte| byte < 0xff) {
        None => Bytes::from_static(&[0]),
        Some(last) => {
            let mut end = prefix[..=last].to_vec();
            end[last] += 1;
            end.into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefix_ends() {
        assert_eq!(&prefix_end(b"a")[..], b"b");
        assert_eq!(&prefix_end(b"a\xff")[..], b"b");
        assert_eq!(&prefix_end(b"\xff\xff")[..], b"\0");
        assert_eq!(&prefix_end(b"")[..], b"\0");
    }

    #[test]
    fn wire_forms() {
        let range = |key: &'static str, end: &'static str| {
            KeyRange::from_wire(
                Bytes::from_static(key.as_bytes()),
                Bytes::from_static(end.as_bytes()),
            )
        };
        assert!(range("a", "").is_single());
        assert!(range("a", "").contains(b"a") && !range("a", "").contains(b"aa"));
        assert!(range("b", "a").is_empty() && !range("b", "\0").is_empty());
        assert!(range("\0", "\0").contains(b"\0") && range("a", "\0").contains(b"\xff"));
        assert!(!range("a", "c").contains(b"c") && range("a", "c").contains(b"bzz"));
        assert_eq!(range("a", "\0").wire_end(), Bytes::from_static(b"\0"));
    }
}
