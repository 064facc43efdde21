//! Both ends of a link on HTTP/2: a client that keeps one warm connection, and a server that hands over verified envelopes.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::envelope::Opened;
use super::identity::{Identity, Public};
use crate::mpc::Fingerprint;
use crate::payment::Timestamp;

/// Where the peer is and who it must be.
#[derive(Clone, Debug)]
pub struct Peer {
    /// `host:port`; resolved at each connect.
    pub authority: String,
    /// Its key's fingerprint; nothing else is accepted, whatever its certificate says.
    pub pin: Fingerprint,
}

/// Why there is no answer. The variant says whether the request may have arrived.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// No connection, or the breaker is open: the request did not leave.
    #[error("cannot reach {0}")]
    Unreachable(String),
    /// No answer in time: it may have arrived.
    #[error("no answer in time")]
    Timeout,
    /// Broken off, or not a verified envelope: it may have arrived.
    #[error("the answer cannot be used: {0}")]
    Garbage(String),
}

/// A client: one warm connection, made again when it breaks, with a breaker in front (half-open after a pause).
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

struct Inner {}

impl Client {
    /// A client for `peer`; connects lazily.
    pub fn new(identity: Identity, peer: Peer, connect: Duration) -> Self {
        let _ = (identity, peer, connect);
        todo!()
    }

    /// Sends `payload` as a signed request and opens the signed answer.
    ///
    /// # Errors
    /// [`LinkError`].
    pub async fn call(&self, path: &'static str, epoch: u32, payload: &[u8], deadline: Instant) -> Result<Vec<u8>, LinkError> {
        let _ = (&self.inner, path, epoch, payload, deadline);
        todo!()
    }

    /// True while the peer answers: for `tollpass_cosigner_up`.
    pub fn up(&self) -> bool {
        todo!()
    }
}

/// A verified request, as the service sees it.
#[derive(Clone, Debug)]
pub struct Incoming {
    /// Key of the connection's certificate: whoever has it signed the envelope as well.
    pub sender: Public,
    /// The verified envelope.
    pub opened: Opened,
    /// Which connection it came over: half-open sessions and presignatures are bound to it.
    pub connection: u64,
}

/// What a service answers: a payload to be signed, or the end of the connection (GOAWAY) for an identity that is not known.
pub enum Reply {
    /// Sign and send this.
    Payload(Vec<u8>),
    /// Not known, revoked, replayed: no answer, close.
    Close,
}

/// A service behind a link.
pub trait Service: Send + Sync + 'static {
    /// Asked before the body is read and again by the service: may this key talk at all?
    fn admits(&self, key: Fingerprint, path: &str) -> bool;
    /// Answers one verified request.
    fn answer(self: Arc<Self>, request: Incoming) -> Pin<Box<dyn Future<Output = Reply> + Send>>;
    /// The connection is gone: drop what is bound to it.
    fn gone(&self, connection: u64);
    /// The clock.
    fn now(&self) -> Timestamp;
}

/// Serves `listener` until `shutdown` is ready, then lets running requests finish.
pub async fn serve<S: Service>(listener: tokio::net::TcpListener, identity: Identity, service: Arc<S>, shutdown: impl Future<Output = ()>) {
    let _ = (listener, identity, service);
    shutdown.await;
}

/// Resolved address of a bound listener, for announcements.
pub fn local_addr(listener: &tokio::net::TcpListener) -> std::io::Result<SocketAddr> {
    listener.local_addr()
}
