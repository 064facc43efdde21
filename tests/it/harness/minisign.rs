//! Signatures in the format of minisign, made here so that tests need no such program.

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use blake2::{Blake2b512, Digest as _};

/// Somebody who signs policies.
pub(crate) struct Minisign {
    pair: Ed25519KeyPair,
    id: [u8; 8],
}

impl Minisign {
    pub(crate) fn new(seed: u8) -> Self {
        Self { pair: Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap(), id: [seed; 8] }
    }

    /// As it stands in `policy_keys`.
    pub(crate) fn public(&self) -> String {
        STANDARD.encode([b"Ed", &self.id[..], self.pair.public_key().as_ref()].concat())
    }

    /// The signature's file, as if made at `at`, Unix seconds.
    pub(crate) fn sign(&self, content: &str, at: u64) -> String {
        let signature = self.pair.sign(&Blake2b512::digest(content.as_bytes()));
        let comment = format!("timestamp:{at}\tfile:policy.yaml\thashed");
        let all = self.pair.sign(&[signature.as_ref(), comment.as_bytes()].concat());
        let (first, second) = (STANDARD.encode([b"ED", &self.id[..], signature.as_ref()].concat()), STANDARD.encode(all.as_ref()));
        format!("untrusted comment: signature\n{first}\ntrusted comment: {comment}\n{second}\n")
    }
}
