//! A purchase: one payment under a request key, with one nonce for life (M1.1, M1.2).

use std::fmt;

use alloy_primitives::{Address, B256, hex, keccak256};

/// Identifies one purchase for ever; 16 random bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PurchaseId([u8; 16]);

impl PurchaseId {
    /// From 16 fresh random bytes.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The raw bytes, for the store and the nonce.
    pub const fn bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// Parses the hex form that [`fmt::Display`] writes.
    pub fn from_hex(text: &str) -> Option<Self> {
        let bytes = hex::decode(text).ok()?;
        Some(Self(bytes.try_into().ok()?))
    }
}

impl fmt::Display for PurchaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for PurchaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PurchaseId({self})")
    }
}

/// SHA-256 over everything that makes two requests "the same purchase" (M1.1). Price terms are not in it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestKey(pub [u8; 32]);

impl fmt::Debug for RequestKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RequestKey({})", hex::encode(&self.0[..8]))
    }
}

/// The EIP-3009 nonce of a purchase.
///
/// Derived, never drawn: `keccak256("tollpass/1" ‖ wallet ‖ purchase id)` (M1.2). Whoever re-signs for the purchase, in
/// whatever process, gets the same nonce, so the token contract itself admits one transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Nonce(B256);

impl Nonce {
    /// The one nonce of `purchase` paid from `wallet`.
    pub fn derive(wallet: Address, purchase: &PurchaseId) -> Self {
        let mut input = Vec::with_capacity(46);
        input.extend_from_slice(b"tollpass/1");
        input.extend_from_slice(wallet.as_slice());
        input.extend_from_slice(purchase.bytes());
        Self(keccak256(input))
    }

    /// The nonce of a recovery that `ceremony` made: under a prefix of its own, so that it can be no purchase's.
    pub fn of_recovery(wallet: Address, ceremony: &[u8; 32]) -> Self {
        Self(keccak256([&b"tollpass wallet recover/1"[..], wallet.as_slice(), ceremony].concat()))
    }

    /// A given nonce: for test vectors made by other payers, never on the payment path.
    pub const fn from_vector(bytes: B256) -> Self {
        Self(bytes)
    }

    /// The 32 bytes that are signed.
    pub const fn bytes(&self) -> B256 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn one_purchase_has_one_nonce_and_two_have_two() {
        let (a, b) = (PurchaseId::from_bytes([1; 16]), PurchaseId::from_bytes([2; 16]));
        let wallet = Address::repeat_byte(7);
        assert_eq!(Nonce::derive(wallet, &a), Nonce::derive(wallet, &a));
        assert_ne!(Nonce::derive(wallet, &a), Nonce::derive(wallet, &b));
        assert_ne!(Nonce::derive(wallet, &a), Nonce::derive(Address::ZERO, &a));
        let mut input = b"tollpass/1".to_vec();
        input.extend_from_slice(&[7; 20]);
        input.extend_from_slice(&[1; 16]);
        assert_eq!(Nonce::derive(wallet, &a).bytes(), keccak256(input));
        assert_eq!(PurchaseId::from_hex(&a.to_string()), Some(a));
    }
}
