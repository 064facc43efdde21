//! A seller's byte stream: strict about what comes in, and patient with a seller that answers without reading.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use http::header::UPGRADE;
use http::{Method, Request};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::super::strict::{Asked, Fault, Names, Scanner, Screen};
use super::aside::{Early, Manner};
use super::pen::Pen;
use super::settings::Settings;

/// What those who send requests and the stream of an HTTP/1 connection tell each other.
#[derive(Default)]
pub(in super::super) struct Ask {
    /// 0: nothing was asked.
    next: AtomicU8,
    broken: AtomicBool,
    /// There are names for the head that goes out next.
    spelled: AtomicBool,
    told: Mutex<Told>,
}

/// What goes beside the messages.
#[derive(Default)]
struct Told {
    request: Option<Names>,
    answer: Option<Names>,
    early: Option<Early>,
}

impl Ask {
    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request is about to be sent. False: the connection must not be used any more.
    pub(in super::super) fn expect<B>(&self, request: &Request<B>, manner: Manner) -> bool {
        let names = manner.names.filter(Names::has_capitals);
        let spelled = names.is_some();
        *self.told() = Told { request: names, answer: None, early: manner.early };
        self.spelled.store(spelled, Ordering::Release);
        let asked = match *request.method() {
            Method::HEAD => 2,
            _ if request.headers().contains_key(UPGRADE) => 3,
            _ => 1,
        };
        self.next.store(asked, Ordering::Release);
        !self.is_broken()
    }

    /// True if the seller sent something that must not be taken for an answer.
    pub(in super::super) fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Acquire)
    }

    /// How the names of the answer's head are written.
    pub(in super::super) fn answered(&self) -> Option<Names> {
        self.told().answer.take()
    }

    /// For the head that goes out now.
    fn names(&self) -> Option<Names> {
        if self.spelled.load(Ordering::Acquire) {
            self.spelled.store(false, Ordering::Relaxed);
            return self.told().request.take();
        }
        None
    }

    /// Tells what passed beside the messages.
    fn passed(&self, screen: &mut Screen) {
        if let Some(early) = screen.early() {
            // Told outside of the lock: whoever hears it has one of its own.
            let listener = self.told().early.clone();
            if let Some(listener) = listener {
                listener.tell(&early);
            }
        }
        if let Some(names) = screen.names().next_back() {
            let mut told = self.told();
            (told.answer, told.early) = (names, None);
        }
    }

    fn take(&self) -> Option<Asked> {
        match self.next.swap(0, Ordering::AcqRel) {
            0 => None,
            2 => Some(Asked::Head),
            3 => Some(Asked::Upgrade),
            _ => Some(Asked::Plain),
        }
    }
}

/// Towards a seller: the response wins over a write error.
///
/// A seller may answer 402 to a large upload and close without reading it. hyper reports the failed write and drops the
/// answer that lies in the receive buffer, 3 of 3 at 10 MiB. So a failed write only stops writing; what the seller said,
/// or the end of the stream, decides (design §3, "early 402").
pub(in super::super) struct SellerIo<T> {
    inner: T,
    write_failed: bool,
    screen: Screen,
    pen: Pen,
    ask: Arc<Ask>,
    /// Until it is known what a seller of HTTP/2 can do.
    settings: Option<Box<Settings>>,
}

impl<T> SellerIo<T> {
    /// Lets every byte pass.
    pub(in super::super) fn new(inner: T) -> Self {
        Self { inner, write_failed: false, screen: Screen::open(), pen: Pen::new(), ask: Arc::default(), settings: None }
    }

    /// Looks at what a seller of HTTP/2 says first.
    pub(in super::super) fn settings(mut self, settings: Settings) -> Self {
        self.settings = Some(Box::new(settings));
        self
    }

    /// Lets only answers pass that were asked for and that any two readers divide in the same way. `header`: longest head.
    pub(in super::super) fn http1(inner: T, ask: Arc<Ask>, header: usize) -> Self {
        Self { inner, write_failed: false, screen: Screen::new(Scanner::answers(header)), pen: Pen::new(), ask, settings: None }
    }

    /// The stream itself, after HTTP is over, and what was read of it too early.
    pub(in super::super) fn into_inner(self) -> (T, Vec<u8>) {
        (self.inner, self.screen.into_held())
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
        let me = &mut *self;
        loop {
            if me.screen.give(buf) {
                return Poll::Ready(Ok(()));
            }
            match me.screen.found() {
                None if me.screen.is_open() => {
                    let before = buf.filled().len();
                    ready!(Pin::new(&mut me.inner).poll_read(cx, buf))?;
                    me.settings.take_if(|settings| settings.is_told(&buf.filled()[before..]));
                    return Poll::Ready(Ok(()));
                }
                None => {}
                // As if the seller had closed: whoever comes next has not been answered, and may go elsewhere.
                Some(Fault::Unasked) => return Poll::Ready(Ok(())),
                Some(fault) => return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, fault))),
            }
            let before = buf.filled().len();
            ready!(Pin::new(&mut me.inner).poll_read(cx, buf))?;
            if buf.filled().len() == before {
                return Poll::Ready(Ok(()));
            }
            if me.screen.is_idle()
                && let Some(asked) = me.ask.take()
            {
                me.screen.expect(asked);
            }
            me.screen.admit(buf, before);
            me.ask.passed(&mut me.screen);
            if let Some(fault) = me.screen.found() {
                tracing::debug!(%fault, "a seller's connection was given up");
                me.ask.broken.store(true, Ordering::Release);
            }
            if buf.filled().len() > before {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for SellerIo<T> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[io::IoSlice::new(buf)])
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.write_failed {
            return Poll::Pending;
        }
        self.pen.is_out();
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
        let me = &mut *self;
        let ask = &me.ask;
        let result = me.pen.write(&mut me.inner, cx, bufs, || ask.names());
        me.held_back(result)
    }
}
