//! A seller's signed offer (x402 `offer-receipt`, spec of 2026): its terms are proven by a key that policy pins for the entry.
//!
//! Both formats: EIP-712 (`{format, payload, signature}`, domain `x402 offer` version 1 on chain id 1, whatever the network),
//! and JWS compact with `ES256` or `ES256K`. A `jwk` or `kid` in a JWS header names a key and proves nothing, so it is not
//! looked at: only the pinned keys are tried. `acceptIndex` is not signed and is ignored.

use alloy_primitives::{Address, B256, Signature, U256, hex};
use alloy_sol_types::{Eip712Domain, SolStruct, sol};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::probe;
use super::trust::{Proven, SellerTerms};
use crate::payment::{AssetId, ChainId, OfferKey, Timestamp, parse_address};

/// Longest text that is read, bytes.
pub const MAX_OFFER: usize = 8 << 10;

sol! {
    struct Offer {
        uint256 version;
        string resourceUrl;
        string scheme;
        string network;
        string asset;
        string payTo;
        string amount;
        uint256 validUntil;
    }
}

/// Why an offer proves nothing. Says which check failed, never what the seller wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OfferError {
    /// Too long, no JSON, not the fields of a signed offer of version 1.
    #[error("not a signed offer of version 1")]
    Malformed,
    /// No pinned key made this signature.
    #[error("no pinned key signed it")]
    Signature,
    /// Its end has passed.
    #[error("it has ended")]
    Ended,
    /// A scheme, network, token or payee that we do not pay.
    #[error("its terms are not an exact payment on an EVM chain")]
    Terms,
}

#[derive(Deserialize)]
struct Signed {
    format: String,
    payload: Option<Payload>,
    signature: String,
}

/// The signed fields, in both formats.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Payload {
    version: u64,
    resource_url: String,
    scheme: String,
    network: String,
    asset: String,
    pay_to: String,
    amount: String,
    #[serde(default)]
    valid_until: Option<u64>,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    crit: Option<serde::de::IgnoredAny>,
    b64: Option<serde::de::IgnoredAny>,
}

/// The terms of `text`, if one of `keys` signed them and they have not ended.
///
/// # Errors
/// [`OfferError`].
pub fn verify(text: &str, keys: &[OfferKey], now: Timestamp) -> Result<Proven<SellerTerms>, OfferError> {
    if text.len() > MAX_OFFER {
        return Err(OfferError::Malformed);
    }
    let signed: Signed = serde_json::from_str(text).map_err(|_| OfferError::Malformed)?;
    let payload = match (signed.format.as_str(), signed.payload) {
        ("eip712", Some(payload)) => eip712(payload, &signed.signature, keys)?,
        ("jws", None) => jws(&signed.signature, keys)?,
        _ => return Err(OfferError::Malformed),
    };
    if payload.version != 1 {
        return Err(OfferError::Malformed);
    }
    // Zero is the same as absent (§4.3).
    let until = payload.valid_until.filter(|until| *until > 0);
    if until.is_some_and(|until| u64::try_from(now.secs()).is_ok_and(|now| now > until)) {
        return Err(OfferError::Ended);
    }
    terms(&payload).map(Proven::new).ok_or(OfferError::Terms)
}

fn terms(payload: &Payload) -> Option<SellerTerms> {
    if payload.scheme != "exact" {
        return None;
    }
    let chain: ChainId = payload.network.parse().ok()?;
    let amount = &payload.amount;
    let canonical = amount == "0" || (!amount.is_empty() && !amount.starts_with('0') && amount.bytes().all(|b| b.is_ascii_digit()));
    Some(SellerTerms {
        payee: parse_address(&payload.pay_to)?,
        asset: AssetId { chain, token: parse_address(&payload.asset)? },
        amount: canonical.then(|| U256::from_str_radix(amount, 10).ok())??,
        host: probe::host_of(&payload.resource_url)?,
    })
}

fn eip712(payload: Payload, signature: &str, keys: &[OfferKey]) -> Result<Payload, OfferError> {
    let offer = Offer {
        version: U256::from(payload.version),
        resourceUrl: payload.resource_url.clone(),
        scheme: payload.scheme.clone(),
        network: payload.network.clone(),
        asset: payload.asset.clone(),
        payTo: payload.pay_to.clone(),
        amount: payload.amount.clone(),
        validUntil: U256::from(payload.valid_until.unwrap_or(0)),
    };
    let domain = Eip712Domain::new(Some("x402 offer".into()), Some("1".into()), Some(U256::from(1)), None, None);
    let raw: [u8; 65] = signature
        .strip_prefix("0x")
        .and_then(|digits| hex::decode(digits).ok())
        .and_then(|raw| raw.try_into().ok())
        .ok_or(OfferError::Malformed)?;
    let signature = Signature::from_raw_array(&raw).map_err(|_| OfferError::Malformed)?;
    let signer = recover(&signature, offer.eip712_signing_hash(&domain)).ok_or(OfferError::Signature)?;
    if keys.contains(&OfferKey::Secp256k1(signer)) { Ok(payload) } else { Err(OfferError::Signature) }
}

/// One account per signature: the twin with the high s is not taken.
fn recover(signature: &Signature, digest: B256) -> Option<Address> {
    if signature.normalize_s().is_some() {
        return None;
    }
    signature.recover_address_from_prehash(&digest).ok()
}

fn jws(compact: &str, keys: &[OfferKey]) -> Result<Payload, OfferError> {
    let (input, signature) = compact.rsplit_once('.').ok_or(OfferError::Malformed)?;
    let (header, payload) = input.split_once('.').ok_or(OfferError::Malformed)?;
    let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| OfferError::Malformed);
    let header: Header = serde_json::from_slice(&decode(header)?).map_err(|_| OfferError::Malformed)?;
    let raw: [u8; 64] = decode(signature)?.try_into().map_err(|_| OfferError::Malformed)?;
    // RFC 7515 §4.1.11: what is critical and not understood is refused; and RFC 7797 would change what was signed.
    if header.crit.is_some() || header.b64.is_some() {
        return Err(OfferError::Malformed);
    }
    let signed = match header.alg.as_str() {
        "ES256" => keys.iter().any(|key| is_p256(key, input.as_bytes(), &raw)),
        "ES256K" => keys.iter().any(|key| is_secp256k1(key, input.as_bytes(), &raw)),
        _ => false,
    };
    if !signed {
        return Err(OfferError::Signature);
    }
    serde_json::from_slice(&decode(payload)?).map_err(|_| OfferError::Malformed)
}

fn is_p256(key: &OfferKey, input: &[u8], raw: &[u8; 64]) -> bool {
    let OfferKey::P256(point) = key else { return false };
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(input, raw).is_ok()
}

/// A JWS says nothing of the parity, so both accounts it could recover to are compared with the pinned one. A high s is a valid
/// ES256K signature (RFC 8812 does not forbid it), so it is turned.
fn is_secp256k1(key: &OfferKey, input: &[u8], raw: &[u8; 64]) -> bool {
    let OfferKey::Secp256k1(pinned) = key else { return false };
    let digest = B256::from_slice(&Sha256::digest(input));
    [false, true].into_iter().any(|parity| {
        let signature = Signature::from_bytes_and_parity(raw, parity);
        let signature = signature.normalize_s().unwrap_or(signature);
        recover(&signature, digest) == Some(*pinned)
    })
}
