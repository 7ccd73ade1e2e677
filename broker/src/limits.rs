//! Every bound of the broker's shell in one place: bytes, counts and waits. The state machine has its own beside it.

use std::time::Duration;

/// Largest inbound gRPC message that gets an answer in the payload; above it the call ends with RESOURCE_EXHAUSTED.
pub const INBOUND_MESSAGE_BYTES_MAX: usize = 130 * MIB;
/// Largest SendMessage request that is read into memory: a batch becomes one command and must fit the bytes in flight.
pub const SEND_REQUEST_BYTES_MAX: usize = 16 * MIB;
/// Largest request of any other verb.
pub const SMALL_REQUEST_BYTES_MAX: usize = MIB;
/// Largest request and reply between doors: a batch of 32 messages of 4 MiB each, and their fields.
pub const FORWARD_BYTES_MAX: usize = 130 * MIB;
/// Bytes of all requests that this process holds at once, from their first byte until they are answered.
pub const INBOUND_BYTES_MAX: usize = 32 * MIB;
/// Bytes of message bodies that one reply of ReceiveMessage carries; at least one message is always given.
pub const RECEIVE_REPLY_BYTES_MAX: usize = 4 * MIB;

/// HTTP/2: what a client may send ahead on one stream and on one connection.
pub const STREAM_WINDOW_BYTES: u32 = MIB as u32;
/// See [`STREAM_WINDOW_BYTES`].
pub const CONNECTION_WINDOW_BYTES: u32 = 2 * MIB as u32;
/// HTTP/2: bytes a stream may have buffered for writing.
pub const SEND_BUFFER_BYTES: usize = 256 * KIB;
/// HTTP/2: open streams of one connection.
pub const STREAMS_PER_CONNECTION_MAX: u32 = 2048;
/// HTTP/2: bytes of the header list of one request.
pub const HEADER_LIST_BYTES_MAX: u32 = 16 * KIB as u32;
/// Ping a connection that said nothing for so long, and close it when it does not answer.
pub const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
/// See [`KEEPALIVE_INTERVAL`].
pub const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection without an open stream for so long is closed (grpc.md B.0).
pub const IDLE_CONNECTION_TIMEOUT: Duration = Duration::from_secs(120);
/// A new connection must have sent its first bytes by then.
pub const FIRST_BYTES_TIMEOUT: Duration = Duration::from_secs(10);
/// Pause of the accept loop after an error, such as no free file descriptor.
pub const ACCEPT_ERROR_PAUSE: Duration = Duration::from_millis(50);

/// A door holds a call so long when it finds no leader; the clients' own deadline is 3 s (design.md section 5).
pub const HOLD: Duration = Duration::from_millis(2500);
/// A door answers so long before the client's own deadline.
pub const DEADLINE_MARGIN: Duration = Duration::from_millis(300);
/// Pause between two tries of a held call; doubled up to [`RETRY_PAUSE_MAX`]. A change of role ends it early.
pub const RETRY_PAUSE: Duration = Duration::from_millis(4);
/// See [`RETRY_PAUSE`].
pub const RETRY_PAUSE_MAX: Duration = Duration::from_millis(32);
/// Time to connect to another door.
pub const FORWARD_CONNECT_TIMEOUT: Duration = Duration::from_millis(500);

/// Messages in one reply of ReceiveMessage (grpc.md B.5).
pub const RECEIVE_BATCH_MAX: u32 = 32;
/// Long polls are clamped into these (grpc.md B.5).
pub const POLLING_MIN: Duration = Duration::from_secs(5);
/// See [`POLLING_MIN`].
pub const POLLING_MAX: Duration = Duration::from_secs(20);
/// Parked long polls of one consumer group and topic.
pub const POLLS_PER_LANE_MAX: usize = 1024;
/// Parked long polls of the process.
pub const POLLS_MAX: usize = 8192;
/// A parked poll looks again at the latest after so long, whatever the hints said.
pub const POLL_RECHECK: Duration = Duration::from_millis(800);
/// A leader ends a poll so long before its door's time is over.
pub const POLL_MARGIN: Duration = Duration::from_millis(50);
/// Lanes (pairs of topic and consumer group) remembered.
pub const LANES_MAX: usize = 65_536;
/// Planning again after apply granted nothing of what was planned.
pub const PLAN_TRIES_MAX: u32 = 3;

/// Bytes of one message body as transmitted (grpc.md B.0).
pub const BODY_BYTES_MAX: usize = 4 * MIB;
/// Messages in one SendMessage.
pub const SEND_BATCH_MAX: usize = 1024;
/// User properties of one message, and the bytes of their keys, values, tag and keys together (grpc.md B.0).
pub const USER_PROPERTIES_MAX: usize = 128;
/// See [`USER_PROPERTIES_MAX`].
pub const USER_PROPERTIES_BYTES_MAX: usize = 16 * KIB;
/// Bytes of system properties that clients choose freely (trace context, born host, message id), each.
pub const SYSTEM_PROPERTY_BYTES_MAX: usize = KIB;
/// A delivery time may lie so far ahead: 40 days.
pub const DELAY_MS_MAX: u64 = 40 * 24 * 3600 * 1000;
/// orphaned_transaction_recovery_duration, seconds.
pub const TRANSACTION_RECOVERY_S_MAX: i64 = 3600;
/// Invisible time of a receive, milliseconds (grpc.md B.0).
pub const INVISIBLE_MS_MIN: u64 = 10_000;
/// See [`INVISIBLE_MS_MIN`]; ChangeInvisibleDuration has the same upper limit and 0 as the lower.
pub const INVISIBLE_MS_MAX: u64 = 12 * 3600 * 1000;
/// Invisible time of an auto-renewed receive.
pub const AUTO_RENEW_INVISIBLE_MS: u64 = 60_000;
/// Entries of one AckMessage.
pub const ACK_ENTRIES_MAX: usize = 1024;

/// Clients remembered by the registry of one process; the longest silent one is forgotten first.
pub const CLIENTS_MAX: usize = 50_000;
/// A client that said nothing for so long is forgotten.
pub const CLIENT_EXPIRY: Duration = Duration::from_secs(120);
/// A new leader takes every client for alive for so long.
pub const NEW_LEADER_GRACE: Duration = Duration::from_secs(30);
/// How often the leader renews auto-renewed leases, and how many of them in one command.
pub const RENEW_INTERVAL: Duration = Duration::from_secs(5);
/// See [`RENEW_INTERVAL`].
pub const RENEW_BATCH_MAX: usize = 1024;

/// Replies to self-renewing consumers that a door remembers until it confirms them.
pub const DELIVERIES_MAX: usize = 65_536;
/// A door confirms what it delivered after so long, well before the first stretch of a self-renewing lease ends.
pub const CONFIRM_AFTER: Duration = Duration::from_secs(40);
/// A delivery that nobody could be told of is told again until it is so old; its lease ends soon after.
pub const CONFIRM_UNTIL: Duration = Duration::from_millis(AUTO_RENEW_INVISIBLE_MS - 2_000);
/// Deliveries that are told in vain before the rest waits for the next look.
pub const CONFIRM_FAILURES: u32 = 8;
/// A command that renews what an acknowledgement cut in two meanwhile is made again so often.
pub const RENEW_ROUNDS: u32 = 16;
/// How often the leader looks for messages whose consumers are gone, and how many of them it gives back at a time.
pub const RELEASE_CHECK: Duration = Duration::from_secs(10);
/// See [`RELEASE_CHECK`].
pub const RELEASES_AT_ONCE: usize = 32;
/// A reply has arrived when its connection outlives it by this: what was sent was acknowledged and a ping behind it answered, or
/// either would have ended the connection.
pub const ARRIVAL_AFTER: Duration = KEEPALIVE_INTERVAL
    .saturating_add(KEEPALIVE_TIMEOUT)
    .saturating_add(Duration::from_secs(1));
const _: () = assert!(ARRIVAL_AFTER.as_secs() < CONFIRM_AFTER.as_secs());
const _: () = assert!(ledgermq_proto::limits::UNACKNOWLEDGED_MAX.as_secs() < ARRIVAL_AFTER.as_secs());
/// An address keeps its assignments for so long after its replica died: a consumer that loses an assignment forgets what
/// it has in hand.
pub const ASSIGNMENT_GRACE: Duration = Duration::from_secs(60);
/// How often the state's flusher looks, and when it flushes: after so many bytes of commands, or so long.
pub const FLUSH_CHECK: Duration = Duration::from_secs(1);
/// See [`FLUSH_CHECK`].
pub const FLUSH_BYTES: u64 = 128 << 20;
/// See [`FLUSH_CHECK`].
pub const FLUSH_INTERVAL: Duration = Duration::from_secs(30);

/// How often the leader looks whether something of the log is to be forgotten.
pub const RETENTION_CHECK: Duration = Duration::from_secs(10);
/// How often the leader looks whether all members support a higher format level.
pub const LEVEL_CHECK: Duration = Duration::from_secs(1);
/// Entries that one cut lets go of, unless that would carry over what the next cut lets go of.
pub const CUT_ENTRIES: u64 = 16_384;
/// Entries at the end of a segment that are looked at for the time of its newest command.
pub const SEGMENT_STAMP_ENTRIES: u64 = 64;
/// A cut is tried so often while records come into its way.
pub const CUT_TRIES_MAX: u32 = 8;
/// Bytes of records in one command that carries some over; one is always carried.
pub const CARRY_BYTES: usize = 4 * MIB;
/// A replica that is asked for a digest which is not made yet answers so after this time.
pub const DIGEST_WAIT: Duration = Duration::from_secs(1);

/// Beat of registration, and the pause before a lost name server is tried again (doubled up to the maximum).
pub const REGISTRATION_BEAT: Duration = Duration::from_secs(1);
/// See [`REGISTRATION_BEAT`].
pub const REGISTRATION_PAUSE: Duration = Duration::from_millis(200);
/// See [`REGISTRATION_BEAT`].
pub const REGISTRATION_PAUSE_MAX: Duration = Duration::from_secs(5);
/// A name server that said nothing for so long has its stream opened again.
pub const REGISTRATION_SILENCE: Duration = Duration::from_secs(10);

/// A replica is ready while it reached a committed probe through the leader this often.
pub const PROBE_INTERVAL: Duration = Duration::from_secs(1);
/// A door that missed this many probes in a row is not ready.
pub const PROBES_MISSED_MAX: u32 = 2;

/// How often a replica looks at the room on its disk.
pub const DISK_CHECK: Duration = Duration::from_secs(2);
/// What another replica told of its disk counts for so long.
pub const DISK_TOLD_LIFE: Duration = Duration::from_secs(10);
/// Replicas whose disks are remembered: more than a broker group has members.
pub const DISKS_MAX: usize = 64;
/// A full disk is full until it is so much below its limit.
pub const DISK_WON_BACK_PERCENT: u64 = 1;
/// A leader with a full disk tries so often to hand over.
pub const DISK_HANDOVER_PAUSE: Duration = Duration::from_secs(10);

/// Jobs of the blocking pool at once; the rest wait.
pub const BLOCKING_JOBS_MAX: usize = 16;
/// Open connections of the metrics port.
pub const METRICS_CONNECTIONS_MAX: usize = 16;
/// Series of rocketmq_consumer_lag_messages in one answer of the metrics port.
pub const LAG_SERIES_MAX: usize = 10_000;

/// How often a broker looks whether its log has failed for good.
pub const POISON_CHECK: Duration = Duration::from_millis(200);

/// SIGTERM: time to hand leadership over, to let calls end, and for everything.
pub const HANDOVER_TIMEOUT: Duration = Duration::from_secs(3);
/// See [`HANDOVER_TIMEOUT`].
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);
/// See [`HANDOVER_TIMEOUT`].
pub const STOP_TIMEOUT: Duration = Duration::from_secs(28);

/// Bytes of a message's body that a dump of the log shows.
pub const SHOWN_BODY_BYTES: usize = 120;

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

const _: () = assert!(SEND_REQUEST_BYTES_MAX <= INBOUND_BYTES_MAX);
const _: () = assert!(SEND_REQUEST_BYTES_MAX <= INBOUND_MESSAGE_BYTES_MAX);
const _: () = assert!(BODY_BYTES_MAX < SEND_REQUEST_BYTES_MAX);
const _: () = assert!(POLLING_MIN.as_millis() <= POLLING_MAX.as_millis());
const _: () = assert!(HANDOVER_TIMEOUT.as_millis() + DRAIN_TIMEOUT.as_millis() < STOP_TIMEOUT.as_millis());
