//! From a challenge to a credential: decision → hold → signature → header (design steps 6 and 7).
//!
//! Knows no HTTP library and no socket. It is handed a parsed challenge and what the proxy knows about the request, and
//! answers with a [`Payment`] that owns the purchase, a purchase to join, or a refusal that teaches.

pub mod approvals;
mod ask;
mod hook;
mod outcome;
mod redirects;
mod risk;
mod sessions;
mod trail;

use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;

use approvals::{Answer, Approvals, Yes};
pub use ask::{Ask, KeyBuilder};
pub use hook::{Hook, Said};
pub use outcome::{Answered, judge};
pub use redirects::Redirects;
pub use sessions::{Session, SessionError, Sessions, Wanted};

use crate::clock;
use crate::ledger::{Claim, ClockState, Commitment, Ledger, NewPurchase, PurchaseState, ReserveError};
use crate::metrics::{Metrics, Stage};
use crate::payment::{Challenge, MicroUsd, Offer, Payer, PurchaseId, Reason, Timestamp};
use crate::policy::{By, Decision, Input, Policy, Question, Refusal, RuleId, View, Violation};
use crate::protocol;
use crate::records::{Judgement, Log, Verdict, Witness, bounded};
use crate::signer::{SignError, Signer};
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

    /// Answers one challenge. `wanted` says whether the agent still waits: nobody pays for a caller that hung up.
    ///
    /// # Errors
    /// The refusal, with every reason.
    pub async fn obtain(&self, ask: &Ask, challenge: &Challenge, wanted: &(dyn Fn() -> bool + Sync)) -> Result<Ticket, Refusal> {
        let mut trail = Trail::default();
        let ticket = self.settle_on(ask, challenge, wanted, &mut trail).await;
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

    async fn settle_on(
        &self,
        ask: &Ask,
        challenge: &Challenge,
        wanted: &(dyn Fn() -> bool + Sync),
        trail: &mut Trail,
    ) -> Result<Ticket, Refusal> {
        let clock = self.gate()?;
        let payer = self.signer.account(&ask.agent).map_err(|e| Refusal::because(e.reason()))?;
        match self.ledger.claim(&ask.key, &ask.likeness, clock.now) {
            Claim::Join(id) => Ok(Ticket::Join(id)),
            Claim::Lost { until, price } => Err(lost(until, price)),
            Claim::Adopted(commitment) => self.adopt(ask, challenge, payer, commitment, wanted, trail).await,
            Claim::New => self.buy(ask, challenge, payer, wanted, trail).await,
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
    async fn buy(
        &self,
        ask: &Ask,
        challenge: &Challenge,
        payer: Payer,
        wanted: &(dyn Fn() -> bool + Sync),
        trail: &mut Trail,
    ) -> Result<Ticket, Refusal> {
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
                    let given = self.put_to_people(ask, &question, None, refusal, wanted).await?;
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
            if !wanted() {
                // Dropping the reservation releases it: nothing was written, nothing signed.
                return Err(Refusal::because(Reason::AgentLeft));
            }
            spend(yes.as_mut())?;
            self.note_purchase(ask, challenge, trail, id);
            let commitment = match reservation.commit().await {
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
        wanted: &(dyn Fn() -> bool + Sync),
        trail: &mut Trail,
    ) -> Result<Ticket, Refusal> {
        if commitment.purchase().state == PurchaseState::Settled {
            return Ok(Ticket::Kept(Box::new(commitment)));
        }
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
                    yes = Some(self.put_to_people(ask, &question, Some(commitment.purchase().id), refusal, wanted).await?);
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

    /// One policy snapshot judges every offer against one view of the books.
    #[expect(clippy::too_many_arguments, reason = "a decision is about all of these")]
    fn decide(
        &self,
        ask: &Ask,
        challenge: &Challenge,
        payer: Payer,
        now: Timestamp,
        held: Option<&Commitment>,
        yes: Option<&Yes>,
        trail: &mut Trail,
    ) -> Decision {
        let started = Instant::now();
        let policy = self.policy.load_full();
        let session = self.session_limit(ask, &policy, now);
        let session_max = session.as_ref().ok().copied().flatten();
        let input = Input {
            agent: &ask.agent,
            session: ask.session.as_ref(),
            method: &ask.method,
            https: ask.https,
            host: &ask.host,
            port: ask.port,
            path: &ask.path,
            payer,
            now,
            context: &ask.context,
            granted: &[],
            held: held.map_or(MicroUsd::ZERO, |c| c.purchase().held),
            bound_to: held.map(|c| c.purchase().asset),
            session_max,
        };
        // A purchase that is signed again was in its chain before.
        let chain = held.is_none().then(|| self.redirects.depth(ask, now));
        let (mut decision, used, seen) = self.ledger.read(|books| {
            let witness = Witness::new(books);
            let view: &dyn View = if self.log.is_some() { &witness } else { books };
            let (mut decision, used) = approvals::decide(&policy, &input, challenge, view, yes, ask);
            decision.verdict = bounded(decision.verdict, session_max, chain, view);
            (decision, used, self.log.is_some().then(|| witness.testify(&ask.agent, &ask.host)))
        });
        trail.decided = seen.map(|seen| {
            let granted = yes.filter(|_| used).map(|yes| yes.groups.clone()).unwrap_or_default();
            let (held, bound_to, seen, verdict) = (input.held, input.bound_to, Arc::new(seen), Verdict::of(&decision));
            let judged = Judgement { payer, held, bound_to, granted, session_max, chain, seen, verdict };
            (now, Arc::clone(policy.digest()), judged)
        });
        self.metrics.authorize(&ask.agent, Stage::Policy, started.elapsed());
        if let Err(reason) = session {
            decision.verdict = decision.verdict.and_then(|_| Err(Refusal::because(reason)));
        }
        decision
    }

    /// The first payment under a name that the agent chose opens that session, and waits for the disk (M2.4).
    async fn enter_session(&self, ask: &Ask) -> Result<(), Refusal> {
        let Some(sessions) = self.sessions.clone() else { return Ok(()) };
        let Some(rules) = self.policy.load().sessions(&ask.agent).cloned() else { return Ok(()) };
        let (agent, name, now) = (ask.agent.clone(), ask.session.clone(), self.now().now);
        let entering = tokio::task::spawn_blocking(move || sessions.enter(&agent, name.as_ref(), Some(&rules), now));
        entering.await.unwrap_or(Err(Reason::Internal)).map_err(Refusal::because)
    }

    /// Whether the session may still pay, and its own limit; the ledger looks again when it holds the amount.
    fn session_limit(&self, ask: &Ask, policy: &Policy, now: Timestamp) -> Result<Option<MicroUsd>, Reason> {
        let Some(sessions) = &self.sessions else { return Ok(None) };
        sessions.check(&ask.agent, ask.session.as_ref(), policy.sessions(&ask.agent), now)
    }

    /// Asks people and waits as long as the policy says.
    async fn put_to_people(
        &self,
        ask: &Ask,
        question: &Question,
        held: Option<PurchaseId>,
        refusal: Refusal,
        wanted: &(dyn Fn() -> bool + Sync),
    ) -> Result<Yes, Refusal> {
        let policy = self.policy.load_full();
        let clock = approvals::Clock { now: &|| self.now().now, wanted };
        match self.approvals.ask(question, ask, held, &policy, &clock).await {
            Answer::Yes(yes) => Ok(*yes),
            Answer::No(reason, ticket) => Err(refusal.asked(reason, ticket)),
        }
    }

    /// Decide and sign the same object: the request comes out of the commitment and nothing else.
    async fn sign(&self, ask: &Ask, mut commitment: Commitment, offer: Offer, again: bool, trail: &mut Trail) -> Result<Ticket, Refusal> {
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

const fn reserve_reason(error: &ReserveError) -> Reason {
    match error {
        ReserveError::Stale(_) => Reason::Busy,
        ReserveError::ClockUnsure => Reason::ClockUnsure,
        ReserveError::Unavailable => Reason::LedgerUnavailable,
    }
}
