//! The writer thread: group commit, retry after a failure, the head file.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::head::Head;
use super::sqlite::Session;
use super::{Change, Failed, Job, Opened};
use crate::ledger::{PurchaseState, State};

/// Jobs in one transaction at most.
const BATCH: usize = 1024;

/// Unsynced changes and an old head wait for this long when no hold comes.
const TIDY: Duration = Duration::from_secs(1);

/// Changes that nobody waits for wait this long for company.
const LINGER: Duration = Duration::from_millis(2);

/// Time between probes of a store that failed.
const PROBE: Duration = Duration::from_millis(200);

/// Runs until every sender is gone.
pub(super) fn run(opened: Opened, queue: &Receiver<Job>, state: &Mutex<State>, available: &AtomicBool, durable: &AtomicU64) {
    // Set on every way out, a panic included: without a writer nothing is held.
    let _closed = Closed(available);
    let session = match Session::new(&opened.conn) {
        Ok(session) => session,
        Err(error) => return tracing::error!(%error, "the ledger's writer cannot start"),
    };
    let Opened { head, sequence, .. } = opened;
    let mut writer = Writer { session, head, sequence, synced: sequence, durable, tidy_at: None, state, available, unwritten: Vec::new() };
    while let Some(batch) = writer.next_batch(queue) {
        writer.write(batch);
        writer.write_head(false);
    }
    writer.write(Vec::new());
    writer.write_head(true);
}

struct Closed<'a>(&'a AtomicBool);

impl Drop for Closed<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

struct Writer<'a> {
    session: Session<'a>,
    head: Head,
    /// Of the last transaction.
    sequence: u64,
    /// Of the last transaction that is certainly on the disk.
    synced: u64,
    /// The same, for whoever asks.
    durable: &'a AtomicU64,
    /// When what is written but not synced must be.
    tidy_at: Option<Instant>,
    state: &'a Mutex<State>,
    available: &'a AtomicBool,
    /// Changes of failed transactions that must still be written: what happened cannot be undone.
    unwritten: Vec<Change>,
}

impl Writer<'_> {
    /// Waits for work; an empty batch is a probe or a sync that is due. `None` when the ledger was dropped.
    fn next_batch(&self, queue: &Receiver<Job>) -> Option<Vec<Job>> {
        let first = if !self.available.load(Ordering::Acquire) {
            queue.recv_timeout(PROBE)
        } else if self.synced < self.sequence || self.head.seen() < self.synced {
            queue.recv_timeout(TIDY)
        } else {
            queue.recv().map_err(|_| RecvTimeoutError::Disconnected)
        };
        match first {
            Ok(first) => Some(gather(first, queue)),
            Err(RecvTimeoutError::Timeout) => Some(Vec::new()),
            Err(RecvTimeoutError::Disconnected) => None,
        }
    }

    fn write(&mut self, batch: Vec<Job>) {
        let was_available = self.available.load(Ordering::Acquire);
        let waited_for = batch.iter().any(|j| j.reply.is_some());
        if batch.is_empty() && was_available && self.synced == self.sequence {
            return;
        }
        let overdue = self.tidy_at.is_some_and(|at| at <= Instant::now());
        let sync = waited_for || overdue || batch.is_empty() || !was_available;
        let last = self.state().clock.last();
        let changes = self.unwritten.iter().chain(batch.iter().filter_map(|j| j.change.as_ref()));
        let ready = if was_available { Ok(()) } else { self.session.recover() };
        match ready.and_then(|()| self.session.write(changes, self.sequence + 1, last, sync)) {
            Ok(()) => self.written(batch, sync),
            Err(error) => {
                if was_available {
                    tracing::error!(%error, "the ledger cannot be written: nothing is paid until it can");
                }
                self.failed(batch);
            }
        }
    }

    /// Confirms in the books first, then answers: who is answered finds it confirmed.
    fn written(&mut self, batch: Vec<Job>, sync: bool) {
        self.sequence += 1;
        if sync {
            self.synced = self.sequence;
            self.durable.store(self.synced, Ordering::Release);
            self.tidy_at = None;
            crate::failpoint!("intent_durable");
        } else {
            self.tidy_at.get_or_insert_with(|| Instant::now() + TIDY);
        }
        if batch.iter().any(|j| matches!(&j.change, Some(Change::Status { purchase, .. }) if purchase.state == PurchaseState::Signed)) {
            crate::failpoint!("bytes_stored");
        }
        self.unwritten.clear();
        if !self.available.swap(true, Ordering::AcqRel) {
            tracing::info!("the ledger can be written again");
        }
        let mut state = self.state();
        for job in &batch {
            if let Some(Change::Hold { purchase, .. } | Change::Raise { purchase, .. }) = &job.change
                && let Some(live) = state.books.index().get_mut(&purchase.id)
            {
                live.writing = false;
            }
        }
        drop(state);
        answer(batch.into_iter().map(|j| j.reply), Ok(()));
    }

    /// Rolls the books back for what was waited for; keeps the rest for the next try.
    fn failed(&mut self, batch: Vec<Job>) {
        self.available.store(false, Ordering::Release);
        let mut state = self.state();
        let mut kept = Vec::new();
        let mut replies = Vec::with_capacity(batch.len());
        for Job { change, reply } in batch {
            match change {
                Some(Change::Hold { purchase, .. }) => state.books.undo_hold(&purchase.id),
                Some(Change::Raise { before, posting, .. }) => state.books.undo_raise(&before.id, &before, posting.as_ref()),
                Some(change) => kept.push(change),
                None => {}
            }
            replies.push(reply);
        }
        drop(state);
        self.unwritten.extend(kept);
        answer(replies, Err(Failed));
    }

    /// Only what is on the disk may stand in the head.
    fn write_head(&mut self, closing: bool) {
        if (closing || self.head.is_due(self.synced))
            && let Err(error) = self.head.write(self.synced)
        {
            tracing::warn!(%error, "cannot write ledger.head: a restored ledger would not be noticed");
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Everything that is queued behind `first`; if nobody waits for any of it, a moment longer for somebody who does.
fn gather(first: Job, queue: &Receiver<Job>) -> Vec<Job> {
    let until = Instant::now() + LINGER;
    let mut batch = vec![first];
    loop {
        batch.extend(queue.try_iter().take(BATCH - batch.len()));
        if batch.len() == BATCH || batch.iter().any(|j| j.reply.is_some()) {
            return batch;
        }
        match queue.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(next) => batch.push(next),
            Err(_) => return batch,
        }
    }
}

fn answer(replies: impl IntoIterator<Item = Option<super::Reply>>, result: Result<(), Failed>) {
    for reply in replies.into_iter().flatten() {
        // Who went away left an orphan; the books know it.
        let _ = reply.send(result);
    }
}
