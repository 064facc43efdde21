//! From a typed intent to a [`Permit`]: the only thing the session code signs.
//!
//! The order: facts ([`facts`]), the agent against what the registry ties to the identity, policy over facts and proofs with
//! words taking away, the key against its digest, the ledger. When [`Judge::consider`] answers yes, the amount is held on the
//! disk of this co-signer and the key is remembered.
//!
//! **What returns money here: nothing but proof of death (M1.3, M1.4).** A session that was not finished may have been finished
//! by a sidecar that says it was not, so a hold stays spent whatever becomes of its session, and whatever a sidecar says of the
//! outcome (S5: those words are kept for people to read). Asked again for the same purchase, the same hold is used again.

use std::sync::Arc;

use alloy_primitives::B256;

use super::facts;
use super::grant::{self, GrantError};
use super::offer;
use super::probe::Probe;
use super::store::{KeyError, Store};
use super::trust::{Allowance, Claimed, Fact, Lifted, Proven};
use crate::ledger::{ClockReading, Commitment, Ledger, Likeness, NewPurchase, Outcome, ReserveError, Taken};
use crate::mpc::Wallet;
use crate::payment::{AgentId, Authorization, MicroUsd, Payer, PurchaseId, Reason, RequestKey, Timestamp};
use crate::policy::{Approval, Host, Policy, Refusal, RuleId, Subject, Transfer, Violation, Wanted};
use crate::wire::message::{Claims, Intent, Refused, Settle};

/// How often a decision is made anew when what it read changed meanwhile (M3.4 step 4).
const TRIES: usize = 3;

/// What the registry ties to the key of a connection; made by the registry alone.
#[derive(Clone, Debug)]
pub struct Standing {
    /// Its name.
    pub identity: Arc<str>,
    /// The agents it may speak for.
    pub agents: Arc<[AgentId]>,
}

/// What the judge looks at afresh each time.
pub trait Surroundings: Send + Sync + 'static {
    /// The policy in effect.
    fn policy(&self) -> Arc<Policy>;
    /// Both clocks, read now.
    fn clock(&self) -> ClockReading;
    /// The wallet's share may not be used (S3, or an operator's freeze).
    fn frozen(&self) -> bool;
    /// The operator's kill switch is on: nothing is signed for anybody.
    fn killed(&self) -> bool {
        false
    }
    /// Whether the identity still stands and may still speak for the agent (S5: looked up again before the last message).
    fn tied(&self, identity: &str, agent: &AgentId) -> bool;
    /// An identity asked for an agent that is not tied to it: somebody uses stolen or wrong credentials. For a counter; the log
    /// line is written.
    fn agent_not_tied(&self, identity: &str);
}

/// Proof that this co-signer judged exactly this authorization, holds its amount durably and remembers its key. Not Clone;
/// a session consumes it.
#[must_use = "a permit is money held"]
pub struct Permit {
    authorization: Authorization,
    digest: B256,
    commitment: Commitment,
    identity: Arc<str>,
    policy: u64,
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

impl std::fmt::Debug for Permit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Permit").field("purchase", &self.purchase()).field("digest", &self.digest).finish_non_exhaustive()
    }
}

/// The judge of one wallet.
pub struct Judge {
    wallet: Wallet,
    ledger: Ledger,
    store: Arc<Store>,
    around: Arc<dyn Surroundings>,
    probe: Option<Probe>,
}

/// An intent taken apart.
struct Case<'a> {
    intent: &'a Intent,
    id: PurchaseId,
    policy: Arc<Policy>,
    agent: Proven<AgentId>,
    identity: Proven<Arc<str>>,
    transfer: Fact<Transfer>,
    words: Claimed<Claims>,
    authorization: Authorization,
    digest: B256,
}

/// What our own ledger knows of the purchase.
struct Before {
    same_digest: bool,
    same_asker: bool,
    entry: RuleId,
    held: MicroUsd,
}

/// Not now, or no.
enum Stop {
    /// What was read changed: look again.
    Again,
    /// Refused.
    No(Refused),
}

impl From<Refused> for Stop {
    fn from(refused: Refused) -> Self {
        Self::No(refused)
    }
}

impl Judge {
    /// The judge of `wallet` over its own ledger. `probe` is the way to the probe process, if there is one.
    pub fn new(wallet: Wallet, ledger: Ledger, store: Arc<Store>, around: Arc<dyn Surroundings>, probe: Option<Probe>) -> Self {
        Self { wallet, ledger, store, around, probe }
    }

    /// Judges an intent whose signature and identity were verified. Durable before it returns.
    ///
    /// # Errors
    /// The refusal, with the co-signer's rule and numbers.
    pub async fn consider(&self, intent: &Intent, standing: &Standing) -> Result<Permit, Refused> {
        let case = self.open(intent, standing)?;
        let mut remembered = false;
        for _ in 0..TRIES {
            match self.attempt(&case, &mut remembered).await {
                Ok(permit) => return Ok(permit),
                Err(Stop::No(refused)) => return Err(refused),
                Err(Stop::Again) => {}
            }
        }
        Err(refused(Reason::Busy))
    }

    /// Facts and standing: what needs no policy.
    fn open<'a>(&self, intent: &'a Intent, standing: &Standing) -> Result<Case<'a>, Refused> {
        let clock = self.ledger.clock(self.around.clock());
        let transfer = facts::transfer(intent, &self.wallet, clock.now).map_err(refused)?;
        if let Some(reason) = self.stopped() {
            return Err(refused(reason));
        }
        let agent = self.tied(intent, standing)?;
        if !clock.sure {
            return Err(refused(Reason::ClockUnsure));
        }
        let policy = self.around.policy();
        let asset = policy.assets().get(&transfer.get().asset).ok_or_else(|| refused(Reason::UnknownAsset))?;
        let authorization = facts::authorization(intent, &transfer, asset);
        let digest = authorization.digest();
        let (id, identity) = (PurchaseId::from_bytes(intent.purchase), Proven::new(Arc::clone(&standing.identity)));
        Ok(Case { intent, id, policy, agent, identity, transfer, words: Claimed::new(intent.claims.clone()), authorization, digest })
    }

    /// Why nothing at all is signed, if so.
    fn stopped(&self) -> Option<Reason> {
        if self.around.killed() {
            return Some(Reason::Killed);
        }
        self.around.frozen().then_some(Reason::WalletFrozen)
    }

    /// The agent, if the registry ties it to the identity. Anything else is an alarm (S4).
    fn tied(&self, intent: &Intent, standing: &Standing) -> Result<Proven<AgentId>, Refused> {
        let agent = intent.agent.parse::<AgentId>().ok().filter(|agent| standing.agents.contains(agent));
        agent.map(Proven::new).ok_or_else(|| {
            tracing::warn!(identity = &*standing.identity, "an identity asked for an agent that is not tied to it");
            self.around.agent_not_tied(&standing.identity);
            Refused { rule: Some(format!("identity:{}", standing.identity)), ..refused(Reason::AgentNotTied) }
        })
    }

    async fn attempt(&self, case: &Case<'_>, remembered: &mut bool) -> Result<Permit, Stop> {
        let mut allowance = Allowance::new(&case.policy, &case.agent, case.transfer).map_err(of_violation)?;
        allowance.narrow(&case.words, speaks_against);
        let before = self.before(case);
        if let Some(before) = &before {
            if !before.same_asker {
                return Err(refused(Reason::PaymentOutstanding).into());
            }
            allowance.only(&Fact::new(before.entry.clone()));
            if before.same_digest {
                allowance.still().map_err(of_refusal)?;
                // The hold first: a session that is still under way must not use up one of the five.
                let permit = self.again(case)?;
                self.remember(case, remembered).await?;
                return Ok(permit);
            }
        }
        self.prove(case, &mut allowance).await;
        let lifted = self.lifted(case)?;
        let held = before.as_ref().map(|b| Fact::new(b.held));
        let decided = self.ledger.read(|books| allowance.decide(&case.identity, held, lifted.as_ref(), books));
        let approval = decided.map_err(of_refusal)?;
        self.remember(case, remembered).await?;
        match before {
            None => self.hold(case, approval).await,
            Some(_) => self.raise(case, approval).await,
        }
    }

    fn before(&self, case: &Case<'_>) -> Option<Before> {
        self.ledger.read(|books| {
            let p = books.purchase(&case.id)?;
            let transfer = case.transfer.get();
            let asker = p.cosigned.as_ref().is_some_and(|c| c.identity == *case.identity.get()) && p.agent == *case.agent.get();
            Some(Before {
                same_digest: p.digest == case.digest,
                same_asker: asker && p.payer == transfer.payer && p.asset == transfer.asset && p.payee == transfer.payee,
                entry: p.entry.clone(),
                held: p.held,
            })
        })
    }

    /// Tries the proofs that the remaining entries name, in file order.
    async fn prove(&self, case: &Case<'_>, allowance: &mut Allowance<'_>) {
        for wanted in allowance.wanted() {
            if let Err(reason) = self.prove_one(case, &wanted, allowance).await {
                allowance.unproven(wanted.id(), reason);
            }
        }
    }

    async fn prove_one(&self, case: &Case<'_>, wanted: &Wanted<'_>, allowance: &mut Allowance<'_>) -> Result<(), Reason> {
        let mut why = Reason::UnverifiedPayee;
        if let Some(text) = case.intent.offer.as_deref().filter(|_| !wanted.offer_keys().is_empty()) {
            let terms = offer::verify(text, wanted.offer_keys(), case.transfer.get().now);
            if terms.is_ok_and(|terms| allowance.prove(wanted.id(), &terms).is_ok()) {
                return Ok(());
            }
            why = Reason::OfferInvalid;
        }
        if let Some(probe) = self.probe.as_ref().filter(|_| wanted.probe())
            && let Some(address) = case.words.address(wanted.exact_hosts())
        {
            why = Reason::ProbeDiffers;
            match probe.ask(&address, case.policy.assets(), &case.transfer).await {
                Ok(terms) if allowance.prove(wanted.id(), &terms).is_ok() => return Ok(()),
                Ok(_) => {}
                Err(error) => tracing::info!(host = %address.host(), %error, "a probe proved nothing"),
            }
        }
        Err(why)
    }

    fn lifted(&self, case: &Case<'_>) -> Result<Option<Proven<Lifted>>, Stop> {
        let Some(encoded) = &case.intent.grant else { return Ok(None) };
        let verified = grant::verify(encoded, case.policy.approvers(), &case.intent.purchase, &case.agent, &case.transfer);
        verified.map(Some).map_err(|error: GrantError| {
            tracing::warn!(identity = &**case.identity.get(), %error, "a human approval was not accepted");
            refused(Reason::GrantInvalid).into()
        })
    }

    /// Once per question, whatever has to be decided again: each is a session (S5: at most five).
    async fn remember(&self, case: &Case<'_>, remembered: &mut bool) -> Result<(), Stop> {
        if std::mem::replace(remembered, true) {
            return Ok(());
        }
        match self.store.remember(case.intent.key, case.intent.purchase, case.digest).await {
            Ok(_) => Ok(()),
            Err(KeyError::Conflict) => Err(refused(Reason::IdempotencyConflict).into()),
            Err(KeyError::TooOften) => Err(refused(Reason::SignedTooOften).into()),
            Err(KeyError::Unavailable) => Err(refused(Reason::LedgerUnavailable).into()),
        }
    }

    /// A new purchase: held, then durable.
    async fn hold(&self, case: &Case<'_>, approval: Approval) -> Result<Permit, Stop> {
        let transfer = case.transfer.get();
        let mut key = [0; 32];
        key[..16].copy_from_slice(&case.intent.purchase);
        let mut purchase = NewPurchase {
            id: case.id,
            key: RequestKey(key),
            likeness: Likeness::default(),
            payer: transfer.payer,
            host: String::new(),
            method: String::new(),
            valid_after: case.intent.valid_after,
        };
        case.words.describe(&mut purchase);
        let reservation = self.ledger.reserve(approval, purchase, transfer.now).map_err(of_reserve)?;
        let commitment = reservation.commit().await.map_err(of_reserve)?;
        self.permit(case, commitment)
    }

    /// New terms of a known purchase: same payer, chain, token, nonce and payee; the maximum is held (M1.2).
    async fn raise(&self, case: &Case<'_>, approval: Approval) -> Result<Permit, Stop> {
        let mut commitment = self.take(case)?;
        if !commitment.purchase().may_become(&approval) {
            return Err(refused(Reason::PaymentOutstanding).into());
        }
        commitment.resign(approval, case.intent.valid_after, case.transfer.get().now).await.map_err(of_reserve)?;
        self.permit(case, commitment)
    }

    /// The same digest: the same hold, a fresh session.
    fn again(&self, case: &Case<'_>) -> Result<Permit, Stop> {
        let commitment = self.take(case)?;
        if commitment.purchase().digest == case.digest { self.permit(case, commitment) } else { Err(Stop::Again) }
    }

    fn take(&self, case: &Case<'_>) -> Result<Commitment, Stop> {
        match self.ledger.take(&case.id, case.transfer.get().now) {
            Taken::Known(commitment) => Ok(*commitment),
            Taken::Busy => Err(refused(Reason::Busy).into()),
            Taken::Unknown => Err(Stop::Again),
        }
    }

    /// What is on the disk is what will be signed, or nothing is.
    fn permit(&self, case: &Case<'_>, commitment: Commitment) -> Result<Permit, Stop> {
        if commitment.purchase().digest != case.digest {
            tracing::error!(purchase = %case.id, "the ledger holds other terms than were judged; nothing is signed");
            return Err(refused(Reason::Internal).into());
        }
        let identity = Arc::clone(case.identity.get());
        let (authorization, digest, policy) = (case.authorization.clone(), case.digest, case.policy.epoch());
        Ok(Permit { authorization, digest, commitment, identity, policy })
    }

    /// Asked before the last message of a session (S5): frozen, revoked, policy changed, window too short.
    ///
    /// # Errors
    /// Why not any more.
    pub fn still(&self, permit: &Permit, now: Timestamp) -> Result<(), Reason> {
        if let Some(reason) = self.stopped() {
            return Err(reason);
        }
        if !self.around.tied(&permit.identity, &permit.commitment.purchase().agent) {
            return Err(Reason::IdentityRevoked);
        }
        if self.around.policy().epoch() != permit.policy {
            return Err(Reason::PolicyChanged);
        }
        facts::window(permit.authorization.valid_after, permit.authorization.valid_before, now)
    }

    /// What the permit's agent may still spend now under the caps on it, its identity and the wallet; `None` if nothing bounds
    /// it (M1.10).
    pub fn remaining(&self, permit: &Permit) -> Option<MicroUsd> {
        let now = self.ledger.clock(self.around.clock()).now;
        let (policy, agent) = (self.around.policy(), &permit.commitment.purchase().agent);
        self.ledger.read(|books| policy.remaining(agent, &permit.identity, Payer(self.wallet.address), now, books))
    }

    /// The partial left: the amount stays spent whatever happens.
    pub fn released(&self, permit: Permit) {
        // Dropping a commitment keeps what it holds; the state stays `committed`, which means "perhaps signed" (M1.5).
        drop(permit);
    }

    /// Keeps what a sidecar says of an outcome, for people to read. It moves no money; `void` least of all (S5).
    ///
    /// # Errors
    /// The purchase is not one of this identity.
    pub fn note(&self, settle: &Settle, standing: &Standing) -> Result<(), Refused> {
        let id = PurchaseId::from_bytes(settle.purchase);
        let own = self.ledger.read(|books| {
            books
                .purchase(&id)
                .is_some_and(|p| p.cosigned.as_ref().is_some_and(|c| c.identity == standing.identity) && standing.agents.contains(&p.agent))
        });
        if !own || settle.wallet != self.wallet.id.as_str() {
            return Err(refused(Reason::AgentNotTied));
        }
        match settle.outcome.as_str() {
            "settled" => self.ledger.remark(&id, Outcome::Settled),
            "lost" => self.ledger.remark(&id, Outcome::Lost { until: Timestamp::from_millis(0) }),
            "open" => self.ledger.remark(&id, Outcome::Open),
            // Nothing that a sidecar says of a payment never made is believed, so there is nothing to change.
            _ => tracing::info!(purchase = %id, "the sidecar says that it gave a payment up; the amount stays spent"),
        }
        Ok(())
    }

    /// The sequence of the last durable change of the ledger: a smaller one than was seen before is a rollback (S2).
    pub fn head(&self) -> u64 {
        self.ledger.head()
    }
}

/// Host and method as the sidecar tells them, against one rule.
fn speaks_against(claims: &Claims, rule: &Subject<'_>) -> bool {
    // A host that is none cannot be one that a rule names.
    let host = (!claims.host.is_empty()).then(|| Host::parse(&claims.host).unwrap_or_else(|_| Host::Name("".into())));
    let method = (!claims.method.is_empty()).then(|| http::Method::from_bytes(claims.method.as_bytes()).unwrap_or(http::Method::TRACE));
    rule.opposes(host.as_ref(), method.as_ref())
}

fn refused(reason: Reason) -> Refused {
    of_violation(Violation::new(reason))
}

fn of_violation(v: Violation) -> Refused {
    Refused {
        reason: v.reason.as_str().to_owned(),
        rule: v.rule.map(|r| r.to_string()),
        amount_micro: v.amount.map(MicroUsd::micro),
        limit_micro: v.limit.map(MicroUsd::micro),
        remaining_micro: v.remaining.map(MicroUsd::micro),
        resets_at_ms: v.resets_at.map(Timestamp::millis),
    }
}

fn of_refusal(refusal: Refusal) -> Refused {
    let first = refusal.violations.into_iter().next();
    of_violation(first.unwrap_or_else(|| Violation::new(Reason::Internal)))
}

fn of_reserve(error: ReserveError) -> Stop {
    match error {
        ReserveError::Stale(None) => Stop::Again,
        ReserveError::Stale(Some(violation)) => of_violation(violation).into(),
        ReserveError::ClockUnsure => refused(Reason::ClockUnsure).into(),
        ReserveError::Unavailable => refused(Reason::LedgerUnavailable).into(),
    }
}
