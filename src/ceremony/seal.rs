//! Sealing what is for one receiver alone: HPKE (RFC 9180), P-256, ChaCha20-Poly1305, a fresh key per party and ceremony (S6).
//!
//! Base mode: who sealed it is said by the signature over the sealed bytes, see [`super::post`].

use rustls::crypto::aws_lc_rs::hpke::DH_KEM_P256_HKDF_SHA256_CHACHA20_POLY1305 as SUITE;
use rustls::crypto::hpke::{EncapsulatedSecret, Hpke, HpkePrivateKey, HpkePublicKey};
use zeroize::Zeroizing;

use super::post::Slot;
use crate::mpc::Party;

/// Uncompressed P-256 point.
const ENCAPSULATED: usize = 65;

/// This party's key for one ceremony.
pub struct Keys {
    public: Vec<u8>,
    private: HpkePrivateKey,
}

impl Keys {
    /// Makes one; `None` if the system gives no randomness.
    pub fn generate() -> Option<Self> {
        let (public, private) = SUITE.generate_key_pair().ok()?;
        Some(Self { public: public.0, private })
    }

    /// The public half, for the hello.
    pub fn public(&self) -> &[u8] {
        &self.public
    }

    /// Opens what was sealed to this key for `slot` of the ceremony `instance`.
    pub fn open(&self, instance: &[u8; 32], slot: Slot, sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let (secret, text) = sealed.split_at_checked(ENCAPSULATED)?;
        let secret = EncapsulatedSecret(secret.to_vec());
        SUITE.open(&secret, &info(instance), &aad(slot), text, &self.private).ok().map(Zeroizing::new)
    }
}

/// Seals `text` to the key `to`.
pub fn seal(to: &[u8], instance: &[u8; 32], slot: Slot, text: &[u8]) -> Option<Vec<u8>> {
    let (secret, sealed) = SUITE.seal(&info(instance), &aad(slot), text, &HpkePublicKey(to.to_vec())).ok()?;
    (secret.0.len() == ENCAPSULATED).then(|| [secret.0, sealed].concat())
}

fn info(instance: &[u8; 32]) -> Vec<u8> {
    [&b"tollpass ceremony seal/1"[..], instance].concat()
}

fn aad(slot: Slot) -> [u8; 3] {
    [slot.round, slot.from.index(), slot.to.map_or(0, Party::index)]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn only_the_receiver_opens_and_only_in_its_place() {
        let (keys, other) = (Keys::generate().unwrap(), Keys::generate().unwrap());
        let slot = Slot { round: 3, from: Party::Sidecar, to: Some(Party::Cold) };
        let sealed = seal(keys.public(), &[1; 32], slot, b"fragment").unwrap();
        assert_eq!(keys.open(&[1; 32], slot, &sealed).unwrap()[..], *b"fragment");
        assert!(!sealed.windows(8).any(|w| w == b"fragment"));
        assert!(other.open(&[1; 32], slot, &sealed).is_none());
        assert!(keys.open(&[2; 32], slot, &sealed).is_none());
        assert!(keys.open(&[1; 32], Slot { round: 4, ..slot }, &sealed).is_none());
        assert!(keys.open(&[1; 32], Slot { from: Party::Cosigner, ..slot }, &sealed).is_none());
        for cut in [0, 64, 65, sealed.len() - 1] {
            assert!(keys.open(&[1; 32], slot, &sealed[..cut]).is_none());
        }
        assert!(seal(&[4; 65], &[1; 32], slot, b"x").is_none());
    }
}
