//! The key a seller signs its offers with (x402 `offer-receipt`), as a policy pins it.

use std::fmt;
use std::str::FromStr;

use alloy_primitives::{Address, hex};

use super::parse_address;

/// A pinned key. secp256k1 keys are kept as the account they recover to, which is what an EIP-712 offer shows of its signer.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum OfferKey {
    /// secp256k1: EIP-712 offers, and JWS with `ES256K`.
    Secp256k1(Address),
    /// P-256, SEC 1 compressed or uncompressed: JWS with `ES256`.
    P256(Box<[u8]>),
}

/// Not a key we can verify with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "not an offer key: write the seller's did:key:z… (P-256 or secp256k1), its public key as 0x and the hex of SEC 1, or for EIP-712 offers the signer's address 0x…"
)]
pub struct OfferKeyError;

impl FromStr for OfferKey {
    type Err = OfferKeyError;

    fn from_str(text: &str) -> Result<Self, OfferKeyError> {
        if let Some(address) = parse_address(text) {
            return if address.is_zero() { Err(OfferKeyError) } else { Ok(Self::Secp256k1(address)) };
        }
        if let Some(digits) = text.strip_prefix("0x") {
            // Hex alone does not name its curve: secp256k1 is what x402 sellers sign with, P-256 comes as did:key.
            return secp256k1(&hex::decode(digits).map_err(|_| OfferKeyError)?);
        }
        let bytes = text.strip_prefix("did:key:z").and_then(base58).ok_or(OfferKeyError)?;
        match bytes.as_slice() {
            [0xe7, 0x01, point @ ..] => secp256k1(point),
            [0x80, 0x24, point @ ..] if point.len() == 33 && matches!(point[0], 2 | 3) => Ok(Self::P256(point.into())),
            _ => Err(OfferKeyError),
        }
    }
}

fn secp256k1(point: &[u8]) -> Result<OfferKey, OfferKeyError> {
    let key = k256::ecdsa::VerifyingKey::from_sec1_bytes(point).map_err(|_| OfferKeyError)?;
    Ok(OfferKey::Secp256k1(Address::from_public_key(&key)))
}

/// Bitcoin's base58, at most the 35 bytes of a did:key with room to spare.
fn base58(text: &str) -> Option<Vec<u8>> {
    const ALPHABET: &[u8; 58] = b"123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";
    if text.is_empty() || text.len() > 64 {
        return None;
    }
    let mut little: Vec<u8> = Vec::new();
    for c in text.bytes() {
        let mut carry = ALPHABET.iter().position(|a| *a == c)?;
        for byte in &mut little {
            carry += usize::from(*byte) * 58;
            *byte = u8::try_from(carry & 0xff).ok()?;
            carry >>= 8;
        }
        while carry > 0 {
            little.push(u8::try_from(carry & 0xff).ok()?);
            carry >>= 8;
        }
    }
    let zeros = text.bytes().take_while(|c| *c == b'1').count();
    little.extend(std::iter::repeat_n(0, zeros));
    little.reverse();
    Some(little)
}

impl fmt::Debug for OfferKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Secp256k1(address) => write!(f, "Secp256k1({address})"),
            Self::P256(point) => write!(f, "P256({})", hex::encode(point)),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_key_is_read_in_each_of_its_forms_and_nothing_else_is() {
        let all: serde_json::Value = serde_json::from_str(include_str!("../../tests/fixtures/x402-signed-offers.json")).unwrap();
        let key = |path: &str| all.pointer(path).unwrap().as_str().unwrap().parse::<OfferKey>();
        let secp = key("/keys/es256k/did").unwrap();
        assert!(matches!(secp, OfferKey::Secp256k1(_)));
        assert_eq!(key("/keys/es256k/compressed").unwrap(), secp);
        assert_eq!(key("/keys/es256k/uncompressed").unwrap(), secp);
        assert!(matches!(key("/keys/es256/did").unwrap(), OfferKey::P256(_)));
        assert!(matches!(key("/keys/eip712").unwrap(), OfferKey::Secp256k1(_)));
        let zero = format!("0x{}", "0".repeat(40));
        for text in [
            "",
            "did:key:",
            "did:key:z",
            "did:key:z0",
            "did:web:api.example",
            "0x",
            "0x02",
            &zero,
            "did:key:z6MkhaXgBZDvotDkL5257faiztiGiC2QtKLGpbnnEGta2doK",
        ] {
            assert_eq!(text.parse::<OfferKey>(), Err(OfferKeyError), "{text}");
        }
    }
}
