//! A co-signer's decision about fields that will be signed (S4). It sees no request and no seller, so the order is another one
//! than [`Policy::evaluate`]'s: allow entries are selected by the fields alone, words remove some of them, proofs let some of
//! them count as verified, and of what is left the first in file order that permits is the one.
//!
//! Nothing here can add an entry: whatever words are given, what is permitted with them is permitted without them.

use std::sync::Arc;
use std::time::Duration;

use alloy_primitives::U256;
use http::Method;

use super::cosigner::{Approver, Cosigner, MAX_LIFETIME, Ring, Whose};
use super::judge::cap_reason;
use super::pattern::HostPattern;
use super::rule::{Agent, Allow, Cap, Deny, PaymentCap, Rate};
use super::second_look::SecondLook;
use super::{Approval, Check, Cosigned, Host, Limit, Policy, Refusal, RuleId, Scope, Span, View, Violation};
use crate::payment::{
    AgentId, Amount, AssetId, Flow, MicroUsd, Offer, OfferKey, Payee, Payer, ProtocolId, Reason, Scheme, Timestamp, TransferMethod,
    WireEntry,
};

/// The fields that will be signed, and the co-signer's own time.
#[derive(Clone, Copy, Debug)]
pub struct Transfer {
    /// Chain and token.
    pub asset: AssetId,
    /// Atomic units.
    pub amount: U256,
    /// The wallet.
    pub payer: Payer,
    /// Who is paid.
    pub payee: Payee,
    /// End of the window, Unix seconds.
    pub valid_before: u64,
    /// Ledger time.
    pub now: Timestamp,
}

/// What is decided beside the terms.
#[derive(Clone, Debug)]
pub struct Ask {
    /// The identity that asks.
    pub identity: Arc<str>,
    /// What the purchase holds already if it is signed again (M1.2).
    pub held: Option<MicroUsd>,
    /// Limits that a verified grant lifts for this payment, and its ticket.
    pub lifted: Option<(Vec<RuleId>, [u8; 16])>,
}

/// The entries that may still permit. It only ever shrinks.
#[derive(Debug)]
pub struct Selection<'p> {
    policy: &'p Policy,
    own: &'p Cosigner,
    agent: AgentId,
    rules: &'p Agent,
    terms: Transfer,
    offer: Offer,
    entries: Vec<Candidate<'p>>,
    denials: Vec<&'p Deny>,
    against: Vec<Violation>,
}

#[derive(Debug)]
struct Candidate<'p> {
    entry: &'p Allow,
    proven: bool,
}

/// A rule that somebody's words about the request may be held against.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'p>(Which<'p>);

#[derive(Clone, Copy, Debug)]
enum Which<'p> {
    Allow(&'p Allow),
    Deny(&'p Deny),
}

impl Subject<'_> {
    /// True if a request with this host and method is not to be paid by this rule: an allow entry that does not select it, a deny
    /// entry that does. What is not said (`None`) speaks against nothing.
    pub fn opposes(&self, host: Option<&Host>, method: Option<&Method>) -> bool {
        let matches = |known: Option<bool>, empty: bool, unsaid: bool| if empty { true } else { known.unwrap_or(unsaid) };
        let (target, unsaid) = match self.0 {
            Which::Allow(entry) => (&entry.target, true),
            Which::Deny(deny) => (&deny.target, false),
        };
        let host = matches(host.map(|h| target.host(h)), target.hosts.is_empty(), unsaid);
        let method = matches(method.map(|m| target.methods.contains(m)), target.methods.is_empty(), unsaid);
        match self.0 {
            Which::Allow(_) => !(host && method),
            Which::Deny(_) => host && method,
        }
    }
}

/// An allow entry, as the one who looks for a proof of its payee sees it.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'p>(&'p Allow);

impl<'p> Wanted<'p> {
    /// Its id.
    pub const fn id(&self) -> &'p RuleId {
        &self.0.id
    }
    /// The seller's pinned keys.
    pub fn offer_keys(&self) -> &'p [OfferKey] {
        &self.0.trust.offer_keys
    }
    /// Whether the co-signer may ask the seller itself.
    pub const fn probe(&self) -> bool {
        self.0.trust.probe
    }
    /// The hosts that are written out in it: the only ones that are asked.
    pub fn exact_hosts(&self) -> impl Iterator<Item = &'p Host> {
        self.0.target.hosts.iter().filter_map(|h| match h {
            HostPattern::Exact(host) => Some(host),
            _ => None,
        })
    }
    /// Whether `host` is one of its hosts.
    pub fn host(&self, host: &Host) -> bool {
        self.0.target.host(host)
    }
}

impl Policy {
    /// The allow entries of `agent` that select these terms.
    ///
    /// # Errors
    /// The one reason why these terms are never signed: unknown agent, asset or payee, no price, too large, denied.
    pub fn select(&self, agent: &AgentId, terms: Transfer) -> Result<Selection<'_>, Violation> {
        let none = |reason| Violation::new(reason);
        let own = self.cosigner.as_ref().ok_or_else(|| none(Reason::Internal))?;
        let rules = self.agents.get(agent).ok_or_else(|| none(Reason::UnknownAgent))?;
        let offer = self.offer_of(&terms).map_err(none)?;
        let takes = |a: &&Allow| a.target.asset_and_payee(&offer) && a.network(terms.asset.chain).is_ok();
        let entries: Vec<Candidate<'_>> =
            rules.allow.iter().filter(takes).map(|entry| Candidate { entry, proven: !entry.target.payees.is_empty() }).collect();
        let denials: Vec<&Deny> = rules.deny.iter().filter(|d| d.takes_offer(&offer)).collect();
        let amount = Some(offer.price);
        if let Some(deny) = denials.iter().find(|d| d.target.hosts.is_empty() && d.target.methods.is_empty()) {
            return Err(Violation { rule: Some(deny.id.clone()), amount, ..none(Reason::Denied) });
        }
        if entries.is_empty() {
            let testnet = rules
                .allow
                .iter()
                .any(|a| a.target.asset_and_payee(&offer) && a.network(terms.asset.chain) == Err(Some(Reason::TestnetNotListed)));
            // What an operator has to change: the payees of entries that fit otherwise, or the entries.
            let but_for_the_payee = rules.allow.iter().any(|a| a.target.asset(&offer) && a.network(terms.asset.chain).is_ok());
            let (reason, rule) = match (testnet, but_for_the_payee) {
                (true, _) => (Reason::TestnetNotListed, "allow.networks"),
                (false, true) => (Reason::UnverifiedPayee, "allow.pay_to"),
                (false, false) => (Reason::NotAllowed, "allow"),
            };
            return Err(Violation { rule: Some(RuleId(rule.into())), amount, ..none(reason) });
        }
        Ok(Selection { policy: self, own, agent: agent.clone(), rules, terms, offer, entries, denials, against: Vec::new() })
    }

    /// The terms as an offer, under our own table alone.
    fn offer_of(&self, terms: &Transfer) -> Result<Offer, Reason> {
        let asset = self.assets.get(&terms.asset).ok_or(Reason::UnknownAsset)?;
        if terms.payee.0.is_zero() || terms.payee.0 == terms.payer.0 || terms.payee.0 == terms.asset.token {
            return Err(Reason::InvalidPayee);
        }
        let stale = self.fresh.get(&terms.asset).is_some_and(|fresh| !fresh.contains(terms.now));
        let price = asset.price.filter(|_| !stale).ok_or(Reason::AssetNotPriced)?;
        Ok(Offer {
            index: 0,
            protocol: ProtocolId::X402V2,
            scheme: Scheme::Exact,
            flow: Flow::Authorization,
            transfer: TransferMethod::Eip3009,
            asset: Arc::clone(asset),
            amount: Amount::new(terms.asset, terms.amount),
            price: price.value_of(terms.amount, asset.decimals).ok_or(Reason::AmountTooLarge)?,
            payee: terms.payee,
            max_timeout: MAX_LIFETIME,
            wire: WireEntry { accepted: "".into(), resource: None, extensions: None },
        })
    }

    /// Who may say yes above a limit, by name.
    pub fn approvers(&self) -> &[Approver] {
        self.cosigner.as_ref().map_or(&[], |own| &own.approvers)
    }

    /// What `agent` may still spend now under the caps on it, on the identity and on the wallet, micro-USD; `None` if nothing
    /// bounds it (M1.10).
    pub fn remaining(&self, agent: &AgentId, identity: &Arc<str>, wallet: Payer, now: Timestamp, books: &dyn View) -> Option<MicroUsd> {
        let rules = self.agents.get(agent)?;
        let left = |scope: &Scope, caps: &[Cap]| {
            caps.iter().map(|cap| cap.limit.saturating_sub(books.spent(scope, cap.period.span(now, &self.zone)))).min()
        };
        let rings = self.cosigner.iter().flat_map(|own| &own.rings).filter_map(|ring| match ring.whose {
            Whose::Wallet => left(&Scope::Wallet(wallet), &ring.caps),
            Whose::Identity => left(&Scope::Identity(Arc::clone(identity)), &ring.caps),
            Whose::Payee | Whose::Unverified => None,
        });
        rings.chain(left(&rules.limits.scope, &rules.limits.caps)).min().map(|left| left.max(MicroUsd::ZERO))
    }
}

impl<'p> Selection<'p> {
    /// The price by the co-signer's own table.
    pub const fn price(&self) -> MicroUsd {
        self.offer.price
    }

    /// What is to be signed.
    pub const fn transfer(&self) -> &Transfer {
        &self.terms
    }

    /// Removes every allow entry that `opposes` speaks against; a deny entry that it speaks against removes all of them.
    pub fn narrow(&mut self, opposes: impl Fn(&Subject<'p>) -> bool) {
        if let Some(deny) = self.denials.iter().find(|d| opposes(&Subject(Which::Deny(d)))) {
            self.against.push(Violation { rule: Some(deny.id.clone()), ..Violation::new(Reason::Denied) });
            self.entries.clear();
        }
        self.entries.retain(|c| !opposes(&Subject(Which::Allow(c.entry))));
    }

    /// Keeps only the entry that the purchase was held under.
    pub fn only(&mut self, id: &RuleId) {
        self.entries.retain(|c| c.entry.id == *id);
    }

    /// Entries whose payee is not proven yet and can be, in file order.
    pub fn wanted(&self) -> Vec<Wanted<'p>> {
        self.entries.iter().filter(|c| !c.proven && !c.entry.trust.is_empty()).map(|c| Wanted(c.entry)).collect()
    }

    /// The payee of this entry was proven.
    pub fn prove(&mut self, id: &RuleId) {
        self.entries.iter_mut().filter(|c| c.entry.id == *id).for_each(|c| c.proven = true);
    }

    /// Notes why an entry's payee could not be proven.
    pub fn unproven(&mut self, id: &RuleId, reason: Reason) {
        self.against.push(Violation { rule: Some(id.clone()), ..Violation::new(reason) });
    }

    /// Whether some entry still takes these terms, counters apart: what a session for a purchase that is held already needs. Its
    /// payee was proven when it was held.
    ///
    /// # Errors
    /// Why not any more.
    pub fn still(self) -> Result<(), Refusal> {
        let mut against = self.against.clone();
        for candidate in &self.entries {
            match self.window(candidate.entry) {
                None => return Ok(()),
                Some(violation) => against.push(violation),
            }
        }
        Err(self.refusal(against))
    }

    /// The first entry in file order that permits; everything that speaks against each of them otherwise.
    ///
    /// # Errors
    /// Every reason, the first entry's first.
    pub fn approve(self, ask: &Ask, books: &dyn View) -> Result<Approval, Refusal> {
        let mut against = Vec::new();
        for candidate in &self.entries {
            match self.consider(candidate, ask, books) {
                Ok(approval) => return Ok(approval),
                Err(violations) => against.extend(violations),
            }
        }
        // Why a proof failed tells more than that there is none.
        let mut all = self.against.clone();
        all.extend(against);
        Err(self.refusal(all))
    }

    fn refusal(&self, mut violations: Vec<Violation>) -> Refusal {
        if violations.is_empty() {
            violations.push(Violation { rule: Some(RuleId("allow".into())), ..Violation::new(Reason::NotAllowed) });
        }
        for violation in &mut violations {
            violation.amount = Some(self.offer.price);
        }
        Refusal { violations, ticket: None }
    }

    /// The window is signed as asked or not at all: its end is in the digest.
    fn window(&self, entry: &Allow) -> Option<Violation> {
        let longest = entry.lifetime.min(Duration::from_secs(MAX_LIFETIME)).as_secs();
        let latest = u64::try_from(self.terms.now.secs()).unwrap_or(0).saturating_add(longest);
        (self.terms.valid_before > latest).then(|| Violation { rule: Some(entry.id.clone()), ..Violation::new(Reason::WindowTooLong) })
    }

    fn consider(&self, candidate: &Candidate<'p>, ask: &Ask, books: &dyn View) -> Result<Approval, Vec<Violation>> {
        let entry = candidate.entry;
        // Where a proof is asked for, the budget for what nothing proves does not replace it.
        let unverified = !candidate.proven && entry.trust.is_empty();
        let mut judged = Judged { selection: self, ask, books, checks: Vec::new(), against: Vec::new() };
        judged.against.extend(self.window(entry));
        judged.hours();
        if !candidate.proven && !unverified {
            judged.against.push(Violation { rule: Some(entry.id.clone()), ..Violation::new(Reason::UnverifiedPayee) });
        }
        if self.offer.amount.is_zero() && !entry.allow_zero {
            judged.against.push(Violation { rule: Some(entry.id.clone()), ..Violation::new(Reason::ZeroAmount) });
        }
        let (agent, scope) = (&self.rules.limits, &entry.limits.scope);
        judged.within(agent.per_payment.as_ref(), Reason::CapPerPayment);
        judged.within(entry.max.as_ref(), Reason::EntryMax);
        judged.within(entry.limits.per_payment.as_ref(), Reason::CapPerPayment);
        judged.rates(&agent.scope, &agent.rates);
        judged.caps(&agent.scope, &agent.caps, None);
        judged.caps(scope, &entry.limits.caps, None);
        let mut rings = 0;
        for ring in self.own.rings.iter().filter(|r| r.whose != Whose::Unverified || unverified) {
            rings += usize::from(ring.whose == Whose::Unverified);
            judged.ring(ring);
        }
        if unverified && rings == 0 {
            judged.against.push(Violation { rule: Some(entry.id.clone()), ..Violation::new(Reason::UnverifiedPayee) });
        }
        if !judged.against.is_empty() {
            return Err(judged.against);
        }
        let checks = judged.checks;
        Ok(self.approval(entry, checks, unverified, ask))
    }

    fn approval(&self, entry: &Allow, checks: Vec<Check>, unverified: bool, ask: &Ask) -> Approval {
        let ticket = ask.lifted.as_ref().map(|(_, ticket)| *ticket);
        Approval {
            agent: self.agent.clone(),
            session: None,
            host: None,
            customer: None,
            granted: false,
            offer: self.offer.clone(),
            entry: entry.id.clone(),
            lifetime: entry.lifetime.min(Duration::from_secs(MAX_LIFETIME)),
            checks,
            second_look: SecondLook::default(),
            scopes: vec![self.rules.limits.scope.clone(), entry.limits.scope.clone()],
            held: ask.held.unwrap_or(MicroUsd::ZERO),
            repeats: entry.repeats,
            digest: Arc::clone(&self.policy.digest),
            epoch: self.policy.epoch,
            cosigned: Some(Cosigned { identity: Arc::clone(&ask.identity), unverified, ticket }),
            valid_before: Some(self.terms.valid_before),
            live: self.own.live.clone(),
        }
    }
}

/// One entry's limits, compared and collected for the ledger.
struct Judged<'a, 'p> {
    selection: &'a Selection<'p>,
    ask: &'a Ask,
    books: &'a dyn View,
    checks: Vec<Check>,
    against: Vec<Violation>,
}

impl Judged<'_, '_> {
    fn lifted(&self, rule: &RuleId) -> bool {
        self.ask.lifted.as_ref().is_some_and(|(rules, _)| rules.contains(rule))
    }

    fn within(&mut self, cap: Option<&PaymentCap>, reason: Reason) {
        let price = self.selection.offer.price;
        if let Some(cap) = cap.filter(|cap| price > cap.limit && !self.lifted(&cap.rule)) {
            self.against.push(Violation { rule: Some(cap.rule.clone()), limit: Some(cap.limit), ..Violation::new(reason) });
        }
    }

    /// The time is the co-signer's own, so it may be held against a payment.
    fn hours(&mut self) {
        let (now, zone) = (self.selection.terms.now, &self.selection.policy.zone);
        if let Some(hours) = self.selection.rules.hours.as_ref().filter(|h| !h.contains(now, zone)) {
            let resets_at = hours.next(now, zone);
            self.against.push(Violation { rule: Some(RuleId("hours".into())), resets_at, ..Violation::new(Reason::OutsideHours) });
        }
    }

    fn caps(&mut self, scope: &Scope, caps: &[Cap], reason: Option<Reason>) {
        let cost = self.selection.offer.price.saturating_sub(self.ask.held.unwrap_or(MicroUsd::ZERO)).max(MicroUsd::ZERO);
        for cap in caps {
            if self.lifted(&cap.rule) {
                continue;
            }
            let (span, reason) =
                (cap.period.span(self.selection.terms.now, &self.selection.policy.zone), reason.unwrap_or(cap_reason(cap.period)));
            let spent = self.books.spent(scope, span);
            if spent.checked_add(cost).is_none_or(|sum| sum > cap.limit) {
                self.against.push(Violation {
                    rule: Some(cap.rule.clone()),
                    limit: Some(cap.limit),
                    remaining: Some(cap.limit.saturating_sub(spent).max(MicroUsd::ZERO)),
                    resets_at: Some(span.until).filter(|until| *until != Timestamp::from_millis(i64::MAX)),
                    ..Violation::new(reason)
                });
            }
            self.checks.push(Check { scope: scope.clone(), span, limit: Limit::Spend(cap.limit), rule: cap.rule.clone(), reason });
        }
    }

    fn ring(&mut self, ring: &Ring) {
        let terms = &self.selection.terms;
        let scope = match ring.whose {
            Whose::Wallet => Scope::Wallet(terms.payer),
            Whose::Payee => Scope::Payee(terms.payee),
            Whose::Identity => Scope::Identity(Arc::clone(&self.ask.identity)),
            Whose::Unverified => Scope::Unverified,
        };
        self.within(ring.per_payment.as_ref(), ring.whose.reason());
        self.caps(&scope, &ring.caps, Some(ring.whose.reason()));
    }

    /// A re-signature is no new commitment (M2.5).
    fn rates(&mut self, scope: &Scope, rates: &[Rate]) {
        if self.ask.held.is_some() {
            return;
        }
        for rate in rates.iter().filter(|r| !self.lifted(&r.rule)).collect::<Vec<_>>() {
            let span = Span::last(rate.span_ms, self.selection.terms.now);
            let made = self.books.commitments(scope, span);
            if made >= rate.limit {
                let leaves = self.books.nth_commitment(scope, span, made - rate.limit);
                let resets_at = leaves.map(|at| at.plus_millis(rate.span_ms));
                self.against.push(Violation { rule: Some(rate.rule.clone()), resets_at, ..Violation::new(Reason::RateLimited) });
            }
            let (limit, rule) = (Limit::Count(rate.limit), rate.rule.clone());
            self.checks.push(Check { scope: scope.clone(), span, limit, rule, reason: Reason::RateLimited });
        }
    }
}
