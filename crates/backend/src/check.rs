//! Looks at the files of a database directory.

use std::io;
use std::path::Path;

use etcdrs_platform::{Fs as _, OsFs};

use crate::OpenError;

/// Refuses a database whose newest options file does not say that flushes are atomic.
pub(crate) fn atomic_flush(dir: &Path) -> Result<(), OpenError> {
    let io = |source| OpenError::Io { path: dir.to_owned(), source };
    let names = OsFs.list(dir).map_err(io)?;
    let numbers = names.iter().filter_map(|entry| options_number(entry.name.to_str()?));
    let newest = numbers.max().ok_or_else(|| io(io::ErrorKind::NotFound.into()))?;
    let text = OsFs.read(&dir.join(format!("OPTIONS-{newest:06}"))).map_err(io)?;
    if says_atomic(&String::from_utf8_lossy(&text)) {
        Ok(())
    } else {
        Err(OpenError::NotAtomic { path: dir.to_owned() })
    }
}

/// Refuses a directory that holds no database, before RocksDB leaves files there.
pub(crate) fn exists(dir: &Path) -> Result<(), OpenError> {
    let found = OsFs.exists(&dir.join("CURRENT"));
    if found.map_err(|source| OpenError::Io { path: dir.to_owned(), source })? {
        return Ok(());
    }
    Err(OpenError::Missing { path: dir.to_owned() })
}

/// Refuses a damaged `CURRENT` by its own name: RocksDB would only miss what it names.
pub(crate) fn pointer(dir: &Path) -> Result<(), OpenError> {
    let path = dir.join("CURRENT");
    let content = match OsFs.read(&path) {
        Ok(content) => content,
        // A database that is to be made.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(OpenError::Io { path, source }),
    };
    let found = String::from_utf8_lossy(&content).into_owned();
    let manifest = found.strip_suffix('\n').filter(|name| name.starts_with("MANIFEST-"));
    let is_there = manifest.map_or(Ok(false), |name| OsFs.exists(&dir.join(name)));
    // A name that no file can have is as good as one that none has.
    if is_there.unwrap_or(false) { Ok(()) } else { Err(OpenError::Pointer { path, found }) }
}

/// The number of a file named `OPTIONS-000012`.
fn options_number(name: &str) -> Option<u64> {
    name.strip_prefix("OPTIONS-")?.parse().ok()
}

fn says_atomic(options: &str) -> bool {
    options.lines().any(|line| line.trim() == "atomic_flush=true")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_names_and_lines() {
        assert_eq!(options_number("OPTIONS-000012"), Some(12));
        assert_eq!(options_number("OPTIONS-000012.dbtmp"), None);
        assert!(says_atomic("[DBOptions]\n  atomic_flush=true\n"));
        assert!(!says_atomic("  atomic_flush=false\n"));
    }
}
