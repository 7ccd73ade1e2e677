//! Every mark and what it means.

/// Name and meaning of every mark, by name.
pub const ALL: &[(&str, &str)] = &[
    (
        "abandoned_given_back",
        "messages of a consumer that nobody heard of for two minutes were given back",
    ),
    (
        "all_down",
        "fault: all processes were stopped and started again in any order",
    ),
    (
        "ambush",
        "fault: all replicas lost power while one was in the middle of something",
    ),
    (
        "arrival_doubted",
        "a door did not confirm a delivery, since its connection broke soon after",
    ),
    (
        "attempt_repeated",
        "a client asked again with the id of an earlier attempt and got the same messages",
    ),
    ("blackout", "fault: all replicas lost power at once"),
    (
        "bridge",
        "fault: two halves of a broker group heard each other through one replica only",
    ),
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
    ("clients_cut", "fault: clients did not reach a replica"),
    (
        "committed_before_durable_here",
        "an entry was committed by others, and waited until it was durable on this replica",
    ),
    (
        "consumer_group_asked",
        "a door that did not know a consumer group asked the leader for its rules",
    ),
    (
        "covered_entry_skipped",
        "an entry came by the log whose effect an installed snapshot had brought already",
    ),
    ("crash_loop", "fault: a process died again and again"),
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
    (
        "delivery_confirmed_again",
        "what a consumer acknowledged meanwhile left pieces that were confirmed by another command",
    ),
    ("digest_made", "a replica hashed its state"),
    ("election", "a replica became leader and serves"),
    ("fail_sync", "fault: a sync of a disk failed"),
    ("fail_write", "fault: a write to a disk failed"),
    (
        "failed_to_start",
        "a replica did not open, since its disk failed meanwhile",
    ),
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
    ("flip", "fault: a bit on a disk changed"),
    (
        "format_level_raised",
        "all members support a higher format level, and the state rose to it",
    ),
    ("grow", "operation: one replica more is wanted"),
    ("hold", "fault: what two replicas sent each other was held back"),
    ("install_begun", "a replica began to install a snapshot"),
    (
        "install_done_again",
        "a crash had interrupted an installation, and the next start did it again",
    ),
    ("install_ended", "a snapshot was installed"),
    ("isolate", "fault: a replica and the others did not hear each other"),
    (
        "joint_finished",
        "a leader finished a change of the membership that had broken off half done",
    ),
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
    ("minority", "fault: a minority of a broker group was cut off"),
    ("mute", "fault: no other replica heard a replica"),
    ("name_server_cut", "fault: nobody reached a name server"),
    ("no_space", "fault: a disk was full"),
    (
        "no_space_anywhere",
        "fault: the disks of a whole broker group were full",
    ),
    ("not_ready", "a replica told that it is not ready"),
    ("older_release", "a replica began as an older release"),
    (
        "older_stream_reported",
        "a name server was told on a stream that the replica had left behind, and took nothing from it",
    ),
    (
        "older_term_reported",
        "a name server was told of a leader of an older term, and kept the newer one",
    ),
    ("outage", "fault: a replica was down for long"),
    (
        "outage_past_retention",
        "a replica came back after the log had been cut beyond it",
    ),
    (
        "outcome_unknown",
        "a proposal ended without an answer whether it was done",
    ),
    ("pause", "fault: a process was frozen"),
    ("poisoned", "a replica stopped by itself, since its disk had failed"),
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
    (
        "refusal_after_unknown",
        "a door held a call on that was refused for want of room, as an earlier try of it may have been done",
    ),
    ("refused_to_start", "a replica refused a folder that was damaged"),
    ("registered", "a name server took a replica's registration"),
    ("removal_learned", "a replica learned that it was removed"),
    (
        "repeated_attempt_kept",
        "messages were not given back, since the same attempt was handed them again",
    ),
    (
        "repeated_request",
        "a request that was done before came again, and answered as it did first",
    ),
    ("replica_added", "operation: a replica was added"),
    ("replica_removed", "operation: a replica was removed"),
    (
        "replica_replaced",
        "operation: a replica was replaced by one with an empty folder",
    ),
    ("reset", "fault: the connections of a machine were reset"),
    (
        "restart_behind_log",
        "a replica started with a state older than its log, and applied the rest again",
    ),
    ("retention_cut", "old messages were forgotten"),
    (
        "rolling_restart",
        "fault: all replicas were stopped in good order and started again, one after another",
    ),
    (
        "segment_recycled",
        "a segment was written over the file of a purged one",
    ),
    ("segment_rolled", "the log went on in a new segment"),
    (
        "segment_spared",
        "the file of a purged segment was kept to be written over",
    ),
    ("shrink", "operation: one replica less is wanted"),
    (
        "sidecar_rebuilt",
        "the sidecar of a finished segment was missing or damaged, and was made again",
    ),
    ("silent_replica_dropped", "a name server took a silent replica for dead"),
    ("slow", "fault: a link was slow"),
    ("slow_sync", "fault: the syncs of a disk were slow"),
    (
        "snapshot_found_at_start",
        "a replica found a received snapshot when it started",
    ),
    (
        "snapshot_here_already",
        "a replica was sent a snapshot again that it had installed, as the answer got lost",
    ),
    (
        "snapshot_of_deposed_leader",
        "a snapshot arrived whole after its sender had been deposed, and was forgotten",
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
    ("stopped_by_disk", "a replica whose disk had failed was started again"),
    (
        "stopped_in_order",
        "a replica that had been asked to stop was started again",
    ),
    (
        "stream_behind_the_log",
        "a deposed leader still sent entries that its log no longer held, and sent nothing instead",
    ),
    ("swap", "operation: a living replica is to be replaced"),
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
        "thrown_away",
        "the folder of a replica was of no use any more and was emptied",
    ),
    ("topic", "operation: a topic is to be made and removed"),
    ("topic_created", "operation: a topic was made"),
    ("topic_deleted", "operation: a topic was removed"),
    (
        "torn_tail_cut",
        "a torn write at the end of the log was cut off at the start",
    ),
    ("transfer", "operation: another replica is to lead"),
    ("transfer_done", "operation: the leadership was handed over"),
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
    ("wipe", "fault: a machine lost its disk"),
    ("wrong_clock", "fault: a wall clock was wrong"),
];
