//! A signed request or response (S11): header, payload, signature over the raw bytes of both.

use serde::{Deserialize, Serialize};

use super::identity::{Identity, Public};
use crate::mpc::Fingerprint;
use crate::payment::Timestamp;

/// How far a request's time may be from the receiver's clock. Replay ids are kept twice as long.
pub const WINDOW_MS: i64 = 60_000;

/// What is signed beside the payload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// [`super::message::VERSION`].
    pub version: u8,
    /// Path of the request, so that one message cannot be taken for another.
    pub path: String,
    /// Who signed.
    pub sender: Fingerprint,
    /// For whom.
    pub audience: Fingerprint,
    /// Epoch of the share, 0 where there is none.
    pub epoch: u32,
    /// Random; a response repeats the request's.
    pub id: [u8; 16],
    /// The sender's clock.
    pub at: Timestamp,
    /// SHA-256 of the payload.
    pub payload: [u8; 32],
    /// A response: SHA-256 of the whole request envelope. A request: `None`.
    pub request: Option<[u8; 32]>,
}

/// A verified message.
#[derive(Clone, Debug)]
pub struct Opened {
    /// The verified header.
    pub header: Header,
    /// The payload.
    pub payload: Vec<u8>,
}

/// Why an envelope was not opened. Nothing of its payload was looked at.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// Not an envelope, or a longer one than allowed.
    #[error("not an envelope of this version")]
    Malformed,
    /// Signed by another key than the connection's or the pinned one.
    #[error("signed by another key")]
    Sender,
    /// Meant for somebody else, another path or another request.
    #[error("not meant for this")]
    Misdirected,
    /// Too old or too new.
    #[error("outside the time window")]
    Time,
    /// The signature or the payload hash does not fit.
    #[error("the signature does not verify")]
    Signature,
}

/// Makes a request envelope; answers its bytes and what the response must refer to.
pub fn request(
    from: &Identity,
    to: Fingerprint,
    path: &str,
    epoch: u32,
    id: [u8; 16],
    at: Timestamp,
    payload: &[u8],
) -> (Vec<u8>, [u8; 32]) {
    let _ = (from, to, path, epoch, id, at, payload);
    todo!()
}

/// Makes the response to `request` (its header, and the hash of its envelope).
pub fn response(from: &Identity, request: &Header, request_hash: [u8; 32], at: Timestamp, payload: &[u8]) -> Vec<u8> {
    let _ = (from, request, request_hash, at, payload);
    todo!()
}

/// Opens a request: `sender` is the key of the connection's certificate. Answers its hash too. Replay is the caller's to check.
///
/// # Errors
/// [`EnvelopeError`].
pub fn open_request(
    bytes: &[u8],
    sender: &Public,
    me: Fingerprint,
    path: &str,
    now: Timestamp,
) -> Result<(Opened, [u8; 32]), EnvelopeError> {
    let _ = (bytes, sender, me, path, now);
    todo!()
}

/// Opens a response to our request.
///
/// # Errors
/// [`EnvelopeError`].
pub fn open_response(
    bytes: &[u8],
    sender: &Public,
    me: Fingerprint,
    id: [u8; 16],
    request_hash: [u8; 32],
) -> Result<Opened, EnvelopeError> {
    let _ = (bytes, sender, me, id, request_hash);
    todo!()
}
