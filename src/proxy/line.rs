//! The connection that a challenge came on: the paid request may go out on it, and then the agent's next request.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use super::connection::Connection;
use super::pool::Route;
use super::upstream::Sender;

/// A seller may close a connection that has been idle for long without a word: a paid request never meets that.
const FRESH: Duration = Duration::from_millis(500);

/// Held for one purchase, so that no other request takes the connection meanwhile. Goes back to the agent's connection.
pub(super) struct Line {
    sender: Option<Sender>,
    /// Where the agent's next request looks for it. None: it is not to be kept.
    home: Option<(Weak<Connection>, Route)>,
}

impl Line {
    /// The connection that the last answer of `conn` came on.
    pub(super) fn of(conn: &Arc<Connection>, route: Route) -> Self {
        Self { sender: conn.unpin(&route), home: Some((Arc::downgrade(conn), route)) }
    }

    /// Where there is none to come back to: it is shared, or becomes something else.
    pub(super) const fn none() -> Self {
        Self { sender: None, home: None }
    }

    /// The connection, if nothing happened on it since the challenge of `since`, which was read to its end. It is not waited for:
    /// an early 402 to a large upload leaves it in the middle of something.
    pub(super) fn take(&mut self, since: Instant) -> Option<Sender> {
        self.sender.take_if(|sender| since.elapsed() < FRESH && sender.is_ready())
    }

    /// For the agent's next request, which waits until the answer on it was read.
    pub(super) fn put_back(&mut self, sender: Sender) {
        self.release();
        self.sender = Some(sender);
        self.release();
    }

    fn release(&mut self) {
        let Some(sender @ Sender::Http1(_)) = self.sender.take() else { return };
        if let Some((home, route)) = &self.home
            && let Some(conn) = home.upgrade()
        {
            conn.pin(route.clone(), sender);
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.release();
    }
}
