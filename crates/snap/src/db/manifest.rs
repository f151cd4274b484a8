//! What a streamed database consists of (FORMAT.md). Pure.

use std::collections::BTreeSet;

use etcdrs_types::{LogIndex, Term};
use prost::Message;

/// First bytes of a stream.
const MAGIC: &[u8; 8] = b"etcdrsdb";
/// Magic, length of the manifest (4 bytes), its CRC-32C (4 bytes).
const HEAD_BYTES: usize = 16;
/// The version of stream and manifest.
const VERSION: u32 = 1;
/// Files of a database at most: terabytes, at RocksDB's size of files.
const FILES_MAX: usize = 65_536;
/// Bytes of an encoded manifest at most.
const MANIFEST_BYTES_MAX: usize = 8 << 20;
/// Digits of a file's number at most.
const DIGITS_MAX: usize = 20;

const _: () = assert!(FILES_MAX * 64 < MANIFEST_BYTES_MAX, "the longest manifest can be sent");

/// A file of a database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DbFile {
    /// Its name, without a directory.
    pub name: String,
    /// Its size, bytes.
    pub size: u64,
    /// CRC-32C of its content.
    pub crc32c: u32,
}

/// The files of a database, in the order in which they are streamed.
///
/// Invariant: one that was decoded names each file once, by a name that RocksDB gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// The newest entry applied to the database.
    pub index: LogIndex,
    /// The term of that entry.
    pub term: Term,
    /// The files.
    pub files: Vec<DbFile>,
}

/// Why a stream does not begin as it must.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// Something else than a database.
    #[error("not a stream of a database")]
    Magic,
    /// The manifest is longer than any can be.
    #[error("manifest of {0} bytes")]
    TooLong(usize),
    /// The checksum of the manifest is another one.
    #[error("manifest has a wrong checksum")]
    Crc,
    /// The manifest does not decode.
    #[error("malformed manifest")]
    Malformed,
    /// A version that this program does not read.
    #[error("manifest has version {0}, this program reads 1")]
    Version(u32),
    /// A database without files, or one at no entry.
    #[error("manifest of an empty database")]
    Empty,
    /// More files than any database has.
    #[error("manifest of {0} files")]
    TooManyFiles(usize),
    /// A name that RocksDB gives no file; a path, for example.
    #[error("manifest names a file {0:?}")]
    Name(String),
    /// A file is named twice.
    #[error("manifest names {0:?} twice")]
    Duplicate(String),
    /// The sizes do not add up to what the manifest says.
    #[error("sizes of the manifest do not add up")]
    Total,
}

#[derive(Clone, PartialEq, Message)]
struct WireManifest {
    #[prost(uint32, tag = "1")]
    version: u32,
    #[prost(uint64, tag = "2")]
    index: u64,
    #[prost(uint64, tag = "3")]
    term: u64,
    #[prost(uint64, tag = "4")]
    total_bytes: u64,
    #[prost(message, repeated, tag = "5")]
    files: Vec<WireFile>,
}

#[derive(Clone, PartialEq, Message)]
struct WireFile {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(uint64, tag = "2")]
    size: u64,
    #[prost(fixed32, tag = "3")]
    crc32c: u32,
}

impl Manifest {
    /// Bytes of all files.
    #[must_use]
    pub fn total_bytes(&self) -> u64 {
        self.files.iter().map(|file| file.size).sum()
    }

    /// Checks what [`HeadReader`] would refuse.
    pub(crate) fn check(&self) -> Result<(), ManifestError> {
        if self.files.is_empty() || self.index == LogIndex(0) {
            return Err(ManifestError::Empty);
        }
        if self.files.len() > FILES_MAX {
            return Err(ManifestError::TooManyFiles(self.files.len()));
        }
        let mut names = BTreeSet::new();
        let mut total = 0_u64;
        for DbFile { name, size, .. } in &self.files {
            if !is_database_file(name) {
                return Err(ManifestError::Name(name.clone()));
            }
            if !names.insert(name) {
                return Err(ManifestError::Duplicate(name.clone()));
            }
            total = total.checked_add(*size).ok_or(ManifestError::Total)?;
        }
        Ok(())
    }

    /// The head of the stream: everything before the files.
    pub(crate) fn encode_head(&self) -> Vec<u8> {
        let files = self.files.iter().map(|DbFile { name, size, crc32c }| WireFile {
            name: name.clone(),
            size: *size,
            crc32c: *crc32c,
        });
        let manifest = WireManifest {
            version: VERSION,
            index: self.index.0,
            term: self.term.0,
            total_bytes: self.total_bytes(),
            files: files.collect(),
        };
        let manifest = manifest.encode_to_vec();
        let length = u32::try_from(manifest.len()).expect("the longest manifest has 8 MiB");
        let mut head = Vec::with_capacity(HEAD_BYTES + manifest.len());
        head.extend_from_slice(MAGIC);
        head.extend_from_slice(&length.to_be_bytes());
        head.extend_from_slice(&crc32c::crc32c(&manifest).to_be_bytes());
        head.extend_from_slice(&manifest);
        head
    }

    fn decode(bytes: &[u8]) -> Result<Self, ManifestError> {
        let wire = WireManifest::decode(bytes).map_err(|_| ManifestError::Malformed)?;
        let WireManifest { version, index, term, total_bytes, files } = wire;
        if version != VERSION {
            return Err(ManifestError::Version(version));
        }
        let files =
            files.into_iter().map(|WireFile { name, size, crc32c }| DbFile { name, size, crc32c });
        let manifest = Self { index: LogIndex(index), term: Term(term), files: files.collect() };
        manifest.check()?;
        if manifest.total_bytes() != total_bytes {
            return Err(ManifestError::Total);
        }
        Ok(manifest)
    }
}

/// Whether RocksDB gives a file this name and needs it. Its logs for people and its lock file are
/// not part of a database.
pub(crate) fn is_database_file(name: &str) -> bool {
    let is_number = |text: &str| {
        (1..=DIGITS_MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
    };
    match name.split_once('.') {
        Some((number, "sst" | "blob" | "log")) => is_number(number),
        Some(_) => false,
        None => {
            let numbered = name.strip_prefix("MANIFEST-").or(name.strip_prefix("OPTIONS-"));
            name == "CURRENT" || name == "IDENTITY" || numbered.is_some_and(is_number)
        }
    }
}

/// Collects the head of a stream.
#[derive(Debug, Default)]
pub(crate) struct HeadReader {
    bytes: Vec<u8>,
}

impl HeadReader {
    /// Takes what belongs to the head from the front of `input`; gives the manifest once it is
    /// whole.
    pub(crate) fn take(&mut self, input: &mut &[u8]) -> Result<Option<Manifest>, ManifestError> {
        if !self.fill(HEAD_BYTES, input) {
            return Ok(None);
        }
        let number = |at: usize| {
            let bytes: [u8; 4] = self.bytes[at..at + 4].try_into().expect("4 bytes");
            u32::from_be_bytes(bytes)
        };
        let (length, crc) = (number(MAGIC.len()) as usize, number(MAGIC.len() + 4));
        if !self.bytes.starts_with(MAGIC) {
            return Err(ManifestError::Magic);
        }
        if length > MANIFEST_BYTES_MAX {
            return Err(ManifestError::TooLong(length));
        }
        if !self.fill(HEAD_BYTES + length, input) {
            return Ok(None);
        }
        let manifest = &self.bytes[HEAD_BYTES..];
        if crc32c::crc32c(manifest) != crc {
            return Err(ManifestError::Crc);
        }
        Manifest::decode(manifest).map(Some)
    }

    /// Whether there are `wanted` bytes, after taking from `input`.
    fn fill(&mut self, wanted: usize, input: &mut &[u8]) -> bool {
        let n = wanted.saturating_sub(self.bytes.len()).min(input.len());
        let (now, later) = input.split_at(n);
        self.bytes.extend_from_slice(now);
        *input = later;
        self.bytes.len() >= wanted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str, size: u64) -> DbFile {
        DbFile { name: name.into(), size, crc32c: 7 }
    }

    fn manifest(files: Vec<DbFile>) -> Manifest {
        Manifest { index: LogIndex(9), term: Term(2), files }
    }

    fn read(head: &[u8]) -> Result<Option<Manifest>, ManifestError> {
        HeadReader::default().take(&mut &head[..])
    }

    #[test]
    fn a_head_comes_back_whatever_the_pieces() {
        let wanted = manifest(vec![file("CURRENT", 16), file("000012.sst", 0)]);
        let mut stream = wanted.encode_head();
        let head_bytes = stream.len();
        stream.extend_from_slice(b"content");
        for piece in 1..stream.len() {
            let mut reader = HeadReader::default();
            let mut rest = &stream[..];
            let found = loop {
                let mut input = &rest[..piece.min(rest.len())];
                let before = input.len();
                let found = reader.take(&mut input).unwrap();
                rest = &rest[before - input.len()..];
                if let Some(found) = found {
                    break found;
                }
            };
            assert_eq!((found, rest), (wanted.clone(), &stream[head_bytes..]));
        }
    }

    #[test]
    fn what_no_database_has_is_refused() {
        let refused = |files| read(&manifest(files).encode_head()).unwrap_err();
        for name in [
            "",
            ".",
            "..",
            "/etc/passwd",
            "../000001.sst",
            "a/000001.sst",
            "000001.sst/",
            "CURRENT\0",
            "LOG",
            "LOCK",
            "00a.sst",
            ".sst",
            "000001.SST",
            "000001.sst.sst",
            "MANIFEST-",
            "manifest-1",
            "MANIFEST-000001.dbtmp",
            "123456789012345678901.sst",
            "००१.sst",
        ] {
            assert_eq!(refused(vec![file(name, 1)]), ManifestError::Name(name.into()));
        }
        let twice = vec![file("CURRENT", 1), file("1.sst", 1), file("CURRENT", 1)];
        assert_eq!(refused(twice), ManifestError::Duplicate("CURRENT".into()));
        assert_eq!(refused(Vec::new()), ManifestError::Empty);
        let many = (0..=FILES_MAX).map(|n| file(&format!("{n}.sst"), 1)).collect();
        assert_eq!(refused(many), ManifestError::TooManyFiles(FILES_MAX + 1));
        let none = Manifest { index: LogIndex(0), ..manifest(vec![file("CURRENT", 1)]) };
        assert_eq!(read(&none.encode_head()).unwrap_err(), ManifestError::Empty);
    }

    /// A head around any manifest message.
    fn head_of(wire: &WireManifest) -> Vec<u8> {
        let body = wire.encode_to_vec();
        let length = u32::try_from(body.len()).unwrap().to_be_bytes();
        [&MAGIC[..], &length, &crc32c::crc32c(&body).to_be_bytes(), &body].concat()
    }

    #[test]
    fn sums_versions_and_checksums_are_checked() {
        let files = vec![WireFile { name: "CURRENT".into(), size: 16, crc32c: 1 }];
        let good = WireManifest { version: 1, index: 5, term: 1, total_bytes: 16, files };
        assert!(read(&head_of(&good)).unwrap().is_some());
        let wrong = WireManifest { total_bytes: 17, ..good.clone() };
        assert_eq!(read(&head_of(&wrong)), Err(ManifestError::Total));
        let mut overflow = good.clone();
        overflow.files[0].size = u64::MAX;
        overflow.files.push(WireFile { name: "1.sst".into(), size: 17, crc32c: 0 });
        assert_eq!(read(&head_of(&overflow)), Err(ManifestError::Total));
        let newer = WireManifest { version: 2, ..good.clone() };
        assert_eq!(read(&head_of(&newer)), Err(ManifestError::Version(2)));
        let head = head_of(&good);
        for bit in 0..head.len() * 8 {
            let mut damaged = head.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            // A longer length waits for bytes that never come; everything else is refused.
            assert!(!matches!(read(&damaged), Ok(Some(_))), "bit {bit}");
        }
        let huge = [&MAGIC[..], &u32::MAX.to_be_bytes(), &[0; 4]].concat();
        assert_eq!(read(&huge), Err(ManifestError::TooLong(u32::MAX as usize)));
        assert_eq!(read(b"something else that is long enough"), Err(ManifestError::Magic));
    }
}
