//! Names rare branches of the name server, so that the simulation can tell which of them a run reached.
//!
//! A mark is a trace event of the target `ledgermq::mark`, which no log shows and the simulation counts. Each name is
//! listed in `sim/src/marks.rs` with what it means. For rare branches only: it costs one disabled callsite.

/// A rare branch was taken.
pub(crate) fn mark(name: &'static str) {
    tracing::trace!(target: "ledgermq::mark", name);
}
