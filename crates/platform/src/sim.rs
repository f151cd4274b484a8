//! A file system in memory that loses power, fails and fills up on command.
//!
//! What survives [`SimFs::crash`] follows what a real disk may do and no more:
//! - synced bytes are never damaged, and a sector of 512 bytes is never torn inside;
//! - of unsynced writes any mixture of sectors may survive, each as it was after some prefix of
//!   the writes to it;
//! - names (created, renamed, removed) survive in the order in which they were made, all that a
//!   [`Fs::sync_dir`] of their directory covered, and some prefix of the rest.

mod node;
mod tree;

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};

use crate::fs::{DirEntry, File, Fs, Open, Stat, already_locked};
use crate::random::{Random, SeededRandom};
use crate::sim::node::Node;
use crate::sim::tree::{Ino, Tree};

/// What a power loss does to data that was not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CrashMode {
    /// All of it is lost.
    LoseAll,
    /// All of it survives, as after `kill -9`.
    KeepAll,
    /// The seed decides, file by file and sector by sector.
    Random,
}

/// A simulated file system. Cloning gives another handle of the same one.
#[derive(Clone, Debug)]
pub struct SimFs(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    tree: Tree,
    random: SeededRandom,
    faults: Faults,
    counts: Counts,
    capacity_bytes: u64,
    handles_made: u64,
    /// What a power loss after each change would leave, if that is recorded.
    crashes: Option<Vec<(u64, Tree)>>,
}

#[derive(Debug, Default)]
struct Faults {
    /// Counts down to the sync that fails.
    syncs_until_failure: Option<u64>,
    /// Counts down to the write that fails.
    writes_until_failure: Option<u64>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    syncs: u64,
    writes: u64,
}

/// A file of a [`SimFs`].
#[derive(Debug)]
pub struct SimFile {
    fs: SimFs,
    ino: Ino,
    handle: u64,
    writable: bool,
}

impl SimFs {
    /// An empty file system; `seed` decides what a crash leaves.
    #[must_use]
    pub fn seeded(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(State {
            tree: Tree::new(),
            random: SeededRandom::new(seed),
            faults: Faults::default(),
            counts: Counts::default(),
            capacity_bytes: u64::MAX,
            handles_made: 0,
            crashes: None,
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A test that panics with the lock held has failed already; others may go on.
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Makes the `nth` sync of a file from now (1 = the next) fail with EIO. What that sync should
    /// have made durable never becomes so, although reads still show it, as on Linux.
    pub fn fail_sync(&self, nth: u64) {
        self.state().faults.syncs_until_failure = Some(nth);
    }

    /// Makes the `nth` write from now (1 = the next) fail with EIO.
    pub fn fail_write(&self, nth: u64) {
        self.state().faults.writes_until_failure = Some(nth);
    }

    /// Sets how many bytes all files together may have; more gives ENOSPC.
    pub fn set_capacity(&self, bytes: u64) {
        self.state().capacity_bytes = bytes;
    }

    /// Syncs of files so far, failed ones included.
    #[must_use]
    pub fn syncs(&self) -> u64 {
        self.state().counts.syncs
    }

    /// Writes so far, failed ones included.
    #[must_use]
    pub fn writes(&self) -> u64 {
        self.state().counts.writes
    }

    /// The file system as it is after a power loss at this moment, chosen by the seed. `self` and
    /// its open files go on unharmed, so that several futures can be tried.
    #[must_use]
    pub fn crash(&self) -> Self {
        self.crash_with(CrashMode::Random)
    }

    /// Like [`Self::crash`] with a choice of what is lost.
    #[must_use]
    pub fn crash_with(&self, mode: CrashMode) -> Self {
        let state = self.state();
        let (seed, tree) = state.after_crash(mode);
        let capacity_bytes = state.capacity_bytes;
        drop(state);
        let crashed = Self::of_tree(seed, tree);
        crashed.set_capacity(capacity_bytes);
        crashed
    }

    /// From now on keeps what a power loss right after each change (open, write, sync, rename, …)
    /// would leave, for [`Self::take_crashes`]: a crash test at every step, in one run.
    pub fn record_crashes(&self) {
        self.state().crashes.get_or_insert_default();
    }

    /// The file systems recorded since the last call.
    #[must_use]
    pub fn take_crashes(&self) -> Vec<Self> {
        let recorded = self.state().crashes.as_mut().map(std::mem::take).unwrap_or_default();
        recorded.into_iter().map(|(seed, tree)| Self::of_tree(seed, tree)).collect()
    }

    fn of_tree(seed: u64, tree: Tree) -> Self {
        let fs = Self::seeded(seed);
        fs.state().tree = tree;
        fs
    }

    /// Does a change and records a crash after it, whether it succeeds or not.
    fn change<T>(&self, change: impl FnOnce(&mut State) -> io::Result<T>) -> io::Result<T> {
        let mut state = self.state();
        let outcome = change(&mut state);
        if state.crashes.is_some() {
            let crash = state.after_crash(CrashMode::Random);
            state.crashes.get_or_insert_default().push(crash);
        }
        outcome
    }

    /// An independent copy in which everything is durable.
    #[must_use]
    pub fn image(&self) -> Self {
        self.crash_with(CrashMode::KeepAll)
    }

    /// Flips one bit of a file; bit 0 is the lowest bit of the first byte. Durable at once.
    pub fn flip_bit(&self, path: &Path, bit: u64) -> io::Result<()> {
        self.edit(path, |content| {
            let byte = usize::try_from(bit / 8).ok().and_then(|at| content.get_mut(at));
            *byte.ok_or(io::ErrorKind::InvalidInput)? ^= 1 << (bit % 8);
            Ok(())
        })
    }

    /// Cuts a file. Durable at once.
    pub fn truncate(&self, path: &Path, len: u64) -> io::Result<()> {
        self.edit(path, |content| {
            content.truncate(usize::try_from(len).unwrap_or(usize::MAX));
            Ok(())
        })
    }

    /// Replaces the content of a file. Durable at once.
    pub fn overwrite(&self, path: &Path, new: &[u8]) -> io::Result<()> {
        self.edit(path, |content| {
            *content = new.to_vec();
            Ok(())
        })
    }

    fn edit(
        &self,
        path: &Path,
        change: impl FnOnce(&mut Vec<u8>) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut state = self.state();
        let ino = state.tree.lookup(path)?;
        let file = state.tree.node_mut(ino).as_file_mut()?;
        let mut content = file.content().to_vec();
        change(&mut content)?;
        file.reset(content);
        Ok(())
    }
}

impl State {
    /// What a power loss leaves, and the seed of what comes after.
    fn after_crash(&self, mode: CrashMode) -> (u64, Tree) {
        let seed = self.random.next_u64();
        (seed, self.tree.after_crash(mode, &SeededRandom::new(seed)))
    }

    /// Counts a write and fails it if that was ordered.
    fn begin_write(&mut self) -> io::Result<()> {
        self.counts.writes += 1;
        countdown(&mut self.faults.writes_until_failure)
    }

    /// Opens a file and numbers the handle.
    fn open(&mut self, path: &Path, mode: Open) -> io::Result<(Ino, u64)> {
        let found = match self.tree.lookup(path) {
            Err(err) if err.kind() != io::ErrorKind::NotFound => return Err(err),
            found => found.ok(),
        };
        let ino = match (mode, found) {
            (Open::Read | Open::Write, None) => return Err(io::ErrorKind::NotFound.into()),
            (Open::CreateNew(_), Some(_)) => return Err(io::ErrorKind::AlreadyExists.into()),
            (Open::Read | Open::Write, Some(ino)) => ino,
            (Open::Create(_), Some(ino)) => {
                self.tree.node_mut(ino).as_file_mut()?.set_len(0);
                ino
            }
            (Open::Create(_) | Open::CreateNew(_), None) => self.tree.create_file(path)?,
        };
        self.tree.node(ino).as_file()?;
        self.handles_made += 1;
        Ok((ino, self.handles_made))
    }

    /// Fails if the file system would be larger than it may be.
    fn reserve(&self, ino: Ino, new_len: u64) -> io::Result<()> {
        let old_len = self.tree.node(ino).as_file()?.content().len() as u64;
        let used: u64 = self.tree.bytes_used();
        if used - old_len + new_len.max(old_len) > self.capacity_bytes {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }
}

/// Fails when the count of a fault reaches 0.
fn countdown(until_failure: &mut Option<u64>) -> io::Result<()> {
    match until_failure {
        None => Ok(()),
        Some(left) if *left > 1 => {
            *left -= 1;
            Ok(())
        }
        Some(_) => {
            *until_failure = None;
            Err(io::Error::from_raw_os_error(nix::libc::EIO))
        }
    }
}

impl Fs for SimFs {
    type File = SimFile;

    fn open(&self, path: &Path, mode: Open) -> io::Result<SimFile> {
        let (ino, handle) = self.change(|state| state.open(path, mode))?;
        Ok(SimFile { fs: self.clone(), ino, handle, writable: mode != Open::Read })
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.change(|state| state.tree.rename(from, to))
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.change(|state| {
            let ino = state.tree.lookup(path)?;
            state.tree.node(ino).as_file()?;
            state.tree.unlink(path)
        })
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        self.change(|state| {
            let ino = state.tree.lookup(path)?;
            match state.tree.node(ino) {
                Node::File(_) => Err(io::ErrorKind::NotADirectory.into()),
                Node::Dir => state.tree.unlink(path),
            }
        })
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        self.state().tree.list(dir)
    }

    fn create_dir_all(&self, dir: &Path, _permissions: u32) -> io::Result<()> {
        self.change(|state| state.tree.create_dir_all(dir))
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.change(|state| state.tree.sync_dir(dir))
    }

    fn stat(&self, path: &Path) -> io::Result<Stat> {
        let state = self.state();
        let ino = state.tree.lookup(path)?;
        Ok(match state.tree.node(ino) {
            Node::Dir => Stat { len: 0, is_dir: true },
            Node::File(file) => Stat { len: file.content().len() as u64, is_dir: false },
        })
    }

    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        let state = self.state();
        state.tree.lookup(path)?;
        Ok(state.capacity_bytes.saturating_sub(state.tree.bytes_used()))
    }
}

impl SimFile {
    fn check_writable(&self) -> io::Result<()> {
        if self.writable { Ok(()) } else { Err(io::Error::from_raw_os_error(nix::libc::EBADF)) }
    }

    fn sync(&self) -> io::Result<()> {
        self.fs.change(|state| {
            state.counts.syncs += 1;
            let outcome = countdown(&mut state.faults.syncs_until_failure);
            let file = state.tree.node_mut(self.ino).as_file_mut()?;
            match outcome {
                Ok(()) => file.sync(),
                Err(_) => file.forget_pending(),
            }
            outcome
        })
    }
}

impl File for SimFile {
    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<usize> {
        let state = self.fs.state();
        let content = state.tree.node(self.ino).as_file()?.content();
        let from = usize::try_from(offset).unwrap_or(usize::MAX).min(content.len());
        let n = into.len().min(content.len() - from);
        into[..n].copy_from_slice(&content[from..from + n]);
        Ok(n)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.check_writable()?;
        self.fs.change(|state| {
            state.begin_write()?;
            state.reserve(self.ino, offset + bytes.len() as u64)?;
            state.tree.node_mut(self.ino).as_file_mut()?.write(offset, bytes)
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        self.sync()
    }

    fn sync_all(&self) -> io::Result<()> {
        self.sync()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.check_writable()?;
        self.fs.change(|state| {
            state.reserve(self.ino, len)?;
            let len = usize::try_from(len).map_err(io::Error::other)?;
            state.tree.node_mut(self.ino).as_file_mut()?.set_len(len);
            Ok(())
        })
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        if self.len()? < len { self.set_len(len) } else { Ok(()) }
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.fs.state().tree.node(self.ino).as_file()?.content().len() as u64)
    }

    fn try_lock(&self) -> io::Result<()> {
        let mut state = self.fs.state();
        let file = state.tree.node_mut(self.ino).as_file_mut()?;
        if file.locked_by.is_some_and(|handle| handle != self.handle) {
            return Err(already_locked());
        }
        file.locked_by = Some(self.handle);
        Ok(())
    }
}

impl Drop for SimFile {
    fn drop(&mut self) {
        let mut state = self.fs.state();
        if let Ok(file) = state.tree.node_mut(self.ino).as_file_mut()
            && file.locked_by == Some(self.handle)
        {
            file.locked_by = None;
        }
    }
}

#[cfg(test)]
mod tests;
