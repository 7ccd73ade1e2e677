//! Every bound of this crate's consensus half, in one place. The log has its own beside it.

use std::time::Duration;

/// Commands in one entry.
pub const COMMANDS_MAX: usize = 4096;
/// Bytes of commands after which an entry is full; a single larger command gets an entry of its own.
pub const ENTRY_BYTES_SOFT: usize = 4 << 20;
/// Largest command.
pub const COMMAND_BYTES_MAX: usize = 64 << 20;
/// Entries proposed and not yet applied, beyond which commands are coalesced instead.
pub const ENTRIES_IN_FLIGHT: usize = 4;
/// How long a proposal may wait for room before it is refused.
pub const ADMISSION_WAIT: Duration = Duration::from_millis(200);
/// How long a proposal waits for its outcome before it is reported as unknown.
pub const PROPOSAL_WAIT: Duration = Duration::from_secs(10);
/// Commands queued at the proposer.
pub const PROPOSER_QUEUE: usize = 16_384;

/// Bytes of entries read from the log at once, for replication and for apply.
pub const READ_BYTES: usize = 1 << 20;

/// Largest message between replicas: the largest entry and its frame, with room.
pub const PEER_MESSAGE_BYTES_MAX: usize = 80 << 20;
/// Append requests on their way to one follower.
pub const APPENDS_IN_FLIGHT: usize = 64;
/// Bytes of append requests on their way to one follower.
pub const APPEND_BYTES_IN_FLIGHT: usize = 16 << 20;
/// Deadline of a call that moves no bulk data.
pub const CALL_DEADLINE: Duration = Duration::from_millis(1_000);
/// Deadline of a connection attempt.
pub const CONNECT_DEADLINE: Duration = Duration::from_millis(500);
/// An append stream whose oldest request stays unanswered for so long is given up.
pub const APPEND_IDLE: Duration = Duration::from_millis(3_000);
/// HTTP/2 keepalive between replicas: the interval of pings, and how long one may stay unanswered.
pub const KEEPALIVE_INTERVAL: Duration = Duration::from_millis(500);
/// See [`KEEPALIVE_INTERVAL`].
pub const KEEPALIVE_TIMEOUT: Duration = Duration::from_millis(1_500);
/// HTTP/2 flow control window of a stream and of a connection between replicas.
pub const HTTP2_WINDOW_BYTES: u32 = 16 << 20;
/// Bytes of one part of a snapshot: small enough that reading one does not delay the log.
pub const SNAPSHOT_PART_BYTES: usize = 256 << 10;
/// Bytes of an arriving snapshot after which they are made durable; a sync of so many is short beside the sender's patience.
pub const SNAPSHOT_SYNC_BYTES: u64 = 32 << 20;
/// Largest part that is taken; one pair of the state may be larger than [`SNAPSHOT_PART_BYTES`].
pub const SNAPSHOT_PART_BYTES_MAX: usize = 64 << 20;
/// Largest place in an export.
pub const SNAPSHOT_PLACE_BYTES_MAX: usize = 4 << 10;
/// A snapshot's stream without a part for so long is given up; the transfer goes on in the next one.
pub const SNAPSHOT_IDLE: Duration = Duration::from_secs(5);
/// Deadline of one stream of a snapshot, installation included.
pub const SNAPSHOT_DEADLINE: Duration = Duration::from_secs(600);
/// How often it is looked whether the log has caught up with an installed snapshot.
pub const SNAPSHOT_SETTLE_CHECK: Duration = Duration::from_millis(10);
/// A copy of the state that nobody has read for so long is let go.
pub const VIEW_LIFE: Duration = Duration::from_secs(30);
/// How long the log keeps what a living replica still lacks of it, beyond the retention.
pub const LAGGARD_WAIT: Duration = Duration::from_secs(600);
/// How often a replica looks whether its log may forget something.
pub const RETENTION_CHECK: Duration = Duration::from_millis(500);

/// A presence stream without a beat for so long is given up.
pub const PRESENCE_IDLE: Duration = Duration::from_millis(2_000);
/// Beats without a reply on one presence stream.
pub const BEATS_UNANSWERED: usize = 1_000;
/// Between two attempts to bring a presence stream up.
pub const PRESENCE_RETRY: Duration = Duration::from_millis(50);

/// Characters of a reason that is kept for a report.
pub const REASON_CHARS_MAX: usize = 300;
/// Refused callers that are remembered; the one that called least lately is forgotten first.
pub const REFUSED_CALLERS_MAX: usize = 32;
/// A refused call older than this is not reported any more.
pub const REFUSED_CALL_LIFE: Duration = Duration::from_secs(60);

/// Members of a broker group.
pub const MEMBERS_MAX: usize = 32;
/// Memberships of the past that are kept for the labels of snapshots.
pub const MEMBERSHIPS_KEPT_MAX: usize = 1_000;
/// Bytes of an address.
pub const ADDRESS_BYTES_MAX: usize = 512;
/// Characters of a program's version that are kept of what another replica tells.
pub const VERSION_CHARS_MAX: usize = 64;
/// Bytes of the broker group's name.
pub const BROKER_GROUP_BYTES_MAX: usize = 256;

/// How long a transfer of leadership may take.
pub const TRANSFER_WAIT: Duration = Duration::from_millis(2_000);
/// How long a change of the membership may take to be committed before its outcome is reported as unknown.
pub const CHANGE_WAIT: Duration = Duration::from_millis(1_500);
/// How often a leader looks for a change of the membership that broke off half done.
pub const JOINT_CHECK: Duration = Duration::from_millis(500);
/// How long a replacement waits for its learner before it says how far behind it is.
pub const CATCH_UP_WAIT: Duration = Duration::from_millis(500);
/// How often it looks meanwhile.
pub const CATCH_UP_CHECK: Duration = Duration::from_millis(20);
/// Entries that a learner may be behind the leader and count as caught up: those on their way.
pub const CAUGHT_UP_ENTRIES: u64 = 64;
/// A replica that no leader has spoken to for so long believes others that it was removed.
pub const REMOVED_SILENCE: Duration = Duration::from_secs(1);
/// Between two attempts of a removed replica to reach another.
pub const REMOVED_RETRY: Duration = Duration::from_secs(2);
/// How long a read barrier may take.
pub const BARRIER_WAIT: Duration = Duration::from_millis(2_000);

/// Agreed takeover: how long a mark stands.
pub const GONE_LIFE: Duration = Duration::from_millis(500);
/// Agreed takeover: deadline of the question to another voter.
pub const GONE_DEADLINE: Duration = Duration::from_millis(50);
/// Agreed takeover: how long a replica with a shorter log waits for the better candidate.
pub const GONE_YIELD: Duration = Duration::from_millis(40);
/// Agreed takeover: how long an election that was started gets before the question is asked again.
pub const GONE_ELECTION: Duration = Duration::from_millis(60);

/// A leader whose log's writer is at one batch for so long, while a majority goes on without it, hands over.
pub const STALL_HANDOVER: Duration = Duration::from_millis(500);
/// How often it looks.
pub const STALL_CHECK: Duration = Duration::from_millis(100);
/// It serves nobody for so long, and longer once another leads: the core may be stuck on the disk and not know.
pub const STALL_RESIGNED: Duration = Duration::from_secs(1);
/// Between two handovers for that reason by one replica: disks that stall by turns must not pass the leadership around.
pub const STALL_PAUSE: Duration = Duration::from_secs(5);

const _: () = assert!(COMMAND_BYTES_MAX + COMMANDS_MAX * 4 + 1024 < PEER_MESSAGE_BYTES_MAX);
const _: () = assert!(ENTRY_BYTES_SOFT <= COMMAND_BYTES_MAX);
const _: () = assert!(READ_BYTES <= APPEND_BYTES_IN_FLIGHT);
