//! What a client is made of: the seams and the limits that a user sets.

use std::{fmt, sync::Arc, time::Duration};

use ledgermq_proto::net::{ChannelOptions, Net};

use crate::{error::Error, limits};

/// Unix time in milliseconds.
pub type WallClock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// Options of a producer or a consumer.
#[derive(Clone)]
pub struct Options {
    /// Where connections come from.
    pub net: Arc<dyn Net>,
    /// Access points, `host:port`: routes are asked there, in turn.
    pub endpoints: Vec<String>,
    /// The client's name, visible ASCII, unique in the cluster: repeated sends are told by it. Usually `host@pid@number`.
    pub client_id: String,
    /// Unix time in milliseconds, for born timestamps and message ids.
    pub wall_clock: WallClock,
    /// Message ids and request ids come from it and from the client's name.
    pub seed: u64,
    /// Part of message ids.
    pub process_id: u32,
    /// Connections to each address, used in turn; 1 to [`limits::CHANNELS_PER_ADDRESS_MAX`].
    pub channels_per_address: usize,
    /// How each of them behaves.
    pub channel: ChannelOptions,
    /// Tries of one call, the first included; at least 1.
    pub attempts_max: u32,
    /// Deadline of one try.
    pub attempt_timeout: Duration,
    /// Bytes of messages on their way; senders beyond it wait.
    pub in_flight_bytes_max: usize,
    /// The client library that the servers are told of (`x-mq-language`, visible ASCII): they shape routes by it. `RUST`
    /// unless somebody plays another library.
    pub language: String,
    /// Ask the server for each message's queue ([`crate::Receipt::queue_id`]).
    pub placement: bool,
}

impl Options {
    /// Options with the defaults of [`limits`].
    pub fn new(net: Arc<dyn Net>, endpoints: Vec<String>, client_id: &str, wall_clock: WallClock, seed: u64) -> Self {
        Self {
            net,
            endpoints,
            client_id: client_id.to_owned(),
            wall_clock,
            seed,
            process_id: 0,
            channels_per_address: 1,
            channel: ChannelOptions::default(),
            attempts_max: limits::ATTEMPTS_MAX,
            attempt_timeout: limits::ATTEMPT_TIMEOUT,
            in_flight_bytes_max: limits::IN_FLIGHT_BYTES_MAX,
            language: "RUST".to_owned(),
            placement: false,
        }
    }

    pub(crate) fn check(&self) -> Result<(), Error> {
        let bytes_min = limits::BODY_BYTES_MAX + limits::MESSAGE_OVERHEAD_BYTES;
        let client_id_legal =
            (1..=255).contains(&self.client_id.len()) && self.client_id.bytes().all(|byte| byte.is_ascii_graphic());
        let wrong = if self.endpoints.is_empty() || self.endpoints.len() > limits::ADDRESSES_MAX {
            format!("1 to {} endpoints, not {}", limits::ADDRESSES_MAX, self.endpoints.len())
        } else if !client_id_legal {
            format!(
                "client id {:?} must be 1 to 255 visible ASCII characters",
                self.client_id
            )
        } else if !(1..=limits::CHANNELS_PER_ADDRESS_MAX).contains(&self.channels_per_address) {
            format!(
                "1 to {} channels an address, not {}",
                limits::CHANNELS_PER_ADDRESS_MAX,
                self.channels_per_address
            )
        } else if self.attempts_max == 0 {
            "at least 1 attempt".to_owned()
        } else if self.attempt_timeout.is_zero() {
            "an attempt's timeout must not be 0".to_owned()
        } else if self.in_flight_bytes_max < bytes_min || u32::try_from(self.in_flight_bytes_max).is_err() {
            format!(
                "{bytes_min} to {} bytes in flight, not {}",
                u32::MAX,
                self.in_flight_bytes_max
            )
        } else {
            return Ok(());
        };
        Err(Error::invalid("", wrong))
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("endpoints", &self.endpoints)
            .field("client_id", &self.client_id)
            .finish_non_exhaustive()
    }
}
