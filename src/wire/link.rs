//! Both ends of a link on HTTP/2: a client that keeps one warm connection, and a server that hands over verified envelopes.

mod breaker;
mod client;
mod connections;
mod server;

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

pub use client::Client;
pub use connections::Connections;
pub use server::{serve, serve_in};

use super::envelope::Opened;
use super::identity::Public;
use crate::mpc::Fingerprint;
use crate::payment::Timestamp;

/// A POST there is answered with 204 and nothing else, whoever asks: is this peer alive? A service is asked whether it admits
/// the key there only to tell whose connection may stay open.
pub const ALIVE: &str = "/v1/alive";
/// Longest head of a request or response: paths are constants, and there is no header of ours.
const MAX_HEAD: u32 = 8 << 10;
/// Requests at once on one connection, and answers being made for it.
const STREAMS: u32 = 64;
/// Room for one direction of one stream: a whole body, so that none waits for a window.
const STREAM_WINDOW: u32 = 256 << 10;
/// Room for one direction of a connection.
const CONNECTION_WINDOW: u32 = 1 << 20;
/// A quiet connection is pinged this often, by the client; the server is in less of a hurry.
const PING: Duration = Duration::from_secs(5);
/// A ping not answered for so long ends the connection.
const PONG: Duration = Duration::from_secs(5);

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

/// A verified request, as the service sees it.
#[derive(Clone, Debug)]
pub struct Incoming {
    /// Key of the connection's certificate: whoever has it signed the envelope as well.
    pub sender: Public,
    /// The verified envelope. Its `header.id` is the replay id: the same bytes sent twice have the same one.
    pub opened: Opened,
    /// Which connection it came over: half-open sessions and presignatures are bound to it.
    pub connection: u64,
    /// SHA-256 of the whole envelope, which the response refers to.
    pub hash: [u8; 32],
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
    /// Asked at the handshake: a key that was revoked may be refused there. An unknown one may have come to enrol.
    fn greets(&self, key: Fingerprint) -> bool {
        let _ = key;
        true
    }
    /// Asked before the body is read and again by the service: may this key talk at all?
    fn admits(&self, key: Fingerprint, path: &str) -> bool;
    /// Answers one verified request. Runs to its end even if the client hangs up, so that a ban or a hold is never half
    /// done: it must end by itself.
    fn answer(self: Arc<Self>, request: Incoming) -> Pin<Box<dyn Future<Output = Reply> + Send>>;
    /// The connection is gone: drop what is bound to it. Called once for each connection, after its last answer has ended.
    fn gone(&self, connection: u64);
    /// The clock.
    fn now(&self) -> Timestamp;
}

/// Resolved address of a bound listener, for announcements.
///
/// # Errors
/// The system's.
pub fn local_addr(listener: &tokio::net::TcpListener) -> std::io::Result<SocketAddr> {
    listener.local_addr()
}

#[cfg(test)]
mod tests;
