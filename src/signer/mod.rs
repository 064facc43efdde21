//! Signing: a typed intent goes in, a checked signature comes out. Never a bare hash, never an unchecked answer.
//!
//! `mpc` is the real one: share 1 here, share 2 with a co-signer under another administration. `local` holds a whole key,
//! for laptops and trials. A new signer is one file here and one line in `app`.

#[cfg(feature = "local-signer")]
pub mod local;
pub mod mpc;

use std::future::Future;
use std::pin::Pin;
use std::time::Instant;

use crate::ledger::{DefinitelyUnsigned, Outcome, SignRequest};
use crate::payment::{AgentId, MicroUsd, Payer, PurchaseId, Reason, Signed, SignedError, Timestamp};

/// A boxed future, so that the trait is object-safe.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Someone who can sign for a wallet.
pub trait Signer: Send + Sync + 'static {
    /// The account that pays for `agent`.
    ///
    /// # Errors
    /// [`SignError::Refused`] if the signer has no wallet for it.
    fn account(&self, agent: &AgentId) -> Result<Payer, SignError>;

    /// Signs the request's typed data. The same request may be asked again (same id, same digest) and gives one signature's
    /// worth of money at most, because the nonce is the purchase's (M1.2, S5).
    ///
    /// # Errors
    /// [`SignError`]; only [`SignError::unsigned`] says whether the amount may be given back.
    fn authorize<'a>(&'a self, request: &'a SignRequest, deadline: Instant) -> BoxFuture<'a, Result<Signed, SignError>>;

    /// Tells the signer how a purchase went. Informative: it returns no money (S5).
    fn settle(&self, id: PurchaseId, outcome: Outcome) -> BoxFuture<'_, ()>;

    /// Whether there is anybody who wants to be told.
    fn listens(&self) -> bool {
        true
    }

    /// Prepares for about `n` signatures soon. Best effort.
    fn warm<'a>(&'a self, agent: &'a AgentId, n: usize) -> BoxFuture<'a, ()>;

    /// What another judge behind the signer last said that `agent` may still spend today (M1.10).
    fn remaining(&self, _agent: &AgentId) -> Option<MicroUsd> {
        None
    }
}

/// A signer's own judgement, with its numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Objection {
    /// The reason, from the shared set.
    pub reason: Reason,
    /// Its rule.
    pub rule: Option<String>,
    /// The price.
    pub amount: Option<MicroUsd>,
    /// The limit.
    pub limit: Option<MicroUsd>,
    /// What is left of it.
    pub remaining: Option<MicroUsd>,
    /// When that changes.
    pub resets_at: Option<Timestamp>,
    /// A co-signer under another administration said it, not this process.
    pub by_cosigner: bool,
}

impl Objection {
    /// Of this process, without numbers.
    pub const fn own(reason: Reason) -> Self {
        Self { reason, rule: None, amount: None, limit: None, remaining: None, resets_at: None, by_cosigner: false }
    }
}

/// Why there is no signature. The variant decides whether money is released; nobody re-interprets it.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// The signer judged and refused. No complete signature exists: a co-signer's refusal comes instead of its half, and our
    /// own half never leaves this process.
    #[error("the signer refused")]
    Refused(Box<Objection>),
    /// The co-signer may hold the amount, but did not get to the end. Not money back: the same intent is to be signed again, or
    /// the co-signer's budget would be spent twice.
    #[error("the signature was not finished")]
    Unfinished(Box<Objection>),
    /// Never connected: the request did not leave this process.
    #[error("the signer cannot be reached")]
    Unreachable,
    /// No answer in time: perhaps signed.
    #[error("the signer did not answer in time")]
    Timeout,
    /// An answer that does not fit what was asked: perhaps signed.
    #[error("the signer answered with a wrong signature")]
    Invalid(#[from] SignedError),
}

impl SignError {
    /// A refusal of this process itself.
    pub fn refused(reason: Reason) -> Self {
        Self::Refused(Box::new(Objection::own(reason)))
    }

    /// The words of the one who objected, if somebody did.
    pub fn objection(&self) -> Option<&Objection> {
        match self {
            Self::Refused(objection) | Self::Unfinished(objection) => Some(objection),
            Self::Unreachable | Self::Timeout | Self::Invalid(_) => None,
        }
    }

    /// Proof that no complete signature exists, for the variants that are one.
    pub fn unsigned(&self) -> Option<DefinitelyUnsigned> {
        match self {
            Self::Refused(_) | Self::Unreachable => Some(DefinitelyUnsigned::attest()),
            Self::Unfinished(_) | Self::Timeout | Self::Invalid(_) => None,
        }
    }

    /// The code the agent, the operator and the log get.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Refused(objection) | Self::Unfinished(objection) => objection.reason,
            Self::Unreachable => Reason::SignerUnavailable,
            Self::Timeout => Reason::SignerTimeout,
            Self::Invalid(_) => Reason::SignatureInvalid,
        }
    }
}
