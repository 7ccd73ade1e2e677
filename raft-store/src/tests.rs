//! Tests of what a replica keeps, as a whole: log, incoming snapshot and machine together, over random histories.
//!
//! ```text
//! world ─▶ replica (production code, opened as production opens it) ─▶ faulty disk
//!   └────▶ truth: the rest of the broker group, as a model;  held: what this replica must have;  counting: its machine
//! cases: what histories have found;  seeds: which histories are run, and how one that fails is told;  table: the planted bugs
//! transfers: a snapshot whose sender is deposed
//! ```

mod cases;
mod counting;
pub mod held;
mod replica;
pub mod seeds;
mod table;
mod transfers;
mod truth;
mod world;
