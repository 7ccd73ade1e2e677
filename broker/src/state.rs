//! The deterministic state of one broker group: what the log has built.
//!
//! ```text
//!   command bytes ── command/format ──► machine ── one batch per entry ──► kv (RocksDB or memory)
//!                                         │ writes
//!                                       hot state (memory, behind one lock)
//!                                         │ reads
//!   doors, timers, metrics ◄──────────── view ── plan
//! ```
//!
//! Invariants: apply reads no clock, no randomness and iterates no hash map; the time is the largest stamp seen; a
//! batch enters the store together with the entry it came from; bodies stay in the log, the queue index only points
//! at them; an unknown command stops the replica and is never skipped. Nothing in here is async.

mod apply;
mod changes;
pub mod codec;
pub mod command;
mod digests;
pub mod effects;
mod export;
pub mod format;
pub mod handle;
mod hot;
pub mod identity;
pub mod kv;
pub mod level;
pub mod limits;
pub mod machine;
mod meta;
pub mod outcome;
pub mod plan;
mod planner;
mod progress;
pub mod queue;
mod recent;
pub mod record;
mod reference;
mod retained;
mod run;
mod span;
mod start;
pub mod topic;
pub mod view;

pub use meta::how_far;

#[cfg(test)]
mod tests;
