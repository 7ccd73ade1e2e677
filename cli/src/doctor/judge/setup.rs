//! The broker group as it is set up: members, redundancy, what is promised, versions.

use std::collections::BTreeMap;

use crate::doctor::finding::{Finding, Severity};
use crate::doctor::survey::{BrokerGroup, Report};

pub(super) fn judge(group: &BrokerGroup, found: &mut Vec<Finding>) {
    redundancy(group, found);
    joint(group, found);
    durability(group, found);
    versions(group, found);
}

fn redundancy(group: &BrokerGroup, found: &mut Vec<Finding>) {
    let voters = group.voters().count();
    let add = format!(
        "ledgermq replica add --broker-group {} --id ID --peer-address HOST:PORT --client-address HOST:PORT --promote",
        group.name
    );
    let finding = match voters {
        1 => Finding::new(
            Severity::Warning,
            "no-redundancy",
            "one replica votes: a lost disk loses messages, and while it is away nothing works",
        )
        .next("start two more replicas and add them"),
        2 => Finding::new(
            Severity::Warning,
            "no-redundancy",
            "two replicas vote: both are needed for a majority, so either one's failure stops the broker group",
        )
        .next("start one more replica and add it"),
        0 => return,
        voters if voters % 2 == 0 => Finding::new(
            Severity::Warning,
            "even-voters",
            format!(
                "{voters} replicas vote: they tolerate {} failed ones, no more than {} would",
                (voters - 1) / 2,
                voters - 1
            ),
        )
        .next("add one, or remove one"),
        _ => return,
    };
    found.push(finding.command(add));
}

fn joint(group: &BrokerGroup, found: &mut Vec<Finding>) {
    if group.joint {
        let cause = "a change of the membership is half done: majorities of the old and of the new voters are needed";
        let finding = Finding::new(Severity::Warning, "joint-membership", cause);
        found.push(finding.next("unless it is under way just now, give the command that changed it once more: it goes on where it broke off"));
    }
}

fn durability(group: &BrokerGroup, found: &mut Vec<Finding>) {
    let by_word = sorted(group, |report| report.durability.clone());
    if by_word.len() > 1 {
        let cause = format!("the replicas have different durability: {}", listed(&by_word));
        let finding = Finding::new(Severity::Warning, "durability-differs", cause);
        found.push(
            finding.next("an acknowledgement promises what its leader has: set the key alike and restart one by one"),
        );
    }
    if by_word.contains_key("memory-quorum") {
        let cause = "durability is memory-quorum: a power failure of several replicas can lose acknowledged messages";
        let finding = Finding::new(Severity::Warning, "memory-quorum", cause);
        found.push(finding.next("if that is not wanted, set durability = \"fsync-quorum\" and restart one by one"));
    }
}

fn versions(group: &BrokerGroup, found: &mut Vec<Finding>) {
    let versions = sorted(group, |report| report.version.clone());
    if versions.len() > 1 {
        let cause = format!("the replicas run different versions: {}", listed(&versions));
        let finding = Finding::new(Severity::Warning, "version-mismatch", cause);
        found.push(finding.next("finish the upgrade: restart the older ones with the newer program, one by one"));
    }
    let levels = sorted(group, |report| report.format_level_max);
    if levels.len() > 1 {
        let named: BTreeMap<String, Vec<u64>> = levels
            .into_iter()
            .map(|(level, ids)| (format!("level {level}"), ids))
            .collect();
        let cause = format!(
            "the replicas support different format levels, so the state stays at the lowest: {}",
            listed(&named)
        );
        let finding = Finding::new(Severity::Warning, "format-level-mismatch", cause);
        found.push(finding.next("finish the upgrade; the level is raised by itself once all support it"));
    }
}

/// The numbers of the replicas that gave a report, by something in it.
fn sorted<K: Ord>(group: &BrokerGroup, key: impl Fn(&Report) -> K) -> BTreeMap<K, Vec<u64>> {
    let mut sorted: BTreeMap<K, Vec<u64>> = BTreeMap::new();
    for report in group.seats.iter().filter_map(|seat| seat.report) {
        sorted.entry(key(report)).or_default().push(report.replica);
    }
    sorted
}

fn listed(sorted: &BTreeMap<String, Vec<u64>>) -> String {
    let each = sorted.iter().map(|(word, ids)| {
        let ids: Vec<String> = ids.iter().map(u64::to_string).collect();
        format!("{word} on {}", ids.join(", "))
    });
    each.collect::<Vec<_>>().join("; ")
}
