//! From a challenge to a credential: decision → hold → signature → header (design steps 6 and 7).
//!
//! Knows no HTTP library and no socket. It is handed a parsed challenge and what the proxy knows about the request, and
//! answers with a [`Payment`] that owns the purchase, a purchase to join, or a refusal that teaches.

pub mod approvals;
mod ask;
mod decide;
mod hook;
mod outcome;
mod redirects;
mod risk;
mod sessions;
mod sign;
mod trail;
mod waiter;

use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;

use approvals::{Approvals, Yes};
pub use ask::{Ask, KeyBuilder};
pub use hook::{Hook, Said};
pub use outcome::{Answered, judge};
pub use redirects::Redirects;
pub use sessions::{Session, SessionError, Sessions, Wanted};
pub use waiter::Waiter;

use crate::clock;
use crate::ledger::{Claim, ClockState, Commitment, Ledger, NewPurchase, PurchaseState, ReserveError};
use crate::metrics::{Metrics, Stage};
use crate::payment::{Challenge, MicroUsd, Offer, Payer, PurchaseId, Reason, Timestamp};
use crate::policy::{Decision, Policy, Refusal, Violation};
use crate::protocol;
use crate::records::Log;
use crate::signer::Signer;
use crate::stops::Stops;
use risk::Guard;
use trail::Trail;

/// A signature may be presented only while this much of its window remains (M1.8).
const MIN_WINDOW_SECS: i64 = 10;

/// Decisions that lost a race are taken again this often (M3.4 step 4).
const MAX_DECISIONS: usize = 3;

/// The one who decides; it holds no key.
pub struct Treasurer {
    policy: Arc<ArcSwap<Policy>>,
    ledger: Ledger,
    signer: Arc<dyn Signer>,
    metrics: Arc<Metrics>,
    redirects: Redirects,
    sign_deadline: Duration,
    approvals: Arc<Approvals>,
    guard: Option<Guard>,
    hook: Option<Arc<dyn Hook>>,
    sessions: Option<Arc<Sessions>>,
    log: Option<Arc<Log>>,
}

/// A purchase with a credential that is ready to be presented.
pub struct Payment {
    /// The purchase; dropping it keeps the amount spent.
    pub commitment: Commitment,
    /// The header that pays. A bearer secret.
    pub credential: (http::HeaderName, http::HeaderValue),
    /// What is being bought, for the outcome and the log.
    pub offer: Offer,
    /// True if these bytes were sent before: the seller may already have used them.
    pub again: bool,
    /// True if no answer to this purchase was recorded yet: it enters the metrics now.
    pub unheard: bool,
}

/// What a challenged request gets.
pub enum Ticket {
    /// Present this.
    Pay(Box<Payment>),
    /// An identical purchase's exchange still runs: attach to it (M1.1).
    Join(PurchaseId),
    /// Bought before, answered in full, never delivered: deliver the kept answer (M1.6).
    Kept(Box<Commitment>),
}

impl Treasurer {
    /// Wires the treasurer. `sign_deadline` bounds one signature.
    pub fn new(
        policy: Arc<ArcSwap<Policy>>,
        ledger: Ledger,
        signer: Arc<dyn Signer>,
        metrics: Arc<Metrics>,
        sign_deadline: Duration,
        approvals: Arc<Approvals>,
    ) -> Self {
        let redirects = Redirects::default();
        Self { policy, ledger, signer, metrics, redirects, sign_deadline, approvals, guard: None, hook: None, sessions: None, log: None }
    }

    /// Questions to people.
    pub const fn approvals(&self) -> &Arc<Approvals> {
        &self.approvals
    }

    /// With what people, rules and the kill switch stop: asked again on both sides of every signature.
    #[must_use]
    pub fn with_stops(self, stops: Arc<Stops>) -> Self {
        let guard = Some(Guard::new(stops, self.metrics.clone()));
        Self { guard, ..self }
    }

    /// With the register of sessions: who may pay under which name, and how much (M2.4).
    #[must_use]
    pub fn with_sessions(self, sessions: Arc<Sessions>) -> Self {
        Self { sessions: Some(sessions), ..self }
    }

    /// With a way to the operator's own program; a policy that names one refuses everything without it.
    #[must_use]
    pub fn with_hook(self, hook: Arc<dyn Hook>) -> Self {
        Self { hook: Some(hook), ..self }
    }

    /// The books behind the decisions.
    pub const fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Chains of paid redirects (M1.7).
    pub const fn redirects(&self) -> &Redirects {
        &self.redirects
    }

    /// Ledger time now.
    pub fn now(&self) -> ClockState {
        self.ledger.clock(clock::read())
    }

    /// Answers one challenge. `waiter` says whether the agent still waits, and hears what is held for it.
    ///
    /// # Errors
    /// The refusal, with every reason.
    pub async fn obtain(&self, ask: &Ask, challenge: &Challenge, waiter: &dyn Waiter) -> Result<Ticket, Refusal> {
        let mut trail = Trail::default();
        let ticket = self.settle_on(ask, challenge, waiter, &mut trail).await;
        if let Err(refusal) = &ticket {
            self.note_refusal(ask, challenge, trail, refusal);
        }
        if let Some(guard) = &self.guard {
            match &ticket {
                Ok(Ticket::Pay(_)) => guard.paid(ask, &self.policy.load(), self.now().now),
                Ok(Ticket::Join(_) | Ticket::Kept(_)) => {}
                Err(refusal) => guard.refused(ask, refusal.reason(), &self.policy.load(), self.now().now),
            }
        }
        ticket
    }

    /// A payment was sent, and by the seller's doing there is no good answer: for the rules of `risk`.
    pub fn failed(&self, ask: &Ask) {
        if let Some(guard) = &self.guard {
            guard.failed(ask, &self.policy.load(), self.now().now);
        }
    }

    async fn settle_on(&self, ask: &Ask, challenge: &Challenge, waiter: &dyn Waiter, trail: &mut Trail) -> Result<Ticket, Refusal> {
        let clock = self.gate()?;
        let payer = self.signer.account(&ask.agent).map_err(|e| Refusal::because(e.reason()))?;
        match self.ledger.claim(&ask.key, &ask.likeness, clock.now) {
            Claim::Join(id) => Ok(Ticket::Join(id)),
            Claim::Lost { until, price } => Err(lost(until, price)),
            Claim::Adopted(commitment) => self.adopt(ask, challenge, payer, commitment, waiter, trail).await,
            Claim::New => self.buy(ask, challenge, payer, waiter, trail).await,
        }
    }

    /// The refusal for a request that cannot be sent again, because no allow entry could match its host when it came.
    pub fn refuse(&self, ask: &Ask, challenge: &Challenge) -> Refusal {
        let mut trail = Trail::default();
        let decided = self.signer.account(&ask.agent).map_err(|e| Refusal::because(e.reason()));
        let refusal = match decided.and_then(|payer| self.decide(ask, challenge, payer, self.now().now, None, None, &mut trail).verdict) {
            Err(refusal) => refusal,
            // The policy changed while the request was under way: the next attempt is kept and can be paid.
            Ok(_) => Refusal::because(Reason::Busy),
        };
        self.note_refusal(ask, challenge, trail, &refusal);
        refusal
    }

    /// Step (0) of M3.4 as far as it concerns money: store and clock.
    fn gate(&self) -> Result<ClockState, Refusal> {
        if !self.ledger.available() {
            return Err(Refusal::because(Reason::LedgerUnavailable));
        }
        let clock = self.now();
        if clock.sure { Ok(clock) } else { Err(Refusal::because(Reason::ClockUnsure)) }
    }

    /// A new purchase.
    async fn buy(&self, ask: &Ask, challenge: &Challenge, payer: Payer, waiter: &dyn Waiter, trail: &mut Trail) -> Result<Ticket, Refusal> {
        self.enter_session(ask).await?;
        let mut id = PurchaseId::from_bytes(rand::random());
        let mut yes: Option<Yes> = None;
        let mut tries = 0;
        while tries < MAX_DECISIONS {
            let now = self.gate()?.now;
            let Decision { verdict, question, .. } = self.decide(ask, challenge, payer, now, None, yes.as_ref(), trail);
            let approval = match (verdict, question) {
                (Ok(approval), _) => approval,
                (Err(refusal), Some(question)) => {
                    // A yes to another question than this one goes back before the next one is asked.
                    tries += usize::from(yes.take().is_some());
                    let given = self.put_to_people(ask, &question, None, refusal, waiter).await?;
                    id = given.purchase;
                    yes = Some(given);
                    continue;
                }
                (Err(refusal), None) => return Err(refusal),
            };
            tries += 1;
            hook::consult(self.hook.as_deref(), &self.policy.load_full(), ask, &approval, &id, now).await.map_err(Refusal::because)?;
            let offer = approval.offer().clone();
            let started = Instant::now();
            let purchase = NewPurchase {
                id,
                key: ask.key,
                likeness: ask.likeness.clone(),
                payer,
                host: ask.host.to_string(),
                method: ask.method.to_string(),
                valid_after: protocol::valid_after(offer.protocol, now),
            };
            let reservation = match self.ledger.reserve(approval, purchase, now) {
                Ok(reservation) => reservation,
                Err(ReserveError::Stale(violation)) => {
                    settle(violation.is_none()).await;
                    continue;
                }
                Err(e) => return Err(Refusal::because(reserve_reason(&e))),
            };
            if !waiter.waits() {
                // Dropping the reservation releases it: nothing was written, nothing signed.
                return Err(Refusal::because(Reason::AgentLeft));
            }
            spend(yes.as_mut())?;
            self.note_purchase(ask, challenge, trail, id);
            let commitment = match reservation.commit_and(|| waiter.holds(id)).await {
                Ok(commitment) => commitment,
                // The policy changed between the hold and the disk: nothing was written.
                Err(e) => {
                    self.note_release(trail, reserve_reason(&e));
                    if matches!(e, ReserveError::Stale(_)) {
                        settle(true).await;
                        continue;
                    }
                    return Err(Refusal::because(reserve_reason(&e)));
                }
            };
            self.metrics.authorize(&ask.agent, Stage::Reserve, started.elapsed());
            return self.sign(ask, commitment, offer, false, trail).await;
        }
        Err(Refusal::because(Reason::Busy))
    }

    /// An orphan under the same request key: kept answer, same bytes, or a new signature under the same nonce (M1.1, M1.2).
    async fn adopt(
        &self,
        ask: &Ask,
        challenge: &Challenge,
        payer: Payer,
        mut commitment: Commitment,
        waiter: &dyn Waiter,
        trail: &mut Trail,
    ) -> Result<Ticket, Refusal> {
        if commitment.purchase().state == PurchaseState::Settled {
            return Ok(Ticket::Kept(Box::new(commitment)));
        }
        waiter.holds(commitment.purchase().id);
        let policy = self.policy.load_full();
        let purchase = commitment.purchase();
        let stored = protocol::restore(purchase.protocol, &purchase.wire, policy.assets()).ok();
        let unchanged = stored.filter(|old| challenge.offers.iter().any(|new| new.same_terms(old)));
        let window = i64::try_from(purchase.valid_before).unwrap_or(i64::MAX).saturating_sub(self.now().now.secs());
        if let (Some(offer), true) = (&unchanged, window >= MIN_WINDOW_SECS) {
            // The intent as recorded: signing it again after a crash forms the same authorization (M1.5).
            return self.sign(ask, commitment, offer.clone(), true, trail).await;
        }
        let mut yes: Option<Yes> = None;
        let mut tries = 0;
        while tries < MAX_DECISIONS {
            let now = self.gate()?.now;
            let Decision { verdict, question, .. } = self.decide(ask, challenge, payer, now, Some(&commitment), yes.as_ref(), trail);
            let approval = match (verdict, question) {
                (Ok(approval), _) => approval,
                // Other terms under the same nonce are another question, of this purchase (M1.2).
                (Err(refusal), Some(question)) => {
                    tries += usize::from(yes.take().is_some());
                    yes = Some(self.put_to_people(ask, &question, Some(commitment.purchase().id), refusal, waiter).await?);
                    continue;
                }
                (Err(refusal), None) => return Err(refusal),
            };
            tries += 1;
            spend(yes.as_mut())?;
            let offer = approval.offer().clone();
            let valid_after = protocol::valid_after(offer.protocol, now);
            self.note_purchase(ask, challenge, trail, commitment.purchase().id);
            match commitment.resign(approval, valid_after, now).await {
                Ok(()) => return self.sign(ask, commitment, offer, true, trail).await,
                Err(e) => {
                    self.note_release(trail, reserve_reason(&e));
                    let ReserveError::Stale(violation) = e else { return Err(Refusal::because(reserve_reason(&e))) };
                    settle(violation.is_none()).await;
                }
            }
        }
        Err(Refusal::because(Reason::Busy))
    }
}

/// Between two decisions: another policy has taken effect, and the ledger is about to follow it.
async fn settle(policy_changed: bool) {
    if policy_changed {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Used up before anything is durable: a crash loses the yes and never uses it twice.
fn spend(yes: Option<&mut Yes>) -> Result<(), Refusal> {
    let Some(Err(error)) = yes.map(Yes::spend) else { return Ok(()) };
    tracing::error!(%error, "a human approval cannot be written down as used");
    Err(Refusal::because(Reason::LedgerUnavailable))
}

fn lost(until: Timestamp, price: MicroUsd) -> Refusal {
    let mut violation = Violation::new(Reason::PaidNotDelivered);
    violation.amount = Some(price);
    violation.resets_at = Some(until);
    Refusal { violations: vec![violation], ticket: None }
}

const fn reserve_reason(error: &ReserveError) -> Reason {
    match error {
        ReserveError::Stale(_) => Reason::Busy,
        ReserveError::ClockUnsure => Reason::ClockUnsure,
        ReserveError::Unavailable => Reason::LedgerUnavailable,
    }
}
