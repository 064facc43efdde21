//! A signed request or response (S11): header, payload, signature over the raw bytes of both.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::identity::{Identity, Public};
use super::message::{MAX_BODY, VERSION};
use crate::mpc::Fingerprint;
use crate::payment::Timestamp;

/// How far a request's time may be from the receiver's clock. Replay ids are kept twice as long.
pub const WINDOW_MS: i64 = 60_000;

/// Contexts of the two signatures: a response is never taken for a request.
const REQUEST: &str = "tollpass/request/1";
const RESPONSE: &str = "tollpass/response/1";

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

/// What is on the wire. The signature covers the raw bytes of the header, which holds the hash of the payload.
#[derive(Serialize, Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    header: Raw<'a>,
    #[serde(borrow)]
    payload: Raw<'a>,
    #[serde(borrow)]
    signature: Raw<'a>,
}

/// Bytes with their length before them, borrowed from what was received.
#[derive(Deserialize)]
struct Raw<'a>(&'a [u8]);

impl Serialize for Raw<'_> {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_bytes(self.0)
    }
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
    let header = Header {
        version: VERSION,
        path: path.to_owned(),
        sender: from.fingerprint(),
        audience: to,
        epoch,
        id,
        at,
        payload: hash(payload),
        request: None,
    };
    let bytes = seal(from, REQUEST, &header, payload);
    let hash = hash(&bytes);
    (bytes, hash)
}

/// Makes the response to `request` (its header, and the hash of its envelope).
pub fn response(from: &Identity, request: &Header, request_hash: [u8; 32], at: Timestamp, payload: &[u8]) -> Vec<u8> {
    let header = Header {
        version: VERSION,
        path: request.path.clone(),
        sender: from.fingerprint(),
        audience: request.sender,
        epoch: request.epoch,
        id: request.id,
        at,
        payload: hash(payload),
        request: Some(request_hash),
    };
    seal(from, RESPONSE, &header, payload)
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
    let opened = open(bytes, sender, me, REQUEST)?;
    let header = &opened.header;
    if header.path != path || header.request.is_some() {
        return Err(EnvelopeError::Misdirected);
    }
    // The difference cannot overflow: the window is small, the other clock may say anything.
    if now.millis().abs_diff(header.at.millis()) > WINDOW_MS.unsigned_abs() {
        return Err(EnvelopeError::Time);
    }
    Ok((opened, hash(bytes)))
}

/// Opens a response to our request. Its time is not looked at: it answers exactly this request, and that has a deadline.
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
    let opened = open(bytes, sender, me, RESPONSE)?;
    if opened.header.id != id || opened.header.request != Some(request_hash) {
        return Err(EnvelopeError::Misdirected);
    }
    Ok(opened)
}

fn hash(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// Empty, which nobody opens, if it cannot be encoded; of these types everything can.
fn seal(from: &Identity, context: &'static str, header: &Header, payload: &[u8]) -> Vec<u8> {
    let header = postcard::to_stdvec(header).unwrap_or_default();
    let signature = from.sign(context, &header);
    postcard::to_stdvec(&Envelope { header: Raw(&header), payload: Raw(payload), signature: Raw(&signature) }).unwrap_or_default()
}

fn open(bytes: &[u8], sender: &Public, me: Fingerprint, context: &'static str) -> Result<Opened, EnvelopeError> {
    if bytes.len() > MAX_BODY {
        return Err(EnvelopeError::Malformed);
    }
    let envelope: Envelope<'_> = whole(bytes)?;
    let header: Header = whole(envelope.header.0)?;
    if header.version != VERSION {
        return Err(EnvelopeError::Malformed);
    }
    if header.sender != sender.fingerprint() {
        return Err(EnvelopeError::Sender);
    }
    sender.verify(context, envelope.header.0, envelope.signature.0).map_err(|_| EnvelopeError::Signature)?;
    if header.payload != hash(envelope.payload.0) {
        return Err(EnvelopeError::Signature);
    }
    if header.audience != me {
        return Err(EnvelopeError::Misdirected);
    }
    Ok(Opened { header, payload: envelope.payload.0.to_vec() })
}

/// Decodes with nothing left over.
fn whole<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, EnvelopeError> {
    match postcard::take_from_bytes(bytes) {
        Ok((value, [])) => Ok(value),
        _ => Err(EnvelopeError::Malformed),
    }
}

#[cfg(test)]
mod tests;
