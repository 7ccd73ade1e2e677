//! Log lines: always on stderr, as text for people or JSON for machines. `LEDGERMQ_LOG` chooses what is logged.

use clap::ValueEnum;
use std::io::IsTerminal;
use tracing_subscriber::EnvFilter;

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// One readable line an event, with colours on a terminal.
    Text,
    /// One JSON object an event.
    Json,
}

impl LogFormat {
    /// The word on the command line.
    pub fn word(self) -> &'static str {
        match self {
            LogFormat::Text => "text",
            LogFormat::Json => "json",
        }
    }
}

/// What servers log when nobody says otherwise: their own events at info, those of libraries only when they warn.
pub const SERVER_DEFAULT: &str = "info";
/// What the other commands log.
pub const COMMAND_DEFAULT: &str = "warn";

/// Starts logging for the whole process. `wanted` is a level of our own code (`info`) or a filter of tracing
/// (`warn,ledgermq_broker=debug`); `LEDGERMQ_LOG` wins over it.
pub fn start(format: LogFormat, wanted: &str) {
    let wanted = std::env::var("LEDGERMQ_LOG").unwrap_or_else(|_| wanted.to_owned());
    let filter = EnvFilter::try_new(filter_text(&wanted)).unwrap_or_else(|error| {
        eprintln!("ledgermq: the log filter {wanted:?} is ignored: {error}");
        EnvFilter::new(filter_text(SERVER_DEFAULT))
    });
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    match format {
        LogFormat::Text => lines.with_ansi(std::io::stderr().is_terminal()).init(),
        LogFormat::Json => lines.json().flatten_event(true).init(),
    }
}

/// A bare level means our own crates; libraries then speak only to warn, and the consensus core only of errors: it warns
/// ten times a second of each replica that is away, which our own crates tell once.
fn filter_text(wanted: &str) -> String {
    match wanted {
        "error" => "error".to_owned(),
        "warn" | "info" | "debug" | "trace" => format!("warn,openraft=error,ledgermq={wanted}"),
        filter => filter.to_owned(),
    }
}
