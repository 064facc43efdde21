//! Accepting: one current-thread runtime per core, each with its own SO_REUSEPORT listener and connection pool.

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use http::header::{HeaderMap, HeaderValue, PROXY_AUTHORIZATION};
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use socket2::{Domain, Socket, Type};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::Proxy;
use super::agent::{self, Caller};
use super::body::AgentBody;
use super::error;
use super::forward;
use super::io::{AgentIo, Unflushed};
use super::target::Target;
use super::upstream::{Pool, Route, Sender};
use crate::agents::Tokens;
use crate::payment::{AgentId, Reason};

/// What the connections of one worker share.
#[derive(Default)]
pub(super) struct Worker {
    pub(super) pool: Pool,
    /// Connections and tunnels that drain waits for.
    pub(super) open: Arc<AtomicUsize>,
}

/// How long a stopping worker waits for its connections.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// For everything.
    pub(crate) unpaid: Duration,
    /// While paid requests are under way.
    pub(crate) paid: Duration,
}

/// What a CONNECT request decided for everything inside its tunnel.
pub(super) struct Tunnel {
    pub(super) caller: Caller,
    pub(super) target: Target,
}

/// An agent's connection: explicit, or the inside of a tunnel.
pub(super) struct Connection {
    pub(super) proxy: Arc<Proxy>,
    pub(super) worker: Arc<Worker>,
    pub(super) peer: IpAddr,
    pub(super) tunnel: Option<Tunnel>,
    pub(super) unflushed: Arc<Unflushed>,
    pinned: Mutex<Option<(Route, Sender)>>,
    /// The last answer of the compiled policy table, for this policy epoch.
    payable: Mutex<Option<(u64, AgentId, Target, bool)>>,
    /// The last caller, for these credentials, tokens and policy.
    caller: Mutex<Option<(Credentials, Caller)>>,
}

/// What the identity of a caller depends on.
type Credentials = (Option<HeaderValue>, Option<Arc<Tokens>>, u64);

impl Connection {
    fn new(proxy: Arc<Proxy>, worker: Arc<Worker>, peer: IpAddr, tunnel: Option<Tunnel>) -> Self {
        Self {
            proxy,
            worker,
            peer,
            tunnel,
            unflushed: Arc::default(),
            pinned: Mutex::default(),
            payable: Mutex::default(),
            caller: Mutex::default(),
        }
    }

    /// Who is calling. Checked anew when the credentials, the token file or the policy changed.
    pub(super) fn identify(&self, headers: &HeaderMap) -> Result<Caller, Reason> {
        let tokens = self.proxy.tokens.as_ref().map(|t| t.load_full());
        let epoch = self.proxy.policy.load().epoch();
        let given = headers.get(PROXY_AUTHORIZATION);
        let mut cached = self.caller.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(((header, seen, at), caller)) = &*cached
            && header.as_ref() == given
            && *at == epoch
            && seen.as_ref().map(Arc::as_ptr) == tokens.as_ref().map(Arc::as_ptr)
        {
            return Ok(caller.clone());
        }
        let caller = agent::identify(&self.proxy, headers, self.peer)?;
        *cached = Some(((given.cloned(), tokens, epoch), caller.clone()));
        Ok(caller)
    }

    /// Whether some allow entry could match: decides if the request is kept for a second sending.
    pub(super) fn payable(&self, caller: &Caller, target: &Target) -> bool {
        let policy = self.proxy.policy.load();
        let mut cached = self.payable.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((epoch, agent, seen, answer)) = &*cached
            && *epoch == policy.epoch()
            && *agent == caller.agent
            && seen == target
        {
            return *answer;
        }
        let answer = policy.payable(&caller.agent, &target.host, target.port);
        *cached = Some((policy.epoch(), caller.agent.clone(), target.clone(), answer));
        answer
    }

    /// Keeps an upstream connection for the next request; a pinned one to another seller goes to the pool.
    pub(super) fn pin(&self, key: Route, sender: Sender) {
        let previous = self.pinned.lock().unwrap_or_else(PoisonError::into_inner).replace((key, sender));
        if let Some((key, sender)) = previous {
            self.worker.pool.put(key, sender);
        }
    }

    /// The pinned connection, if it leads there.
    pub(super) fn unpin(&self, key: &Route) -> Option<Sender> {
        let mut pinned = self.pinned.lock().unwrap_or_else(PoisonError::into_inner);
        match &*pinned {
            Some((k, _)) if k == key => pinned.take().map(|(_, sender)| sender),
            _ => None,
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let pinned = self.pinned.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((key, sender)) = pinned {
            self.worker.pool.put(key, sender);
        }
    }
}

/// Binds one listener per worker on one address; port 0 is resolved by the first.
pub(crate) fn bind(address: SocketAddr, workers: usize) -> io::Result<(SocketAddr, Vec<std::net::TcpListener>)> {
    let mut listeners = Vec::with_capacity(workers);
    let mut bound = address;
    for _ in 0..workers {
        let socket = Socket::new(Domain::for_address(bound), Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&bound.into())?;
        socket.listen(4096)?;
        let listener = std::net::TcpListener::from(socket);
        bound = listener.local_addr()?;
        listeners.push(listener);
    }
    Ok((bound, listeners))
}

/// Runs one worker until `stop` says so, then until its connections are done or patience ends.
pub(crate) async fn run(
    proxy: Arc<Proxy>,
    listener: std::net::TcpListener,
    mut stop: watch::Receiver<bool>,
    patience: Patience,
) -> io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    let worker = Arc::new(Worker::default());
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stop.wait_for(|s| *s) => break,
        };
        match accepted {
            Ok((stream, peer)) => spawn(&proxy, &worker, stream, peer.ip(), stop.clone()),
            Err(error) => {
                // Out of file descriptors, or the peer left before it was accepted: neither may stop the worker.
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
    drop(listener);
    let stopped = Instant::now();
    while worker.open.load(Ordering::Acquire) > 0 {
        let limit = if proxy.paid_tasks() > 0 { patience.paid } else { patience.unpaid };
        if stopped.elapsed() >= limit {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}

fn spawn(proxy: &Arc<Proxy>, worker: &Arc<Worker>, stream: TcpStream, peer: IpAddr, stop: watch::Receiver<bool>) {
    let Some(slot) = proxy.connections.enter(worker.open.clone()) else {
        // A fresh socket takes these few bytes without waiting; if not, closing is answer enough.
        let _ = stream.try_write(error::too_many_connections().as_bytes());
        tracing::warn!("too many connections: one was turned away (limits.connections)");
        return;
    };
    let _ = stream.set_nodelay(true);
    let connection = Arc::new(Connection::new(proxy.clone(), worker.clone(), peer, None));
    tokio::spawn(async move {
        let _slot = slot;
        let io = AgentIo::new(stream, connection.unflushed.clone());
        drive(connection, io, stop).await;
    });
}

/// Serves the inside of a tunnel as a connection of its own.
pub(super) async fn serve_tunnel<T>(outer: &Arc<Connection>, stream: T, tunnel: Tunnel)
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let connection = Arc::new(Connection::new(outer.proxy.clone(), outer.worker.clone(), outer.peer, Some(tunnel)));
    let io = AgentIo::new(stream, connection.unflushed.clone());
    drive(connection, io, outer.proxy.stop.subscribe()).await;
}

/// One connection's requests as a `tower` service: the whole edge can be driven without a socket.
struct Edge(Arc<Connection>);

impl tower::Service<Request<Incoming>> for Edge {
    type Response = Response<AgentBody>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Incoming>) -> Self::Future {
        let answer = forward::serve(self.0.clone(), request);
        Box::pin(async move { Ok(answer.await) })
    }
}

impl Clone for Edge {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

async fn drive<T>(connection: Arc<Connection>, io: AgentIo<T>, mut stop: watch::Receiver<bool>)
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let proxy = connection.proxy.clone();
    let service = TowerToHyperService::new(Edge(connection));
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(proxy.idle).max_buf_size(proxy.limits.header.max(8192)).half_close(false);
    let mut serving = pin!(builder.serve_connection(TokioIo::new(io), service).with_upgrades());
    let done = tokio::select! {
        result = serving.as_mut() => Some(result),
        _ = stop.wait_for(|s| *s) => None,
    };
    let result = match done {
        Some(result) => result,
        None => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, "agent connection ended");
    }
}
