//! One paid exchange: an answer that is produced once and read by whoever waits for it.
//!
//! The paid task writes, an agent's connection reads through a bounded window. When the agent hangs up the writer goes
//! on to the keep limit, so that an identical request can attach and read from the start (M1.1, M1.6).

mod presence;
mod seat;
mod waiter;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

use bytes::Bytes;
use http::response::Parts;
use http::{HeaderMap, StatusCode};
use hyper::upgrade::OnUpgrade;

pub(super) use presence::Presence;
pub(super) use seat::{Seat, Watched};
pub(super) use waiter::{PaidBody, Waiting};

use super::strict::Names;
use crate::payment::{PurchaseId, Reason};
use crate::policy::Refusal;

/// Unread bytes the writer may be ahead of its reader.
const WINDOW: usize = 256 * 1024;

/// Largest answer that is kept for an agent that hung up.
pub(super) const KEEP_LIMIT: usize = 4 * 1024 * 1024;

/// Why an exchange has no answer.
#[derive(Clone, Debug)]
pub(super) enum Failure {
    /// Not paid, and why.
    Refused(Refusal),
    /// Paid or not: no answer came.
    Broken(Reason),
}

/// An answer's head, cloneable.
#[derive(Clone, Debug)]
pub(super) struct Head {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    /// How the seller wrote the names.
    pub(super) names: Option<Names>,
}

impl From<&Parts> for Head {
    fn from(parts: &Parts) -> Self {
        Self { status: parts.status, headers: parts.headers.clone(), names: None }
    }
}

/// What the waiter gets first.
enum First {
    Head(Head),
    Failed(Failure),
    /// Another exchange has the answer (adoption).
    Elsewhere(Seat),
}

/// How the body ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Complete,
    Cut,
}

/// Whether somebody reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waiter {
    Live,
    Gone,
    /// The whole answer was flushed to it, or it was sent elsewhere.
    Served,
    /// Nobody can attach any more.
    Retired,
}

#[derive(Default)]
struct Wakers {
    reader: Option<Waker>,
    writer: Option<Waker>,
}

struct State {
    first: Option<First>,
    /// Chunks from `start` on; those before were read and dropped.
    chunks: Vec<Bytes>,
    start: usize,
    bytes: usize,
    next: usize,
    unread: usize,
    trailers: Option<HeaderMap>,
    /// The seller's end of a connection that became something else.
    upgrade: Option<OnUpgrade>,
    end: Option<End>,
    waiter: Waiter,
    /// How often the waiter's place was taken again.
    seat: u32,
    wakers: Wakers,
}

type Tell = Arc<dyn Fn() + Send + Sync>;

/// See the module documentation.
pub(super) struct Exchange {
    state: Mutex<State>,
    /// Tells the ledger at once that the purchase is an orphan again.
    on_gone: Mutex<Option<Tell>>,
}

impl std::fmt::Debug for Exchange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Exchange")
    }
}

impl Exchange {
    /// A new exchange with a live waiter.
    pub(super) fn new() -> Arc<Self> {
        let state = State {
            first: None,
            chunks: Vec::new(),
            start: 0,
            bytes: 0,
            next: 0,
            unread: 0,
            trailers: None,
            upgrade: None,
            end: None,
            waiter: Waiter::Live,
            seat: 0,
            wakers: Wakers::default(),
        };
        Arc::new(Self { state: Mutex::new(state), on_gone: Mutex::default() })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<R>(&self, f: impl FnOnce(&mut State) -> R) -> R {
        let mut state = self.lock();
        let result = f(&mut state);
        let Wakers { reader, writer } = std::mem::take(&mut state.wakers);
        drop(state);
        reader.into_iter().chain(writer).for_each(Waker::wake);
        result
    }

    /// True while an agent waits for this answer.
    pub(super) fn wanted(&self) -> bool {
        self.lock().waiter == Waiter::Live
    }

    pub(super) fn answer(&self, head: Head) {
        self.change(|s| s.first = Some(First::Head(head)));
    }

    /// After a 101: its connection goes to the waiter with the head. To be said before the head.
    pub(super) fn upgraded(&self, seller: OnUpgrade) {
        self.change(|s| s.upgrade = Some(seller));
    }

    pub(super) fn fail(&self, failure: Failure) {
        self.change(|s| {
            s.first = Some(First::Failed(failure));
            s.end = Some(End::Cut);
        });
    }

    /// Adds a chunk once there is room. False: nobody reads and it is too large to keep, so stop reading.
    pub(super) async fn push(&self, chunk: Bytes) -> bool {
        std::future::poll_fn(|cx| {
            let mut s = self.lock();
            if s.waiter == Waiter::Live && s.unread > WINDOW {
                s.wakers.writer = Some(cx.waker().clone());
                return Poll::Pending;
            }
            Poll::Ready(())
        })
        .await;
        self.change(|s| {
            s.bytes += chunk.len();
            s.unread += chunk.len();
            s.chunks.push(chunk);
            if s.bytes > KEEP_LIMIT {
                s.forget_read();
            }
            s.waiter == Waiter::Live || s.bytes <= KEEP_LIMIT
        })
    }

    pub(super) fn trailers(&self, trailers: HeaderMap) {
        self.change(|s| s.trailers = Some(trailers));
    }

    pub(super) fn finish(&self, complete: bool) {
        self.change(|s| s.end = Some(if complete { End::Complete } else { End::Cut }));
    }

    /// Waits until the waiter was served or left. True: served.
    pub(super) async fn settled(&self) -> bool {
        std::future::poll_fn(|cx| {
            let mut s = self.lock();
            match s.waiter {
                Waiter::Live => {
                    s.wakers.writer = Some(cx.waker().clone());
                    Poll::Pending
                }
                Waiter::Gone | Waiter::Retired => Poll::Ready(false),
                Waiter::Served => Poll::Ready(true),
            }
        })
        .await
    }

    /// Runs `f`, and nothing that was said here before, whenever the waiter goes away; now if it already has.
    fn when_gone(&self, f: impl Fn() + Send + Sync + 'static) {
        *self.on_gone.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(f));
        if self.lock().waiter == Waiter::Gone {
            self.tell();
        }
    }

    fn tell(&self) {
        let tell = self.on_gone.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(tell) = tell {
            tell();
        }
    }

    /// Closes the exchange to further waiters; false if one attached in the meantime.
    pub(super) fn retire(&self) -> bool {
        self.change(|s| {
            let alone = s.waiter == Waiter::Gone;
            if alone {
                s.waiter = Waiter::Retired;
            }
            alone
        })
    }

    /// The complete answer, if every byte of it is still here.
    pub(super) fn whole(&self) -> Option<(Head, Vec<Bytes>)> {
        let s = self.lock();
        match (&s.first, s.end, s.start) {
            (Some(First::Head(head)), Some(End::Complete), 0) if !s.switched() => Some((head.clone(), s.chunks.clone())),
            _ => None,
        }
    }
}

impl State {
    /// True after a 101: there is nothing that could be kept or read a second time.
    fn switched(&self) -> bool {
        matches!(&self.first, Some(First::Head(head)) if head.status == StatusCode::SWITCHING_PROTOCOLS)
    }

    /// Where the waiter was sent.
    fn elsewhere(&self) -> Option<Seat> {
        match &self.first {
            Some(First::Elsewhere(other)) => Some(other.clone()),
            _ => None,
        }
    }

    /// Drops what the reader has had; from then on nobody can attach.
    fn forget_read(&mut self) {
        if self.waiter == Waiter::Live && self.next > self.start {
            self.chunks.drain(..self.next - self.start);
            self.start = self.next;
        }
    }
}

/// The exchanges that run, by purchase: where an identical request attaches.
#[derive(Debug, Default)]
pub(super) struct Exchanges {
    running: Mutex<HashMap<PurchaseId, Arc<Exchange>>>,
}

impl Exchanges {
    fn insert(&self, id: PurchaseId, exchange: Arc<Exchange>) {
        self.running.lock().unwrap_or_else(PoisonError::into_inner).insert(id, exchange);
    }

    /// Unless another has taken the purchase over since.
    fn remove(&self, id: &PurchaseId, exchange: &Arc<Exchange>) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if running.get(id).is_some_and(|found| Arc::ptr_eq(found, exchange)) {
            running.remove(id);
        }
    }

    /// The place at the running exchange of `id`, if that can still be read from the start.
    pub(super) fn attach(&self, id: &PurchaseId) -> Option<Seat> {
        let exchange = self.running.lock().unwrap_or_else(PoisonError::into_inner).get(id).cloned()?;
        exchange.attach()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::io::Unflushed;
    use super::*;
    use http::header::CONTENT_LENGTH;
    use http_body_util::BodyExt;

    fn head() -> Head {
        Head { status: StatusCode::OK, headers: HeaderMap::new(), names: None }
    }

    fn run<T>(f: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(f)
    }

    #[test]
    fn an_answer_is_consumed_only_when_it_was_flushed() {
        run(async {
            let exchange = Exchange::new();
            exchange.answer(head());
            assert!(exchange.push(Bytes::from_static(b"hello")).await);
            exchange.finish(true);
            let unflushed = Arc::new(Unflushed::default());
            let response = Waiting::new(Seat::first(exchange.clone())).response(&unflushed).await.unwrap();
            let bytes = response.into_body().collect().await.unwrap().to_bytes();
            assert_eq!(&bytes[..], b"hello");
            assert!(exchange.wanted(), "read but not flushed");
            drop(super::super::io::AgentIo::new(tokio::io::empty(), unflushed));
            assert!(!exchange.settled().await, "the connection died before the flush");
        });
    }

    #[test]
    fn an_answer_whose_connection_died_before_it_was_begun_has_no_waiter() {
        run(async {
            let exchange = Exchange::new();
            exchange.answer(Head { status: StatusCode::NO_CONTENT, headers: HeaderMap::new(), names: None });
            let unflushed = Arc::new(Unflushed::default());
            let response = Waiting::new(Seat::first(exchange.clone())).response(&unflushed).await.unwrap();
            let io = super::super::io::AgentIo::new(tokio::io::empty(), unflushed);
            drop(io);
            drop(response);
            assert!(!exchange.wanted());
        });
    }

    #[test]
    fn what_the_head_announced_is_the_whole_answer_even_before_the_writer_says_so() {
        run(async {
            for (status, length, chunks) in
                [(200, Some("3"), &["ab", "c"][..]), (204, None, &[]), (304, Some("9"), &[]), (200, Some("0"), &[])]
            {
                let exchange = Exchange::new();
                let mut head = Head { status: StatusCode::from_u16(status).unwrap(), headers: HeaderMap::new(), names: None };
                length.map(|l| head.headers.insert(CONTENT_LENGTH, l.parse().unwrap()));
                exchange.answer(head);
                let unflushed = Arc::new(Unflushed::default());
                let mut body = Waiting::new(Seat::first(exchange.clone())).response(&unflushed).await.unwrap().into_body();
                for chunk in chunks {
                    assert!(exchange.push(Bytes::from_static(chunk.as_bytes())).await);
                    assert!(body.frame().await.is_some());
                }
                drop(body);
                assert!(exchange.wanted(), "{status}: hyper has it all");
                let mut io = super::super::io::AgentIo::new(tokio::io::empty(), unflushed);
                tokio::io::AsyncWriteExt::flush(&mut io).await.unwrap();
                exchange.finish(true);
                assert!(exchange.settled().await, "{status}: delivered");
            }
        });
    }

    #[test]
    fn m1_1_an_identical_request_attaches_and_reads_from_the_start() {
        run(async {
            let exchanges = Exchanges::default();
            let id = PurchaseId::from_bytes([1; 16]);
            let exchange = Exchange::new();
            exchanges.insert(id, exchange.clone());
            assert!(exchanges.attach(&id).is_none(), "somebody waits");
            drop(Waiting::new(Seat::first(exchange.clone())));
            exchange.answer(head());
            assert!(exchange.push(Bytes::from_static(b"a")).await);
            let seat = exchanges.attach(&id).unwrap();
            assert!(exchanges.attach(&id).is_none(), "one to one");
            exchange.push(Bytes::from_static(b"b")).await;
            exchange.finish(true);
            let response = Waiting::new(seat).response(&Arc::default()).await.unwrap();
            assert_eq!(&response.into_body().collect().await.unwrap().to_bytes()[..], b"ab");
        });
    }

    #[test]
    fn m1_1_who_took_a_purchase_over_is_not_forgotten_with_who_had_it() {
        let (exchanges, id) = (Exchanges::default(), PurchaseId::from_bytes([1; 16]));
        let (first, second) = (Exchange::new(), Exchange::new());
        exchanges.insert(id, first.clone());
        exchanges.insert(id, second.clone());
        Seat::first(second.clone()).leave();
        exchanges.remove(&id, &first);
        assert!(exchanges.attach(&id).is_some());
        exchanges.remove(&id, &second);
        assert!(exchanges.attach(&id).is_none());
    }

    #[test]
    fn m1_6_past_the_keep_limit_nobody_reads_on() {
        run(async {
            let exchange = Exchange::new();
            drop(Waiting::new(Seat::first(exchange.clone())));
            let chunk = Bytes::from(vec![0; KEEP_LIMIT / 2 + 1]);
            assert!(exchange.push(chunk.clone()).await);
            assert!(!exchange.push(chunk).await);
        });
    }
}
