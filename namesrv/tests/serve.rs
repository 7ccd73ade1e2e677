//! The name server over real sockets: what brokers tell it, it tells brokers and clients.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use futures::StreamExt as _;
use ledgermq_namesrv::{Options, serve};
use ledgermq_proto::{
    net::{ChannelOptions, TcpNet, channel},
    registry::{ListRoutesRequest, Report, Routes, TopicRoute, registry_client::RegistryClient},
    rocketmq::{
        Code, HeartbeatRequest, QueryRouteRequest, QueryRouteResponse, Resource,
        messaging_service_client::MessagingServiceClient,
    },
};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::timeout,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Streaming, transport::Channel};

const SOON: Duration = Duration::from_secs(5);

struct NameServer {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<()>,
}

impl NameServer {
    async fn start() -> Self {
        let (stop, stopped) = oneshot::channel::<()>();
        let shutdown = async move {
            let _ = stopped.await;
        };
        let (address, future) = serve(Arc::new(TcpNet), "127.0.0.1:0", Options::default(), shutdown)
            .await
            .expect("bound");
        let serving = tokio::spawn(async move { future.await.expect("served to the end") });
        Self { address, stop, serving }
    }

    fn channel(&self) -> Channel {
        channel(Arc::new(TcpNet), &self.address.to_string(), ChannelOptions::default())
    }

    async fn register(&self) -> (mpsc::Sender<Report>, Streaming<Routes>) {
        let (reports, stream) = mpsc::channel(16);
        let routes = RegistryClient::new(self.channel())
            .register(ReceiverStream::new(stream))
            .await
            .expect("open");
        (reports, routes.into_inner())
    }

    async fn query(&self, topic: &str, client_id: Option<&'static str>) -> QueryRouteResponse {
        let topic = Some(Resource {
            resource_namespace: String::new(),
            name: topic.to_owned(),
        });
        let mut request = Request::new(QueryRouteRequest { topic, endpoints: None });
        if let Some(client_id) = client_id {
            request
                .metadata_mut()
                .insert("x-mq-client-id", client_id.parse().expect("ASCII"));
        }
        let reply = MessagingServiceClient::new(self.channel()).query_route(request).await;
        reply.expect("a payload status, not a gRPC one").into_inner()
    }
}

fn report(replica_id: u64, topics: &[&str]) -> Report {
    let topics = topics.iter().map(|name| TopicRoute {
        name: (*name).to_owned(),
        r#type: "mixed".to_owned(),
        queues: 2,
    });
    Report {
        cluster_id: "c1".to_owned(),
        broker_group: "broker-a".to_owned(),
        replica_id,
        client_address: format!("127.0.0.1:{}", 8080 + replica_id),
        peer_address: format!("127.0.0.1:{}", 9080 + replica_id),
        term: 5,
        leader: Some(2),
        topics: topics.collect(),
        topics_version: 1,
    }
}

async fn until(routes: &mut Streaming<Routes>, wanted: impl Fn(&Routes) -> bool) -> Routes {
    let waiting = async {
        loop {
            let told = routes.next().await.expect("the stream is open").expect("routes");
            if wanted(&told) {
                return told;
            }
        }
    };
    timeout(SOON, waiting).await.expect("told in time")
}

fn alive(routes: &Routes) -> Vec<u64> {
    let replicas = routes
        .broker_groups
        .iter()
        .flat_map(|broker_group| &broker_group.replicas);
    replicas
        .filter(|replica| replica.alive)
        .map(|replica| replica.id)
        .collect()
}

fn code(reply: &QueryRouteResponse) -> Code {
    reply.status.as_ref().expect("a status").code()
}

#[tokio::test]
async fn routes_reach_brokers_and_clients() {
    let server = NameServer::start().await;
    let (first, mut told_first) = server.register().await;
    assert!(
        until(&mut told_first, |_| true).await.broker_groups.is_empty(),
        "the first routes come at once"
    );

    let (second, mut told_second) = server.register().await;
    first.send(report(1, &[])).await.expect("open");
    second.send(report(2, &["orders"])).await.expect("open");
    for told in [&mut told_first, &mut told_second] {
        let routes = until(told, |routes| alive(routes) == [1, 2]).await;
        assert_eq!(routes.broker_groups[0].leader, Some(2));
        assert_eq!(routes.broker_groups[0].topics[0].name, "orders");
    }

    let reply = server.query("orders", Some("test@1")).await;
    assert_eq!(code(&reply), Code::Ok);
    let ids: Vec<i32> = reply.message_queues.iter().map(|queue| queue.id).collect();
    assert_eq!(ids, [0, 1]);
    let broker = reply.message_queues[0].broker.as_ref().expect("a broker");
    let ports: Vec<i32> = broker
        .endpoints
        .iter()
        .flat_map(|found| &found.addresses)
        .map(|found| found.port)
        .collect();
    assert_eq!(
        (broker.name.as_str(), ports),
        ("broker-a", vec![8082, 8081]),
        "the leader is first"
    );

    drop(first);
    drop(told_first);
    until(&mut told_second, |routes| alive(routes) == [2]).await;
    let listed = RegistryClient::new(server.channel())
        .list_routes(ListRoutesRequest {})
        .await
        .expect("answered");
    assert_eq!(alive(listed.get_ref()), [2]);

    server.stop.send(()).expect("it runs");
    timeout(SOON, server.serving)
        .await
        .expect("open streams do not hold it")
        .expect("no panic");
}

#[tokio::test]
async fn wrong_calls_get_their_codes() {
    let server = NameServer::start().await;
    let unknown = code(&server.query("orders", Some("test@1")).await);
    assert_eq!(
        unknown,
        Code::HaNotAvailable,
        "it has just started, the topic may be there"
    );
    assert_eq!(code(&server.query("orders", None).await), Code::ClientIdRequired);
    for topic in ["", " ", "a b", "a/b", "TBW102", "rmq_sys_x"] {
        assert_eq!(
            code(&server.query(topic, Some("test@1")).await),
            Code::IllegalTopic,
            "{topic:?}"
        );
    }
    assert_eq!(
        code(&server.query(&"x".repeat(128), Some("test@1")).await),
        Code::IllegalTopic
    );

    let heartbeat = MessagingServiceClient::new(server.channel())
        .heartbeat(HeartbeatRequest::default())
        .await;
    assert_eq!(heartbeat.expect_err("brokers only").code(), tonic::Code::Unimplemented);
}

#[tokio::test]
async fn a_wrong_report_ends_its_stream_with_the_reason() {
    let server = NameServer::start().await;
    let (reports, mut told) = server.register().await;
    reports
        .send(Report {
            client_address: "nowhere".to_owned(),
            ..report(1, &[])
        })
        .await
        .expect("open");
    let refused = async {
        loop {
            match told.next().await.expect("a reason before the end") {
                Ok(_) => {}
                Err(status) => return status,
            }
        }
    };
    let refused = timeout(SOON, refused).await.expect("in time");
    assert_eq!(refused.code(), tonic::Code::InvalidArgument);
    assert!(
        refused.message().contains("client_address \"nowhere\""),
        "{}",
        refused.message()
    );
}
