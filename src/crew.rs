//! Threads for cryptography, at lower priority: five milliseconds of curve arithmetic must delay no proxied byte.
//!
//! A job runs to its end even if nobody waits for it any more. So a ban belongs *inside* the job that finds the reason for
//! it: a caller that was cancelled could not write it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{mpsc, oneshot};

type Job = Box<dyn FnOnce() + Send>;

/// A fixed number of threads behind a bounded queue. The threads end when the last handle is dropped and the queue is empty.
#[derive(Clone)]
pub struct Crew {
    jobs: mpsc::Sender<Job>,
}

/// A job without a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Gone {
    /// It panicked; its thread goes on.
    #[error("a cryptographic job panicked")]
    Panicked,
    /// The threads are gone.
    #[error("the cryptographic threads have stopped")]
    Stopped,
}

impl Crew {
    /// Starts `threads` threads named `name`; at most `queue` jobs wait before [`Self::run`] does.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub fn start(name: &str, threads: usize, queue: usize) -> std::io::Result<Self> {
        let (jobs, inbox) = mpsc::channel(queue.max(1));
        let inbox = Arc::new(Mutex::new(inbox));
        for _ in 0..threads.max(1) {
            let inbox = inbox.clone();
            std::thread::Builder::new().name(name.into()).spawn(move || work(&inbox))?;
        }
        Ok(Self { jobs })
    }

    /// One thread per core, 256 waiting jobs.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub fn per_core(name: &str) -> std::io::Result<Self> {
        Self::start(name, std::thread::available_parallelism().map_or(1, usize::from), 256)
    }

    /// Runs `job` on one of the threads and waits for its result. Dropped before the job was queued, it never runs;
    /// dropped later, it runs all the same.
    ///
    /// # Errors
    /// [`Gone`].
    pub async fn run<T, F>(&self, job: F) -> Result<T, Gone>
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let boxed: Job = Box::new(move || {
            // What the job owns is dropped with it: a half-finished protocol step leaves nothing that could be used again.
            let _ = reply.send(catch_unwind(AssertUnwindSafe(job)));
        });
        self.jobs.send(boxed).await.map_err(|_| Gone::Stopped)?;
        match answer.await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(_)) => Err(Gone::Panicked),
            Err(_) => Err(Gone::Stopped),
        }
    }
}

fn work(inbox: &Mutex<mpsc::Receiver<Job>>) {
    // Best effort: a container may not allow it, and signing works all the same.
    let _ = rustix::process::setpriority_process(Some(rustix::thread::gettid()), 5);
    loop {
        // Whoever holds the lock waits for the next job; the others wait for the lock.
        let job = inbox.lock().unwrap_or_else(PoisonError::into_inner).blocking_recv();
        match job {
            // The result may panic when it is dropped because nobody waits: that must not end the thread either.
            Some(job) => drop(catch_unwind(AssertUnwindSafe(job))),
            None => return,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::sync::Barrier;

    #[tokio::test]
    async fn a_panic_is_reported_and_the_thread_goes_on() {
        let crew = Crew::start("test", 1, 4).unwrap();
        assert_eq!(crew.run(|| panic!("on purpose")).await, Err::<(), _>(Gone::Panicked));
        assert_eq!(crew.run(|| 7).await, Ok(7));
    }

    #[tokio::test]
    async fn jobs_run_side_by_side() {
        let crew = Crew::start("test", 2, 4).unwrap();
        let barrier = Arc::new(Barrier::new(2));
        // Each waits for the other: one thread alone would never end.
        let (a, b) = (barrier.clone(), barrier);
        let (a, b) = tokio::join!(crew.run(move || a.wait().is_leader()), crew.run(move || b.wait().is_leader()));
        assert_ne!(a.unwrap(), b.unwrap());
    }

    #[tokio::test]
    async fn a_full_queue_makes_the_caller_wait_and_loses_nothing() {
        let crew = Crew::start("test", 1, 1).unwrap();
        let (open, gate) = std::sync::mpsc::channel::<()>();
        let held = tokio::spawn({
            let crew = crew.clone();
            async move { crew.run(move || gate.recv().is_ok()).await }
        });
        let many: Vec<_> = (0..8)
            .map(|n| {
                tokio::spawn({
                    let crew = crew.clone();
                    async move { crew.run(move || n).await }
                })
            })
            .collect();
        open.send(()).unwrap();
        assert_eq!(held.await.unwrap(), Ok(true));
        for (n, job) in many.into_iter().enumerate() {
            assert_eq!(job.await.unwrap(), Ok(n));
        }
    }

    #[tokio::test]
    async fn a_job_that_was_queued_runs_although_nobody_waits() {
        let crew = Crew::start("test", 1, 4).unwrap();
        let (open, gate) = std::sync::mpsc::channel::<()>();
        let (done, ran) = std::sync::mpsc::channel();
        let mut waiting = Box::pin(crew.run(move || {
            gate.recv().unwrap();
            done.send(()).unwrap();
        }));
        assert!(futures_pending(waiting.as_mut()).await);
        drop(waiting);
        open.send(()).unwrap();
        assert!(crew.run(move || ran.try_recv().is_ok()).await.unwrap());
    }

    /// Polls once; true if it has to wait.
    async fn futures_pending<F: Future>(mut future: std::pin::Pin<&mut F>) -> bool {
        std::future::poll_fn(|cx| std::task::Poll::Ready(future.as_mut().poll(cx).is_pending())).await
    }
}
