//! Towards the seller: resolve, check the address, connect, send, wait. Connections are pinned to the agent's connection
//! and never shared between agents.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::body::SellerBody;
use super::guard::Guard;
use super::io::SellerIo;
use super::target::Target;
use super::tls;
use crate::payment::{AgentId, Reason};
use crate::policy::Host;

/// Opens connections.
pub(super) struct Dialer {
    pub(super) guard: Guard,
    pub(super) tls: Arc<rustls::ClientConfig>,
    pub(super) connect: Duration,
    pub(super) first_byte: Duration,
}

/// A ready connection to one seller.
pub(super) type Sender = SendRequest<SellerBody>;

impl Dialer {
    /// A TCP connection to a checked address of `host`.
    pub(super) async fn tcp(&self, host: &Host, port: u16) -> Result<TcpStream, Reason> {
        tokio::time::timeout(self.connect, self.tcp_unbounded(host, port)).await.unwrap_or(Err(Reason::ConnectTimeout))
    }

    async fn tcp_unbounded(&self, host: &Host, port: u16) -> Result<TcpStream, Reason> {
        let addresses = resolve(host, port).await?;
        let permitted: Vec<SocketAddr> = addresses.iter().copied().filter(|a| self.guard.permits(*a)).collect();
        if permitted.is_empty() {
            return Err(if addresses.is_empty() { Reason::DnsError } else { Reason::ForbiddenAddress });
        }
        // An address that does not answer must not use up the time of the others.
        let share = self.connect / u32::try_from(permitted.len()).unwrap_or(u32::MAX);
        let mut failure = Reason::ConnectFailed;
        for address in permitted {
            // The checked address itself is dialled: a second look-up could give another one.
            let stream = match tokio::time::timeout(share, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => stream,
                Ok(Err(_)) => continue,
                Err(_) => {
                    failure = Reason::ConnectTimeout;
                    continue;
                }
            };
            if let (Ok(local), Ok(peer)) = (stream.local_addr(), stream.peer_addr())
                && self.guard.is_ourselves(local, peer)
            {
                return Err(Reason::ForbiddenAddress);
            }
            let _ = stream.set_nodelay(true);
            return Ok(stream);
        }
        Err(failure)
    }

    /// An HTTP/1.1 connection, TLS where the target says so.
    pub(super) async fn http(&self, target: &Target) -> Result<Sender, Reason> {
        let stream = self.tcp(&target.host, target.port).await?;
        if !target.https {
            return handshake(SellerIo::new(stream)).await;
        }
        let name = tls::server_name(&target.host).ok_or(Reason::BadRequest)?;
        let connecting = TlsConnector::from(self.tls.clone()).connect(name, stream);
        match tokio::time::timeout(self.connect, connecting).await {
            Ok(Ok(stream)) => handshake(SellerIo::new(stream)).await,
            Ok(Err(error)) => {
                tracing::debug!(host = %target.host, %error, "TLS towards the upstream failed");
                Err(Reason::UpstreamTls)
            }
            Err(_) => Err(Reason::ConnectTimeout),
        }
    }

    /// Sends on `sender` and waits for the head. `progress` counts what the agent uploads: an upload that moves resets
    /// the first-byte time-out.
    pub(super) async fn exchange(
        &self,
        sender: &mut Sender,
        request: Request<SellerBody>,
        progress: Option<&AtomicU64>,
    ) -> Result<Response<Incoming>, SendError> {
        let mut sending = std::pin::pin!(sender.try_send_request(request));
        let seen = || progress.map_or(0, |p| p.load(Ordering::Relaxed));
        let mut before = seen();
        loop {
            match tokio::time::timeout(self.first_byte, sending.as_mut()).await {
                Ok(Ok(response)) => return Ok(response),
                Ok(Err(mut error)) => {
                    return Err(match error.take_message() {
                        Some(request) => SendError::NotSent(Box::new(request)),
                        None => SendError::Failed(classify(&error.into_error())),
                    });
                }
                Err(_) if seen() != before => before = seen(),
                Err(_) => return Err(SendError::Failed(Reason::FirstByteTimeout)),
            }
        }
    }
}

/// Why there is no answer.
pub(super) enum SendError {
    /// Not a byte was sent: the connection had closed while idle. Safe to send elsewhere.
    NotSent(Box<Request<SellerBody>>),
    /// Something may have been sent.
    Failed(Reason),
}

async fn handshake<T>(io: SellerIo<T>) -> Result<Sender, Reason>
where
    T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = http1::Builder::new().handshake(TokioIo::new(io)).await.map_err(|_| Reason::UpstreamClosed)?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::trace!(%error, "upstream connection ended");
        }
    });
    Ok(sender)
}

fn classify(error: &hyper::Error) -> Reason {
    if error.is_parse() { Reason::UpstreamProtocol } else { Reason::UpstreamClosed }
}

async fn resolve(host: &Host, port: u16) -> Result<Vec<SocketAddr>, Reason> {
    match host {
        Host::Ip(ip) => Ok(vec![SocketAddr::new(*ip, port)]),
        Host::Name(name) => match tokio::net::lookup_host((&**name, port)).await {
            Ok(found) => Ok(found.collect()),
            Err(_) => Err(Reason::DnsError),
        },
    }
}

/// Idle connections of one worker, by agent and target.
#[derive(Default)]
pub(super) struct Pool {
    idle: Mutex<HashMap<Route, Idle>>,
}

/// Whose connections, and where to: never shared between agents.
pub(super) type Route = (AgentId, Target);

/// Idle connections with the time they became so, the newest last.
type Idle = Vec<(Sender, Instant)>;

/// Idle connections kept per agent and target.
const PER_TARGET: usize = 8;

/// Sellers close idle connections themselves; older ones are rarely worth a try.
const IDLE: Duration = Duration::from_secs(30);

impl Pool {
    pub(super) fn take(&self, key: &Route) -> Option<Sender> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
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

    pub(super) fn put(&self, key: Route, sender: Sender) {
        if sender.is_closed() {
            return;
        }
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() >= 1024 {
            idle.retain(|_, list| list.last().is_some_and(|(_, at)| at.elapsed() < IDLE));
        }
        let list = idle.entry(key).or_default();
        if list.len() < PER_TARGET {
            list.push((sender, Instant::now()));
        }
    }
}
