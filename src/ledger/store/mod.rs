//! The durable side: one writer thread behind a channel.
//!
//! It drains the channel, writes everything in one transaction, and answers: the more wait, the more share one sync. Who
//! holds or raises waits for the sync. What only follows an exchange (signed, sent, outcome, consumed) is written at once,
//! survives the end of the process, and is synced with the next hold or within a second (M1.5).
//!
//! From the moment a hold is in the channel, its fate is the writer's alone: it confirms or undoes it in the books, whether
//! or not somebody still waits for the answer.

mod head;
mod queue;
mod room;
mod row;
mod sqlite;
mod writer;

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use tokio::sync::oneshot;

use self::head::Head;
use self::room::Room;
use super::books::{Books, PinKey};
use super::posting::Posting;
use super::{OpenError, Purchase, State};
use crate::payment::Timestamp;

/// What is to be written about one purchase.
#[derive(Debug)]
pub(super) enum Change {
    /// A new purchase.
    Hold { num: i64, purchase: Arc<Purchase>, posting: Posting },
    /// New terms, and what they hold on top.
    Raise { num: i64, before: Arc<Purchase>, purchase: Arc<Purchase>, posting: Option<Posting> },
    /// State, signature, outcome, delivery; the pin if it is the first.
    Status { num: i64, purchase: Arc<Purchase>, pin: Option<PinKey> },
    /// Never signed: what goes back.
    Void { num: i64, purchase: Arc<Purchase>, postings: Vec<Posting> },
}

/// The store failed; nothing of the change was written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Failed;

/// Told when a change is on the disk, or will never be.
type Reply = oneshot::Sender<Result<(), Failed>>;

/// The other end of it: nothing comes only if the writer is gone.
pub(super) type Answer = oneshot::Receiver<Result<(), Failed>>;

/// One message to the writer. Without a change it asks for a sync alone.
#[derive(Debug)]
struct Job {
    change: Option<Change>,
    reply: Option<Reply>,
}

/// What was read at open.
#[derive(Default)]
pub(super) struct Loaded {
    pub(super) books: Books,
    pub(super) sequence: u64,
    pub(super) last: Timestamp,
}

/// An opened database whose writer does not run yet.
pub(super) struct Opened {
    conn: rusqlite::Connection,
    head: Head,
    room: Room,
    sequence: u64,
}

/// Opens the database of `dir`, refuses one that went back in time (M1.9), and reads it.
pub(super) fn open(dir: &Path) -> Result<(Opened, Loaded), OpenError> {
    let mut head = Head::open(dir).map_err(|e| sqlite::failed(&dir.join("ledger.head"))(e.into()))?;
    let path = sqlite::path(dir);
    let behind = |found| OpenError::Rollback { path: path.clone(), found, seen: head.seen() };
    if head.seen() > 0 && !path.exists() {
        return Err(behind(0));
    }
    let conn = sqlite::open(dir)?;
    let failed = sqlite::failed(&path);
    let loaded = sqlite::load(&conn).map_err(|e| failed(e.into()))?;
    let sequence = loaded.sequence;
    if sequence < head.seen() {
        return Err(behind(sequence));
    }
    head.write(sequence).and_then(|()| sqlite::sync_dir(dir)).map_err(|e| sqlite::failed(head.path())(e.into()))?;
    Ok((Opened { conn, head, room: Room::new(dir), sequence }, loaded))
}

/// All purchases of `dir`, read beside a running writer.
pub(super) fn list(dir: &Path) -> Result<Vec<Purchase>, OpenError> {
    let conn = sqlite::open_to_read(dir)?;
    sqlite::all_purchases(&conn).map_err(|e| sqlite::failed(&sqlite::path(dir))(e.into()))
}

/// The way to the writer. Dropping it writes what is queued and ends the thread.
#[derive(Debug)]
pub(super) struct Store {
    jobs: Option<queue::Sender>,
    available: Arc<AtomicBool>,
    head: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Store {
    /// Starts the writer thread.
    pub(super) fn start(opened: Opened, state: Arc<Mutex<State>>) -> std::io::Result<Self> {
        let (jobs, queue) = queue::queue();
        let available = Arc::new(AtomicBool::new(true));
        let (flag, head) = (Arc::clone(&available), Arc::new(AtomicU64::new(opened.sequence)));
        let synced = Arc::clone(&head);
        let run = move || writer::run(opened, &queue, &state, &flag, &synced);
        let thread = std::thread::Builder::new().name("ledger-writer".into()).spawn(run)?;
        Ok(Self { jobs: Some(jobs), available, head, thread: Some(thread) })
    }

    /// True while the last write succeeded.
    pub(super) fn available(&self) -> bool {
        self.available.load(Ordering::Acquire)
    }

    /// The sequence of the last transaction that is certainly on the disk.
    pub(super) fn head(&self) -> u64 {
        self.head.load(Ordering::Acquire)
    }

    /// Queues a change that nobody waits for.
    pub(super) fn queue(&self, change: Change) {
        // Without a writer there is nobody to tell: `available` is false and nothing more is paid.
        let _ = self.send(Job { change: Some(change), reply: None });
    }

    /// Queues a change, or a sync alone, that is waited for; `None` if there is no writer any more.
    pub(super) fn submit(&self, change: Option<Change>) -> Option<Answer> {
        let (reply, answer) = oneshot::channel();
        self.send(Job { change, reply: Some(reply) }).then_some(answer)
    }

    fn send(&self, job: Job) -> bool {
        self.jobs.as_ref().is_some_and(|jobs| jobs.send(job))
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
