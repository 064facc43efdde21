//! What is known of an agent's connection, and cached on it, so that a request costs no look-up.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use http::HeaderMap;
use http::header::{HeaderValue, PROXY_AUTHORIZATION};
use tokio::net::TcpStream;

use super::Proxy;
use super::agent::{self, Caller};
use super::io::Unflushed;
use super::pool::Route;
use super::reach::Coming;
use super::server::Worker;
use super::target::{Place, Target};
use super::upstream::Sender;
use crate::agents::Tokens;
use crate::payment::{AgentId, Reason};

/// The two ends of an accepted connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer {
    pub(super) local: SocketAddr,
    pub(super) remote: SocketAddr,
}

impl Peer {
    pub(super) fn of(stream: &TcpStream) -> io::Result<Self> {
        Ok(Self { local: stream.local_addr()?, remote: stream.peer_addr()? })
    }

    /// True if only a program on this machine can have made it: nothing from elsewhere reaches a loopback address, and a
    /// redirected connection keeps the sender's address but ends on one.
    pub(super) fn is_here(&self) -> bool {
        let loopback = |ip: IpAddr| ip.to_canonical().is_loopback();
        loopback(self.local.ip()) || loopback(self.remote.ip())
    }
}

/// Where the requests of a connection go.
#[derive(Clone)]
pub(super) enum Towards {
    /// To one target, decided by CONNECT, SOCKS or the name in a TLS hello. An inner Host that differs is refused.
    Fixed(Target),
    /// Redirected clear text: Host names the seller, the original destination gave the port.
    Host { port: u16 },
}

/// What was decided before the first request inside was read.
pub(super) struct Inside {
    pub(super) caller: Caller,
    pub(super) towards: Towards,
}

/// An agent's connection: explicit, or the inside of a tunnel.
pub(super) struct Connection {
    pub(super) proxy: Arc<Proxy>,
    pub(super) worker: Arc<Worker>,
    pub(super) peer: Peer,
    pub(super) inside: Option<Inside>,
    pub(super) unflushed: Arc<Unflushed>,
    /// True from the first request on.
    pub(super) asked: Arc<AtomicBool>,
    pinned: Mutex<Option<Pinned>>,
    /// The first connection to the seller, if it was begun before the first request.
    pub(super) coming: Coming,
    /// The worker looks at this connection from time to time.
    watched: AtomicBool,
    /// Where the last request went.
    place: Mutex<Option<Place>>,
    /// The last answers of the compiled policy table, for this policy epoch.
    judged: Mutex<Option<(u64, AgentId, Target, Judged)>>,
    /// The last caller, for these credentials, tokens, policy and sessions.
    caller: Mutex<Option<(Credentials, Caller)>>,
}

/// What the policy says of one agent and one target.
#[derive(Clone, Copy)]
struct Judged {
    connects: bool,
    payable: bool,
}

/// An upstream connection that waits for this connection's next request.
struct Pinned {
    key: Route,
    sender: Sender,
    /// In ticks of [`Resting`].
    since: u32,
}

/// An agent that thinks for longer than this many looks (of 100 ms) does without a connection of its own to the seller: others of
/// its connections can use it, and thousands that idle need few.
const REST: u32 = 2;

/// What the identity of a caller depends on.
type Credentials = (Option<HeaderValue>, Option<Arc<Tokens>>, u64, u64);

impl Connection {
    /// An accepted connection.
    pub(super) fn new(proxy: Arc<Proxy>, worker: Arc<Worker>, peer: Peer) -> Arc<Self> {
        Self::with(proxy, worker, peer, None)
    }

    /// The inside of a tunnel, as a connection of its own.
    pub(super) fn inside(&self, caller: Caller, towards: Towards) -> Arc<Self> {
        Self::with(self.proxy.clone(), self.worker.clone(), self.peer, Some(Inside { caller, towards }))
    }

    fn with(proxy: Arc<Proxy>, worker: Arc<Worker>, peer: Peer, inside: Option<Inside>) -> Arc<Self> {
        Arc::new(Self {
            proxy,
            worker,
            peer,
            inside,
            unflushed: Arc::default(),
            asked: Arc::default(),
            pinned: Mutex::default(),
            coming: Coming::default(),
            watched: AtomicBool::new(false),
            place: Mutex::default(),
            judged: Mutex::default(),
            caller: Mutex::default(),
        })
    }

    /// Where a request goes: `find` is given where the one before went.
    pub(super) fn place(&self, find: impl FnOnce(Option<&Place>) -> Result<Place, Reason>) -> Result<Place, Reason> {
        let mut last = self.place.lock().unwrap_or_else(PoisonError::into_inner);
        let found = find(last.as_ref())?;
        if last.as_ref().is_none_or(|last| last.target != found.target) {
            *last = Some(found.clone());
        }
        Ok(found)
    }

    /// Who is calling: inside a tunnel, who opened it.
    pub(super) fn caller(&self, headers: &HeaderMap) -> Result<Caller, Reason> {
        match &self.inside {
            Some(inside) => Ok(inside.caller.clone()),
            None => self.identify(headers),
        }
    }

    /// Checked anew when the credentials, the token file, the sessions or the policy changed.
    fn identify(&self, headers: &HeaderMap) -> Result<Caller, Reason> {
        let tokens = self.proxy.tokens.as_ref().map(|t| t.load());
        let epoch = self.proxy.policy.load().epoch();
        let version = self.proxy.sessions.version();
        let given = headers.get(PROXY_AUTHORIZATION);
        let mut cached = self.caller.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(((header, seen, at, opened), caller)) = &*cached
            && header.as_ref() == given
            && *at == epoch
            && *opened == version
            && seen.as_ref().map(Arc::as_ptr) == tokens.as_deref().map(Arc::as_ptr)
        {
            return Ok(caller.clone());
        }
        let caller = agent::identify(&self.proxy, headers, &self.peer, cached.as_ref().map(|(_, before)| before))?;
        // Copied: a part of the read buffer would keep all of it.
        let given = given.and_then(|g| HeaderValue::from_bytes(g.as_bytes()).ok());
        *cached = Some(((given, tokens.as_deref().cloned(), epoch, version), caller.clone()));
        Ok(caller)
    }

    /// Whether some allow entry could match: decides if the request is kept for a second sending.
    pub(super) fn payable(&self, caller: &Caller, target: &Target) -> bool {
        self.judged(caller, target).payable
    }

    /// Whether the policy lets this agent connect there at all, and if it does, [`Self::payable`]. Asked before anything is looked
    /// up or dialled.
    pub(super) fn permitted(&self, caller: &Caller, target: &Target) -> Result<bool, Reason> {
        let judged = self.judged(caller, target);
        if judged.connects { Ok(judged.payable) } else { Err(Reason::EgressDenied) }
    }

    fn judged(&self, caller: &Caller, target: &Target) -> Judged {
        let policy = self.proxy.policy.load();
        let mut cached = self.judged.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((epoch, agent, seen, answer)) = &*cached
            && *epoch == policy.epoch()
            && *agent == caller.agent
            && seen == target
        {
            return *answer;
        }
        let answer = Judged {
            connects: policy.connects(&caller.agent, &target.host),
            payable: policy.payable(&caller.agent, &target.host, target.port),
        };
        *cached = Some((policy.epoch(), caller.agent.clone(), target.clone(), answer));
        answer
    }

    /// Keeps an upstream connection for the next request; a pinned one to another seller goes to the pool.
    pub(super) fn pin(self: &Arc<Self>, key: Route, sender: Sender) {
        let pinned = Pinned { key, sender, since: self.worker.resting.now() };
        let previous = self.pinned.lock().unwrap_or_else(PoisonError::into_inner).replace(pinned);
        if let Some(previous) = previous {
            self.worker.pool.put(previous.key, previous.sender);
        }
        // Looked at before it is written: this happens for every request.
        if !self.watched.load(Ordering::Relaxed) && !self.watched.swap(true, Ordering::Relaxed) {
            self.worker.resting.watch(self);
        }
    }

    /// Gives a pinned connection back that waited for long enough. False when there is nothing more to look at.
    pub(super) fn rest(&self, now: u32) -> bool {
        let mut pinned = self.pinned.lock().unwrap_or_else(PoisonError::into_inner);
        match pinned.take_if(|p| now.wrapping_sub(p.since) >= REST && (p.sender.is_ready() || p.sender.is_closed())) {
            Some(idle) => {
                self.worker.pool.put(idle.key, idle.sender);
                self.watched.store(false, Ordering::Relaxed);
                false
            }
            // In use, or not yet idle for long.
            None => true,
        }
    }

    /// The pinned connection, if it leads there.
    pub(super) fn unpin(&self, key: &Route) -> Option<Sender> {
        let mut pinned = self.pinned.lock().unwrap_or_else(PoisonError::into_inner);
        pinned.take_if(|p| p.key == *key).map(|p| p.sender)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let pinned = self.pinned.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(pinned) = pinned {
            self.worker.pool.put(pinned.key, pinned.sender);
        }
    }
}
