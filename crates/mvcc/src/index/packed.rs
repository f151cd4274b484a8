//! Sorted strings in one buffer, without the prefix they share.

use std::cmp::Ordering;

/// Strings in strictly ascending order.
///
/// Invariant: every string is `prefix` + `bytes[ends[i-1]..ends[i]]`, and `heads[i]` is [`head`] of
/// what follows the prefix.
#[derive(Clone, Debug, Default)]
pub(crate) struct Packed {
    prefix: Box<[u8]>,
    bytes: Vec<u8>,
    ends: Vec<u32>,
    /// Most searches are decided by these numbers, which lie close together.
    heads: Vec<u64>,
}

/// Spare room that a growing buffer gets, bytes.
const BYTES_STEP: usize = 256;
/// Spare room that a growing list gets, items.
pub(crate) const ITEMS_STEP: usize = 8;

impl Packed {
    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    fn begin(&self, position: usize) -> usize {
        if position == 0 { 0 } else { self.ends[position - 1] as usize }
    }

    /// What follows the prefix in the string at `position`.
    pub(crate) fn suffix(&self, position: usize) -> &[u8] {
        &self.bytes[self.begin(position)..self.ends[position] as usize]
    }

    pub(crate) fn prefix(&self) -> &[u8] {
        &self.prefix
    }

    pub(crate) fn get(&self, position: usize) -> Vec<u8> {
        [self.prefix(), self.suffix(position)].concat()
    }

    /// The position of `key`, or where it would be inserted.
    pub(crate) fn search(&self, key: &[u8]) -> Result<usize, usize> {
        let shared = self.prefix.len().min(key.len());
        match key[..shared].cmp(&self.prefix[..shared]) {
            Ordering::Less => return Err(0),
            Ordering::Greater => return Err(self.len()),
            Ordering::Equal if key.len() < self.prefix.len() => return Err(0),
            Ordering::Equal => {}
        }
        let rest = &key[shared..];
        let rest_head = head(rest);
        let mut low = self.heads.partition_point(|&head| head < rest_head);
        let mut high = low + self.heads[low..].partition_point(|&head| head == rest_head);
        while low < high {
            let middle = low.midpoint(high);
            match self.suffix(middle).cmp(rest) {
                Ordering::Less => low = middle + 1,
                Ordering::Greater => high = middle,
                Ordering::Equal => return Ok(middle),
            }
        }
        Err(low)
    }

    /// Inserts `key` at `position`, where [`Self::search`] found its place.
    pub(crate) fn insert(&mut self, position: usize, key: &[u8]) {
        if !key.starts_with(&self.prefix) || self.ends.is_empty() {
            self.rebase(key);
        }
        let suffix = &key[self.prefix.len()..];
        let begin = self.begin(position);
        if self.bytes.capacity() - self.bytes.len() < suffix.len() {
            self.bytes.reserve_exact(suffix.len().max(BYTES_STEP.min(self.bytes.len())));
        }
        let old_len = self.bytes.len();
        self.bytes.extend_from_slice(suffix);
        self.bytes.copy_within(begin..old_len, begin + suffix.len());
        self.bytes[begin..begin + suffix.len()].copy_from_slice(suffix);
        let len = narrow(suffix.len());
        if self.ends.len() == self.ends.capacity() {
            self.ends.reserve_exact(ITEMS_STEP);
            self.heads.reserve_exact(ITEMS_STEP);
        }
        self.heads.insert(position, head(suffix));
        self.ends.insert(position, narrow(begin));
        for end in &mut self.ends[position..] {
            *end += len;
        }
    }

    /// Appends `key`, which is larger than all others.
    pub(crate) fn push(&mut self, key: &[u8]) {
        if !key.starts_with(&self.prefix) {
            self.rebase(key);
        }
        let suffix = &key[self.prefix.len()..];
        self.bytes.extend_from_slice(suffix);
        self.ends.push(narrow(self.bytes.len()));
        self.heads.push(head(suffix));
    }

    pub(crate) fn remove(&mut self, position: usize) {
        let (begin, end) = (self.begin(position), self.ends[position] as usize);
        self.bytes.drain(begin..end);
        self.ends.remove(position);
        self.heads.remove(position);
        for later in &mut self.ends[position..] {
            *later -= (end - begin) as u32;
        }
    }

    /// Makes the prefix one that `key` has too: all of `key` if there is nothing else yet.
    fn rebase(&mut self, key: &[u8]) {
        if self.ends.is_empty() {
            // A single key says nothing of what later ones share; a whole key as prefix would be
            // cut back at once.
            self.prefix = Box::default();
            self.bytes.clear();
            return;
        }
        let keep = shared_len(&self.prefix, key);
        self.set_prefix_len(keep);
    }

    /// Shortens the prefix to `len` bytes; the strings get what it loses.
    fn set_prefix_len(&mut self, len: usize) {
        let lost = self.prefix[len..].to_vec();
        let mut bytes = Vec::with_capacity(self.bytes.len() + self.len() * lost.len());
        for position in 0..self.len() {
            bytes.extend_from_slice(&lost);
            bytes.extend_from_slice(self.suffix(position));
        }
        for (position, end) in self.ends.iter_mut().enumerate() {
            *end += narrow((position + 1) * lost.len());
        }
        self.bytes = bytes;
        self.prefix = self.prefix[..len].into();
        self.heads = (0..self.len()).map(|position| head(self.suffix(position))).collect();
    }

    /// The strings `from..to`, with the longest prefix.
    fn part(&self, from: usize, to: usize) -> Self {
        let more =
            if to - from < 2 { 0 } else { shared_len(self.suffix(from), self.suffix(to - 1)) };
        let total = self.ends[to - 1] as usize - self.begin(from) - (to - from) * more;
        let mut part = Self {
            prefix: [self.prefix(), &self.suffix(from)[..more]].concat().into(),
            bytes: Vec::with_capacity(total),
            ends: Vec::with_capacity(to - from),
            heads: Vec::with_capacity(to - from),
        };
        for position in from..to {
            let suffix = &self.suffix(position)[more..];
            part.bytes.extend_from_slice(suffix);
            part.ends.push(narrow(part.bytes.len()));
            part.heads.push(head(suffix));
        }
        part
    }

    /// Takes the strings from `at` on away, as a list of their own. Both get the longest prefix.
    pub(crate) fn split_off(&mut self, at: usize) -> Self {
        let right = self.part(at, self.len());
        *self = self.part(0, at);
        right
    }

    /// The strings with the longest prefix and without spare room.
    pub(crate) fn tightened(&self) -> Self {
        if self.len() == 0 { Self::default() } else { self.part(0, self.len()) }
    }

    /// Forgets all strings and keeps the memory.
    pub(crate) fn clear(&mut self) {
        self.prefix = Box::default();
        self.bytes.clear();
        self.ends.clear();
        self.heads.clear();
    }

    /// Appends the strings of `other`, which are all larger.
    pub(crate) fn append(&mut self, other: &Self) {
        let mut all = Self::default();
        for part in [&*self, other] {
            (0..part.len()).for_each(|position| all.push(&part.get(position)));
        }
        *self = all.tightened();
    }

    /// Heap memory, bytes.
    pub(crate) fn heap_bytes(&self) -> usize {
        let lists =
            self.ends.capacity() * size_of::<u32>() + self.heads.capacity() * size_of::<u64>();
        self.prefix.len() + self.bytes.capacity() + lists
    }

    /// Bytes of the strings as they are stored.
    pub(crate) fn key_bytes(&self) -> usize {
        self.prefix.len() + self.bytes.len()
    }
}

fn narrow(bytes: usize) -> u32 {
    u32::try_from(bytes).expect("a node is far below 4 GiB")
}

/// The first eight bytes as a number that sorts alike; missing ones count as zero, so that equal
/// numbers decide nothing.
fn head(bytes: &[u8]) -> u64 {
    if let Some(first) = bytes.first_chunk() {
        return u64::from_be_bytes(*first);
    }
    let mut padded = [0; 8];
    padded[..bytes.len()].copy_from_slice(bytes);
    u64::from_be_bytes(padded)
}

/// Bytes that `a` and `b` begin with in common.
pub(crate) fn shared_len(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(packed: &Packed, want: &[&str]) {
        let got: Vec<_> =
            (0..packed.len()).map(|i| String::from_utf8(packed.get(i)).unwrap()).collect();
        assert_eq!(got, want);
        for (position, key) in want.iter().enumerate() {
            assert_eq!(packed.search(key.as_bytes()), Ok(position), "{key}");
        }
    }

    #[test]
    fn strings_keep_their_order_and_share_a_prefix() {
        let mut packed = Packed::default();
        for key in ["/a/c", "/a/e", "/a/a"] {
            let at = packed.search(key.as_bytes()).unwrap_err();
            packed.insert(at, key.as_bytes());
        }
        check(&packed, &["/a/a", "/a/c", "/a/e"]);
        let mut packed = packed.tightened();
        assert_eq!(packed.prefix(), b"/a/");
        check(&packed, &["/a/a", "/a/c", "/a/e"]);
        assert_eq!(packed.search(b"/a"), Err(0));
        assert_eq!(packed.search(b"/a/"), Err(0));
        assert_eq!(packed.search(b"/b"), Err(3));
        assert_eq!(packed.search(b"/a/b"), Err(1));
        packed.insert(3, b"/b");
        assert_eq!(packed.prefix(), b"/");
        check(&packed, &["/a/a", "/a/c", "/a/e", "/b"]);
        let right = packed.split_off(2);
        check(&packed, &["/a/a", "/a/c"]);
        check(&right, &["/a/e", "/b"]);
        packed.append(&right);
        packed.remove(1);
        check(&packed, &["/a/a", "/a/e", "/b"]);
    }
}
