//! What a user may read and write: the union of all that its roles grant.

use bytes::Bytes;
use etcdrs_proto::authpb::{Permission, permission::Type};
use etcdrs_types::{KeyRange, RangeEnd};

/// The permissions of one user, merged (AU-34).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grants {
    read: Union,
    write: Union,
}

impl Grants {
    /// Merges permissions; their order does not matter.
    pub fn of<'a>(permissions: impl Iterator<Item = &'a Permission>) -> Self {
        let (mut read, mut write) = (Vec::new(), Vec::new());
        for permission in permissions {
            let span = Span::of(&KeyRange::from_wire(
                permission.key.clone(),
                permission.range_end.clone(),
            ));
            match Type::try_from(permission.perm_type) {
                Ok(Type::Read) => read.push(span),
                Ok(Type::Write) => write.push(span),
                Ok(Type::Readwrite) => {
                    read.push(span.clone());
                    write.push(span);
                }
                // Rows of a kind that this version does not know grant nothing.
                Err(_) => {}
            }
        }
        Self { read: Union::of(read), write: Union::of(write) }
    }

    /// Whether every key of `range` may be read.
    #[must_use]
    pub fn may_read(&self, range: &KeyRange) -> bool {
        self.read.covers(&Span::of(range))
    }

    /// Whether every key of `range` may be written.
    #[must_use]
    pub fn may_write(&self, range: &KeyRange) -> bool {
        self.write.covers(&Span::of(range))
    }
}

/// From a key to before another one, or to no end.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Span {
    start: Bytes,
    end: Option<Bytes>,
}

impl Span {
    fn of(range: &KeyRange) -> Self {
        let end = match &range.end {
            // The next key after `k` is `k\0`.
            RangeEnd::Single => Some([&range.start[..], &[0]].concat().into()),
            RangeEnd::Before(end) => Some(end.clone()),
            RangeEnd::Unbounded => None,
        };
        Self { start: range.start.clone(), end }
    }

    fn is_empty(&self) -> bool {
        self.end.as_ref().is_some_and(|end| *end <= self.start)
    }
}

/// Spans in order that neither meet nor overlap.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Union(Vec<Span>);

impl Union {
    fn of(mut spans: Vec<Span>) -> Self {
        spans.retain(|span| !span.is_empty());
        spans.sort_by(|a, b| a.start.cmp(&b.start));
        let mut union: Vec<Span> = Vec::with_capacity(spans.len());
        for span in spans {
            match union.last_mut() {
                Some(last) if last.end.as_ref().is_none_or(|end| span.start <= *end) => {
                    last.end = match (last.end.take(), span.end) {
                        (Some(a), Some(b)) => Some(a.max(b)),
                        _ => None,
                    };
                }
                _ => union.push(span),
            }
        }
        Self(union)
    }

    /// A span that holds no key asks for its start, as in etcd: an empty range is no way around
    /// the question.
    fn covers(&self, asked: &Span) -> bool {
        let after = self.0.partition_point(|span| span.start <= asked.start);
        let Some(span) = after.checked_sub(1).and_then(|at| self.0.get(at)) else { return false };
        let Some(end) = &span.end else { return true };
        if asked.start >= *end {
            return false;
        }
        asked.end.as_ref().is_some_and(|asked| asked <= end)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn permission(kind: Type, key: &str, range_end: &str) -> Permission {
        Permission {
            perm_type: kind as i32,
            key: key.to_owned().into(),
            range_end: range_end.to_owned().into(),
        }
    }

    fn range(key: &str, range_end: &str) -> KeyRange {
        KeyRange::from_wire(key.to_owned().into(), range_end.to_owned().into())
    }

    #[test]
    fn au_34_row_127_neighbours_join_and_gaps_deny() {
        let grants = Grants::of(
            [
                permission(Type::Read, "b", "c"),
                permission(Type::Readwrite, "a", "b"),
                permission(Type::Read, "c", ""),
                permission(Type::Read, "e", "g"),
                permission(Type::Write, "x", "\0"),
            ]
            .iter(),
        );
        for (key, end, read, write) in [
            ("a", "", true, true),
            ("a", "c", true, false),
            ("a", "c\0", true, false),
            ("a", "d", false, false),
            ("c", "", true, false),
            ("c\0", "", false, false),
            ("d", "", false, false),
            ("e", "g", true, false),
            ("e", "g\0", false, false),
            ("a", "\0", false, false),
            ("x", "\0", false, true),
            ("xyz", "zzz", false, true),
            ("\0", "\0", false, false),
            // No key lies in it; the question is for its start.
            ("e", "a", true, false),
            ("d", "a", false, false),
        ] {
            let range = range(key, end);
            let may = (grants.may_read(&range), grants.may_write(&range));
            assert_eq!(may, (read, write), "{key:?} {end:?}");
        }
    }

    fn end() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![Just(Vec::new()), Just(vec![0]), prop::collection::vec(b'a'..=b'd', 1..3),]
    }

    proptest! {
        /// Fuzz target F15 of reliability.md as a property: a range is allowed exactly when each
        /// key and each neighbour of a border in it is.
        #[test]
        fn a_range_is_allowed_when_each_of_its_keys_is(
            spans in prop::collection::vec((prop::collection::vec(b'a'..=b'd', 1..3), end()), 0..6),
            asked in (prop::collection::vec(b'a'..=b'd', 1..3), end()),
        ) {
            let permissions: Vec<Permission> = spans
                .iter()
                .map(|(key, end)| Permission {
                    perm_type: Type::Read as i32,
                    key: key.clone().into(),
                    range_end: end.clone().into(),
                })
                .collect();
            let grants = Grants::of(permissions.iter());
            let range = KeyRange::from_wire(asked.0.clone().into(), asked.1.clone().into());
            prop_assume!(!range.is_empty());
            // Between two borders all keys are alike, so borders and their neighbours are enough.
            let mut keys: Vec<Vec<u8>> = vec![vec![0xff; 4]];
            for key in spans.iter().flat_map(|(key, end)| [key, end]).chain([&asked.0, &asked.1]) {
                keys.push(key.clone());
                keys.push([&key[..], &[0]].concat());
            }
            let naive = keys.iter().filter(|key| range.contains(key)).all(|key| {
                spans.iter().any(|(start, end)| {
                    KeyRange::from_wire(start.clone().into(), end.clone().into()).contains(key)
                })
            });
            let naive = naive && (asked.1 != [0] || spans.iter().any(|(_, end)| end == &[0]));
            prop_assert_eq!(grants.may_read(&range), naive);
        }
    }
}
