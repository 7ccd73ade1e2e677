//! The replicated commitlog of one broker group.
//!
//! ```text
//! lib ─▶ fuzzing ─▶ inspect, open, handle, bootstrap, membership ─▶ introduction, takeover, retention ─▶ peer, storage ─▶ raft ─▶ spool ─▶ log
//!   ─▶ disk; all of them: types, limits, release, options, status, errors, machine, body, identity, draws, planted, marks
//! ```
//!
//! [`open`] answers a [`Handle`], which callers use, and a [`Driver`], whose writer they run. The Raft log is the
//! commitlog: what is proposed is kept as it was sent, and read back by index and slot. Only this crate knows openraft,
//! and it knows no topic.

pub mod body;
mod bootstrap;
pub mod disk;
mod draws;
pub mod errors;
#[doc(hidden)]
pub mod fuzzing;
mod handle;
mod identity;
pub mod inspect;
mod introduction;
pub mod limits;
pub mod log;
pub mod machine;
mod marks;
mod membership;
mod open;
pub mod options;
mod peer;
pub mod planted;
mod raft;
mod release;
mod retention;
mod spool;
pub mod status;
mod storage;
mod takeover;
#[cfg(test)]
mod tests;
pub mod types;

pub use errors::{BootstrapError, MembershipError, OpenError, ProposeError, ReadError, TransferError};
pub use handle::{Handle, MembershipHold, Proposed};
pub use machine::{Applied, Export, ExportPart, Machine, MachineError};
pub use open::{Driver, open};
pub use options::{Connect, Durability, Options, OptionsError, PeerStream, Seams, Timings};
pub use peer::service::PeerService;
pub use planted::Planted;
pub use raft::memberships::in_force as membership_in_force;
pub use raft::runtime::seeded;
pub use release::Release;
pub use status::{
    LogSpan, Member, MemberStatus, MembershipStatus, Mismatch, RefusedCall, Role, State, Status, Trouble,
};
pub use types::{EntryId, LogIndex, ReplicaId, Term};
