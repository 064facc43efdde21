//! Counters and purchases in memory: arithmetic only. No clock, store or runtime; `at` and `now` are arguments.
//!
//! Counters are sums over postings (M2.2), so a new limit starts from history. A purchase posts under two scopes, its agent
//! and its allow entry, and on a co-signer also under its wallet, payee and identity (S4); a release credits only the period of the hold (M2.1); commitments are counted and never refunded
//! (M2.5). Which purchases an identical request may take over is [`Index`]'s part (M1.1).

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use alloy_primitives::Address;

use super::Purchase;
use super::counters::{Instants, LiveTotal, Money, quarter};
use super::history::{self, Histories};
use super::index::Index;
use super::posting::{By, Kind, Posting, Tags, own, scopes};
use super::shared::Shares;
use crate::payment::{AgentId, ChainId, MicroUsd, Payee, Payer, PurchaseId, Reason, Timestamp};
use crate::policy::{Approval, Check, History, Host, Limit, Members, RuleId, Scope, Span, Standing, View, Violation};

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
    shares: Shares,
    /// Quarters in which people let a limit be exceeded, by counter (M3.7).
    granted: HashMap<Scope, BTreeSet<i64>>,
    pins: HashMap<PinKey, Payee>,
    histories: Histories,
    index: Index,
    live: LiveTotal,
    standing: Arc<Standing>,
    tickets: HashMap<[u8; 16], PurchaseId>,
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

    /// Follows another policy: its epoch, and the lists of agents whose payments it counts together (M2.2).
    pub(super) fn follow(&mut self, epoch: u64, lists: impl IntoIterator<Item = Members>) {
        self.epoch = epoch;
        self.shares.follow(lists, &mut self.money);
    }

    /// What remains of `limit`: below zero only where people let it be exceeded in this period, else zero (M3.7).
    pub fn remaining(&self, scope: &Scope, span: Span, limit: MicroUsd) -> MicroUsd {
        let left = limit.saturating_sub(self.spent(scope, span));
        let granted = || {
            let (from, until) = (quarter(span.from), quarter(span.until));
            self.granted.get(scope).is_some_and(|quarters| from <= until && quarters.range(from..=until).next().is_some())
        };
        if left < MicroUsd::ZERO && !granted() { MicroUsd::ZERO } else { left }
    }

    /// What is stopped from now on; checked again when an amount is held (M2.2).
    pub(super) fn set_standing(&mut self, standing: Arc<Standing>) {
        self.standing = standing;
    }

    /// The gate that is closed for this purchase now, on a proxy (M2.2: a commit looks again).
    pub(super) fn closed(&self, purchase: &Purchase) -> Option<Reason> {
        let host = purchase.cosigned.is_none().then(|| Host::parse(&purchase.host).ok()).flatten()?;
        self.standing.closed(&purchase.agent, &host)
    }

    pub(super) const fn index(&mut self) -> &mut Index {
        &mut self.index
    }

    /// Compares an approval with the counters as they are now (M2.5). `held` is what a purchase that is signed again holds.
    pub(super) fn examine(&self, approval: &Approval, payer: Payer, held: Option<&Purchase>, at: Timestamp) -> Result<(), Stale> {
        if let Some(reason) = approval.host().and_then(|host| self.standing.closed(approval.agent(), host)) {
            return Err(Some(Violation::new(reason)));
        }
        let (tags, by) = (Tags::of(approval), By::of(approval, payer));
        let own = scopes(approval.agent(), approval.entry(), tags.as_deref(), by.as_deref(), &self.shares);
        let signed = held;
        let held = held.map(|p| p.held);
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
        self.examine_live(approval, signed, at)?;
        let full = |scope| self.money.get(scope).is_some_and(|m| !m.has_room(more.micro()));
        if own.iter().any(full) { Err(Some(Violation::new(Reason::AmountTooLarge))) } else { Ok(()) }
    }

    /// Compares, and posts to every counter, all or nothing: between the two nothing else may happen (M2.5).
    pub(super) fn hold(&mut self, approval: &Approval, payer: Payer, id: &PurchaseId, at: Timestamp) -> Result<Posting, Stale> {
        self.examine(approval, payer, None, at)?;
        let posting = Posting {
            agent: approval.agent().clone(),
            entry: approval.entry().clone(),
            at,
            micro: approval.offer().price.max(MicroUsd::ZERO).micro(),
            kind: Kind::Hold,
            tags: Tags::of(approval),
            by: By::of(approval, payer),
        };
        self.post(&posting);
        self.enter_live_as(approval, id, posting.micro);
        Ok(posting)
    }

    /// What may still be used, with this payment, stays under its bound; and a ticket stays with its purchase.
    fn examine_live(&self, approval: &Approval, signed: Option<&Purchase>, at: Timestamp) -> Result<(), Stale> {
        if let Some(ticket) = approval.cosigned().and_then(|c| c.ticket)
            && self.tickets.get(&ticket).is_some_and(|id| signed.is_none_or(|p| p.id != *id))
        {
            return Err(Some(Violation::new(Reason::GrantInvalid)));
        }
        let Some(bound) = approval.live() else { return Ok(()) };
        let own = signed.filter(|p| p.live_until() > at).map_or(0, |p| p.held.micro());
        let others = self.live.total(at).saturating_sub(own);
        let held = approval.offer().price.max(approval.held()).micro();
        if others.checked_add(held).is_some_and(|sum| sum <= bound.limit.micro()) {
            return Ok(());
        }
        Err(Some(Violation {
            offer: Some(approval.offer().index),
            amount: Some(approval.offer().price),
            rule: Some(bound.rule.clone()),
            limit: Some(bound.limit),
            remaining: Some(MicroUsd::new(bound.limit.micro().saturating_sub(others).max(0))),
            resets_at: self.live.next_end(at),
            ..Violation::new(Reason::LiveTotal)
        }))
    }

    /// Micro-USD of a co-signer's authorizations whose last window has not ended.
    pub fn live_total(&self, now: Timestamp) -> MicroUsd {
        MicroUsd::new(self.live.total(now))
    }

    /// [`Self::enter_live`] for a purchase that is being made.
    pub(super) fn enter_live_as(&mut self, approval: &Approval, id: &PurchaseId, micro: i64) {
        let (Some(cosigned), Some(end)) = (approval.cosigned(), approval.valid_before()) else { return };
        self.live.add(Timestamp::from_secs(i64::try_from(end).unwrap_or(i64::MAX)), micro);
        if let Some(ticket) = cosigned.ticket {
            self.tickets.insert(ticket, *id);
        }
    }

    /// Counts a co-signed purchase as live, and its ticket as used.
    pub(super) fn enter_live(&mut self, purchase: &Purchase) {
        let Some(cosigned) = &purchase.cosigned else { return };
        self.live.add(purchase.live_until(), purchase.held.micro());
        if let Some(ticket) = cosigned.ticket {
            self.tickets.insert(ticket, purchase.id);
        }
    }

    /// The other way round.
    pub(super) fn leave_live(&mut self, purchase: &Purchase) {
        let Some(cosigned) = &purchase.cosigned else { return };
        self.live.add(purchase.live_until(), -purchase.held.micro());
        if let Some(ticket) = cosigned.ticket {
            self.tickets.remove(&ticket);
        }
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
        if posting.kind == Kind::Hold {
            self.restore_instant(&posting.agent, &posting.entry, posting.at);
        }
        self.sum(posting, posting.micro);
    }

    fn sum(&mut self, posting: &Posting, micro: i64) {
        for scope in posting.scopes(&self.shares) {
            if posting.granted() {
                self.granted.entry(scope.clone()).or_default().insert(quarter(posting.at));
            }
            self.money.entry(scope).or_default().post(posting.at, micro);
        }
    }

    /// Takes a posting out as if it had never been: only before it was durable.
    pub(super) fn unpost(&mut self, posting: &Posting) {
        if posting.kind == Kind::Hold {
            for scope in own(&posting.agent, &posting.entry) {
                self.instants.entry(scope).or_default().remove(posting.at);
            }
        }
        self.sum(posting, -posting.micro);
    }

    /// Adds the sum of many postings of the same counters, read back from the store.
    pub(super) fn restore_sum(&mut self, posting: &Posting) {
        self.sum(posting, posting.micro);
    }

    /// Adds a consumed purchase, read back from the store.
    pub(super) fn restore_history(&mut self, key: history::Key, at: Timestamp, price: MicroUsd) {
        self.histories.add(key, at, price);
    }

    /// Counts a commitment, new or read back from the store. Rates are of agents only.
    pub(super) fn restore_instant(&mut self, agent: &AgentId, entry: &RuleId, at: Timestamp) {
        for scope in own(agent, entry) {
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
            self.leave_live(&live.purchase);
        }
    }

    /// The raise of `id` failed to become durable: back to the terms in `before`.
    pub(super) fn undo_raise(&mut self, id: &PurchaseId, before: &Purchase, posting: Option<&Posting>) {
        if let Some(posting) = posting {
            self.unpost(posting);
        }
        if let Some(after) = self.index.get(id).map(|live| Arc::clone(&live.purchase)) {
            self.leave_live(&after);
            self.enter_live(before);
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
        self.leave_live(&live.purchase);
        released
    }

    /// Ends the life of a delivered purchase; answers it and the pin it set, if it was the first (M3.3).
    pub(super) fn consume(&mut self, id: &PurchaseId) -> Option<(i64, Arc<Purchase>, Option<PinKey>)> {
        let mut live = self.index.remove(id)?;
        Arc::make_mut(&mut live.purchase).consumed = true;
        let p = &live.purchase;
        let past = history::Key { agent: p.agent.clone(), entry: p.entry.clone(), host: p.host.clone(), method: p.method.clone() };
        self.histories.add(past, p.at, p.held);
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

    fn history(&self, agent: &AgentId, entry: &RuleId, host: &Host, method: &http::Method, now: Timestamp) -> History {
        let (agent, entry) = (agent.clone(), entry.clone());
        self.histories.of(&history::Key { agent, entry, host: host.to_string(), method: method.to_string() }, now)
    }

    fn standing(&self) -> &Standing {
        &self.standing
    }

    fn nth_commitment(&self, scope: &Scope, span: Span, n: u32) -> Option<Timestamp> {
        self.instants.get(scope)?.nth_since(span.from, usize::try_from(n).ok()?)
    }

    fn pin(&self, agent: &AgentId, entry: &RuleId, host: &Host, chain: ChainId) -> Option<Address> {
        let key = PinKey { agent: agent.clone(), entry: entry.clone(), host: host.to_string(), chain };
        self.pins.get(&key).map(|payee| payee.0)
    }
}
