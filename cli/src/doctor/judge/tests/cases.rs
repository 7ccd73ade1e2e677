//! Cases of the broker group and its replicas.

use super::*;
use Severity::{Critical, Warning};

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
];
