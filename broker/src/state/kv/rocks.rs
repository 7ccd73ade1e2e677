//! Pairs in RocksDB: one column family for each [`Family`], no write-ahead log, atomic flush.
//!
//! The Raft log is the write-ahead log: what a crash takes is applied again from there. So nothing is flushed but
//! by [`Kv::flush`]; above all not on closing, which RocksDB does for data without a write-ahead log unless
//! `avoid_flush_during_shutdown` is set. That option has no setter in the bindings and is set by its name, first.
//! The write buffers are so large that the size never triggers a flush between two explicit ones in ordinary use;
//! where it does (all families together then, because of the atomic flush), the durable state is still one between
//! two batches, with the `applied` of its batch, which is all that a restart needs.

use super::moment::Moment;
use super::{Batch, Change, Family, Kv, KvError, KvView, Pair};
use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamily, ColumnFamilyDescriptor, DB, DBCompressionType, Direction, Env,
    FlushOptions, IteratorMode, Options, ReadOptions, WriteBatch, WriteOptions,
};
use std::path::Path;
use std::sync::Arc;

/// Memory and work that a store may take.
#[derive(Clone, Copy, Debug)]
pub struct RocksSettings {
    /// Bytes of memtables, all families together.
    pub memtable_bytes: usize,
    /// Bytes of cached blocks.
    pub block_cache_bytes: usize,
    /// Whether compaction runs by itself; off in simulations, where its threads would differ from run to run.
    pub compact: bool,
}

impl Default for RocksSettings {
    fn default() -> RocksSettings {
        RocksSettings {
            memtable_bytes: 32 << 20,
            block_cache_bytes: 16 << 20,
            compact: true,
        }
    }
}

/// Files of a store in memory, as a disk that a process may die on: what was flushed is there at the next
/// [`RocksKv::open_in`], and nothing else. A clone is the same disk.
#[derive(Clone)]
pub struct RocksMemory {
    env: Env,
}

impl RocksMemory {
    /// An empty disk.
    pub fn new() -> Result<RocksMemory, KvError> {
        let env = Env::mem_env().map_err(failed)?;
        Ok(RocksMemory { env })
    }
}

/// An open store. Dropping it and its views closes it without a flush.
pub struct RocksKv {
    db: Arc<DB>,
}

pub(super) fn failed(error: rocksdb::Error) -> KvError {
    KvError::new(error)
}

fn database_options(settings: RocksSettings) -> Result<Options, KvError> {
    // Answers new options and leaves those it is called on alone.
    let mut options = Options::default()
        .get_options_from_string("avoid_flush_during_shutdown=true")
        .map_err(failed)?;
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    options.set_atomic_flush(true);
    options.set_db_write_buffer_size(settings.memtable_bytes);
    options.set_max_open_files(256);
    options.set_max_background_jobs(2);
    options.set_stats_dump_period_sec(0);
    options.set_stats_persist_period_sec(0);
    options.set_keep_log_file_num(2);
    options.set_max_log_file_size(4 << 20);
    options.set_paranoid_checks(true);
    Ok(options)
}

fn family_options(family: Family, settings: RocksSettings, cache: &Cache) -> Options {
    let mut blocks = BlockBasedOptions::default();
    blocks.set_block_cache(cache);
    blocks.set_cache_index_and_filter_blocks(true);
    blocks.set_bloom_filter(10.0, false);
    let mut options = Options::default();
    options.set_block_based_table_factory(&blocks);
    options.set_compression_type(DBCompressionType::Lz4);
    options.set_disable_auto_compactions(!settings.compact);
    options.set_max_write_buffer_number(4);
    // The bound of all memtables is the database's; one family may take most of it.
    options.set_write_buffer_size(match family {
        Family::Runs | Family::Spans | Family::Recent => settings.memtable_bytes,
        _ => settings.memtable_bytes / 4,
    });
    // Arenas are allocated a block at a time for each family, so small ones keep idle families cheap.
    options.set_arena_block_size(256 << 10);
    options
}

impl RocksKv {
    /// Opens or creates the store in folder `path`.
    pub fn open(path: &Path, settings: RocksSettings) -> Result<RocksKv, KvError> {
        RocksKv::open_with(path, settings, None)
    }

    /// Opens or creates the store on files in memory. Every other handle must be dropped before: the store is locked.
    pub fn open_in(memory: &RocksMemory, settings: RocksSettings) -> Result<RocksKv, KvError> {
        RocksKv::open_with(Path::new("/state"), settings, Some(&memory.env))
    }

    fn open_with(path: &Path, settings: RocksSettings, env: Option<&Env>) -> Result<RocksKv, KvError> {
        let cache = Cache::new_lru_cache(settings.block_cache_bytes);
        let mut options = database_options(settings)?;
        if let Some(env) = env {
            options.set_env(env);
        }
        let families = Family::ALL
            .iter()
            .map(|family| ColumnFamilyDescriptor::new(family.name(), family_options(*family, settings, &cache)));
        let db = DB::open_cf_descriptors(&options, path, families).map_err(failed)?;
        Ok(RocksKv { db: Arc::new(db) })
    }

    fn family(&self, family: Family) -> Result<&ColumnFamily, KvError> {
        family_of(&self.db, family)
    }

    /// Whether RocksDB slows or stops writes now (admission watches it).
    pub fn stalls(&self) -> bool {
        let property = |name| self.db.property_int_value(name).ok().flatten().unwrap_or(0);
        property("rocksdb.is-write-stopped") != 0 || property("rocksdb.actual-delayed-write-rate") != 0
    }
}

fn family_of(db: &DB, family: Family) -> Result<&ColumnFamily, KvError> {
    db.cf_handle(family.name())
        .ok_or_else(|| KvError::new(format!("no family {}", family.name())))
}

/// The value of a key, as `options` see the database.
pub(super) fn get(db: &DB, options: &ReadOptions, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>, KvError> {
    db.get_cf_opt(family_of(db, family)?, key, options).map_err(failed)
}

/// Pairs from `from` on, below `to`, as `options` see the database.
pub(super) fn scan(
    db: &DB,
    mut options: ReadOptions,
    family: Family,
    (from, to): (&[u8], &[u8]),
    limit: usize,
) -> Result<Vec<Pair>, KvError> {
    if !to.is_empty() && from >= to {
        return Ok(Vec::new());
    }
    if !to.is_empty() {
        options.set_iterate_upper_bound(to);
    }
    let mode = IteratorMode::From(from, Direction::Forward);
    let iterator = db.iterator_cf_opt(family_of(db, family)?, options, mode);
    let mut pairs = Vec::new();
    for pair in iterator.take(limit) {
        let (key, value) = pair.map_err(failed)?;
        pairs.push((key.into_vec(), value.into_vec()));
    }
    Ok(pairs)
}

/// The last pair in `from..=upto`, as `options` see the database.
pub(super) fn last(
    db: &DB,
    mut options: ReadOptions,
    family: Family,
    (from, upto): (&[u8], &[u8]),
) -> Result<Option<Pair>, KvError> {
    if from > upto {
        return Ok(None);
    }
    options.set_iterate_lower_bound(from);
    let mode = IteratorMode::From(upto, Direction::Reverse);
    let pair = db.iterator_cf_opt(family_of(db, family)?, options, mode).next();
    let pair = pair.transpose().map_err(failed)?;
    Ok(pair.map(|(key, value)| (key.into_vec(), value.into_vec())))
}

impl KvView for RocksKv {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>, KvError> {
        get(&self.db, &ReadOptions::default(), family, key)
    }

    fn scan(&self, family: Family, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Pair>, KvError> {
        scan(&self.db, ReadOptions::default(), family, (from, to), limit)
    }

    fn last(&self, family: Family, from: &[u8], upto: &[u8]) -> Result<Option<Pair>, KvError> {
        last(&self.db, ReadOptions::default(), family, (from, upto))
    }
}

impl Kv for RocksKv {
    fn write(&self, batch: Batch) -> Result<(), KvError> {
        let mut writes = WriteBatch::default();
        for change in &batch.changes {
            match change {
                Change::Put(family, key, value) => writes.put_cf(self.family(*family)?, key, value),
                Change::Delete(family, key) => writes.delete_cf(self.family(*family)?, key),
                Change::DeleteRange(family, from, to) => {
                    if from < to {
                        writes.delete_range_cf(self.family(*family)?, from, to);
                    }
                }
            }
        }
        let mut options = WriteOptions::default();
        options.disable_wal(true);
        self.db.write_opt(writes, &options).map_err(failed)
    }

    fn flush(&self) -> Result<(), KvError> {
        let families = Family::ALL
            .iter()
            .map(|family| self.family(*family))
            .collect::<Result<Vec<_>, _>>()?;
        let mut options = FlushOptions::default();
        options.set_wait(true);
        self.db.flush_cfs_opt(&families, &options).map_err(failed)
    }

    fn view(&self) -> Result<Arc<dyn KvView>, KvError> {
        Ok(Arc::new(Moment::of(Arc::clone(&self.db))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::kv::conformance;

    #[test]
    fn conforms() {
        let folder = tempfile::tempdir().expect("folder");
        let settings = RocksSettings {
            compact: false,
            ..RocksSettings::default()
        };
        let mut open = || Box::new(RocksKv::open(&folder.path().join("kv"), settings).expect("open")) as Box<dyn Kv>;
        conformance::suite(&mut open);
    }

    #[test]
    fn conforms_on_files_in_memory() {
        let memory = RocksMemory::new().expect("memory");
        let settings = RocksSettings {
            compact: false,
            ..RocksSettings::default()
        };
        let mut open = || Box::new(RocksKv::open_in(&memory, settings).expect("open")) as Box<dyn Kv>;
        conformance::suite(&mut open);
    }
}
