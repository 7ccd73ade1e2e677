//! Every bound of the state machine. What apply checks must be equal on all replicas of a broker group, so these
//! are constants of the release, not settings of a process.

/// Most topics of a broker group, those of dead letters included.
pub const TOPICS: u32 = 20_000;
/// Most consumer groups of a broker group.
pub const CONSUMER_GROUPS: u32 = 20_000;
/// Most queues of a topic.
pub const QUEUES_PER_TOPIC: u32 = 4_096;
/// Most messages handed out by one receive (grpc.md B.5).
pub const MESSAGES_PER_RECEIVE: usize = 32;
/// Most ranges in one lease command; the planner stays below.
pub const RANGES_PER_LEASE: usize = 8_192;
/// Most messages granted by one lease command.
pub const MESSAGES_PER_LEASE: usize = 1_024;
/// Most index places that one plan looks at before it answers with what it has.
pub const RECORDS_PER_PLAN: usize = 4_096;
/// Messages of one queue that a FIFO consumer group may have passed over because earlier ones of their message
/// groups are out.
pub const PASSED_PER_QUEUE: u64 = 2_000;
/// Offsets that a fresh range may lie ahead of the first one never handed out. Receives that were planned one
/// after another may be applied in another order; what lies between waits as visible.
pub const GAP: u64 = 16_384;
/// Spans not done of one consumer group on one topic; nothing fresh is handed out above it.
pub const SPANS_PER_PROGRESS: usize = 200_000;
/// Log time for which sent messages and request ids are remembered, milliseconds.
pub const WINDOW_MS: u64 = 30_000;
/// Most message ids remembered within the window.
pub const DEDUPE_IDS: usize = 1_500_000;
/// Most request ids remembered within the window.
pub const REQUEST_IDS: usize = 500_000;
/// Records of the newest runs of all queues that are kept in memory.
pub const CACHED_RECORDS: usize = 131_072;
/// Spans told by one question for due renewals.
pub const RENEWALS_PER_QUESTION: usize = 4_096;
/// Messages of clients that are gone which one question names.
pub const RELEASES_PER_QUESTION: usize = 1_024;
/// Deliveries of one message by default, then it goes to the dead letters (grpc.md B.10).
pub const MAX_ATTEMPTS_DEFAULT: u32 = 17;
/// First stretch of a self-renewing lease, milliseconds.
pub const RENEW_FIRST_MS: u64 = 60_000;
/// Further stretches of a self-renewing lease, milliseconds; the last one repeats (grpc.md D.2).
pub const RENEW_STRETCHES_MS: [u64; 6] = [60_000, 180_000, 300_000, 600_000, 1_800_000, 3_600_000];
/// A self-renewing lease is due this long before it ends, milliseconds.
pub const RENEW_AHEAD_MS: u64 = 10_000;
/// A self-renewing lease is given back after this time, milliseconds.
pub const RENEW_TOTAL_MS: u64 = 3 * 3_600_000;
/// After which time a client that went away frees its messages, milliseconds (grpc.md D.2).
pub const RELEASE_MS: u64 = 1_000;
/// After which time messages are visible that did not arrive, milliseconds.
pub const GIVEN_BACK_MS: u64 = 1_000;
/// Delays of redelivery that clients are told, milliseconds (grpc.md B.10).
pub const SCHEDULE_MS: [u64; 18] = [
    1_000, 5_000, 10_000, 30_000, 60_000, 120_000, 180_000, 240_000, 300_000, 360_000, 420_000, 480_000, 540_000,
    600_000, 1_200_000, 1_800_000, 3_600_000, 7_200_000,
];
/// Longest text in a command or record, bytes.
pub const TEXT_BYTES: usize = 65_535;

/// Records in one command that carries some over.
pub const RECORDS_PER_CARRY: usize = 1_024;
/// Digests remembered, the newest ones.
pub const DIGESTS: usize = 8;

const _: () = assert!(DEDUPE_IDS < u32::MAX as usize && WINDOW_MS >= 30_000);
const _: () = assert!(
    QUEUES_PER_TOPIC <= 65_536,
    "a remembered send packs the queue into 16 bits"
);
