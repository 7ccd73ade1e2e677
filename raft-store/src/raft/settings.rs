//! How openraft is set up. See docs/decisions for the numbers.

use openraft::{Config, SnapshotPolicy};

use crate::options::Timings;

/// The configuration of one replica's core.
pub fn config(broker_group: &str, timings: Timings) -> Config {
    Config {
        cluster_name: broker_group.to_owned(),
        heartbeat_interval: timings.heartbeat_ms,
        election_timeout_min: timings.election_min_ms,
        election_timeout_max: timings.election_max_ms,
        heartbeat_min_interval: Some(0),
        enable_pre_vote: Some(true),
        // A restarted leader must win an election: its machine may be behind what it had committed.
        enable_leader_restore: Some(false),
        max_payload_entries: 4096,
        max_append_entries: Some(4096),
        api_batch_capacity: 4096,
        api_batch_linger_ms: 0,
        api_channel_size: Some(16_384),
        notification_channel_size: Some(65_536),
        state_machine_channel_size: Some(1024),
        // Snapshots and purges are ours to time: at the retention point.
        snapshot_policy: SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: u64::MAX,
        purge_batch_size: 1,
        replication_lag_threshold: 100_000,
        install_snapshot_timeout: 600_000,
        backoff: "50ms 100ms 200ms ...500ms".to_owned(),
        allow_log_reversion: None,
        ..Config::default()
    }
}
