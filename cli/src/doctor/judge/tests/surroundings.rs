//! Cases of what replicas stand on and what is around them: disks, clocks, progress, name servers, folders.

use ledgermq_proto::registry::{BrokerGroupRoute, Routes};

use super::*;
use crate::doctor::survey::Folder;
use Severity::{Critical, Ok as Fine, Warning};

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
