//! Signing: a typed intent goes in, a checked signature comes out. Never a bare hash, never an unchecked answer.
//!
//! The trait has the shape a remote co-signer needs (idempotency key, deadline, context, outcome); this version brings
//! the `local` signer for laptops and trials. A new signer is one file here and one line in `app`.

#[cfg(feature = "local-signer")]
pub mod local;

use std::future::Future;
use std::pin::Pin;
use std::time::Instant;

use crate::ledger::{DefinitelyUnsigned, Outcome, SignRequest};
use crate::payment::{AgentId, Payer, PurchaseId, Reason, Signed, SignedError};

/// A boxed future, so that the trait is object-safe.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Someone who can sign for a wallet.
pub trait Signer: Send + Sync + 'static {
    /// `local` or, later, `mpc`: shown in logs, metrics and the demo.
    fn kind(&self) -> &'static str;

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

    /// Prepares for about `n` signatures soon. Best effort.
    fn warm<'a>(&'a self, agent: &'a AgentId, n: usize) -> BoxFuture<'a, ()>;
}

/// Why there is no signature. The variant decides whether money is released; nobody re-interprets it.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// The signer judged and refused before any secret was used.
    #[error("the signer refused")]
    Refused {
        /// Its reason, from the shared set.
        reason: Reason,
        /// Its rule.
        rule: Option<String>,
    },
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
    /// Proof that no complete signature exists, for the variants that are one.
    pub fn unsigned(&self) -> Option<DefinitelyUnsigned> {
        match self {
            Self::Refused { .. } | Self::Unreachable => Some(DefinitelyUnsigned::attest()),
            Self::Timeout | Self::Invalid(_) => None,
        }
    }

    /// The code the agent, the operator and the log get.
    pub const fn reason(&self) -> Reason {
        match self {
            Self::Refused { reason, .. } => *reason,
            Self::Unreachable => Reason::SignerUnavailable,
            Self::Timeout => Reason::SignerTimeout,
            Self::Invalid(_) => Reason::SignatureInvalid,
        }
    }
}
