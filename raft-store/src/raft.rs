//! The consensus core: openraft's type configuration, its storage over the segment log, the adapter that drives the
//! machine, the proposer, and the role watch. Only this folder, `peer` and `takeover` name openraft.

pub mod adapter;
pub mod config;
pub mod format;
pub mod labels;
pub mod members;
pub mod memberships;
pub mod proposer;
pub mod roles;
pub mod runtime;
pub mod settings;
pub mod store;

#[cfg(test)]
mod suite;
