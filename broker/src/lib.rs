//! One LedgerMQ broker process: the verbs of the public protocol over the replicated log.

mod admin;
mod blocking;
mod broker;
mod call;
mod clients;
pub mod config;
mod counters;
mod delivered;
mod door;
mod driver;
mod forwarded;
#[doc(hidden)]
pub mod fuzzing;
mod lanes;
mod language;
mod leader;
pub mod limits;
pub mod log_tools;
mod marks;
mod metrics;
mod name_servers;
pub mod planted;
mod probe;
pub mod process;
mod records;
mod refusal;
mod registration;
mod retention;
mod room;
mod routes;
mod rpc;
mod server;
pub mod state;
mod timers;
mod tuning;
mod upgrade;
mod validate;

pub use broker::{Addresses, Broker, KvSource, OpenBrokerError, Seams, Spawn, open};
pub use driver::{BrokerError, Driver};
pub use planted::Planted;
pub use state::kv;
pub use tuning::Tuning;
