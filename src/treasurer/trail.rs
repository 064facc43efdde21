//! What one challenge leaves in the decision log, gathered on its way through the treasurer.

use std::sync::Arc;

use super::{Ask, Treasurer};
use crate::ledger::Commitment;
use crate::payment::{Challenge, PurchaseId, Reason, Timestamp};
use crate::policy::Refusal;
use crate::records::{Judgement, Log, Record, What};

/// The latest decision, until it is in the log.
#[derive(Default)]
pub(super) struct Trail {
    pub(super) decided: Option<(Timestamp, Arc<str>, Judgement)>,
    /// The purchase whose line is written.
    held: Option<PurchaseId>,
    /// Its money came back.
    void: bool,
}

impl Trail {
    /// It is proven that nothing was signed.
    pub(super) const fn void(&mut self) {
        self.void = true;
    }
}

impl Treasurer {
    /// With a log of every decision.
    #[must_use]
    pub fn with_log(self, log: Option<Arc<Log>>) -> Self {
        Self { log, ..self }
    }

    /// Something is about to be held for the latest decision: its line is on its way before the hold is durable.
    pub(super) fn note_purchase(&self, ask: &Ask, challenge: &Challenge, trail: &mut Trail, id: PurchaseId) {
        let Some(log) = &self.log else { return };
        let mut record = self.record(ask, challenge, trail.decided.take());
        record.purchase = Some(id);
        trail.held = Some(id);
        log.bought(record);
    }

    /// Nothing was held after all.
    pub(super) fn note_release(&self, trail: &mut Trail, reason: Reason) {
        if let (Some(log), Some(id)) = (&self.log, trail.held.take()) {
            log.outcome(&id, What::Void, Some(reason), self.now().now);
        }
    }

    /// The refusal that a challenge ends with.
    pub(super) fn note_refusal(&self, ask: &Ask, challenge: &Challenge, trail: Trail, refusal: &Refusal) {
        let Some(log) = &self.log else { return };
        if let Some(id) = trail.held {
            let what = if trail.void { What::Void } else { What::Kept };
            return log.outcome(&id, what, Some(refusal.reason()), self.now().now);
        }
        let mut record = self.record(ask, challenge, trail.decided);
        record.refused = Some(refusal.clone());
        log.refused(record);
    }

    /// A refusal that the edge decided by itself.
    pub fn note(&self, ask: &Ask, challenge: &Challenge, refusal: &Refusal) {
        self.note_refusal(ask, challenge, Trail::default(), refusal);
    }

    /// An answer < 400 was fully written to its waiter.
    pub fn consumed(&self, commitment: Commitment) {
        let id = commitment.purchase().id;
        commitment.consumed();
        if let Some(log) = &self.log {
            log.outcome(&id, What::Consumed, None, self.now().now);
        }
    }

    fn record(&self, ask: &Ask, challenge: &Challenge, decided: Option<(Timestamp, Arc<str>, Judgement)>) -> Box<Record> {
        let (now, policy, judged) = match decided {
            Some((now, policy, judged)) => (now, policy, Some(judged)),
            None => (self.now().now, Arc::clone(self.policy.load().digest()), None),
        };
        Box::new(Record {
            agent: ask.agent.clone(),
            session: ask.session.clone(),
            method: ask.method.clone(),
            https: ask.https,
            host: ask.host.clone(),
            port: ask.port,
            path: ask.path.clone(),
            context: ask.context.clone(),
            challenge: challenge.clone(),
            now,
            policy,
            judged,
            refused: None,
            purchase: None,
        })
    }
}
