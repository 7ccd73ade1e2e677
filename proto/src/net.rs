//! The network seam: production and simulation differ only in the [`Net`] they pass in.
//!
//! ```text
//!   client side   Net::connect ─▶ BoxedStream ─▶ channel()  ─▶ tonic client
//!   server side   Net::bind    ─▶ Listener    ─▶ incoming() ─▶ tonic server
//! ```
//! Invariants: a listener outlives every accept error; it keeps at most a given number of connections open; a
//! connection attempt ends within its timeout. [`TcpNet`] is the only code of the product that opens sockets.

use std::{
    fmt, io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures::{Stream, StreamExt as _, future::BoxFuture, stream};
use http::Uri;
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tonic::transport::{Channel, Endpoint, server::Connected};

use crate::limits;

/// Opens connections and listeners. Addresses are `host:port`; hosts may be names.
pub trait Net: Send + Sync + 'static {
    /// Connects to `authority`. Has no deadline of its own: callers bound it.
    fn connect(&self, authority: &str) -> BoxFuture<'static, io::Result<BoxedStream>>;

    /// Listens on `address`; port 0 takes a free one.
    fn bind(&self, address: &str) -> BoxFuture<'static, io::Result<Box<dyn Listener>>>;
}

/// A bound socket.
pub trait Listener: Send {
    /// The next connection and the address it comes from. Cancel-safe.
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(BoxedStream, SocketAddr)>>;

    /// The address it listens on, with the real port.
    fn local_addr(&self) -> io::Result<SocketAddr>;
}

/// Where a connection comes from; tonic servers find it in the extensions of each request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerAddr(pub SocketAddr);

trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// One connection, real or simulated.
pub struct BoxedStream {
    io: Box<dyn Io>,
    peer: PeerAddr,
    /// Held while the connection counts against its listener's bound.
    _open: Option<OwnedSemaphorePermit>,
}

impl BoxedStream {
    /// Wraps a connection with `peer` at its other end.
    pub fn new(io: impl AsyncRead + AsyncWrite + Send + Unpin + 'static, peer: SocketAddr) -> Self {
        Self {
            io: Box::new(io),
            peer: PeerAddr(peer),
            _open: None,
        }
    }

    /// The address of the other end.
    pub fn peer(&self) -> SocketAddr {
        self.peer.0
    }

    /// Wraps the bytes of this connection (a TLS session, bytes read ahead) and keeps its peer and its place in the
    /// listener's count.
    pub fn map<T>(self, wrap: impl FnOnce(BoxedStream) -> T) -> BoxedStream
    where
        T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let peer = self.peer.0;
        BoxedStream::new(wrap(self), peer)
    }
}

impl fmt::Debug for BoxedStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BoxedStream")
            .field("peer", &self.peer.0)
            .finish_non_exhaustive()
    }
}

impl AsyncRead for BoxedStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.io).poll_read(cx, buffer)
    }
}

impl AsyncWrite for BoxedStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.io).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.io).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

impl Connected for BoxedStream {
    type ConnectInfo = PeerAddr;

    fn connect_info(&self) -> PeerAddr {
        self.peer
    }
}

/// The real network: TCP without Nagle's delay, and on Linux no longer than [`limits::UNACKNOWLEDGED_MAX`] without an
/// acknowledgement of what was sent.
#[derive(Clone, Copy, Debug, Default)]
pub struct TcpNet;

impl Net for TcpNet {
    #[expect(clippy::disallowed_methods, reason = "this is the seam")]
    fn connect(&self, authority: &str) -> BoxFuture<'static, io::Result<BoxedStream>> {
        let authority = authority.to_owned();
        Box::pin(async move {
            let stream = TcpStream::connect(authority).await?;
            let peer = stream.peer_addr()?;
            wrap_tcp(stream, peer)
        })
    }

    #[expect(clippy::disallowed_methods, reason = "this is the seam")]
    fn bind(&self, address: &str) -> BoxFuture<'static, io::Result<Box<dyn Listener>>> {
        let address = address.to_owned();
        Box::pin(async move {
            let listener = TcpListener::bind(address).await?;
            Ok(Box::new(TcpAccept(listener)) as Box<dyn Listener>)
        })
    }
}

struct TcpAccept(TcpListener);

impl Listener for TcpAccept {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(BoxedStream, SocketAddr)>> {
        Box::pin(async move {
            loop {
                let (stream, peer) = self.0.accept().await?;
                // One that is gone already, as a probe of a load balancer may be, is no reason to wait.
                if let Ok(stream) = wrap_tcp(stream, peer) {
                    return Ok((stream, peer));
                }
            }
        })
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

fn wrap_tcp(stream: TcpStream, peer: SocketAddr) -> io::Result<BoxedStream> {
    stream.set_nodelay(true)?;
    // Pings find a dead line only where nobody speaks: one that loses what goes out, and brings what comes in, is busy.
    #[cfg(target_os = "linux")]
    socket2::SockRef::from(&stream).set_tcp_user_timeout(Some(limits::UNACKNOWLEDGED_MAX))?;
    Ok(BoxedStream::new(stream, peer))
}

/// How a [`channel`] behaves. The default suits calls inside a cluster.
#[derive(Clone, Debug)]
pub struct ChannelOptions {
    /// Longest time for a connection to come up.
    pub connect_timeout: Duration,
    /// Interval of HTTP/2 pings; they find a dead peer that closed nothing.
    pub keepalive_interval: Duration,
    /// A ping without an answer for this long closes the connection.
    pub keepalive_timeout: Duration,
    /// Ping also while no call is open.
    pub keepalive_while_idle: bool,
    /// HTTP/2 window of one stream, in bytes; None leaves hyper's default.
    pub stream_window: Option<u32>,
    /// HTTP/2 window of the connection, in bytes; None leaves hyper's default.
    pub connection_window: Option<u32>,
    /// Calls that may wait for the connection before callers wait themselves; None leaves tonic's default, 1024.
    pub buffer: Option<usize>,
}

impl Default for ChannelOptions {
    fn default() -> Self {
        Self {
            connect_timeout: limits::CONNECT_TIMEOUT,
            keepalive_interval: limits::KEEPALIVE_INTERVAL,
            keepalive_timeout: limits::KEEPALIVE_TIMEOUT,
            keepalive_while_idle: true,
            stream_window: None,
            connection_window: None,
            buffer: None,
        }
    }
}

/// A channel to `authority` (`host:port`) over `net`. It connects at the first call and again after a loss; a call that
/// meets no connection fails with UNAVAILABLE within the connect timeout. Must be called inside a tokio runtime.
///
/// An authority that is not one gives a channel whose calls all fail, with the reason.
pub fn channel(net: Arc<dyn Net>, authority: &str, options: ChannelOptions) -> Channel {
    let origin: Option<Uri> = format!("http://{authority}")
        .parse()
        .ok()
        .filter(|uri: &Uri| uri.port().is_some());
    let valid = origin.is_some();
    let mut endpoint = Endpoint::from(origin.unwrap_or_else(|| Uri::from_static("http://invalid:1")))
        .http2_keep_alive_interval(options.keepalive_interval)
        .keep_alive_timeout(options.keepalive_timeout)
        .keep_alive_while_idle(options.keepalive_while_idle)
        .initial_stream_window_size(options.stream_window)
        .initial_connection_window_size(options.connection_window);
    if let Some(buffer) = options.buffer {
        endpoint = endpoint.buffer_size(buffer);
    }
    let authority = authority.to_owned();
    let connect_timeout = options.connect_timeout;
    let connector = tower::service_fn(move |_: Uri| {
        let connecting = if valid { Some(net.connect(&authority)) } else { None };
        let authority = authority.clone();
        async move {
            let Some(connecting) = connecting else {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidInput,
                    format!("{authority:?} is not host:port"),
                ));
            };
            match tokio::time::timeout(connect_timeout, connecting).await {
                Ok(connected) => connected.map(TokioIo::new),
                Err(_) => Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    format!("no connection to {authority} within {} ms", connect_timeout.as_millis()),
                )),
            }
        }
    });
    endpoint.connect_with_connector_lazy(connector)
}

/// The connections of `listener`, for tonic's `serve_with_incoming`, at most
/// [`limits::OPEN_CONNECTIONS_MAX`] open at once.
pub fn incoming(listener: Box<dyn Listener>) -> impl Stream<Item = io::Result<BoxedStream>> + Send + 'static {
    incoming_bounded(listener, limits::OPEN_CONNECTIONS_MAX)
}

/// As [`incoming`], with at most `open_max` connections open at once. Those beyond it are closed at once. Accept errors
/// (out of file descriptors, a peer that left early) are retried after a short sleep: the stream never ends and never
/// yields an error.
pub fn incoming_bounded(
    listener: Box<dyn Listener>,
    open_max: usize,
) -> impl Stream<Item = io::Result<BoxedStream>> + Send + 'static {
    let open = Arc::new(Semaphore::new(open_max.min(Semaphore::MAX_PERMITS)));
    stream::unfold((listener, open), |(mut listener, open)| async move {
        loop {
            match listener.accept().await {
                Ok((mut accepted, _)) => {
                    if let Ok(permit) = open.clone().try_acquire_owned() {
                        accepted._open = Some(permit);
                        return Some((Ok(accepted), (listener, open)));
                    }
                }
                Err(_) => tokio::time::sleep(limits::ACCEPT_RETRY_DELAY).await,
            }
        }
    })
    .boxed()
}
