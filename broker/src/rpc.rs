//! The public protocol, one file a verb: its checks at the door, its work at the leader, its reply.

pub mod ack;
pub mod assignment;
pub mod change;
pub mod confirm;
pub mod heartbeat;
pub mod receive;
pub mod release;
pub mod route;
mod rules;
pub mod send;
pub mod service;
pub mod telemetry;
pub mod termination;

use std::sync::Arc;

use tokio::sync::watch;

use crate::call::Call;
use crate::door::Door;
use crate::leader::Leader;
use crate::refusal::Refusal;
use crate::routes::Routes;

/// What the verbs need at a door.
#[derive(Clone)]
pub struct Messaging {
    /// The way to the leader.
    pub door: Arc<Door>,
    /// Routes of the cluster.
    pub routes: Arc<Routes>,
    /// Unix milliseconds.
    pub wall_clock: Arc<dyn Fn() -> u64 + Send + Sync>,
    /// Turns true when the process stops: polls and Telemetry end.
    pub stopping: watch::Receiver<bool>,
}

impl Messaging {
    /// The replica behind this door.
    pub fn leader(&self) -> &Arc<Leader> {
        &self.door.leader
    }

    /// Reads who calls.
    pub fn read<T>(&self, request: &tonic::Request<T>) -> Result<Call, Refusal> {
        Call::read(request, self.leader().request_id())
    }
}
