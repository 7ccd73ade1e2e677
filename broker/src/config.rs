//! The broker's configuration in two steps: [`RawConfig`] is what the file says, [`Config`] is what was checked. Only the
//! checked one travels. Every key is described in docs/operations.md.

mod keys;

use std::fmt::Display;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::state::level::FORMAT_LEVEL;

/// What is wrong with a configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The text is not TOML, or a value has another type than the key wants.
    #[error("not a valid configuration: {0}")]
    Syntax(String),
    /// A key that LedgerMQ does not know.
    #[error("unknown key `{key}`{hint}")]
    UnknownKey {
        /// The key as written.
        key: String,
        /// The nearest known key, or what RocketMQ's key is called here.
        hint: String,
    },
    /// A value outside its bounds.
    #[error("`{field}` is {value}, but {limit}")]
    OutOfBounds {
        /// The key.
        field: &'static str,
        /// The value as written.
        value: String,
        /// What it may be.
        limit: String,
    },
}

/// The file's keys, unchecked. `Default` holds the default of every key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[allow(missing_docs)] // each key is described at its checked twin and in docs/operations.md
pub struct RawConfig {
    pub cluster_name: String,
    pub broker_group: String,
    pub replica_id: u64,
    pub listen: String,
    pub peer_listen: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advertise: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer_advertise: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metrics_listen: Option<String>,
    pub data_dir: PathBuf,
    pub name_servers: Vec<String>,
    pub durability: String,
    pub segment_bytes: u64,
    pub retention_hours: u64,
    pub retention_bytes: u64,
    pub disk_full_percent: u64,
    pub in_flight_bytes: u64,
    pub tail_cache_bytes: u64,
    pub memtable_bytes: u64,
    pub block_cache_bytes: u64,
    pub format_level_max: u32,
    pub auto_create_topics: bool,
    pub auto_create_consumer_groups: bool,
    pub default_queues: u32,
    pub consume_from: String,
    pub heartbeat_ms: u64,
    pub election_min_ms: u64,
    pub election_max_ms: u64,
    pub silence_ms: u64,
    pub connections_max: u64,
    pub rpc_threads: u64,
    pub log_level: String,
}

impl Default for RawConfig {
    fn default() -> Self {
        Self {
            cluster_name: "ledgermq".into(),
            broker_group: "broker-a".into(),
            replica_id: 1,
            listen: "127.0.0.1:8081".into(),
            peer_listen: "127.0.0.1:0".into(),
            advertise: None,
            peer_advertise: None,
            metrics_listen: None,
            data_dir: PathBuf::from("ledgermq-data"),
            name_servers: vec!["127.0.0.1:9876".into()],
            durability: "fsync-quorum".into(),
            segment_bytes: 1 << 30,
            retention_hours: 72,
            retention_bytes: 0,
            disk_full_percent: 90,
            in_flight_bytes: 32 << 20,
            tail_cache_bytes: 32 << 20,
            memtable_bytes: 32 << 20,
            block_cache_bytes: 16 << 20,
            format_level_max: 0,
            auto_create_topics: true,
            auto_create_consumer_groups: true,
            default_queues: 8,
            consume_from: "earliest".into(),
            heartbeat_ms: 100,
            election_min_ms: 400,
            election_max_ms: 700,
            silence_ms: 250,
            connections_max: 4096,
            rpc_threads: 0,
            log_level: "info".into(),
        }
    }
}

/// When a message counts as stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// A majority has it on disk.
    FsyncQuorum,
    /// A majority has it in memory: a power cut of a majority loses what was acknowledged.
    MemoryQuorum,
}

/// Where a new consumer group starts in a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConsumeFrom {
    /// At the oldest message kept.
    Earliest,
    /// At the next message sent.
    Latest,
}

/// The checked configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Name of the cluster, for people and logs.
    pub cluster_name: String,
    /// The broker group of this replica; also its broker name in routes.
    pub broker_group: String,
    /// Number of this replica in its broker group, at least 1.
    pub replica_id: u64,
    /// Where clients connect: host:port, port 0 for any free one.
    pub listen: String,
    /// Where the other replicas connect.
    pub peer_listen: String,
    /// The host:port clients are told; the bound listen address when absent.
    pub advertise: Option<String>,
    /// The host:port the other replicas are told; the bound peer address when absent.
    pub peer_advertise: Option<String>,
    /// Prometheus metrics; off when absent.
    pub metrics_listen: Option<String>,
    /// Folder of the log and of the state.
    pub data_dir: PathBuf,
    /// host:port of every name server; may be empty.
    pub name_servers: Vec<String>,
    /// When a message counts as stored.
    pub durability: Durability,
    /// Size of one log segment, 1 MiB to 4 GiB.
    pub segment_bytes: u64,
    /// Messages older than this are forgotten, a whole segment at a time; 1 to 87,600.
    pub retention_hours: u64,
    /// Bytes of finished segments that are kept; the oldest are forgotten above it. 0 for no bound, else at least a
    /// segment.
    pub retention_bytes: u64,
    /// A disk that is used so far takes no new messages, 50 to 100; 100 for never.
    pub disk_full_percent: u64,
    /// Bytes of proposals not yet applied; above it sends answer TOO_MANY_REQUESTS. 1 MiB to 1 GiB.
    pub in_flight_bytes: u64,
    /// Bytes of the newest entries kept in memory, 1 MiB to 4 GiB.
    pub tail_cache_bytes: u64,
    /// Bytes of RocksDB's write buffers, 4 MiB to 4 GiB.
    pub memtable_bytes: u64,
    /// Bytes of RocksDB's block cache, 1 MiB to 64 GiB.
    pub block_cache_bytes: u64,
    /// The highest format level of the state that this replica supports, 1 to [`FORMAT_LEVEL`]; as long as one member
    /// supports no more than the state is at, the way back to the release before is open.
    pub format_level_max: u32,
    /// Create a topic (mixed type) at its first use.
    pub auto_create_topics: bool,
    /// Create a consumer group at its first use.
    pub auto_create_consumer_groups: bool,
    /// Queues of an auto-created topic, 1 to 1024.
    pub default_queues: u32,
    /// Where a new consumer group starts.
    pub consume_from: ConsumeFrom,
    /// Raft heartbeat, milliseconds.
    pub heartbeat_ms: u64,
    /// Raft election timeout, milliseconds.
    pub election_min_ms: u64,
    /// Raft election timeout, milliseconds.
    pub election_max_ms: u64,
    /// A leader silent for so long is given up when a majority agrees, milliseconds.
    pub silence_ms: u64,
    /// Open client connections, 16 to 1,000,000.
    pub connections_max: usize,
    /// Threads that serve clients; 0 means one for each processor.
    pub rpc_threads: usize,
    /// What is logged: error, warn, info, debug, trace, or a tracing filter.
    pub log_level: String,
}

impl Config {
    /// Reads and checks a configuration file's text.
    pub fn from_toml(text: &str) -> Result<Self, ConfigError> {
        RawConfig::from_toml(text)?.check()
    }

    /// Checks a raw configuration.
    pub fn check(raw: RawConfig) -> Result<Self, ConfigError> {
        raw.check()
    }

    /// Shortest silence after which a replica counts as away, in milliseconds.
    pub fn away_after_ms(&self) -> u64 {
        self.election_max_ms
    }
}

impl RawConfig {
    /// Reads a configuration file's text; refuses unknown keys and names the nearest known one.
    pub fn from_toml(text: &str) -> Result<Self, ConfigError> {
        let table: toml::Table = toml::from_str(text).map_err(|e| ConfigError::Syntax(e.to_string()))?;
        for key in table.keys() {
            if !keys::KNOWN.contains(&key.as_str()) {
                return Err(ConfigError::UnknownKey {
                    key: key.clone(),
                    hint: keys::hint(key),
                });
            }
        }
        toml::from_str(text).map_err(|e| ConfigError::Syntax(e.to_string()))
    }

    /// The text of a file that says the same.
    pub fn to_toml(&self) -> Result<String, ConfigError> {
        toml::to_string(self).map_err(|e| ConfigError::Syntax(e.to_string()))
    }

    fn check(self) -> Result<Config, ConfigError> {
        name("cluster_name", &self.cluster_name)?;
        name("broker_group", &self.broker_group)?;
        within("replica_id", self.replica_id, 1, u64::from(u32::MAX))?;
        address("listen", &self.listen, true)?;
        address("peer_listen", &self.peer_listen, true)?;
        for (field, value) in [("advertise", &self.advertise), ("peer_advertise", &self.peer_advertise)] {
            if let Some(value) = value {
                address(field, value, false)?;
            }
        }
        if let Some(value) = &self.metrics_listen {
            address("metrics_listen", value, true)?;
        }
        if self.data_dir.as_os_str().is_empty() {
            return Err(out_of_bounds("data_dir", "\"\"", "it must name a folder"));
        }
        within("name_servers", self.name_servers.len() as u64, 0, 16)?;
        for value in &self.name_servers {
            address("name_servers", value, false)?;
        }
        let durability = match self.durability.as_str() {
            "fsync-quorum" => Durability::FsyncQuorum,
            "memory-quorum" => Durability::MemoryQuorum,
            other => {
                return Err(out_of_bounds(
                    "durability",
                    other,
                    "it must be \"fsync-quorum\" or \"memory-quorum\"",
                ));
            }
        };
        let consume_from = match self.consume_from.as_str() {
            "earliest" => ConsumeFrom::Earliest,
            "latest" => ConsumeFrom::Latest,
            other => {
                return Err(out_of_bounds(
                    "consume_from",
                    other,
                    "it must be \"earliest\" or \"latest\"",
                ));
            }
        };
        within("segment_bytes", self.segment_bytes, 1 << 20, 4 << 30)?;
        within("retention_hours", self.retention_hours, 1, 87_600)?;
        if self.retention_bytes != 0 && self.retention_bytes < self.segment_bytes {
            let limit = format!("it must be 0 or at least `segment_bytes`, {}", self.segment_bytes);
            return Err(out_of_bounds("retention_bytes", self.retention_bytes, limit));
        }
        within("in_flight_bytes", self.in_flight_bytes, 1 << 20, 1 << 30)?;
        within("tail_cache_bytes", self.tail_cache_bytes, 1 << 20, 4 << 30)?;
        within("memtable_bytes", self.memtable_bytes, 4 << 20, 4 << 30)?;
        within("block_cache_bytes", self.block_cache_bytes, 1 << 20, 64 << 30)?;
        within("disk_full_percent", self.disk_full_percent, 50, 100)?;
        within("format_level_max", self.format_level_max.into(), 0, FORMAT_LEVEL.into())?;
        within("default_queues", u64::from(self.default_queues), 1, 1024)?;
        within("heartbeat_ms", self.heartbeat_ms, 10, 10_000)?;
        within(
            "election_min_ms",
            self.election_min_ms,
            self.heartbeat_ms.saturating_mul(2),
            60_000,
        )?;
        within(
            "election_max_ms",
            self.election_max_ms,
            self.election_min_ms + 1,
            120_000,
        )?;
        within(
            "silence_ms",
            self.silence_ms,
            self.heartbeat_ms * 2,
            self.election_min_ms - 1,
        )?;
        within("connections_max", self.connections_max, 16, 1_000_000)?;
        within("rpc_threads", self.rpc_threads, 0, 1024)?;
        if self.log_level.is_empty() || self.log_level.len() > 1024 {
            return Err(out_of_bounds(
                "log_level",
                &self.log_level,
                "it must have 1 to 1024 characters",
            ));
        }
        Ok(Config {
            cluster_name: self.cluster_name,
            broker_group: self.broker_group,
            replica_id: self.replica_id,
            listen: self.listen,
            peer_listen: self.peer_listen,
            advertise: self.advertise,
            peer_advertise: self.peer_advertise,
            metrics_listen: self.metrics_listen,
            data_dir: self.data_dir,
            name_servers: self.name_servers,
            durability,
            segment_bytes: self.segment_bytes,
            retention_hours: self.retention_hours,
            retention_bytes: self.retention_bytes,
            disk_full_percent: self.disk_full_percent,
            in_flight_bytes: self.in_flight_bytes,
            tail_cache_bytes: self.tail_cache_bytes,
            memtable_bytes: self.memtable_bytes,
            block_cache_bytes: self.block_cache_bytes,
            format_level_max: match self.format_level_max {
                0 => FORMAT_LEVEL,
                level => level,
            },
            auto_create_topics: self.auto_create_topics,
            auto_create_consumer_groups: self.auto_create_consumer_groups,
            default_queues: self.default_queues,
            consume_from,
            heartbeat_ms: self.heartbeat_ms,
            election_min_ms: self.election_min_ms,
            election_max_ms: self.election_max_ms,
            silence_ms: self.silence_ms,
            connections_max: self.connections_max as usize,
            rpc_threads: self.rpc_threads as usize,
            log_level: self.log_level,
        })
    }
}

fn out_of_bounds(field: &'static str, value: impl Display, limit: impl Display) -> ConfigError {
    ConfigError::OutOfBounds {
        field,
        value: value.to_string(),
        limit: limit.to_string(),
    }
}

fn within(field: &'static str, value: u64, low: u64, high: u64) -> Result<(), ConfigError> {
    if (low..=high).contains(&value) {
        return Ok(());
    }
    Err(out_of_bounds(field, value, format_args!("it must be {low} to {high}")))
}

/// Checks the name of a cluster or a broker group: 1 to 64 of the characters a-z A-Z 0-9 - _. The error names `field`.
pub fn name(field: &'static str, value: &str) -> Result<(), ConfigError> {
    let good = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if (1..=64).contains(&value.len()) && value.chars().all(good) {
        return Ok(());
    }
    Err(out_of_bounds(
        field,
        format_args!("{value:?}"),
        "it must have 1 to 64 of the characters a-z A-Z 0-9 - _",
    ))
}

/// host:port, where the host is a name, an IPv4 address or an IPv6 address in brackets.
fn address(field: &'static str, value: &str, port_zero: bool) -> Result<(), ConfigError> {
    let limit = || {
        let low = u16::from(!port_zero);
        out_of_bounds(
            field,
            format_args!("{value:?}"),
            format_args!("it must be host:port with a port {low} to 65535"),
        )
    };
    let (host, port) = value.rsplit_once(':').ok_or_else(limit)?;
    let bracketed = host.starts_with('[') && host.ends_with(']');
    let host_good = !host.is_empty() && host.len() <= 255 && (bracketed || !host.contains(':'));
    let printable = host.chars().all(|c| c.is_ascii_graphic() && c != '/' && c != '@');
    match port.parse::<u16>() {
        Ok(port) if host_good && printable && (port > 0 || port_zero) => Ok(()),
        _ => Err(limit()),
    }
}

#[cfg(test)]
mod tests;
