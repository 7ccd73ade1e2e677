//! The simulated network behind the product's network seams.
//!
//! A process listens on a host of its own, so the host part of a listen address is dropped and every interface of the
//! simulated host is taken; names are the names of simulated hosts.

use std::{io, net::SocketAddr};

use futures::future::BoxFuture;
use ledgermq_proto::net::{BoxedStream, Listener, Net};
use turmoil::net::{TcpListener, TcpStream};

/// turmoil's sockets as a [`Net`].
#[derive(Clone, Copy, Debug, Default)]
pub struct SimNet;

impl Net for SimNet {
    fn connect(&self, authority: &str) -> BoxFuture<'static, io::Result<BoxedStream>> {
        let authority = authority.to_owned();
        Box::pin(async move {
            let stream = TcpStream::connect(authority.as_str()).await?;
            let peer = stream.peer_addr()?;
            Ok(BoxedStream::new(stream, peer))
        })
    }

    fn bind(&self, address: &str) -> BoxFuture<'static, io::Result<Box<dyn Listener>>> {
        let port = address.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
        let address = address.to_owned();
        Box::pin(async move {
            let Some(port) = port else {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidInput,
                    format!("{address:?} has no port"),
                ));
            };
            Ok(Box::new(SimListener(TcpListener::bind(("0.0.0.0", port)).await?)) as Box<dyn Listener>)
        })
    }
}

struct SimListener(TcpListener);

impl Listener for SimListener {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(BoxedStream, SocketAddr)>> {
        Box::pin(async move {
            let (stream, peer) = self.0.accept().await?;
            Ok((BoxedStream::new(stream, peer), peer))
        })
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use ledgermq_proto::net::Net;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::SimNet;

    #[test]
    fn bytes_cross_the_simulated_network_and_stop_at_a_partition() {
        let mut sim = turmoil::Builder::new().rng_seed(1).epoch(std::time::UNIX_EPOCH).build();
        sim.host("server", || async {
            let mut listener = SimNet.bind("127.0.0.1:9000").await?;
            loop {
                let (mut stream, _) = listener.accept().await?;
                let mut bytes = [0; 5];
                stream.read_exact(&mut bytes).await?;
                stream.write_all(&bytes).await?;
            }
        });
        sim.client("client", async {
            let net: Arc<dyn Net> = Arc::new(SimNet);
            let mut stream = net.connect("server:9000").await?;
            assert_eq!(stream.peer().port(), 9000);
            stream.write_all(b"hello").await?;
            let mut bytes = [0; 5];
            stream.read_exact(&mut bytes).await?;
            assert_eq!(&bytes, b"hello");
            turmoil::partition("client", "server");
            let refused = tokio::time::timeout(Duration::from_secs(1), net.connect("server:9000")).await;
            assert!(!matches!(refused, Ok(Ok(_))));
            Ok(())
        });
        sim.run().expect("the simulation runs");
    }
}
