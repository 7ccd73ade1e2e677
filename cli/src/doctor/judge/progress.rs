//! How far the replicas are: apply, replication, learners.

use crate::doctor::finding::{Finding, Severity};
use crate::doctor::survey::BrokerGroup;

/// So many entries behind is worth a word: what is on its way under load is less.
const LAG_ENTRIES: u64 = 1_000;

pub(super) fn judge(group: &BrokerGroup, found: &mut Vec<Finding>) {
    for report in group.working() {
        let lag = report.committed_index.saturating_sub(report.applied_index);
        if lag > LAG_ENTRIES {
            let cause = format!(
                "replica {} has {lag} committed entries that it has not applied to its state",
                report.replica
            );
            let finding = Finding::new(Severity::Warning, "apply-lag", cause).at(report.replica);
            found.push(finding.next("after a start it catches up by itself; if the lag grows, its processor or its state's disk is too slow"));
        }
    }
    let Some(leader) = group.leader() else { return };
    let heard = group.heard_by(leader);
    for member in leader.members.iter().filter(|member| member.id != leader.replica) {
        let id = member.id;
        let behind = member.last_index.map(|last| leader.last_index.saturating_sub(last));
        if member.voter {
            let lags = behind.filter(|lag| *lag > LAG_ENTRIES && heard.contains(&id) && !member.caught_up);
            if let Some(lag) = lags {
                let cause = format!(
                    "replica {id} is {lag} entries behind its leader, replica {}",
                    leader.replica
                );
                let finding = Finding::new(Severity::Warning, "replication-lag", cause).at(id);
                found.push(finding.next(
                    "after a start it catches up by itself; if the lag grows, its disk or its network is too slow",
                ));
            }
            continue;
        }
        found.push(learner(group, id, member.caught_up, behind));
    }
}

fn learner(group: &BrokerGroup, id: u64, caught_up: bool, behind: Option<u64>) -> Finding {
    let state = match (caught_up, behind) {
        (true, _) => "has caught up".to_owned(),
        (false, Some(entries)) => format!("is {entries} entries behind"),
        (false, None) => "has nothing of the log yet".to_owned(),
    };
    let cause = format!("replica {id} is a learner: it {state}, does not vote and is in no route");
    Finding::new(Severity::Warning, "learner", cause)
        .at(id)
        .next("make it a voter, or remove it")
        .command(format!(
            "ledgermq replica promote --broker-group {} --id {id} --wait 10m",
            group.name
        ))
}
