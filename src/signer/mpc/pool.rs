//! Presignatures that wait for a payment. In memory only, short-lived, each used once and never put back (S9).

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::lock;
use crate::mpc::Presignature;

/// The co-signer keeps its half for three minutes; ours goes a little earlier.
const LIFE: Duration = Duration::from_secs(175);

/// One that is ready: our half, and the co-signer's name for its own.
pub(super) struct Ready {
    pub(super) half: Presignature,
    pub(super) session: [u8; 16],
    born: Instant,
}

/// The pool of one connection.
pub(super) struct Pool {
    size: usize,
    /// The co-signer takes presignatures too.
    allowed: AtomicBool,
    wanted: AtomicUsize,
    ready: Mutex<VecDeque<Ready>>,
    /// Counts clearings: what was begun before one is not kept after it.
    generation: AtomicUsize,
    low: Notify,
}

impl Pool {
    pub(super) fn new(size: usize) -> Self {
        Self {
            size,
            allowed: AtomicBool::new(false),
            wanted: AtomicUsize::new(size),
            ready: Mutex::default(),
            generation: AtomicUsize::new(0),
            low: Notify::new(),
        }
    }

    pub(super) fn allow(&self, allowed: bool) {
        self.allowed.store(allowed && self.size > 0, Ordering::Release);
    }

    pub(super) fn len(&self) -> usize {
        lock(&self.ready).len()
    }

    /// Takes one out for good, the oldest that is young enough.
    pub(super) fn take(&self) -> Option<Ready> {
        if self.size == 0 {
            return None;
        }
        let mut ready = lock(&self.ready);
        let mut taken = ready.pop_front();
        while taken.as_ref().is_some_and(|r| r.born.elapsed() > LIFE) {
            taken = ready.pop_front();
        }
        if ready.len() <= self.size / 2 {
            self.low.notify_one();
        }
        taken
    }

    /// Drops all: another connection, a ban.
    pub(super) fn clear(&self) {
        self.generation.fetch_add(1, Ordering::AcqRel);
        let dropped = std::mem::take(&mut *lock(&self.ready));
        drop(dropped);
    }

    pub(super) fn want(&self, n: usize) {
        if self.size > 0 {
            self.wanted.store(n.clamp(self.size / 2, self.size), Ordering::Release);
            self.low.notify_one();
        }
    }

    /// Ready when the pool ran low.
    pub(super) async fn wanted(&self) {
        self.low.notified().await;
    }

    /// How many to make now, and for which generation.
    pub(super) fn missing(&self) -> (usize, usize) {
        let generation = self.generation.load(Ordering::Acquire);
        let mut ready = lock(&self.ready);
        while ready.front().is_some_and(|r| r.born.elapsed() > LIFE) {
            ready.pop_front();
        }
        let missing = self.wanted.load(Ordering::Acquire).saturating_sub(ready.len());
        (if self.allowed.load(Ordering::Acquire) { missing } else { 0 }, generation)
    }

    /// Keeps a new one, unless the pool was cleared since it was begun.
    pub(super) fn put(&self, half: Presignature, session: [u8; 16], generation: usize) {
        let mut ready = lock(&self.ready);
        if self.generation.load(Ordering::Acquire) == generation {
            ready.push_back(Ready { half, session, born: Instant::now() });
        }
    }
}
