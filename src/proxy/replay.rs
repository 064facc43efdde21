//! A request body that can be sent twice: kept while it streams, up to a bound (design §3 step 3).
//!
//! Past the bound the first send goes on and only the payment is lost. When a 402 arrives before the upload is through,
//! the body is taken over from the connection: the rest is read here, so that no early answer and no byte is lost.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::{Bytes, BytesMut};
use hyper::body::{Body, Frame, Incoming, SizeHint};

use super::body::{BodyError, Progress};

/// Chunks below this are copied together, so that a byte-wise sender cannot pin a read buffer per byte.
const COPY_BELOW: usize = 4096;

/// Memory for kept bodies, shared by the whole process (`upstream.replay_memory`).
#[derive(Debug)]
pub(super) struct Budget {
    left: AtomicU64,
}

impl Budget {
    pub(super) const fn new(bytes: u64) -> Self {
        Self { left: AtomicU64::new(bytes) }
    }

    fn take(&self, n: u64) -> bool {
        self.left.fetch_update(Ordering::AcqRel, Ordering::Acquire, |left| left.checked_sub(n)).is_ok()
    }

    fn give(&self, n: u64) {
        self.left.fetch_add(n, Ordering::AcqRel);
    }
}

/// A whole body, ready to be sent again, and the room it takes until it is gone.
#[derive(Default)]
pub(super) struct Upload {
    pub(super) chunks: VecDeque<Bytes>,
    _room: Option<Room>,
}

struct Room {
    budget: Arc<Budget>,
    bytes: u64,
}

impl Drop for Room {
    fn drop(&mut self) {
        self.budget.give(self.bytes);
    }
}

/// The kept body of one request.
pub(super) struct Replay {
    state: Arc<Mutex<State>>,
}

struct State {
    incoming: Option<Incoming>,
    chunks: VecDeque<Bytes>,
    small: BytesMut,
    kept: u64,
    limit: u64,
    budget: Arc<Budget>,
    /// False once the body outgrew its bound; nothing is kept then.
    repeatable: bool,
    ended: bool,
    /// The upstream connection no longer reads the body.
    taken_over: bool,
    progress: Arc<Progress>,
    upstream_waker: Option<Waker>,
}

/// Why a body cannot be repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotKept {
    /// Larger than the bound, or no memory left for it.
    TooLarge,
    /// It has not ended and stands still: a stream of the client.
    Open,
    /// Larger than `limits.body`.
    Over,
    /// The agent stopped sending.
    Broken,
}

impl Replay {
    /// Keeps `incoming` up to `limit` bytes; a body that announces more is not kept at all.
    pub(super) fn new(incoming: Incoming, limit: u64, budget: Arc<Budget>, progress: Arc<Progress>) -> Self {
        let repeatable = incoming.size_hint().lower() <= limit;
        let state = State {
            incoming: Some(incoming),
            chunks: VecDeque::new(),
            small: BytesMut::new(),
            kept: 0,
            limit,
            budget,
            repeatable,
            ended: false,
            taken_over: false,
            progress,
            upstream_waker: None,
        };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// Frames so far.
    pub(super) fn progress(&self) -> u64 {
        lock(&self.state).progress.seen()
    }

    /// True if nothing announced how long the body is.
    pub(super) fn is_open_ended(&self) -> bool {
        lock(&self.state).incoming.as_ref().is_some_and(|body| body.size_hint().exact().is_none())
    }

    /// The side that goes to the seller.
    pub(super) fn tee(&self) -> Tee {
        Tee { state: self.state.clone() }
    }

    /// Stops feeding the first connection and reads the agent's body to its end. Gives the body away.
    pub(super) async fn finish(&self) -> Result<Upload, NotKept> {
        let waker = {
            let mut state = lock(&self.state);
            state.taken_over = true;
            state.upstream_waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
        std::future::poll_fn(|cx| lock(&self.state).poll_rest(cx)).await
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Some(incoming) = self.incoming.as_mut() else { return Poll::Ready(None) };
        let frame = std::task::ready!(Pin::new(incoming).poll_frame(cx));
        let frame = self.progress.pass(frame);
        match &frame {
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    self.keep(data);
                }
                if self.incoming.as_ref().is_some_and(Body::is_end_stream) {
                    self.ended = true;
                }
            }
            Some(Err(_)) => self.forget(),
            None => self.ended = true,
        }
        Poll::Ready(frame)
    }

    fn keep(&mut self, data: &Bytes) {
        if !self.repeatable {
            return;
        }
        let n = data.len() as u64;
        if self.kept + n > self.limit || !self.budget.take(n) {
            self.forget();
            return;
        }
        self.kept += n;
        if data.len() < COPY_BELOW {
            self.small.extend_from_slice(data);
            if self.small.len() >= COPY_BELOW {
                self.seal();
            }
        } else {
            self.seal();
            self.chunks.push_back(data.clone());
        }
    }

    fn seal(&mut self) {
        if !self.small.is_empty() {
            let sealed = self.small.split().freeze();
            self.chunks.push_back(sealed);
        }
    }

    fn forget(&mut self) {
        self.repeatable = false;
        self.chunks.clear();
        self.small.clear();
        self.budget.give(std::mem::take(&mut self.kept));
    }

    fn poll_rest(&mut self, cx: &mut Context<'_>) -> Poll<Result<Upload, NotKept>> {
        loop {
            if !self.repeatable {
                return Poll::Ready(Err(NotKept::TooLarge));
            }
            if self.ended {
                self.seal();
                let room = Room { budget: self.budget.clone(), bytes: std::mem::take(&mut self.kept) };
                return Poll::Ready(Ok(Upload { chunks: std::mem::take(&mut self.chunks), _room: Some(room) }));
            }
            if let Some(Err(_)) = std::task::ready!(self.poll_next(cx)) {
                return Poll::Ready(Err(if self.progress.is_over() { NotKept::Over } else { NotKept::Broken }));
            }
        }
    }
}

impl Drop for State {
    fn drop(&mut self) {
        self.budget.give(self.kept);
    }
}

/// The seller-facing side of a kept body.
pub(super) struct Tee {
    state: Arc<Mutex<State>>,
}

impl Body for Tee {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let mut state = lock(&self.state);
        if state.taken_over {
            return Poll::Ready(Some(Err("the answer came before the upload was through".into())));
        }
        let poll = state.poll_next(cx);
        if poll.is_pending() {
            state.upstream_waker = Some(cx.waker().clone());
        }
        poll
    }

    fn is_end_stream(&self) -> bool {
        lock(&self.state).ended
    }

    fn size_hint(&self) -> SizeHint {
        lock(&self.state).incoming.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}
