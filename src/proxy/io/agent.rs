//! An agent's byte stream: strict about what comes in, and aware of when an answer went out.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use super::super::exchange::{Seat, Watched};
use super::super::strict::{Fault, Scanner, Screen};
use super::aside::Aside;
use super::pen::Pen;
use crate::payment::Reason;

/// What hyper gets in place of a message that is refused, so that our answer comes in its turn, and is the last.
const REFUSED: &[u8] = b"GET / HTTP/1.1\r\nconnection: close\r\n\r\n";

/// How long, and for how many bytes, an agent may go on talking after its refusal: closed earlier, it would lose the answer.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: usize = 1 << 20;

/// The paid answers that hyper has taken whole but not yet handed to the kernel, and who waits for one.
///
/// "Fully written to its waiter" (M1.1) decides whether an identical request buys anew, so it means flushed, not encoded. And "its
/// waiter is gone" is true before the agent can see that its connection ended: who comes back then must find its purchase.
#[derive(Default)]
pub(in super::super) struct Unflushed {
    any: AtomicBool,
    /// hyper drops the socket before the bodies.
    closed: AtomicBool,
    /// More than one only if an agent pipelines.
    answers: Mutex<Vec<Seat>>,
    /// More than one only with HTTP/2; those that wait no longer go when the next one comes.
    waiting: Mutex<Vec<Watched>>,
    /// Which requests are refused, which opened a tunnel.
    pub(in super::super) wire: Wire,
}

impl Unflushed {
    /// A request of this connection waits here from now on.
    pub(in super::super) fn waits(&self, seat: &Seat) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.retain(|watched| watched.taken().is_some());
        waiting.push(seat.watched());
        drop(waiting);
        if self.closed.load(Ordering::SeqCst) {
            self.close();
        }
    }

    /// The last byte of this answer went into hyper's buffer.
    pub(in super::super) fn set(&self, seat: Seat) {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner).push(seat);
        self.any.store(true, Ordering::SeqCst);
        if self.closed.load(Ordering::SeqCst) {
            self.close();
        }
    }

    /// The connection ends; so does the wait of whoever waits, and of whatever comes now.
    fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        let waiting = std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner));
        waiting.iter().filter_map(Watched::taken).chain(self.take()).for_each(|seat| seat.leave());
    }

    fn take(&self) -> Vec<Seat> {
        if !self.any.swap(false, Ordering::SeqCst) {
            return Vec::new();
        }
        std::mem::take(&mut *self.answers.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What the stream of an HTTP/1 connection and those who answer its requests tell each other. Requests are counted, because
/// the stream may be some of them ahead.
#[derive(Default)]
pub(in super::super) struct Wire {
    served: AtomicU32,
    /// The request that is refused, from 1; 0 is none.
    refused: AtomicU32,
    too_large: AtomicBool,
    /// The last request whose answer is known, and whether it opened a tunnel.
    answered: AtomicU32,
    tunnel: AtomicBool,
    /// How names are written, and interim answers.
    pub(in super::super) aside: Aside,
}

impl Wire {
    /// A request came out of hyper. Some: it is, or its body is already known to be, not to be served.
    pub(in super::super) fn begin(&self) -> Option<Reason> {
        let before = self.served.fetch_add(1, Ordering::Relaxed);
        self.aside.begin(before.wrapping_add(1));
        self.refusal()
    }

    /// The request that is being answered, by count.
    pub(in super::super) fn serving(&self) -> u32 {
        self.served.load(Ordering::Relaxed)
    }

    /// Why the request that is being served is refused, which its body may be later than its head.
    pub(in super::super) fn refusal(&self) -> Option<Reason> {
        let refused = self.refused.load(Ordering::Acquire);
        if refused == 0 || refused != self.served.load(Ordering::Relaxed) {
            return None;
        }
        Some(if self.too_large.load(Ordering::Relaxed) { Reason::HeaderTooLarge } else { Reason::BadRequest })
    }

    /// The answer is known; `tunnel`: what follows on the connection is not HTTP/1.
    pub(in super::super) fn answered(&self, tunnel: bool) {
        self.tunnel.store(tunnel, Ordering::Relaxed);
        self.answered.store(self.served.load(Ordering::Relaxed), Ordering::Release);
        self.aside.answered();
    }

    fn refuse(&self, request: u32, fault: Fault) {
        self.too_large.store(fault == Fault::HeadTooLarge, Ordering::Relaxed);
        self.refused.store(request, Ordering::Release);
    }

    /// Whether `request` opened a tunnel, once that is known.
    fn tunnel(&self, request: u32) -> Option<bool> {
        (self.answered.load(Ordering::Acquire) == request).then(|| self.tunnel.load(Ordering::Relaxed))
    }
}

/// Towards an agent: judges what comes in, and tells when a paid answer was flushed, or that the connection died first.
pub(in super::super) struct AgentIo<T> {
    /// Before the stream, so that it is dropped before it.
    flushes: Flushes,
    inner: T,
    screen: Screen,
    pen: Pen,
    /// Whoever has an interim answer knows whom to wake.
    heard: bool,
    end: End,
}

/// The connection's hold on the answers that wait for a flush; without it their waiters are gone.
struct Flushes(Arc<Unflushed>);

/// How a connection with a refused message ends.
enum End {
    /// Nothing was refused.
    No,
    /// So much of the stand-in was handed out.
    Head(usize),
    /// The body of the last request breaks.
    Body,
    /// The answer is out; what the agent still says is thrown away.
    Lingering { until: Pin<Box<Sleep>>, left: usize },
}

/// Whether the bytes have a meaning.
enum Decided {
    /// They had, or there are none.
    Before,
    /// Those that waited have to be looked at.
    Now,
}

impl<T> AgentIo<T> {
    /// Lets every byte pass.
    pub(in super::super) fn new(inner: T, unflushed: Arc<Unflushed>) -> Self {
        Self { flushes: Flushes(unflushed), inner, screen: Screen::open(), pen: Pen::new(), heard: false, end: End::No }
    }

    /// Lets only HTTP/1 pass that any two readers divide in the same way. `header`: longest head.
    pub(in super::super) fn http1(mut self, header: usize) -> Self {
        self.screen = Screen::new(Scanner::requests(header));
        self.flushes.0.wire.aside.begins();
        self
    }

    /// The stream itself, after HTTP is over, and what was read of it too early.
    pub(in super::super) fn into_inner(self) -> (T, Vec<u8>) {
        (self.inner, self.screen.into_held())
    }

    /// If the request before asked for a tunnel: goes on once the answer is known. None: something waits for it.
    fn decide(&mut self) -> Option<Decided> {
        if !self.screen.is_undecided() {
            return Some(Decided::Before);
        }
        match self.flushes.0.wire.tunnel(self.screen.heads()) {
            None if self.screen.holds() => None,
            None => Some(Decided::Before),
            Some(tunnel) => {
                self.screen.decide(tunnel);
                self.note();
                Some(Decided::Now)
            }
        }
    }

    /// Tells those who answer what passed, and what did not.
    fn note(&mut self) {
        let mut names = self.screen.names().peekable();
        if names.peek().is_some() {
            self.flushes.0.wire.aside.passed(names);
        } else {
            drop(names);
        }
        let Some(fault) = self.screen.found() else { return };
        let wire = &self.flushes.0.wire;
        if self.screen.fault_in_head() {
            self.end = End::Head(0);
            wire.refuse(self.screen.heads().wrapping_add(1), fault);
        } else {
            self.end = End::Body;
            wire.refuse(self.screen.heads(), fault);
        }
        tracing::debug!(%fault, "an agent's message was refused");
    }

    /// All that was good has been read.
    fn refused(&mut self, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &mut self.end {
            End::Head(given) if *given < REFUSED.len() => {
                let n = buf.remaining().min(REFUSED.len() - *given);
                buf.put_slice(&REFUSED[*given..*given + n]);
                *given += n;
                Poll::Ready(Ok(()))
            }
            // Not the end of the stream: hyper would take it for a hang-up and drop the answers that are under way. It closes
            // after the last one.
            End::No | End::Head(_) | End::Lingering { .. } => Poll::Pending,
            End::Body => Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, Fault::Malformed))),
        }
    }
}

impl<T: AsyncRead + Unpin> AgentIo<T> {
    /// Reads on for a moment: a socket that is closed with unread bytes in it takes the answer back.
    fn linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if matches!(self.end, End::Head(_) | End::Body) {
            self.end = End::Lingering { until: Box::pin(tokio::time::sleep(LINGER)), left: LINGER_BYTES };
        }
        let End::Lingering { until, left } = &mut self.end else { return Poll::Ready(()) };
        let mut space = [0; 4096];
        loop {
            let mut buf = ReadBuf::new(&mut space);
            match Pin::new(&mut self.inner).poll_read(cx, &mut buf) {
                Poll::Ready(Ok(())) if !buf.filled().is_empty() && *left > buf.filled().len() => *left -= buf.filled().len(),
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => return until.as_mut().poll(cx),
            }
        }
    }
}

impl Drop for Flushes {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for AgentIo<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let me = &mut *self;
        if me.screen.is_open() {
            return Pin::new(&mut me.inner).poll_read(cx, buf);
        }
        if !me.heard {
            me.heard = true;
            me.flushes.0.wire.aside.wakes(cx.waker());
        }
        loop {
            if me.screen.give(buf) {
                return Poll::Ready(Ok(()));
            }
            match me.decide() {
                Some(Decided::Before) => {}
                Some(Decided::Now) => continue,
                None => return Poll::Pending,
            }
            if me.screen.found().is_some() {
                return me.refused(buf);
            }
            if me.screen.is_open() {
                return Pin::new(&mut me.inner).poll_read(cx, buf);
            }
            let before = buf.filled().len();
            ready!(Pin::new(&mut me.inner).poll_read(cx, buf))?;
            if buf.filled().len() == before {
                return Poll::Ready(Ok(()));
            }
            me.screen.admit(buf, before);
            me.note();
            if buf.filled().len() > before {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncWrite for AgentIo<T> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[io::IoSlice::new(buf)])
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let me = &mut *self;
        me.pen.is_out();
        ready!(me.pen.write_first(&mut me.inner, cx))?;
        if let Some(early) = me.flushes.0.wire.aside.early(true) {
            me.pen.put_first(early);
            ready!(me.pen.write_first(&mut me.inner, cx))?;
        }
        if self.screen.is_undecided() && self.screen.holds() && self.flushes.0.wire.tunnel(self.screen.heads()).is_some() {
            // Reading stopped without anybody to wake it: the answer that it waited for is this one.
            cx.waker().wake_by_ref();
        }
        let result = Pin::new(&mut self.inner).poll_flush(cx);
        if let Poll::Ready(Ok(())) = result {
            self.flushes.0.take().iter().for_each(Seat::serve);
        }
        result
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // All that is answered is out: hyper flushes before it shuts down.
        self.flushes.0.close();
        if !matches!(self.end, End::Lingering { .. }) {
            ready!(Pin::new(&mut self.inner).poll_shutdown(cx))?;
        }
        self.linger(cx).map(Ok)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bufs: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let me = &mut *self;
        let aside = &me.flushes.0.wire.aside;
        if me.pen.is_clean()
            && !me.pen.holds_first()
            && let Some(early) = aside.early(false)
        {
            me.pen.put_first(early);
        }
        me.pen.write(&mut me.inner, cx, bufs, || aside.names())
    }
}
