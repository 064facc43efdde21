//! x402 version 2: challenge in `PAYMENT-REQUIRED`, payment in `PAYMENT-SIGNATURE`, receipt in `PAYMENT-RESPONSE`.
//!
//! The payment echoes the chosen entry verbatim, because servers deep-compare it, and the resource and extensions as far as they are
//! small: both are optional, not signed and not compared (x402 reference §2.4, §9), while Node servers refuse 16 KiB of headers.

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::payment::{AssetTable, Challenge, ProtocolId, Signed, WireEntry};

use super::object::Object;
use super::{Dialect, ParseError};

/// x402 v2 HTTP transport: the response header with the challenge.
const CHALLENGE: HeaderName = HeaderName::from_static("payment-required");

/// x402 v2 HTTP transport: the request header with the payment.
const PAYMENT: HeaderName = HeaderName::from_static("payment-signature");

/// x402 v2 HTTP transport: the response header with the receipt.
pub(in crate::protocol) const RECEIPT: HeaderName = HeaderName::from_static("payment-response");

/// How version 2 writes an entry: `network` is canonical CAIP-2.
pub(in crate::protocol) const DIALECT: Dialect =
    Dialect { protocol: ProtocolId::X402V2, amount: "amount", chain: |text| text.parse().ok() };

/// Bytes of resource and extensions together that are echoed; base64 makes a third more of them.
const MAX_ECHO: usize = 8 * 1024;

/// Reads the header of a 402; `Ok(None)` if it is absent or empty.
pub(in crate::protocol) fn parse(headers: &HeaderMap, assets: &AssetTable) -> Result<Option<Challenge>, ParseError> {
    let mut lines = headers.get_all(CHALLENGE).iter();
    let Some(line) = lines.next() else { return Ok(None) };
    if lines.next().is_some() {
        return Err(ParseError::RepeatedHeader);
    }
    if line.as_bytes().trim_ascii().is_empty() {
        return Ok(None);
    }
    let text = super::decode_header(line)?;
    let object = Object::read(&text).ok_or(ParseError::NotObject)?;
    if object.has_duplicate() {
        return Err(ParseError::DuplicateKey);
    }
    if object.get("x402Version").is_none_or(|v| v.get() != "2") {
        return Err(ParseError::Version);
    }
    DIALECT.challenge(&object, &echo(&object), assets).map(Some)
}

/// Resource first, then extensions, each only if it is an object and still fits.
fn echo(object: &Object<'_>) -> WireEntry {
    let mut left = MAX_ECHO;
    let mut take = |key: &str| -> Option<Arc<str>> {
        let text = object.get(key)?.get();
        let fits = text.starts_with('{') && text.len() <= left;
        fits.then(|| {
            left -= text.len();
            text.into()
        })
    };
    let resource = take("resource");
    WireEntry { accepted: "".into(), resource, extensions: take("extensions") }
}

/// The payment of version 2, keys in the order of the JavaScript client (`_meta.jsonKeyOrder` of the reference vectors).
pub(in crate::protocol) fn credential(wire: &WireEntry, signed: &Signed) -> (HeaderName, HeaderValue) {
    let member = |key: &str, text: &Option<Arc<str>>| text.as_ref().map_or_else(String::new, |t| format!(r#""{key}":{t},"#));
    let json = format!(
        r#"{{"x402Version":2,"payload":{},{}{}"accepted":{}}}"#,
        super::payload(signed),
        member("extensions", &wire.extensions),
        member("resource", &wire.resource),
        wire.accepted,
    );
    super::credential_header(PAYMENT, &json)
}
