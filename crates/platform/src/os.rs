//! The operating system's file system.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::Path;

use nix::libc;
use rustix::fs::{FallocateFlags, FlockOperation};
use rustix::io::Errno;

use crate::fs::{DirEntry, File, Fs, Open, Stat, already_locked};

/// The real file system.
#[derive(Clone, Copy, Debug, Default)]
pub struct OsFs;

/// A file of the real file system.
#[derive(Debug)]
pub struct OsFile(fs::File);

impl Fs for OsFs {
    type File = OsFile;

    fn open(&self, path: &Path, mode: Open) -> io::Result<OsFile> {
        let mut options = fs::OpenOptions::new();
        options.read(true);
        match mode {
            Open::Read => {}
            Open::Write => {
                options.write(true);
            }
            Open::Create(permissions) => {
                options.write(true).create(true).truncate(true).mode(permissions);
            }
            Open::CreateNew(permissions) => {
                options.write(true).create_new(true).mode(permissions);
            }
        }
        options.open(path).map(OsFile)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir_all(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            entries.push(DirEntry { name: entry.file_name(), is_dir: entry.file_type()?.is_dir() });
        }
        entries.sort();
        Ok(entries)
    }

    fn create_dir_all(&self, dir: &Path, permissions: u32) -> io::Result<()> {
        fs::DirBuilder::new().recursive(true).mode(permissions).create(dir)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        fs::File::open(dir)?.sync_all()
    }

    fn stat(&self, path: &Path) -> io::Result<Stat> {
        let metadata = fs::metadata(path)?;
        Ok(Stat { len: metadata.len(), is_dir: metadata.is_dir() })
    }

    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        let stat = rustix::fs::statvfs(path)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }
}

impl File for OsFile {
    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<usize> {
        FileExt::read_at(&self.0, into, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn sync_all(&self) -> io::Result<()> {
        self.0.sync_all()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        // The same two errors as in etcd mean "cannot reserve here" (storage-and-raft.md §1.1).
        match rustix::fs::fallocate(&self.0, FallocateFlags::empty(), 0, len) {
            Ok(()) => Ok(()),
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INTR) => {
                if self.len()? < len {
                    self.set_len(len)
                } else {
                    Ok(())
                }
            }
            Err(err) => Err(err.into()),
        }
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn try_lock(&self) -> io::Result<()> {
        let whole_file = libc::flock {
            l_type: libc::F_WRLCK as libc::c_short,
            l_whence: libc::SEEK_SET as libc::c_short,
            l_start: 0,
            l_len: 0,
            l_pid: 0,
        };
        match nix::fcntl::fcntl(&self.0, nix::fcntl::FcntlArg::F_OFD_SETLK(&whole_file)) {
            Ok(_) => Ok(()),
            Err(nix::Error::EAGAIN | nix::Error::EACCES) => Err(already_locked()),
            // File systems and kernels without open-file-description locks.
            Err(nix::Error::EINVAL | nix::Error::ENOSYS | nix::Error::EOPNOTSUPP) => {
                match rustix::fs::flock(&self.0, FlockOperation::NonBlockingLockExclusive) {
                    Ok(()) => Ok(()),
                    Err(Errno::AGAIN) => Err(already_locked()),
                    Err(err) => Err(err.into()),
                }
            }
            Err(err) => Err(err.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locks_exclude_other_handles_of_the_same_process() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let first = OsFs.open(&path, Open::Create(0o600)).unwrap();
        let second = OsFs.open(&path, Open::Write).unwrap();
        first.try_lock().unwrap();
        let refused = second.try_lock().unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::WouldBlock);
        assert_eq!(refused.to_string(), "file already locked");
        drop(first);
        second.try_lock().unwrap();
    }

    #[test]
    fn files_keep_what_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b");
        OsFs.create_dir_all(path.parent().unwrap(), 0o700).unwrap();
        assert!(!OsFs.exists(&path).unwrap());
        OsFs.write_durable(&path, b"hello", 0o600).unwrap();
        assert_eq!(OsFs.read(&path).unwrap(), b"hello");
        let file = OsFs.open(&path, Open::Write).unwrap();
        file.allocate(4096).unwrap();
        assert_eq!(file.len().unwrap(), 4096);
        file.set_len(3).unwrap();
        assert_eq!(OsFs.read(&path).unwrap(), b"hel");
        assert_eq!(
            file.read_exact_at(&mut [0; 4], 0).unwrap_err().kind(),
            io::ErrorKind::UnexpectedEof
        );
        let names = OsFs.list(path.parent().unwrap()).unwrap();
        assert_eq!(names, [DirEntry { name: "b".into(), is_dir: false }]);
        assert!(OsFs.free_bytes(&path).unwrap() > 0);
    }
}
