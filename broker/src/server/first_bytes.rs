//! The first bytes of a connection decide what it is: HTTP/2 with prior knowledge, later TLS. Anything else, and silence,
//! is closed without a word.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use ledgermq_proto::net::BoxedStream;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};

use crate::limits;

/// What a client of cleartext HTTP/2 sends first.
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A stream whose first bytes were read already: they are given again.
pub struct Preface {
    given: usize,
    stream: BoxedStream,
}

/// Reads the first bytes; None when they are not HTTP/2's or don't come in time.
pub async fn read(mut stream: BoxedStream) -> Option<Preface> {
    let mut first = [0; PREFACE.len()];
    let mut length = 0;
    let reading = async {
        while length < first.len() {
            let read = stream.read(&mut first[length..]).await.ok().filter(|read| *read > 0)?;
            length += read;
            if !PREFACE.starts_with(&first[..length]) {
                return None;
            }
        }
        Some(())
    };
    tokio::time::timeout(limits::FIRST_BYTES_TIMEOUT, reading)
        .await
        .ok()??;
    Some(Preface { given: 0, stream })
}

impl AsyncRead for Preface {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.given < PREFACE.len() {
            let count = buffer.remaining().min(PREFACE.len() - self.given);
            buffer.put_slice(&PREFACE[self.given..self.given + count]);
            self.given += count;
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Preface {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;

    use super::*;

    async fn opened(bytes: &'static [u8]) -> Option<Preface> {
        let (mut client, server) = tokio::io::duplex(64);
        client.write_all(bytes).await.expect("room");
        let opened = read(BoxedStream::new(server, ([127, 0, 0, 1], 1).into())).await;
        drop(client);
        opened
    }

    #[tokio::test(start_paused = true)]
    async fn only_http2_passes() {
        let mut stream = opened(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nrest").await.expect("HTTP/2");
        let mut all = Vec::new();
        stream.read_to_end(&mut all).await.expect("readable");
        assert_eq!(all, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nrest");
        for garbage in [&b"GET / HTTP/1.1\r\n"[..], b"\x16\x03\x01", b"\0", b"PRI"] {
            assert!(opened(garbage).await.is_none());
        }
    }
}
