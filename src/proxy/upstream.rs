//! Towards the seller: TLS and HTTP on a dialled connection, send, wait. Connections are pinned to the agent's connection
//! and never shared between agents.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio_rustls::TlsConnector;

use super::body::SellerBody;
use super::dial::Dial;
use super::io::SellerIo;
use super::target::Target;
use super::tls;
use crate::payment::{AgentId, Reason};

/// Opens HTTP connections to sellers and sends on them.
pub(super) struct Dialer {
    pub(super) net: Dial,
    pub(super) tls: Arc<rustls::ClientConfig>,
    pub(super) connect: Duration,
    pub(super) first_byte: Duration,
}

/// A ready connection to one seller.
pub(super) type Sender = SendRequest<SellerBody>;

impl Dialer {
    /// An HTTP/1.1 connection, TLS where the target says so.
    pub(super) async fn http(&self, target: &Target) -> Result<Sender, Reason> {
        let stream = self.net.tcp(&target.host, target.port).await?;
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
