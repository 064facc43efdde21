//! Counters and histories of a policy that was never in force: those of the log, changed by what it would have decided otherwise.
//!
//! A line says what its decision read. A draft reads the same number, plus what it would have paid and was not, minus what was paid
//! and it would not have. So the policy that wrote a log finds exactly its own numbers, whatever there was before the log began, and
//! only differences are remembered. What a line does not tell, because only the draft asks for it, comes from a [`Base`].

use std::cell::Cell;
use std::collections::HashMap;
use std::sync::Arc;

use alloy_primitives::Address;
use http::Method;

use super::case::{Case, Unreadable};
use super::row::{Decided, Outcome, Read, Say, Verdict, What, Why};
use super::tally::{Bought, Logged, Past, PastKey, PinKey, Tally};
use crate::payment::{AgentId, ChainId, MicroUsd, Timestamp};
use crate::policy::{Decision, Explanation, History, Host, Policy, RuleId, Scope, Span, Standing, View};

/// Purchases whose delivery is still waited for; older ones than a day are forgotten above this.
const MAX_OPEN: usize = 50_000;
const OPEN_MS: i64 = 86_400_000;

/// The books as they really are at a line, without what that line itself holds.
pub trait Base: View {
    /// What the first consumed purchase ever under these was paid, and the last fifty, the oldest first.
    fn prices(&self, key: &PastKey) -> Past;

    /// Whether the line's own purchase is in its counters already.
    fn holds_it(&self) -> bool {
        false
    }
}

/// What a draft would have done otherwise so far.
#[derive(Debug)]
pub struct Fold {
    policy: Arc<Policy>,
    /// What it would have paid, minus what was paid.
    differs: Tally,
    /// Histories and pins that are no longer those of the log.
    histories: HashMap<PastKey, Past>,
    pins: HashMap<PinKey, Option<Address>>,
    open: HashMap<String, Open>,
}

/// A purchase that may still be delivered or voided.
#[derive(Debug)]
struct Open {
    live: Bought,
    draft: Option<Bought>,
}

/// One line, judged again.
#[derive(Debug)]
pub struct Judged {
    /// What came of it.
    pub live: Verdict,
    /// What would have come of it.
    pub draft: Verdict,
    /// What was paid.
    pub paid: Option<Bought>,
    /// What would have been paid.
    pub would_pay: Option<Bought>,
    /// The draft read something that the line does not tell.
    pub guessed: bool,
}

impl Judged {
    /// Whether something else is paid or asked; another reason for the same no is none of it.
    pub fn changes(&self) -> bool {
        let terms = |v: &Verdict| (v.say == Say::Allow).then_some((v.micro, v.offer));
        self.live.say != self.draft.say || terms(&self.live) != terms(&self.draft)
    }

    /// The same no, led by another reason.
    pub fn another_reason(&self) -> bool {
        !self.changes() && self.live.lead() != self.draft.lead()
    }
}

impl Fold {
    /// Nothing was decided otherwise yet.
    pub fn new(policy: Arc<Policy>) -> Self {
        let differs = Tally::new(policy.members());
        Self { policy, differs, histories: HashMap::new(), pins: HashMap::new(), open: HashMap::new() }
    }

    /// The draft.
    pub const fn policy(&self) -> &Arc<Policy> {
        &self.policy
    }

    /// Judges a line and remembers what the draft does otherwise. `None` if no policy was asked there, or not all of it was kept.
    ///
    /// # Errors
    /// The line does not read.
    pub fn step(&mut self, row: &Decided, base: &dyn Base) -> Result<Option<Judged>, Unreadable> {
        let case = Case::read(row)?;
        let (Some(read), Some(live)) = (&row.read, &row.verdict) else { return Ok(None) };
        let paid = row.purchase.as_ref().and_then(|_| Bought::of(&case, live));
        let own = paid.as_ref().filter(|_| base.holds_it());
        let view = Folded { fold: self, read, base, case: &case, own, guessed: Cell::new(false) };
        let decision = case.judge(&self.policy, &view);
        let guessed = view.guessed.get();
        // What is no policy's doing happens to the draft's payments too, where both come that far.
        let refused = row.refused.as_ref().filter(|_| live.say == Say::Allow);
        let draft = ended(Verdict::of(&decision), refused);
        let would_pay = would_pay(&case, &decision, &draft);
        if paid != would_pay {
            let both = || paid.iter().chain(&would_pay);
            // From here on these are the draft's own.
            let pins: Vec<_> = both().map(|b| (b.pin(), view.pin(&b.agent, &b.entry, &b.host, b.chain))).collect();
            for (key, payee) in pins {
                self.pins.entry(key).or_insert(payee);
            }
            for key in both().map(Bought::past) {
                self.histories.entry(key).or_insert_with_key(|key| base.prices(key));
            }
            paid.iter().for_each(|b| self.differs.post(b, -1, true));
            would_pay.iter().for_each(|b| self.differs.post(b, 1, true));
        }
        match (&row.purchase, &paid) {
            (Some(id), Some(live)) => self.wait(id.clone(), Open { live: live.clone(), draft: would_pay.clone() }),
            // Nobody knows how it would have ended: as most do, at once.
            _ => would_pay.iter().for_each(|b| self.deliver(b)),
        }
        Ok(Some(Judged { live: ended(live.clone(), refused), draft, paid, would_pay, guessed }))
    }

    /// What the policy says to a line with what that line read, and why; `None` as for [`Self::step`].
    ///
    /// # Errors
    /// The line does not read.
    pub fn explain(&self, row: &Decided) -> Result<Option<(Explanation, Verdict)>, Unreadable> {
        let case = Case::read(row)?;
        let Some(read) = &row.read else { return Ok(None) };
        let books = Logged::new(self.policy.members());
        let view = Folded { fold: self, read, base: &books, case: &case, own: None, guessed: Cell::new(false) };
        let decision = case.judge(&self.policy, &view);
        Ok(Some((decision.explain(&self.policy, &case.input(), case.challenge()), Verdict::of(&decision))))
    }

    fn wait(&mut self, id: String, open: Open) {
        if self.open.len() >= MAX_OPEN {
            let until = open.live.at.plus_millis(-OPEN_MS);
            self.open.retain(|_, o| o.live.at > until);
        }
        self.open.insert(id, open);
    }

    /// What became of a purchase becomes of the draft's in its place.
    pub fn outcome(&mut self, outcome: &Outcome) {
        match outcome.what {
            What::Kept => {}
            What::Consumed => {
                if let Some(Open { draft: Some(draft), .. }) = self.open.remove(&outcome.purchase) {
                    self.deliver(&draft);
                }
            }
            What::Void => {
                let Some(Open { live, draft }) = self.open.remove(&outcome.purchase) else { return };
                if draft.as_ref() != Some(&live) {
                    self.differs.post(&live, 1, false);
                    draft.iter().for_each(|b| self.differs.post(b, -1, false));
                }
            }
        }
    }

    /// Into the histories that are the draft's own; the others are the log's.
    fn deliver(&mut self, bought: &Bought) {
        if let Some(past) = self.histories.get_mut(&bought.past()) {
            past.add(bought.at, bought.price);
        }
        if let Some(pin) = self.pins.get_mut(&bought.pin()) {
            pin.get_or_insert(bought.payee.0);
        }
    }
}

/// A verdict after what came behind it.
fn ended(mut verdict: Verdict, refused: Option<&Why>) -> Verdict {
    if let (Say::Allow, Some(why)) = (verdict.say, refused) {
        (verdict.say, verdict.reasons) = (Say::Deny, vec![why.clone()]);
    }
    verdict
}

fn would_pay(case: &Case, decision: &Decision, ended: &Verdict) -> Option<Bought> {
    decision.verdict.as_ref().ok().filter(|_| ended.say == Say::Allow).and_then(|_| Bought::of(case, ended))
}

/// The books as the draft would have them at one line.
struct Folded<'a> {
    fold: &'a Fold,
    read: &'a Read,
    base: &'a dyn Base,
    case: &'a Case,
    /// What the base holds for this very line.
    own: Option<&'a Bought>,
    guessed: Cell<bool>,
}

impl Folded<'_> {
    fn known<T>(&self, told: Option<T>, otherwise: impl FnOnce() -> T) -> T {
        told.unwrap_or_else(|| {
            self.guessed.set(true);
            otherwise()
        })
    }

    fn own(&self, scope: &Scope, span: Span) -> Option<&Bought> {
        self.own.filter(|b| span.contains(b.at) && b.scopes(self.fold.differs.lists()).contains(scope))
    }
}

impl View for Folded<'_> {
    fn spent(&self, scope: &Scope, span: Span) -> MicroUsd {
        let live = self.known(self.read.spent(scope, span), || {
            let own = self.own(scope, span).map_or(MicroUsd::ZERO, Bought::posted);
            self.base.spent(scope, span).saturating_sub(own)
        });
        MicroUsd::new(live.micro().saturating_add(self.fold.differs.sum(scope, span).0))
    }

    fn commitments(&self, scope: &Scope, span: Span) -> u32 {
        let live = self.known(self.read.made(scope, span), || {
            let own = self.own(scope, span).is_some_and(|b| b.new);
            self.base.commitments(scope, span).saturating_sub(own.into())
        });
        u32::try_from(i64::from(live).saturating_add(self.fold.differs.sum(scope, span).1).max(0)).unwrap_or(u32::MAX)
    }

    fn nth_commitment(&self, scope: &Scope, span: Span, n: u32) -> Option<Timestamp> {
        // Only tells when to come back; it decides nothing.
        self.read.nth(scope, span, n).unwrap_or_else(|| self.base.nth_commitment(scope, span, n))
    }

    fn pin(&self, agent: &AgentId, entry: &RuleId, host: &Host, chain: ChainId) -> Option<Address> {
        let key = PinKey { agent: agent.clone(), entry: entry.clone(), host: host.clone(), chain };
        let own = self.fold.pins.get(&key).copied();
        own.unwrap_or_else(|| self.known(self.read.pin(entry, chain), || self.base.pin(agent, entry, host, chain)))
    }

    fn history(&self, agent: &AgentId, entry: &RuleId, host: &Host, method: &Method, now: Timestamp) -> History {
        let key = PastKey { agent: agent.clone(), entry: entry.clone(), host: host.clone(), method: method.to_string() };
        match self.fold.histories.get(&key) {
            Some(own) => own.history(now),
            None => self.known(self.read.history(entry), || self.base.history(agent, entry, host, method, now)),
        }
    }

    fn standing(&self) -> &Standing {
        self.case.standing()
    }
}
