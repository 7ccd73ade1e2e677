//! `ledgermq-sim`: runs seeds of the simulation. Exit codes: 0 pass, 1 violation, 2 not reproducible, 3 usage or I/O.
//!
//! One file a command under `commands/`: its flags, its call, its output.

mod commands;
mod stopped_clock;

use std::{panic, process::ExitCode};

use clap::Parser;
use ledgermq_sim::panics;

#[derive(Parser)]
#[command(
    name = "ledgermq-sim",
    version,
    about = "The whole LedgerMQ cluster under deterministic simulation",
    after_help = "Exit codes: 0 pass, 1 violation, 2 not reproducible, 3 usage or I/O."
)]
struct Arguments {
    #[command(subcommand)]
    command: commands::Command,
}

/// Where nobody reads what is printed any more, as behind `| head`, the command ends without a word, and without a pass.
fn end_with_the_reader() {
    let before = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        if panics::text(info.payload()).starts_with("failed printing to stdout") {
            std::process::exit(i32::from(commands::USAGE));
        }
        before(info);
    }));
}

fn main() -> ExitCode {
    end_with_the_reader();
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(refused) => {
            // Help and version are no errors; clap's own exit code for errors would say "not reproducible".
            let code = if refused.use_stderr() {
                commands::USAGE
            } else {
                commands::PASS
            };
            let _ = refused.print();
            return ExitCode::from(code);
        }
    };
    if arguments.command.simulates() {
        stopped_clock::stop_on_this_thread();
    }
    match commands::run(arguments.command) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(commands::USAGE)
        }
    }
}
