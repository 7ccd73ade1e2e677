//! Turns the commands of many callers into few entries.
//!
//! ```text
//! propose ──(bytes admitted)──▶ queue ──▶ one task: while at most N entries are in flight, everything queued
//!                                           becomes one entry ──▶ openraft ──▶ outcomes ──▶ callers
//! ```
//!
//! No delay is added: an idle proposer proposes at once. The bytes of a command count from its admission until its
//! entry is applied or given up.

use std::sync::Arc;

use bytes::Bytes;
use futures::stream::{FuturesUnordered, StreamExt};
use openraft::Raft;
use openraft::errors::ClientWriteError;
use openraft::impls::OneshotResponder;
use openraft::raft::ClientWriteResult;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use crate::body;
use crate::errors::ProposeError;
use crate::limits;
use crate::marks::mark;
use crate::raft::adapter::Adapter;
use crate::raft::config::{Batch, Config, Outcome, entry_id};
use crate::types::{EntryId, ReplicaId};

/// What became of a command: the entry it went into, and the machine's outcome.
pub type Delivered = Result<(EntryId, Outcome), ProposeError>;

/// One caller's command on its way.
struct Queued {
    command: Bytes,
    room: OwnedSemaphorePermit,
    reply: oneshot::Sender<Delivered>,
}

/// The callers' end.
#[derive(Clone)]
pub struct Proposer {
    queue: mpsc::Sender<Queued>,
    room: Arc<Semaphore>,
    room_bytes: usize,
}

impl Proposer {
    /// A proposer and the task that serves it.
    pub fn new(raft: Raft<Config, Adapter>, in_flight_bytes: usize) -> (Proposer, impl Future<Output = ()> + Send) {
        let (queue, received) = mpsc::channel(limits::PROPOSER_QUEUE);
        let room_bytes = in_flight_bytes.min(Semaphore::MAX_PERMITS).min(u32::MAX as usize);
        let proposer = Proposer {
            queue,
            room: Arc::new(Semaphore::new(room_bytes)),
            room_bytes,
        };
        (proposer, run(raft, received))
    }

    /// Proposes one command and waits for what became of it.
    pub async fn propose(&self, command: Bytes) -> Delivered {
        if command.len() > limits::COMMAND_BYTES_MAX {
            return Err(ProposeError::TooLarge {
                length: command.len(),
                bound: limits::COMMAND_BYTES_MAX,
            });
        }
        // A command larger than the whole room takes all of it.
        let bytes = (command.len() + 64).min(self.room_bytes);
        let permits = u32::try_from(bytes).unwrap_or(u32::MAX);
        let room = Arc::clone(&self.room).acquire_many_owned(permits);
        let room = match tokio::time::timeout(limits::ADMISSION_WAIT, room).await {
            Ok(Ok(room)) => room,
            Ok(Err(_)) => return Err(ProposeError::Stopped("the proposer has ended".to_owned())),
            Err(_) => return Err(ProposeError::Busy),
        };
        let (reply, outcome) = oneshot::channel();
        match self.queue.try_send(Queued { command, room, reply }) {
            Ok(()) => {}
            Err(mpsc::error::TrySendError::Full(_)) => return Err(ProposeError::Busy),
            Err(mpsc::error::TrySendError::Closed(_)) => {
                return Err(ProposeError::Stopped("the proposer has ended".to_owned()));
            }
        }
        let delivered = match tokio::time::timeout(limits::PROPOSAL_WAIT, outcome).await {
            Ok(Ok(delivered)) => delivered,
            Ok(Err(_)) => Err(ProposeError::Unknown(
                "the replica stopped before the outcome was known".to_owned(),
            )),
            Err(_) => Err(ProposeError::Unknown(format!(
                "no outcome within {:?}",
                limits::PROPOSAL_WAIT
            ))),
        };
        if matches!(delivered, Err(ProposeError::Unknown(_))) {
            mark("outcome_unknown");
        }
        delivered
    }
}

/// The callers of one entry.
struct InFlight {
    replies: Vec<oneshot::Sender<Delivered>>,
    room: Vec<OwnedSemaphorePermit>,
}

async fn run(raft: Raft<Config, Adapter>, mut queue: mpsc::Receiver<Queued>) {
    let mut in_flight = FuturesUnordered::new();
    // The one command that did not fit into the entry before.
    let mut held: Option<Queued> = None;
    loop {
        let room = in_flight.len() < limits::ENTRIES_IN_FLIGHT;
        let first = tokio::select! {
            biased;
            Some(()) = in_flight.next() => continue,
            first = next(&mut held, &mut queue), if room => first,
        };
        let Some(first) = first else { break };
        let (batch, callers) = gather(first, &mut held, &mut queue);
        let (responder, outcome) = OneshotResponder::<Config, ClientWriteResult<Config>>::new_pair();
        if let Err(fatal) = raft.client_write_ff(batch, Some(responder)).await {
            let reason = fatal.to_string();
            callers.answer_all(&ProposeError::Stopped(reason));
            continue;
        }
        in_flight.push(async move {
            match outcome.await {
                Ok(result) => callers.answer(result),
                Err(_) => callers.answer_all(&ProposeError::Unknown("the entry's outcome was dropped".to_owned())),
            }
        });
    }
    while in_flight.next().await.is_some() {}
}

async fn next(held: &mut Option<Queued>, queue: &mut mpsc::Receiver<Queued>) -> Option<Queued> {
    match held.take() {
        Some(queued) => Some(queued),
        None => queue.recv().await,
    }
}

/// Everything queued, up to a full entry.
fn gather(first: Queued, held: &mut Option<Queued>, queue: &mut mpsc::Receiver<Queued>) -> (Batch, InFlight) {
    let mut commands = Vec::new();
    let mut callers = InFlight {
        replies: Vec::new(),
        room: Vec::new(),
    };
    let mut bytes = 0;
    let mut next = Some(first);
    while let Some(queued) = next.take() {
        if !commands.is_empty() && bytes + queued.command.len() > limits::ENTRY_BYTES_SOFT {
            *held = Some(queued);
            break;
        }
        bytes += queued.command.len();
        commands.push(queued.command);
        callers.replies.push(queued.reply);
        callers.room.push(queued.room);
        if commands.len() < limits::COMMANDS_MAX {
            next = queue.try_recv().ok();
        }
    }
    let body = body::encode(&commands);
    let crc = crc32c::crc32c(&body);
    (Batch { body, crc }, callers)
}

impl InFlight {
    fn answer(self, result: ClientWriteResult<Config>) {
        let response = match result {
            Ok(response) => response,
            Err(error) => return self.answer_all(&refusal(&error)),
        };
        let id = entry_id(&response.log_id);
        drop(self.room);
        for (reply, outcome) in self.replies.into_iter().zip(response.data.0) {
            // A caller that went away does not want to know.
            let _ = reply.send(Ok((id, outcome)));
        }
    }

    fn answer_all(self, error: &ProposeError) {
        for reply in self.replies {
            let _ = reply.send(Err(error.clone()));
        }
    }
}

fn refusal(error: &ClientWriteError<Config>) -> ProposeError {
    match error {
        ClientWriteError::ForwardToLeader(forward) => ProposeError::NotLeader {
            leader: forward.leader_id.map(ReplicaId),
        },
        other => ProposeError::Unknown(other.to_string()),
    }
}
