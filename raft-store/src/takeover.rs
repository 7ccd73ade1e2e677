//! Agreed takeover: survivors that all see the leader gone elect another at once, without waiting out its lease.

pub mod agreement;
pub mod alarm;
pub mod stall;
