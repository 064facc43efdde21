//! Bytes between an agent and a seller where nothing is looked into.
//!
//! An idle tunnel owns two sockets and nothing else: what was read lies in a buffer, or a pipe, of the thread while it is passed on,
//! and only what the other side did not take at once is kept.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::splice::{self, Passed, Pipe, Socket};

/// Most bytes passed on at once: fewer cost system calls, more no longer stay in the core's cache.
const CHUNK: usize = 64 << 10;

/// Then it is the turn of the worker's other connections.
const ROUNDS: u8 = 16;

/// After so many full chunks in a row two sockets are joined by a pipe: setting that up costs more than copying a short message.
const MANY: u8 = 4;

thread_local! {
    /// Borrowed within one poll only.
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; CHUNK].into_boxed_slice());
}

/// Joins two streams until both said all they had to say, or one broke. Says how many bytes passed up and down.
pub(super) fn relay_streams<A, S>(agent: A, seller: S) -> impl Future<Output = (u64, u64)> + Send
where
    A: AsyncRead + AsyncWrite + Socket + Unpin + Send,
    S: AsyncRead + AsyncWrite + Socket + Unpin + Send,
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
    A: AsyncRead + AsyncWrite + Socket + Unpin,
    S: AsyncRead + AsyncWrite + Socket + Unpin,
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
    /// The same, of what came by a pipe.
    piped: Option<Box<Pipe>>,
    /// Bytes read so far.
    passed: u64,
    /// Full chunks in a row.
    full: u8,
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
        R: AsyncRead + Socket + Unpin,
        W: AsyncWrite + Socket + Unpin,
    {
        let mut rounds = 0;
        while self.stage == Stage::Open {
            ready!(self.poll_held(cx, to))?;
            let passed = if rounds == ROUNDS {
                cx.waker().wake_by_ref();
                Poll::Pending
            } else {
                self.poll_some(cx, from, to)
            };
            rounds += 1;
            match passed {
                Poll::Ready(read) => {
                    let read = read?;
                    if read == 0 {
                        self.stage = Stage::Closing;
                    }
                    self.full = if read < CHUNK { 0 } else { self.full.saturating_add(1) };
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

    fn poll_held<W: AsyncWrite + Socket + Unpin>(&mut self, cx: &mut Context<'_>, to: &mut W) -> Poll<io::Result<()>> {
        if let Some(to) = to.socket() {
            ready!(splice::go_on(cx, &mut self.piped, to))?;
        }
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

    /// Passes on what there is; how much that was. What was not taken is held.
    fn poll_some<R, W>(&mut self, cx: &mut Context<'_>, from: &mut R, to: &mut W) -> Poll<io::Result<usize>>
    where
        R: AsyncRead + Socket + Unpin,
        W: AsyncWrite + Socket + Unpin,
    {
        let passed = match (from.socket(), to.socket()) {
            (Some(from), Some(to)) if self.full >= MANY => ready!(splice::pass(cx, from, to))?,
            _ => Passed::Nothing,
        };
        let read = match passed {
            Passed::Nothing => ready!(SCRATCH.with_borrow_mut(|scratch| self.poll_copy(cx, from, to, scratch)))?,
            Passed::All(read) => read,
            Passed::Some(read, pipe) => {
                self.piped = Some(Box::new(pipe));
                read
            }
        };
        self.passed += read as u64;
        Poll::Ready(Ok(read))
    }

    /// Reads once and writes once; how much was read. What was not taken is held.
    fn poll_copy<R, W>(&mut self, cx: &mut Context<'_>, from: &mut R, to: &mut W, scratch: &mut [u8]) -> Poll<io::Result<usize>>
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
    use tokio::net::{TcpListener, TcpStream};

    /// Memory is copied.
    impl Socket for tokio::io::DuplexStream {
        fn socket(&self) -> Option<&TcpStream> {
            None
        }
    }

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

    async fn sockets() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (near, far) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
        (near.unwrap(), far.unwrap().0)
    }

    /// Whatever mixture of copying and pipes it takes, with a reader that falls behind and catches up.
    #[tokio::test]
    async fn many_bytes_between_sockets_arrive_in_order_both_ways_at_once() {
        let ((mut agent, near), (far, mut seller)) = (sockets().await, sockets().await);
        let relay = tokio::spawn(relay_streams(near, far));
        let sent: Vec<u8> = (0..6_000_000_u32).flat_map(u32::to_le_bytes).collect();
        let (up, down) = (sent.clone(), sent.clone());
        let (mut from_agent, mut to_agent) = agent.split();
        let (mut from_seller, mut to_seller) = seller.split();
        let slow = async |heard: &mut Vec<u8>, reader: &mut (dyn AsyncRead + Unpin)| {
            let mut buffer = vec![0; 300_000];
            for round in 0.. {
                if round % 64 == 0 {
                    tokio::time::sleep(std::time::Duration::from_millis(2)).await;
                }
                match reader.read(&mut buffer[..if round % 3 == 0 { 1000 } else { 300_000 }]).await.unwrap() {
                    0 => return,
                    read => heard.extend_from_slice(&buffer[..read]),
                }
            }
        };
        let (mut heard_up, mut heard_down) = (Vec::new(), Vec::new());
        tokio::join!(
            async { to_agent.write_all(&up).await.and(to_agent.shutdown().await).unwrap() },
            async { to_seller.write_all(&down).await.and(to_seller.shutdown().await).unwrap() },
            slow(&mut heard_up, &mut from_seller),
            slow(&mut heard_down, &mut from_agent),
        );
        assert!(heard_up == sent && heard_down == sent, "{} and {} of {}", heard_up.len(), heard_down.len(), sent.len());
        assert_eq!(relay.await.unwrap(), (24_000_000, 24_000_000));
        assert!(splice::used(), "no byte went through a pipe");
    }

    #[test]
    fn an_idle_tunnel_is_two_sockets_and_little_else() {
        let sockets = 2 * size_of::<TcpStream>();
        let relay = size_of::<Relay<TcpStream, TcpStream>>();
        assert!(relay <= sockets + 112, "{relay}, of it {sockets} sockets");
    }
}
