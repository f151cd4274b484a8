//! The directory of `.snap` files (storage-and-raft.md §2.1, §2.2, §2.7).

use std::io;
use std::path::{Path, PathBuf};

use etcdrs_platform::{Fs, fp};
use etcdrs_types::{LogIndex, Term};

use crate::db;
use crate::message::{self, Snapshot};

/// Permissions of files, before the umask.
const FILE_PERMISSIONS: u32 = 0o666;
/// Permissions of the directory.
const DIR_PERMISSIONS: u32 = 0o700;

/// Why the store could not do something.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No file can be used. A normal state: the log is replayed from its start.
    #[error("snap: no available snapshot")]
    NoSnapshot,
    /// The file system refused.
    #[error("{operation} {}", path.display())]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On which path.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// The `.snap` files of one member.
#[derive(Clone, Debug)]
pub struct Store<F: Fs> {
    fs: F,
    dir: PathBuf,
}

/// The name of a file: sorts by term, then by index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Name {
    term: Term,
    index: LogIndex,
}

impl Name {
    fn file_name(self) -> String {
        format!("{:016x}-{:016x}.snap", self.term.0, self.index.0)
    }

    fn parse(text: &str) -> Option<Self> {
        let (term, index) = text.strip_suffix(".snap")?.split_once('-')?;
        let term = Term(u64::from_str_radix(term, 16).ok()?);
        let index = LogIndex(u64::from_str_radix(index, 16).ok()?);
        let name = Self { term, index };
        (name.file_name() == text).then_some(name)
    }
}

impl<F: Fs> Store<F> {
    /// Opens the directory, which is made if it is missing. What a crash left half-written is
    /// removed.
    pub fn open(fs: F, dir: &Path) -> Result<Self, Error> {
        fs.create_dir_all(dir, DIR_PERMISSIONS).map_err(failed("create", dir))?;
        let store = Self { fs, dir: dir.to_owned() };
        for entry in store.fs.list(dir).map_err(failed("list", dir))? {
            let name = entry.name.to_string_lossy();
            if name.ends_with(".snap.tmp") && !entry.is_dir {
                let path = dir.join(&entry.name);
                store.fs.remove_file(&path).map_err(failed("remove", &path))?;
            }
        }
        Ok(store)
    }

    /// Saves a snapshot. When this returns it is durable; after a crash in between, it is there
    /// whole or not at all. One at index 0 says nothing and is not written.
    ///
    /// Only with a mark in the log does a snapshot count: save first, then mark.
    pub fn save(&self, snapshot: &Snapshot) -> Result<(), Error> {
        if snapshot.index == LogIndex(0) {
            return Ok(());
        }
        let path = self.path(Name { term: snapshot.term, index: snapshot.index });
        let content = message::encode(snapshot);
        fp!("snap-before-save", |_| Err(failed("write", Path::new("failpoint"))(
            io::Error::other("failpoint")
        )));
        self.fs.write_durable(&path, &content, FILE_PERMISSIONS).map_err(failed("write", &path))
    }

    /// The newest snapshot that can be read; damaged ones on the way are set aside as
    /// `<name>.broken`.
    pub fn newest(&self) -> Result<Snapshot, Error> {
        self.newest_where(|_| true)
    }

    /// The newest snapshot that can be read and that the log confirms: one of `marks`, given as
    /// (term, index). A file without a mark is from a crash between the two.
    pub fn newest_matching(&self, marks: &[(Term, LogIndex)]) -> Result<Snapshot, Error> {
        self.newest_where(|snapshot| marks.contains(&(snapshot.term, snapshot.index)))
    }

    fn newest_where(&self, is_wanted: impl Fn(&Snapshot) -> bool) -> Result<Snapshot, Error> {
        for name in self.names()?.into_iter().rev() {
            let path = self.path(name);
            let content = self.fs.read(&path).map_err(failed("read", &path))?;
            match message::decode(&content) {
                // The log's marks are about what is inside; a file under another name lies.
                Ok(snapshot) if (snapshot.term, snapshot.index) != (name.term, name.index) => {
                    tracing::warn!(path = %path.display(), "snapshot file has another snapshot's name");
                    self.set_aside(&path)?;
                }
                Ok(snapshot) if is_wanted(&snapshot) => return Ok(snapshot),
                Ok(_) => {
                    tracing::info!(path = %path.display(), "skipped a snapshot that the log does not confirm");
                }
                Err(error) => {
                    tracing::warn!(path = %path.display(), %error, "cannot read snapshot file");
                    self.set_aside(&path)?;
                }
            }
        }
        Err(Error::NoSnapshot)
    }

    /// Deletes the oldest files beyond `keep` (0 = keep all) and says how many.
    pub fn purge(&self, keep: usize) -> Result<usize, Error> {
        let names = self.names()?;
        let n_surplus = if keep == 0 { 0 } else { names.len().saturating_sub(keep) };
        for name in &names[..n_surplus] {
            let path = self.path(*name);
            self.fs.remove_file(&path).map_err(failed("remove", &path))?;
            tracing::info!(path = %path.display(), "purged");
        }
        Ok(n_surplus)
    }

    /// The (term, index) of every file, oldest first, whether it can be read or not.
    pub fn list(&self) -> Result<Vec<(Term, LogIndex)>, Error> {
        Ok(self.names()?.into_iter().map(|name| (name.term, name.index)).collect())
    }

    fn set_aside(&self, path: &Path) -> Result<(), Error> {
        let mut broken = path.as_os_str().to_owned();
        broken.push(".broken");
        self.fs.rename(path, Path::new(&broken)).map_err(failed("rename", path))
    }

    fn path(&self, name: Name) -> PathBuf {
        self.dir.join(name.file_name())
    }

    fn names(&self) -> Result<Vec<Name>, Error> {
        let entries = self.fs.list(&self.dir).map_err(failed("list", &self.dir))?;
        let mut names = Vec::new();
        for entry in entries {
            let text = entry.name.to_string_lossy();
            match Name::parse(&text) {
                Some(name) => names.push(name),
                None if is_known(&text) => {}
                None => {
                    tracing::warn!(path = %self.dir.join(&entry.name).display(), "found unexpected non-snap file; skipping");
                }
            }
        }
        names.sort();
        Ok(names)
    }
}

/// Other things that live in the directory: the database, and leftovers of downloads.
fn is_known(name: &str) -> bool {
    name.starts_with("db")
        || db::is_ours(name)
        || name.starts_with("tmp")
        || name.ends_with(".snap.db")
        || name.ends_with(".broken")
        || name.ends_with(".snap.tmp")
}

fn failed(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Io { operation, path, source }
}

#[cfg(test)]
mod tests;
