//! What the storage crates need of a file system, as two small traits.

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// How to open a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Open {
    /// An existing file, for reading only.
    Read,
    /// An existing file, for reading and writing.
    Write,
    /// For reading and writing; created with these permission bits, or cut to nothing if it
    /// exists. The process umask applies.
    Create(u32),
    /// For reading and writing; created with these permission bits, an error if it exists.
    CreateNew(u32),
}

/// What [`Fs::stat`] tells about a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// Length of a file in bytes; unspecified for a directory.
    pub len: u64,
    /// Whether the path is a directory.
    pub is_dir: bool,
}

/// One name in a directory.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DirEntry {
    /// The last component of the path.
    pub name: OsString,
    /// Whether it is a directory.
    pub is_dir: bool,
}

/// A file system. Cloning gives another handle of the same one.
///
/// Nothing is durable until it is synced: the content of a file by [`File::sync_data`], its name
/// by [`Fs::sync_dir`] of its directory.
pub trait Fs: Clone + fmt::Debug + Send + Sync + 'static {
    /// An open file.
    type File: File;

    /// Opens the file at `path`.
    fn open(&self, path: &Path, mode: Open) -> io::Result<Self::File>;

    /// Renames atomically; an existing file at `to` is replaced.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file.
    fn remove_file(&self, path: &Path) -> io::Result<()>;

    /// Removes a directory and everything below it.
    fn remove_dir_all(&self, path: &Path) -> io::Result<()>;

    /// The names in a directory, sorted.
    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>>;

    /// Creates a directory and the missing ones above it with these permission bits.
    fn create_dir_all(&self, dir: &Path, permissions: u32) -> io::Result<()>;

    /// Makes the names in a directory durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;

    /// What lies at `path`; an error of kind `NotFound` if nothing does.
    fn stat(&self, path: &Path) -> io::Result<Stat>;

    /// Bytes that an ordinary user can still write on the file system that holds `path`.
    fn free_bytes(&self, path: &Path) -> io::Result<u64>;

    /// Whether something lies at `path`.
    fn exists(&self, path: &Path) -> io::Result<bool> {
        match self.stat(path) {
            Ok(_) => Ok(true),
            Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(err) => Err(err),
        }
    }

    /// The whole content of a file.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let file = self.open(path, Open::Read)?;
        let len = usize::try_from(file.len()?).map_err(io::Error::other)?;
        let mut content = vec![0; len];
        let n_read = read_up_to(&file, &mut content, 0)?;
        content.truncate(n_read);
        Ok(content)
    }

    /// Renames and makes the new name durable. The content must be synced already.
    fn rename_durable(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.rename(from, to)?;
        self.sync_dir(parent(to))
    }

    /// Replaces the content of `path` so that after a crash either the old or the new content is
    /// there whole: writes `<path>.tmp`, syncs, renames, syncs the directory.
    fn write_durable(&self, path: &Path, content: &[u8], permissions: u32) -> io::Result<()> {
        let mut temporary = path.as_os_str().to_owned();
        temporary.push(".tmp");
        let temporary = PathBuf::from(temporary);
        let write = || {
            let file = self.open(&temporary, Open::Create(permissions))?;
            file.write_at(content, 0)?;
            file.sync_all()?;
            self.rename_durable(&temporary, path)
        };
        write().inspect_err(|_| {
            // The first error is the one that counts; a leftover is removed by the next attempt.
            let _ = self.remove_file(&temporary);
        })
    }
}

/// An open file. All positions are absolute, so a file needs no cursor and can be shared.
pub trait File: fmt::Debug + Send + Sync + 'static {
    /// Reads into `into` and says how many bytes; fewer than asked for only at the end of the
    /// file or when the system chose so.
    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes all of `bytes`; the file grows if needed.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Makes the content durable, and of the rest what is needed to read it back.
    fn sync_data(&self) -> io::Result<()>;

    /// Makes content and all attributes durable.
    fn sync_all(&self) -> io::Result<()>;

    /// Cuts the file or extends it with zeros.
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// Reserves space so that the file is at least `len` bytes long; new bytes read as zeros.
    /// Where the file system cannot reserve, the file is only extended.
    fn allocate(&self, len: u64) -> io::Result<()>;

    /// Length in bytes.
    fn len(&self) -> io::Result<u64>;

    /// Whether the file has no bytes.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Takes the exclusive lock of the file for as long as this handle lives. An error of kind
    /// `WouldBlock` with the text `file already locked` if another handle has it, in this process
    /// or in another one.
    fn try_lock(&self) -> io::Result<()>;

    /// Fills `into` from `offset`; an error of kind `UnexpectedEof` if the file ends before.
    fn read_exact_at(&self, into: &mut [u8], offset: u64) -> io::Result<()> {
        if read_up_to(self, into, offset)? < into.len() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(())
    }
}

/// Reads until `into` is full or the file ends.
fn read_up_to<F: File + ?Sized>(file: &F, into: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut n_read = 0;
    while n_read < into.len() {
        match file.read_at(&mut into[n_read..], offset + n_read as u64) {
            Ok(0) => break,
            Ok(n) => n_read += n,
            Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
            Err(err) => return Err(err),
        }
    }
    Ok(n_read)
}

/// The directory of a path; the current directory for a bare name.
pub(crate) fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// The error of [`File::try_lock`] on a locked file (etcd's text, storage-and-raft.md §1.11).
pub(crate) fn already_locked() -> io::Error {
    io::Error::new(io::ErrorKind::WouldBlock, "file already locked")
}
