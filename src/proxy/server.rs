//! Accepting: one current-thread runtime per core, each with its own SO_REUSEPORT listeners and connection pool.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use socket2::{Domain, SockRef, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::Proxy;
use super::connection::{Connection, Peer};
use super::phase::{self, Phase};
use super::pool::{self, Pool, Resting};
use super::{connect, error, serving, socks, transparent};

/// What the connections of one worker share.
#[derive(Default)]
pub(super) struct Worker {
    pub(super) pool: Pool,
    pub(super) resting: Resting,
    /// Connections, tunnels and paid tasks that drain waits for.
    pub(super) open: Arc<AtomicUsize>,
}

/// Something that drain waits for. No connection: it counts against no limit.
pub(super) struct Open(Arc<AtomicUsize>);

impl Open {
    pub(super) fn of(worker: &Worker) -> Self {
        worker.open.fetch_add(1, Ordering::AcqRel);
        Self(worker.open.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// How long a stopping worker waits for its connections.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// For everything.
    pub(crate) unpaid: Duration,
    /// While paid requests are under way.
    pub(crate) paid: Duration,
}

/// The ways in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// Absolute-form requests and CONNECT.
    Proxy,
    /// The same over TLS.
    Https,
    /// SOCKS5 (RFC 1928).
    Socks,
    /// Redirected connections that were meant for somebody else.
    Transparent,
}

impl Way {
    /// The key of `listen` in the configuration.
    pub(crate) const fn key(self) -> &'static str {
        match self {
            Self::Proxy => "proxy",
            Self::Https => "https",
            Self::Socks => "socks",
            Self::Transparent => "transparent",
        }
    }
}

/// Binds one listener per worker on one address; port 0 is resolved by the first.
pub(crate) fn bind(address: SocketAddr, workers: usize) -> io::Result<Vec<std::net::TcpListener>> {
    let mut listeners = Vec::with_capacity(workers);
    let mut bound = address;
    for _ in 0..workers {
        let socket = Socket::new(Domain::for_address(bound), Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(true)?;
        socket.set_nonblocking(true)?;
        if bound.is_ipv6() && bound.ip().is_unspecified() {
            socket.set_only_v6(false)?;
        }
        socket.bind(&bound.into())?;
        socket.listen(4096)?;
        let listener = std::net::TcpListener::from(socket);
        bound = listener.local_addr()?;
        listeners.push(listener);
    }
    Ok(listeners)
}

/// A socket to accept from, and when.
#[derive(Debug)]
pub(crate) struct Entrance {
    pub(crate) way: Way,
    pub(crate) listener: std::net::TcpListener,
    pub(crate) phase: watch::Receiver<Phase>,
}

/// Runs one worker until the last phase of its entrances, then until its connections are done or patience ends.
pub(crate) async fn run(proxy: Arc<Proxy>, entrances: Vec<Entrance>, patience: Patience) -> io::Result<()> {
    let worker = Arc::new(Worker::default());
    let mut accepting = tokio::task::JoinSet::new();
    for Entrance { way, listener, phase } in entrances {
        let listener = TcpListener::from_std(listener)?;
        let (proxy, worker) = (proxy.clone(), worker.clone());
        accepting.spawn(phase::accept(listener, phase, move |stream| spawn(&proxy, &worker, way, stream)));
    }
    let resting = worker.clone();
    // Ends with the runtime.
    tokio::spawn(async move { resting.resting.look().await });
    let mut sweep = tokio::time::interval(pool::SWEEP);
    loop {
        tokio::select! {
            _ = sweep.tick() => worker.pool.sweep(),
            ended = accepting.join_next() => if ended.is_none() { break },
        }
    }
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

fn spawn(proxy: &Arc<Proxy>, worker: &Arc<Worker>, way: Way, stream: TcpStream) {
    let Some(slot) = proxy.connections.enter(worker.open.clone()) else {
        if way == Way::Proxy {
            // A fresh socket takes these few bytes without waiting; if not, closing is answer enough.
            let _ = stream.try_write(error::too_many_connections().as_bytes());
        }
        tracing::warn!("too many connections: one was turned away (limits.connections)");
        return;
    };
    let Ok(peer) = Peer::of(&stream) else { return };
    let _ = stream.set_nodelay(true);
    // An agent that takes nothing of its answer for that long is gone: it would hold memory and a seller's connection for ever.
    let _ = SockRef::from(&stream).set_tcp_user_timeout(Some(proxy.limits.idle));
    let connection = Connection::new(proxy.clone(), worker.clone(), peer);
    tokio::spawn(async move {
        let _slot = slot;
        match way {
            Way::Proxy => serving::explicit(connection, stream.into()).await,
            // The other ways have a beginning of their own, which a kept-open HTTP connection need not carry along.
            Way::Https => Box::pin(connect::secure_listener(connection, stream)).await,
            Way::Socks => Box::pin(socks::serve(connection, stream)).await,
            Way::Transparent => Box::pin(transparent::serve(connection, stream)).await,
        }
    });
}
