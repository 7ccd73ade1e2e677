//! The names of all keys, and what to say about one that is not among them.

/// Every key of the configuration file.
pub(super) const KNOWN: &[&str] = &[
    "cluster_name",
    "broker_group",
    "replica_id",
    "listen",
    "peer_listen",
    "advertise",
    "peer_advertise",
    "metrics_listen",
    "data_dir",
    "name_servers",
    "durability",
    "segment_bytes",
    "retention_hours",
    "retention_bytes",
    "disk_full_percent",
    "in_flight_bytes",
    "tail_cache_bytes",
    "memtable_bytes",
    "block_cache_bytes",
    "format_level_max",
    "auto_create_topics",
    "auto_create_consumer_groups",
    "default_queues",
    "consume_from",
    "heartbeat_ms",
    "election_min_ms",
    "election_max_ms",
    "silence_ms",
    "connections_max",
    "rpc_threads",
    "log_level",
];

/// Keys of RocketMQ's broker.conf and what takes their place here.
const ROCKETMQ: &[(&str, &str)] = &[
    ("brokerName", "`broker_group`"),
    ("brokerId", "`replica_id`"),
    ("brokerClusterName", "`cluster_name`"),
    ("brokerIP1", "`advertise`"),
    ("brokerIP2", "`peer_advertise`"),
    ("namesrvAddr", "`name_servers`, a list"),
    ("listenPort", "`listen`, host:port"),
    ("haListenPort", "`peer_listen`, host:port"),
    ("storePathRootDir", "`data_dir`"),
    ("storePathCommitLog", "`data_dir`: the commitlog lies below it"),
    ("mappedFileSizeCommitLog", "`segment_bytes`"),
    (
        "mappedFileSizeConsumeQueue",
        "nothing: queue indexes are kept by the state store",
    ),
    (
        "flushDiskType",
        "`durability`: every message is on the disks of a majority before it is acknowledged",
    ),
    (
        "brokerRole",
        "nothing: the replicas of a broker group elect their leader",
    ),
    ("enableDLegerCommitLog", "nothing: every broker group is a Raft group"),
    ("dLegerGroup", "`broker_group`"),
    (
        "dLegerPeers",
        "nothing: members are given once, when the broker group is bootstrapped",
    ),
    ("dLegerSelfId", "`replica_id`"),
    (
        "enableControllerMode",
        "nothing: there is no controller, the replicas elect their leader",
    ),
    (
        "controllerAddr",
        "nothing: there is no controller, the replicas elect their leader",
    ),
    ("fileReservedTime", "`retention_hours`"),
    (
        "deleteWhen",
        "nothing: whole segments are forgotten as they come of age",
    ),
    (
        "diskMaxUsedSpaceRatio",
        "`retention_bytes`, which bounds the log; `disk_full_percent`, above which sends are refused",
    ),
    ("maxMessageSize", "nothing: a message body has at most 4 MiB"),
    ("autoCreateTopicEnable", "`auto_create_topics`"),
    ("autoCreateSubscriptionGroup", "`auto_create_consumer_groups`"),
    ("defaultTopicQueueNums", "`default_queues`"),
    (
        "inSyncReplicas",
        "nothing: a majority always has every acknowledged message",
    ),
    (
        "minInSyncReplicas",
        "nothing: a majority always has every acknowledged message",
    ),
    (
        "allAckInSyncStateSet",
        "nothing: a majority always has every acknowledged message",
    ),
    ("sendMessageThreadPoolNums", "`rpc_threads`"),
];

/// The end of the error for an unknown key, starting with its separator.
pub(super) fn hint(key: &str) -> String {
    if let Some((_, here)) = ROCKETMQ.iter().find(|(theirs, _)| theirs.eq_ignore_ascii_case(key)) {
        return format!("; it is a key of RocketMQ's broker.conf, here it is {here}");
    }
    let normal = key.to_ascii_lowercase().replace(['-', '.'], "_");
    let nearest = KNOWN.iter().map(|known| (strsim::jaro_winkler(&normal, known), *known));
    match nearest.max_by(|a, b| a.0.total_cmp(&b.0)) {
        Some((score, known)) if score > 0.7 => format!("; did you mean `{known}`?"),
        _ => format!("; the keys are {}", KNOWN.join(", ")),
    }
}
