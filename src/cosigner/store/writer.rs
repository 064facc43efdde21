//! The writer thread: what came together is one transaction and one sync.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rusqlite::Connection;

/// Jobs in one transaction at most; as many may wait.
const BATCH: usize = 1024;

/// What nobody waits for is written this late at the latest.
const TIDY: Duration = Duration::from_secs(1);

/// Told after the commit whether it is on the disk.
type Reply = Box<dyn FnOnce(bool) + Send>;
type Work = Box<dyn FnOnce(&Connection) -> rusqlite::Result<Reply> + Send>;

struct Job {
    /// Somebody waits for it.
    eager: bool,
    work: Work,
}

pub(super) struct Writer {
    queue: Option<SyncSender<Job>>,
    available: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    pub(super) fn start(conn: Connection, head: Arc<AtomicU64>) -> std::io::Result<Self> {
        let (queue, jobs) = sync_channel(BATCH);
        let available = Arc::new(AtomicBool::new(true));
        let flag = Arc::clone(&available);
        let thread = std::thread::Builder::new().name("cosigner-store".into()).spawn(move || {
            let mut batch = Vec::new();
            while next_batch(&jobs, &mut batch) {
                let ok = write(&conn, std::mem::take(&mut batch), &head);
                flag.store(ok, Ordering::Release);
            }
            write(&conn, batch, &head);
        })?;
        Ok(Self { queue: Some(queue), available, thread: Some(thread) })
    }

    pub(super) fn available(&self) -> bool {
        self.available.load(Ordering::Acquire)
    }

    /// Queues `work`; `done` gets its value once that is durable, or `None` if it never will be.
    pub(super) fn submit<T: Send + 'static>(
        &self,
        eager: bool,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
        done: impl FnOnce(Option<T>) + Send + 'static,
    ) {
        let work: Work = Box::new(move |conn| {
            let value = work(conn)?;
            Ok(Box::new(move |durable| done(durable.then_some(value))))
        });
        if let Some(queue) = &self.queue {
            // A writer that is gone drops the job, and with it `done`: whoever waits sees that.
            let _ = queue.send(Job { eager, work });
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread of the co-signer's store panicked");
        }
    }
}

/// Collects jobs until one is waited for, the batch is full, or what is there is old enough. False at the end.
fn next_batch(jobs: &Receiver<Job>, batch: &mut Vec<Job>) -> bool {
    let Ok(first) = jobs.recv() else { return false };
    let until = Instant::now() + TIDY;
    let mut eager = first.eager;
    batch.push(first);
    while batch.len() < BATCH {
        let next = if eager {
            jobs.try_recv().map_err(|_| RecvTimeoutError::Timeout)
        } else {
            jobs.recv_timeout(until - Instant::now().min(until))
        };
        match next {
            Ok(job) => {
                eager |= job.eager;
                batch.push(job);
            }
            Err(RecvTimeoutError::Timeout) => return true,
            Err(RecvTimeoutError::Disconnected) => return false,
        }
    }
    true
}

/// Writes a batch and answers it; false if it failed as a whole.
fn write(conn: &Connection, batch: Vec<Job>, head: &AtomicU64) -> bool {
    if batch.is_empty() {
        return true;
    }
    match transaction(conn, batch) {
        Ok((replies, sequence)) => {
            crate::failpoint!("cosigner_store_durable");
            head.store(sequence, Ordering::Release);
            replies.into_iter().for_each(|reply| reply(true));
            true
        }
        Err(error) => {
            // The replies were dropped with the batch: nobody is told yes.
            tracing::error!(%error, "the co-signer's store cannot be written: nothing is signed until it can");
            let _ = conn.execute_batch("ROLLBACK");
            false
        }
    }
}

fn transaction(conn: &Connection, batch: Vec<Job>) -> rusqlite::Result<(Vec<Reply>, u64)> {
    conn.execute_batch("BEGIN IMMEDIATE")?;
    let mut replies = Vec::with_capacity(batch.len());
    for job in batch {
        replies.push((job.work)(conn)?);
    }
    let head: i64 = conn.prepare("UPDATE meta SET head = head + 1 RETURNING head")?.query_row([], |r| r.get(0))?;
    crate::failpoint!("cosigner_store_written");
    conn.execute_batch("COMMIT")?;
    Ok((replies, head.cast_unsigned()))
}
