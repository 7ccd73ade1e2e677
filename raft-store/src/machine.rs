//! What the log drives: a deterministic machine that is handed committed entries in order.

use bytes::Bytes;

use crate::types::EntryId;

/// How far a machine has come, and the membership in force there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// The last entry applied.
    pub id: EntryId,
    /// The last membership applied, as handed to [`Machine::apply_membership`]: opaque, its own id inside.
    /// Empty while no membership was applied.
    pub membership: Bytes,
}

/// A machine could not go on. The replica stops: an entry is never skipped.
#[derive(Debug, thiserror::Error)]
#[error("the state machine stopped: {reason}")]
pub struct MachineError {
    /// What was wrong, for the operator.
    pub reason: String,
}

impl MachineError {
    /// An error with this reason.
    pub fn new(reason: impl Into<String>) -> MachineError {
        MachineError { reason: reason.into() }
    }
}

/// The state that the log builds. Calls come one at a time, in log order, each entry once; after a restart, again
/// from the entry that follows [`Machine::applied`]. An entry arrives only once it is durable on this replica, so
/// whatever the machine makes durable never passes the local log.
pub trait Machine: Send + 'static {
    /// What one command answers to its proposer.
    type Outcome: Send + Sync + 'static;

    /// How far the state at hand has come; `None` for an empty one.
    fn applied(&self) -> Option<Applied>;

    /// Applies one entry and answers one outcome a command. `commands[i]` is (slot, bytes): the slot is the byte
    /// offset of the command's bytes inside the entry's body (see [`crate::Handle::read`]).
    fn apply(&mut self, id: EntryId, commands: &[(u32, Bytes)]) -> Result<Vec<Self::Outcome>, MachineError>;

    /// An entry without commands (a new leader's first).
    fn apply_blank(&mut self, id: EntryId) -> Result<(), MachineError>;

    /// A change of membership; the machine keeps `membership` and gives it back in [`Machine::applied`].
    fn apply_membership(&mut self, id: EntryId, membership: Bytes) -> Result<(), MachineError>;

    /// A consistent export of the state as of [`Machine::applied`].
    fn export(&mut self) -> Result<Bytes, MachineError>;

    /// Replaces the whole state by an export, durably.
    fn install(&mut self, applied: Applied, export: Bytes) -> Result<(), MachineError>;
}
