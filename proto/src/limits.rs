//! The bounds of this crate.

use std::time::Duration;

/// Connections that one listener keeps open; those beyond it are closed at once.
pub const OPEN_CONNECTIONS_MAX: usize = 10_000;

/// Wait after a failed accept: out of file descriptors ends only when a connection closes.
pub const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(50);

/// How long a connection may take to come up.
pub const CONNECT_TIMEOUT: Duration = Duration::from_millis(300);

/// Interval of HTTP/2 pings on a connection, also while it carries no call.
pub const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(2);

/// A ping without an answer for this long closes the connection.
pub const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(1);

/// A connection whose other end has not acknowledged bytes for so long is closed, where the system can do that.
pub const UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(20);

const _: () = assert!(OPEN_CONNECTIONS_MAX <= tokio::sync::Semaphore::MAX_PERMITS);
