//! x402 over HTTP: what versions 1 and 2 share.
//!
//! The two versions differ in where a challenge stands, in two field names and in the envelope of the payment. Those differences are a
//! [`Dialect`] and two small modules; entries are validated by one piece of code, [`exact_evm`].

mod exact_evm;
mod object;
pub(super) mod v1;
pub(super) mod v2;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::value::RawValue;

use crate::payment::{AssetTable, ChainId, Challenge, Offer, ProtocolId, Reason, Receipt, Rejected, SellerText, Signed, WireEntry};

use super::ParseError;
use object::Object;

/// Entries of `accepts` that are read. Real sellers list a handful; a long list is work for nothing.
const MAX_ENTRIES: usize = 64;

/// Standard alphabet; padding may be missing, as JavaScript's `atob` allows (x402 reference §2.1). base64url is refused.
const BASE64: GeneralPurpose =
    GeneralPurpose::new(&alphabet::STANDARD, GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent));

/// How one version writes an entry of `accepts`.
pub(super) struct Dialect {
    protocol: ProtocolId,
    /// Name of the field with the price.
    amount: &'static str,
    /// Reads `network`.
    chain: fn(&str) -> Option<ChainId>,
}

impl Dialect {
    /// Validates one entry.
    pub(super) fn offer(&self, index: usize, wire: &WireEntry, assets: &AssetTable) -> Result<Offer, Reason> {
        let entry = Object::read_deep(&wire.accepted).ok_or(Reason::MalformedOffer)?;
        exact_evm::offer(self, index, &entry, wire, assets)
    }

    /// Validates every entry by itself; `echo` is the v2 resource and extensions they share.
    fn challenge(&self, object: &Object<'_>, echo: &WireEntry, assets: &AssetTable) -> Result<Challenge, ParseError> {
        let accepts = object.get("accepts").ok_or(ParseError::Accepts)?;
        let entries: Vec<&RawValue> = serde_json::from_str(accepts.get()).map_err(|_| ParseError::Accepts)?;
        if entries.is_empty() {
            return Err(ParseError::NoOffers);
        }
        let error = object.string("error").map(SellerText::new);
        let mut challenge = Challenge { protocol: self.protocol, offers: Vec::new(), rejected: Vec::new(), error };
        for (index, entry) in entries.iter().take(MAX_ENTRIES).enumerate() {
            let wire = WireEntry { accepted: entry.get().into(), ..echo.clone() };
            match self.offer(index, &wire, assets) {
                Ok(offer) => challenge.offers.push(offer),
                Err(reason) => challenge.rejected.push(Rejected { index, reason }),
            }
        }
        if entries.len() > MAX_ENTRIES {
            challenge.rejected.push(Rejected { index: MAX_ENTRIES, reason: Reason::TooManyOffers });
        }
        Ok(challenge)
    }
}

/// `payload` of an EIP-3009 payment: decimal strings, EIP-55 addresses, keys in the order of the JavaScript client (x402 `exact` on EVM).
fn payload(signed: &Signed) -> String {
    let a = signed.authorization();
    format!(
        r#"{{"authorization":{{"from":"{}","to":"{}","value":"{}","validAfter":"{}","validBefore":"{}","nonce":"{}"}},"signature":"{}"}}"#,
        a.from.0,
        a.to.0,
        a.value,
        a.valid_after,
        a.valid_before,
        a.nonce.bytes(),
        alloy_primitives::hex::encode_prefixed(signed.bytes()),
    )
}

/// Base64 of `json` as a header value that is kept out of `Debug` output and header compression tables.
fn credential_header(name: HeaderName, json: &str) -> (HeaderName, HeaderValue) {
    let mut value = HeaderValue::try_from(STANDARD.encode(json)).expect("base64 is visible ASCII");
    value.set_sensitive(true);
    (name, value)
}

/// Text of a base64 header, optional whitespace around it removed (RFC 9110 §5.5).
fn decode_header(value: &HeaderValue) -> Result<String, ParseError> {
    let bytes = BASE64.decode(value.as_bytes().trim_ascii()).map_err(|_| ParseError::NotBase64)?;
    String::from_utf8(bytes).map_err(|_| ParseError::NotObject)
}

/// Reads a `SettleResponse` (x402 v2 §5.3) from the header of either version.
pub(super) fn receipt(headers: &HeaderMap, name: &HeaderName) -> Option<Receipt> {
    let mut lines = headers.get_all(name).iter();
    let (Some(line), None) = (lines.next(), lines.next()) else { return None };
    let text = decode_header(line).ok()?;
    let object = Object::read(&text).filter(|o| !o.has_duplicate())?;
    let success = match object.get("success")?.get() {
        "true" => true,
        "false" => false,
        _ => return None,
    };
    let transaction = object.string("transaction").filter(|t| is_hash(t));
    let error = object.string("errorReason").filter(|t| !t.is_empty()).map(SellerText::new);
    Some(Receipt { success, transaction, error })
}

fn is_hash(text: &str) -> bool {
    text.strip_prefix("0x").is_some_and(|digits| digits.len() == 64 && digits.bytes().all(|b| b.is_ascii_hexdigit()))
}

#[cfg(test)]
mod vectors_test;
