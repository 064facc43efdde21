//! The writer thread: group commit, retry after a failure, the head file.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::head::Head;
use super::queue::{Empty, Receiver};
use super::room::Room;
use super::sqlite::Session;
use super::{Change, Failed, Job, Opened};
use crate::ledger::{PurchaseState, State};

/// Unsynced changes and an old head wait for this long when no hold comes.
const TIDY: Duration = Duration::from_secs(1);

/// Time between probes of a store that failed.
const PROBE: Duration = Duration::from_millis(200);

/// Runs until every sender is gone.
pub(super) fn run(opened: Opened, queue: &Receiver, state: &Mutex<State>, available: &AtomicBool, durable: &AtomicU64) {
    // Set on every way out, a panic included: without a writer nothing is held.
    let _closed = Closed(available);
    let session = match Session::new(&opened.conn) {
        Ok(session) => session,
        Err(error) => return tracing::error!(%error, "the ledger's writer cannot start"),
    };
    let Opened { head, sequence, room, .. } = opened;
    let mut writer =
        Writer { session, head, room, sequence, synced: sequence, durable, tidy_at: None, state, available, unwritten: Vec::new() };
    while let Some(batch) = writer.next_batch(queue) {
        writer.write(batch);
        writer.write_head(false);
        writer.room.tend();
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
    room: Room,
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
    fn next_batch(&self, queue: &Receiver) -> Option<Vec<Job>> {
        let patience = if !self.available.load(Ordering::Acquire) {
            Some(PROBE)
        } else if self.synced < self.sequence || self.head.seen() < self.synced {
            Some(TIDY)
        } else {
            None
        };
        match queue.take(patience) {
            Ok(batch) => Some(batch),
            Err(Empty::Timeout) => Some(Vec::new()),
            Err(Empty::Closed) => None,
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
        let changes = latest(self.unwritten.iter().chain(batch.iter().filter_map(|j| j.change.as_ref())));
        let ready = if was_available { Ok(()) } else { self.session.recover() };
        match ready.and_then(|()| self.session.write(changes.into_iter(), self.sequence + 1, last, sync)) {
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

/// Without the steps of an exchange that a later one in the same transaction writes over: each says all of it.
fn latest<'a>(changes: impl Iterator<Item = &'a Change>) -> Vec<&'a Change> {
    let mut changes: Vec<_> = changes.collect();
    let mut later = HashSet::new();
    changes.reverse();
    changes.retain(|change| match change {
        Change::Status { num, pin, .. } => later.insert(*num) || pin.is_some(),
        Change::Hold { .. } | Change::Raise { .. } | Change::Void { .. } => true,
    });
    changes.reverse();
    changes
}

fn answer(replies: impl IntoIterator<Item = Option<super::Reply>>, result: Result<(), Failed>) {
    for reply in replies.into_iter().flatten() {
        // Who went away left an orphan; the books know it.
        let _ = reply.send(result);
    }
}
