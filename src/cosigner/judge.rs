//! From a typed intent to a [`Permit`]: the only thing the session code signs.

use std::sync::Arc;

use alloy_primitives::B256;

use crate::ledger::Commitment;
use crate::payment::{AgentId, Authorization, PurchaseId, Reason, Timestamp};
use crate::wire::message::{Intent, Refused};

/// What the registry ties to the key of a connection; made by the registry alone.
#[derive(Clone, Debug)]
pub struct Standing {
    /// Its name.
    pub identity: Arc<str>,
    /// The agents it may speak for.
    pub agents: Arc<[AgentId]>,
}

/// Proof that this co-signer judged exactly this authorization, holds its amount durably and remembers its key. Not Clone;
/// a session consumes it.
#[must_use = "a permit is money held"]
pub struct Permit {
    authorization: Authorization,
    digest: B256,
    commitment: Commitment,
}

impl Permit {
    /// The digest that may be signed: of our own authorization, never of a request's.
    pub const fn digest(&self) -> B256 {
        self.digest
    }
    /// What is signed.
    pub const fn authorization(&self) -> &Authorization {
        &self.authorization
    }
    /// The purchase.
    pub fn purchase(&self) -> PurchaseId {
        self.commitment.purchase().id
    }
}

/// The judge.
pub struct Judge {}

impl Judge {
    /// Judges an intent whose signature and identity were verified. Durable before it returns.
    ///
    /// # Errors
    /// The refusal, with the co-signer's rule and numbers.
    pub async fn consider(&self, intent: &Intent, standing: &Standing) -> Result<Permit, Refused> {
        let _ = (intent, standing);
        todo!()
    }

    /// Asked before the last message of a session (S5): frozen, revoked, policy changed, window too short.
    ///
    /// # Errors
    /// Why not any more.
    pub fn still(&self, permit: &Permit, now: Timestamp) -> Result<(), Reason> {
        let _ = (permit, now);
        todo!()
    }

    /// What the permit's agent may still spend today; `None` if nothing bounds it (M1.10).
    pub fn remaining(&self, permit: &Permit) -> Option<crate::payment::MicroUsd> {
        let _ = permit;
        todo!()
    }

    /// The partial left: the amount stays spent whatever happens.
    pub fn released(&self, permit: Permit) {
        let _ = permit;
    }
}
