//! tonic over the network seam: calls, the peer's address, the bound on open connections, errors of a listener.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::{StreamExt as _, future::BoxFuture, stream::BoxStream};
use ledgermq_proto::{
    net::{BoxedStream, ChannelOptions, Listener, Net as _, PeerAddr, TcpNet, channel, incoming, incoming_bounded},
    registry::{
        BrokerGroupRoute, ListRoutesRequest, Report, Routes,
        registry_client::RegistryClient,
        registry_server::{Registry, RegistryServer},
    },
};
use tokio::io::AsyncReadExt as _;
use tonic::{Request, Response, Status, Streaming, transport::Server};

struct Echo;

#[tonic::async_trait]
impl Registry for Echo {
    type RegisterStream = BoxStream<'static, Result<Routes, Status>>;

    /// Answers each report with its broker group's name.
    async fn register(&self, request: Request<Streaming<Report>>) -> Result<Response<Self::RegisterStream>, Status> {
        let replies = request
            .into_inner()
            .map(|report| report.map(|report| routes_of(report.broker_group)));
        Ok(Response::new(replies.boxed()))
    }

    /// Answers with the address that the call comes from.
    async fn list_routes(&self, request: Request<ListRoutesRequest>) -> Result<Response<Routes>, Status> {
        let peer = request
            .extensions()
            .get::<PeerAddr>()
            .ok_or_else(|| Status::internal("no peer address"))?;
        Ok(Response::new(routes_of(peer.0.ip().to_string())))
    }
}

fn routes_of(name: String) -> Routes {
    Routes {
        broker_groups: vec![BrokerGroupRoute {
            name,
            ..Default::default()
        }],
    }
}

async fn serve_echo() -> SocketAddr {
    let listener = TcpNet.bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    let server = Server::builder()
        .add_service(RegistryServer::new(Echo))
        .serve_with_incoming(incoming(listener));
    tokio::spawn(server);
    address
}

#[tokio::test]
async fn calls_and_streams_pass() {
    let address = serve_echo().await;
    let mut client = RegistryClient::new(channel(
        Arc::new(TcpNet),
        &address.to_string(),
        ChannelOptions::default(),
    ));

    let reply = client
        .list_routes(ListRoutesRequest {})
        .await
        .expect("answered")
        .into_inner();
    assert_eq!(reply.broker_groups[0].name, "127.0.0.1");

    let reports = futures::stream::iter(["a", "b"].map(|name| Report {
        broker_group: name.to_owned(),
        ..Default::default()
    }));
    let replies = client.register(reports).await.expect("opened").into_inner();
    let names: Vec<String> = replies
        .map(|reply| reply.expect("answered").broker_groups.remove(0).name)
        .collect()
        .await;
    assert_eq!(names, ["a", "b"]);
}

#[tokio::test]
async fn a_channel_without_a_server_fails_and_comes_back() {
    let spare = TcpNet.bind("127.0.0.1:0").await.expect("a free port");
    let address = spare.local_addr().expect("bound");
    drop(spare);
    let mut client = RegistryClient::new(channel(
        Arc::new(TcpNet),
        &address.to_string(),
        ChannelOptions::default(),
    ));
    let refused = client
        .list_routes(ListRoutesRequest {})
        .await
        .expect_err("nobody listens");
    assert_eq!(refused.code(), tonic::Code::Unavailable);

    let listener = TcpNet.bind(&address.to_string()).await.expect("the port is free again");
    tokio::spawn(
        Server::builder()
            .add_service(RegistryServer::new(Echo))
            .serve_with_incoming(incoming(listener)),
    );
    client.list_routes(ListRoutesRequest {}).await.expect("connected again");
}

#[tokio::test]
async fn what_is_no_authority_fails_each_call() {
    for wrong in ["", "no port", "host", "http://x:1", "a:1,b:2"] {
        let mut client = RegistryClient::new(channel(Arc::new(TcpNet), wrong, ChannelOptions::default()));
        let refused = client.list_routes(ListRoutesRequest {}).await.expect_err(wrong);
        assert_eq!(refused.code(), tonic::Code::Unavailable, "{wrong}");
    }
}

#[tokio::test]
async fn connections_beyond_the_bound_are_closed() {
    let listener = TcpNet.bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound").to_string();
    let (kept, mut accepted) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        let mut connections = Box::pin(incoming_bounded(listener, 2));
        while let Some(connection) = connections.next().await {
            let _ = kept.send(connection.expect("never an error"));
        }
    });

    let _first = TcpNet.connect(&address).await.expect("connected");
    let _second = TcpNet.connect(&address).await.expect("connected");
    let held = [
        accepted.recv().await.expect("accepted"),
        accepted.recv().await.expect("accepted"),
    ];
    let mut third = TcpNet.connect(&address).await.expect("connected");
    assert_eq!(third.read(&mut [0; 1]).await.expect("closed"), 0);

    drop(held);
    let _fourth = TcpNet.connect(&address).await.expect("connected");
    let fourth = accepted.recv().await.expect("there is room again");
    assert_eq!(fourth.peer().ip().to_string(), "127.0.0.1");
}

/// Fails with "too many open files" before each connection.
struct Exhausted {
    listener: Box<dyn Listener>,
    calls: Arc<AtomicUsize>,
}

impl Listener for Exhausted {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(BoxedStream, SocketAddr)>> {
        if self.calls.fetch_add(1, Ordering::Relaxed).is_multiple_of(2) {
            return Box::pin(async { Err(io::Error::from_raw_os_error(24)) });
        }
        self.listener.accept()
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

#[tokio::test]
async fn a_listener_outlives_accept_errors() {
    let listener = TcpNet.bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound").to_string();
    let calls = Arc::new(AtomicUsize::new(0));
    let mut connections = Box::pin(incoming(Box::new(Exhausted {
        listener,
        calls: calls.clone(),
    })));
    for _ in 0..3 {
        let _client = TcpNet.connect(&address).await.expect("connected");
        let accepted = tokio::time::timeout(Duration::from_secs(5), connections.next())
            .await
            .expect("in time");
        accepted.expect("the stream does not end").expect("no error passes");
    }
    assert_eq!(calls.load(Ordering::Relaxed), 6);
}
