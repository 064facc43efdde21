//! Two small wrappers around a byte stream, each for one fact hyper cannot know.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::exchange::Exchange;

/// Towards a seller: the response wins over a write error.
///
/// A seller may answer 402 to a large upload and close without reading it. hyper reports the failed write and drops the
/// answer that lies in the receive buffer, 3 of 3 at 10 MiB. So a failed write only stops writing; what the seller said,
/// or the end of the stream, decides (design §3, "early 402").
pub(super) struct SellerIo<T> {
    inner: T,
    write_failed: bool,
}

impl<T> SellerIo<T> {
    pub(super) const fn new(inner: T) -> Self {
        Self { inner, write_failed: false }
    }

    /// The stream itself.
    pub(super) fn into_inner(self) -> T {
        self.inner
    }

    /// Turns a write error into "not yet": the read side, which is polled beside it, ends the exchange.
    fn held_back<R>(&mut self, result: Poll<io::Result<R>>) -> Poll<io::Result<R>> {
        match result {
            Poll::Ready(Err(_)) => {
                self.write_failed = true;
                Poll::Pending
            }
            other => other,
        }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for SellerIo<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for SellerIo<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.write_failed {
            return Poll::Pending;
        }
        let result = Pin::new(&mut self.inner).poll_write(cx, buf);
        self.held_back(result)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.write_failed {
            return Poll::Pending;
        }
        let result = Pin::new(&mut self.inner).poll_flush(cx);
        self.held_back(result)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.write_failed {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bufs: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        if self.write_failed {
            return Poll::Pending;
        }
        let result = Pin::new(&mut self.inner).poll_write_vectored(cx, bufs);
        self.held_back(result)
    }
}

/// A paid answer that hyper has taken whole but not yet handed to the kernel.
///
/// "Fully written to its waiter" (M1.1) decides whether an identical request buys anew, so it means flushed, not encoded.
#[derive(Default)]
pub(super) struct Unflushed {
    any: AtomicBool,
    /// hyper drops the socket before the bodies.
    closed: AtomicBool,
    /// More than one only if an agent pipelines.
    answers: Mutex<Vec<Arc<Exchange>>>,
}

impl Unflushed {
    /// The last byte of this answer went into hyper's buffer.
    pub(super) fn set(&self, exchange: Arc<Exchange>) {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner).push(exchange);
        self.any.store(true, Ordering::SeqCst);
        if self.closed.load(Ordering::SeqCst) {
            self.take().iter().for_each(|e| e.waiter_gone());
        }
    }

    /// The connection is gone; so is the waiter of whatever comes now.
    fn close(&self) -> Vec<Arc<Exchange>> {
        self.closed.store(true, Ordering::SeqCst);
        self.take()
    }

    fn take(&self) -> Vec<Arc<Exchange>> {
        if !self.any.swap(false, Ordering::SeqCst) {
            return Vec::new();
        }
        std::mem::take(&mut *self.answers.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Towards an agent: tells when a paid answer was flushed, or that the connection died first.
pub(super) struct AgentIo<T> {
    inner: T,
    flushes: Flushes,
}

/// The connection's hold on the answers that wait for a flush; without it their waiters are gone.
struct Flushes(Arc<Unflushed>);

impl<T> AgentIo<T> {
    pub(super) const fn new(inner: T, unflushed: Arc<Unflushed>) -> Self {
        Self { inner, flushes: Flushes(unflushed) }
    }

    /// The stream itself, after HTTP is over.
    pub(super) fn into_inner(self) -> T {
        self.inner
    }
}

impl Drop for Flushes {
    fn drop(&mut self) {
        for exchange in self.0.close() {
            exchange.waiter_gone();
        }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for AgentIo<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for AgentIo<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.inner).poll_flush(cx);
        if let Poll::Ready(Ok(())) = result {
            for exchange in self.flushes.0.take() {
                exchange.delivered();
            }
        }
        result
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bufs: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, bufs)
    }
}
