//! A seller's connection that is begun while the agent's TLS handshake is still under way: the first request to a host then
//! waits for the longer of two handshakes, not for both.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;

use super::connection::Connection;
use super::pool::Route;
use super::upstream::{Sender, Wanted};

/// The connection that is on its way to an agent's connection.
#[derive(Default)]
pub(super) struct Coming(Mutex<Option<oneshot::Receiver<Sender>>>);

impl Coming {
    fn expect(&self, sender: oneshot::Receiver<Sender>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(sender);
    }

    /// What to wait for before another is opened, once.
    pub(super) fn take(&self) -> Option<oneshot::Receiver<Sender>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Begins, unless a connection is there already. `many`: the agent will speak HTTP/2, which goes on as HTTP/2 if it can.
///
/// What fails here is tried once more by the request, which then says why.
pub(super) fn begin(inside: &Arc<Connection>, route: Route, many: bool) {
    let (conn, pool) = (inside.clone(), &inside.worker.pool);
    if many {
        if !pool.is_shared(&route) {
            tokio::spawn(async move { conn.worker.pool.shared(&conn.proxy.dialer, &route, Wanted::Known).await.is_ok() });
        }
        return;
    }
    if pool.has(&route) {
        return;
    }
    let (there, coming) = oneshot::channel();
    inside.coming.expect(coming);
    tokio::spawn(async move {
        let Ok(sender) = conn.proxy.dialer.http(&route.1, Wanted::Http1).await else { return };
        if let Err(sender) = there.send(sender) {
            // The agent is gone: somebody else's first request.
            conn.worker.pool.put(route, sender);
        }
    });
}
