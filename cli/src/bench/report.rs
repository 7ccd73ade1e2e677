//! What a benchmark prints: one JSON document on one line. Its keys are a promise to scripts.

use hdrhistogram::Histogram;
use serde::Serialize;

/// The result of `bench produce`.
#[derive(Serialize)]
pub struct ProduceReport {
    /// "unary": one call a message.
    pub mode: &'static str,
    /// Where the messages went.
    pub topic: String,
    /// Messages that waited for their acknowledgement at the same time.
    pub in_flight: usize,
    /// Connections.
    pub channels: usize,
    /// Bytes of a body.
    pub size: usize,
    /// The measured time, without the warm-up.
    pub seconds: f64,
    /// Messages acknowledged in it.
    pub messages: u64,
    /// Messages a second.
    pub messages_per_second: f64,
    /// Calls that failed in it.
    pub errors: u64,
    /// The first error, if any.
    pub first_error: Option<String>,
    /// From call to acknowledgement, in microseconds.
    pub latency_us: Latencies,
    /// Processor seconds for a million messages.
    pub cpu_seconds_per_million: CpuSeconds,
}

/// Percentiles, in microseconds.
#[derive(Serialize)]
pub struct Latencies {
    p50: u64,
    p90: u64,
    p99: u64,
    #[serde(rename = "p99.9")]
    p99_9: u64,
    max: u64,
}

impl Latencies {
    /// The percentiles of a histogram of microseconds.
    pub fn of(histogram: &Histogram<u64>) -> Latencies {
        Latencies {
            p50: histogram.value_at_quantile(0.50),
            p90: histogram.value_at_quantile(0.90),
            p99: histogram.value_at_quantile(0.99),
            p99_9: histogram.value_at_quantile(0.999),
            max: histogram.max(),
        }
    }
}

/// Processor time on both sides.
#[derive(Serialize)]
pub struct CpuSeconds {
    /// This process.
    pub client: f64,
    /// The server processes together; null when none were named.
    pub servers: Option<f64>,
    /// Which processes that is.
    pub server_pids: Vec<u32>,
    /// How they were found: "--pids", "--dev-lines", or "not given".
    pub server_pids_from: &'static str,
}
