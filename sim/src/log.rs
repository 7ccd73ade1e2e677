//! The product's logs on stderr, stamped with simulated time and the simulated host (turmoil's `node` span).

use std::fmt;

use tracing_subscriber::{
    EnvFilter,
    fmt::{format::Writer, time::FormatTime},
};

struct SimTime;

impl FormatTime for SimTime {
    fn format_time(&self, writer: &mut Writer<'_>) -> fmt::Result {
        match turmoil::sim_elapsed() {
            Some(now) => write!(writer, "{:>9.4}", now.as_secs_f64()),
            None => write!(writer, "        -"),
        }
    }
}

/// Prints logs of `level` and above to stderr; `level` may be a filter as of tracing-subscriber's `EnvFilter`.
pub fn to_stderr(level: &str) -> anyhow::Result<()> {
    let filter = if level.contains(['=', ',']) {
        EnvFilter::try_new(level)?
    } else {
        EnvFilter::try_new(format!(
            "warn,ledgermq_raft_store={level},ledgermq_broker={level},ledgermq_client={level},ledgermq_namesrv={level},turmoil=info"
        ))?
    };
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_timer(SimTime)
        .with_writer(std::io::stderr)
        .try_init()
        .map_err(|error| anyhow::anyhow!("cannot set up logging: {error}"))
}
