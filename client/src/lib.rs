//! The Rust SDK: a producer and a simple consumer over the public protocol, and the administrative calls.
//!
//! ```text
//!   Producer, SimpleConsumer ─▶ client: route ─▶ calls: attempts ─▶ door: addresses ─▶ Net
//!                                     └─ session: Telemetry and heartbeats at each address
//! ```
//! Network, seed and wall clock are parameters, so the same code runs in the simulation. Every call has a deadline,
//! everything that grows has a bound ([`limits`]).

mod admin;
mod calls;
mod client;
mod consumer;
mod door;
mod error;
mod identity;
pub mod limits;
mod message;
mod options;
mod producer;
mod route;
mod session;

pub use admin::Admin;
pub use consumer::{Received, SimpleConsumer};
pub use error::Error;
/// The messages of the protocol: requests of [`Admin`], codes of errors.
pub use ledgermq_proto as proto;
pub use ledgermq_proto::rocketmq::Code;
pub use message::{Message, Receipt};
pub use options::{Options, WallClock};
pub use producer::Producer;
