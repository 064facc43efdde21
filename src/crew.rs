//! Threads for arithmetic. Five milliseconds of curve operations on an async worker delay every byte that passes it, so
//! they run here, at lower priority: the proxy's traffic goes first (S8, issue: unpaid p99 while signing).

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use tokio::sync::oneshot;

/// Jobs that may wait. A signature is worth 5 ms: a longer queue answers nobody in time.
const WAITING: usize = 512;

type Job = Box<dyn FnOnce() + Send>;

/// A fixed number of threads and a bounded queue. Cheap to clone; the threads end with the last clone.
#[derive(Clone)]
pub struct Crew {
    queue: Arc<Queue>,
}

struct Queue {
    state: Arc<(Mutex<State>, Condvar)>,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    closed: bool,
}

/// Nobody does the work: too much of it waits, or it panicked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too much work")]
pub struct Overloaded;

impl Crew {
    /// Starts `threads` threads, named after `name`.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub fn start(name: &str, threads: usize) -> std::io::Result<Self> {
        let state: Arc<(Mutex<State>, Condvar)> = Arc::default();
        let crew = Self { queue: Arc::new(Queue { state: Arc::clone(&state) }) };
        for _ in 0..threads.max(1) {
            let state = Arc::clone(&state);
            std::thread::Builder::new().name(name.to_owned()).spawn(move || work(&state))?;
        }
        Ok(crew)
    }

    /// One thread per core.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn per_core(name: &str) -> std::io::Result<Self> {
        Self::start(name, std::thread::available_parallelism().map_or(2, usize::from))
    }

    /// Runs `job` on one of the threads. It runs to its end even if nobody waits for it any more.
    ///
    /// # Errors
    /// [`Overloaded`].
    pub async fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> Result<T, Overloaded> {
        let (reply, answer) = oneshot::channel();
        {
            let (state, bell) = &*self.queue.state;
            let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
            if state.jobs.len() >= WAITING {
                return Err(Overloaded);
            }
            state.jobs.push_back(Box::new(move || drop(reply.send(job()))));
            bell.notify_one();
        }
        answer.await.map_err(|_| Overloaded)
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        self.state.0.lock().unwrap_or_else(PoisonError::into_inner).closed = true;
        self.state.1.notify_all();
    }
}

impl std::fmt::Debug for Crew {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Crew").finish_non_exhaustive()
    }
}

fn work((state, bell): &(Mutex<State>, Condvar)) {
    // Best effort: a container may not allow it, and the work is done all the same.
    let _ = rustix::process::setpriority_process(Some(rustix::thread::gettid()), 5);
    loop {
        let job = {
            let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
            loop {
                if let Some(job) = state.jobs.pop_front() {
                    break job;
                }
                if state.closed {
                    return;
                }
                state = bell.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
        };
        // A panic costs its own job, not the thread: the waiter hears that nothing came.
        if catch_unwind(AssertUnwindSafe(job)).is_err() {
            tracing::error!("a signing job panicked");
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test]
    async fn a_panic_costs_one_job_and_the_queue_is_bounded() {
        let crew = Crew::start("test", 1).unwrap();
        assert_eq!(crew.run(|| -> u8 { panic!("a job of this test") }).await, Err(Overloaded));
        assert_eq!(crew.run(|| 7).await, Ok(7));
        let (go, gate) = std::sync::mpsc::channel::<()>();
        let (started, running) = oneshot::channel();
        let busy = tokio::spawn({
            let crew = crew.clone();
            async move {
                let job = move || {
                    started.send(()).unwrap();
                    gate.recv().unwrap();
                };
                crew.run(job).await
            }
        });
        running.await.unwrap();
        // Queued, not awaited: a future is polled once by `now_or_never`'s plain equivalent.
        let waiting: Vec<_> = (0..WAITING)
            .map(|_| {
                let crew = crew.clone();
                tokio::spawn(async move { crew.run(|| ()).await })
            })
            .collect();
        tokio::task::yield_now().await;
        assert_eq!(crew.run(|| ()).await, Err(Overloaded));
        go.send(()).unwrap();
        busy.await.unwrap().unwrap();
        for job in waiting {
            job.await.unwrap().unwrap();
        }
    }
}
