//! The bounds of this crate, and what the protocol's clients agree on (grpc.md B, E, F).

use std::time::Duration;

/// Tries of one call, the first included.
pub const ATTEMPTS_MAX: u32 = 3;

/// Deadline of one try.
pub const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(3);

/// First wait after TOO_MANY_REQUESTS; it doubles up to [`BACKOFF_MAX`].
pub const BACKOFF_INITIAL: Duration = Duration::from_millis(10);

/// Longest wait after TOO_MANY_REQUESTS.
pub const BACKOFF_MAX: Duration = Duration::from_secs(1);

/// Bytes of messages on their way; senders beyond it wait.
pub const IN_FLIGHT_BYTES_MAX: usize = 64 * 1024 * 1024;

/// What a message costs of [`IN_FLIGHT_BYTES_MAX`] beyond its body.
pub const MESSAGE_OVERHEAD_BYTES: usize = 512;

/// Bytes of a message's body.
pub const BODY_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Messages of one batch.
pub const BATCH_MESSAGES_MAX: usize = 1_024;

/// Messages that one receive asks for.
pub const RECEIVE_MESSAGES_MAX: u32 = 32;

/// Bytes of one frame from the server: a message of the largest size, with its properties, and room to spare.
pub const FRAME_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Bytes that one receive keeps.
pub const RECEIVE_BYTES_MAX: usize = 144 * 1024 * 1024;

/// Longest wait of one receive for the next message.
pub const LONG_POLL_MAX: Duration = Duration::from_secs(20);

/// Topics that one client uses.
pub const TOPICS_MAX: usize = 10_000;

/// Addresses that one client is connected to.
pub const ADDRESSES_MAX: usize = 1_024;

/// Connections to one address.
pub const CHANNELS_PER_ADDRESS_MAX: usize = 64;

/// An address that failed is avoided for this long while another one is there.
pub const ISOLATION: Duration = Duration::from_secs(2);

/// Routes are asked again this often, and at once after an error.
pub const ROUTE_REFRESH: Duration = Duration::from_secs(30);

/// Least time between two refreshes of all routes after errors.
pub const ROUTE_REFRESH_MIN: Duration = Duration::from_millis(200);

/// Heartbeats to each address.
pub const HEARTBEAT: Duration = Duration::from_secs(10);

/// Wait before a lost Telemetry stream is opened again.
pub const TELEMETRY_REOPEN: Duration = Duration::from_secs(1);

/// How long the end waits for the servers' farewells.
pub const SHUTDOWN_GRACE: Duration = Duration::from_secs(1);

const _: () = assert!(BACKOFF_INITIAL.as_millis() < BACKOFF_MAX.as_millis());
const _: () = assert!(IN_FLIGHT_BYTES_MAX >= BODY_BYTES_MAX + MESSAGE_OVERHEAD_BYTES);
const _: () = assert!(IN_FLIGHT_BYTES_MAX <= tokio::sync::Semaphore::MAX_PERMITS);
const _: () = assert!(FRAME_BYTES_MAX > BODY_BYTES_MAX);
