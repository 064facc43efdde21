//! What an evaluation answers: an [`Approval`] that only this module can make, or a [`Refusal`] that teaches.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::second_look::SecondLook;
use super::{Host, Scope, Span, View};
use crate::payment::{AgentId, MicroUsd, Offer, Reason, SessionName, Timestamp};

/// The id of an allow or deny entry, or the name of a cap such as `caps.day`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RuleId(pub Arc<str>);

impl fmt::Display for RuleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The answer for one challenge.
#[derive(Debug)]
pub struct Decision {
    /// Yes with proof, or no with every reason.
    pub verdict: Result<Approval, Refusal>,
    /// What people can say yes to, if nothing but a question of theirs stands in the way; the verdict is a refusal then.
    pub question: Option<Question>,
    /// What was looked at, offer by offer, for `policy explain` and the audit.
    pub considered: Vec<Considered>,
}

/// One offer's evaluation.
#[derive(Debug)]
pub struct Considered {
    /// Position in the seller's list.
    pub offer: usize,
    /// The allow entry that was matched.
    pub entry: Option<RuleId>,
    /// Every limit that was compared, with its numbers.
    pub checks: Vec<CheckResult>,
    /// Everything that speaks against it.
    pub violations: Vec<Violation>,
    /// What people would have to say yes to; empty, as `violations` is = could be paid.
    pub asks: Vec<(AskFor, Violation)>,
}

/// A payment that policy lets people decide. Nothing is held for it (M2.6).
#[derive(Clone, Debug)]
pub struct Question {
    /// What would be paid, priced by our own table.
    pub offer: Offer,
    /// The allow entry, or `unmatched`.
    pub entry: RuleId,
    /// Everything that has to be answered with yes (M3.4: asks are united).
    pub asks: Vec<AskFor>,
    /// How long the agent waits for an answer.
    pub hold: Duration,
    /// How long the ticket lives: the shortest of all groups that are asked.
    pub timeout: Duration,
}

/// One reason to ask people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AskFor {
    /// Groups of which one has to reach its quorum.
    pub any_of: Vec<Arc<str>>,
    /// The rule that asks, or the budget that would be exceeded.
    pub rule: RuleId,
    /// Why.
    pub reason: Reason,
    /// True for a budget that this payment would exceed (M2.6).
    pub exceeds: bool,
}

/// A compared limit.
#[derive(Clone, Debug)]
pub struct CheckResult {
    /// The cap or rate, e.g. `caps.day`.
    pub rule: RuleId,
    /// Spent (or counted) before this payment.
    pub spent: i64,
    /// The limit, in micro-USD, or a count for rates.
    pub limit: i64,
    /// Whether this payment fits.
    pub ok: bool,
    /// True if the numbers are counts, not money.
    pub count: bool,
}

/// A limit the ledger re-checks, under its own lock, when it holds the amount (M2.5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// Whose counter.
    pub scope: Scope,
    /// Over which time.
    pub span: Span,
    /// What must hold.
    pub limit: Limit,
    /// The rule's name for the refusal.
    pub rule: RuleId,
    /// The reason code if it fails.
    pub reason: Reason,
}

/// What a [`Check`] bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// Spent in the span plus this payment ≤ the amount.
    Spend(MicroUsd),
    /// Commitments in the span plus this one ≤ the count.
    Count(u32),
}

/// How repeats of a bought request are treated (`allow.repeats`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RepeatRules {
    /// How long a paid-but-lost answer blocks buying anew (M1.6).
    pub lost_hold: Duration,
    /// How many further payments a chain of paid redirects may make (M1.7).
    pub paid_redirects: u32,
    /// Identical live requests share one purchase (M1.1 `repeats: { share: true }`): recorded, not in this version.
    pub share: bool,
}

impl Default for RepeatRules {
    fn default() -> Self {
        Self { lost_hold: Duration::from_secs(15 * 60), paid_redirects: 1, share: false }
    }
}

/// Proof that policy said yes to exactly this offer. Only [`super::Policy::evaluate`] makes one; the ledger takes nothing else.
#[derive(Debug)]
pub struct Approval {
    pub(super) agent: AgentId,
    pub(super) session: Option<SessionName>,
    pub(super) host: Option<Host>,
    pub(super) customer: Option<Arc<str>>,
    pub(super) granted: bool,
    pub(super) offer: Offer,
    pub(super) entry: RuleId,
    pub(super) lifetime: Duration,
    pub(super) checks: Vec<Check>,
    pub(super) second_look: SecondLook,
    pub(super) scopes: Vec<Scope>,
    pub(super) held: MicroUsd,
    pub(super) repeats: RepeatRules,
    pub(super) digest: Arc<str>,
    pub(super) epoch: u64,
    pub(super) cosigned: Option<Cosigned>,
    pub(super) valid_before: Option<u64>,
    pub(super) live: Option<LiveLimit>,
}

/// What only a co-signer's ledger knows of a purchase: which further counters it is posted to (S4). Stored with the purchase.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Cosigned {
    /// The identity that asked, by its name in the registry.
    pub identity: Arc<str>,
    /// True if nothing proves the payee: it draws on `unverified`.
    pub unverified: bool,
    /// The ticket of the human approval it used, if it used one; a ticket belongs to one purchase.
    pub ticket: Option<[u8; 16]>,
}

/// A bound on what is signed and neither used nor expired (S4), which the ledger checks under its lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveLimit {
    /// The most, micro-USD.
    pub limit: MicroUsd,
    /// Its name.
    pub rule: RuleId,
}

impl Approval {
    /// Whose budget.
    pub const fn agent(&self) -> &AgentId {
        &self.agent
    }
    /// With a limit on what its session spends in all, beside the policy's; the ledger checks it again when it holds the amount. It
    /// can only tighten, and changes nothing where the caller named no session.
    ///
    /// # Errors
    /// [`Reason::CapSession`] with its numbers, if this does not fit.
    pub fn within_session(mut self, max: MicroUsd, books: &dyn View) -> Result<Self, Refusal> {
        let Some(session) = &self.session else { return Ok(self) };
        let (scope, rule) = (Scope::Session(self.agent.clone(), session.clone()), RuleId("session.max".into()));
        let spent = books.spent(&scope, Span::ALL);
        let more = self.offer.price.saturating_sub(self.held).max(MicroUsd::ZERO);
        if spent.checked_add(more).is_some_and(|sum| sum <= max) {
            self.checks.push(Check { scope, span: Span::ALL, limit: Limit::Spend(max), rule, reason: Reason::CapSession });
            return Ok(self);
        }
        let remaining = Some(max.saturating_sub(spent).max(MicroUsd::ZERO));
        let (rule, amount, limit) = (Some(rule), Some(self.offer.price), Some(max));
        Err(Refusal { violations: vec![Violation { rule, amount, limit, remaining, ..Violation::new(Reason::CapSession) }], ticket: None })
    }

    /// Unless more paid answers led here than the entry's `paid_redirects` lets follow each other (M1.7).
    ///
    /// # Errors
    /// [`Reason::PaidRedirectLimit`].
    pub fn within_chain(self, depth: u32) -> Result<Self, Refusal> {
        if depth <= self.repeats.paid_redirects {
            return Ok(self);
        }
        let (rule, amount) = (Some(self.entry), Some(self.offer.price));
        Err(Refusal { violations: vec![Violation { rule, amount, ..Violation::new(Reason::PaidRedirectLimit) }], ticket: None })
    }
    /// The session, if the caller named one.
    pub const fn session(&self) -> Option<&SessionName> {
        self.session.as_ref()
    }
    /// The host that is paid; a co-signer knows none.
    pub const fn host(&self) -> Option<&Host> {
        self.host.as_ref()
    }
    /// The customer it is for, from the request's context: budgets `per: customer` count it.
    pub const fn customer(&self) -> Option<&Arc<str>> {
        self.customer.as_ref()
    }
    /// True if people said yes above a limit: what remains of it may show below zero (M3.7).
    pub const fn granted(&self) -> bool {
        self.granted
    }
    /// The offer that was approved and nothing else.
    pub const fn offer(&self) -> &Offer {
        &self.offer
    }
    /// The allow entry it was approved under.
    pub const fn entry(&self) -> &RuleId {
        &self.entry
    }
    /// The longest validity window policy grants: min(asked, `lifetime`) (M3.7).
    pub const fn lifetime(&self) -> Duration {
        self.lifetime
    }
    /// What the ledger re-checks.
    pub fn checks(&self) -> &[Check] {
        &self.checks
    }
    /// Judges again what the decision read of the books beside its limits: conditions over counters and history, and the pinned
    /// payee (M2.5). The ledger asks under its lock when it holds the amount at `at`.
    ///
    /// # Errors
    /// What speaks against it now: the approval is stale.
    pub fn still_holds(&self, books: &dyn View, at: Timestamp) -> Result<(), Violation> {
        self.second_look.again(self, books, at)
    }
    /// Every counter this payment is posted to.
    pub fn scopes(&self) -> &[Scope] {
        &self.scopes
    }
    /// Micro-USD already held by the purchase that is being re-signed; zero for a new one (M1.2).
    pub const fn held(&self) -> MicroUsd {
        self.held
    }
    /// The entry's rules for repeats.
    pub const fn repeats(&self) -> RepeatRules {
        self.repeats
    }
    /// Digest of the policy that decided.
    pub const fn policy_digest(&self) -> &Arc<str> {
        &self.digest
    }
    /// Epoch of the policy that decided; the ledger refuses another one as stale (M2.2).
    pub const fn epoch(&self) -> u64 {
        self.epoch
    }
    /// The further counters of a co-signer; `None` on a proxy.
    pub const fn cosigned(&self) -> Option<&Cosigned> {
        self.cosigned.as_ref()
    }
    /// The exact end of the window where it was asked for, Unix seconds: a co-signer signs a window or refuses it, and clips none.
    pub const fn valid_before(&self) -> Option<u64> {
        self.valid_before
    }
    /// The bound on live authorizations.
    pub const fn live(&self) -> Option<&LiveLimit> {
        self.live.as_ref()
    }
}

#[cfg(test)]
impl Approval {
    /// A yes nobody gave, for tests of what comes after it.
    pub(crate) fn for_test(agent: AgentId, offer: Offer, entry: RuleId, checks: Vec<Check>, epoch: u64) -> Self {
        let scopes = vec![Scope::Agent(agent.clone()), Scope::Entry(agent.clone(), entry.clone())];
        let (lifetime, repeats) = (Duration::from_secs(300), RepeatRules::default());
        Self {
            agent,
            session: None,
            host: Some(Host::Name("api.example".into())),
            customer: None,
            granted: false,
            offer,
            entry,
            lifetime,
            checks,
            second_look: SecondLook::default(),
            scopes,
            held: MicroUsd::ZERO,
            repeats,
            digest: "test".into(),
            epoch,
            cosigned: None,
            valid_before: None,
            live: None,
        }
    }

    /// The same with the marks that further counters go by.
    pub(crate) fn tagged(self, host: &str, session: Option<&str>, customer: Option<&str>, granted: bool) -> Self {
        let (host, session) = (Host::parse(host).ok(), session.and_then(|s| s.parse().ok()));
        Self { host, session, customer: customer.map(Into::into), granted, ..self }
    }

    /// The same for a purchase that already holds `held`.
    pub(crate) fn holding(self, held: MicroUsd) -> Self {
        Self { held, ..self }
    }

    /// The same as an evaluator makes it whose conditions and pins are looked at once.
    pub(crate) fn looked_at_once(self) -> Self {
        Self { second_look: SecondLook::default(), ..self }
    }

    /// The same on a co-signer.
    pub(crate) fn cosigned_as(self, cosigned: Cosigned, valid_before: u64) -> Self {
        Self { cosigned: Some(cosigned), valid_before: Some(valid_before), ..self }
    }

    /// The same under a bound on what is live.
    pub(crate) fn with_live(self, micro: i64) -> Self {
        Self { live: Some(LiveLimit { limit: MicroUsd::new(micro), rule: RuleId("live".into()) }), ..self }
    }
}

/// Every reason against paying, the most telling one first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Never empty.
    pub violations: Vec<Violation>,
    /// The ticket that people can answer, if they were asked.
    pub ticket: Option<Arc<str>>,
}

impl Refusal {
    /// A refusal with one reason and no numbers.
    pub fn because(reason: Reason) -> Self {
        Self { violations: vec![Violation::new(reason)], ticket: None }
    }

    /// The same, led by what became of the question to people.
    #[must_use]
    pub fn asked(mut self, reason: Reason, ticket: Option<Arc<str>>) -> Self {
        if self.reason() != reason && reason != Reason::ApprovalRequired {
            self.violations.insert(0, Violation::new(reason));
        }
        Self { ticket, ..self }
    }

    /// The reason that leads.
    pub fn reason(&self) -> Reason {
        self.violations.first().map_or(Reason::Internal, |v| v.reason)
    }
}

/// Who said no.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum By {
    /// This process: its policy, its ledger, itself.
    #[default]
    Policy,
    /// The co-signer, by its own policy and ledger.
    Cosigner,
}

impl By {
    /// Stable text: `policy`, `cosigner`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Policy => "policy",
            Self::Cosigner => "cosigner",
        }
    }
}

/// One reason with its numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The code.
    pub reason: Reason,
    /// Who said it.
    pub by: By,
    /// The rule that spoke, if one did.
    pub rule: Option<RuleId>,
    /// The offer it is about.
    pub offer: Option<usize>,
    /// The price of that offer.
    pub amount: Option<MicroUsd>,
    /// The limit.
    pub limit: Option<MicroUsd>,
    /// Limit − spent.
    pub remaining: Option<MicroUsd>,
    /// When the period ends or the block is lifted.
    pub resets_at: Option<Timestamp>,
}

impl Violation {
    /// Just the code.
    pub const fn new(reason: Reason) -> Self {
        Self { reason, by: By::Policy, rule: None, offer: None, amount: None, limit: None, remaining: None, resets_at: None }
    }
}
