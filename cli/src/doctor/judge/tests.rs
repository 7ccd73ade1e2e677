//! Every kind of finding: a change of a healthy survey that brings it, and one close to it that does not.

macro_rules! case {
    ($code:literal, $severity:ident, $says:literal, $with:expr, $without:expr $(,)?) => {
        Case {
            code: $code,
            severity: $severity,
            says: $says,
            with: $with,
            without: $without,
        }
    };
}

mod cases;
mod surroundings;

use std::collections::BTreeSet;

use ledgermq_proto::admin::{HealthDisk, HealthMember, HealthNameServer, HealthTrouble, RefusedCall};
use ledgermq_proto::registry::{BrokerGroupRoute, ReplicaRoute, Routes};

use super::judge;
use crate::doctor::finding::{CODES, Finding, Severity};
use crate::doctor::survey::{Answer, Report, Survey};

const GIB: u64 = 1 << 30;
const NAME_SERVER: &str = "ns:9876";

fn client(id: u64) -> String {
    format!("c{id}:8081")
}

fn member(id: u64) -> HealthMember {
    HealthMember {
        id,
        peer_address: format!("p{id}:8082"),
        client_address: client(id),
        voter: true,
        incarnation: id * 16,
        heard_ms_ago: Some(20),
        last_index: None,
        caught_up: false,
        trouble: None,
    }
}

/// A replica of three, the first of which leads term 5.
fn report(id: u64) -> Report {
    let mut members: Vec<HealthMember> = (1..=3).map(member).collect();
    members[id as usize - 1].heard_ms_ago = Some(0);
    if id == 1 {
        for member in &mut members {
            (member.last_index, member.caught_up) = (Some(10_000), true);
        }
    }
    Report {
        broker_group: "g".to_owned(),
        replica: id,
        cluster_id: "c".to_owned(),
        incarnation: id * 16,
        client_address: client(id),
        peer_address: format!("p{id}:8082"),
        version: "1.0.0".to_owned(),
        format_level_max: 1,
        format_level: 1,
        role: if id == 1 { "leader" } else { "follower" }.to_owned(),
        term: 5,
        leader: Some(1),
        serving: id == 1,
        ready: true,
        last_index: 10_000,
        committed_index: 10_000,
        applied_index: 10_000,
        durability: "fsync-quorum".to_owned(),
        away_after_ms: 700,
        members,
        membership_term: 1,
        membership_index: 1,
        membership_committed: true,
        disk: Some(HealthDisk {
            total_bytes: 100 * GIB,
            free_bytes: 50 * GIB,
            full_percent: 90,
            full: false,
        }),
        fsyncs: 1_000,
        fsync_p99_us: 6_400,
        clock_offset_ms: Some(3),
        name_servers: vec![HealthNameServer {
            address: NAME_SERVER.to_owned(),
            registered: true,
            reason: String::new(),
        }],
        ..Report::default()
    }
}

fn answer(report: Report) -> Answer {
    Answer {
        address: report.client_address.clone(),
        report,
    }
}

fn route(id: u64) -> ReplicaRoute {
    ReplicaRoute {
        id,
        client_address: client(id),
        peer_address: format!("p{id}:8082"),
        alive: true,
    }
}

fn healthy() -> Survey {
    let routes = Routes {
        broker_groups: vec![BrokerGroupRoute {
            name: "g".to_owned(),
            term: 5,
            leader: Some(1),
            replicas: (1..=3).map(route).collect(),
            topics: Vec::new(),
            cluster_id: "c".to_owned(),
        }],
    };
    Survey {
        answers: (1..=3).map(|id| answer(report(id))).collect(),
        name_servers: [(NAME_SERVER.to_owned(), Ok(routes))].into(),
        ..Survey::default()
    }
}

/// What the tests do to a survey.
impl Survey {
    fn report(&mut self, id: u64) -> &mut Report {
        let answer = self.answers.iter_mut().find(|answer| answer.report.replica == id);
        &mut answer.expect("an answer").report
    }

    fn each(&mut self, change: impl Fn(&mut Report)) {
        self.answers.iter_mut().for_each(|answer| change(&mut answer.report));
    }

    /// What one replica says of another.
    fn seen(&mut self, by: u64, id: u64) -> &mut HealthMember {
        let members = &mut self.report(by).members;
        members.iter_mut().find(|member| member.id == id).expect("a member")
    }

    /// What all say of a member, itself included.
    fn each_seen(&mut self, id: u64, change: impl Fn(&mut HealthMember)) {
        let members = self.answers.iter_mut().flat_map(|answer| &mut answer.report.members);
        members.filter(|member| member.id == id).for_each(change);
    }

    /// This replica does not answer, and nobody has heard it for a while.
    fn down(&mut self, id: u64) {
        self.answers.retain(|answer| answer.report.replica != id);
        self.silent
            .insert(client(id), "Connection refused (os error 111)".to_owned());
        self.each_seen(id, |member| member.heard_ms_ago = Some(12_345));
        for route in self.route().replicas.iter_mut().filter(|route| route.id == id) {
            route.alive = false;
        }
    }

    /// Nobody reaches a committed probe, and nobody leads.
    fn leaderless(&mut self) {
        self.each(|report| {
            (report.ready, report.serving, report.leader) = (false, false, None);
            report.role = "follower".to_owned();
        });
    }

    fn route(&mut self) -> &mut BrokerGroupRoute {
        let routes = self.name_servers.get_mut(NAME_SERVER).expect("a name server");
        &mut routes.as_mut().expect("routes").broker_groups[0]
    }

    /// Everybody knows this membership.
    fn with_members(&mut self, members: &[HealthMember]) {
        self.each(|report| report.members = members.to_vec());
    }

    fn refuses(&mut self, by: u64, id: u64, for_ms: u64, refuses: bool) {
        self.seen(by, id).trouble = Some(HealthTrouble {
            refuses,
            reason: "no route".to_owned(),
            for_ms,
        });
    }
}

/// A replica without a membership, at an address of its own.
fn newborn(id: u64) -> Answer {
    let report = Report {
        broker_group: "g".to_owned(),
        replica: id,
        incarnation: 0xbeef,
        client_address: client(id),
        peer_address: format!("p{id}:8082"),
        version: "1.0.0".to_owned(),
        role: "learner".to_owned(),
        durability: "fsync-quorum".to_owned(),
        ..Report::default()
    };
    answer(report)
}

/// A code, a change that brings it, and a close one that does not.
struct Case {
    code: &'static str,
    severity: Severity,
    /// What its sentence must say.
    says: &'static str,
    with: fn(&mut Survey),
    without: fn(&mut Survey),
}

fn all() -> impl Iterator<Item = &'static Case> {
    cases::ALL.iter().chain(surroundings::ALL)
}

fn after(change: fn(&mut Survey)) -> Vec<Finding> {
    let mut survey = healthy();
    change(&mut survey);
    judge(&survey, None)
}

#[test]
fn a_healthy_cluster_has_one_finding() {
    let findings = after(|_| {});
    let codes: Vec<&str> = findings.iter().map(|finding| finding.code).collect();
    assert_eq!(codes, ["healthy"]);
    assert_eq!(findings[0].cause, "led by replica 1 in term 5; 3 voters, all well");
}

#[test]
fn each_finding_appears_and_stays_away() {
    for case in all() {
        let findings = after(case.with);
        let codes: Vec<&str> = findings.iter().map(|finding| finding.code).collect();
        let found = findings.iter().find(|finding| finding.code == case.code);
        let found = found.unwrap_or_else(|| panic!("{} is not among {codes:?}", case.code));
        assert_eq!(found.severity, case.severity, "{}", case.code);
        assert!(found.cause.contains(case.says), "{}: {}", case.code, found.cause);
        let needs_action = found.severity != Severity::Ok;
        assert_eq!(!found.next.is_empty(), needs_action, "{} has a next step", case.code);
        let healthy = codes.contains(&"healthy");
        assert!(
            !(healthy && found.broker_group.is_some() && found.subject.is_none() && needs_action),
            "{codes:?}"
        );
        let near: Vec<&str> = after(case.without).iter().map(|finding| finding.code).collect();
        assert!(!near.contains(&case.code), "{} is among {near:?}", case.code);
    }
}

#[test]
fn every_kind_is_tested_and_described() {
    let known: BTreeSet<&str> = CODES.iter().copied().collect();
    let tested: BTreeSet<&str> = all().map(|case| case.code).chain(["healthy"]).collect();
    assert_eq!(known, tested);
    let operations = include_str!("../../../../docs/operations.md");
    let section = operations
        .split("\n## ")
        .find(|section| section.starts_with("When something is wrong"))
        .expect("the section");
    let rows = section
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    assert_eq!(
        rows.collect::<BTreeSet<&str>>(),
        known,
        "the table of docs/operations.md"
    );
}

#[test]
fn a_missing_majority_is_told_voter_by_voter() {
    let findings = after(|survey| {
        survey.down(2);
        survey.down(3);
        survey.leaderless();
    });
    let finding = findings
        .iter()
        .find(|finding| finding.code == "no-quorum")
        .expect("no quorum");
    assert_eq!(
        finding.cause,
        "no quorum: 1 of 3 voters are heard, 2 are needed, so nothing can be acknowledged or handed out; \
         replica 2 does not answer at c2:8081 (Connection refused (os error 111)), last heard 12 s ago by replica 1; \
         replica 3 does not answer at c3:8081 (Connection refused (os error 111)), last heard 12 s ago by replica 1"
    );
    assert!(finding.next.contains("bring 1 of the missing back"), "{}", finding.next);
}

#[test]
fn one_broker_group_can_be_picked() {
    let mut survey = healthy();
    let mut other = report(1);
    (other.broker_group, other.client_address) = ("h".to_owned(), "h1:8081".to_owned());
    survey.answers.push(answer(other));
    let groups = |only| -> BTreeSet<Option<String>> {
        judge(&survey, only)
            .into_iter()
            .map(|finding| finding.broker_group)
            .collect()
    };
    assert_eq!(groups(Some("g")), [Some("g".to_owned())].into());
    assert_eq!(groups(None), [Some("g".to_owned()), Some("h".to_owned())].into());
}

#[test]
fn a_replica_asked_twice_is_one() {
    let findings = after(|survey| {
        let mut again = survey.answers[1].clone();
        again.address = "localhost:8081".to_owned();
        survey.answers.push(again);
        survey.answers.push(newborn(4));
        let mut again = newborn(4);
        again.address = "localhost:8084".to_owned();
        survey.answers.push(again);
    });
    let codes: Vec<&str> = findings.iter().map(|finding| finding.code).collect();
    assert_eq!(codes, ["waiting-replica"]);
}
