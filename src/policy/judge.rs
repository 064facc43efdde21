//! One offer against one agent's rules: everything that speaks against it, with the numbers (M3.4 steps 1 and 2), and the
//! rank of those that nothing speaks against (step 3).

use std::cell::Cell;
use std::cmp::Ordering;
use std::sync::Arc;

use super::condition::Facts;
use super::rule::{Agent, Allow, Deny, Limits, PayTo, PaymentCap, Request};
use super::second_look::{Conditions, Reread, SecondLook};
use super::{AskFor, Check, CheckResult, Considered, Input, Limit, Period, Policy, RuleId, Scope, Span, View, Violation, Window};
use crate::payment::{Asset, MicroUsd, Offer, Reason, Timestamp};

/// Everything a decision holds fixed while it looks at the offers.
pub(super) struct Judge<'a> {
    policy: &'a Policy,
    pub(super) agent: &'a Agent,
    pub(super) input: &'a Input<'a>,
    books: &'a dyn View,
    /// Entries that take the request, and whether `plain_http` is all that is missing.
    allow: Vec<(&'a Allow, bool)>,
    deny: Vec<&'a Deny>,
    spans: [Cell<Option<Span>>; Window::ALL.len()],
}

/// What was found about one offer.
pub(super) struct Verdict<'a> {
    pub(super) offer: &'a Offer,
    pub(super) entry: Option<&'a Allow>,
    pub(super) priced: Option<(Arc<Asset>, MicroUsd)>,
    pub(super) considered: Considered,
    /// Every limit that read a counter.
    pub(super) rechecks: Vec<Check>,
    /// What was read of the books beside limits.
    pub(super) reread: Reread,
    /// People said yes to a budget that it exceeds.
    pub(super) granted: bool,
}

/// The reason code of a cap.
pub(super) const fn cap_reason(period: Period) -> Reason {
    match period {
        Period::Calendar(Window::Hour) => Reason::CapHour,
        Period::Calendar(Window::Day) => Reason::CapDay,
        Period::Calendar(Window::Week) => Reason::CapWeek,
        Period::Calendar(Window::Month) => Reason::CapMonth,
        Period::Calendar(Window::Total) => Reason::CapTotal,
        Period::Rolling(_) => Reason::CapRolling,
    }
}

impl<'a> Judge<'a> {
    pub(super) fn new(policy: &'a Policy, agent: &'a Agent, input: &'a Input<'a>, request: Request<'a>, books: &'a dyn View) -> Self {
        let allow = agent.allow.iter().filter(|a| a.takes(&request)).map(|a| (a, !request.https && !a.plain_http)).collect();
        let deny = agent.deny.iter().filter(|d| d.takes(&request)).collect();
        Self { policy, agent, input, books, allow, deny, spans: std::array::from_fn(|_| Cell::new(None)) }
    }

    /// What `period` counts now; calendar periods are computed once.
    pub(super) fn span(&self, period: Period) -> Span {
        let Period::Calendar(window) = period else { return period.span(self.input.now, &self.policy.zone) };
        let slot = &self.spans[window as usize];
        let span = slot.get().unwrap_or_else(|| window.span(self.input.now, &self.policy.zone));
        slot.set(Some(span));
        span
    }

    pub(super) fn offer(&self, offer: &'a Offer) -> Verdict<'a> {
        let mut found = Findings::new(offer);
        match self.alone(offer) {
            Err(reason) => {
                found.against(reason, None);
                found.verdict(offer, None, None)
            }
            Ok((asset, price)) => {
                found.price = Some(price);
                let entry = self.rules(offer, price, &mut found);
                found.verdict(offer, entry, Some((asset, price)))
            }
        }
    }

    /// Step 1: an offer that cannot be paid at all reports that alone. Price and domain come from this policy's own table.
    fn alone(&self, offer: &Offer) -> Result<(Arc<Asset>, MicroUsd), Reason> {
        if offer.payee.0 == self.input.payer.0 {
            return Err(Reason::InvalidPayee);
        }
        let id = offer.asset.id;
        let asset = self.policy.assets.get(&id).ok_or(Reason::UnknownAsset)?;
        if offer.amount.asset() != id {
            return Err(Reason::InvalidAsset);
        }
        if asset.eip712 != offer.asset.eip712 {
            return Err(Reason::AssetDomainMismatch);
        }
        let stale = self.policy.fresh.get(&id).is_some_and(|fresh| !fresh.contains(self.input.now));
        let price = asset.price.filter(|_| !stale).ok_or(Reason::AssetNotPriced)?;
        let value = price.value_of(offer.amount.atomic(), asset.decimals).ok_or(Reason::AmountTooLarge)?;
        if self.input.bound_to.is_some_and(|bound| bound != id) {
            return Err(Reason::PaymentOutstanding);
        }
        Ok((asset.clone(), value))
    }

    /// Step 2, in its order and without short-circuit.
    fn rules(&self, offer: &'a Offer, price: MicroUsd, found: &mut Findings) -> Option<&'a Allow> {
        for deny in self.deny.iter().filter(|d| d.takes_offer(offer)) {
            found.against(Reason::Denied, Some(&deny.id));
        }
        if self.policy.risk.payees.contains(&offer.payee.0) {
            found.against(Reason::PayeeListed, Some(&RuleId("risk.deny_payees".into())));
        }
        let entry = self.entry(offer, found);
        found.considered.entry = entry.map(|e| e.id.clone());
        self.hours(found);
        found.within(self.agent.limits.per_payment.as_ref(), price, Reason::CapPerPayment);
        if let Some(entry) = entry {
            found.within(entry.max.as_ref(), price, Reason::EntryMax);
            found.within(entry.limits.per_payment.as_ref(), price, Reason::CapPerPayment);
            if offer.amount.is_zero() && !entry.allow_zero {
                found.against(Reason::ZeroAmount, Some(&entry.id));
            }
        }
        self.conditions(offer, price, entry, found);
        if let Some(entry) = entry.filter(|e| e.pay_to == PayTo::Pinned) {
            self.pinned(entry, offer, found);
        }
        self.rates(found);
        self.limits(&self.agent.limits, price, found);
        self.targets(offer, price, found);
        if let Some(entry) = entry {
            self.limits(&entry.limits, price, found);
        }
        self.budgets(price, found);
        entry
    }

    /// The first allow entry in file order that selects this offer. Without one people may be asked, or the reason is the nearest
    /// miss.
    fn entry(&self, offer: &Offer, found: &mut Findings) -> Option<&'a Allow> {
        let mut near: Option<(&RuleId, bool, Option<Reason>)> = None;
        for (entry, needs_plain_http) in self.allow.iter().copied().filter(|(a, _)| a.takes_offer(offer)) {
            match entry.network(offer.asset.id.chain) {
                Ok(()) if !needs_plain_http => return Some(entry),
                Ok(()) if near.is_none() => near = Some((&entry.id, true, None)),
                Err(Some(reason)) if near.is_none() => near = Some((&entry.id, needs_plain_http, Some(reason))),
                _ => {}
            }
        }
        match near {
            Some((id, plain_http, other)) => {
                if plain_http {
                    found.against(Reason::PlainHttp, Some(id));
                }
                if let Some(reason) = other {
                    found.against(reason, Some(id));
                }
            }
            None => return self.unmatched(offer, found),
        }
        None
    }

    /// `defaults.unmatched`: what no entry takes is denied, or put to people.
    fn unmatched(&self, offer: &Offer, found: &mut Findings) -> Option<&'a Allow> {
        if let Some((group, entry)) = &self.agent.unmatched
            && self.input.https
            && entry.takes_offer(offer)
            && entry.network(offer.asset.id.chain).is_ok()
        {
            self.ask(std::slice::from_ref(group), &entry.id, Reason::ApprovalRequired, found);
            return Some(entry);
        }
        found.against(Reason::NotAllowed, None);
        None
    }

    /// A question to people, unless one of these groups has said yes.
    fn ask(&self, any_of: &[Arc<str>], rule: &RuleId, reason: Reason, found: &mut Findings) {
        if self.input.granted.iter().any(|g| any_of.contains(g)) {
            return;
        }
        let asked = AskFor { any_of: any_of.to_vec(), rule: rule.clone(), reason, exceeds: false };
        let violation =
            Violation { rule: Some(rule.clone()), offer: Some(found.considered.offer), amount: found.price, ..Violation::new(reason) };
        found.considered.asks.push((asked, violation));
    }

    fn hours(&self, found: &mut Findings) {
        let (now, zone) = (self.input.now, &self.policy.zone);
        if let Some(hours) = self.agent.hours.as_ref().filter(|h| !h.contains(now, zone)) {
            found.against(Reason::OutsideHours, Some(&RuleId("hours".into()))).resets_at = hours.next(now, zone);
        }
    }

    /// What the session may spend in all: as it was issued, or as the policy says, whichever is less.
    fn session_max(&self) -> Option<MicroUsd> {
        let ruled = self.agent.sessions.as_ref().and_then(|s| s.max);
        [self.input.session_max, ruled].into_iter().flatten().min()
    }

    /// Every rule of the agent: one that cannot be evaluated denies (M3.4).
    fn conditions(&self, offer: &'a Offer, price: MicroUsd, entry: Option<&Allow>, found: &mut Findings) {
        if self.agent.rules.is_empty() {
            return;
        }
        let span = |window| self.span(Period::Calendar(window));
        let facts = Facts {
            input: self.input,
            offer,
            price,
            entry: entry.map(|e| &e.id),
            scope: &self.agent.limits.scope,
            session_max: self.session_max(),
            span: &span,
            books: self.books,
        };
        for rule in &self.agent.rules {
            let holds = rule.when.holds(&facts);
            if let (true, Ok(spoke)) = (rule.when.reads_books(), holds) {
                found.reread.rules.push((Arc::clone(rule), spoke));
            }
            match (holds, &rule.ask) {
                (Ok(false), _) => {}
                (Ok(true), None) => drop(found.against(Reason::RuleDenied, Some(&rule.id))),
                (Ok(true), Some(group)) => self.ask(std::slice::from_ref(group), &rule.id, Reason::ApprovalRequired, found),
                (Err(_), _) => drop(found.against(Reason::RuleError, Some(&rule.id))),
            }
        }
    }

    /// The payee is the one that was paid here first, if one was (M3.3).
    fn pinned(&self, entry: &Allow, offer: &Offer, found: &mut Findings) {
        let pin = self.books.pin(self.input.agent, &entry.id, self.input.host, offer.asset.id.chain);
        if pin.is_none_or(|pinned| pinned == offer.payee.0) {
            found.reread.pinned = true;
            return;
        }
        match &self.policy.risk.payee_change {
            Some(group) => self.ask(std::slice::from_ref(group), &entry.id, Reason::PayeeChanged, found),
            None => drop(found.against(Reason::PayeeChanged, Some(&entry.id))),
        }
    }

    /// What the ledger judges again when it holds the amount.
    pub(super) fn second_look(&self, reread: &Reread) -> SecondLook {
        let input = self.input;
        let conditions = (!reread.rules.is_empty()).then(|| {
            Box::new(Conditions {
                rules: reread.rules.clone(),
                method: input.method.clone(),
                https: input.https,
                port: input.port,
                path: input.path.into(),
                payer: input.payer,
                context: input.context.clone(),
                counter: self.agent.limits.scope.clone(),
                session_max: self.session_max(),
                zone: self.policy.zone.clone(),
            })
        });
        SecondLook { pinned: reread.pinned, conditions }
    }

    /// Rates count new commitments, so a re-signature is free of them (M2.5).
    fn rates(&self, found: &mut Findings) {
        let limits = &self.agent.limits;
        for rate in limits.rates.iter().filter(|_| !self.input.is_resigning()) {
            let span = Span::last(rate.span_ms, self.input.now);
            let made = self.books.commitments(&limits.scope, span);
            let ok = made < rate.limit;
            found.check(&rate.rule, i64::from(made), i64::from(rate.limit), ok, true);
            if !ok {
                // As many must leave as are above the limit, and one more; with a limit of zero no passing of time helps.
                let leaves = self.books.nth_commitment(&limits.scope, span, made - rate.limit);
                let violation = found.against(Reason::RateLimited, Some(&rate.rule));
                violation.resets_at = leaves.map(|at| at.plus_millis(rate.span_ms));
            }
            found.recheck(&limits.scope, span, Limit::Count(rate.limit), &rate.rule, Reason::RateLimited);
        }
    }

    fn limits(&self, limits: &Limits, price: MicroUsd, found: &mut Findings) {
        for cap in &limits.caps {
            self.cap(&limits.scope, self.span(cap.period), cap.limit, &cap.rule, cap_reason(cap.period), price, found);
        }
    }

    /// What the agent pays this host, this payee and in this session.
    fn targets(&self, offer: &Offer, price: MicroUsd, found: &mut Findings) {
        let (agent, day) = (self.input.agent, Period::Calendar(Window::Day));
        if let Some(cap) = &self.agent.host_day {
            let scope = Scope::Host(agent.clone(), self.input.host.to_string().into());
            self.cap(&scope, self.span(day), cap.limit, &cap.rule, Reason::CapHost, price, found);
        }
        if let Some(cap) = &self.agent.payee_day {
            let scope = Scope::AgentPayee(agent.clone(), offer.payee);
            self.cap(&scope, self.span(day), cap.limit, &cap.rule, Reason::CapAgentPayee, price, found);
        }
        if let (Some(session), Some(max)) = (self.input.session, self.agent.sessions.as_ref().and_then(|s| s.max)) {
            let scope = Scope::Session(agent.clone(), session.clone());
            self.cap(&scope, Span::ALL, max, &RuleId("session.max".into()), Reason::CapSession, price, found);
        }
    }

    /// Spent so far plus what this payment adds ≤ the cap. A re-signature adds only what goes beyond its hold (M1.2).
    #[expect(clippy::too_many_arguments, reason = "a cap is these six things")]
    fn cap(&self, scope: &Scope, span: Span, limit: MicroUsd, rule: &RuleId, reason: Reason, price: MicroUsd, found: &mut Findings) {
        if let Some(over) = self.over(scope, span, limit, rule, price, found) {
            found.against(reason, Some(rule)).take_numbers(&over);
        }
        found.recheck(scope, span, Limit::Spend(limit), rule, reason);
    }

    /// The numbers of a limit that this payment would exceed.
    fn over(&self, scope: &Scope, span: Span, limit: MicroUsd, rule: &RuleId, price: MicroUsd, found: &mut Findings) -> Option<Over> {
        let cost = price.saturating_sub(self.input.held).max(MicroUsd::ZERO);
        let spent = self.books.spent(scope, span);
        let ok = spent.checked_add(cost).is_some_and(|sum| sum <= limit);
        found.check(rule, spent.micro(), limit.micro(), ok, false);
        (!ok).then(|| Over {
            limit,
            remaining: limit.saturating_sub(spent).max(MicroUsd::ZERO),
            resets_at: Some(span.until).filter(|until| *until != Timestamp::from_millis(i64::MAX)),
        })
    }

    /// Shared budgets (M2.6): one that people may let be exceeded is a question, until they have said yes.
    fn budgets(&self, price: MicroUsd, found: &mut Findings) {
        for budget in self.agent.budgets.iter().filter_map(|i| self.policy.budgets.get(*i)) {
            let customer = budget.per_customer.then(|| self.input.context.customer().unwrap_or_default());
            let scope = Scope::Shared(budget.members.clone(), customer);
            let span = self.span(Period::Calendar(budget.window));
            let lifted = self.input.granted.iter().any(|g| budget.askers.contains(g));
            let over = self.over(&scope, span, budget.limit, &budget.rule, price, found);
            let Some(over) = over else {
                // A yes that is not needed for this budget does not lift it either.
                found.recheck(&scope, span, Limit::Spend(budget.limit), &budget.rule, Reason::BudgetExceeded);
                continue;
            };
            if lifted {
                found.granted = true;
                continue;
            }
            if budget.askers.is_empty() {
                found.against(Reason::BudgetExceeded, Some(&budget.rule)).take_numbers(&over);
                continue;
            }
            self.ask(&budget.askers, &budget.rule, Reason::BudgetExceeded, found);
            if let Some((asked, violation)) = found.considered.asks.last_mut() {
                asked.exceeds = true;
                violation.take_numbers(&over);
            }
        }
    }
}

/// A limit that does not suffice.
struct Over {
    limit: MicroUsd,
    remaining: MicroUsd,
    resets_at: Option<Timestamp>,
}

impl Violation {
    fn take_numbers(&mut self, over: &Over) {
        (self.limit, self.remaining, self.resets_at) = (Some(over.limit), Some(over.remaining), over.resets_at);
    }
}

struct Findings {
    considered: Considered,
    price: Option<MicroUsd>,
    rechecks: Vec<Check>,
    reread: Reread,
    granted: bool,
}

impl Findings {
    fn new(offer: &Offer) -> Self {
        let considered = Considered { offer: offer.index, entry: None, checks: Vec::new(), violations: Vec::new(), asks: Vec::new() };
        Self { considered, price: None, rechecks: Vec::new(), reread: Reread::default(), granted: false }
    }

    fn verdict<'a>(self, offer: &'a Offer, entry: Option<&'a Allow>, priced: Option<(Arc<Asset>, MicroUsd)>) -> Verdict<'a> {
        let Self { considered, rechecks, reread, granted, .. } = self;
        Verdict { offer, entry, priced, considered, rechecks, reread, granted }
    }

    /// For the ledger to read again when it holds the amount (M2.5).
    fn recheck(&mut self, scope: &Scope, span: Span, limit: Limit, rule: &RuleId, reason: Reason) {
        self.rechecks.push(Check { scope: scope.clone(), span, limit, rule: rule.clone(), reason });
    }

    fn against(&mut self, reason: Reason, rule: Option<&RuleId>) -> &mut Violation {
        let offer = Some(self.considered.offer);
        let violations = &mut self.considered.violations;
        violations.push(Violation { rule: rule.cloned(), offer, amount: self.price, ..Violation::new(reason) });
        let last = violations.len() - 1;
        &mut violations[last]
    }

    fn check(&mut self, rule: &RuleId, spent: i64, limit: i64, ok: bool, count: bool) {
        self.considered.checks.push(CheckResult { rule: rule.clone(), spent, limit, ok, count });
    }

    /// A bound on the whole price, whatever is held already.
    fn within(&mut self, cap: Option<&PaymentCap>, price: MicroUsd, reason: Reason) {
        let Some(cap) = cap else { return };
        let ok = price <= cap.limit;
        self.check(&cap.rule, 0, cap.limit.micro(), ok, false);
        if !ok {
            let violation = self.against(reason, Some(&cap.rule));
            violation.limit = Some(cap.limit);
        }
    }
}

impl Verdict<'_> {
    /// Flow and transfer by the entry's lists, then micro-USD, network, asset, payee, amount; never the seller's order (M3.4).
    ///
    /// Addresses compare as their lower-case text does. Offers equal in all of this differ in nothing that is paid; the wire
    /// text then settles it, so that the choice is the same in every order.
    pub(super) fn rank(&self, other: &Self) -> Ordering {
        let place = |v: &Self| {
            let at = |a: &Allow| (position(&a.flows, &v.offer.flow), position(&a.transfer, &v.offer.transfer));
            (v.entry.map(at), v.priced.as_ref().map(|(_, price)| *price))
        };
        let (a, b) = (self.offer, other.offer);
        let chain = |o: &Offer| o.asset.id.chain.to_string();
        place(self)
            .cmp(&place(other))
            .then_with(|| if a.asset.id.chain == b.asset.id.chain { Ordering::Equal } else { chain(a).cmp(&chain(b)) })
            .then_with(|| a.asset.id.token.cmp(&b.asset.id.token))
            .then_with(|| a.payee.cmp(&b.payee))
            .then_with(|| a.amount.atomic().cmp(&b.amount.atomic()))
            .then_with(|| a.protocol.cmp(&b.protocol))
            .then_with(|| b.max_timeout.cmp(&a.max_timeout))
            .then_with(|| a.wire.accepted.cmp(&b.wire.accepted))
    }

    /// How far from being paid: matched an entry, missed one nearly, not allowed or denied, not payable at all.
    pub(super) fn distance(&self) -> (u8, usize, Option<MicroUsd>, usize) {
        let violations = &self.considered.violations;
        if violations.is_empty() {
            return (0, 0, None, self.considered.offer);
        }
        let has = |reasons: &[Reason]| violations.iter().any(|v| reasons.contains(&v.reason));
        let class = match (&self.priced, self.entry) {
            (None, _) => 3,
            _ if has(&[Reason::Denied, Reason::NotAllowed]) => 2,
            (_, None) => 1,
            (_, Some(_)) => 0,
        };
        (class, violations.len(), self.priced.as_ref().map(|(_, price)| *price), self.considered.offer)
    }
}

fn position<T: PartialEq>(list: &[T], value: &T) -> Option<usize> {
    list.iter().position(|own| own == value)
}
