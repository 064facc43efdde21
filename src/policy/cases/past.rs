//! A case's past: its list of payments as the books a decision reads, summed anew for every question.

use std::collections::BTreeMap;
use std::sync::Arc;

use alloy_primitives::Address;
use http::Method;

use crate::payment::{AgentId, ChainId, MicroUsd, SessionName, Timestamp};
use crate::policy::{History, Host, RuleId, Scope, Span, Standing, View};

/// One payment of the past.
#[derive(Clone, Debug)]
pub(super) struct Paid {
    pub(super) at: Timestamp,
    pub(super) usd: MicroUsd,
    pub(super) agent: AgentId,
    /// The allow entry it was made under.
    pub(super) entry: Arc<str>,
    pub(super) host: Host,
    pub(super) method: Method,
    pub(super) payee: Address,
    pub(super) network: Option<ChainId>,
    pub(super) session: Option<SessionName>,
    /// Context keys, such as `customer`.
    pub(super) context: BTreeMap<String, String>,
    /// Whether the seller delivered: only that is history, and only that pins a payee.
    pub(super) delivered: bool,
}

/// The books of one case.
pub(super) struct Past<'a> {
    pub(super) paid: &'a [Paid],
    pub(super) standing: &'a Standing,
}

impl Paid {
    /// Whether it was posted to this counter. A co-signer's counters have no place in a proxy's cases.
    fn posted_to(&self, scope: &Scope) -> bool {
        match scope {
            Scope::Agent(agent) => self.agent == *agent,
            Scope::Entry(agent, entry) => self.agent == *agent && self.entry == entry.0,
            Scope::Host(agent, host) => self.agent == *agent && self.host.to_string() == **host,
            Scope::AgentPayee(agent, payee) => self.agent == *agent && self.payee == payee.0,
            Scope::Session(agent, session) => self.agent == *agent && self.session.as_ref() == Some(session),
            Scope::Shared(members, customer) => {
                let bucket = self.context.get("customer").map_or("", String::as_str);
                members.contains(&self.agent) && customer.as_deref().is_none_or(|c| c == bucket)
            }
            Scope::Wallet(_) | Scope::Payee(_) | Scope::Identity(_) | Scope::Unverified => false,
        }
    }
}

impl Past<'_> {
    fn of<'s>(&'s self, scope: &'s Scope, span: Span) -> impl Iterator<Item = &'s Paid> {
        self.paid.iter().filter(move |p| p.posted_to(scope) && span.contains(p.at))
    }

    /// What was delivered under an entry at a host, the oldest first.
    fn consumed(&self, agent: &AgentId, entry: &RuleId, host: &Host) -> Vec<&Paid> {
        let here = |p: &&Paid| p.delivered && p.agent == *agent && p.entry == entry.0 && p.host == *host;
        let mut found: Vec<&Paid> = self.paid.iter().filter(here).collect();
        found.sort_by_key(|p| p.at);
        found
    }
}

impl View for Past<'_> {
    fn spent(&self, scope: &Scope, span: Span) -> MicroUsd {
        self.of(scope, span).fold(MicroUsd::ZERO, |sum, p| sum.checked_add(p.usd).unwrap_or(MicroUsd::new(i64::MAX)))
    }

    fn commitments(&self, scope: &Scope, span: Span) -> u32 {
        u32::try_from(self.of(scope, span).count()).unwrap_or(u32::MAX)
    }

    fn pin(&self, agent: &AgentId, entry: &RuleId, host: &Host, chain: ChainId) -> Option<Address> {
        self.consumed(agent, entry, host).iter().find(|p| p.network == Some(chain)).map(|p| p.payee)
    }

    fn history(&self, agent: &AgentId, entry: &RuleId, host: &Host, method: &Method, now: Timestamp) -> History {
        let mut all = self.consumed(agent, entry, host);
        all.retain(|p| p.method == *method);
        let prices: Vec<(Timestamp, MicroUsd)> = all.iter().map(|p| (p.at, p.usd)).collect();
        History::of(prices.first().map(|(_, price)| *price), &prices, now)
    }

    fn standing(&self) -> &Standing {
        self.standing
    }

    fn nth_commitment(&self, scope: &Scope, span: Span, n: u32) -> Option<Timestamp> {
        let mut made: Vec<Timestamp> = self.of(scope, span).map(|p| p.at).collect();
        made.sort_unstable();
        made.get(usize::try_from(n).ok()?).copied()
    }
}
