//! What an entry costs the processor besides system calls: encoding, checksum, queue, completion.
//!
//! `cargo run --release -p etcdrs-wal --example append_cost`. The file system drops what it is
//! given, so the numbers are those of this crate alone.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use etcdrs_platform::{Clock, DirEntry, File, Fs, Open, Stat, SystemClock, process};
use etcdrs_types::{LogIndex, Term};
use etcdrs_wal::{Batch, Entry, Metadata, Options, Prepare, Wal, Writer};

/// A file system that drops everything.
#[derive(Clone, Debug)]
struct Nowhere;

impl Fs for Nowhere {
    type File = Self;

    fn open(&self, _: &Path, _: Open) -> io::Result<Self> {
        Ok(Self)
    }

    fn rename(&self, _: &Path, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn remove_file(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn remove_dir_all(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn list(&self, _: &Path) -> io::Result<Vec<DirEntry>> {
        Ok(Vec::new())
    }

    fn create_dir_all(&self, _: &Path, _: u32) -> io::Result<()> {
        Ok(())
    }

    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn stat(&self, _: &Path) -> io::Result<Stat> {
        Err(io::ErrorKind::NotFound.into())
    }

    fn free_bytes(&self, _: &Path) -> io::Result<u64> {
        Ok(u64::MAX)
    }
}

impl File for Nowhere {
    fn read_at(&self, _: &mut [u8], _: u64) -> io::Result<usize> {
        Ok(0)
    }

    fn write_at(&self, _: &[u8], _: u64) -> io::Result<()> {
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn sync_all(&self) -> io::Result<()> {
        Ok(())
    }

    fn set_len(&self, _: u64) -> io::Result<()> {
        Ok(())
    }

    fn allocate(&self, _: u64) -> io::Result<()> {
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(0)
    }

    fn try_lock(&self) -> io::Result<()> {
        Ok(())
    }
}

const ENTRIES: u64 = 1 << 20;

fn batch(first: u64, n: u64, data: &Bytes) -> Batch {
    let entry = |index| Entry {
        term: Term(1),
        index: LogIndex(index),
        data: Some(data.clone()),
        ..Entry::default()
    };
    Batch::entries((first..first + n).map(entry).collect())
}

fn wal() -> Result<Wal<Nowhere>, etcdrs_wal::CreateError> {
    let options = Options { prepare: Prepare::Allocate, ..Options::default() };
    Wal::create(Nowhere, Path::new("/wal"), &Metadata::default(), options)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let clock = SystemClock::new();
    let data = Bytes::from(vec![7; 300]);
    for per_batch in [1, 16, 256] {
        let mut log = wal()?;
        let started_ns = clock.now_ns();
        for first in (1..=ENTRIES).step_by(usize::try_from(per_batch)?) {
            log.save(&batch(first, per_batch, &data))?;
        }
        let took_ns = clock.now_ns() - started_ns;
        println!("wal,    {per_batch:3} entries a batch: {:4} ns an entry", took_ns / ENTRIES);
    }
    for per_batch in [1, 16, 256] {
        let writer = Writer::spawn(wal()?)?;
        let done = Arc::new(AtomicU64::new(0));
        let before = process::usage(std::process::id())?.cpu();
        for first in (1..=ENTRIES).step_by(usize::try_from(per_batch)?) {
            let done = Arc::clone(&done);
            writer.submit(batch(first, per_batch, &data), move |_| {
                done.fetch_add(1, Ordering::Relaxed);
            });
        }
        writer.close()?;
        assert_eq!(done.load(Ordering::Relaxed), ENTRIES / per_batch);
        let cpu = process::usage(std::process::id())?.cpu() - before;
        let cpu_ns = u64::try_from(cpu.as_nanos())?;
        println!(
            "writer, {per_batch:3} entries a batch: {:4} ns of cpu an entry, both threads",
            cpu_ns / ENTRIES
        );
    }
    Ok(())
}
