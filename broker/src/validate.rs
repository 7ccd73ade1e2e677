//! The rules of grpc.md B.0 as pure functions: a value is good, or refused with the rule's code.

pub mod message;
pub mod names;
pub mod properties;
pub mod receive;
