//! A seller's connection that is begun while the agent's TLS handshake is still under way: the first request to a host then
//! waits for the longer of two handshakes, not for both.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;

use super::connection::Connection;
use super::pool::Route;
use super::upstream::{Sender, Wanted};
use crate::payment::Reason;
use crate::policy::Host;

/// The connection that is on its way to an agent's connection.
#[derive(Default)]
pub(super) struct Coming(Mutex<Option<oneshot::Receiver<Reached>>>);

type Reached = Result<Sender, Reason>;

impl Coming {
    fn expect(&self, sender: oneshot::Receiver<Reached>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(sender);
    }

    /// What to wait for before another is opened, once.
    pub(super) fn take(&self) -> Option<oneshot::Receiver<Reached>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Waits for it. `None`: there is nothing, or what there was is out of date, and a new one may fare better.
///
/// # Errors
/// Why it failed just now: the same once more would only take as long again.
pub(super) async fn arrival(mut coming: oneshot::Receiver<Reached>) -> Result<Option<Sender>, Reason> {
    match coming.try_recv() {
        Ok(reached) => Ok(reached.ok()),
        Err(oneshot::error::TryRecvError::Closed) => Ok(None),
        Err(oneshot::error::TryRecvError::Empty) => coming.await.map_or(Ok(None), |reached| reached.map(Some)),
    }
}

/// What the first request of a tunnel will most likely need, begun while the agent writes its hello: the seller's address, and the
/// certificate that answers for it. Whoever needs them waits for these, or meets the same failure again.
pub(super) fn foresee(conn: &Arc<Connection>, route: &Route) {
    let (host, pool) = (&route.1.host, &conn.worker.pool);
    if let Host::Name(name) = host
        && !pool.has(route)
        && !pool.is_shared(route)
        && conn.proxy.dialer.net.looks_up(host)
    {
        let (conn, name) = (conn.clone(), name.clone());
        tokio::spawn(async move { conn.proxy.dialer.net.look_up(&name).await });
    }
    let _ = conn.proxy.authority.server(host);
}

/// Begins, unless a connection is there already. `many`: the agent will speak HTTP/2, which goes on as HTTP/2 if it can.
///
/// What failed before a request waited for it is tried once more by that request; what fails while it waits is its answer.
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
        let reached = conn.proxy.dialer.http(&route.1, Wanted::Http1).await;
        if let Err(Ok(sender)) = there.send(reached) {
            // The agent is gone: somebody else's first request.
            conn.worker.pool.put(route, sender);
        }
    });
}
