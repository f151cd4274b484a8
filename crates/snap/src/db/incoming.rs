//! Receiving a database.

use std::path::{Path, PathBuf};

use etcdrs_platform::{File as _, Fs, Open};

use super::dirs::{DIR_PERMISSIONS, DbDirs};
use super::manifest::{HeadReader, Manifest, ManifestError};
use super::{DbError, Temporary, failed};

/// Permissions of files, before the umask.
const FILE_PERMISSIONS: u32 = 0o600;

/// Why a database could not be received.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IncomingError {
    /// This member's disk refused.
    #[error(transparent)]
    Local(#[from] DbError),
    /// There is not enough room for it.
    #[error("a database of {needed} bytes does not fit into the {free} bytes that are free")]
    Space {
        /// Bytes of the database.
        needed: u64,
        /// Bytes free.
        free: u64,
    },
    /// What the stream begins with is not accepted.
    #[error("stream refused")]
    Manifest(#[from] ManifestError),
    /// A file arrived damaged.
    #[error("file {name} has a wrong checksum")]
    Checksum {
        /// The file.
        name: String,
    },
    /// More came than the manifest says.
    #[error("the stream goes on behind its last file")]
    Surplus,
    /// The stream ended early, or something else went wrong before.
    #[error("the stream is not complete")]
    Incomplete,
}

/// A database on its way in. Dropped before [`Self::finish`], it leaves nothing. All calls wait
/// for the disk.
#[derive(Debug)]
pub struct IncomingDb<F: Fs> {
    dirs: DbDirs<F>,
    stage: Stage<F>,
}

#[derive(Debug)]
enum Stage<F: Fs> {
    Head(HeadReader),
    Files(Files<F>),
    /// Nothing more is taken.
    Failed,
}

impl<F: Fs> IncomingDb<F> {
    /// Begins to receive.
    #[must_use]
    pub fn new(dirs: DbDirs<F>) -> Self {
        Self { dirs, stage: Stage::Head(HeadReader::default()) }
    }

    /// What is being received, once that is known.
    #[must_use]
    pub fn manifest(&self) -> Option<&Manifest> {
        match &self.stage {
            Stage::Files(files) => Some(&files.manifest),
            Stage::Head(_) | Stage::Failed => None,
        }
    }

    /// Takes the next bytes of the stream, as many as there are.
    ///
    /// # Errors
    ///
    /// See [`IncomingError`]. Any of them is the end of this transfer.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), IncomingError> {
        let result = self.take(bytes);
        if result.is_err() {
            self.stage = Stage::Failed;
        }
        result
    }

    fn take(&mut self, mut bytes: &[u8]) -> Result<(), IncomingError> {
        if let Stage::Head(head) = &mut self.stage {
            let Some(manifest) = head.take(&mut bytes)? else { return Ok(()) };
            self.stage = Stage::Files(Files::begin(&self.dirs, manifest)?);
        }
        match &mut self.stage {
            Stage::Files(files) => files.write(bytes),
            Stage::Head(_) | Stage::Failed => Err(IncomingError::Incomplete),
        }
    }

    /// The stream has ended: everything is there, intact and durable.
    ///
    /// # Errors
    ///
    /// [`IncomingError::Incomplete`] if something is missing, and if the disk refuses.
    pub fn finish(self) -> Result<ReceivedDb<F>, IncomingError> {
        let Self { dirs, stage } = self;
        let Stage::Files(files) = stage else { return Err(IncomingError::Incomplete) };
        if files.open.is_some() {
            return Err(IncomingError::Incomplete);
        }
        let Files { dir, manifest, .. } = files;
        dirs.fs.sync_dir(&dir.path).map_err(failed("sync", &dir.path))?;
        Ok(ReceivedDb { dirs, dir, manifest })
    }
}

/// The files of a stream, written one after the other.
#[derive(Debug)]
struct Files<F: Fs> {
    dir: Temporary<F>,
    manifest: Manifest,
    /// The file that the next bytes belong to; `None` behind the last one.
    open: Option<OpenFile<F>>,
}

#[derive(Debug)]
struct OpenFile<F: Fs> {
    /// Its place in the manifest.
    at: usize,
    file: F::File,
    path: PathBuf,
    written: u64,
    crc32c: u32,
}

impl<F: Fs> Files<F> {
    fn begin(dirs: &DbDirs<F>, manifest: Manifest) -> Result<Self, IncomingError> {
        let free = dirs.fs.free_bytes(dirs.dir()).map_err(failed("measure", dirs.dir()))?;
        let needed = manifest.total_bytes();
        if needed > free {
            return Err(IncomingError::Space { needed, free });
        }
        let path = dirs.incoming_path(manifest.index);
        if dirs.fs.exists(&path).map_err(failed("look at", &path))? {
            return Err(DbError::Exists { index: manifest.index }.into());
        }
        dirs.fs.create_dir_all(&path, DIR_PERMISSIONS).map_err(failed("create", &path))?;
        let dir = Temporary::new(dirs.fs.clone(), path);
        let open = Some(OpenFile::create(&dir, &manifest, 0)?);
        let mut files = Self { dir, manifest, open };
        files.close_full()?;
        Ok(files)
    }

    fn write(&mut self, mut bytes: &[u8]) -> Result<(), IncomingError> {
        while !bytes.is_empty() {
            let Some(open) = &mut self.open else { return Err(IncomingError::Surplus) };
            let left = self.manifest.files[open.at].size - open.written;
            let n = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
            let (now, later) = bytes.split_at(n);
            open.write(now)?;
            bytes = later;
            self.close_full()?;
        }
        Ok(())
    }

    /// Ends the open file if it has all its bytes, and opens the next one.
    fn close_full(&mut self) -> Result<(), IncomingError> {
        while let Some(open) = &self.open {
            let wanted = &self.manifest.files[open.at];
            if open.written < wanted.size {
                return Ok(());
            }
            if open.crc32c != wanted.crc32c {
                return Err(IncomingError::Checksum { name: wanted.name.clone() });
            }
            open.file.sync_all().map_err(failed("sync", &open.path))?;
            let next = open.at + 1;
            self.open = match self.manifest.files.len() {
                len if next < len => Some(OpenFile::create(&self.dir, &self.manifest, next)?),
                _ => None,
            };
        }
        Ok(())
    }
}

impl<F: Fs> OpenFile<F> {
    fn create(dir: &Temporary<F>, manifest: &Manifest, at: usize) -> Result<Self, DbError> {
        let path = dir.path.join(&manifest.files[at].name);
        let mode = Open::CreateNew(FILE_PERMISSIONS);
        let file = dir.fs.open(&path, mode).map_err(failed("create", &path))?;
        Ok(Self { at, file, path, written: 0, crc32c: 0 })
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), DbError> {
        self.file.write_at(bytes, self.written).map_err(failed("write", &self.path))?;
        self.written += bytes.len() as u64;
        self.crc32c = crc32c::crc32c_append(self.crc32c, bytes);
        Ok(())
    }
}

/// A database that arrived whole. It goes away with this value unless it is kept: look into it
/// first.
#[derive(Debug)]
pub struct ReceivedDb<F: Fs> {
    dirs: DbDirs<F>,
    dir: Temporary<F>,
    manifest: Manifest,
}

impl<F: Fs> ReceivedDb<F> {
    /// Where it lies.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir.path
    }

    /// What it is said to be.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Gives it its name among the databases, durably, and returns its directory. Nothing else
    /// changes: that is for [`DbDirs::switch_to`].
    ///
    /// # Errors
    ///
    /// [`DbError::Live`] if the database in use is the one of this index, and if the disk refuses.
    pub fn keep(mut self) -> Result<PathBuf, DbError> {
        let (fs, from) = (self.dirs.fs.clone(), self.dir.path.clone());
        let to = self.dirs.received_path(self.manifest.index);
        if self.dirs.live()? == to {
            return Err(DbError::Live { path: to });
        }
        if self.dirs.received(self.manifest.index)?.is_some() {
            // Kept before, and not installed for some reason.
            fs.remove_dir_all(&to).map_err(failed("remove", &to))?;
        }
        fs.rename_durable(&from, &to).map_err(failed("rename", &from))?;
        self.dir.kept = true;
        Ok(to)
    }
}
