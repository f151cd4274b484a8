//! Files of the simulated file system: what reads show, and what would survive.

use std::io;

use crate::random::{Random, SeededRandom};
use crate::sim::CrashMode;

/// The unit that a disk writes whole or not at all.
pub(super) const SECTOR_BYTES: usize = 512;

/// A file or a directory; the names in a directory live in the tree.
#[derive(Clone, Debug)]
pub(super) enum Node {
    Dir,
    File(FileNode),
}

impl Node {
    pub(super) fn as_file(&self) -> io::Result<&FileNode> {
        match self {
            Self::File(file) => Ok(file),
            Self::Dir => Err(io::ErrorKind::IsADirectory.into()),
        }
    }

    pub(super) fn as_file_mut(&mut self) -> io::Result<&mut FileNode> {
        match self {
            Self::File(file) => Ok(file),
            Self::Dir => Err(io::ErrorKind::IsADirectory.into()),
        }
    }
}

#[derive(Clone, Debug)]
enum Change {
    Write { offset: usize, bytes: Vec<u8> },
    SetLen(usize),
}

/// Content of one file.
///
/// Invariant: unless a sync failed, `durable` with `pending` applied in order is `current`.
#[derive(Clone, Debug, Default)]
pub(super) struct FileNode {
    current: Vec<u8>,
    durable: Vec<u8>,
    pending: Vec<Change>,
    /// The handle that holds the lock.
    pub(super) locked_by: Option<u64>,
}

impl FileNode {
    pub(super) fn content(&self) -> &[u8] {
        &self.current
    }

    /// Replaces the content, durably.
    pub(super) fn reset(&mut self, content: Vec<u8>) {
        self.durable.clone_from(&content);
        self.current = content;
        self.pending.clear();
    }

    pub(super) fn write(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let offset = usize::try_from(offset).map_err(io::Error::other)?;
        apply_write(&mut self.current, offset, bytes);
        self.pending.push(Change::Write { offset, bytes: bytes.to_vec() });
        Ok(())
    }

    pub(super) fn set_len(&mut self, len: usize) {
        self.current.resize(len, 0);
        self.pending.push(Change::SetLen(len));
    }

    /// Makes everything written so far durable.
    pub(super) fn sync(&mut self) {
        for change in self.pending.drain(..) {
            apply(&mut self.durable, &change);
        }
    }

    /// A sync failed: the system drops the dirty pages, so no later sync writes them.
    pub(super) fn forget_pending(&mut self) {
        self.pending.clear();
    }

    /// The file as a power loss leaves it.
    pub(super) fn after_crash(&self, mode: CrashMode, random: &SeededRandom) -> Self {
        let mut content = self.durable.clone();
        match mode {
            CrashMode::LoseAll => {}
            CrashMode::KeepAll => content.clone_from(&self.current),
            CrashMode::Random => match random.below(4) {
                0 => {}
                1 => self.pending.iter().for_each(|change| apply(&mut content, change)),
                _ => self.tear(&mut content, random),
            },
        }
        Self { current: content.clone(), durable: content, pending: Vec::new(), locked_by: None }
    }

    /// Applies a random prefix of the changes whole, and of the writes behind it (up to the next
    /// change of length) a random choice of sectors.
    fn tear(&self, content: &mut Vec<u8>, random: &SeededRandom) {
        let n_whole = usize::try_from(random.below(self.pending.len() as u64 + 1)).unwrap_or(0);
        let (whole, rest) = self.pending.split_at(n_whole);
        whole.iter().for_each(|change| apply(content, change));
        let torn: Vec<(usize, &[u8])> = rest
            .iter()
            .map_while(|change| match change {
                Change::Write { offset, bytes } => Some((*offset, &bytes[..])),
                Change::SetLen(_) => None,
            })
            .collect();
        let end = torn.iter().map(|(offset, bytes)| offset + bytes.len()).max().unwrap_or(0);
        for sector in 0..end.div_ceil(SECTOR_BYTES) {
            let (from, to) = (sector * SECTOR_BYTES, (sector + 1) * SECTOR_BYTES);
            let n_writes = usize::try_from(random.below(torn.len() as u64 + 1)).unwrap_or(0);
            for (offset, bytes) in &torn[..n_writes] {
                let (start, stop) = ((*offset).max(from), (offset + bytes.len()).min(to));
                if start < stop {
                    apply_write(content, start, &bytes[start - offset..stop - offset]);
                }
            }
        }
    }
}

fn apply(content: &mut Vec<u8>, change: &Change) {
    match change {
        Change::Write { offset, bytes } => apply_write(content, *offset, bytes),
        Change::SetLen(len) => content.resize(*len, 0),
    }
}

fn apply_write(content: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    let end = offset + bytes.len();
    if content.len() < end {
        content.resize(end, 0);
    }
    content[offset..end].copy_from_slice(bytes);
}
