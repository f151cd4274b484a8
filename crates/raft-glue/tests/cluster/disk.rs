//! A disk whose syncs can be held up.

use std::io;
use std::path::Path;
use std::sync::Arc;

use etcdrs_platform::{DirEntry, File, Fs, Open, OsFile, OsFs, Stat};
use parking_lot::{Condvar, Mutex};

/// The machine's disk. While it is held, a sync does not return.
#[derive(Clone, Debug, Default)]
pub(crate) struct Disk(Arc<Gate>);

#[derive(Debug, Default)]
struct Gate {
    held: Mutex<bool>,
    changed: Condvar,
}

impl Disk {
    /// Holds syncs up from now on, or lets them go.
    pub(crate) fn hold(&self, held: bool) {
        *self.0.held.lock() = held;
        self.0.changed.notify_all();
    }
}

impl Gate {
    fn pass(&self) {
        let mut held = self.held.lock();
        self.changed.wait_while(&mut held, |held| *held);
    }
}

#[derive(Debug)]
pub(crate) struct HeldFile {
    file: OsFile,
    gate: Arc<Gate>,
}

impl Fs for Disk {
    type File = HeldFile;

    fn open(&self, path: &Path, mode: Open) -> io::Result<HeldFile> {
        Ok(HeldFile { file: OsFs.open(path, mode)?, gate: Arc::clone(&self.0) })
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        OsFs.rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        OsFs.remove_file(path)
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        OsFs.remove_dir_all(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        OsFs.list(dir)
    }

    fn create_dir_all(&self, dir: &Path, permissions: u32) -> io::Result<()> {
        OsFs.create_dir_all(dir, permissions)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        OsFs.sync_dir(dir)
    }

    fn stat(&self, path: &Path) -> io::Result<Stat> {
        OsFs.stat(path)
    }

    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        OsFs.free_bytes(path)
    }
}

impl File for HeldFile {
    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(into, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_at(bytes, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.gate.pass();
        self.file.sync_data()
    }

    fn sync_all(&self) -> io::Result<()> {
        self.gate.pass();
        self.file.sync_all()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        self.file.allocate(len)
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn try_lock(&self) -> io::Result<()> {
        self.file.try_lock()
    }
}
