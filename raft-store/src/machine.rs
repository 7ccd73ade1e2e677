//! What the log drives: a deterministic machine that is handed committed entries in order.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::watch;

use crate::types::{EntryId, LogIndex};

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

/// A consistent copy of a machine's state at one moment. It can be read from any place, again and again and by several
/// readers, while the machine goes on; so a transfer that broke off goes on where it was.
pub trait Export: Send + Sync + 'static {
    /// The last entry whose effect is in the copy.
    fn id(&self) -> EntryId;

    /// The part that begins at `from`, which is empty for the first one and [`ExportPart::next`] of the part before for
    /// the others. About `bytes_max` bytes, at least one pair. The same place and bound give the same part. May block on
    /// the disk.
    fn read(&self, from: &[u8], bytes_max: usize) -> Result<ExportPart, MachineError>;
}

/// A piece of an [`Export`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExportPart {
    /// Opaque; handed whole to [`Machine::install_part`].
    pub bytes: Bytes,
    /// Where the next part begins, at most 4 KiB; `None` at the end.
    pub next: Option<Bytes>,
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

    /// A copy of the state as of [`Machine::applied`].
    fn view(&mut self) -> Result<Arc<dyn Export>, MachineError>;

    /// Begins to replace the whole state. From here until [`Machine::install_finish`] the state is not whole: after a
    /// crash in between, [`Machine::is_whole`] says so, and the installation is done again from its beginning.
    fn install_begin(&mut self) -> Result<(), MachineError>;

    /// Takes the next part of an export.
    fn install_part(&mut self, part: Bytes) -> Result<(), MachineError>;

    /// Ends an installation, durably. [`Machine::applied`] is `label` from here on. The export may be of a later entry
    /// than that: entries up to it are then applied as usual and change nothing but [`Machine::applied`].
    fn install_finish(&mut self, label: Applied) -> Result<(), MachineError>;

    /// Whether the state is whole: `false` only after a crash inside an installation.
    fn is_whole(&self) -> bool;

    /// The newest entry that the *durable* state has let go of: no entry up to it is read again, also after a crash. 0
    /// while there is none. The log may forget what is let go of.
    fn released(&self) -> watch::Receiver<LogIndex>;

    /// The level of the state at hand, from 1, and its changes; it never falls. A replica whose
    /// [`crate::Release::level`] is lower does not become a member.
    fn level(&self) -> watch::Receiver<u32>;
}
