//! Connections that can be reset from outside: the end at this machine fails, which drops it, and the other end sees
//! that.

use std::{
    fmt, io,
    pin::Pin,
    task::{Context, Poll},
};

use futures::future::BoxFuture;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::watch,
};

/// Resets all connections that were wrapped by it and are open. Clones act on the same connections.
#[derive(Clone)]
pub struct Resets(watch::Sender<u64>);

impl Default for Resets {
    fn default() -> Resets {
        Resets(watch::Sender::new(0))
    }
}

impl fmt::Debug for Resets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Resets").field(&*self.0.borrow()).finish()
    }
}

impl Resets {
    /// Resets what is open now.
    pub fn reset(&self) {
        self.0.send_modify(|count| *count += 1);
    }

    /// A stream that fails at the next reset.
    pub(super) fn wrap<S>(&self, inner: S) -> Resettable<S> {
        let mut seen = self.0.subscribe();
        Resettable {
            inner,
            reset: Some(Box::pin(async move {
                // The sender lives as long as the machine.
                let _gone = seen.changed().await;
            })),
        }
    }
}

pub(super) struct Resettable<S> {
    inner: S,
    /// Resolves at the reset; `None` after it.
    reset: Option<BoxFuture<'static, ()>>,
}

impl<S> Resettable<S> {
    fn alive(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let pending = self
            .reset
            .as_mut()
            .is_some_and(|reset| reset.as_mut().poll(cx).is_pending());
        if pending {
            return Ok(());
        }
        self.reset = None;
        Err(io::ErrorKind::ConnectionReset.into())
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Resettable<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if let Err(error) = self.alive(cx) {
            return Poll::Ready(Err(error));
        }
        Pin::new(&mut self.inner).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Resettable<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if let Err(error) = self.alive(cx) {
            return Poll::Ready(Err(error));
        }
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
