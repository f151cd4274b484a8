//! A flipped byte in any file of a database gives the right rows or an error that names the file.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use etcdrs_backend::{Backend, Bucket, OnDamage, Options, Scan};

/// Flips in one file, spread over it.
const FLIPS: usize = 25;

type Rows = Vec<(Bucket, Vec<u8>, Vec<u8>)>;

fn options(heard: &Arc<Mutex<Vec<String>>>) -> Options {
    let heard = Arc::clone(heard);
    Options {
        block_cache_bytes: 1 << 20,
        memtable_bytes: 4 << 20,
        on_damage: Some(OnDamage(Arc::new(move |what| heard.lock().unwrap().push(what.into())))),
        ..Options::default()
    }
}

/// Some flushes, so that the manifest has edits and tables lie over each other.
fn make(dir: &Path) {
    let backend = Backend::open(dir, &options(&Arc::default())).unwrap();
    for round in 0..3 {
        let mut batch = backend.batch();
        for at in 0..400 {
            let value = format!("{round}-{at}-").repeat(1 + at % 30);
            batch.put(Bucket::Key, format!("{:05}", round * 300 + at).as_bytes(), value.as_bytes());
            batch.put(Bucket::Index, format!("{at:05}").as_bytes(), value.as_bytes());
        }
        batch.put(Bucket::Meta, b"consistent_index", &[round as u8; 8]);
        backend.write(batch).unwrap();
        backend.flush().unwrap();
    }
}

/// An error and its causes.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

fn read_all(dir: &Path, heard: &Arc<Mutex<Vec<String>>>) -> Result<Rows, String> {
    let backend = Backend::open(dir, &options(heard)).map_err(|error| chain(&error))?;
    let mut found = Vec::new();
    for bucket in Bucket::ALL {
        let mut rows = backend.rows(bucket, &Scan::all());
        while let Some((key, value)) = rows.next().map_err(|error| chain(&error))? {
            found.push((bucket, key.to_vec(), value.to_vec()));
        }
    }
    Ok(found)
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

fn copy(from: &Path) -> tempfile::TempDir {
    let to = tempfile::tempdir().unwrap();
    for file in files(from) {
        fs::copy(&file, to.path().join(file.file_name().unwrap())).unwrap();
    }
    to
}

fn flip(file: &Path, at: usize) {
    let mut bytes = fs::read(file).unwrap();
    bytes[at] ^= 0x41;
    fs::write(file, bytes).unwrap();
}

#[test]
fn a_flipped_byte_is_never_served() {
    let original = tempfile::tempdir().unwrap();
    make(original.path());
    // As a start leaves it, or a compaction would still move things about.
    let want = read_all(original.path(), &Arc::default()).unwrap();
    let (mut right, mut refused, mut blamed) = (0, 0, 0);
    for file in files(original.path()) {
        let name = file.file_name().unwrap().to_str().unwrap();
        let length = fs::metadata(&file).unwrap().len() as usize;
        if length == 0 || name.starts_with("LOG") || name == "LOCK" {
            continue;
        }
        for at in (0..length).step_by(50.max(length / FLIPS)) {
            let dir = copy(original.path());
            flip(&dir.path().join(name), at);
            let heard = Arc::default();
            match read_all(dir.path(), &heard) {
                Ok(rows) => {
                    assert!(rows == want, "{name} byte {at}: other rows");
                    assert!(heard.lock().unwrap().is_empty(), "{name} byte {at}");
                    right += 1;
                }
                Err(text) => {
                    assert!(
                        text.contains(dir.path().to_str().unwrap()),
                        "{name} byte {at}: {text}"
                    );
                    // RocksDB blames the manifest for some flips among a table's properties.
                    if text.contains(name) {
                        refused += 1;
                    } else {
                        assert!(name.ends_with(".sst"), "{name} byte {at}: {text}");
                        blamed += 1;
                    }
                }
            }
        }
    }
    println!("{right} flips harmless, {refused} refused by name, {blamed} by another name");
    assert!(refused > 10 * blamed, "{refused} {blamed}");
}

#[test]
fn damage_met_while_open_is_an_error_and_told() {
    let dir = tempfile::tempdir().unwrap();
    make(dir.path());
    let heard = Arc::default();
    let backend = Backend::open(dir.path(), &options(&heard)).unwrap();
    // From here on nothing rewrites the tables, and the newest big one holds rows.
    backend.compact();
    let is_big = |file: &PathBuf| {
        file.extension() == Some("sst".as_ref()) && fs::metadata(file).unwrap().len() > 4000
    };
    let biggest = files(dir.path()).into_iter().rfind(is_big).unwrap();
    let name = biggest.file_name().unwrap().to_str().unwrap();
    // In place, as a disk rots: the file stays open.
    let length = fs::metadata(&biggest).unwrap().len() as usize;
    for at in (0..length / 2).step_by(64) {
        flip(&biggest, at);
    }
    let errors = (0..1400).filter_map(|at| {
        let (bucket, at) = if at < 1000 { (Bucket::Key, at) } else { (Bucket::Index, at - 1000) };
        backend.get(bucket, format!("{at:05}").as_bytes()).err().map(|error| chain(&error))
    });
    let errors: Vec<String> = errors.collect();
    assert!(!errors.is_empty() && errors.iter().all(|text| text.contains(name)), "{errors:?}");
    let heard = heard.lock().unwrap();
    assert_eq!(heard.len(), errors.len());
    assert!(heard[0].starts_with("read database: Corruption") && heard[0].contains(name));
}
