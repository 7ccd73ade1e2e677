//! Seeds that once found a bug of the product, or one of the simulation, with the profile and length of their day. They
//! pass now. Draws change with the world, so a seed may not come by its scenario any more: each bug has a test of its own
//! as well, named here.

use std::{ops::ControlFlow, path::Path};

use ledgermq_sim::children::{Children, Job};

/// Profile, seed, seconds, and the test that holds the scenario itself.
const FOUND: [(&str, u64, u64, &str); 14] = [
    ("membership", 101, 60, "raft-store: peer::clock"),
    (
        "log",
        5,
        60,
        "raft-store: tests::transfers::the_snapshot_of_a_deposed_leader_is_not_in_the_way_of_the_next",
    ),
    (
        "log",
        18,
        15,
        "raft-store: raft::store::tests::a_stream_behind_the_log_gets_nothing",
    ),
    (
        "log",
        223,
        60,
        "raft-store: tests::transfers::a_snapshot_whose_sender_hangs_up_is_not_in_the_way_of_the_next",
    ),
    (
        "quick",
        9,
        20,
        "raft-store: peer::clock::tests::a_clock_that_is_put_right_is_caught_up_with_slowly",
    ),
    (
        "default",
        145,
        60,
        "broker: state::tests::consuming::a_lost_answer_is_not_given_back_from_under_the_next",
    ),
    (
        "default",
        106,
        60,
        "broker: delivered::tests::a_reply_arrived_when_its_connection_outlives_it",
    ),
    (
        "default",
        6174,
        60,
        "broker: door::tests::want_of_room_is_no_answer_after_a_try_without_an_outcome",
    ),
    (
        "default",
        7252,
        60,
        "raft-store: the_next_leader_ends_a_joint_membership",
    ),
    (
        "default",
        41_688,
        60,
        "raft-store: peer::clock::tests::two_wrong_clocks_of_three_that_are_heard_cannot_hurry_time",
    ),
    ("default", 235, 60, "sim: checkers::leases::tests::log_time_counts"),
    (
        "default",
        62_635,
        60,
        "sim: checkers::handles::tests::an_acknowledgement_after_the_lease_is_seen",
    ),
    (
        "default",
        60_730,
        60,
        "sim: fleet::tests::a_wiped_machine_comes_back_under_a_new_number",
    ),
    (
        "default",
        50_569,
        60,
        "sim: board::tests::only_a_replica_that_runs_is_asked_to_stop",
    ),
];

#[test]
fn seeds_that_found_a_bug_pass() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("regressions");
    let binary = Path::new(env!("CARGO_BIN_EXE_ledgermq-sim"));
    let children = Children::new(binary, &folder, 2).expect("a folder");
    let jobs = FOUND.map(|(profile, seed, seconds, _)| Job {
        arguments: format!("run --seed {seed} --profile {profile} --seconds {seconds}")
            .split(' ')
            .map(str::to_owned)
            .collect(),
        name: format!("{profile}-{seed}"),
    });
    let (mut ended, mut wrong) = (0, Vec::new());
    let run = children.run_all(jobs, |nth, job, end| {
        ended += 1;
        if let Some(what) = end.violation() {
            wrong.push(format!("{} ({}): {what}", job.arguments.join(" "), FOUND[nth].3));
        }
        ControlFlow::Continue(())
    });
    run.expect("the seeds run");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(ended, FOUND.len());
}
