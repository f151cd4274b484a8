//! The open database.

use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use etcdrs_platform::fp;
use rocksdb::checkpoint::Checkpoint;
use rocksdb::{
    ColumnFamily, ColumnFamilyDescriptor, DB, ErrorKind, FlushOptions, ReadOptions, ReadTier,
    WriteBatch, WriteOptions,
};

use crate::check;
use crate::options::{self, Shared};
use crate::{Batch, Bucket, Error, OpenError, Options, Rows, Scan};

/// Row of the column family `default` that says what the directory is.
const FORMAT_ROW: &[u8] = b"format";
/// What it says.
const FORMAT: &str = "etcd-rs/1";

/// A handle on the database; clones share it. The last one closes it.
#[derive(Clone)]
pub struct Backend {
    inner: Arc<Inner>,
}

struct Inner {
    db: DB,
    shared: Shared,
    options: Options,
    path: PathBuf,
}

/// Space the database takes, bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sizes {
    /// Table files, and what is not flushed yet.
    pub on_disk: u64,
    /// What of it is live, as RocksDB estimates.
    pub in_use: u64,
}

/// Memory the database takes, bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryUsage {
    /// Blocks of table files.
    pub block_cache: u64,
    /// Writes that are not flushed.
    pub memtables: u64,
}

impl Backend {
    /// Opens the database in `dir`, and makes it if there is none.
    ///
    /// # Errors
    /// See [`OpenError`]; a directory in use is [`OpenError::Locked`].
    pub fn open(dir: &Path, options: &Options) -> Result<Self, OpenError> {
        Self::open_with(dir, options, Shared::new(options))
    }

    /// Opens another database, which must exist, with the options of this one; while both are
    /// open they share its memory budgets.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open_beside(&self, dir: &Path) -> Result<Self, OpenError> {
        check::exists(dir)?;
        Self::open_with(dir, &self.inner.options, self.inner.shared.clone())
    }

    fn open_with(dir: &Path, options: &Options, shared: Shared) -> Result<Self, OpenError> {
        check::pointer(dir)?;
        let mut database = options::database(options, &shared);
        database.create_if_missing(true);
        let db = DB::open_cf_descriptors(&database, dir, families(options, &shared))
            .map_err(|source| open_error(dir, source))?;
        let backend = Self::new(db, shared, options, dir);
        backend.check_format(true)?;
        backend.check_families()?;
        check::atomic_flush(dir)?;
        Ok(backend)
    }

    /// Opens the database in `dir` for reading, while nobody writes it. It must exist.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open_read_only(dir: &Path, options: &Options) -> Result<Self, OpenError> {
        check::exists(dir)?;
        check::pointer(dir)?;
        let shared = Shared::new(options);
        let mut database = options::database(options, &shared);
        database.create_if_missing(false);
        let families = families(options, &shared);
        let db = DB::open_cf_descriptors_read_only(&database, dir, families, false)
            .map_err(|source| open_error(dir, source))?;
        let backend = Self::new(db, shared, options, dir);
        backend.check_format(false)?;
        backend.check_families()?;
        Ok(backend)
    }

    fn new(db: DB, shared: Shared, options: &Options, dir: &Path) -> Self {
        let (options, path) = (options.clone(), dir.to_owned());
        Self { inner: Arc::new(Inner { db, shared, options, path }) }
    }

    /// Closes the database if this is the last handle, and returns its directory, which may then
    /// be removed. Otherwise the handle comes back, to be tried again later: a reader is not done.
    ///
    /// Closing flushes what was written, so it takes as long as the disk needs.
    ///
    /// # Errors
    /// The handle itself, if there are others or a [`Snapshot`].
    pub fn close(self) -> Result<PathBuf, Self> {
        match Arc::try_unwrap(self.inner) {
            Ok(inner) => Ok(inner.path.clone()),
            Err(inner) => Err(Self { inner }),
        }
    }

    /// How it was opened.
    #[must_use]
    pub fn options(&self) -> &Options {
        &self.inner.options
    }

    /// The directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.inner.path
    }

    /// An empty batch.
    #[must_use]
    pub fn batch(&self) -> Batch {
        Batch::new()
    }

    /// Applies `batch` as one. It is visible at once, and durable with the next flush.
    ///
    /// # Errors
    /// If RocksDB refuses; nothing of the batch is then applied, and the database takes no more
    /// writes.
    pub fn write(&self, mut batch: Batch) -> Result<(), Error> {
        self.write_and_clear(&mut batch)
    }

    /// [`Self::write`] that leaves an empty batch with its memory, for the next one.
    ///
    /// # Errors
    /// As for [`Self::write`].
    pub fn write_and_clear(&self, batch: &mut Batch) -> Result<(), Error> {
        if batch.is_empty() {
            return Ok(());
        }
        let theirs = WriteBatch::from_data(batch.serialized());
        batch.clear();
        fp!("backend-before-write");
        self.inner.db.write_opt(theirs, &write_options()).map_err(Error::new("write"))?;
        fp!("backend-after-write");
        Ok(())
    }

    /// The row `key` of `bucket`.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn get(&self, bucket: Bucket, key: &[u8]) -> Result<Option<Bytes>, Error> {
        self.get_with(bucket, key, &ReadOptions::default())
    }

    /// The row `key` of `bucket` as far as it is flushed: what a crash at this moment would keep.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn get_durable(&self, bucket: Bucket, key: &[u8]) -> Result<Option<Bytes>, Error> {
        let mut options = ReadOptions::default();
        options.set_read_tier(ReadTier::Persisted);
        self.get_with(bucket, key, &options)
    }

    fn get_with(
        &self,
        bucket: Bucket,
        key: &[u8],
        options: &ReadOptions,
    ) -> Result<Option<Bytes>, Error> {
        let row = self.inner.db.get_pinned_cf_opt(self.inner.family(bucket), key, options);
        Ok(row.map_err(self.inner.reading())?.map(|row| Bytes::copy_from_slice(&row)))
    }

    /// Reads the rows `keys`, which are sorted, and hands each with its position to `each`.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn multi_get<K: AsRef<[u8]>>(
        &self,
        bucket: Bucket,
        keys: &[K],
        mut each: impl FnMut(usize, Option<&[u8]>),
    ) -> Result<(), Error> {
        let family = self.inner.family(bucket);
        let rows = self.inner.db.batched_multi_get_cf(family, keys, true);
        for (position, row) in rows.into_iter().enumerate() {
            each(position, row.map_err(self.inner.reading())?.as_deref());
        }
        Ok(())
    }

    /// Walks rows of `bucket` as they are now.
    #[must_use]
    pub fn rows(&self, bucket: Bucket, scan: &Scan<'_>) -> Rows<'_> {
        let family = self.inner.family(bucket);
        let raw = self.inner.db.raw_iterator_cf_opt(family, scan.read_options());
        Rows::new(raw, scan.from, self.inner.options.on_damage.as_ref())
    }

    /// The last row of `bucket`.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn last(&self, bucket: Bucket) -> Result<Option<(Bytes, Bytes)>, Error> {
        let mut raw = self.inner.db.raw_iterator_cf(self.inner.family(bucket));
        raw.seek_to_last();
        raw.status().map_err(self.inner.reading())?;
        Ok(raw
            .item()
            .map(|(key, value)| (Bytes::copy_from_slice(key), Bytes::copy_from_slice(value))))
    }

    /// A view of the database as it is now, which stays as it is. It pins space: keep it short.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let inner = Arc::clone(&self.inner);
        Snapshot { cell: SnapshotCell::new(inner, |inner| inner.db.snapshot()) }
    }

    /// Makes everything written so far durable: one atomic flush of all buckets. Takes as long as
    /// the disk needs.
    ///
    /// # Errors
    /// If the flush fails.
    pub fn flush(&self) -> Result<(), Error> {
        let mut options = FlushOptions::default();
        options.set_wait(true);
        let families = self.inner.families();
        fp!("backend-before-flush");
        self.inner.db.flush_cfs_opt(&families, &options).map_err(Error::new("flush"))?;
        fp!("backend-after-flush");
        Ok(())
    }

    /// Flushes, and makes a copy of the database in `dir`, which must not exist; the files are
    /// hard links where the file system allows.
    ///
    /// # Errors
    /// If the copy fails.
    pub fn checkpoint(&self, dir: &Path) -> Result<(), Error> {
        fp!("backend-before-checkpoint");
        Checkpoint::new(&self.inner.db)
            .and_then(|checkpoint| checkpoint.create_checkpoint(dir))
            .map_err(Error::new("checkpoint"))?;
        fp!("backend-after-checkpoint");
        Ok(())
    }

    /// Like [`Self::checkpoint`] without the flush: what would be found after a crash now.
    ///
    /// # Errors
    /// If the copy fails.
    pub fn checkpoint_unflushed(&self, dir: &Path) -> Result<(), Error> {
        Checkpoint::new(&self.inner.db)
            .and_then(|checkpoint| checkpoint.create_checkpoint_with_log_size(dir, u64::MAX))
            .map_err(Error::new("checkpoint"))
    }

    /// Rewrites the table files of all buckets without what is dead. Blocks nobody, takes long.
    pub fn compact(&self) {
        fp!("backend-before-defrag");
        for bucket in Bucket::ALL {
            self.compact_range(bucket, None, None);
            fp!("backend-defrag-bucket");
        }
    }

    /// Rewrites the table files with the rows `from..before` of `bucket`.
    pub fn compact_range(&self, bucket: Bucket, from: Option<&[u8]>, before: Option<&[u8]>) {
        let mut options = rocksdb::CompactOptions::default();
        options.set_exclusive_manual_compaction(false);
        self.inner.db.compact_range_cf_opt(self.inner.family(bucket), from, before, &options);
    }

    /// Space taken.
    ///
    /// # Errors
    /// If RocksDB does not say.
    pub fn sizes(&self) -> Result<Sizes, Error> {
        let tables = self.sum(rocksdb::properties::LIVE_SST_FILES_SIZE)?;
        let live = self.sum(rocksdb::properties::ESTIMATE_LIVE_DATA_SIZE)?;
        let unflushed = self.sum(rocksdb::properties::CUR_SIZE_ALL_MEM_TABLES)?;
        Ok(Sizes {
            on_disk: tables + unflushed,
            in_use: (live + unflushed).min(tables + unflushed),
        })
    }

    /// Bytes written that are not flushed.
    ///
    /// # Errors
    /// If RocksDB does not say.
    pub fn unflushed_bytes(&self) -> Result<u64, Error> {
        self.sum(rocksdb::properties::CUR_SIZE_ALL_MEM_TABLES)
    }

    /// Memory taken.
    #[must_use]
    pub fn memory(&self) -> MemoryUsage {
        MemoryUsage {
            block_cache: self.inner.shared.cache.get_usage() as u64,
            memtables: self.inner.shared.memtables.get_usage() as u64,
        }
    }

    /// An integer property of RocksDB, summed over all buckets.
    fn sum(&self, name: &rocksdb::properties::PropName) -> Result<u64, Error> {
        Bucket::ALL.into_iter().try_fold(0, |sum, bucket| {
            let value = self.inner.db.property_int_value_cf(self.inner.family(bucket), name);
            Ok(sum + value.map_err(Error::new("measure"))?.unwrap_or(0))
        })
    }

    fn check_format(&self, writable: bool) -> Result<(), OpenError> {
        let path = self.inner.path.clone();
        let db = &self.inner.db;
        let marker = match db.get(FORMAT_ROW) {
            Ok(marker) => marker,
            Err(source) => return Err(OpenError::Engine { path, source }),
        };
        match marker {
            Some(marker) if marker == FORMAT.as_bytes() => Ok(()),
            // Nothing was ever flushed, so the marker was not either.
            None if writable && db.latest_sequence_number() == 0 => db
                .put_opt(FORMAT_ROW, FORMAT, &write_options())
                .map_err(|source| OpenError::Engine { path, source }),
            found => {
                let found = String::from_utf8_lossy(&found.unwrap_or_default()).into_owned();
                Err(OpenError::Format { path, found, expected: FORMAT })
            }
        }
    }

    /// Has RocksDB write one record per bucket into a batch, and compares with ours.
    fn check_families(&self) -> Result<(), OpenError> {
        for bucket in Bucket::ALL {
            let mut theirs = WriteBatch::default();
            theirs.put_cf(self.inner.family(bucket), b"k", b"v");
            let mut ours = Batch::new();
            ours.put(bucket, b"k", b"v");
            if theirs.data() != ours.serialized() {
                return Err(OpenError::FamilyId {
                    path: self.inner.path.clone(),
                    name: bucket.name(),
                    found: theirs.data().get(13).copied().unwrap_or_default().into(),
                    expected: bucket.family_id().into(),
                });
            }
        }
        Ok(())
    }
}

impl std::fmt::Debug for Backend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Backend").field("path", &self.inner.path).finish_non_exhaustive()
    }
}

impl Inner {
    fn family(&self, bucket: Bucket) -> &ColumnFamily {
        self.db.cf_handle(bucket.name()).expect("open() opened a family for every bucket")
    }

    fn reading(&self) -> impl Fn(rocksdb::Error) -> Error {
        Error::reading("read", self.options.on_damage.as_ref())
    }

    fn families(&self) -> Vec<&ColumnFamily> {
        let default = self.db.cf_handle(rocksdb::DEFAULT_COLUMN_FAMILY_NAME);
        let buckets = Bucket::ALL.into_iter().map(|bucket| self.family(bucket));
        default.into_iter().chain(buckets).collect()
    }
}

type View<'a> = rocksdb::Snapshot<'a>;

self_cell::self_cell!(
    struct SnapshotCell {
        owner: Arc<Inner>,
        #[covariant]
        dependent: View,
    }
);

/// The database as it was at one moment. Keeps the database open.
pub struct Snapshot {
    cell: SnapshotCell,
}

impl Snapshot {
    /// The row `key` of `bucket`.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn get(&self, bucket: Bucket, key: &[u8]) -> Result<Option<Bytes>, Error> {
        let inner = self.cell.borrow_owner();
        let row = self.cell.borrow_dependent().get_pinned_cf(inner.family(bucket), key);
        Ok(row.map_err(inner.reading())?.map(|row| Bytes::copy_from_slice(&row)))
    }

    /// Walks rows of `bucket`.
    #[must_use]
    pub fn rows(&self, bucket: Bucket, scan: &Scan<'_>) -> Rows<'_> {
        let inner = self.cell.borrow_owner();
        let view = self.cell.borrow_dependent();
        let raw = view.raw_iterator_cf_opt(inner.family(bucket), scan.read_options());
        Rows::new(raw, scan.from, inner.options.on_damage.as_ref())
    }

    /// Walks all rows of `bucket`.
    #[must_use]
    pub fn all_rows(&self, bucket: Bucket) -> Rows<'_> {
        self.rows(bucket, &Scan { from: Bound::Unbounded, before: None, fill_cache: false })
    }
}

fn write_options() -> WriteOptions {
    let mut options = WriteOptions::default();
    options.disable_wal(true);
    options
}

fn families(options: &Options, shared: &Shared) -> Vec<ColumnFamilyDescriptor> {
    let buckets = Bucket::ALL.into_iter().map(|bucket| {
        ColumnFamilyDescriptor::new(bucket.name(), options::family(bucket, options, shared))
    });
    let default = rocksdb::DEFAULT_COLUMN_FAMILY_NAME;
    let default =
        ColumnFamilyDescriptor::new(default, options::family(Bucket::Meta, options, shared));
    std::iter::once(default).chain(buckets).collect()
}

fn open_error(dir: &Path, source: rocksdb::Error) -> OpenError {
    let path = dir.to_owned();
    // RocksDB has no kind of its own for a lock that is held; both texts name the LOCK file.
    let text = source.as_ref();
    let locked = source.kind() == ErrorKind::IOError
        && text.contains("LOCK")
        && (text.contains("lock hold by current process")
            || text.contains("Resource temporarily unavailable"));
    if locked { OpenError::Locked { path } } else { OpenError::Engine { path, source } }
}
