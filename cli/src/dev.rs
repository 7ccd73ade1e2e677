//! The parts of `ledgermq dev`: where everything lies (`layout`), how replicas run (`replicas`), when they serve (`ready`).

pub mod layout;
pub mod ready;
pub mod replicas;
