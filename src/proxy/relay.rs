//! Bytes between an agent and a seller where nothing is looked into.
//!
//! An idle tunnel owns two sockets and nothing else: what was read lies in a buffer of the thread while it is passed on, and
//! only what the other side did not take at once is kept.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Most bytes passed on at once: fewer cost system calls, more no longer stay in the core's cache.
const CHUNK: usize = 64 << 10;

thread_local! {
    /// Borrowed within one poll only.
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; CHUNK].into_boxed_slice());
}

/// Joins two streams until both said all they had to say, or one broke. Says how many bytes passed up and down.
pub(super) fn relay_streams<A, S>(agent: A, seller: S) -> impl Future<Output = (u64, u64)> + Send
where
    A: AsyncRead + AsyncWrite + Unpin + Send,
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    Relay { agent, seller, up: Way::default(), down: Way::default() }
}

/// Both directions of a tunnel. Either side may close its half first; the other half goes on.
struct Relay<A, S> {
    agent: A,
    seller: S,
    up: Way,
    down: Way,
}

impl<A, S> Future for Relay<A, S>
where
    A: AsyncRead + AsyncWrite + Unpin,
    S: AsyncRead + AsyncWrite + Unpin,
{
    type Output = (u64, u64);

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<(u64, u64)> {
        let Self { agent, seller, up, down } = &mut *self;
        match (up.poll(cx, agent, seller), down.poll(cx, seller, agent)) {
            (Poll::Ready(Err(_)), _) | (_, Poll::Ready(Err(_))) | (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => {
                Poll::Ready((up.passed, down.passed))
            }
            _ => Poll::Pending,
        }
    }
}

/// One direction.
#[derive(Default)]
struct Way {
    /// Read, but not yet taken by the other side. Nothing more is read before it is gone.
    held: Bytes,
    /// Bytes read so far.
    passed: u64,
    /// Written since the last flush.
    unflushed: bool,
    stage: Stage,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Open,
    /// The source ended; the other side is to hear of it.
    Closing,
    Closed,
}

impl Way {
    /// Passes on whatever can be passed on now. Ready at the end of the source, or when something failed.
    fn poll<R, W>(&mut self, cx: &mut Context<'_>, from: &mut R, to: &mut W) -> Poll<io::Result<()>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        while self.stage == Stage::Open {
            ready!(self.poll_held(cx, to))?;
            match SCRATCH.with_borrow_mut(|scratch| self.poll_pass(cx, from, to, scratch)) {
                Poll::Ready(read) => {
                    if read? == 0 {
                        self.stage = Stage::Closing;
                    }
                }
                Poll::Pending => {
                    if self.unflushed {
                        self.unflushed = Pin::new(to).poll_flush(cx)?.is_pending();
                    }
                    return Poll::Pending;
                }
            }
        }
        if self.stage == Stage::Closing {
            ready!(Pin::new(to).poll_shutdown(cx))?;
            self.stage = Stage::Closed;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_held<W: AsyncWrite + Unpin>(&mut self, cx: &mut Context<'_>, to: &mut W) -> Poll<io::Result<()>> {
        while !self.held.is_empty() {
            let written = ready!(Pin::new(&mut *to).poll_write(cx, &self.held))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.held.advance(written);
            if self.held.is_empty() {
                // An empty slice would keep its memory.
                self.held = Bytes::new();
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Reads once and writes once; how much was read. What was not taken is held.
    fn poll_pass<R, W>(&mut self, cx: &mut Context<'_>, from: &mut R, to: &mut W, scratch: &mut [u8]) -> Poll<io::Result<usize>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        let mut read = ReadBuf::new(scratch);
        ready!(Pin::new(from).poll_read(cx, &mut read))?;
        let read = read.filled();
        if read.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let written = match Pin::new(to).poll_write(cx, read)? {
            Poll::Ready(written) => written,
            Poll::Pending => 0,
        };
        self.passed += read.len() as u64;
        self.unflushed = true;
        if written < read.len() {
            self.held = Bytes::copy_from_slice(&read[written..]);
        }
        Poll::Ready(Ok(read.len()))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};
    use tokio::net::TcpStream;

    /// Both far ends of a tunnel with so little room in between.
    fn tunnel(room: usize) -> (tokio::io::DuplexStream, tokio::io::DuplexStream, tokio::task::JoinHandle<(u64, u64)>) {
        let (agent, near) = duplex(room);
        let (far, seller) = duplex(room);
        (agent, seller, tokio::spawn(relay_streams(near, far)))
    }

    #[tokio::test]
    async fn a_half_closed_tunnel_still_carries_the_answer() {
        let (mut agent, mut seller, relay) = tunnel(1024);
        agent.write_all(b"question").await.unwrap();
        agent.shutdown().await.unwrap();
        let mut heard = String::new();
        seller.read_to_string(&mut heard).await.unwrap();
        assert_eq!(heard, "question");
        seller.write_all(b"answer").await.unwrap();
        drop(seller);
        heard.clear();
        agent.read_to_string(&mut heard).await.unwrap();
        assert_eq!(heard, "answer");
        assert_eq!(relay.await.unwrap(), (8, 6), "up and down");
    }

    #[tokio::test]
    async fn a_slow_reader_gets_every_byte_in_order() {
        let (mut agent, mut seller, relay) = tunnel(7);
        let sent: Vec<u8> = (0..10_000_u32).map(|n| n.to_le_bytes()[0]).collect();
        let expected = sent.clone();
        let sending = tokio::spawn(async move {
            agent.write_all(&sent).await.unwrap();
            agent.shutdown().await.unwrap();
            agent
        });
        let mut heard = Vec::new();
        seller.read_to_end(&mut heard).await.unwrap();
        assert_eq!(heard, expected);
        drop(seller);
        sending.await.unwrap();
        assert_eq!(relay.await.unwrap(), (10_000, 0));
    }

    #[tokio::test]
    async fn a_broken_side_ends_the_tunnel() {
        let (mut agent, seller, relay) = tunnel(1024);
        drop(seller);
        // The seller's end is passed on; what the agent then says has nowhere to go.
        assert_eq!(agent.read(&mut [0]).await.unwrap(), 0);
        let _ = agent.write_all(b"anyone?").await;
        relay.await.unwrap();
    }

    #[test]
    fn an_idle_tunnel_is_two_sockets_and_little_else() {
        let sockets = 2 * size_of::<TcpStream>();
        let relay = size_of::<Relay<TcpStream, TcpStream>>();
        assert!(relay <= sockets + 96, "{relay}, of it {sockets} sockets");
    }
}
