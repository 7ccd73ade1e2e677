//! The simulated network behind the product's network seams.
//!
//! A process listens on a host of its own, so the host part of a listen address is dropped and every interface of the
//! simulated host is taken; names are the names of simulated hosts.

use std::{io, net::SocketAddr, sync::Arc};

use futures::future::BoxFuture;
use ledgermq_proto::net::{BoxedStream, Listener, Net};
use turmoil::net::{TcpListener, TcpStream};

pub use self::reset::Resets;

mod reset;

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

/// The network of one machine, whose open connections can be reset.
#[derive(Clone, Default)]
pub struct MachineNet {
    /// What resets them.
    pub resets: Resets,
}

impl Net for MachineNet {
    fn connect(&self, authority: &str) -> BoxFuture<'static, io::Result<BoxedStream>> {
        let (authority, resets) = (authority.to_owned(), self.resets.clone());
        Box::pin(async move {
            let stream = TcpStream::connect(authority.as_str()).await?;
            let peer = stream.peer_addr()?;
            Ok(BoxedStream::new(resets.wrap(stream), peer))
        })
    }

    fn bind(&self, address: &str) -> BoxFuture<'static, io::Result<Box<dyn Listener>>> {
        let (binding, resets) = (SimNet.bind(address), self.resets.clone());
        Box::pin(async move {
            let listener = MachineListener(binding.await?, Arc::new(resets));
            Ok(Box::new(listener) as Box<dyn Listener>)
        })
    }
}

struct MachineListener(Box<dyn Listener>, Arc<Resets>);

impl Listener for MachineListener {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(BoxedStream, SocketAddr)>> {
        Box::pin(async move {
            let (stream, peer) = self.0.accept().await?;
            Ok((BoxedStream::new(self.1.wrap(stream), peer), peer))
        })
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
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

    use super::{MachineNet, SimNet};

    #[test]
    fn a_reset_breaks_what_is_open_and_nothing_else() {
        let mut sim = turmoil::Builder::new().rng_seed(1).epoch(std::time::UNIX_EPOCH).build();
        let net = MachineNet::default();
        let server = net.clone();
        sim.host("server", move || {
            let net = server.clone();
            async move {
                let mut listener = net.bind("127.0.0.1:9000").await?;
                loop {
                    let (mut stream, _) = listener.accept().await?;
                    tokio::spawn(async move {
                        let mut byte = [0];
                        while stream.read_exact(&mut byte).await.is_ok() {
                            stream.write_all(&byte).await.ok();
                        }
                    });
                }
            }
        });
        sim.client("client", async move {
            let mut byte = [1];
            let mut stream = SimNet.connect("server:9000").await?;
            stream.write_all(&byte).await?;
            stream.read_exact(&mut byte).await?;
            net.resets.reset();
            assert!(stream.read_exact(&mut byte).await.is_err());
            let mut stream = SimNet.connect("server:9000").await?;
            stream.write_all(&byte).await?;
            stream.read_exact(&mut byte).await?;
            Ok(())
        });
        sim.run().expect("the simulation runs");
    }

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
