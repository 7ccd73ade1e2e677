//! How replicas talk: the wire words, the connections, the client that openraft drives, the service that answers,
//! and who was heard when.

pub mod beat;
pub mod client;
pub mod clock;
pub mod link;
pub mod passport;
pub mod presence;
pub mod service;
pub mod standing;
pub mod transfer;
pub mod wire;
