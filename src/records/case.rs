//! A line's decision input as the evaluator takes it: read back once, judged by any policy as often as one likes.

use std::sync::Arc;

use alloy_primitives::{Address, U256};
use http::Method;

use super::row::{Decided, Offered, Say, Verdict, Why};
use crate::payment::{
    AgentId, Amount, Asset, AssetId, Challenge, Eip712Name, Flow, MicroUsd, Offer, Payee, Payer, ProtocolId, Reason, Rejected, Scheme,
    SessionName, Timestamp, TransferMethod, WireEntry, parse_address,
};
use crate::policy::{Context, Decision, Host, Input, Policy, Refusal, Standing, Stopped, View};

/// Everything that was decided on, but the books.
#[derive(Clone, Debug)]
pub struct Case {
    agent: AgentId,
    session: Option<SessionName>,
    method: Method,
    https: bool,
    host: Host,
    port: u16,
    path: String,
    payer: Payer,
    now: Timestamp,
    held: MicroUsd,
    bound_to: Option<AssetId>,
    context: Context,
    granted: Vec<Arc<str>>,
    session_max: Option<MicroUsd>,
    chain: Option<u32>,
    challenge: Challenge,
    standing: Standing,
}

/// What a line says that cannot be: the field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` cannot be read")]
pub struct Unreadable(pub &'static str);

impl Case {
    /// Reads a line back.
    ///
    /// # Errors
    /// The first field that does not read.
    pub fn read(row: &Decided) -> Result<Self, Unreadable> {
        let bad = |field| move || Unreadable(field);
        let now = Timestamp::from_millis(row.at);
        let (agent, host) = (row.agent.parse().map_err(|_| Unreadable("agent"))?, Host::parse(&row.host).map_err(|_| Unreadable("host"))?);
        let protocol = ProtocolId::parse(&row.protocol).ok_or_else(bad("protocol"))?;
        let assets = row.assets.iter().map(|t| {
            let id = t.id.parse().map_err(|_| Unreadable("assets"))?;
            let eip712 = Eip712Name { name: t.name.clone(), version: t.version.clone() };
            Ok(Arc::new(Asset { id, symbol: t.symbol.clone(), decimals: t.decimals, eip712, price: None }))
        });
        let assets = assets.collect::<Result<Vec<_>, Unreadable>>()?;
        let offers = row.offers.iter().map(|o| offer(o, protocol, &assets)).collect::<Result<Vec<_>, Unreadable>>()?;
        let rejected = row.rejected.iter().map(|r| Some(Rejected { index: r.index, reason: Reason::parse(&r.reason)? }));
        let rejected = rejected.collect::<Option<Vec<_>>>().ok_or_else(bad("rejected"))?;
        let stopped = row.read.as_ref().and_then(|r| r.stopped.as_deref());
        Ok(Self {
            session: row.session.as_deref().map(str::parse).transpose().map_err(|_| Unreadable("session"))?,
            method: row.method.parse().map_err(|_| Unreadable("method"))?,
            https: row.https,
            port: row.port,
            path: row.path.clone(),
            payer: row.payer.unwrap_or(Payer(Address::ZERO)),
            now,
            held: MicroUsd::new(row.held),
            bound_to: row.bound_to.as_deref().map(str::parse).transpose().map_err(|_| Unreadable("bound_to"))?,
            context: row.context.clone(),
            granted: row.granted.clone(),
            session_max: row.session_max.map(MicroUsd::new),
            chain: row.chain,
            challenge: Challenge { protocol, offers, rejected, error: None },
            standing: standing(stopped, &agent, &host, now).ok_or_else(bad("stopped"))?,
            agent,
            host,
        })
    }

    /// What was stopped for this agent and host.
    pub const fn standing(&self) -> &Standing {
        &self.standing
    }

    /// The caller.
    pub const fn agent(&self) -> &AgentId {
        &self.agent
    }

    /// The host.
    pub const fn host(&self) -> &Host {
        &self.host
    }

    pub(super) const fn method(&self) -> &Method {
        &self.method
    }

    pub(super) const fn session(&self) -> Option<&SessionName> {
        self.session.as_ref()
    }

    pub(super) fn customer(&self) -> Option<Arc<str>> {
        self.context.customer()
    }

    pub(super) const fn now(&self) -> Timestamp {
        self.now
    }

    pub(super) const fn held(&self) -> MicroUsd {
        self.held
    }

    pub(super) const fn is_resigned(&self) -> bool {
        self.bound_to.is_some()
    }

    pub(super) fn offer(&self, index: usize) -> Option<&Offer> {
        self.challenge.offers.iter().find(|o| o.index == index)
    }

    /// The offers.
    pub const fn challenge(&self) -> &Challenge {
        &self.challenge
    }

    /// As the evaluator takes it.
    pub fn input(&self) -> Input<'_> {
        Input {
            agent: &self.agent,
            session: self.session.as_ref(),
            method: &self.method,
            https: self.https,
            host: &self.host,
            port: self.port,
            path: &self.path,
            payer: self.payer,
            now: self.now,
            held: self.held,
            context: &self.context,
            granted: &[],
            bound_to: self.bound_to,
            session_max: self.session_max,
        }
    }

    /// What `policy` says to it over `books`: the functions that decide about payments, in their order.
    pub fn judge(&self, policy: &Policy, books: &dyn View) -> Decision {
        let (mut decision, _) = policy.decide(&self.input(), &self.challenge, books, &self.granted, |_| true);
        decision.verdict = bounded(decision.verdict, self.session_max, self.chain, books);
        decision
    }
}

/// The two limits that stand beside a policy's own: of an issued session, and of a chain of paid answers.
///
/// # Errors
/// The refusal, also if there was one already.
pub fn bounded(
    verdict: Result<crate::policy::Approval, Refusal>,
    session_max: Option<MicroUsd>,
    chain: Option<u32>,
    books: &dyn View,
) -> Result<crate::policy::Approval, Refusal> {
    let verdict = match session_max {
        Some(max) => verdict.and_then(|approval| approval.within_session(max, books)),
        None => verdict,
    };
    match chain {
        Some(depth) => verdict.and_then(|approval| approval.within_chain(depth)),
        None => verdict,
    }
}

impl Verdict {
    /// A decision in the words of a line.
    pub fn of(decision: &Decision) -> Self {
        match (&decision.verdict, &decision.question) {
            (Ok(approval), _) => Self {
                say: Say::Allow,
                entry: Some(approval.entry().to_string()),
                offer: Some(approval.offer().index),
                micro: approval.offer().price.micro(),
                groups: Vec::new(),
                reasons: Vec::new(),
            },
            (Err(refusal), question) => {
                let reasons: Vec<Why> = refusal.violations.iter().map(Why::from).collect();
                let lead = reasons.iter().find_map(|w| w.micro).unwrap_or_default();
                let mut groups: Vec<Arc<str>> = question.iter().flat_map(|q| q.asks.iter().flat_map(|a| a.any_of.clone())).collect();
                groups.dedup();
                Self {
                    say: if question.is_some() { Say::Ask } else { Say::Deny },
                    entry: question.as_ref().map(|q| q.entry.to_string()),
                    offer: question.as_ref().map(|q| q.offer.index),
                    micro: question.as_ref().map_or(lead, |q| q.offer.price.micro()),
                    groups,
                    reasons,
                }
            }
        }
    }
}

fn offer(row: &Offered, protocol: ProtocolId, assets: &[Arc<Asset>]) -> Result<Offer, Unreadable> {
    let asset = assets.get(row.asset).cloned().ok_or(Unreadable("offers.asset"))?;
    let amount = U256::from_str_radix(&row.amount, 10).map_err(|_| Unreadable("offers.amount"))?;
    Ok(Offer {
        index: row.index,
        protocol,
        scheme: [Scheme::Exact].into_iter().find(|s| s.as_str() == row.scheme).ok_or(Unreadable("offers.scheme"))?,
        flow: Flow::parse(&row.flow).ok_or(Unreadable("offers.flow"))?,
        transfer: [TransferMethod::Eip3009].into_iter().find(|t| t.as_str() == row.transfer).ok_or(Unreadable("offers.transfer"))?,
        amount: Amount::new(asset.id, amount),
        asset,
        price: MicroUsd::new(row.micro),
        payee: Payee(parse_address(&row.payee).ok_or(Unreadable("offers.payee"))?),
        max_timeout: row.timeout,
        wire: WireEntry { accepted: row.scores.as_str().into(), resource: None, extensions: row.extensions.as_deref().map(Into::into) },
    })
}

/// The one gate that a line names, closed again.
fn standing(reason: Option<&str>, agent: &AgentId, host: &Host, at: Timestamp) -> Option<Standing> {
    let mut standing = Standing::default();
    let Some(reason) = reason else { return Some(standing) };
    let stopped = Stopped { by: "log".into(), why: "as the log has it".into(), at };
    match Reason::parse(reason)? {
        Reason::Killed => standing.killed = Some(stopped),
        Reason::AgentFrozen => drop(standing.agents.insert(agent.as_str().into(), stopped)),
        Reason::HostFrozen => drop(standing.hosts.insert(host.to_string().into(), stopped)),
        _ => return None,
    }
    Some(standing)
}
