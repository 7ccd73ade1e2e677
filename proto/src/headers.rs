//! Names of the metadata that goes with each call of the public protocol.

/// The client's name, unique in the cluster; the only required one.
pub const CLIENT_ID: &str = "x-mq-client-id";

/// The client's language in capitals; routes are shaped by it.
pub const LANGUAGE: &str = "x-mq-language";

/// The version of the client's library.
pub const CLIENT_VERSION: &str = "x-mq-client-version";

/// The version of the protocol, `v2`.
pub const PROTOCOL: &str = "x-mq-protocol";

/// Names one call in logs.
pub const REQUEST_ID: &str = "x-mq-request-id";

/// Our extension, of a request: `1` asks where each message of a SendMessage was put.
pub const PLACEMENT: &str = "x-ledgermq-placement";

/// Our extension, of a reply to [`PLACEMENT`]: the broker group of the messages.
pub const BROKER_GROUP: &str = "x-ledgermq-broker-group";

/// Our extension, of a reply to [`PLACEMENT`]: the queue id of each entry, in their order, with commas between.
pub const QUEUE_IDS: &str = "x-ledgermq-queue-ids";
