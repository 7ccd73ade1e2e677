//! Every mark and what it means.

/// Name and meaning of every mark, by name.
pub const ALL: &[(&str, &str)] = &[
    (
        "attempt_repeated",
        "a client asked again with the id of an earlier attempt and got the same messages",
    ),
    ("blackout", "fault: all replicas lost power at once"),
    (
        "call_forwarded",
        "a door brought a call to the leader on another replica",
    ),
    ("call_held", "a door kept a call and tried it again"),
    (
        "call_without_leader",
        "a door gave a call up at its deadline: no leader was found",
    ),
    ("carry_over", "a record that outlives a retention cut was stored again"),
    (
        "committed_before_durable_here",
        "an entry was committed by others, and waited until it was durable on this replica",
    ),
    (
        "covered_entry_skipped",
        "an entry came by the log whose effect an installed snapshot had brought already",
    ),
    (
        "cut_in_the_way",
        "a retention cut was refused, since a record that outlives it was not carried over",
    ),
    ("cut_off", "fault: a replica reached nobody, clients included"),
    (
        "dead_letter",
        "messages were handed out too often and became dead letters",
    ),
    ("deafen", "fault: a replica heard no other replica"),
    (
        "dedupe_hit",
        "a message that was stored before was sent again, and answered its first place",
    ),
    (
        "delivery_confirmed",
        "a door confirmed what it had delivered to a consumer whose leases renew by themselves",
    ),
    ("digest_made", "a replica hashed its state"),
    ("election", "a replica became leader and serves"),
    (
        "false_alarm",
        "a replica believed the leader gone, and no majority agreed",
    ),
    (
        "fenced_append_refused",
        "an append of a leader that was called gone was refused",
    ),
    (
        "fifo_blocked",
        "a message waited for an earlier one of its message group",
    ),
    ("hold", "fault: what two replicas sent each other was held back"),
    ("install_begun", "a replica began to install a snapshot"),
    (
        "install_done_again",
        "a crash had interrupted an installation, and the next start did it again",
    ),
    ("install_ended", "a snapshot was installed"),
    ("isolate", "fault: a replica and the others did not hear each other"),
    ("kill", "fault: a process died"),
    (
        "leadership_handed_over",
        "a leader handed the leadership to another replica",
    ),
    ("learner_promoted", "a replica that only followed became a voter"),
    (
        "lease_expired_across_election",
        "a lease ended after another replica had taken the lead, and its message was handed out again",
    ),
    ("lease_freed", "the leases of a client that went away were freed"),
    (
        "lease_given_back",
        "a lease that renewed by itself for too long was given back",
    ),
    ("lease_renewed", "a lease renewed by itself"),
    (
        "log_begun_behind_label",
        "the log of a replica with an installed snapshot began behind it at the next start",
    ),
    (
        "log_poisoned",
        "a write or sync of the log failed, and it stopped for good",
    ),
    ("log_purged", "entries of the log were forgotten"),
    (
        "log_restarted",
        "the log began anew behind a snapshot, without any of its entries",
    ),
    (
        "log_truncated",
        "entries of the log were taken back, as another leader has others there",
    ),
    ("membership_changed", "the membership changed"),
    (
        "membership_changed_while_member_away",
        "the membership changed while a member was not heard",
    ),
    ("mute", "fault: no other replica heard a replica"),
    ("not_ready", "a replica told that it is not ready"),
    (
        "older_term_reported",
        "a name server was told of a leader of an older term, and kept the newer one",
    ),
    (
        "outcome_unknown",
        "a proposal ended without an answer whether it was done",
    ),
    ("poll_moved", "a long poll left a replica that did not lead any more"),
    ("power_loss", "fault: a machine lost power"),
    (
        "progress_moved_by_cut",
        "a retention cut took messages that a consumer group had not received yet",
    ),
    (
        "purge_finished",
        "a purge that a crash had interrupted was ended at the next start",
    ),
    ("purge_put_off", "a purge was put off, as no snapshot could be labelled"),
    (
        "purge_waits_for_laggard",
        "a purge waited for a living replica that lacks the entries",
    ),
    (
        "record_moved_under_reader",
        "a record was carried over between being granted and being read",
    ),
    ("redelivered", "a message was handed out again"),
    ("registered", "a name server took a replica's registration"),
    ("removal_learned", "a replica learned that it was removed"),
    (
        "repeated_request",
        "a request that was done before came again, and answered as it did first",
    ),
    (
        "restart_behind_log",
        "a replica started with a state older than its log, and applied the rest again",
    ),
    ("retention_cut", "old messages were forgotten"),
    (
        "segment_recycled",
        "a segment was written over the file of a purged one",
    ),
    ("segment_rolled", "the log went on in a new segment"),
    (
        "segment_spared",
        "the file of a purged segment was kept to be written over",
    ),
    (
        "sidecar_rebuilt",
        "the sidecar of a finished segment was missing or damaged, and was made again",
    ),
    ("silent_replica_dropped", "a name server took a silent replica for dead"),
    (
        "snapshot_found_at_start",
        "a replica found a received snapshot when it started",
    ),
    (
        "snapshot_resumed",
        "the transfer of a snapshot went on where it had broken off",
    ),
    ("snapshot_sent", "a leader sent a snapshot to a replica behind its log"),
    ("split", "fault: two replicas did not hear each other"),
    (
        "stale_handle_refused",
        "a handle was refused, as its lease had ended or was replaced",
    ),
    (
        "takeover_by_agreement",
        "survivors agreed that the leader is gone, and one took over",
    ),
    ("takeover_refused", "a takeover was refused by the core"),
    (
        "takeover_yielded",
        "a replica let another one take over, whose log is longer or whose number is lower",
    ),
    (
        "torn_tail_cut",
        "a torn write at the end of the log was cut off at the start",
    ),
    (
        "truncation_finished",
        "a truncation that a crash had interrupted was ended at the next start",
    ),
    (
        "truncation_of_synced_entry",
        "a truncation took back an entry that was durable here",
    ),
    ("truncation_over_segments", "a truncation took whole segments away"),
    (
        "undelivered_given_back",
        "messages whose receiver had gone were given back",
    ),
];
