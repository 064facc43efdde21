//! Connections of one worker that wait for the next request, by agent and target: never shared between agents.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use hyper::client::conn::http2;
use tokio::sync::Notify;

use super::body::SellerBody;
use super::connection::Connection;
use super::target::Target;
use super::upstream::{Dialer, Sender, Wanted};
use crate::payment::{AgentId, Reason};

/// Whose connections, and where to.
pub(super) type Route = (AgentId, Target);

/// Idle HTTP/1 connections kept per agent and target: as many as may soon be needed at once.
const PER_TARGET: usize = 64;

/// Sellers close idle connections themselves; older ones are rarely worth a try.
const IDLE: Duration = Duration::from_secs(30);

/// The pool is looked through this often.
pub(super) const SWEEP: Duration = Duration::from_secs(10);

/// While anything is pinned, it is looked at this often.
const LOOK: Duration = Duration::from_millis(100);

/// The connections of one worker with something pinned. The clock is a count of looks: noting the time costs a request nothing.
#[derive(Default)]
pub(super) struct Resting {
    now: AtomicU32,
    watched: Mutex<Vec<Weak<Connection>>>,
    some: Notify,
}

impl Resting {
    pub(super) fn now(&self) -> u32 {
        self.now.load(Ordering::Relaxed)
    }

    pub(super) fn watch(&self, connection: &Arc<Connection>) {
        let mut watched = lock(&self.watched);
        if watched.is_empty() {
            self.some.notify_one();
        }
        watched.push(Arc::downgrade(connection));
    }

    /// Looks, again and again, as long as there is something to look at. Never ends.
    pub(super) async fn look(&self) {
        loop {
            self.some.notified().await;
            while self.tick() {
                tokio::time::sleep(LOOK).await;
            }
        }
    }

    /// One look at all of them; false if none is left.
    fn tick(&self) -> bool {
        let now = self.now.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        let mut watched = std::mem::take(&mut *lock(&self.watched));
        watched.retain(|connection| connection.upgrade().is_some_and(|c| c.rest(now)));
        let mut all = lock(&self.watched);
        all.append(&mut watched);
        !all.is_empty()
    }
}

/// See the module documentation.
#[derive(Default)]
pub(super) struct Pool {
    /// HTTP/1: each with the time it became idle, the newest last.
    idle: Mutex<HashMap<Route, Vec<(Sender, Instant)>>>,
    /// HTTP/2: one connection for all requests.
    shared: Mutex<HashMap<Route, Arc<Shared>>>,
}

/// The HTTP/2 connection of one route. Only one request at a time opens it, the others wait for it.
#[derive(Default)]
struct Shared {
    sender: tokio::sync::Mutex<Option<http2::SendRequest<SellerBody>>>,
    /// The seller turned out to speak HTTP/1 only.
    single: AtomicBool,
    used: Mutex<Option<Instant>>,
}

impl Pool {
    /// Whether an HTTP/1 connection seems to be idle.
    pub(super) fn has(&self, key: &Route) -> bool {
        lock(&self.idle).get(key).is_some_and(|list| list.iter().any(|(sender, _)| sender.is_ready()))
    }

    /// Whether the HTTP/2 connection of a route is known, or that there is none.
    pub(super) fn is_shared(&self, key: &Route) -> bool {
        lock(&self.shared).contains_key(key)
    }

    /// An idle HTTP/1 connection.
    pub(super) fn take(&self, key: &Route) -> Option<Sender> {
        let mut idle = lock(&self.idle);
        let list = idle.get_mut(key)?;
        let mut found = None;
        while let Some((sender, at)) = list.pop() {
            if at.elapsed() < IDLE && sender.is_ready() {
                found = Some(sender);
                break;
            }
        }
        if list.is_empty() {
            idle.remove(key);
        }
        found
    }

    /// Keeps an HTTP/1 connection for a later request; an HTTP/2 one is kept already.
    pub(super) fn put(&self, key: Route, sender: Sender) {
        if sender.is_closed() || matches!(sender, Sender::Http2(_)) {
            return;
        }
        let mut idle = lock(&self.idle);
        let list = idle.entry(key).or_default();
        if list.len() < PER_TARGET {
            list.push((sender, Instant::now()));
        }
    }

    /// A connection for an agent that speaks HTTP/2, if one is open.
    pub(super) async fn open(&self, key: &Route) -> Option<Sender> {
        let line = lock(&self.shared).get(key).cloned()?;
        *lock(&line.used) = Some(Instant::now());
        if line.single.load(Ordering::Relaxed) {
            return self.take(key);
        }
        let slot = line.sender.lock().await;
        slot.as_ref().filter(|s| !s.is_closed()).map(|s| Sender::Http2(s.clone()))
    }

    /// The shared HTTP/2 connection, opened if need be; for a seller that speaks HTTP/1 only, a new connection of that kind.
    pub(super) async fn shared(&self, dialer: &Dialer, key: &Route, wanted: Wanted) -> Result<Sender, Reason> {
        let line = lock(&self.shared).entry(key.clone()).or_default().clone();
        *lock(&line.used) = Some(Instant::now());
        if line.single.load(Ordering::Relaxed) {
            return dialer.http(&key.1, Wanted::Http1).await;
        }
        let mut slot = line.sender.lock().await;
        if let Some(sender) = slot.as_ref().filter(|s| !s.is_closed()) {
            return Ok(Sender::Http2(sender.clone()));
        }
        let opened = dialer.http(&key.1, wanted).await?;
        match &opened {
            Sender::Http2(sender) => *slot = Some(sender.clone()),
            Sender::Http1(..) => line.single.store(true, Ordering::Relaxed),
        }
        Ok(opened)
    }

    /// Forgets the HTTP/2 connection of a route: it failed.
    pub(super) fn forget(&self, key: &Route) {
        lock(&self.shared).remove(key);
    }

    /// Closes what has been idle for long.
    pub(super) fn sweep(&self) {
        lock(&self.idle).retain(|_, list| {
            list.retain(|(sender, at)| at.elapsed() < IDLE && !sender.is_closed());
            !list.is_empty()
        });
        lock(&self.shared).retain(|_, line| lock(&line.used).is_some_and(|at| at.elapsed() < IDLE));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
