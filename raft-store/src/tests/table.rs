//! The planted bugs: after how many histories which of the two properties finds each, and what it says.

use crate::log;
use crate::planted::Bug;
use crate::tests::seeds::{self, History};
use crate::tests::world;

/// Histories in which a bug must be found, in the ordinary tests.
const QUICK: u64 = 1_000;
/// Each property, and in how many histories a bug is looked for.
const PROPERTIES: [(History, u64); 2] = [(log::tests::histories::history, 2_000), (world::history, 20_000)];

/// A bug that is no bug of one replica's files: it takes a broker group to see it.
fn is_of_the_group(bug: Bug) -> bool {
    matches!(bug, Bug::AckFromLeaderAlone | Bug::LeaseTimerOnLocalClock)
}

/// Whether it is found, and the line of the table.
fn line(bug: Bug) -> (bool, String) {
    let finds = PROPERTIES.map(|(history, count)| seeds::find(bug, count, history));
    let needed = |found: &Option<(u64, String)>| match found {
        Some((seed, _)) => (seed + 1).to_string(),
        None => "-".to_owned(),
    };
    let said = finds[1].as_ref().or(finds[0].as_ref()).map_or("", |(_, said)| said);
    let said = said.lines().next().unwrap_or_default();
    let line = format!("| {bug} | {} | {} | {said} |", needed(&finds[0]), needed(&finds[1]));
    (finds.iter().any(Option::is_some), line)
}

#[test]
fn the_worst_bugs_are_found_at_once() {
    let worst = [
        Bug::AckBeforeFsync,
        Bug::RecycledBytesAccepted,
        Bug::VoteBeforeAppends,
        Bug::KvAheadOfLog,
        Bug::PurgeBeforeMarks,
    ];
    for bug in worst {
        assert!(seeds::find(bug, QUICK, world::history).is_some(), "{bug} is not found");
    }
}

#[test]
#[ignore = "takes minutes: prints the table of docs/testing.md"]
fn every_bug_is_found() {
    let mut missed = Vec::new();
    println!("| bug | log alone | log and machine | what is said |\n|---|---|---|---|");
    for bug in Bug::ALL.into_iter().filter(|bug| !is_of_the_group(*bug)) {
        let (is_found, line) = line(bug);
        println!("{line}");
        if !is_found {
            missed.push(bug);
        }
    }
    assert!(missed.is_empty(), "not found: {missed:?}");
}
