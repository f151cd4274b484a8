//! Names of segments, and which of them are in a directory (storage-and-raft.md §1.1).

use std::path::{Path, PathBuf};

use etcdrs_platform::Fs;
use etcdrs_types::LogIndex;

use crate::error::OpenError;

/// Permissions of segments.
pub(crate) const FILE_PERMISSIONS: u32 = 0o600;
/// Permissions of the directory.
pub(crate) const DIR_PERMISSIONS: u32 = 0o700;

/// The name of a segment: its place in the sequence, and the first index it may contain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Name {
    pub(crate) sequence: u64,
    pub(crate) first: LogIndex,
}

impl Name {
    pub(crate) fn file_name(self) -> String {
        format!("{:016x}-{:016x}.wal", self.sequence, self.first.0)
    }

    pub(crate) fn path(self, dir: &Path) -> PathBuf {
        dir.join(self.file_name())
    }

    /// Reads a name; only the form that [`Self::file_name`] makes.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (sequence, first) = text.strip_suffix(".wal")?.split_once('-')?;
        let sequence = u64::from_str_radix(sequence, 16).ok()?;
        let first = LogIndex(u64::from_str_radix(first, 16).ok()?);
        let name = Self { sequence, first };
        (name.file_name() == text).then_some(name)
    }
}

/// The segments in `dir`, in order. Strange names are warned about and skipped.
pub(crate) fn list<F: Fs>(fs: &F, dir: &Path) -> Result<Vec<Name>, OpenError> {
    let entries = match fs.list(dir) {
        Ok(entries) => entries,
        Err(err) if err.kind() == std::io::ErrorKind::NotFound => return Err(OpenError::NotFound),
        Err(source) => return Err(OpenError::Io { path: dir.to_owned(), source }),
    };
    let mut names = Vec::new();
    for entry in entries {
        let text = entry.name.to_string_lossy();
        match Name::parse(&text) {
            Some(name) => names.push(name),
            // Spares and set-aside copies are ours.
            None if text.ends_with(".tmp") || text.ends_with(".broken") => {}
            None => {
                tracing::warn!(path = %dir.join(&entry.name).display(), "ignored file in WAL directory")
            }
        }
    }
    names.sort();
    if names.is_empty() { Err(OpenError::NotFound) } else { Ok(names) }
}

/// The segments needed to read from `index` on: from the last one that may begin with it.
pub(crate) fn from_index(names: &[Name], index: LogIndex) -> Result<&[Name], OpenError> {
    let at = names.iter().rposition(|name| name.first <= index);
    continuous(&names[at.ok_or(OpenError::NoSegmentFor { index })?..])
}

/// Fails if a segment is missing in the middle.
pub(crate) fn continuous(names: &[Name]) -> Result<&[Name], OpenError> {
    let is_gap = |pair: &[Name]| pair[0].sequence.checked_add(1) != Some(pair[1].sequence);
    if names.windows(2).any(is_gap) {
        return Err(OpenError::SequenceGap { first: names[0].sequence });
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sr_1_1_names() {
        let name = Name { sequence: 0x1a, first: LogIndex(0xdead_beef) };
        assert_eq!(name.file_name(), "000000000000001a-00000000deadbeef.wal");
        assert_eq!(Name::parse("000000000000001a-00000000deadbeef.wal"), Some(name));
        for strange in
            ["1a-deadbeef.wal", "000000000000001A-0000000000000000.wal", "0.tmp", ".wal", "a.wal"]
        {
            assert_eq!(Name::parse(strange), None, "{strange}");
        }
    }

    #[test]
    fn sr_1_8_the_segments_to_read() {
        let name = |sequence, first| Name { sequence, first: LogIndex(first) };
        let names = [name(3, 10), name(4, 20), name(5, 20), name(6, 30)];
        assert_eq!(from_index(&names, LogIndex(25)).unwrap(), &names[2..]);
        assert_eq!(from_index(&names, LogIndex(10)).unwrap(), &names[..]);
        assert!(matches!(from_index(&names, LogIndex(9)), Err(OpenError::NoSegmentFor { .. })));
        let holed = [name(3, 10), name(5, 20)];
        assert!(matches!(
            from_index(&holed, LogIndex(10)),
            Err(OpenError::SequenceGap { first: 3 })
        ));
        assert!(from_index(&holed, LogIndex(20)).is_ok());
    }
}
