//! Who is here: connections against their limit, paid tasks for drain and for `limits.identical`.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::payment::RequestKey;

/// Counts open connections.
pub(super) struct Connections {
    limit: usize,
    open: Arc<AtomicUsize>,
}

/// One connection's place; dropping it frees the place.
pub(super) struct Slot {
    counters: [Arc<AtomicUsize>; 2],
}

impl Drop for Slot {
    fn drop(&mut self) {
        for counter in &self.counters {
            counter.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

impl Connections {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, open: Arc::default() }
    }

    /// A place for a connection of the worker that counts in `worker`; `None` past `limits.connections`.
    pub(super) fn enter(&self, worker: Arc<AtomicUsize>) -> Option<Slot> {
        if self.open.fetch_add(1, Ordering::AcqRel) >= self.limit {
            self.open.fetch_sub(1, Ordering::AcqRel);
            return None;
        }
        worker.fetch_add(1, Ordering::AcqRel);
        Some(Slot { counters: [self.open.clone(), worker] })
    }

    /// The inside of a tunnel: it lives on when its CONNECT request is done, so it takes a place of its own.
    pub(super) fn tunnel(&self, worker: Arc<AtomicUsize>) -> Slot {
        self.open.fetch_add(1, Ordering::AcqRel);
        worker.fetch_add(1, Ordering::AcqRel);
        Slot { counters: [self.open.clone(), worker] }
    }
}

/// Paid tasks, by request key.
#[derive(Debug, Default)]
pub(super) struct Live {
    keys: Arc<Mutex<HashMap<RequestKey, usize>>>,
}

/// A paid task's entry.
pub(super) struct LiveTask {
    keys: Arc<Mutex<HashMap<RequestKey, usize>>>,
    key: RequestKey,
}

impl Live {
    /// Enters a task unless `identical` of the same key already run.
    pub(super) fn enter(&self, key: RequestKey, identical: usize) -> Option<LiveTask> {
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        let count = keys.entry(key).or_insert(0);
        if *count >= identical {
            return None;
        }
        *count += 1;
        Some(LiveTask { keys: self.keys.clone(), key })
    }

    /// Tasks that run.
    pub(super) fn count(&self) -> usize {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner).values().sum()
    }
}

impl Drop for LiveTask {
    fn drop(&mut self) {
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = keys.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                keys.remove(&self.key);
            }
        }
    }
}
