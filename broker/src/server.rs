//! The listeners: connections in, calls out to their services, under bounds that hold whatever clients send.
//!
//! ```text
//!   accept (bounded) ─▶ first bytes ─▶ HTTP/2 ─▶ inbound budget ─▶ service
//!                          └─ neither HTTP/2 nor (later) TLS: closed without a word
//! ```
//! A connection without an open call for 120 s, or that pings in vain, is closed. A stop sends GOAWAY and waits for the
//! open calls, for a while.

mod budget;
mod first_bytes;

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use http::{Request, Response};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use ledgermq_proto::admin::admin_server::AdminServer;
use ledgermq_proto::door::door_server::DoorServer;
use ledgermq_proto::net::{BoxedStream, Listener};
use ledgermq_proto::rocketmq::messaging_service_server::MessagingServiceServer;
use tokio::sync::{Semaphore, watch};
use tonic::body::Body;
use tonic::codegen::Service;
use tonic_health::pb::health_server::{Health, HealthServer};

use self::budget::{Budget, Kind};
use crate::admin::Administration;
use crate::call::{ConnectionEnd, PeerIp};
use crate::door::stops;
use crate::forwarded::DoorService;
use crate::limits;
use crate::rpc::Messaging;

/// One connection, as its calls see it.
pub struct Connection {
    peer: PeerIp,
    end: ConnectionEnd,
    open_calls: AtomicUsize,
    calls: AtomicU64,
}

/// Counts a call as open until it is dropped.
pub struct OpenCall(Arc<Connection>);

impl OpenCall {
    fn new(connection: &Arc<Connection>) -> Self {
        connection.open_calls.fetch_add(1, Ordering::Relaxed);
        connection.calls.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(connection))
    }
}

impl Drop for OpenCall {
    fn drop(&mut self) {
        self.0.open_calls.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What a listener's calls go to.
pub trait Route: Clone + Send + Sync + 'static {
    /// Answers one call.
    fn call(
        &self,
        request: Request<Incoming>,
        connection: &Arc<Connection>,
    ) -> impl Future<Output = Response<Body>> + Send + use<Self>;
}

/// Serves a listener until `stopping`, then lets open calls end for a while.
pub async fn serve(
    mut listener: Box<dyn Listener>,
    route: impl Route,
    connections_max: usize,
    mut stopping: watch::Receiver<bool>,
) {
    let places = Arc::new(Semaphore::new(connections_max));
    loop {
        let accepted = tokio::select! {
            biased;
            () = stops(&mut stopping) => break,
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::debug!(%error, "cannot accept a connection");
                tokio::time::sleep(limits::ACCEPT_ERROR_PAUSE).await;
                continue;
            }
        };
        // Beyond the bound a connection is closed at once.
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            continue;
        };
        let connection = Arc::new(Connection {
            peer: PeerIp(peer.ip()),
            end: ConnectionEnd::default(),
            open_calls: AtomicUsize::new(0),
            calls: AtomicU64::new(0),
        });
        let (route, stopping) = (route.clone(), stopping.clone());
        tokio::spawn(async move {
            let _place = place;
            converse(stream, route, &connection, stopping).await;
            connection.end.now();
        });
    }
    drop(listener);
    let all = u32::try_from(connections_max).unwrap_or(u32::MAX);
    if tokio::time::timeout(limits::DRAIN_TIMEOUT, places.acquire_many(all))
        .await
        .is_err()
    {
        tracing::info!("connections are cut at the end of the stop");
    }
}

async fn converse(
    stream: BoxedStream,
    route: impl Route,
    connection: &Arc<Connection>,
    mut stopping: watch::Receiver<bool>,
) {
    let Some(stream) = first_bytes::read(stream).await else {
        return;
    };
    let calls = Arc::clone(connection);
    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
        let answer = route.call(request, &calls);
        async move { Ok::<_, Infallible>(answer.await) }
    });
    let mut served = pin!(http2().serve_connection(TokioIo::new(stream), service));
    let mut idle_checks = 0;
    let mut seen = 0;
    let mut leaving = false;
    loop {
        tokio::select! {
            biased;
            ended = served.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "a connection broke off");
                }
                return;
            }
            () = stops(&mut stopping), if !leaving => {
                leaving = true;
                served.as_mut().graceful_shutdown();
            }
            () = tokio::time::sleep(limits::IDLE_CONNECTION_TIMEOUT / IDLE_CHECKS) => {
                let calls = connection.calls.load(Ordering::Relaxed);
                let quiet = calls == seen && connection.open_calls.load(Ordering::Relaxed) == 0;
                seen = calls;
                idle_checks = if quiet { idle_checks + 1 } else { 0 };
                if idle_checks > IDLE_CHECKS {
                    // It had its GOAWAY and did not leave.
                    return;
                }
                if idle_checks == IDLE_CHECKS {
                    served.as_mut().graceful_shutdown();
                }
            }
        }
    }
}

/// Looks at a quiet connection within [`limits::IDLE_CONNECTION_TIMEOUT`].
const IDLE_CHECKS: u32 = 4;

fn http2() -> hyper::server::conn::http2::Builder<TokioExecutor> {
    let mut builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .auto_date_header(false)
        .initial_stream_window_size(limits::STREAM_WINDOW_BYTES)
        .initial_connection_window_size(limits::CONNECTION_WINDOW_BYTES)
        .max_concurrent_streams(limits::STREAMS_PER_CONNECTION_MAX)
        .max_header_list_size(limits::HEADER_LIST_BYTES_MAX)
        .max_send_buf_size(limits::SEND_BUFFER_BYTES)
        .keep_alive_interval(limits::KEEPALIVE_INTERVAL)
        .keep_alive_timeout(limits::KEEPALIVE_TIMEOUT);
    builder
}

/// Everything on the client listener.
pub struct ClientRoute<H: Health> {
    messaging: MessagingServiceServer<Messaging>,
    admin: AdminServer<Administration>,
    door: DoorServer<DoorService>,
    health: HealthServer<H>,
    budget: Arc<Budget>,
}

impl<H: Health> Clone for ClientRoute<H> {
    fn clone(&self) -> Self {
        Self {
            messaging: self.messaging.clone(),
            admin: self.admin.clone(),
            door: self.door.clone(),
            health: self.health.clone(),
            budget: Arc::clone(&self.budget),
        }
    }
}

impl<H: Health> ClientRoute<H> {
    /// Puts the services together.
    pub fn new(messaging: Messaging, admin: Administration, door: DoorService, health: HealthServer<H>) -> Self {
        let (largest, forwarded) = (limits::INBOUND_MESSAGE_BYTES_MAX, limits::FORWARD_BYTES_MAX);
        Self {
            messaging: MessagingServiceServer::new(messaging)
                .max_decoding_message_size(largest)
                .max_encoding_message_size(largest),
            admin: AdminServer::new(admin),
            door: DoorServer::new(door)
                .max_decoding_message_size(forwarded)
                .max_encoding_message_size(forwarded),
            health,
            budget: Arc::new(Budget::new(limits::INBOUND_BYTES_MAX)),
        }
    }
}

impl<H: Health> Route for ClientRoute<H> {
    fn call(
        &self,
        request: Request<Incoming>,
        connection: &Arc<Connection>,
    ) -> impl Future<Output = Response<Body>> + Send + use<H> {
        let open = OpenCall::new(connection);
        let kind = Kind::of(request.uri().path());
        let (mut request, held) = budget::count(request, kind, &self.budget);
        request.extensions_mut().insert(connection.peer);
        request.extensions_mut().insert(connection.end.clone());
        let answer = match kind {
            Kind::Send | Kind::Verb | Kind::Telemetry => Some(self.messaging.clone().call(request)),
            Kind::Forward => Some(self.door.clone().call(request)),
            Kind::Admin => Some(self.admin.clone().call(request)),
            Kind::Health => Some(self.health.clone().call(request)),
            Kind::Unknown => None,
        };
        async move {
            let Some(answer) = answer else {
                return tonic::Status::unimplemented("no such service").into_http();
            };
            let response = match answer.await {
                Ok(response) => response,
                Err(never) => match never {},
            };
            if let Some(refused) = held.refused() {
                return refused;
            }
            if kind == Kind::Telemetry {
                return budget::keep_open(response, open);
            }
            response
        }
    }
}

/// The other replicas' listener.
#[derive(Clone)]
pub struct PeerRoute(pub ledgermq_raft_store::PeerService);

impl Route for PeerRoute {
    fn call(
        &self,
        request: Request<Incoming>,
        connection: &Arc<Connection>,
    ) -> impl Future<Output = Response<Body>> + Send + use<> {
        // An append stream stays open for as long as its connection: idleness is never the reason to close here.
        let open = OpenCall::new(connection);
        let answer = self.0.clone().call(request);
        async move {
            match answer.await {
                Ok(response) => budget::keep_open(response, open),
                Err(never) => match never {},
            }
        }
    }
}
