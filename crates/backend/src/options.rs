//! Settings, and RocksDB's options made of them (engine.md §4.4).

use rocksdb::{
    BlockBasedOptions, Cache, DBCompactionStyle, DBCompressionType, LogLevel, MemtableFactory,
    WriteBufferManager,
};

use crate::{Bucket, OnDamage};

/// Settings of a database.
#[derive(Clone, Debug)]
pub struct Options {
    /// Memory for blocks of table files, bytes.
    pub block_cache_bytes: usize,
    /// Memory for writes that are not flushed yet, bytes over all buckets. A flush starts when
    /// most of it is in use.
    pub memtable_bytes: usize,
    /// Threads for flushes and compactions.
    pub background_jobs: i32,
    /// Table files that stay open; -1 for all.
    pub open_files_max: i32,
    /// Hears of damage that a read meets.
    pub on_damage: Option<OnDamage>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            block_cache_bytes: 64 << 20,
            memtable_bytes: 128 << 20,
            background_jobs: 2,
            open_files_max: -1,
            on_damage: None,
        }
    }
}

/// Parts that all column families share; they live as long as the database.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) cache: Cache,
    pub(crate) memtables: WriteBufferManager,
}

impl Shared {
    pub(crate) fn new(options: &Options) -> Self {
        Self {
            cache: Cache::new_lru_cache(options.block_cache_bytes),
            // Never stalls: one writer applies the log, and waiting there would stop the member.
            memtables: WriteBufferManager::new_write_buffer_manager(options.memtable_bytes, false),
        }
    }
}

pub(crate) fn database(options: &Options, shared: &Shared) -> rocksdb::Options {
    let mut db = rocksdb::Options::default();
    db.create_if_missing(true);
    db.create_missing_column_families(true);
    // Without the log below us a flush must take all buckets at one sequence number; otherwise a
    // crash leaves the applied index and the data of different moments (engine.md §4.3).
    db.set_atomic_flush(true);
    db.set_write_buffer_manager(&shared.memtables);
    db.set_max_background_jobs(options.background_jobs);
    // Whatever does not add up at an open is refused; blocks are checked whenever they are read.
    db.set_paranoid_checks(true);
    db.set_bytes_per_sync(1 << 20);
    db.set_max_open_files(options.open_files_max);
    db.set_allow_concurrent_memtable_write(false);
    db.set_enable_write_thread_adaptive_yield(false);
    db.set_keep_log_file_num(4);
    db.set_max_log_file_size(16 << 20);
    db.set_log_level(LogLevel::Warn);
    db.set_stats_dump_period_sec(0);
    db.set_stats_persist_period_sec(0);
    db.set_skip_stats_update_on_db_open(true);
    db
}

pub(crate) fn family(bucket: Bucket, options: &Options, shared: &Shared) -> rocksdb::Options {
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(&shared.cache);
    table.set_block_size(16 << 10);
    table.set_cache_index_and_filter_blocks(true);
    table.set_pin_l0_filter_and_index_blocks_in_cache(true);
    table.set_format_version(6);
    let mut family = rocksdb::Options::default();
    let write_buffer_bytes = match bucket {
        Bucket::Key => (options.memtable_bytes / 2).clamp(1 << 20, 64 << 20),
        Bucket::Index => (options.memtable_bytes / 4).clamp(1 << 20, 32 << 20),
        // Any full bucket flushes them all, and `meta` gets a row with every batch.
        _ => (options.memtable_bytes / 4).clamp(1 << 20, 32 << 20),
    };
    family.set_write_buffer_size(write_buffer_bytes);
    family.set_max_write_buffer_number(4);
    family.set_min_write_buffer_number_to_merge(1);
    family.set_level_zero_file_num_compaction_trigger(4);
    family.set_target_file_size_base(64 << 20);
    family.set_max_bytes_for_level_base(256 << 20);
    family.set_level_compaction_dynamic_level_bytes(true);
    // One compression for all levels: only then a file whose keys lie behind all others, which is
    // what new revisions are, moves down a level by name instead of being written again.
    family.set_compression_type(DBCompressionType::Lz4);
    family.set_block_based_table_factory(&table);
    if bucket == Bucket::Index {
        // Rows come in random order and are read at a start alone, so they are not sorted one by
        // one on the way in, but all together when they are flushed, in the background.
        family.set_memtable_factory(MemtableFactory::Vector);
        // Random rows would be merged into the whole lowest level with every few flushes. Runs of
        // similar size are merged instead: a start reads all of them side by side once.
        family.set_compaction_style(DBCompactionStyle::Universal);
    }
    family
}
