//! The cases.

use ledgermq_proto::registry::{BrokerGroupRoute, Routes};

use super::*;
use crate::doctor::survey::Folder;
use Severity::{Critical, Ok as Fine, Warning};

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

fn folder(survey: &mut Survey, change: impl FnOnce(&mut Folder)) {
    let mut folder = Folder {
        log: "/data/replica/log".to_owned(),
        owner: Some(("g".to_owned(), 3)),
        entries: 100,
        segments: 2,
        ..Folder::default()
    };
    change(&mut folder);
    survey.folder = Some(folder);
}

fn used(survey: &mut Survey, percent: u64) {
    let disk = survey.report(2).disk.as_mut().expect("a disk");
    disk.free_bytes = GIB * (100 - percent);
}

pub(super) const ALL: &[Case] = &[
    // The majority and the leader.
    case!(
        "no-answer",
        Critical,
        "no replica answers; asked: c1:8081 (Connection refused",
        |survey| {
            for id in 1..=3 {
                survey.down(id);
            }
            survey.name_servers.clear();
        },
        |survey| survey.down(1),
    ),
    case!(
        "no-quorum",
        Critical,
        "1 of 3 voters are heard, 2 are needed",
        |survey| {
            survey.leaderless();
            survey.report(2).poisoned = "fsync failed".to_owned();
            survey.down(3);
        },
        |survey| {
            survey.leaderless();
            survey.down(3);
        },
    ),
    case!(
        "no-leader",
        Critical,
        "hears 2 of 3 voters, enough for a majority",
        |survey| {
            survey.leaderless();
            survey.down(3);
        },
        |survey| survey.report(1).leader = None,
    ),
    case!(
        "leader-not-serving",
        Critical,
        "replica 1 leads term 5, but commits nothing",
        |survey| {
            survey.leaderless();
            survey.report(1).role = "leader".to_owned();
        },
        |survey| survey.report(2).ready = false,
    ),
    case!(
        "stale-leader",
        Warning,
        "replica 2 believes that it leads term 4, but replica 1 leads term 5",
        |survey| {
            let old = survey.report(2);
            (old.role, old.term, old.ready) = ("leader".to_owned(), 4, false);
        },
        |survey| survey.report(2).term = 4,
    ),
    case!(
        "two-leaders",
        Critical,
        "replicas 1 and 2 both lead term 5",
        |survey| survey.report(2).role = "leader".to_owned(),
        |survey| {
            let old = survey.report(2);
            (old.role, old.term) = ("leader".to_owned(), 4);
        },
    ),
    // The broker group as it is set up.
    case!(
        "no-redundancy",
        Warning,
        "two replicas vote",
        |survey| survey.each(|report| report.members[2].voter = false),
        |_| {},
    ),
    case!(
        "even-voters",
        Warning,
        "4 replicas vote: they tolerate 1 failed ones, no more than 3 would",
        |survey| {
            let four: Vec<HealthMember> = (1..=4).map(member).collect();
            survey.with_members(&four);
        },
        |survey| {
            let five: Vec<HealthMember> = (1..=5).map(member).collect();
            survey.with_members(&five);
        },
    ),
    case!(
        "joint-membership",
        Warning,
        "half done",
        |survey| survey.each(|report| report.membership_joint = true),
        |survey| {
            // One replica has not heard that it is done.
            let behind = survey.report(3);
            (behind.membership_joint, behind.membership_index) = (true, 0);
        },
    ),
    case!(
        "memory-quorum",
        Warning,
        "power failure",
        |survey| survey.each(|report| report.durability = "memory-quorum".to_owned()),
        |_| {},
    ),
    case!(
        "durability-differs",
        Warning,
        "fsync-quorum on 1, 3; memory-quorum on 2",
        |survey| survey.report(2).durability = "memory-quorum".to_owned(),
        |survey| survey.each(|report| report.durability = "memory-quorum".to_owned()),
    ),
    case!(
        "version-mismatch",
        Warning,
        "1.0.0 on 1, 2; 1.1.0 on 3",
        |survey| survey.report(3).version = "1.1.0".to_owned(),
        |survey| survey.each(|report| report.version = "1.1.0".to_owned()),
    ),
    case!(
        "format-level-mismatch",
        Warning,
        "level 1 on 1, 2; level 2 on 3",
        |survey| survey.report(3).format_level_max = 2,
        |survey| survey.each(|report| report.format_level_max = 2),
    ),
    // Members.
    case!(
        "replica-unreachable",
        Critical,
        "replica 3 does not answer at c3:8081 (Connection refused (os error 111)), last heard 12 s ago by replica 1",
        |survey| survey.down(3),
        |survey| {
            survey.down(3);
            survey.each_seen(3, |member| member.heard_ms_ago = Some(50));
        },
    ),
    case!(
        "replica-unreachable-from-here",
        Warning,
        "replica 3 does not answer at c3:8081 from here",
        |survey| {
            survey.down(3);
            survey.each_seen(3, |member| member.heard_ms_ago = Some(50));
        },
        |survey| survey.down(3),
    ),
    case!(
        "replica-refuses",
        Critical,
        "replica 3 gives no report here and refuses replica 1: no route",
        |survey| {
            survey.down(3);
            survey.refuses(1, 3, 5_000, true);
        },
        |survey| {
            survey.down(3);
            survey.refuses(1, 3, 5_000, false);
        },
    ),
    case!(
        "address-taken",
        Critical,
        "at c3:8081, the address of replica 3, answers replica 2 of broker group g",
        |survey| {
            survey.down(3);
            survey.silent.clear();
            let mut other = survey.answers[1].clone();
            other.address = client(3);
            survey.answers.push(other);
        },
        |survey| survey.down(3),
    ),
    case!(
        "address-differs",
        Warning,
        "advertises p2:8082 to its peers and x:1 to clients, but the membership has p2:8082 and c2:8081",
        |survey| survey.report(2).client_address = "x:1".to_owned(),
        |survey| {
            survey.report(2).client_address = "x:1".to_owned();
            survey.each_seen(2, |member| member.client_address = "x:1".to_owned());
        },
    ),
    case!(
        "poisoned",
        Critical,
        "stopped for good: fsync failed",
        |survey| survey.report(3).poisoned = "fsync failed".to_owned(),
        |survey| survey.down(3),
    ),
    case!(
        "corrupt-entry",
        Critical,
        "2 time(s), first: seg is damaged at byte 7",
        |survey| {
            let report = survey.report(3);
            (report.damage, report.damage_reads) = ("seg is damaged at byte 7".to_owned(), 2);
        },
        |_| {},
    ),
    case!(
        "not-ready",
        Critical,
        "replica 3 is not ready",
        |survey| survey.report(3).ready = false,
        |survey| survey.each(|report| report.ready = false),
    ),
    case!(
        "peer-refuses",
        Critical,
        "replica 3 refuses replica 2: no route",
        |survey| survey.refuses(2, 3, 1_000, true),
        |survey| survey.refuses(2, 3, 1_000, false),
    ),
    case!(
        "link-broken",
        Warning,
        "replica 2 has not got through to replica 3 at p3:8082 for 5 s: no route",
        |survey| survey.refuses(2, 3, 5_000, false),
        |survey| survey.refuses(2, 3, 999, false),
    ),
    // Strangers.
    case!(
        "wiped-replica",
        Critical,
        "replica 3 runs with incarnation 000000000000beef, the membership has 0000000000000030",
        |survey| {
            survey.down(3);
            survey.answers.push(newborn(3));
        },
        |survey| survey.answers.push(newborn(4)),
    ),
    case!(
        "other-cluster",
        Critical,
        "replica 7 at c7:8081 belongs to cluster d, broker group g to c",
        |survey| {
            let mut other = newborn(7);
            other.report.cluster_id = "d".to_owned();
            survey.answers.push(other);
        },
        |survey| survey.answers.push(newborn(7)),
    ),
    case!(
        "removed-replica",
        Warning,
        "replica 4 at c4:8081 was removed",
        |survey| {
            let mut removed = newborn(4);
            (removed.report.cluster_id, removed.report.role) = ("c".to_owned(), "removed".to_owned());
            survey.answers.push(removed);
        },
        |survey| survey.answers.push(newborn(4)),
    ),
    case!(
        "waiting-replica",
        Warning,
        "replica 4 at c4:8081 runs empty and is no member",
        |survey| survey.answers.push(newborn(4)),
        |survey| {
            survey.down(3);
            survey.answers.push(newborn(3));
        },
    ),
    case!(
        "not-bootstrapped",
        Critical,
        "the broker group has no membership yet",
        |survey| *survey = Survey {
            answers: vec![newborn(1), newborn(2)],
            ..Survey::default()
        },
        |survey| {
            // Alone, but others call it by another incarnation: it is a wiped one.
            let mut wiped = newborn(1);
            wiped.report.refused.push(RefusedCall {
                from: 2,
                why: "incarnation".to_owned(),
                reason: "the call is for another".to_owned(),
                ms_ago: 20,
            });
            *survey = Survey {
                answers: vec![wiped],
                ..Survey::default()
            };
        },
    ),
    // What they stand on.
    case!(
        "disk-filling",
        Warning,
        "the disk of replica 2 is used to 75 %, 25.0 GiB of 100.0 GiB are free",
        |survey| used(survey, 75),
        |survey| used(survey, 74),
    ),
    case!(
        "disk-nearly-full",
        Critical,
        "used to 85 %",
        |survey| used(survey, 85),
        |survey| used(survey, 84),
    ),
    case!(
        "disk-full",
        Critical,
        "full by disk_full_percent = 90",
        |survey| {
            used(survey, 90);
            survey.report(2).disk.as_mut().expect("a disk").full = true;
        },
        |survey| used(survey, 90),
    ),
    case!(
        "disk-unknown",
        Warning,
        "replica 2 cannot read how much room",
        |survey| survey.report(2).disk = None,
        |_| {},
    ),
    case!(
        "sends-refused",
        Critical,
        "sends answer TOO_MANY_REQUESTS: no room",
        |survey| survey.report(1).sends_refused = "no room".to_owned(),
        |survey| used(survey, 90),
    ),
    case!(
        "slow-fsync",
        Warning,
        "one in a hundred took up to 200 ms",
        |survey| survey.report(2).fsync_p99_us = 200_000,
        |survey| {
            survey.report(1).fsync_p99_us = 100_000;
            (survey.report(2).fsyncs, survey.report(2).fsync_p99_us) = (19, 200_000);
        },
    ),
    case!(
        "clock-off",
        Warning,
        "the clock of replica 3 is 1.5 s behind the median",
        |survey| survey.report(3).clock_offset_ms = Some(-1_500),
        |survey| {
            survey.report(3).clock_offset_ms = Some(-1_000);
            survey.report(2).clock_offset_ms = None;
        },
    ),
    // How far they are.
    case!(
        "apply-lag",
        Warning,
        "replica 2 has 1001 committed entries that it has not applied",
        |survey| survey.report(2).applied_index = 8_999,
        |survey| survey.report(2).applied_index = 9_000,
    ),
    case!(
        "replication-lag",
        Warning,
        "replica 2 is 5000 entries behind its leader, replica 1",
        |survey| {
            let seen = survey.seen(1, 2);
            (seen.last_index, seen.caught_up) = (Some(5_000), false);
        },
        |survey| {
            let seen = survey.seen(1, 2);
            (seen.last_index, seen.caught_up) = (Some(9_000), false);
        },
    ),
    case!(
        "learner",
        Warning,
        "replica 3 is a learner: it has caught up",
        |survey| survey.each_seen(3, |member| member.voter = false),
        |_| {},
    ),
    // Name servers.
    case!(
        "name-server-unreachable",
        Warning,
        "name server ns:9876 does not answer: refused",
        |survey| *survey.name_servers.get_mut(NAME_SERVER).expect("there") = Err("refused".to_owned()),
        |survey| survey.name_servers.clear(),
    ),
    case!(
        "name-server-lacks-group",
        Warning,
        "does not know the broker group",
        |survey| *survey.name_servers.get_mut(NAME_SERVER).expect("there") = Ok(Routes::default()),
        |survey| {
            // One that no replica of this broker group is configured with.
            survey
                .name_servers
                .insert("other:9876".to_owned(), Ok(Routes::default()));
        },
    ),
    case!(
        "name-server-old-leader",
        Warning,
        "has replica 2 of term 4, but replica 1 leads term 5",
        |survey| (survey.route().term, survey.route().leader) = (4, Some(2)),
        |survey| {
            survey.leaderless();
            survey.route().leader = Some(2);
        },
    ),
    case!(
        "name-server-misses-replica",
        Warning,
        "miss replica 3: it does not have it",
        |survey| drop(survey.route().replicas.pop()),
        |survey| survey.down(3),
    ),
    case!(
        "not-registered",
        Warning,
        "replica 2 is not registered at name server ns:9876, which answers here: refused",
        |survey| {
            let server = &mut survey.report(2).name_servers[0];
            (server.registered, server.reason) = (false, "refused".to_owned());
        },
        |survey| {
            survey.report(2).name_servers[0].registered = false;
            *survey.name_servers.get_mut(NAME_SERVER).expect("there") = Err("refused".to_owned());
        },
    ),
    // The folder of this machine.
    case!(
        "corrupt-log",
        Critical,
        "seg at byte 5: bad; rebuild; and 4 more",
        |survey| folder(survey, |folder| {
            (folder.damages, folder.more) = (vec![(true, "seg at byte 5: bad; rebuild".to_owned())], 4);
        }),
        |survey| folder(survey, |folder| folder.damages = vec![(false, "torn".to_owned())]),
    ),
    case!(
        "log-warning",
        Warning,
        "torn",
        |survey| folder(survey, |folder| folder.damages = vec![(false, "torn".to_owned())]),
        |survey| folder(survey, |_| {}),
    ),
    case!(
        "log-whole",
        Fine,
        "whole: 100 entries in 2 segments",
        |survey| folder(survey, |_| {}),
        |survey| folder(survey, |folder| folder.is_running = true),
    ),
    case!(
        "folder-in-use",
        Fine,
        "a broker runs on this folder",
        |survey| folder(survey, |folder| folder.is_running = true),
        |survey| folder(survey, |_| {}),
    ),
];

/// A name server may know a broker group of which nobody answers.
#[test]
fn a_group_that_only_name_servers_know_is_told() {
    let findings = after(|survey| {
        let lost = BrokerGroupRoute {
            name: "lost".to_owned(),
            replicas: vec![route(9)],
            ..BrokerGroupRoute::default()
        };
        let routes = survey.name_servers.get_mut(NAME_SERVER).expect("there").as_mut();
        routes.expect("routes").broker_groups.push(lost);
        survey.silent.insert(client(9), "refused".to_owned());
    });
    assert_eq!(
        (findings[0].code, findings[0].broker_group.as_deref()),
        ("no-answer", Some("lost"))
    );
    assert!(
        findings[0].cause.contains("replica 9 at c9:8081 (refused)"),
        "{}",
        findings[0].cause
    );
}

/// Replicas of a wiped one's folder know nothing of the membership; the peers' refusals tell.
#[test]
fn a_wiped_replica_that_answers_alone_is_told_by_the_calls_it_refused() {
    let findings = after(|survey| {
        let mut wiped = newborn(1);
        wiped.report.refused.push(RefusedCall {
            from: 2,
            why: "incarnation".to_owned(),
            reason: "the call is for incarnation 10".to_owned(),
            ms_ago: 20,
        });
        *survey = Survey {
            answers: vec![wiped],
            ..Survey::default()
        };
    });
    assert_eq!(findings[0].code, "wiped-replica");
    assert!(
        findings[0].cause.contains("the call is for incarnation 10"),
        "{}",
        findings[0].cause
    );
}
