//! Proof types between a yes and a signature.

use std::sync::Arc;

use super::{Outcome, Purchase, ReserveError};
use crate::payment::{AgentId, Asset, Authorization, MicroUsd, PurchaseId, SessionName, Signed, Timestamp};
use crate::policy::{Approval, RuleId};

/// An amount held in memory. Dropping it gives the amount back: nothing was written, nothing signed.
#[must_use = "dropping a reservation releases the amount"]
#[derive(Debug)]
pub struct Reservation {}

impl Reservation {
    /// Writes hold and complete intent in one durable transaction and waits for it (M1.5).
    ///
    /// # Errors
    /// [`ReserveError::Unavailable`] if the transaction failed; the amount is released.
    pub async fn commit(self) -> Result<Commitment, ReserveError> {
        unimplemented!("helper")
    }
}

/// A purchase this task owns. Dropping it keeps the amount spent and leaves an orphan that an identical request adopts (M1.1).
#[must_use = "a commitment is money"]
#[derive(Debug)]
pub struct Commitment {}

impl Commitment {
    /// The purchase as recorded now.
    pub fn purchase(&self) -> &Purchase {
        unimplemented!("helper")
    }

    /// The one thing that may be signed for this purchase, with the domain taken from `asset`, our table's entry for it.
    /// `None` if `asset` is not the asset of the purchase, or the digest is not the recorded one.
    pub fn sign_request(&self, asset: &Arc<Asset>) -> Option<SignRequest> {
        let _ = asset;
        unimplemented!("helper")
    }

    /// New terms or a new window for the same purchase: same payer, chain, token and nonce; holds the maximum of the amounts (M1.2).
    /// Durable before it returns.
    ///
    /// # Errors
    /// [`ReserveError::Stale`] as for a new hold; the purchase is unchanged then.
    pub async fn resign(&mut self, approval: Approval, valid_after: u64, now: Timestamp) -> Result<(), ReserveError> {
        let _ = (approval, valid_after, now);
        unimplemented!("helper")
    }

    /// A complete signature exists. Queued, not waited for.
    pub fn signed(&mut self, signed: &Signed) {
        let _ = signed;
        unimplemented!("helper")
    }

    /// The first byte is about to leave. Queued, not waited for.
    pub fn sent(&mut self) {
        unimplemented!("helper")
    }

    /// The exchange ended so. Queued, not waited for. `claimed_tx` is the seller's word.
    pub fn outcome(&mut self, outcome: Outcome, claimed_tx: Option<String>) {
        let _ = (outcome, claimed_tx);
        unimplemented!("helper")
    }

    /// The exchange is over but its answer can still be had (kept): an orphan may be claimed from now on.
    /// Marks whether a waiter is still attached.
    pub fn waiter(&mut self, live: bool) {
        let _ = live;
        unimplemented!("helper")
    }

    /// An answer < 400 was fully written to its waiter (M1.1). Sets the pin on the first one (M3.3).
    pub fn consumed(self) {
        unimplemented!("helper")
    }

    /// Gives the amount back: only with proof that no signature was formed, by the process that committed (M1.5).
    pub fn void(self, proof: DefinitelyUnsigned) {
        let _ = proof;
        unimplemented!("helper")
    }
}

/// Proof that no complete signature exists. Made by the signer layer alone, for a refusal or a connection that never was.
#[derive(Debug)]
pub struct DefinitelyUnsigned(());

impl DefinitelyUnsigned {
    /// Only `signer::SignError` calls this (a test reads the sources).
    pub(crate) const fn attest() -> Self {
        Self(())
    }
}

/// What is known about a payment beside the signed fields, for the co-signer's policy. All of it is *claimed* there (S4).
#[derive(Clone, Debug)]
pub struct SignContext {
    /// Agent.
    pub agent: AgentId,
    /// Session.
    pub session: Option<SessionName>,
    /// Seller's host.
    pub host: String,
    /// Request method.
    pub method: String,
    /// Allow entry.
    pub entry: RuleId,
    /// Price in micro-USD.
    pub price: MicroUsd,
}

/// A typed intent for the signer: never a hash. Only a [`Commitment`] makes one.
#[derive(Clone, Debug)]
pub struct SignRequest {
    pub(super) id: PurchaseId,
    pub(super) authorization: Authorization,
    pub(super) context: SignContext,
}

impl SignRequest {
    /// Idempotency key: one key ↔ one purchase (S5).
    pub const fn id(&self) -> &PurchaseId {
        &self.id
    }
    /// The typed data to sign.
    pub const fn authorization(&self) -> &Authorization {
        &self.authorization
    }
    /// Context for the co-signer's policy.
    pub const fn context(&self) -> &SignContext {
        &self.context
    }
}
