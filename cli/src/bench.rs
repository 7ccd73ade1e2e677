//! The parts of `ledgermq bench`: processor time (`cpu`) and the report (`report`).

pub mod cpu;
pub mod report;
