//! Sending a database.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use etcdrs_platform::{File as _, Fs, Open};
use etcdrs_types::{LogIndex, Term};

use super::dirs::DbDirs;
use super::manifest::{DbFile, Manifest, is_database_file};
use super::{DbError, Temporary, failed};

/// Bytes read and sent at once.
pub const CHUNK_BYTES: usize = 256 << 10;

/// A checkpoint that is sent, to one peer or to several. It goes away with this value. All calls
/// wait for the disk, so does the drop.
#[derive(Debug)]
pub struct OutgoingDb<F: Fs> {
    dir: Temporary<F>,
    manifest: Manifest,
    head: Bytes,
}

impl<F: Fs> OutgoingDb<F> {
    /// Takes over the checkpoint in `dir`, whose newest applied entry is `index` of `term`. Reads
    /// all of it once, for the checksums.
    ///
    /// # Errors
    ///
    /// If the files cannot be read, or are more than a stream may have.
    pub fn open(
        dirs: &DbDirs<F>,
        dir: PathBuf,
        index: LogIndex,
        term: Term,
    ) -> Result<Self, DbError> {
        let dir = Temporary::new(dirs.fs.clone(), dir);
        let mut files = Vec::new();
        for entry in dirs.fs.list(&dir.path).map_err(failed("list", &dir.path))? {
            let Ok(name) = entry.name.into_string() else { continue };
            if !entry.is_dir && is_database_file(&name) {
                files.push(measure(&dirs.fs, &dir.path, name)?);
            }
        }
        let manifest = Manifest { index, term, files };
        manifest.check().map_err(|source| DbError::Content { path: dir.path.clone(), source })?;
        let head = manifest.encode_head().into();
        Ok(Self { dir, manifest, head })
    }

    /// What is sent.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Bytes of the whole stream.
    #[must_use]
    pub fn stream_bytes(&self) -> u64 {
        self.head.len() as u64 + self.manifest.total_bytes()
    }

    /// The stream, from its beginning.
    #[must_use]
    pub fn reader(self: &Arc<Self>) -> OutgoingReader<F> {
        OutgoingReader { db: Arc::clone(self), began: false, at: 0, file: None, offset: 0 }
    }
}

/// Size and checksum of one file.
fn measure<F: Fs>(fs: &F, dir: &Path, name: String) -> Result<DbFile, DbError> {
    let path = dir.join(&name);
    let read = || {
        let file = fs.open(&path, Open::Read)?;
        let (size, mut crc32c, mut offset) = (file.len()?, 0, 0);
        let mut chunk = vec![0; CHUNK_BYTES];
        while offset < size {
            let chunk = part(&mut chunk, size - offset);
            file.read_exact_at(chunk, offset)?;
            crc32c = crc32c::crc32c_append(crc32c, chunk);
            offset += chunk.len() as u64;
        }
        Ok((size, crc32c))
    };
    let (size, crc32c) = read().map_err(failed("read", &path))?;
    Ok(DbFile { name, size, crc32c })
}

fn part(chunk: &mut [u8], left: u64) -> &mut [u8] {
    let n = usize::try_from(left).unwrap_or(usize::MAX).min(chunk.len());
    &mut chunk[..n]
}

/// One peer's walk over an [`OutgoingDb`].
#[derive(Debug)]
pub struct OutgoingReader<F: Fs> {
    db: Arc<OutgoingDb<F>>,
    began: bool,
    /// The file that is read, by its place in the manifest.
    at: usize,
    file: Option<F::File>,
    offset: u64,
}

impl<F: Fs> OutgoingReader<F> {
    /// The next piece of the stream, of at most [`CHUNK_BYTES`] but for the first; `None` at the
    /// end.
    ///
    /// # Errors
    ///
    /// If a file cannot be read.
    pub fn next_chunk(&mut self) -> Result<Option<Bytes>, DbError> {
        if !self.began {
            self.began = true;
            return Ok(Some(self.db.head.clone()));
        }
        while let Some(DbFile { name, size, .. }) = self.db.manifest.files.get(self.at) {
            if self.offset == *size {
                (self.at, self.file, self.offset) = (self.at + 1, None, 0);
                continue;
            }
            let path = self.db.dir.path.join(name);
            let mut chunk = vec![0; CHUNK_BYTES];
            let n = part(&mut chunk, size - self.offset).len();
            chunk.truncate(n);
            let file = match self.file.take() {
                Some(file) => file,
                None => self.db.dir.fs.open(&path, Open::Read).map_err(failed("open", &path))?,
            };
            file.read_exact_at(&mut chunk, self.offset).map_err(failed("read", &path))?;
            self.file = Some(file);
            self.offset += n as u64;
            return Ok(Some(chunk.into()));
        }
        Ok(None)
    }
}
