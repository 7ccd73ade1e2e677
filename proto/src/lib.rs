//! The wire words of LedgerMQ, and the network seam that carries them.
//!
//! - [`rocketmq`]: `apache.rocketmq.v2`, the public client protocol
//! - [`admin`]: `ledgermq.admin.v1`, what the command line asks of a broker
//! - [`registry`]: `ledgermq.registry.v1`, between brokers and name servers
//! - [`door`]: `ledgermq.door.v1`, between the replica that took a call and the leader
//! - [`headers`]: the metadata of each call of the public protocol
//! - [`names`]: what a topic may be called
//! - [`net`]: connections and listeners; the only place of the product that opens sockets
//!
//! Bytes fields are [`bytes::Bytes`]: decoding shares the buffer of the received frame. Maps are ordered, so the same
//! message has the same bytes in each process.

pub mod headers;
pub mod limits;
pub mod names;
pub mod net;

/// `apache.rocketmq.v2`: the public client protocol.
#[allow(missing_docs, clippy::all)]
pub mod rocketmq {
    include!(concat!(env!("OUT_DIR"), "/apache.rocketmq.v2.rs"));
}

/// `ledgermq.admin.v1`: what the command line asks of a broker.
#[allow(missing_docs, clippy::all)]
pub mod admin {
    include!(concat!(env!("OUT_DIR"), "/ledgermq.admin.v1.rs"));
}

/// `ledgermq.registry.v1`: between brokers and name servers.
#[allow(missing_docs, clippy::all)]
pub mod registry {
    include!(concat!(env!("OUT_DIR"), "/ledgermq.registry.v1.rs"));
}

/// `ledgermq.door.v1`: between the replica that took a client's call and the leader.
#[allow(missing_docs, clippy::all)]
pub mod door {
    include!(concat!(env!("OUT_DIR"), "/ledgermq.door.v1.rs"));
}

/// The encoded `google.protobuf.FileDescriptorSet` of all packages above.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
