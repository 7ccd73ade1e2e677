//! What is wrong with a cluster, in words.
//!
//! ```text
//!   gather: asks every replica and name server it can find ──▶ Survey ──▶ judge: pure ──▶ findings, worst first
//! ```
//! Everything that a finding says is in the survey: so a finding is a pure function of it, and tested as one.

pub mod finding;
pub mod gather;
pub mod judge;
pub mod survey;
