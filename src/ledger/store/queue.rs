//! The way to the writer thread. Waking a thread costs as much as writing a row, so it is woken only for what is waited for.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::Job;

/// Jobs taken at once at most.
const BATCH: usize = 1024;

/// Changes that nobody waits for wait this long for company.
const LINGER: Duration = Duration::from_millis(2);

#[derive(Default)]
struct State {
    jobs: Vec<Job>,
    /// How many of them somebody waits for.
    awaited: usize,
    /// What the writer sleeps for.
    sleep: Sleep,
    /// One of the ends is gone: nothing more comes in.
    closed: bool,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Sleep {
    #[default]
    Not,
    /// Anything.
    Idle,
    /// What is waited for, or the end of its patience.
    Lingering,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    woken: Condvar,
}

/// The end that puts jobs in. The queue closes when it is dropped; what is in it is still taken.
pub(super) struct Sender(Arc<Shared>);

/// The end of the writer. Dropping it, in a panic too, drops what is queued: who waits hears that nobody will answer.
pub(super) struct Receiver(Arc<Shared>);

/// Why a look into the queue brought nothing.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Empty {
    /// Nothing came in time.
    Timeout,
    /// Nothing will come any more.
    Closed,
}

/// A queue with its two ends.
pub(super) fn queue() -> (Sender, Receiver) {
    let shared = Arc::<Shared>::default();
    (Sender(Arc::clone(&shared)), Receiver(shared))
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until it is woken, at most so long.
    fn wait<'a>(&'a self, mut state: MutexGuard<'a, State>, how: Sleep, patience: Option<Duration>) -> MutexGuard<'a, State> {
        state.sleep = how;
        let mut state = match patience {
            None => self.woken.wait(state).unwrap_or_else(PoisonError::into_inner),
            Some(time) => self.woken.wait_timeout(state, time).unwrap_or_else(PoisonError::into_inner).0,
        };
        state.sleep = Sleep::Not;
        state
    }

    fn close(&self) {
        self.lock().closed = true;
        self.woken.notify_one();
    }
}

impl State {
    fn is_urgent(&self) -> bool {
        self.awaited > 0 || self.jobs.len() >= BATCH || self.closed
    }

    /// The oldest jobs.
    fn take(&mut self) -> Vec<Job> {
        let rest = self.jobs.split_off(self.jobs.len().min(BATCH));
        let batch = std::mem::replace(&mut self.jobs, rest);
        self.awaited -= awaited(&batch);
        batch
    }
}

fn awaited(jobs: &[Job]) -> usize {
    jobs.iter().filter(|j| j.reply.is_some()).count()
}

impl Sender {
    /// False if the writer is gone.
    pub(super) fn send(&self, job: Job) -> bool {
        let mut state = self.0.lock();
        if state.closed {
            return false;
        }
        state.awaited += usize::from(job.reply.is_some());
        state.jobs.push(job);
        let wake = match state.sleep {
            Sleep::Not => false,
            Sleep::Idle => true,
            Sleep::Lingering => state.is_urgent(),
        };
        if wake {
            // One call is enough, however many jobs come before it is awake.
            state.sleep = Sleep::Not;
        }
        drop(state);
        if wake {
            self.0.woken.notify_one();
        }
        true
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl std::fmt::Debug for Sender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sender")
    }
}

impl Receiver {
    /// What is queued, once there is something, within `patience`. If nobody waits for any of it, it waits a moment longer for
    /// somebody who does.
    pub(super) fn take(&self, patience: Option<Duration>) -> Result<Vec<Job>, Empty> {
        let mut state = self.0.lock();
        let end = patience.map(|time| Instant::now() + time);
        while state.jobs.is_empty() {
            let left = end.map(|end| end.saturating_duration_since(Instant::now()));
            match left {
                _ if state.closed => return Err(Empty::Closed),
                Some(Duration::ZERO) => return Err(Empty::Timeout),
                left => state = self.0.wait(state, Sleep::Idle, left),
            }
        }
        let until = Instant::now() + LINGER;
        while !state.is_urgent() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            state = self.0.wait(state, Sleep::Lingering, Some(left));
        }
        Ok(state.take())
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.0.close();
        let left = self.0.lock().take();
        drop(left);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use tokio::sync::oneshot;

    fn silent() -> Job {
        Job { change: None, reply: None }
    }

    #[test]
    fn what_is_waited_for_is_taken_at_once_with_all_that_is_before_it() {
        let (sender, receiver) = queue();
        let (reply, mut answer) = oneshot::channel();
        assert!(sender.send(silent()) && sender.send(Job { change: None, reply: Some(reply) }) && sender.send(silent()));
        assert_eq!(receiver.take(None).unwrap().len(), 3);
        assert!(answer.try_recv().is_err(), "the batch was dropped unanswered");
        assert_eq!(receiver.take(Some(Duration::ZERO)).unwrap_err(), Empty::Timeout);
    }

    #[test]
    fn a_sleeping_writer_hears_of_every_kind_of_job() {
        for awaited in [false, true] {
            let (sender, receiver) = queue();
            let writer = std::thread::spawn(move || {
                while let Ok(batch) = receiver.take(None) {
                    if super::awaited(&batch) == usize::from(awaited) {
                        return;
                    }
                }
            });
            // Before it sleeps, while it sleeps, while it lingers: whatever the threads make of it.
            assert!(sender.send(silent()));
            let (reply, _answer) = oneshot::channel();
            assert!(!awaited || sender.send(Job { change: None, reply: Some(reply) }));
            writer.join().unwrap();
        }
    }

    #[test]
    fn no_more_than_a_batch_is_taken_and_the_rest_is_not_forgotten() {
        let (sender, receiver) = queue();
        let (reply, _answer) = oneshot::channel();
        for _ in 0..BATCH {
            sender.send(silent());
        }
        sender.send(Job { change: None, reply: Some(reply) });
        drop(sender);
        assert_eq!(receiver.take(None).unwrap().len(), BATCH);
        let rest = receiver.take(None).unwrap();
        assert!(rest.len() == 1 && rest[0].reply.is_some());
        assert_eq!(receiver.take(None).unwrap_err(), Empty::Closed);
    }

    #[test]
    fn when_the_writer_is_gone_who_waits_hears_of_it() {
        let (sender, receiver) = queue();
        let (reply, mut answer) = oneshot::channel();
        assert!(sender.send(Job { change: None, reply: Some(reply) }));
        drop(receiver);
        assert_eq!(answer.try_recv().unwrap_err(), oneshot::error::TryRecvError::Closed);
        assert!(!sender.send(silent()));
    }
}
