//! Reads back what RocksDB says it runs with.

use std::fs;
use std::path::Path;

use crate::OpenError;

/// Refuses a database whose newest options file does not say that flushes are atomic.
pub(crate) fn atomic_flush(dir: &Path) -> Result<(), OpenError> {
    let io = |source| OpenError::Io { path: dir.to_owned(), source };
    let mut newest: Option<(u64, std::path::PathBuf)> = None;
    for entry in fs::read_dir(dir).map_err(io)? {
        let path = entry.map_err(io)?.path();
        let number = path.file_name().and_then(|name| name.to_str()).and_then(options_number);
        if let Some(number) = number
            && newest.as_ref().is_none_or(|(best, _)| number > *best)
        {
            newest = Some((number, path));
        }
    }
    let text = match newest {
        Some((_, path)) => fs::read_to_string(path).map_err(io)?,
        None => String::new(),
    };
    if says_atomic(&text) { Ok(()) } else { Err(OpenError::NotAtomic { path: dir.to_owned() }) }
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
