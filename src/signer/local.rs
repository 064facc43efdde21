//! A whole key in this process: laptops, the demo, tests. It says so in the log, in `tollpass_build_info` and in the console.
//!
//! Signs with RFC 6979 nonces and low s on one thread of its own at lower priority, so that elliptic-curve work never
//! delays a proxied byte.

use std::sync::mpsc;
use std::time::Instant;

use alloy_primitives::{Address, B256, keccak256};
use k256::ecdsa::SigningKey;
use tokio::sync::oneshot;
use zeroize::Zeroizing;

use super::{BoxFuture, SignError, Signer};
use crate::ledger::{Outcome, SignRequest};
use crate::payment::{AgentId, Payer, PurchaseId, Signed};

type Job = (B256, oneshot::Sender<Option<[u8; 65]>>);

/// The local signer: one account for all agents.
pub struct LocalSigner {
    account: Payer,
    jobs: mpsc::Sender<Job>,
}

/// A key that cannot be used. Never shows the text it was read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a secp256k1 private key: write 64 hexadecimal digits (0x is optional)")]
pub struct KeyError;

impl LocalSigner {
    /// Starts the signing thread for a hex-encoded private key.
    ///
    /// # Errors
    /// [`KeyError`] if the text is not a valid key.
    pub fn start(key_hex: &str) -> Result<Self, KeyError> {
        let digits = key_hex.trim();
        let digits = digits.strip_prefix("0x").unwrap_or(digits);
        let bytes = Zeroizing::new(alloy_primitives::hex::decode(digits).map_err(|_| KeyError)?);
        let key = SigningKey::from_slice(&bytes).map_err(|_| KeyError)?;
        let account = Payer(address_of(&key));
        let (jobs, inbox) = mpsc::channel::<Job>();
        std::thread::Builder::new().name("tollpass-sign".into()).spawn(move || sign_loop(&key, &inbox)).map_err(|_| KeyError)?;
        Ok(Self { account, jobs })
    }
}

fn address_of(key: &SigningKey) -> Address {
    let point = key.verifying_key().to_encoded_point(false);
    Address::from_slice(&keccak256(&point.as_bytes()[1..])[12..])
}

fn sign_loop(key: &SigningKey, inbox: &mpsc::Receiver<Job>) {
    // Best effort: a container may not allow it, and signing works all the same.
    let _ = rustix::process::setpriority_process(Some(rustix::thread::gettid()), 5);
    while let Ok((digest, reply)) = inbox.recv() {
        let signature = key.sign_prehash_recoverable(digest.as_slice()).ok().map(|(signature, parity)| {
            let mut rsv = [0; 65];
            rsv[..64].copy_from_slice(&signature.to_bytes());
            rsv[64] = 27 + parity.to_byte();
            rsv
        });
        // A waiter that gave up has dropped its end; the signature is then nobody's.
        let _ = reply.send(signature);
    }
}

impl Signer for LocalSigner {
    fn account(&self, _agent: &AgentId) -> Result<Payer, SignError> {
        Ok(self.account)
    }

    fn authorize<'a>(&'a self, request: &'a SignRequest, deadline: Instant) -> BoxFuture<'a, Result<Signed, SignError>> {
        Box::pin(async move {
            let authorization = request.authorization();
            if authorization.from != self.account {
                return Err(SignError::refused(crate::payment::Reason::SignerRefused));
            }
            let (reply, answer) = oneshot::channel();
            self.jobs.send((authorization.digest(), reply)).map_err(|_| SignError::Unreachable)?;
            let rsv = match tokio::time::timeout_at(deadline.into(), answer).await {
                Ok(Ok(Some(rsv))) => rsv,
                Ok(_) | Err(_) => return Err(SignError::Timeout),
            };
            Ok(Signed::new(authorization.clone(), rsv)?)
        })
    }

    fn settle(&self, _id: PurchaseId, _outcome: Outcome) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
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
