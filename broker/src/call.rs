//! Who calls and how long the answer may take: read once from a call's metadata, then passed along to the leader.

use std::net::IpAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use ledgermq_proto::{headers, rocketmq::Code};
use tokio::time::Instant;
use tonic::metadata::MetadataMap;

use crate::language::Language;
use crate::limits;
use crate::refusal::Refusal;
use crate::state::identity::RequestId;

/// One call, from its arrival at a door until its answer.
#[derive(Debug, Clone)]
pub struct Call {
    /// Names the client; never blank.
    pub client_id: String,
    /// Its library.
    pub language: Language,
    /// `x-mq-client-version`, empty when absent.
    pub client_version: String,
    /// The client's address as its door saw it.
    pub peer_host: String,
    /// Made by the door, kept over its retries.
    pub request_id: RequestId,
    /// When the client gives up, by its own deadline.
    pub client_deadline: Option<Instant>,
    /// When this process answers at the latest.
    pub deadline: Instant,
}

/// The address of the connection a call came on; the listener puts it into the call's extensions.
#[derive(Debug, Clone, Copy)]
pub struct PeerIp(pub IpAddr);

/// When the connection ended on which a call came, if it has; the listener puts it into the call's extensions. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct ConnectionEnd(Arc<OnceLock<Instant>>);

impl ConnectionEnd {
    /// The connection has ended now, unless it had before.
    pub fn now(&self) {
        self.0.get_or_init(Instant::now);
    }

    /// Whether the connection was alive at this time; true for a time that has not come.
    pub fn is_after(&self, time: Instant) -> bool {
        self.0.get().is_none_or(|end| *end > time)
    }
}

impl Call {
    /// Reads the metadata of a call. A missing client id is refused (grpc.md B.0).
    pub fn read<T>(request: &tonic::Request<T>, request_id: RequestId) -> Result<Self, Refusal> {
        let now = Instant::now();
        let metadata = request.metadata();
        let client_deadline = grpc_timeout(metadata).map(|timeout| now + timeout);
        let mut deadline = now + limits::HOLD;
        if let Some(theirs) = client_deadline {
            deadline = deadline.min(before(theirs, now));
        }
        let client_id = text(metadata, headers::CLIENT_ID).trim();
        if client_id.is_empty() {
            return Err(Refusal::new(
                Code::ClientIdRequired,
                "metadata x-mq-client-id is required",
            ));
        }
        if client_id.len() > limits::SYSTEM_PROPERTY_BYTES_MAX {
            let length = client_id.len();
            let limit = limits::SYSTEM_PROPERTY_BYTES_MAX;
            return Err(Refusal::new(
                Code::BadRequest,
                format!("metadata x-mq-client-id has {length} bytes, at most {limit} are allowed"),
            ));
        }
        let peer = request.extensions().get::<PeerIp>();
        Ok(Self {
            client_id: client_id.to_owned(),
            language: language(metadata),
            client_version: text(metadata, headers::CLIENT_VERSION).to_owned(),
            peer_host: peer.map(|peer| peer.0.to_string()).unwrap_or_default(),
            request_id,
            client_deadline,
            deadline,
        })
    }

    /// Milliseconds until the deadline.
    pub fn remaining(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }
}

/// The client's library by a call's metadata alone.
pub fn language(metadata: &MetadataMap) -> Language {
    Language::of(text(metadata, headers::LANGUAGE))
}

/// The first value of a header, empty when absent: Go appends the whole set again at each retry.
pub fn text<'a>(metadata: &'a MetadataMap, name: &str) -> &'a str {
    metadata
        .get(name)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
}

/// When to answer a client that gives up at `theirs`: a margin before, but never less than a third of the time.
pub fn before(theirs: Instant, now: Instant) -> Instant {
    let whole = theirs.saturating_duration_since(now);
    now + whole.saturating_sub(limits::DEADLINE_MARGIN).max(whole / 3)
}

/// `grpc-timeout`: at most 8 digits and a unit.
fn grpc_timeout(metadata: &MetadataMap) -> Option<Duration> {
    let value = metadata.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = value.split_at_checked(value.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(number * 3600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(pairs: &[(&'static str, &'static str)]) -> tonic::Request<()> {
        let mut request = tonic::Request::new(());
        for (name, value) in pairs {
            request
                .metadata_mut()
                .append(*name, tonic::metadata::MetadataValue::from_static(value));
        }
        request
    }

    #[tokio::test]
    async fn client_id_is_required() {
        for pairs in [&[][..], &[("x-mq-client-id", "  ")][..]] {
            let refusal = Call::read(&request(pairs), RequestId([0; 16])).expect_err("no client id");
            assert_eq!(refusal.code, Code::ClientIdRequired);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn first_values_count_and_deadlines_keep_a_margin() {
        let request = request(&[
            ("x-mq-client-id", "a"),
            ("x-mq-client-id", "b"),
            ("x-mq-language", "HTTP"),
            ("grpc-timeout", "1000m"),
        ]);
        let call = Call::read(&request, RequestId([0; 16])).expect("a call");
        assert_eq!((call.client_id.as_str(), call.language), ("a", Language::Node));
        assert_eq!(call.remaining(), Duration::from_millis(700));
    }
}
