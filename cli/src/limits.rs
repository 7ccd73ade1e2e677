//! Every bound of the command line, in one place.

use std::time::Duration;

/// The longest duration on the command line: a year.
pub const DURATION_MAX: Duration = Duration::from_secs(365 * 24 * 3600);
/// Addresses in one `--endpoints`.
pub const ENDPOINTS_MAX: usize = 64;
/// How long `dev` waits until the cluster serves.
pub const DEV_READY_DEADLINE: Duration = Duration::from_secs(60);
/// How long `dev` waits for its replicas to stop: a broker stops within 30 s.
pub const DEV_STOP_DEADLINE: Duration = Duration::from_secs(35);
/// Replicas of one broker group in `dev`.
pub const DEV_REPLICAS_MAX: u64 = 9;
/// Broker groups in `dev`.
pub const DEV_BROKER_GROUPS_MAX: u64 = 26;
/// Between two times that `replica` asks for a change that is not possible yet.
pub const REPLICA_RETRY_PAUSE: Duration = Duration::from_millis(300);
/// How long `cluster --digest` waits for the replicas of one broker group.
pub const DIGEST_WAIT: Duration = Duration::from_secs(60);
/// The pause before a replica is asked for its digest again.
pub const DIGEST_PAUSE: Duration = Duration::from_millis(100);
/// Lines that `send --lines` reads ahead.
pub const LINES_AHEAD_MAX: usize = 8;
/// Messages that `send` keeps in flight.
pub const SEND_IN_FLIGHT_MAX: usize = 4096;
/// Messages that `bench produce` keeps in flight.
pub const BENCH_IN_FLIGHT_MAX: usize = 65_536;
/// The longest latency that the benchmark tells apart: one minute, in microseconds.
pub const BENCH_LATENCY_US_MAX: u64 = 60_000_000;
/// One line of `send --lines`, which is one body (4 MiB is the broker's default limit; the broker has the last word).
pub const LINE_BYTES_MAX: usize = 64 << 20;
/// Messages that `receive` asks for at once.
pub const RECEIVE_MESSAGES: u32 = 32;
/// How long a message that `receive` got is hidden from others: it is acknowledged at once.
pub const RECEIVE_INVISIBLE: Duration = Duration::from_secs(30);
/// Connections that `bench produce` opens to each server.
pub const BENCH_CHANNELS: usize = 4;
/// Acknowledgements that `receive` keeps in flight: those of one batch.
pub const ACKS_IN_FLIGHT: usize = 32;
/// The same at most.
pub const BENCH_CHANNELS_MAX: usize = 64;
/// A body of `bench produce`: the broker's limit.
pub const BENCH_BODY_BYTES_MAX: usize = 4 << 20;
/// `log verify` tells how far it is after so many bytes.
pub const LOG_PROGRESS_BYTES: u64 = 1 << 30;
/// `doctor` waits so long for one answer,
pub const DOCTOR_ANSWER_WAIT: Duration = Duration::from_millis(1500);
/// and so long for everything: who is found by another's answer gets its time as well.
pub const DOCTOR_WAIT: Duration = Duration::from_millis(3000);
/// Addresses that `doctor` asks.
pub const DOCTOR_ADDRESSES_MAX: usize = 1024;
/// Routes that `doctor` takes from a name server, in bytes.
pub const DOCTOR_ROUTES_BYTES_MAX: usize = 32 << 20;
/// Damaged places of a log that `doctor` lists; `log verify` lists more.
pub const DOCTOR_DAMAGES_MAX: usize = 3;

/// Reads a number of the command line from 1 to `MAX`; the error is a sentence for the user.
pub fn bounded<const MAX: usize>(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(number) if (1..=MAX).contains(&number) => Ok(number),
        _ => Err(format!("expected 1 to {MAX}")),
    }
}
