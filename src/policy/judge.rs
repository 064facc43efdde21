//! One offer against one agent's rules: everything that speaks against it, with the numbers (M3.4 steps 1 and 2), and the
//! rank of those that nothing speaks against (step 3).

use std::cell::Cell;
use std::cmp::Ordering;
use std::sync::Arc;

use super::rule::{Agent, Allow, Deny, Limits, PayTo, PaymentCap, Request};
use super::{CheckResult, Considered, Input, Policy, RuleId, Span, View, Violation, Window};
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
}

/// The reason code of a cap.
pub(super) const fn cap_reason(window: Window) -> Reason {
    match window {
        Window::Hour => Reason::CapHour,
        Window::Day => Reason::CapDay,
        Window::Week => Reason::CapWeek,
        Window::Month => Reason::CapMonth,
        Window::Total => Reason::CapTotal,
    }
}

impl<'a> Judge<'a> {
    pub(super) fn new(policy: &'a Policy, agent: &'a Agent, input: &'a Input<'a>, request: Request<'a>, books: &'a dyn View) -> Self {
        let allow = agent.allow.iter().filter(|a| a.takes(&request)).map(|a| (a, !request.https && !a.plain_http)).collect();
        let deny = agent.deny.iter().filter(|d| d.takes(&request)).collect();
        Self { policy, agent, input, books, allow, deny, spans: std::array::from_fn(|_| Cell::new(None)) }
    }

    /// The current period of `window`, computed once.
    pub(super) fn span(&self, window: Window) -> Span {
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
                Verdict { offer, entry: None, priced: None, considered: found.considered }
            }
            Ok((asset, price)) => {
                found.price = Some(price);
                let entry = self.rules(offer, price, &mut found);
                Verdict { offer, entry, priced: Some((asset, price)), considered: found.considered }
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
    fn rules(&self, offer: &Offer, price: MicroUsd, found: &mut Findings) -> Option<&'a Allow> {
        for deny in self.deny.iter().filter(|d| d.takes_offer(offer)) {
            found.against(Reason::Denied, Some(&deny.id));
        }
        let entry = self.entry(offer, found);
        found.considered.entry = entry.map(|e| e.id.clone());
        found.within(self.agent.limits.per_payment.as_ref(), price, Reason::CapPerPayment);
        if let Some(entry) = entry {
            found.within(entry.max.as_ref(), price, Reason::EntryMax);
            found.within(entry.limits.per_payment.as_ref(), price, Reason::CapPerPayment);
            if offer.amount.is_zero() && !entry.allow_zero {
                found.against(Reason::ZeroAmount, Some(&entry.id));
            }
            if entry.pay_to == PayTo::Pinned && self.pin(entry, offer).is_some_and(|pinned| pinned != offer.payee.0) {
                found.against(Reason::PayeeChanged, Some(&entry.id));
            }
        }
        self.rates(found);
        self.caps(&self.agent.limits, price, found);
        if let Some(entry) = entry {
            self.caps(&entry.limits, price, found);
        }
        entry
    }

    /// The first allow entry in file order that selects this offer. Without one, the reason is the nearest miss.
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
            None => {
                found.against(Reason::NotAllowed, None);
            }
        }
        None
    }

    fn pin(&self, entry: &Allow, offer: &Offer) -> Option<alloy_primitives::Address> {
        self.books.pin(self.input.agent, &entry.id, self.input.host, offer.asset.id.chain)
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
                let leaves = self.books.nth_commitment(&limits.scope, span, made - rate.limit).filter(|_| rate.limit > 0);
                let violation = found.against(Reason::RateLimited, Some(&rate.rule));
                violation.resets_at = leaves.map(|at| at.plus_millis(rate.span_ms));
            }
        }
    }

    /// Spent so far plus what this payment adds ≤ the cap. A re-signature adds only what goes beyond its hold (M1.2).
    fn caps(&self, limits: &Limits, price: MicroUsd, found: &mut Findings) {
        let cost = price.saturating_sub(self.input.held).max(MicroUsd::ZERO);
        for cap in &limits.caps {
            let span = self.span(cap.window);
            let spent = self.books.spent(&limits.scope, span);
            let ok = spent.checked_add(cost).is_some_and(|sum| sum <= cap.limit);
            found.check(&cap.rule, spent.micro(), cap.limit.micro(), ok, false);
            if !ok {
                let violation = found.against(cap_reason(cap.window), Some(&cap.rule));
                violation.limit = Some(cap.limit);
                violation.remaining = Some(cap.limit.saturating_sub(spent).max(MicroUsd::ZERO));
                violation.resets_at = Some(span.until).filter(|until| *until != Timestamp::from_millis(i64::MAX));
            }
        }
    }
}

struct Findings {
    considered: Considered,
    price: Option<MicroUsd>,
}

impl Findings {
    fn new(offer: &Offer) -> Self {
        Self { considered: Considered { offer: offer.index, entry: None, checks: Vec::new(), violations: Vec::new() }, price: None }
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
            let at = |a: &Allow| (a.flows.iter().position(|f| *f == v.offer.flow), a.transfer.iter().position(|t| *t == v.offer.transfer));
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
