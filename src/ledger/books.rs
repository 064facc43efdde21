//! Counters and purchases in memory: arithmetic only. No clock, store or runtime; `at` and `now` are arguments.
//!
//! Counters are sums over postings (M2.2), so a new limit starts from history. A purchase posts under two scopes, its agent
//! and its allow entry; a release credits only the period of the hold (M2.1); commitments are counted and never refunded
//! (M2.5). Which purchases an identical request may take over is [`Index`]'s part (M1.1).

use std::collections::HashMap;
use std::sync::Arc;

use alloy_primitives::Address;

use super::Purchase;
use super::counters::{Instants, Money};
use super::index::Index;
use crate::payment::{AgentId, ChainId, MicroUsd, Payee, PurchaseId, Reason, Timestamp};
use crate::policy::{Approval, Check, Host, Limit, RuleId, Scope, Span, View, Violation};

/// Why a posting was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A new purchase: one commitment.
    Hold,
    /// A re-signature above what was held.
    Raise,
    /// Money back, in the period of what it gives back.
    Release,
}

/// One line of the account: `micro` micro-USD in the period of `at`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Posting {
    pub(super) agent: AgentId,
    pub(super) entry: RuleId,
    pub(super) at: Timestamp,
    pub(super) micro: i64,
    pub(super) kind: Kind,
}

impl Posting {
    /// The counters a posting is summed in.
    fn scopes(&self) -> [Scope; 2] {
        scopes(&self.agent, &self.entry)
    }

    /// The same money back, in the same period.
    fn released(&self) -> Self {
        Self { micro: -self.micro, kind: Kind::Release, ..self.clone() }
    }
}

fn scopes(agent: &AgentId, entry: &RuleId) -> [Scope; 2] {
    [Scope::Agent(agent.clone()), Scope::Entry(agent.clone(), entry.clone())]
}

/// What a pin is found by (M3.3).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct PinKey {
    pub(super) agent: AgentId,
    pub(super) entry: RuleId,
    pub(super) host: String,
    pub(super) chain: ChainId,
}

/// The books.
#[derive(Debug, Default)]
pub struct Books {
    epoch: u64,
    money: HashMap<Scope, Money>,
    instants: HashMap<Scope, Instants>,
    pins: HashMap<PinKey, Payee>,
    index: Index,
}

/// Why an approval cannot be held: with the limit that no longer fits, if one spoke.
pub(super) type Stale = Option<Violation>;

impl Books {
    /// The purchase with this id, unless it is consumed or void.
    pub fn purchase(&self, id: &PurchaseId) -> Option<&Purchase> {
        self.index.get(id).map(|live| &*live.purchase)
    }

    /// Purchases that are neither consumed nor void, in no particular order: what is open for gauges and tables.
    pub fn open(&self) -> impl Iterator<Item = &Purchase> {
        self.index.iter().map(|live| &*live.purchase)
    }

    /// Signatures of `agent` that may still be used: neither settled nor past their window.
    pub fn open_authorizations(&self, agent: &AgentId, now: Timestamp) -> usize {
        use super::PurchaseState as S;
        let live = |p: &&Purchase| {
            let unsettled = matches!(p.state, S::Committed | S::Signed | S::Sent | S::Open);
            p.agent == *agent && unsettled && i64::try_from(p.valid_before).is_ok_and(|until| until > now.secs())
        };
        self.open().filter(live).count()
    }

    pub(super) const fn epoch(&self) -> u64 {
        self.epoch
    }

    pub(super) const fn set_epoch(&mut self, epoch: u64) {
        self.epoch = epoch;
    }

    pub(super) const fn index(&mut self) -> &mut Index {
        &mut self.index
    }

    /// Compares an approval with the counters as they are now (M2.5). `held` is what a purchase that is signed again holds.
    pub(super) fn examine(&self, approval: &Approval, held: Option<MicroUsd>, at: Timestamp) -> Result<(), Stale> {
        let own = scopes(approval.agent(), approval.entry());
        let known = |scope: &Scope| own.contains(scope);
        let price = approval.offer().price;
        // A scope we do not post to would be a limit that never fills: fail closed.
        let unknown = !approval.scopes().iter().all(known) || !approval.checks().iter().all(|c| known(&c.scope));
        if approval.epoch() < self.epoch || approval.held() != held.unwrap_or(MicroUsd::ZERO) || price < MicroUsd::ZERO || unknown {
            return Err(None);
        }
        let more = price.saturating_sub(approval.held()).max(MicroUsd::ZERO);
        for check in approval.checks() {
            self.examine_one(check, more, usize::from(held.is_none()), at).map_err(|stale| {
                stale.map(|v| Violation { offer: Some(approval.offer().index), amount: Some(price), rule: Some(check.rule.clone()), ..v })
            })?;
        }
        let full = |scope| self.money.get(scope).is_some_and(|m| !m.has_room(more.micro()));
        if own.iter().any(full) { Err(Some(Violation::new(Reason::AmountTooLarge))) } else { Ok(()) }
    }

    fn examine_one(&self, check: &Check, more: MicroUsd, commitments: usize, at: Timestamp) -> Result<(), Stale> {
        match check.limit {
            // The period ended between the decision and now: another one is to be judged.
            Limit::Spend(_) if at < check.span.from || at >= check.span.until => Err(None),
            Limit::Spend(limit) => {
                let spent = self.spent(&check.scope, check.span);
                if spent.checked_add(more).is_some_and(|sum| sum <= limit) {
                    return Ok(());
                }
                Err(Some(Violation {
                    limit: Some(limit),
                    remaining: Some(limit.saturating_sub(spent).max(MicroUsd::ZERO)),
                    resets_at: Some(check.span.until).filter(|t| t.millis() < END_OF_TIME_MS),
                    ..Violation::new(check.reason)
                }))
            }
            Limit::Count(limit) => {
                // Up to now, not to the end of the decision's span: commitments made since then count.
                let instants = self.instants.get(&check.scope);
                let count = instants.map_or(0, |i| i.since(check.span.from));
                let limit = usize::try_from(limit).unwrap_or(usize::MAX);
                if count + commitments <= limit {
                    return Ok(());
                }
                let width = check.span.until.millis().saturating_sub(check.span.from.millis());
                let leaves = instants.and_then(|i| i.nth_since(check.span.from, count - limit.min(count)));
                Err(Some(Violation { resets_at: leaves.map(|t| t.plus_millis(width)), ..Violation::new(check.reason) }))
            }
        }
    }

    /// Adds a posting to every counter it belongs to; a hold is also a commitment.
    pub(super) fn post(&mut self, posting: &Posting) {
        for scope in posting.scopes() {
            if posting.kind == Kind::Hold {
                self.instants.entry(scope.clone()).or_default().add(posting.at);
            }
            self.money.entry(scope).or_default().post(posting.at, posting.micro);
        }
    }

    /// Takes a posting out as if it had never been: only before it was durable.
    pub(super) fn unpost(&mut self, posting: &Posting) {
        for scope in posting.scopes() {
            if posting.kind == Kind::Hold
                && let Some(instants) = self.instants.get_mut(&scope)
            {
                instants.remove(posting.at);
            }
            self.money.entry(scope).or_default().post(posting.at, -posting.micro);
        }
    }

    /// Adds a whole quarter's sum of one agent and entry, read back from the store.
    pub(super) fn restore_sum(&mut self, posting: &Posting) {
        for scope in posting.scopes() {
            self.money.entry(scope).or_default().post(posting.at, posting.micro);
        }
    }

    /// Adds a commitment's instant, read back from the store.
    pub(super) fn restore_instant(&mut self, agent: &AgentId, entry: &RuleId, at: Timestamp) {
        for scope in scopes(agent, entry) {
            self.instants.entry(scope).or_default().add(at);
        }
    }

    /// Adds a pin unless there is one; answers whether it is new.
    pub(super) fn pin_first(&mut self, key: PinKey, payee: Payee) -> bool {
        let before = self.pins.len();
        self.pins.entry(key).or_insert(payee);
        self.pins.len() > before
    }

    /// The hold of `id` failed to become durable: as if it had never been.
    pub(super) fn undo_hold(&mut self, id: &PurchaseId) {
        if let Some(live) = self.index.remove(id) {
            live.postings.iter().for_each(|p| self.unpost(p));
        }
    }

    /// The raise of `id` failed to become durable: back to the terms in `before`.
    pub(super) fn undo_raise(&mut self, id: &PurchaseId, before: &Purchase, posting: Option<&Posting>) {
        if let Some(posting) = posting {
            self.unpost(posting);
        }
        if let Some(live) = self.index.get_mut(id) {
            live.writing = false;
            live.postings.retain(|p| Some(p) != posting);
            Arc::make_mut(&mut live.purchase).take_terms(before);
        }
    }

    /// Gives everything `id` holds back, each posting in its own period; answers what to write.
    pub(super) fn void(&mut self, id: &PurchaseId) -> Vec<Posting> {
        let Some(live) = self.index.remove(id) else { return Vec::new() };
        let released: Vec<_> = live.postings.iter().map(Posting::released).collect();
        released.iter().for_each(|p| self.post(p));
        released
    }

    /// Ends the life of a delivered purchase; answers it and the pin it set, if it was the first (M3.3).
    pub(super) fn consume(&mut self, id: &PurchaseId) -> Option<(i64, Arc<Purchase>, Option<PinKey>)> {
        let mut live = self.index.remove(id)?;
        Arc::make_mut(&mut live.purchase).consumed = true;
        let p = &live.purchase;
        let key = PinKey { agent: p.agent.clone(), entry: p.entry.clone(), host: p.host.clone(), chain: p.asset.chain };
        let pin = self.pin_first(key.clone(), p.payee).then_some(key);
        Some((live.num, live.purchase, pin))
    }
}

/// A reset later than this is never: `caps.total` does not reset.
const END_OF_TIME_MS: i64 = 253_402_300_800_000;

impl View for Books {
    fn spent(&self, scope: &Scope, span: Span) -> MicroUsd {
        MicroUsd::new(self.money.get(scope).map_or(0, |m| m.spent(span)))
    }

    fn commitments(&self, scope: &Scope, span: Span) -> u32 {
        self.instants.get(scope).map_or(0, |i| u32::try_from(i.within(span)).unwrap_or(u32::MAX))
    }

    fn nth_commitment(&self, scope: &Scope, span: Span, n: u32) -> Option<Timestamp> {
        self.instants.get(scope)?.nth_since(span.from, usize::try_from(n).ok()?)
    }

    fn pin(&self, agent: &AgentId, entry: &RuleId, host: &Host, chain: ChainId) -> Option<Address> {
        let key = PinKey { agent: agent.clone(), entry: entry.clone(), host: host.to_string(), chain };
        self.pins.get(&key).map(|payee| payee.0)
    }
}
