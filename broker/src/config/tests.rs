//! Every rule with its refusal.

use super::*;

fn refusal(text: &str) -> String {
    Config::from_toml(text).expect_err(text).to_string()
}

#[test]
fn defaults_are_valid_and_survive_a_round_trip() {
    let raw = RawConfig::default();
    assert_eq!(
        Config::from_toml("").expect("empty"),
        raw.clone().check().expect("default")
    );
    let text = raw.to_toml().expect("text");
    assert_eq!(RawConfig::from_toml(&text).expect("read back"), raw);
}

#[test]
fn known_names_are_the_fields() {
    let full = RawConfig {
        advertise: Some("a:1".into()),
        peer_advertise: Some("a:2".into()),
        metrics_listen: Some("a:3".into()),
        ..RawConfig::default()
    };
    let table: toml::Table = toml::from_str(&full.to_toml().expect("text")).expect("table");
    let mut fields: Vec<&str> = table.keys().map(String::as_str).collect();
    let mut known = keys::KNOWN.to_vec();
    fields.sort_unstable();
    known.sort_unstable();
    assert_eq!(fields, known);
}

#[test]
fn unknown_keys_name_the_nearest() {
    assert_eq!(
        refusal("brokr_group = \"a\""),
        "unknown key `brokr_group`; did you mean `broker_group`?"
    );
    assert_eq!(
        refusal("data-dir = \"a\""),
        "unknown key `data-dir`; did you mean `data_dir`?"
    );
    assert!(refusal("zzz = 1").contains("the keys are cluster_name, "));
}

#[test]
fn rocketmq_keys_get_a_hint() {
    for (key, here) in [
        ("brokerName", "`broker_group`"),
        ("namesrvAddr", "`name_servers`"),
        ("listenPort", "`listen`"),
        ("storePathRootDir", "`data_dir`"),
        ("flushDiskType", "`durability`"),
        ("brokerRole", "elect their leader"),
        ("fileReservedTime", "retention"),
    ] {
        let text = refusal(&format!("{key} = \"x\""));
        assert!(text.contains("RocketMQ's broker.conf") && text.contains(here), "{text}");
    }
}

#[test]
fn values_out_of_bounds_name_field_value_and_limit() {
    assert_eq!(
        refusal("replica_id = 0"),
        "`replica_id` is 0, but it must be 1 to 4294967295"
    );
    assert_eq!(
        refusal("segment_bytes = 5"),
        "`segment_bytes` is 5, but it must be 1048576 to 4294967296"
    );
    for text in [
        "listen = \"8081\"",
        "advertise = \"h:0\"",
        "name_servers = [\"h\"]",
        "durability = \"async\"",
        "consume_from = \"now\"",
        "broker_group = \"a b\"",
        "heartbeat_ms = 1",
        "election_max_ms = 300",
        "silence_ms = 500",
        "default_queues = 0",
        "in_flight_bytes = 1",
        "retention_hours = 0",
        "retention_bytes = 1",
        "data_dir = \"\"",
        "connections_max = 1",
        "log_level = \"\"",
    ] {
        let field = text.split(' ').next().expect("a key");
        assert!(refusal(text).starts_with(&format!("`{field}` is ")), "{text}");
    }
    assert!(refusal("replica_id = \"one\"").starts_with("not a valid configuration"));
}

#[test]
fn addresses_may_be_names_and_ipv6() {
    for text in [
        "listen = \"broker-1.local:8081\"",
        "listen = \"[::1]:0\"",
        "advertise = \"10.0.0.1:8081\"",
    ] {
        Config::from_toml(text).expect(text);
    }
}
