//! The name server: a soft-state registry of routes. No disk, no consensus; instances do not talk to each other.
//!
//! ```text
//!   broker ── Register(stream Report) ──▶ registration ─▶ table ─┐
//!   broker ◀── stream Routes ◀── watch of the newest routes ◀────┤
//!   client ── ListRoutes, QueryRoute ◀───────────────────────────┘
//! ```
//! What it knows is what the brokers' streams told it; a name server that starts empty knows everything a beat later.

pub mod limits;
pub mod planted;
pub mod table;

mod marks;
mod query_route;
mod registration;
mod registry;
mod server;

pub use planted::Planted;
pub use server::{Options, ServeError, Serving, serve};
