//! The one product binary `ledgermq`: servers, administration, sending and receiving, benchmarks.
//!
//! One file a command under `commands/`: its flags, its call, its output. Results go to stdout, logs and errors to
//! stderr, and the exit code says what kind of error it was (`failure.rs`, docs/operations.md).

mod admin;
mod bench;
mod broker_groups;
mod clients;
mod clock;
mod commands;
mod dev;
mod doctor;
mod duration;
mod endpoints;
mod failure;
mod limits;
mod logging;
mod output;
mod signals;

use clap::Parser;
use std::process::ExitCode;

/// What the user typed.
#[derive(Parser)]
#[command(
    name = "ledgermq",
    version,
    about = "A Raft-replicated message broker that speaks the RocketMQ protocol"
)]
#[command(after_help = failure::EXIT_CODES_HELP)]
struct Arguments {
    /// How log lines on stderr look. LEDGERMQ_LOG chooses what is logged, e.g. "warn,ledgermq=debug".
    #[arg(long, global = true, value_enum, default_value_t = logging::LogFormat::Text)]
    log_format: logging::LogFormat,
    #[command(subcommand)]
    command: commands::Command,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // A broker's configuration says what it logs, so it starts logging by itself.
    match &arguments.command {
        commands::Command::Broker(_) => {}
        command if command.is_server() => logging::start(arguments.log_format, logging::SERVER_DEFAULT),
        _ => logging::start(arguments.log_format, logging::COMMAND_DEFAULT),
    }
    match commands::run(arguments.command, arguments.log_format) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // stdout's reader went away: nothing to tell it any more.
            if !failure.is_silent() {
                eprintln!("ledgermq: {failure}");
            }
            failure.exit_code()
        }
    }
}
