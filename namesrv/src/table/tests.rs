//! The table under virtual time values.

use std::time::Duration;

use ledgermq_proto::registry::{BrokerGroupRoute, Report, TopicRoute};
use tokio::time::Instant;

use super::{ReportError, StreamId, Table};
use crate::limits;

const FIRST: StreamId = StreamId(1);
const SECOND: StreamId = StreamId(2);
const THIRD: StreamId = StreamId(3);

fn now() -> Instant {
    Instant::now()
}

fn report(replica_id: u64, term: u64, leader: Option<u64>) -> Report {
    Report {
        cluster_id: "c1".to_owned(),
        broker_group: "broker-a".to_owned(),
        replica_id,
        client_address: format!("127.0.0.1:{}", 8080 + replica_id),
        peer_address: format!("127.0.0.1:{}", 9080 + replica_id),
        term,
        leader,
        topics: Vec::new(),
        topics_version: 0,
    }
}

fn leading(replica_id: u64, term: u64, version: u64, topics: &[&str]) -> Report {
    let topics = topics.iter().map(|name| TopicRoute {
        name: (*name).to_owned(),
        r#type: "mixed".to_owned(),
        queues: 8,
    });
    Report {
        topics: topics.collect(),
        topics_version: version,
        ..report(replica_id, term, Some(replica_id))
    }
}

fn only(table: &Table) -> BrokerGroupRoute {
    let mut routes = table.routes().broker_groups;
    assert_eq!(routes.len(), 1);
    routes.remove(0)
}

fn topics(table: &Table) -> Vec<String> {
    only(table).topics.into_iter().map(|topic| topic.name).collect()
}

fn alive(table: &Table) -> Vec<u64> {
    only(table)
        .replicas
        .into_iter()
        .filter(|replica| replica.alive)
        .map(|replica| replica.id)
        .collect()
}

#[test]
fn a_report_makes_a_route_and_its_repetition_changes_nothing() {
    let mut table = Table::default();
    let start = now();
    assert_eq!(table.on_report(FIRST, leading(1, 3, 1, &["b", "a"]), start), Ok(true));
    assert_eq!(table.on_report(FIRST, leading(1, 3, 1, &[]), start), Ok(false));
    let route = only(&table);
    assert_eq!(
        (route.term, route.leader, route.cluster_id.as_str()),
        (3, Some(1), "c1")
    );
    assert_eq!(topics(&table), ["a", "b"]);
    assert_eq!(route.replicas[0].client_address, "127.0.0.1:8081");
    assert!(route.replicas[0].alive);
}

#[test]
fn the_highest_term_wins() {
    let mut table = Table::default();
    let start = now();
    table
        .on_report(FIRST, leading(1, 3, 7, &["old"]), start)
        .expect("taken");
    table
        .on_report(SECOND, leading(2, 4, 1, &["old", "new"]), start)
        .expect("taken");
    assert_eq!(table.on_report(FIRST, leading(1, 3, 9, &["stale"]), start), Ok(false));
    let route = only(&table);
    assert_eq!((route.term, route.leader), (4, Some(2)));
    assert_eq!(topics(&table), ["new", "old"]);
    assert_eq!(alive(&table), [1, 2]);
}

#[test]
fn topics_stay_until_the_new_leader_names_its_own() {
    let mut table = Table::default();
    let start = now();
    table.on_report(FIRST, leading(1, 3, 1, &["a"]), start).expect("taken");
    assert_eq!(table.on_report(SECOND, report(2, 4, None), start), Ok(true));
    assert_eq!((only(&table).leader, topics(&table)), (None, vec!["a".to_owned()]));
    assert_eq!(table.on_report(SECOND, report(2, 4, None), start), Ok(false));
    // A follower knows the leader first.
    assert_eq!(table.on_report(FIRST, report(1, 4, Some(2)), start), Ok(true));
    assert_eq!((only(&table).leader, topics(&table)), (Some(2), vec!["a".to_owned()]));
    assert_eq!(table.on_report(SECOND, leading(2, 4, 1, &["a", "b"]), start), Ok(true));
    assert_eq!(topics(&table), ["a", "b"]);
}

#[test]
fn an_empty_list_of_a_new_version_is_empty() {
    let mut table = Table::default();
    let start = now();
    table.on_report(FIRST, leading(1, 3, 1, &["a"]), start).expect("taken");
    assert_eq!(table.on_report(FIRST, leading(1, 3, 2, &[]), start), Ok(true));
    assert!(topics(&table).is_empty());
}

#[test]
fn a_leader_again_brings_its_topics_back() {
    let mut table = Table::default();
    let start = now();
    table.on_report(FIRST, leading(1, 3, 1, &["a"]), start).expect("taken");
    table.on_report(SECOND, leading(2, 4, 1, &["b"]), start).expect("taken");
    assert_eq!(table.on_report(FIRST, leading(1, 5, 1, &[]), start), Ok(true));
    assert_eq!(topics(&table), ["a"]);
}

/// A dead line held the last words of a stream back until the next one had told the topics.
#[test]
fn what_comes_late_on_an_older_stream_takes_no_topics_away() {
    let mut table = Table::default();
    let start = now();
    table.on_report(FIRST, leading(1, 3, 1, &["a"]), start).expect("taken");
    table.on_report(SECOND, leading(1, 3, 1, &["a"]), start).expect("taken");
    let late = table.on_report(FIRST, leading(1, 3, 1, &[]), start).expect_err("late");
    assert!(matches!(late, ReportError::OlderStream { replica_id: 1, .. }), "{late}");
    assert!(!table.on_closed(FIRST));
    assert_eq!(table.on_report(SECOND, leading(1, 3, 1, &[]), start), Ok(false));
    assert_eq!((topics(&table), alive(&table)), (vec!["a".to_owned()], vec![1]));

    // Also after the newer one has ended.
    table.on_closed(SECOND);
    table.on_report(FIRST, leading(1, 3, 1, &[]), start).expect_err("late");
    assert_eq!(topics(&table), ["a"]);
}

#[test]
fn silence_makes_nobody_forget_what_was_told_on_a_stream() {
    let mut table = Table::default();
    let start = now();
    table.on_report(FIRST, leading(1, 3, 1, &["a"]), start).expect("taken");
    let later = start + limits::REPORT_SILENCE_MAX;
    assert!(table.on_tick(later));
    assert_eq!(table.on_report(FIRST, leading(1, 3, 1, &[]), later), Ok(true));
    assert_eq!((topics(&table), alive(&table)), (vec!["a".to_owned()], vec![1]));
}

#[test]
fn a_replica_lives_as_long_as_its_newest_stream() {
    let mut table = Table::default();
    let start = now();
    table.on_report(FIRST, report(1, 1, None), start).expect("taken");
    table.on_report(SECOND, report(1, 1, None), start).expect("taken");
    assert!(!table.on_closed(FIRST), "the replica has a newer stream");
    assert_eq!(alive(&table), [1]);
    assert!(table.on_closed(SECOND));
    assert!(!table.on_closed(SECOND));
    assert!(alive(&table).is_empty());
    assert_eq!(table.on_report(THIRD, report(1, 1, None), start), Ok(true));
    assert_eq!(alive(&table), [1]);
}

#[test]
fn silence_is_death_and_then_oblivion() {
    let mut table = Table::default();
    let start = now();
    table.on_report(FIRST, leading(1, 3, 1, &["a"]), start).expect("taken");
    table.on_report(SECOND, report(2, 3, Some(1)), start).expect("taken");
    let almost = start + limits::REPORT_SILENCE_MAX - Duration::from_millis(1);
    assert!(!table.on_tick(almost));
    table.on_report(SECOND, report(2, 3, Some(1)), almost).expect("taken");
    assert!(table.on_tick(start + limits::REPORT_SILENCE_MAX));
    assert_eq!(alive(&table), [2]);
    assert_eq!(topics(&table), ["a"], "routes outlive their reporter");

    assert!(table.on_tick(start + limits::ENTRY_EXPIRY));
    assert_eq!(only(&table).replicas.len(), 1);
    assert!(table.on_tick(almost + limits::ENTRY_EXPIRY));
    assert!(table.routes().broker_groups.is_empty());
    assert!(!table.on_tick(almost + limits::ENTRY_EXPIRY * 2));
}

#[test]
fn a_living_cluster_keeps_its_name_and_a_dead_one_gives_it_up() {
    let mut table = Table::default();
    let start = now();
    table.on_report(FIRST, leading(1, 9, 1, &["a"]), start).expect("taken");
    let other = Report {
        cluster_id: "c2".to_owned(),
        ..leading(2, 1, 1, &["b"])
    };
    let refused = table.on_report(SECOND, other.clone(), start).expect_err("c1 lives");
    assert!(matches!(refused, ReportError::OtherCluster { .. }));
    assert_eq!(topics(&table), ["a"]);

    table.on_closed(FIRST);
    assert_eq!(table.on_report(SECOND, other, start), Ok(true));
    let route = only(&table);
    assert_eq!(
        (route.term, route.cluster_id.as_str(), route.replicas.len()),
        (1, "c2", 1)
    );
}

#[test]
fn reports_that_break_a_rule_are_refused() {
    let mut table = Table::default();
    let good = report(1, 1, None);
    let wrong = [
        Report {
            broker_group: String::new(),
            ..good.clone()
        },
        Report {
            broker_group: "x".repeat(limits::NAME_CHARACTERS_MAX + 1),
            ..good.clone()
        },
        Report {
            client_address: "host".to_owned(),
            ..good.clone()
        },
        Report {
            client_address: ":1".to_owned(),
            ..good.clone()
        },
        Report {
            peer_address: "host:0".to_owned(),
            ..good.clone()
        },
        Report {
            peer_address: "host:65536".to_owned(),
            ..good.clone()
        },
        Report {
            cluster_id: "a b".to_owned(),
            ..good.clone()
        },
        leading(1, 1, 1, &["a b"]),
    ];
    for report in wrong {
        let refused = table.on_report(FIRST, report, now()).expect_err("a rule is broken");
        assert!(matches!(refused, ReportError::Field { .. }), "{refused}");
    }
    assert!(table.routes().broker_groups.is_empty());
}

#[test]
fn the_table_is_bounded() {
    let mut table = Table::default();
    let start = now();
    for id in 0..limits::REPLICAS_MAX {
        table
            .on_report(StreamId(id as u64), report(id as u64, 1, None), start)
            .expect("there is room");
    }
    let refused = table.on_report(FIRST, report(9_999, 1, None), start).expect_err("full");
    assert_eq!(
        refused,
        ReportError::Full {
            what: "replica",
            limit: limits::REPLICAS_MAX
        }
    );
    for number in 1..limits::BROKER_GROUPS_MAX {
        let report = Report {
            broker_group: format!("broker-{number}"),
            ..report(1, 1, None)
        };
        table.on_report(FIRST, report, start).expect("there is room");
    }
    let one_more = Report {
        broker_group: "one-more".to_owned(),
        ..report(1, 1, None)
    };
    assert!(matches!(
        table.on_report(FIRST, one_more, start),
        Err(ReportError::Full {
            what: "broker group",
            ..
        })
    ));
}
