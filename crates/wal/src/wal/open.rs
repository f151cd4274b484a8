//! Creating, opening and repairing a log.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use etcdrs_platform::{File, Fs, Open, fp};
use etcdrs_types::LogIndex;

use crate::content::Encoder;
use crate::error::{CreateError, OpenError};
use crate::options::{Options, Prepare, StartAt};
use crate::reader::{self, End};
use crate::replay::Replayed;
use crate::segment::{DIR_PERMISSIONS, FILE_PERMISSIONS, Name};
use crate::spare::{self, Spares};
use crate::types::{Metadata, SnapshotMark};
use crate::wal::{Segment, Tail, Wal};

/// What was in the log when it was opened.
#[derive(Debug)]
pub struct Opened<F: Fs> {
    /// The log, ready to append.
    pub wal: Wal<F>,
    /// Its content.
    pub content: Replayed,
    /// Set if a torn tail was cut off.
    pub repaired: Option<Repaired>,
}

/// A torn tail that was cut off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repaired {
    /// The segment, cut.
    pub path: PathBuf,
    /// A copy of it as it was.
    pub copy: PathBuf,
    /// Where it was cut.
    pub offset: u64,
}

impl<F: Fs> Wal<F> {
    /// Makes a new log in `dir`, which must not hold one, with the mark (0, 0)
    /// (storage-and-raft.md §1.5). The directory above must be durable already.
    pub fn create(
        fs: F,
        dir: &Path,
        metadata: &Metadata,
        options: Options,
    ) -> Result<Self, CreateError> {
        let io = |path: &Path| {
            let path = path.to_owned();
            |source| CreateError::Io { path, source }
        };
        if Self::exists(&fs, dir).map_err(io(dir))? {
            return Err(CreateError::Exists);
        }
        // Everything is made elsewhere and renamed, because a half-made log would pass for a
        // whole one at the next start.
        let temporary = with_suffix(dir, ".tmp");
        let (file, encoder) =
            make_first(&fs, &temporary, metadata, &options).map_err(io(&temporary))?;
        remove_spares(&fs, dir).map_err(io(dir))?;
        // An empty directory is replaced; one with other things in it is somebody else's.
        fs.rename(&temporary, dir).map_err(io(dir))?;
        let parent = parent(dir);
        if let Err(source) = fs.sync_dir(parent) {
            let broken =
                with_suffix(dir, &format!(".broken.{}", stamp(options.clock.wall_unix_ms())));
            // Best effort: the error that counts is the one of the sync.
            let _ = fs.rename(dir, &broken);
            return Err(io(parent)(source));
        }
        let segment = Segment { name: Name { sequence: 0, first: LogIndex(0) }, file };
        let offset = encoder.buffer.len() as u64;
        let encoder = Encoder { buffer: Vec::new(), chain: encoder.chain };
        Ok(Self {
            spares: Spares::new(fs.clone(), dir, options.clone()),
            fs,
            dir: dir.to_owned(),
            options,
            metadata: *metadata,
            segments: VecDeque::from([segment]),
            offset,
            encoder,
            tail: Tail::default(),
            failed: None,
        })
    }

    /// Opens the log in `dir` for appending. A tail that a power loss tore is cut off, after a
    /// copy was set aside; any other damage is an error, and so is a cut that would lose what the
    /// log calls committed.
    pub fn open(
        fs: F,
        dir: &Path,
        start: &StartAt,
        options: Options,
    ) -> Result<Opened<F>, OpenError> {
        let names = reader::names_for(&fs, dir, start)?;
        let segments = lock_all(&fs, dir, &names)?;
        let read = reader::read(&fs, dir, &names, start)?;
        let newest = &segments[segments.len() - 1];
        let path = newest.name.path(dir);
        if read.end.is_torn {
            reader::check_cut(&fs, &path, &read)?;
        }
        reader::check_end(&read, &path)?;
        let content = read.replay.finish()?;
        let io = |source| OpenError::Io { path: path.clone(), source };
        let repaired = match read.end.is_torn {
            true => Some(repair(&fs, &path, &newest.file, &read.end).map_err(io)?),
            false => None,
        };
        newest.file.allocate(options.segment_bytes).map_err(io)?;
        if options.sync {
            // What was read may be in the page cache alone, after a kill; from here on it counts
            // as durable.
            newest.file.sync_all().map_err(io)?;
        }
        let last = content.last_index();
        let hard_state = content.hard_state;
        let wal = Self {
            spares: Spares::new(fs.clone(), dir, options.clone()),
            fs,
            dir: dir.to_owned(),
            options,
            metadata: content.metadata,
            segments,
            offset: read.end.offset,
            encoder: Encoder { buffer: Vec::new(), chain: read.end.chain },
            tail: Tail {
                last,
                last_term: content.last_term(),
                durable: last,
                hard_state,
                commit: hard_state.commit,
                must_sync: false,
            },
            failed: None,
        };
        Ok(Opened { wal, content, repaired })
    }
}

/// Makes the directory with its first segment, synced.
fn make_first<F: Fs>(
    fs: &F,
    temporary: &Path,
    metadata: &Metadata,
    options: &Options,
) -> io::Result<(F::File, Encoder)> {
    if fs.exists(temporary)? {
        fs.remove_dir_all(temporary)?;
    }
    fs.create_dir_all(temporary, DIR_PERMISSIONS)?;
    let name = Name { sequence: 0, first: LogIndex(0) };
    let spare = spare::reserve(fs, name.path(temporary), options.segment_bytes)?;
    if let Prepare::ZeroFill { .. } = options.prepare {
        spare::zero_fill(&spare.file, options.segment_bytes, None, &AtomicBool::new(false))?;
    }
    let mut encoder = Encoder::default();
    encoder.crc();
    encoder.metadata(metadata);
    encoder.mark(&SnapshotMark::default());
    spare.file.write_at(&encoder.buffer, 0)?;
    fp!("wal-create-before-sync");
    spare.file.sync_all()?;
    fs.sync_dir(temporary)?;
    fp!("wal-create-before-rename");
    Ok((spare.file, encoder))
}

/// Removes prepared segments that a log left when it was removed by hand.
fn remove_spares<F: Fs>(fs: &F, dir: &Path) -> io::Result<()> {
    if fs.exists(dir)? {
        for entry in fs.list(dir)? {
            if !entry.is_dir && entry.name.to_string_lossy().ends_with(".tmp") {
                fs.remove_file(&dir.join(&entry.name))?;
            }
        }
    }
    Ok(())
}

/// Opens and locks every segment that is going to be read.
fn lock_all<F: Fs>(fs: &F, dir: &Path, names: &[Name]) -> Result<VecDeque<Segment<F>>, OpenError> {
    let lock = |name: &Name| {
        let path = name.path(dir);
        let locked = fs.open(&path, Open::Write).and_then(|file| file.try_lock().map(|()| file));
        match locked {
            Ok(file) => Ok(Segment { name: *name, file }),
            Err(err) if err.kind() == io::ErrorKind::WouldBlock => Err(OpenError::Locked { path }),
            Err(source) => Err(OpenError::Io { path, source }),
        }
    };
    names.iter().map(lock).collect()
}

/// Sets a copy aside and cuts the file (storage-and-raft.md §1.10). What lies behind the cut must
/// be zero afterwards, or it would be taken for records later.
fn repair<F: Fs>(fs: &F, path: &Path, file: &F::File, end: &End) -> io::Result<Repaired> {
    tracing::warn!(path = %path.display(), offset = end.offset, "repairing");
    let copy = with_suffix(path, ".broken");
    fs.write_durable(&copy, &fs.read(path)?, FILE_PERMISSIONS)?;
    fp!("wal-repair-after-copy");
    file.set_len(end.offset)?;
    file.sync_all()?;
    tracing::info!(path = %path.display(), "repaired");
    Ok(Repaired { path: path.to_owned(), copy, offset: end.offset })
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// `yyyymmdd.hhmmss.micros` in UTC, as etcd stamps a directory it sets aside.
fn stamp(unix_ms: u64) -> String {
    let (days, ms) = (unix_ms / 86_400_000, unix_ms % 86_400_000);
    // Days since 0000-03-01 in the proleptic Gregorian calendar, in eras of 400 years.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year_of_era = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (seconds, micros) = (ms / 1000, ms % 1000 * 1000);
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}{month:02}{day:02}.{hours:02}{minutes:02}{seconds:02}.{micros:06}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_are_dates() {
        assert_eq!(stamp(0), "19700101.000000.000000");
        assert_eq!(stamp(951_782_400_000), "20000229.000000.000000");
        assert_eq!(stamp(1_700_000_000_123), "20231114.221320.123000");
    }
}
