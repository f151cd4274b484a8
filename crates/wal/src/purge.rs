//! Deletes segments that their writer let go of.

use std::io;
use std::path::{Path, PathBuf};

use etcdrs_platform::{File, Fs, Open, fp};

use crate::error::OpenError;
use crate::segment;

/// Deletes the oldest segments of the log in `dir` until `max_files` are left (0 = keep all) or
/// the oldest is in use, and gives what was deleted (storage-and-raft.md §1.11). To be called now
/// and then, and not while the log is being closed.
pub fn purge<F: Fs>(fs: &F, dir: &Path, max_files: usize) -> Result<Vec<PathBuf>, OpenError> {
    let names = segment::list(fs, dir)?;
    let mut deleted = Vec::new();
    if max_files == 0 {
        return Ok(deleted);
    }
    for name in &names[..names.len().saturating_sub(max_files)] {
        let path = name.path(dir);
        let remove = || -> io::Result<()> {
            // The lock is what says that the writer still needs the segment.
            fs.open(&path, Open::Write)?.try_lock()?;
            fp!("wal-before-purge");
            fs.remove_file(&path)?;
            fp!("wal-after-purge");
            Ok(())
        };
        match remove() {
            Ok(()) => {
                tracing::info!(path = %path.display(), "purged");
                deleted.push(path);
            }
            Err(err) if err.kind() == io::ErrorKind::WouldBlock => break,
            Err(source) => return Err(OpenError::Io { path, source }),
        }
    }
    Ok(deleted)
}
