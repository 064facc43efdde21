//! Payments summed by counter, and what was delivered by entry: the small books behind a replay.

use std::collections::HashMap;
use std::sync::Arc;

use alloy_primitives::Address;
use http::Method;

use super::case::Case;
use super::fold::Base;
use super::row::{Outcome, Verdict, What};
use crate::ledger::{Purchase, PurchaseState};
use crate::payment::{AgentId, ChainId, MicroUsd, Payee, SessionName, Timestamp};
use crate::policy::{History, Host, Members, RuleId, Scope, Span, Standing, View};

/// Points of one counter; above it the older half becomes one.
const MAX_POINTS: usize = 200_000;

/// A payment as counters know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bought {
    pub(super) agent: AgentId,
    pub(super) entry: RuleId,
    pub(super) host: Host,
    pub(super) method: String,
    pub(super) payee: Payee,
    pub(super) chain: ChainId,
    pub(super) session: Option<SessionName>,
    pub(super) customer: Option<Arc<str>>,
    pub(super) at: Timestamp,
    /// What it costs.
    pub(super) price: MicroUsd,
    /// What it adds to the counters: less than the price if something is held already.
    pub(super) posted: MicroUsd,
    /// A commitment of its own, which rates count (M2.5).
    pub(super) new: bool,
}

/// What tells histories apart.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PastKey {
    /// Whose.
    pub agent: AgentId,
    /// The allow entry.
    pub entry: RuleId,
    /// The host.
    pub host: Host,
    /// The method.
    pub method: String,
}

/// What a pin is found by.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct PinKey {
    pub(super) agent: AgentId,
    pub(super) entry: RuleId,
    pub(super) host: Host,
    pub(super) chain: ChainId,
}

/// What was delivered under one key, the oldest first.
#[derive(Clone, Debug, Default)]
pub struct Past {
    /// What the first ever was paid.
    pub first: Option<MicroUsd>,
    /// The last fifty.
    pub recent: Vec<(Timestamp, MicroUsd)>,
}

impl Past {
    pub(super) fn add(&mut self, at: Timestamp, price: MicroUsd) {
        self.first.get_or_insert(price);
        // In the order of the holds, as the ledger has them.
        self.recent.insert(self.recent.partition_point(|(t, _)| *t <= at), (at, price));
        if self.recent.len() > History::LENGTH {
            self.recent.remove(0);
        }
    }

    pub(super) fn history(&self, now: Timestamp) -> History {
        History::of(self.first, &self.recent, now)
    }
}

impl Bought {
    /// What a verdict that allows pays in this case.
    pub(super) fn of(case: &Case, verdict: &Verdict) -> Option<Self> {
        let offer = case.offer(verdict.offer?)?;
        let price = MicroUsd::new(verdict.micro);
        Some(Self {
            agent: case.agent().clone(),
            entry: RuleId(verdict.entry.as_deref()?.into()),
            host: case.host().clone(),
            method: case.method().to_string(),
            payee: offer.payee,
            chain: offer.asset.id.chain,
            session: case.session().cloned(),
            customer: case.customer(),
            at: case.now(),
            price,
            posted: price.saturating_sub(case.held()).max(MicroUsd::ZERO),
            new: !case.is_resigned(),
        })
    }

    fn recorded(p: &Purchase) -> Option<Self> {
        Some(Self {
            agent: p.agent.clone(),
            entry: p.entry.clone(),
            host: Host::parse(&p.host).ok()?,
            method: p.method.clone(),
            payee: p.payee,
            chain: p.asset.chain,
            session: p.session.clone(),
            customer: p.customer.clone(),
            at: p.at,
            price: p.held,
            posted: if p.state == PurchaseState::Void { MicroUsd::ZERO } else { p.held },
            new: true,
        })
    }

    /// Whose budget.
    pub const fn agent(&self) -> &AgentId {
        &self.agent
    }

    /// What it adds to what was spent.
    pub const fn posted(&self) -> MicroUsd {
        self.posted
    }

    pub(super) fn past(&self) -> PastKey {
        PastKey { agent: self.agent.clone(), entry: self.entry.clone(), host: self.host.clone(), method: self.method.clone() }
    }

    pub(super) fn pin(&self) -> PinKey {
        PinKey { agent: self.agent.clone(), entry: self.entry.clone(), host: self.host.clone(), chain: self.chain }
    }

    /// Every counter of a proxy that it is summed in.
    pub(super) fn scopes(&self, lists: &[Members]) -> Vec<Scope> {
        let agent = || self.agent.clone();
        let mut all = vec![
            Scope::Agent(agent()),
            Scope::Entry(agent(), self.entry.clone()),
            Scope::Host(agent(), self.host.to_string().into()),
            Scope::AgentPayee(agent(), self.payee),
        ];
        all.extend(self.session.iter().map(|s| Scope::Session(agent(), s.clone())));
        for members in lists.iter().filter(|m| m.contains(&self.agent)) {
            all.push(Scope::Shared(members.clone(), None));
            all.push(Scope::Shared(members.clone(), Some(self.customer.clone().unwrap_or_default())));
        }
        all
    }
}

/// Sums over time: running totals, so that any span is two look-ups.
#[derive(Debug, Default)]
struct Series(Vec<(Timestamp, i64, i64)>);

impl Series {
    fn add(&mut self, at: Timestamp, micro: i64, count: i64) {
        if self.0.len() >= MAX_POINTS {
            self.0.drain(..MAX_POINTS / 2 - 1);
        }
        let place = self.0.partition_point(|(t, ..)| *t <= at);
        let (_, before, made) = place.checked_sub(1).and_then(|i| self.0.get(i)).copied().unwrap_or_default();
        self.0.insert(place, (at, before, made));
        for (_, sum, made) in &mut self.0[place..] {
            *sum = sum.saturating_add(micro);
            *made += count;
        }
    }

    fn sum(&self, span: Span) -> (i64, i64) {
        let until = |t: Timestamp| {
            let i = self.0.partition_point(|(at, ..)| *at < t);
            i.checked_sub(1).and_then(|i| self.0.get(i)).map_or((0, 0), |(_, sum, made)| (*sum, *made))
        };
        let ((a, m), (b, n)) = (until(span.from), until(span.until));
        (b.saturating_sub(a), n - m)
    }
}

/// Payments by counter.
#[derive(Debug)]
pub(super) struct Tally {
    lists: Vec<Members>,
    sums: HashMap<Scope, Series>,
}

impl Tally {
    /// With these lists of agents that are counted together.
    pub(super) fn new(lists: Vec<Members>) -> Self {
        Self { lists, sums: HashMap::new() }
    }

    /// Adds `sign` × the payment to each of its counters; with `count` also as a commitment.
    pub(super) fn post(&mut self, bought: &Bought, sign: i64, count: bool) {
        let made = if count && bought.new { sign } else { 0 };
        for scope in bought.scopes(&self.lists) {
            self.sums.entry(scope).or_default().add(bought.at, sign * bought.posted.micro(), made);
        }
    }

    pub(super) fn lists(&self) -> &[Members] {
        &self.lists
    }

    /// Micro-USD and commitments within `span`.
    pub(super) fn sum(&self, scope: &Scope, span: Span) -> (i64, i64) {
        self.sums.get(scope).map_or((0, 0), |series| series.sum(span))
    }
}

/// The books as a log tells them, with the ledger's purchases from before it where there is a ledger.
#[derive(Debug)]
pub struct Logged {
    tally: Tally,
    histories: HashMap<PastKey, Past>,
    pins: HashMap<PinKey, Address>,
    open: HashMap<String, Bought>,
    standing: Standing,
}

impl Logged {
    /// Empty books that count these lists of agents together.
    pub fn new(lists: Vec<Members>) -> Self {
        let tally = Tally::new(lists);
        Self { tally, histories: HashMap::new(), pins: HashMap::new(), open: HashMap::new(), standing: Standing::default() }
    }

    /// Adds what a ledger has from before `until`.
    pub fn before(&mut self, purchases: &[Purchase], until: Timestamp) {
        let mut older: Vec<&Purchase> = purchases.iter().filter(|p| p.at < until).collect();
        older.sort_by_key(|p| (p.at, p.id));
        for p in older {
            let Some(bought) = Bought::recorded(p) else { continue };
            self.tally.post(&bought, 1, true);
            if p.consumed {
                self.deliver(&bought);
            }
        }
    }

    /// Adds what a line paid.
    pub fn paid(&mut self, purchase: &str, bought: Bought) {
        self.tally.post(&bought, 1, true);
        self.open.insert(purchase.to_owned(), bought);
    }

    /// Adds what became of it.
    pub fn outcome(&mut self, outcome: &Outcome) {
        if outcome.what == What::Kept {
            return;
        }
        let Some(bought) = self.open.remove(&outcome.purchase) else { return };
        match outcome.what {
            What::Void => self.tally.post(&bought, -1, false),
            What::Consumed | What::Kept => self.deliver(&bought),
        }
    }

    fn deliver(&mut self, bought: &Bought) {
        self.histories.entry(bought.past()).or_default().add(bought.at, bought.price);
        self.pins.entry(bought.pin()).or_insert(bought.payee.0);
    }
}

impl View for Logged {
    fn spent(&self, scope: &Scope, span: Span) -> MicroUsd {
        MicroUsd::new(self.tally.sum(scope, span).0)
    }

    fn commitments(&self, scope: &Scope, span: Span) -> u32 {
        u32::try_from(self.tally.sum(scope, span).1).unwrap_or(0)
    }

    fn nth_commitment(&self, _: &Scope, _: Span, _: u32) -> Option<Timestamp> {
        None
    }

    fn pin(&self, agent: &AgentId, entry: &RuleId, host: &Host, chain: ChainId) -> Option<Address> {
        self.pins.get(&PinKey { agent: agent.clone(), entry: entry.clone(), host: host.clone(), chain }).copied()
    }

    fn history(&self, agent: &AgentId, entry: &RuleId, host: &Host, method: &Method, now: Timestamp) -> History {
        let key = PastKey { agent: agent.clone(), entry: entry.clone(), host: host.clone(), method: method.to_string() };
        self.prices(&key).history(now)
    }

    fn standing(&self) -> &Standing {
        &self.standing
    }
}

impl Base for Logged {
    fn prices(&self, key: &PastKey) -> Past {
        self.histories.get(key).cloned().unwrap_or_default()
    }
}
