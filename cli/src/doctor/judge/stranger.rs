//! Who answers in the name of a broker group and is none of its members.

use crate::doctor::finding::{Finding, Severity};
use crate::doctor::survey::{BrokerGroup, Report};

pub(super) fn judge(group: &BrokerGroup, found: &mut Vec<Finding>) {
    for stranger in &group.strangers {
        let report = &stranger.report;
        found.push(one(group, report, &stranger.address).at(report.replica));
    }
    if group.strangers.is_empty() && group.seats.is_empty() {
        found.push(untold(group));
    }
}

fn one(group: &BrokerGroup, report: &Report, address: &str) -> Finding {
    let id = report.replica;
    if !report.cluster_id.is_empty() && report.cluster_id != group.cluster_id {
        let cause = format!(
            "replica {id} at {address} belongs to cluster {}, broker group {} to {}",
            report.cluster_id, group.name, group.cluster_id
        );
        return Finding::new(Severity::Critical, "other-cluster", cause).next(
            "two clusters use one broker group's name and know of each other: give it another name or other name servers",
        );
    }
    if report.role == "removed" {
        let cause = format!("replica {id} at {address} was removed from the broker group and still runs");
        return Finding::new(Severity::Warning, "removed-replica", cause)
            .next("stop it and delete its folder, which never becomes a member again");
    }
    if let Some(cause) = wiped(group, report) {
        return Finding::new(Severity::Critical, "wiped-replica", cause)
            .next(
                "never start an empty folder under an old number: stop it, give it an unused replica_id and an empty data_dir, start it, and replace the old number",
            )
            .command(format!(
                "ledgermq replica replace --broker-group {} --old {id} --id ID --peer-address {} --client-address {}",
                group.name, report.peer_address, report.client_address
            ));
    }
    if group.seats.is_empty() {
        let cause = format!("replica {id} at {address} waits: the broker group has no membership yet");
        return Finding::new(Severity::Critical, "not-bootstrapped", cause)
            .next("give the broker group its membership, once, with all of its first replicas")
            .command(format!(
                "ledgermq bootstrap --endpoints {address} --broker-group {} --member {id}={}={}",
                group.name, report.peer_address, report.client_address
            ));
    }
    if report.members.is_empty() {
        let cause = format!("replica {id} at {address} runs empty and is no member");
        return Finding::new(Severity::Warning, "waiting-replica", cause)
            .next("make it a member, or stop it")
            .command(format!(
                "ledgermq replica add --broker-group {} --id {id} --peer-address {} --client-address {} --promote",
                group.name, report.peer_address, report.client_address
            ));
    }
    let cause = format!("replica {id} at {address} takes itself for a member, but the newest membership lacks it");
    Finding::new(Severity::Warning, "removed-replica", cause)
        .next("it was removed and does not know yet, or its folder is an old copy: stop it")
}

/// Another folder under a member's number: the membership tells, or the calls that it had to refuse.
fn wiped(group: &BrokerGroup, report: &Report) -> Option<String> {
    let id = report.replica;
    let (own, words) = (
        report.incarnation,
        "a wiped or other folder under an old number; the others never take it",
    );
    if let Some(seat) = group.seats.iter().find(|seat| seat.id() == id) {
        return Some(format!(
            "replica {id} runs with incarnation {own:016x}, the membership has {:016x}: {words}",
            seat.member.incarnation
        ));
    }
    let call = report.refused.iter().find(|call| call.why == "incarnation")?;
    Some(format!(
        "replica {id} refuses replica {}, because {}: {words}",
        call.from, call.reason
    ))
}

/// Name servers or other broker groups tell of it, and nobody of it answers.
fn untold(group: &BrokerGroup) -> Finding {
    let told = group.told.iter().map(|(id, address)| {
        let why = group.silence(address).unwrap_or("not asked");
        format!("replica {id} at {address} ({why})")
    });
    let told: Vec<String> = told.collect();
    let cause = format!("nobody of the broker group gives a report: {}", told.join(", "));
    Finding::new(Severity::Critical, "no-answer", cause)
        .next("start its replicas; where one refuses to start, check its log on its machine")
        .command("ledgermq doctor --data-dir DIR")
}
