//! The levels of the state's formats: which there are, and what each changes.
//!
//! ```text
//! 1  the first release
//! 2  the command RaiseFormatLevel; what was sent and asked recently takes a third less (see recent.rs)
//! 3  the command GiveBack; what was handed to the same attempt again is not given back
//! ```
//!
//! The level is part of the state. Apply behaves and writes as the level at hand says, whatever the release could do
//! beyond it; so replicas of different releases stay equal. A command raises it once all replicas support more, and it
//! never falls. What an older level wrote is read for ever. The levels and the rule for new ones are in docs/formats.md.

/// The highest level that this release supports.
pub const FORMAT_LEVEL: u32 = 3;
/// From here on, pairs of the family `recent` are written packed.
pub(crate) const PACKED_RECENT: u32 = 2;
/// From here on there is the command GiveBack, and a span knows that it was handed to the same attempt again.
pub const GIVE_BACK: u32 = 3;
/// The version of this release, as it is told to people and other replicas.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

const _: () = assert!(PACKED_RECENT <= FORMAT_LEVEL && GIVE_BACK <= FORMAT_LEVEL);
