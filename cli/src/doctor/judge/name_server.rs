//! What the name servers tell clients, against what the replicas say.

use ledgermq_proto::registry::BrokerGroupRoute;

use crate::doctor::finding::{Finding, Severity};
use crate::doctor::survey::{BrokerGroup, Report, Survey};

/// A name server's part in one broker group.
pub(super) fn judge(survey: &Survey, group: &BrokerGroup, found: &mut Vec<Finding>) {
    let Some(leader) = group.leader().filter(|_| group.serves()) else {
        return;
    };
    for (address, routes) in &survey.name_servers {
        let Ok(routes) = routes else { continue };
        let configured = group
            .working()
            .any(|it| it.name_servers.iter().any(|server| server.address == *address));
        if !configured {
            continue;
        }
        match routes.broker_groups.iter().find(|route| route.name == group.name) {
            None => {
                let cause = format!(
                    "name server {address} does not know the broker group: clients that ask it find no queue of it"
                );
                let finding = Finding::new(Severity::Warning, "name-server-lacks-group", cause).about(server(address));
                found.push(
                    finding.next("brokers register by themselves within seconds; see why they do not in their logs"),
                );
            }
            Some(route) => found.extend(route_of(address, route, group, leader)),
        }
    }
    for report in group.working() {
        found.extend(unregistered(survey, group, report));
    }
}

fn server(address: &str) -> String {
    format!("name server {address}")
}

fn route_of(address: &str, route: &BrokerGroupRoute, group: &BrokerGroup, leader: &Report) -> Vec<Finding> {
    let mut found = Vec::new();
    if (route.term, route.leader) != (leader.term, Some(leader.replica)) {
        let told = route
            .leader
            .map_or("no leader".to_owned(), |id| format!("replica {id}"));
        let cause = format!(
            "name server {address} has {told} of term {}, but replica {} leads term {}",
            route.term, leader.replica, leader.term
        );
        let finding = Finding::new(Severity::Warning, "name-server-old-leader", cause).about(server(address));
        found.push(finding.next(
            "every replica forwards, so clients only pay a hop; the leader's log says why it does not register there",
        ));
    }
    for report in group.working().filter(|report| report.ready) {
        let id = report.replica;
        let votes = group.voters().any(|seat| seat.id() == id);
        let known = route.replicas.iter().find(|replica| replica.id == id);
        let state = match known {
            Some(replica) if replica.alive => continue,
            Some(_) => "takes it for dead",
            None => "does not have it",
        };
        if votes {
            let cause = format!("the routes of name server {address} miss replica {id}: it {state}");
            let finding = Finding::new(Severity::Warning, "name-server-misses-replica", cause).at(id);
            found.push(finding.next("its log says why it does not register there"));
        }
    }
    found
}

/// A name server that answers here, where a replica is not registered.
fn unregistered(survey: &Survey, group: &BrokerGroup, report: &Report) -> Vec<Finding> {
    let votes = group.voters().any(|seat| seat.id() == report.replica);
    let servers = report
        .name_servers
        .iter()
        .filter(|it| votes && report.ready && !it.registered);
    let answers = |address: &str| survey.name_servers.get(address).is_some_and(Result::is_ok);
    let servers = servers.filter(|it| answers(&it.address));
    servers
        .map(|it| {
            let reason = match it.reason.as_str() {
                "" => "it did not try yet",
                reason => reason,
            };
            let cause = format!(
                "replica {} is not registered at name server {}, which answers here: {reason}",
                report.replica, it.address
            );
            let finding = Finding::new(Severity::Warning, "not-registered", cause).at(report.replica);
            finding.next(
                "look at the network between the two, and whether another cluster uses the broker group's name there",
            )
        })
        .collect()
}

/// Name servers that do not answer.
pub(super) fn judge_all(survey: &Survey, found: &mut Vec<Finding>) {
    for (address, routes) in &survey.name_servers {
        let Err(why) = routes else { continue };
        let cause = format!("name server {address} does not answer: {why}");
        let finding = Finding::new(Severity::Warning, "name-server-unreachable", cause).about(server(address));
        found.push(
            finding
                .next("start it; brokers and clients that know another address go on without it")
                .command(format!("ledgermq namesrv --listen {address}")),
        );
    }
}
