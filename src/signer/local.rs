//! A whole key in this process: laptops, the demo, tests. It says so in the log, in `tollpass_build_info` and in the console.
//!
//! Signs with RFC 6979 nonces and low s, on the thread that asks: a signature takes less than waking another thread would.

use std::time::Instant;

use alloy_primitives::{Address, Signature};
use secp256k1::{Message, Secp256k1, SecretKey, SignOnly};
use zeroize::Zeroizing;

use super::{BoxFuture, SignError, Signer};
use crate::ledger::{Outcome, SignRequest};
use crate::payment::{AgentId, Payer, PurchaseId, Reason, Signed};

/// The local signer: one account for all agents.
pub struct LocalSigner {
    account: Payer,
    key: Key,
    /// Blinds the arithmetic on the key.
    blind: Secp256k1<SignOnly>,
}

/// Wiped when it is dropped.
struct Key(SecretKey);

impl Drop for Key {
    fn drop(&mut self) {
        self.0.non_secure_erase();
    }
}

/// A key that cannot be used. Never shows the text it was read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a secp256k1 private key: write 64 hexadecimal digits (0x is optional)")]
pub struct KeyError;

impl LocalSigner {
    /// A signer for a hex-encoded private key.
    ///
    /// # Errors
    /// [`KeyError`] if the text is not a valid key.
    pub fn start(key_hex: &str) -> Result<Self, KeyError> {
        let digits = key_hex.trim();
        let digits = digits.strip_prefix("0x").unwrap_or(digits);
        let bytes = Zeroizing::new(alloy_primitives::hex::decode(digits).map_err(|_| KeyError)?);
        let bytes: Zeroizing<[u8; 32]> = Zeroizing::new(bytes.as_slice().try_into().map_err(|_| KeyError)?);
        let key = Key(SecretKey::from_byte_array(*bytes).map_err(|_| KeyError)?);
        let mut blind = Secp256k1::signing_only();
        blind.seeded_randomize(&rand::random());
        let account = Payer(Address::from_secp256k1_public_key(&key.0.public_key(&blind)));
        Ok(Self { account, key, blind })
    }

    fn sign(&self, request: &SignRequest) -> Result<Signed, SignError> {
        let authorization = request.authorization();
        if authorization.from != self.account {
            return Err(SignError::refused(Reason::SignerRefused));
        }
        let message = Message::from_digest(authorization.digest().0);
        let signature = Signature::from(self.blind.sign_ecdsa_recoverable(message, &self.key.0));
        Ok(Signed::new(authorization.clone(), signature.as_bytes())?)
    }
}

impl Signer for LocalSigner {
    fn account(&self, _agent: &AgentId) -> Result<Payer, SignError> {
        Ok(self.account)
    }

    fn authorize<'a>(&'a self, request: &'a SignRequest, _deadline: Instant) -> BoxFuture<'a, Result<Signed, SignError>> {
        Box::pin(async move { self.sign(request) })
    }

    fn settle(&self, _id: PurchaseId, _outcome: Outcome) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }

    fn listens(&self) -> bool {
        false
    }

    fn warm<'a>(&'a self, _agent: &'a AgentId, _n: usize) -> BoxFuture<'a, ()> {
        Box::pin(std::future::ready(()))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_account_is_the_keys_address_and_a_bad_key_is_refused_without_echo() {
        let anvil0 = "0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80";
        let signer = LocalSigner::start(anvil0).unwrap();
        let payer = signer.account(&"a".parse().unwrap()).unwrap();
        assert_eq!(payer.0.to_string(), "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266");
        for bad in ["", "12", "zz", &"0".repeat(64), &"f".repeat(64)] {
            let error = LocalSigner::start(bad).err().unwrap();
            assert!(!error.to_string().contains("zz"));
        }
    }
}
