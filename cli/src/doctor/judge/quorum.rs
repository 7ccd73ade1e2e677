//! Is there a majority, and a leader that serves? Is there one too many?

use crate::doctor::finding::{Finding, Severity, span};
use crate::doctor::survey::{BrokerGroup, Report, Seat};

pub(super) fn judge(group: &BrokerGroup, found: &mut Vec<Finding>) {
    leaders(group, found);
    if group.serves() || group.seats.is_empty() {
        return;
    }
    let best = group.working().max_by_key(|report| voters_heard(group, report));
    let heard = best.map_or(0, |report| voters_heard(group, report));
    let Some(best) = best.filter(|_| heard >= group.majority()) else {
        found.push(no_quorum(group, best, heard));
        return;
    };
    let leading = group
        .working()
        .filter(|report| report.role == "leader")
        .max_by_key(|it| it.term);
    found.push(match leading {
        Some(leader) => Finding::new(
            Severity::Critical,
            "leader-not-serving",
            format!(
                "replica {} leads term {}, but commits nothing that anybody waits for: no replica reaches a committed probe",
                leader.replica, leader.term
            ),
        )
        .at(leader.replica)
        .next("look again in a few seconds; if it stays so, restart that replica: its followers take over"),
        None => Finding::new(
            Severity::Critical,
            "no-leader",
            format!(
                "replica {} hears {heard} of {} voters, enough for a majority, but no replica leads (its term is {})",
                best.replica,
                group.voters().count(),
                best.term
            ),
        )
        .next("an election takes less than a second: look again; if it stays so, read the logs of the replicas for votes and terms"),
    });
}

/// Voters with a leader of their own choice each.
fn leaders(group: &BrokerGroup, found: &mut Vec<Finding>) {
    let mut leading: Vec<&Report> = group.working().filter(|report| report.role == "leader").collect();
    leading.sort_by_key(|report| (report.term, report.replica));
    let Some(newest) = leading.pop() else { return };
    for old in leading {
        found.push(match old.term == newest.term {
            true => Finding::new(
                Severity::Critical,
                "two-leaders",
                format!(
                    "replicas {} and {} both lead term {}, which must never be",
                    old.replica, newest.replica, old.term
                ),
            )
            .next("stop both, keep their folders, and report it with their logs: this is a bug"),
            false => Finding::new(
                Severity::Warning,
                "stale-leader",
                format!(
                    "replica {} believes that it leads term {}, but replica {} leads term {}: it is cut off and commits nothing",
                    old.replica, old.term, newest.replica, newest.term
                ),
            )
            .at(old.replica)
            .next("look at the network between them; it follows as soon as it hears the new leader"),
        });
    }
}

/// How many voters a working replica hears, itself included, that have not stopped for good.
fn voters_heard(group: &BrokerGroup, report: &Report) -> usize {
    let heard = group.heard_by(report);
    let stopped = |seat: &Seat| seat.report.is_some_and(|report| !report.poisoned.is_empty());
    let voters = group
        .voters()
        .filter(|seat| heard.contains(&seat.id()) && !stopped(seat));
    voters.count()
}

fn no_quorum(group: &BrokerGroup, best: Option<&Report>, heard: usize) -> Finding {
    let heard_ids = best.map(|report| group.heard_by(report)).unwrap_or_default();
    let stopped = |seat: &Seat| seat.report.is_some_and(|report| !report.poisoned.is_empty());
    let missing = group
        .voters()
        .filter(|seat| !heard_ids.contains(&seat.id()) || stopped(seat));
    let missing: Vec<String> = missing.map(|seat| absence(group, seat)).collect();
    let (voters, majority) = (group.voters().count(), group.majority());
    let cause = format!(
        "no quorum: {heard} of {voters} voters are heard, {majority} are needed, so nothing can be acknowledged or handed out; {}",
        missing.join("; ")
    );
    let lacking = majority.saturating_sub(heard);
    Finding::new(Severity::Critical, "no-quorum", cause).next(format!(
        "bring {lacking} of the missing back with the folders they had; nothing that was acknowledged is lost while they exist"
    ))
}

/// Why a voter does not count, in words.
pub(super) fn absence(group: &BrokerGroup, seat: &Seat) -> String {
    let (id, address) = (seat.id(), &seat.member.client_address);
    let heard = match group.last_heard(id) {
        Some((by, ago)) => format!(", last heard {} ago by replica {by}", span(ago)),
        None => ", not heard by any other since they started".to_owned(),
    };
    if let Some(report) = seat.report {
        return match report.poisoned.is_empty() {
            true => format!("replica {id} answers here, but the others do not hear it{heard}"),
            false => format!("replica {id} has stopped for good: {}", report.poisoned),
        };
    }
    if let Some(impostor) = group.impostor(seat) {
        return format!(
            "replica {id} runs with another folder (incarnation {:016x}, the membership has {:016x}) and is refused",
            impostor.incarnation, seat.member.incarnation
        );
    }
    if let Some((by, reason)) = group.refusals(id) {
        return format!("replica {id} refuses replica {by}: {reason}");
    }
    match group.silence(address) {
        Some(why) => format!("replica {id} does not answer at {address} ({why}){heard}"),
        None => format!("replica {id} gave no report{heard}"),
    }
}
