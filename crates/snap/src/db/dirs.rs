//! Where databases lie, and which of them is the one in use.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use etcdrs_platform::{Fs, fp};
use etcdrs_types::LogIndex;

use super::{DbError, failed};

/// The pointer file: names the directory of the database in use. Without it that is [`FIRST_DB`].
const POINTER: &str = "CURRENT-DB";
/// What a crash may leave of a pointer that was not put in place.
const POINTER_TMP: &str = "CURRENT-DB.tmp";
/// The database that a member begins with.
const FIRST_DB: &str = "db";
/// Received databases: the prefix and their index, 16 hex digits.
const RECEIVED_PREFIX: &str = "db-";
/// Databases that are being received.
const INCOMING_PREFIX: &str = "incoming-";
/// Checkpoints that are being sent.
const SENDING_PREFIX: &str = "sending-";

/// Permissions of the pointer file, before the umask.
const FILE_PERMISSIONS: u32 = 0o666;
/// Permissions of directories.
pub(super) const DIR_PERMISSIONS: u32 = 0o700;

/// The databases of one member, in its snapshot directory.
///
/// Invariant: the pointer file names a database that was whole and synced before; the change from
/// one to the next is one rename.
#[derive(Clone, Debug)]
pub struct DbDirs<F: Fs> {
    pub(super) fs: F,
    dir: PathBuf,
    sends: Arc<AtomicU64>,
}

impl<F: Fs> DbDirs<F> {
    /// The databases in the snapshot directory `dir`, `<data>/member/snap`, which must exist.
    #[must_use]
    pub fn new(fs: F, dir: &Path) -> Self {
        Self { fs, dir: dir.to_owned(), sends: Arc::default() }
    }

    /// The snapshot directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The directory of the database in use. On the first start there is nothing in it yet.
    ///
    /// # Errors
    ///
    /// [`DbError::Pointer`] and [`DbError::Missing`] mean that this disk is damaged: what else lies
    /// there must not be opened in its place.
    pub fn live(&self) -> Result<PathBuf, DbError> {
        let pointer = self.dir.join(POINTER);
        let name = match self.fs.read(&pointer) {
            Ok(content) => parse_pointer(&content).ok_or(DbError::Pointer { path: pointer })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let first = self.dir.join(FIRST_DB);
                // The first database goes only after a pointer names another one.
                if !self.is_dir(&first)? && self.names()?.iter().any(|name| is_received(name)) {
                    return Err(DbError::Missing { path: pointer });
                }
                return Ok(first);
            }
            Err(source) => return Err(failed("read", &pointer)(source)),
        };
        let path = self.dir.join(name);
        if self.is_dir(&path)? { Ok(path) } else { Err(DbError::Missing { path }) }
    }

    /// The directory of the database that was received and kept at `index`, if there is one: it is
    /// whole and durable.
    ///
    /// # Errors
    ///
    /// If the file system refuses.
    pub fn received(&self, index: LogIndex) -> Result<Option<PathBuf>, DbError> {
        let path = self.received_path(index);
        Ok(self.is_dir(&path)?.then_some(path))
    }

    /// Whether any database was received and kept, in use or not.
    ///
    /// # Errors
    ///
    /// If the file system refuses.
    pub fn has_received(&self) -> Result<bool, DbError> {
        Ok(self.names()?.iter().any(|name| is_received(name)))
    }

    /// Makes the database that was received at `index` the one that the next start opens, and
    /// returns its directory. Durable when it returns; after a crash in between, the database in
    /// use is the old one or this one.
    ///
    /// # Errors
    ///
    /// [`DbError::Missing`] if it was not received; nothing has changed then. After any other
    /// error it is not known which of the two a start would open: the process has to stop.
    pub fn switch_to(&self, index: LogIndex) -> Result<PathBuf, DbError> {
        let path = self.received_path(index);
        if !self.is_dir(&path)? {
            return Err(DbError::Missing { path });
        }
        let pointer = self.dir.join(POINTER);
        fp!("snap-before-db-switch", |_| Err(failed("write", &pointer)(io::Error::other(
            "failpoint"
        ))));
        let content = encode_pointer(&received_name(index));
        self.fs
            .write_durable(&pointer, content.as_bytes(), FILE_PERMISSIONS)
            .map_err(failed("write", &pointer))?;
        fp!("snap-after-db-switch");
        tracing::info!(path = %path.display(), "switched to the received database");
        Ok(path)
    }

    /// Removes what interrupted transfers left. To be called at a start, before any transfer.
    ///
    /// # Errors
    ///
    /// If the file system refuses.
    pub fn remove_partial(&self) -> Result<(), DbError> {
        for name in self.names()? {
            let path = self.dir.join(&name);
            if name.starts_with(INCOMING_PREFIX) || name.starts_with(SENDING_PREFIX) {
                self.fs.remove_dir_all(&path).map_err(failed("remove", &path))?;
                tracing::info!(path = %path.display(), "removed an interrupted transfer");
            } else if name == POINTER_TMP {
                self.fs.remove_file(&path).map_err(failed("remove", &path))?;
            }
        }
        Ok(())
    }

    /// Removes every database but the one in use, and returns their directories. To be called at
    /// a start, after the log was asked whether a received database has still to be switched to.
    ///
    /// # Errors
    ///
    /// As for [`Self::live`], and if the file system refuses.
    pub fn remove_stale(&self) -> Result<Vec<PathBuf>, DbError> {
        let live = self.live()?;
        let mut removed = Vec::new();
        for name in self.names()? {
            let path = self.dir.join(&name);
            if (name == FIRST_DB || is_received(&name)) && path != live {
                self.fs.remove_dir_all(&path).map_err(failed("remove", &path))?;
                tracing::info!(path = %path.display(), "removed a database that is not in use");
                removed.push(path);
            }
        }
        Ok(removed)
    }

    /// Removes the database in `path`, which is closed and was switched away from.
    ///
    /// # Errors
    ///
    /// [`DbError::Live`] if it is the one in use, and if the file system refuses.
    pub fn remove(&self, path: &Path) -> Result<(), DbError> {
        if self.live()? == path {
            return Err(DbError::Live { path: path.to_owned() });
        }
        self.fs.remove_dir_all(path).map_err(failed("remove", path))
    }

    /// A directory for a checkpoint that is to be sent; it does not exist yet. Another one with
    /// every call, until the next start.
    #[must_use]
    pub fn sending_dir(&self) -> PathBuf {
        let number = self.sends.fetch_add(1, Ordering::Relaxed);
        self.dir.join(format!("{SENDING_PREFIX}{number}"))
    }

    pub(super) fn incoming_path(&self, index: LogIndex) -> PathBuf {
        self.dir.join(format!("{INCOMING_PREFIX}{:016x}", index.0))
    }

    pub(super) fn received_path(&self, index: LogIndex) -> PathBuf {
        self.dir.join(received_name(index))
    }

    fn is_dir(&self, path: &Path) -> Result<bool, DbError> {
        match self.fs.stat(path) {
            Ok(stat) => Ok(stat.is_dir),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(source) => Err(failed("look at", path)(source)),
        }
    }

    fn names(&self) -> Result<Vec<String>, DbError> {
        let entries = self.fs.list(&self.dir).map_err(failed("list", &self.dir))?;
        Ok(entries.into_iter().filter_map(|entry| entry.name.into_string().ok()).collect())
    }
}

/// Whether a name in the snapshot directory is one of those that this module gives.
pub(crate) fn is_ours(name: &str) -> bool {
    [INCOMING_PREFIX, SENDING_PREFIX, POINTER].iter().any(|prefix| name.starts_with(prefix))
}

fn received_name(index: LogIndex) -> String {
    format!("{RECEIVED_PREFIX}{:016x}", index.0)
}

fn is_received(name: &str) -> bool {
    let index = name.strip_prefix(RECEIVED_PREFIX);
    let index = index.and_then(|digits| u64::from_str_radix(digits, 16).ok());
    index.is_some_and(|index| received_name(LogIndex(index)) == name)
}

/// One line: the directory's name, a space, the CRC-32C of the name in 8 hex digits.
fn encode_pointer(name: &str) -> String {
    format!("{name} {:08x}\n", crc32c::crc32c(name.as_bytes()))
}

fn parse_pointer(content: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(content).ok()?;
    let (name, _) = text.split_once(' ')?;
    (is_received(name) && encode_pointer(name) == text).then(|| name.to_owned())
}
