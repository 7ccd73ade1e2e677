//! Connections to the other replicas: three to each, so that a burst of entries or a snapshot never stands in the
//! way of a heartbeat or a vote.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use http::Uri;
use hyper_util::rt::TokioIo;
use tonic::transport::{Channel, Endpoint};

use crate::limits;
use crate::options::Connect;
use crate::peer::wire::peer_client::PeerClient;

/// A client of one connection.
pub type Client = PeerClient<Channel>;

/// The connections to one replica. Each comes up at its first use and again after it broke.
pub struct Link {
    /// Heartbeats, votes, presence, and everything else that is small.
    pub heartbeat: Client,
    /// The replication pipeline.
    pub append: Client,
    /// Snapshots.
    pub snapshot: Client,
}

/// The connections to all replicas, by address: shared by openraft's clients and our own calls.
pub struct Links {
    connect: Arc<dyn Connect>,
    by_address: Mutex<BTreeMap<String, Arc<Link>>>,
}

impl Links {
    /// No connection yet.
    pub fn new(connect: Arc<dyn Connect>) -> Links {
        Links {
            connect,
            by_address: Mutex::new(BTreeMap::new()),
        }
    }

    /// The connections to this address. They live on the runtime this is called in, so it is called only by tasks of
    /// the replica itself: a leader whose own runtime died must not go on beating from its caller's.
    pub fn to(&self, address: &str) -> Arc<Link> {
        let mut links = self.by_address.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(link) = links.get(address) {
            return Arc::clone(link);
        }
        let client = || client(&self.connect, address);
        let link = Arc::new(Link {
            heartbeat: client(),
            append: client(),
            snapshot: client(),
        });
        if links.len() >= limits::MEMBERS_MAX * 2 {
            links.clear();
        }
        links.insert(address.to_owned(), Arc::clone(&link));
        link
    }
}

fn client(connect: &Arc<dyn Connect>, address: &str) -> Client {
    let connect = Arc::clone(connect);
    let target = address.to_owned();
    let connector = tower::service_fn(move |_: Uri| {
        let stream = connect.connect(&target);
        async move { Ok::<_, io::Error>(TokioIo::new(stream.await?)) }
    });
    // The authority of the URI is never used to connect: an address that is no valid URI fails at the connector.
    let uri: Uri = format!("http://{address}")
        .parse()
        .unwrap_or_else(|_| Uri::from_static("http://peer.invalid"));
    let channel = Endpoint::from(uri)
        .connect_timeout(limits::CONNECT_DEADLINE)
        .http2_keep_alive_interval(limits::KEEPALIVE_INTERVAL)
        .keep_alive_timeout(limits::KEEPALIVE_TIMEOUT)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(limits::HTTP2_WINDOW_BYTES)
        .initial_connection_window_size(limits::HTTP2_WINDOW_BYTES)
        .connect_with_connector_lazy(connector);
    PeerClient::new(channel)
        .max_decoding_message_size(limits::PEER_MESSAGE_BYTES_MAX)
        .max_encoding_message_size(limits::PEER_MESSAGE_BYTES_MAX)
}
