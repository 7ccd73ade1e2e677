//! The bounds of this crate.

use std::time::Duration;

/// Beat of the routes that each registered broker gets, also without a change.
pub const ROUTES_BEAT: Duration = Duration::from_secs(1);

/// A broker reports at least every second; one that is silent for this long counts as dead and its stream ends.
pub const REPORT_SILENCE_MAX: Duration = Duration::from_secs(5);

/// A replica or a broker group without any report for this long is forgotten.
pub const ENTRY_EXPIRY: Duration = Duration::from_secs(120);

/// Broker groups that the table holds.
pub const BROKER_GROUPS_MAX: usize = 1_024;

/// Replicas that one broker group has, those that left included until they expire.
pub const REPLICAS_MAX: usize = 64;

/// Topics of one broker group.
pub const TOPICS_MAX: usize = 100_000;

/// Message queues of a topic in one broker group.
pub const QUEUES_MAX: u32 = 4_096;

/// Characters of a broker group's name, of a topic's name, of a cluster id.
pub const NAME_CHARACTERS_MAX: usize = 127;

/// Characters of an address.
pub const ADDRESS_CHARACTERS_MAX: usize = 262;

/// Bytes of one report; a topic takes about its name and 10 bytes.
pub const REPORT_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Bytes of one call of a client.
pub const REQUEST_BYTES_MAX: usize = 64 * 1024;

/// Open calls on one connection.
pub const STREAMS_PER_CONNECTION_MAX: u32 = 1_024;

/// Interval of HTTP/2 pings to each connection.
pub const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(2);

/// A ping without an answer for this long closes the connection.
pub const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(2);

/// How long the end waits for open calls.
pub const SHUTDOWN_GRACE: Duration = Duration::from_secs(2);

const _: () = assert!(ROUTES_BEAT.as_millis() * 2 < REPORT_SILENCE_MAX.as_millis());
const _: () = assert!(REPORT_SILENCE_MAX.as_millis() < ENTRY_EXPIRY.as_millis());
