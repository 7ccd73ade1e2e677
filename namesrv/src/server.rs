//! The name server's listener.

use std::{future::Future, io, net::SocketAddr, sync::Arc, time::Duration};

use futures::future::BoxFuture;
use ledgermq_proto::{
    net::{Listener, Net, incoming},
    registry::registry_server::RegistryServer,
    rocketmq::messaging_service_server::MessagingServiceServer,
};
use thiserror::Error;
use tokio::sync::watch;
use tonic::transport::Server;
use tracing::info;

use crate::{
    Planted, limits,
    query_route::RouteService,
    registry::{Registry, until},
};

/// Why a running name server ended by itself.
#[derive(Debug, Error)]
#[error("name server: {0}")]
pub struct ServeError(#[from] tonic::transport::Error);

/// Serves until the shutdown that it was given.
pub type Serving = BoxFuture<'static, Result<(), ServeError>>;

/// What a name server is told.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// A bug on purpose; none outside of tests.
    pub planted: Planted,
}

/// Binds `listen` over `net` and returns the bound address with the future that serves it until `shutdown` completes:
/// then open streams end and it returns within [`limits::SHUTDOWN_GRACE`]. Fails when it cannot bind.
///
/// Boxed, so that the server is compiled once, in this crate, and not again in every program that runs one.
pub fn serve(
    net: Arc<dyn Net>,
    listen: &str,
    options: Options,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> BoxFuture<'static, io::Result<(SocketAddr, Serving)>> {
    bound(net, listen.to_owned(), options, Box::pin(shutdown))
}

fn bound(
    net: Arc<dyn Net>,
    listen: String,
    options: Options,
    shutdown: BoxFuture<'static, ()>,
) -> BoxFuture<'static, io::Result<(SocketAddr, Serving)>> {
    Box::pin(async move {
        let listener = net.bind(&listen).await?;
        let address = listener.local_addr()?;
        info!(%address, "name server listens");
        Ok((address, serving(listener, address, options, shutdown)))
    })
}

fn serving(
    listener: Box<dyn Listener>,
    address: SocketAddr,
    options: Options,
    shutdown: BoxFuture<'static, ()>,
) -> Serving {
    let registry = Registry::new(options.planted);
    let registrations = RegistryServer::new(registry.clone()).max_decoding_message_size(limits::REPORT_BYTES_MAX);
    let routes = MessagingServiceServer::new(RouteService::new(registry.clone()))
        .max_decoding_message_size(limits::REQUEST_BYTES_MAX);
    let mut ended = registry.ended();
    let serving = Server::builder()
        .http2_keepalive_interval(Some(limits::KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(limits::KEEPALIVE_TIMEOUT))
        .max_concurrent_streams(limits::STREAMS_PER_CONNECTION_MAX)
        .add_service(registrations)
        .add_service(routes)
        .serve_with_incoming_shutdown(incoming(listener), async move { until(&mut ended).await });

    Box::pin(async move {
        let graced = until_graced(registry.ended(), limits::SHUTDOWN_GRACE);
        let ending = async {
            shutdown.await;
            registry.end();
            std::future::pending::<()>().await;
        };
        tokio::select! {
            biased;
            served = serving => served?,
            () = graced => {}
            () = ending => {}
            () = registry.clone().run() => {}
        }
        info!(%address, "name server ended");
        Ok(())
    })
}

async fn until_graced(mut ended: watch::Receiver<bool>, grace: Duration) {
    until(&mut ended).await;
    tokio::time::sleep(grace).await;
}
