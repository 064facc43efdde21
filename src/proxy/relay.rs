//! Bytes between an agent and a seller where nothing is looked into.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// Joins an upgraded connection with a seller's, as bytes.
pub(super) async fn relay(upgraded: Upgraded, seller: TcpStream) {
    // hyper gives the plain socket back when nothing was buffered: the copy then runs on two sockets.
    match upgraded.downcast::<TokioIo<super::io::AgentIo<TcpStream>>>() {
        Ok(parts) => {
            let agent = Rewound { head: parts.read_buf, inner: parts.io.into_inner() };
            relay_streams(agent, seller).await;
        }
        Err(upgraded) => relay_streams(TokioIo::new(upgraded), seller).await,
    }
}

pub(super) async fn relay_streams(mut agent: impl AsyncRead + AsyncWrite + Unpin, mut seller: TcpStream) {
    // Either side may close its half first; the other half goes on.
    let _ = tokio::io::copy_bidirectional(&mut agent, &mut seller).await;
}

/// A stream with the first bytes put back.
pub(super) struct Rewound<T> {
    pub(super) head: Bytes,
    pub(super) inner: T,
}

impl<T: AsyncRead + Unpin> AsyncRead for Rewound<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.head.is_empty() {
            return Pin::new(&mut self.inner).poll_read(cx, buf);
        }
        let n = self.head.len().min(buf.remaining());
        buf.put_slice(&self.head.split_to(n));
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Rewound<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
