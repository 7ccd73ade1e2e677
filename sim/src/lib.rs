//! The whole LedgerMQ cluster under deterministic simulation: production code of the broker, the name server and the
//! client on turmoil's network and clock, on simulated disks, with every draw from one seed.
//!
//! ```text
//!   seed ─▶ streams of draws ─▶ scene (hosts) ─▶ step by step: faults · hosts · network ─▶ trace, checks, verdict
//! ```
//! docs/simulation.md tells how to run it and what it checks.

#![allow(
    unexpected_cfgs,
    reason = "tokio's flag comes from .cargo/config.toml, not from a build script"
)]

#[cfg(not(tokio_unstable))]
compile_error!(
    "the simulation needs RUSTFLAGS='--cfg tokio_unstable' (set in .cargo/config.toml; a RUSTFLAGS variable overrides it)"
);

pub mod board;
pub mod chaos;
pub mod check;
pub mod checkers;
pub mod children;
pub mod clients;
pub mod clock;
pub mod cluster;
pub mod commit;
pub mod counting;
pub mod faults;
pub mod files;
pub mod fleet;
pub mod history;
pub mod judge;
pub mod layout;
pub mod ledger;
pub mod limits;
pub mod log;
pub mod marks;
pub mod meta;
pub mod net;
pub mod panics;
pub mod plant;
pub mod planting;
pub mod replay;
pub mod report;
pub mod run;
pub mod seed;
pub mod shrink;
pub mod simulation;
pub mod soak;
pub mod trace;
pub mod witness;
pub mod world;
