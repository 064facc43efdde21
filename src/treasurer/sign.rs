//! From a durable hold to a credential: the one place that asks for a signature.

use std::time::Instant;

use super::trail::Trail;
use super::{Ask, MIN_WINDOW_SECS, Payment, Ticket, Treasurer};
use crate::ledger::{Commitment, PurchaseState};
use crate::metrics::Stage;
use crate::payment::{Offer, Reason};
use crate::policy::{By, Refusal, RuleId, Violation};
use crate::protocol;
use crate::signer::SignError;

impl Treasurer {
    /// Decide and sign the same object: the request comes out of the commitment and nothing else.
    pub(super) async fn sign(
        &self,
        ask: &Ask,
        mut commitment: Commitment,
        offer: Offer,
        again: bool,
        trail: &mut Trail,
    ) -> Result<Ticket, Refusal> {
        let started = Instant::now();
        let unheard = matches!(commitment.purchase().state, PurchaseState::Committed | PurchaseState::Signed | PurchaseState::Sent);
        let Some(request) = commitment.sign_request(&offer.asset) else {
            return Err(Refusal::because(Reason::Internal));
        };
        let request = request.with_proofs(Some(ask.url.clone()), protocol::signed_offer(&offer));
        let request = request.with_grant(self.approvals.grant(&commitment.purchase().id));
        let left = i64::try_from(request.authorization().valid_before).unwrap_or(i64::MAX).saturating_sub(self.now().now.secs());
        if left < MIN_WINDOW_SECS {
            return Err(self.give_up(commitment, Reason::WindowTooShort, again, trail));
        }
        // Decided long ago, perhaps: whatever was stopped since counts (S5).
        if let Some(reason) = self.stopped(ask) {
            return Err(self.give_up(commitment, reason, again, trail));
        }
        let signed = match self.signer.authorize(&request, Instant::now() + self.sign_deadline).await {
            Ok(signed) => signed,
            Err(error) => {
                // Voided only with proof, and never when earlier bytes of this purchase may be out (M1.5).
                if let (Some(proof), false) = (error.unsigned(), again) {
                    trail.void();
                    commitment.void(proof);
                }
                return Err(refusal(&error));
            }
        };
        self.metrics.authorize(&request.context().agent, Stage::Sign, started.elapsed());
        commitment.signed(&signed);
        if let Some(reason) = self.stopped(ask) {
            // It was under way when it was stopped: recorded, spent, and presented to nobody.
            return Err(Refusal::because(reason));
        }
        let credential = protocol::credential(offer.protocol, &offer.wire, &signed);
        Ok(Ticket::Pay(Box::new(Payment { commitment, credential, offer, again, unheard })))
    }

    fn stopped(&self, ask: &Ask) -> Option<Reason> {
        self.guard.as_ref().and_then(|guard| guard.stopped(ask))
    }

    /// The window closed between the hold and the signature. Nothing was signed by this process for a first attempt.
    fn give_up(&self, commitment: Commitment, reason: Reason, again: bool, trail: &mut Trail) -> Refusal {
        if !again {
            let refused = SignError::refused(reason);
            if let Some(proof) = refused.unsigned() {
                trail.void();
                commitment.void(proof);
            }
        }
        Refusal::because(reason)
    }
}

/// A signer's no, with its rule and its numbers, and who said it.
fn refusal(error: &SignError) -> Refusal {
    let mut violation = Violation::new(error.reason());
    if let Some(objection) = error.objection() {
        violation.by = if objection.by_cosigner { By::Cosigner } else { By::Policy };
        violation.rule = objection.rule.as_deref().map(|rule| RuleId(rule.into()));
        violation.amount = objection.amount;
        violation.limit = objection.limit;
        violation.remaining = objection.remaining;
        violation.resets_at = objection.resets_at;
    }
    Refusal { violations: vec![violation], ticket: None }
}
