//! Counters and purchases in memory: arithmetic only. No clock, store or runtime; `at` and `now` are arguments.
//!
//! Counters are sums over postings (M2.2), so a new limit starts from history. Which counters a payment belongs to is
//! [`Posting`]'s part; a release credits only the period of the hold (M2.1); commitments are counted and never refunded (M2.5).
//! `examine` compares an approval with them and holds it. Which purchases an identical request may take over is [`Index`]'s
//! part (M1.1).

mod examine;

use std::collections::HashMap;
use std::sync::Arc;

use alloy_primitives::Address;

use super::Purchase;
use super::counters::{Instants, LiveTotal, Money};
use super::history::{self, Histories};
use super::index::Index;
use super::posting::{Kind, Posting, own};
use super::shared::Shares;
use crate::payment::{AgentId, ChainId, MicroUsd, Payee, PurchaseId, Timestamp};
use crate::policy::{History, Host, Members, RuleId, Scope, Span, Standing, View, Violation};

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
        self.open().filter(|p| p.agent == *agent && p.in_flight(now)).count()
    }

    /// Follows another policy: its epoch, and the lists of agents whose payments it counts together (M2.2).
    pub(super) fn follow(&mut self, epoch: u64, lists: impl IntoIterator<Item = Members>) {
        self.epoch = epoch;
        self.shares.follow(lists, &mut self.money);
    }

    /// What remains of `limit`: below zero only where people let it be exceeded in this period, else zero (M3.7).
    pub fn remaining(&self, scope: &Scope, span: Span, limit: MicroUsd) -> MicroUsd {
        let left = limit.saturating_sub(self.spent(scope, span));
        let granted = self.money.get(scope).is_some_and(|m| m.granted(span));
        if granted { left } else { left.max(MicroUsd::ZERO) }
    }

    /// What the first consumed purchase ever under these four was paid, and the last fifty, the oldest first (M3.3).
    pub fn prices(&self, agent: &AgentId, entry: &RuleId, host: &Host, method: &str) -> (Option<MicroUsd>, Vec<(Timestamp, MicroUsd)>) {
        let (agent, entry) = (agent.clone(), entry.clone());
        self.histories.prices(&history::Key { agent, entry, host: host.to_string(), method: method.to_owned() })
    }

    /// What is stopped from now on; checked again when an amount is held (M2.2).
    pub(super) fn set_standing(&mut self, standing: Arc<Standing>) {
        self.standing = standing;
    }

    pub(super) const fn index(&mut self) -> &mut Index {
        &mut self.index
    }

    /// Micro-USD of a co-signer's authorizations whose last window has not ended.
    pub fn live_total(&self, now: Timestamp) -> MicroUsd {
        MicroUsd::new(self.live.total(now))
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

    /// Adds a posting to every counter it belongs to; a hold is also a commitment.
    pub(super) fn post(&mut self, posting: &Posting) {
        if posting.kind == Kind::Hold {
            self.restore_instant(&posting.agent, &posting.entry, posting.at);
        }
        self.sum(posting, 1);
    }

    /// Adds `sign` × the posting to every counter it belongs to.
    fn sum(&mut self, posting: &Posting, sign: i64) {
        let marks = posting.granted() && posting.kind != Kind::Release;
        for scope in posting.scopes(&self.shares) {
            let money = self.money.entry(scope).or_default();
            money.post(posting.at, sign * posting.micro);
            if marks {
                money.mark(posting.at, sign);
            }
        }
    }

    /// Takes a posting out as if it had never been: only before it was durable.
    pub(super) fn unpost(&mut self, posting: &Posting) {
        if posting.kind == Kind::Hold {
            for scope in own(&posting.agent, &posting.entry) {
                self.instants.entry(scope).or_default().remove(posting.at);
            }
        }
        self.sum(posting, -1);
    }

    /// Adds the sum of many postings of the same counters, read back from the store.
    pub(super) fn restore_sum(&mut self, posting: &Posting) {
        self.sum(posting, 1);
    }

    /// Adds a consumed purchase, read back from the store.
    pub(super) fn restore_history(&mut self, key: history::Key, num: i64, at: Timestamp, price: MicroUsd) {
        self.histories.add(key, num, at, price);
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
        self.histories.add(past, live.num, p.at, p.held);
        let key = PinKey { agent: p.agent.clone(), entry: p.entry.clone(), host: p.host.clone(), chain: p.asset.chain };
        let pin = self.pin_first(key.clone(), p.payee).then_some(key);
        Some((live.num, live.purchase, pin))
    }
}

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
