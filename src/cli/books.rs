//! The books as the list of purchases tells them, beside a running proxy: for `policy explain`.

use alloy_primitives::Address;
use http::Method;

use crate::ledger::{Purchase, PurchaseState};
use crate::payment::{AgentId, ChainId, MicroUsd, Timestamp};
use crate::policy::{History, Host, RuleId, Scope, Span, Standing, View};

/// Purchases, each counted in the period it was first held in, and what is stopped.
#[derive(Default)]
pub(super) struct Recorded {
    pub(super) purchases: Vec<Purchase>,
    pub(super) standing: Standing,
}

impl Recorded {
    fn of<'a>(&'a self, scope: &'a Scope, span: Span) -> impl Iterator<Item = &'a Purchase> {
        let mine = move |p: &&Purchase| match scope {
            Scope::Agent(agent) => p.agent == *agent,
            Scope::Entry(agent, entry) => p.agent == *agent && p.entry == *entry,
            Scope::Host(agent, host) => p.agent == *agent && p.host == **host,
            Scope::AgentPayee(agent, payee) => p.agent == *agent && p.payee == *payee,
            Scope::Session(agent, session) => p.agent == *agent && p.session.as_ref() == Some(session),
            Scope::Shared(members, customer) => {
                members.contains(&p.agent) && customer.as_deref().is_none_or(|c| c == p.customer.as_deref().unwrap_or_default())
            }
            Scope::Wallet(payer) => p.payer == *payer,
            Scope::Payee(payee) => p.payee == *payee,
            Scope::Identity(name) => p.cosigned.as_ref().is_some_and(|c| c.identity == *name),
            Scope::Unverified => p.cosigned.as_ref().is_some_and(|c| c.unverified),
        };
        self.purchases.iter().filter(mine).filter(move |p| span.from <= p.at && p.at < span.until)
    }

    /// What was delivered under an entry at a host, the oldest first.
    fn consumed(&self, agent: &AgentId, entry: &RuleId, host: &Host) -> Vec<&Purchase> {
        let host = host.to_string();
        let here = |p: &&Purchase| p.consumed && p.agent == *agent && p.entry == *entry && p.host == host;
        let mut found: Vec<&Purchase> = self.purchases.iter().filter(here).collect();
        found.sort_by_key(|p| (p.at, p.id));
        found
    }
}

impl View for Recorded {
    fn spent(&self, scope: &Scope, span: Span) -> MicroUsd {
        let spent = self.of(scope, span).filter(|p| p.state != PurchaseState::Void);
        spent.fold(MicroUsd::ZERO, |sum, p| sum.checked_add(p.held).unwrap_or(MicroUsd::new(i64::MAX)))
    }

    fn commitments(&self, scope: &Scope, span: Span) -> u32 {
        u32::try_from(self.of(scope, span).count()).unwrap_or(u32::MAX)
    }

    fn nth_commitment(&self, scope: &Scope, span: Span, n: u32) -> Option<Timestamp> {
        let mut made: Vec<Timestamp> = self.of(scope, span).map(|p| p.at).collect();
        made.sort_unstable();
        made.get(usize::try_from(n).ok()?).copied()
    }

    fn history(&self, agent: &AgentId, entry: &RuleId, host: &Host, method: &Method, now: Timestamp) -> History {
        let mut all = self.consumed(agent, entry, host);
        all.retain(|p| p.method == method.as_str());
        let prices: Vec<(Timestamp, MicroUsd)> = all.iter().map(|p| (p.at, p.held)).collect();
        History::of(prices.first().map(|(_, price)| *price), &prices, now)
    }

    fn standing(&self) -> &Standing {
        &self.standing
    }

    fn pin(&self, agent: &AgentId, entry: &RuleId, host: &Host, chain: ChainId) -> Option<Address> {
        self.consumed(agent, entry, host).iter().find(|p| p.asset.chain == chain).map(|p| p.payee.0)
    }
}
