//! docs/operations.md describes exactly the keys of broker.toml that the broker knows, with their true defaults.

use ledgermq_broker::config::RawConfig;
use std::collections::BTreeMap;

const OPERATIONS: &str = include_str!("../../docs/operations.md");

/// Key and default of every row of the table under "## broker.toml".
fn documented() -> BTreeMap<String, String> {
    let section = OPERATIONS
        .split("\n## ")
        .find(|section| section.starts_with("broker.toml"))
        .expect("the section");
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| {
        let mut cells = row
            .trim_matches('|')
            .split(" | ")
            .map(|cell| cell.trim().trim_matches('`').to_owned());
        let (key, default, meaning) = (cells.next(), cells.next(), cells.next());
        assert!(
            meaning.is_some_and(|meaning| meaning.len() > 10),
            "{row} has no meaning"
        );
        (key.expect("a key"), default.expect("a default"))
    })
    .collect()
}

fn table(config: &RawConfig) -> toml::Table {
    toml::from_str(&config.to_toml().expect("TOML")).expect("a table")
}

#[test]
fn every_key_is_described_and_nothing_else() {
    let everything = RawConfig {
        advertise: Some("a:1".to_owned()),
        peer_advertise: Some("a:2".to_owned()),
        metrics_listen: Some("a:3".to_owned()),
        ..RawConfig::default()
    };
    let known: Vec<String> = table(&everything).keys().cloned().collect();
    let described: Vec<String> = documented().into_keys().collect();
    let mut known_sorted = known;
    known_sorted.sort();
    assert_eq!(described, known_sorted);
}

#[test]
fn the_defaults_are_true() {
    let defaults = table(&RawConfig::default());
    for (key, described) in documented() {
        let real = defaults.get(&key).map_or("none".to_owned(), toml::Value::to_string);
        assert_eq!(described, real, "default of {key}");
    }
}

#[test]
fn a_key_that_is_not_described_is_refused_with_the_nearest() {
    let error = RawConfig::from_toml("segment_byte = 1")
        .expect_err("unknown")
        .to_string();
    assert!(error.contains("segment_bytes"), "{error}");
}
