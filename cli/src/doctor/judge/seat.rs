//! Each member: does it answer, as itself, where the membership says, and do the others get through to it?

use super::quorum::absence;
use crate::doctor::finding::{Finding, Severity, span};
use crate::doctor::survey::{BrokerGroup, Report, Seat};

/// Trouble between replicas is told when it lasts so long.
const TROUBLE_MS: u64 = 1_000;

pub(super) fn judge(group: &BrokerGroup, found: &mut Vec<Finding>) {
    for seat in &group.seats {
        match seat.report {
            Some(report) => present(group, seat, report, found),
            None => found.extend(absent(group, seat)),
        }
    }
}

fn replace(group: &BrokerGroup, id: u64) -> String {
    format!(
        "ledgermq replica replace --broker-group {} --old {id} --id ID --peer-address HOST:PORT --client-address HOST:PORT",
        group.name
    )
}

/// No report from this member. A wiped one is told as a stranger.
fn absent(group: &BrokerGroup, seat: &Seat) -> Option<Finding> {
    if group.impostor(seat).is_some() {
        return None;
    }
    let (id, address) = (seat.id(), &seat.member.client_address);
    if let Some(other) = group.answer_at(address) {
        let cause = format!(
            "at {address}, the address of replica {id}, answers replica {} of broker group {}",
            other.replica, other.broker_group
        );
        let finding = Finding::new(Severity::Critical, "address-taken", cause).at(id);
        return Some(
            finding
                .next("give each replica an address of its own, and tell the others where it is")
                .command(set_address(group, id, "HOST:PORT", "HOST:PORT")),
        );
    }
    if let Some((by, reason)) = group.refusals(id) {
        let cause = format!("replica {id} gives no report here and refuses replica {by}: {reason}");
        let finding = Finding::new(Severity::Critical, "replica-refuses", cause).at(id);
        return Some(
            finding
                .next("it is not the one that the membership means: start it with the folder it had, or replace it by a new number")
                .command(replace(group, id)),
        );
    }
    let hears = |report: &&Report| group.heard_by(report).contains(&id);
    if let Some(report) = group.working().find(hears) {
        let why = group.silence(address).unwrap_or("no report");
        let cause = format!(
            "replica {id} does not answer at {address} from here ({why}), but replica {} hears it",
            report.replica
        );
        let finding = Finding::new(Severity::Warning, "replica-unreachable-from-here", cause).at(id);
        return Some(finding.next("look from a machine that reaches its client port, or open the way to it"));
    }
    let finding = Finding::new(Severity::Critical, "replica-unreachable", absence(group, seat)).at(id);
    Some(
        finding
            .next("start it; if it refuses to start, check its log on its machine (ledgermq doctor --data-dir DIR); if its disk is lost, replace it by a new number")
            .command(replace(group, id)),
    )
}

fn present(group: &BrokerGroup, seat: &Seat, report: &Report, found: &mut Vec<Finding>) {
    let id = seat.id();
    if !report.poisoned.is_empty() {
        let cause = format!("replica {id} has stopped for good: {}", report.poisoned);
        let finding = Finding::new(Severity::Critical, "poisoned", cause).at(id);
        found.push(finding.next("its process ends by itself; free or replace the disk, then start it again"));
        return;
    }
    if report.role == "removed" {
        // Its own word is newer than the membership known here; a stranger's is told there.
        return;
    }
    if !report.damage.is_empty() {
        let cause = format!(
            "a read of the log found damage, {} time(s), first: {}",
            report.damage_reads, report.damage
        );
        let finding = Finding::new(Severity::Critical, "corrupt-entry", cause).at(id);
        found.push(
            finding
                .next("stop it, check its whole log, and replace it by a new number")
                .command(replace(group, id)),
        );
    }
    addresses(group, seat, report, found);
    if !report.ready && group.serves() && seat.member.voter {
        let cause = format!(
            "replica {id} is not ready: it reaches no leader that commits (it is {} in term {}), so it turns clients away",
            report.role, report.term
        );
        let finding = Finding::new(Severity::Critical, "not-ready", cause).at(id);
        found.push(
            finding.next("if it does not become ready within seconds, look at the network between it and the leader"),
        );
    }
    for member in &report.members {
        found.extend(trouble(group, report, member.id));
    }
}

fn set_address(group: &BrokerGroup, id: u64, peer: &str, client: &str) -> String {
    format!(
        "ledgermq replica set-address --broker-group {} --id {id} --peer-address {peer} --client-address {client}",
        group.name
    )
}

fn addresses(group: &BrokerGroup, seat: &Seat, report: &Report, found: &mut Vec<Finding>) {
    let (member, id) = (seat.member, seat.id());
    let told = (&report.peer_address, &report.client_address);
    let kept = (&member.peer_address, &member.client_address);
    if told == kept {
        return;
    }
    let cause = format!(
        "replica {id} advertises {} to its peers and {} to clients, but the membership has {} and {}",
        told.0, told.1, kept.0, kept.1
    );
    let finding = Finding::new(Severity::Warning, "address-differs", cause).at(id);
    let next = "tell the others where it is, or correct its configuration and restart it";
    found.push(finding.next(next).command(set_address(group, id, told.0, told.1)));
}

/// A working replica does not get through to another working one.
fn trouble(group: &BrokerGroup, report: &Report, to: u64) -> Option<Finding> {
    let member = report.members.iter().find(|member| member.id == to)?;
    let trouble = member.trouble.as_ref().filter(|trouble| trouble.for_ms >= TROUBLE_MS)?;
    group.working().find(|other| other.replica == to)?;
    let from = report.replica;
    Some(match trouble.refuses {
        true => Finding::new(
            Severity::Critical,
            "peer-refuses",
            format!("replica {to} refuses replica {from}: {}", trouble.reason),
        )
        .at(from)
        .next("the two do not agree who they are: compare their configurations and incarnations")
        .command(format!("ledgermq replica list --broker-group {}", group.name)),
        false => Finding::new(
            Severity::Warning,
            "link-broken",
            format!(
                "replica {from} has not got through to replica {to} at {} for {}: {}; both answer here",
                member.peer_address,
                span(trouble.for_ms),
                trouble.reason
            ),
        )
        .at(from)
        .next("look at the network and at the peer port between the two"),
    })
}
