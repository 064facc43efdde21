//! How far this process has gone on its way out, and what that means for listeners and connections.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// How long a connection that was made shortly before a stop may take to ask.
const FIRST_REQUEST: Duration = Duration::from_secs(2);

/// What listeners and connections do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Accept, and keep connections open.
    Serving,
    /// Another process accepts from the same sockets. Connections end with their next answer. May become `Serving` again.
    Yielding,
    /// The other process has everything: sockets are let go of, with what is queued for it.
    Left,
    /// Nobody follows: what is queued is served, then sockets are closed.
    Stopping,
}

impl Phase {
    /// True if there is no way back.
    pub(crate) const fn is_final(self) -> bool {
        matches!(self, Self::Left | Self::Stopping)
    }
}

/// The phase of the process, for its connections.
pub(super) struct Course {
    phase: watch::Sender<Phase>,
    /// The same as one load, for every answer.
    leaving: AtomicBool,
}

impl Course {
    pub(super) fn new() -> Self {
        Self { phase: watch::Sender::new(Phase::Serving), leaving: AtomicBool::new(false) }
    }

    pub(super) fn set(&self, phase: Phase) {
        self.leaving.store(phase != Phase::Serving, Ordering::Relaxed);
        self.phase.send_replace(phase);
    }

    pub(super) fn watch(&self) -> watch::Receiver<Phase> {
        self.phase.subscribe()
    }

    /// True if a connection should not be kept for another request.
    pub(super) fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::Relaxed)
    }
}

/// Ready when a connection has to end. One that has not asked yet gets a moment: its first request may be on its way, and
/// closing now would cut it off unread.
pub(super) async fn must_end(mut phase: watch::Receiver<Phase>, asked: Arc<AtomicBool>) {
    // Without a sender the process is ending.
    let _ = phase.wait_for(|p| p.is_final()).await;
    if !asked.load(Ordering::Relaxed) {
        tokio::time::sleep(FIRST_REQUEST).await;
    }
}

/// Accepts from one socket until its last phase.
pub(super) async fn accept(listener: TcpListener, mut phase: watch::Receiver<Phase>, mut enter: impl FnMut(TcpStream)) {
    loop {
        let now = *phase.borrow_and_update();
        if now.is_final() {
            break;
        }
        let accepted = tokio::select! {
            accepted = listener.accept(), if now == Phase::Serving => accepted,
            changed = phase.changed() => if changed.is_ok() { continue } else { return },
        };
        match accepted {
            Ok((stream, _)) => enter(stream),
            Err(error) => {
                // Out of file descriptors, or the peer left before it was accepted: neither may stop the worker.
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
    if *phase.borrow() == Phase::Stopping
        && let Ok(listener) = listener.into_std()
    {
        // Closing a SO_REUSEPORT socket resets the connections that the kernel has queued for it.
        while let Ok((stream, _)) = listener.accept() {
            if stream.set_nonblocking(true).is_ok()
                && let Ok(stream) = TcpStream::from_std(stream)
            {
                enter(stream);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// How many of three queued connections are accepted in `phase`, by a socket that nothing else is told.
    async fn accepted(phase: Phase) -> usize {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let queued: Vec<_> = (0..3).map(|_| std::net::TcpStream::connect(address).unwrap()).collect();
        let (_sender, receiver) = watch::channel(phase);
        let mut count = 0;
        let accepting = accept(listener, receiver, |_| count += 1);
        let _ = tokio::time::timeout(Duration::from_millis(100), accepting).await;
        drop(queued);
        count
    }

    #[tokio::test]
    async fn who_stops_serves_what_is_queued_and_who_yields_leaves_it_to_the_other() {
        assert_eq!(accepted(Phase::Serving).await, 3);
        assert_eq!(accepted(Phase::Stopping).await, 3);
        assert_eq!(accepted(Phase::Yielding).await, 0);
        assert_eq!(accepted(Phase::Left).await, 0);
    }

    #[tokio::test]
    async fn a_connection_that_has_not_asked_gets_a_moment_and_one_that_has_does_not() {
        let course = Course::new();
        course.set(Phase::Yielding);
        let end = |asked| must_end(course.watch(), Arc::new(AtomicBool::new(asked)));
        let brief = Duration::from_millis(100);
        assert!(tokio::time::timeout(brief, end(true)).await.is_err(), "who yields ends no connection");
        course.set(Phase::Stopping);
        assert!(tokio::time::timeout(brief, end(true)).await.is_ok());
        assert!(tokio::time::timeout(brief, end(false)).await.is_err());
        end(false).await;
    }
}
