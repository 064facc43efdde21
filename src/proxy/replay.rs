//! A request body that can be sent twice: kept while it streams, up to a bound (design §3 step 3).
//!
//! Small chunks and what memory has room for are kept there, the rest of a body in a file (`spill`). Past the bound the first send goes on and only the payment is lost. When a 402 arrives before the upload is through,
//! the body is taken over from the connection: the rest is read here, so that no early answer and no byte is lost.

use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use hyper::body::{Body, Frame, Incoming, SizeHint};

use super::body::{BodyError, Progress};
use super::spill::{self, Spill};
use super::upload::Upload;

/// Chunks below this are copied together, so that a byte-wise sender cannot pin a read buffer per byte.
const COPY_BELOW: usize = 4096;

/// Room for kept bodies, shared by the whole process: memory first (`upstream.replay_memory`), then disk (`upstream.replay_disk`).
#[derive(Debug)]
pub(super) struct Budget {
    memory: Left,
    disk: Left,
    folder: Arc<Path>,
}

#[derive(Debug)]
struct Left(AtomicU64);

impl Left {
    fn take(&self, n: u64) -> bool {
        self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, |left| left.checked_sub(n)).is_ok()
    }
}

impl Budget {
    /// So many bytes of each; files go to `folder`, which is made where there is disk to use.
    pub(super) fn open(memory: u64, disk: u64, folder: &Path) -> io::Result<Self> {
        if disk > 0 {
            spill::prepare(folder)?;
        }
        Ok(Self { memory: Left(AtomicU64::new(memory)), disk: Left(AtomicU64::new(disk)), folder: folder.into() })
    }
}

/// The room that one body takes until it is gone.
pub(super) struct Room {
    budget: Arc<Budget>,
    memory: u64,
    disk: u64,
}

impl Room {
    const fn none(budget: Arc<Budget>) -> Self {
        Self { budget, memory: 0, disk: 0 }
    }

    fn in_memory(&mut self, n: u64) -> bool {
        let taken = self.budget.memory.take(n);
        self.memory += if taken { n } else { 0 };
        taken
    }

    fn on_disk(&mut self, n: u64) -> bool {
        let taken = self.budget.disk.take(n);
        self.disk += if taken { n } else { 0 };
        taken
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.budget.memory.0.fetch_add(self.memory, Ordering::AcqRel);
        self.budget.disk.0.fetch_add(self.disk, Ordering::AcqRel);
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
    /// What came after memory ran out.
    spill: Option<Spill>,
    trailers: Option<HeaderMap>,
    room: Room,
    limit: u64,
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
    /// Larger than the bound, or no room left for it.
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
            spill: None,
            trailers: None,
            room: Room::none(budget),
            limit,
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
        if let Some(spill) = &mut self.spill
            && let Err(error) = std::task::ready!(spill.poll_room(cx))
        {
            self.give_up(&error);
        }
        let Some(incoming) = self.incoming.as_mut() else { return Poll::Ready(None) };
        let frame = std::task::ready!(Pin::new(incoming).poll_frame(cx));
        let frame = self.progress.pass(frame);
        match &frame {
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    self.keep(data);
                } else if let Some(trailers) = frame.trailers_ref().filter(|_| self.repeatable) {
                    self.trailers = Some(trailers.clone());
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
        if self.room.memory + self.room.disk + n > self.limit {
            return self.forget();
        }
        if self.spill.is_some() || !self.room.in_memory(n) {
            if !self.room.on_disk(n) {
                return self.forget();
            }
            let folder = &self.room.budget.folder;
            self.spill.get_or_insert_with(|| Spill::new(folder.clone())).push(data);
            return;
        }
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
        self.chunks = VecDeque::new();
        self.small = BytesMut::new();
        self.spill = None;
        self.trailers = None;
        self.room = Room::none(self.room.budget.clone());
    }

    fn give_up(&mut self, error: &io::Error) {
        tracing::warn!(%error, "a request body cannot be kept on disk, so the request cannot be paid for");
        self.forget();
    }

    fn poll_rest(&mut self, cx: &mut Context<'_>) -> Poll<Result<Upload, NotKept>> {
        loop {
            if !self.repeatable {
                return Poll::Ready(Err(NotKept::TooLarge));
            }
            if self.ended {
                self.seal();
                let tail = match &mut self.spill {
                    None => None,
                    Some(spill) => match std::task::ready!(spill.poll_whole(cx)) {
                        Ok(tail) => Some(tail),
                        Err(error) => {
                            self.give_up(&error);
                            continue;
                        }
                    },
                };
                let none = Room::none(self.room.budget.clone());
                return Poll::Ready(Ok(Upload {
                    chunks: std::mem::take(&mut self.chunks),
                    tail,
                    trailers: self.trailers.take(),
                    _room: Some(std::mem::replace(&mut self.room, none)),
                }));
            }
            if let Some(Err(_)) = std::task::ready!(self.poll_next(cx)) {
                return Poll::Ready(Err(if self.progress.is_over() { NotKept::Over } else { NotKept::Broken }));
            }
        }
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
