//! Bytes on the wire to payment vocabulary, and back: what a 402 asks, what the retry carries, what a receipt claims.
//!
//! Pure code: no socket, clock or store. It normalises and refuses; it never decides to pay. Wrong *entries* are kept as
//! [`crate::payment::Rejected`] so that one of them cannot hide a good one; a challenge that is wrong as a whole is a [`ParseError`] and
//! goes back to the agent untouched, as does everything that is no challenge of ours.
//!
//! Only HTTP bindings live here. A new protocol is one module and one arm in each function below.

pub mod body;
mod signed_offer;
mod x402;

use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use crate::payment::{AssetTable, Challenge, Offer, ProtocolId, Reason, Receipt, Signed, Timestamp, WireEntry};

/// A seller's answer, as far as a challenge can be in it.
#[derive(Clone, Copy, Debug)]
pub struct Answer<'a> {
    /// HTTP status; only 402 can be a challenge.
    pub status: u16,
    /// Response headers, as received.
    pub headers: &'a HeaderMap,
    /// The body after [`body::decode`]; empty if [`may_be_in_body`] said no.
    pub body: &'a [u8],
}

/// A challenge that names one of our protocols but cannot be read as a whole. It is passed on untouched, never paid.
///
/// The texts name the field and never repeat what the seller wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// Two `PAYMENT-REQUIRED` lines: which one the seller means cannot be known (RFC 9110 §5.3).
    #[error("PAYMENT-REQUIRED stands in more than one header line")]
    RepeatedHeader,
    /// Not base64 of the standard alphabet (RFC 4648 §4).
    #[error("PAYMENT-REQUIRED is not standard base64")]
    NotBase64,
    /// Not UTF-8 text of one JSON object.
    #[error("PAYMENT-REQUIRED does not hold a JSON object")]
    NotObject,
    /// A key is given twice. Readers differ in which value they take, so none is taken.
    #[error("the challenge has a duplicate key")]
    DuplicateKey,
    /// `x402Version` is not the JSON number of the place it was found in.
    #[error("x402Version is not the number 2")]
    Version,
    /// `accepts` is no array.
    #[error("accepts is missing or not an array")]
    Accepts,
    /// `accepts` has no entries, as on a route that only wants a sign-in.
    #[error("accepts is empty")]
    NoOffers,
}

/// Reads a challenge. `Ok(None)` is an answer of no protocol we know; `Ok(Some)` may hold zero valid offers.
///
/// The `PAYMENT-REQUIRED` header decides alone when it is there: header and body are never merged, and a broken v2 header does not fall
/// back to a v1 body, which would be a downgrade the network could force (x402 v2 HTTP transport).
///
/// # Errors
/// [`ParseError`] if the challenge is ours but broken as a whole.
pub fn parse(answer: &Answer<'_>, assets: &AssetTable) -> Result<Option<Challenge>, ParseError> {
    if answer.status != StatusCode::PAYMENT_REQUIRED.as_u16() {
        return Ok(None);
    }
    match parse_head(answer.headers, assets)? {
        Some(challenge) => Ok(Some(challenge)),
        None => x402::v1::parse(answer.body, assets),
    }
}

/// Reads a challenge from the headers of a 402 alone; `Ok(None)` means that only the body can tell.
///
/// # Errors
/// [`ParseError`] if the header is there but broken.
pub fn parse_head(headers: &HeaderMap, assets: &AssetTable) -> Result<Option<Challenge>, ParseError> {
    x402::v2::parse(headers, assets)
}

/// Whether the body of a 402 can hold a challenge, by its type: JSON, or not stated (x402 v1).
pub fn may_be_in_body(headers: &HeaderMap) -> bool {
    let Some(value) = headers.get(CONTENT_TYPE) else { return true };
    let essence = value.as_bytes().split(|b| *b == b';').next().unwrap_or_default().trim_ascii().to_ascii_lowercase();
    essence.is_empty() || essence.ends_with(b"/json") || essence.ends_with(b"+json")
}

/// Headers in which an agent pays by itself: x402 v2 and v1, MPP, and the two price headers of pay per crawl.
const PAYMENT_HEADERS: [&str; 5] = ["payment-signature", "x-payment", "payment-authorization", "crawler-exact-price", "crawler-max-price"];

/// `Authorization` schemes that are payments: MPP (`Payment`), L402 and its former name.
const PAYMENT_SCHEMES: [&[u8]; 3] = [b"payment", b"l402", b"lsat"];

/// True if the request already carries a payment of the agent's own: we stand aside, whatever the answer is.
pub fn carries_payment(headers: &HeaderMap) -> bool {
    let scheme_pays = |value: &HeaderValue| {
        let scheme = value.as_bytes().trim_ascii_start().split(u8::is_ascii_whitespace).next().unwrap_or_default();
        PAYMENT_SCHEMES.iter().any(|known| scheme.eq_ignore_ascii_case(known))
    };
    headers.keys().any(|name| PAYMENT_HEADERS.contains(&name.as_str())) || headers.get_all(AUTHORIZATION).iter().any(scheme_pays)
}

/// The one header that turns the repeated request into a paid one; the value is marked sensitive.
///
/// A function of stored parts only, so that a payment which is presented again is the same bytes.
pub fn credential(protocol: ProtocolId, wire: &WireEntry, signed: &Signed) -> (HeaderName, HeaderValue) {
    match protocol {
        ProtocolId::X402V1 => x402::v1::credential(signed),
        ProtocolId::X402V2 => x402::v2::credential(wire, signed),
    }
}

/// What the seller claims about the settlement; `None` if it claims nothing readable, which is never an error that matters.
pub fn receipt(protocol: ProtocolId, headers: &HeaderMap) -> Option<Receipt> {
    match protocol {
        ProtocolId::X402V1 => x402::receipt(headers, &x402::v1::RECEIPT),
        ProtocolId::X402V2 => x402::receipt(headers, &x402::v2::RECEIPT),
    }
}

/// The `validAfter` to sign, in Unix seconds: 0 in v2; ten minutes ago in v1, whose facilitators expect the reference client's habit.
pub fn valid_after(protocol: ProtocolId, now: Timestamp) -> u64 {
    match protocol {
        ProtocolId::X402V1 => u64::try_from(now.secs()).unwrap_or(0).saturating_sub(600),
        ProtocolId::X402V2 => 0,
    }
}

/// The seller's signed offer for `offer`, if its challenge had one (x402 `offer-receipt`): unverified, for a co-signer that pins keys.
pub fn signed_offer(offer: &Offer) -> Option<String> {
    signed_offer::find(offer)
}

/// Rebuilds an offer from what the ledger kept, to present or sign it again after a restart.
///
/// The entry goes through the same validation as on the wire, under today's asset table. `index` is not stored and comes back as 0.
///
/// # Errors
/// The [`Reason`] why the entry cannot be paid any more.
pub fn restore(protocol: ProtocolId, wire: &WireEntry, assets: &AssetTable) -> Result<Offer, Reason> {
    match protocol {
        ProtocolId::X402V1 => x402::v1::DIALECT.offer(0, wire, assets),
        ProtocolId::X402V2 => x402::v2::DIALECT.offer(0, wire, assets),
    }
}

#[cfg(test)]
mod tests;
