//! A case as the engine takes it: the seller's header, the request, and books that are the case's past.

use std::collections::BTreeSet;
use std::sync::Arc;

use base64::Engine as _;
use http::{HeaderMap, HeaderName, Method};
use serde_json::json;
use tollpass::payment::{AgentId, AssetTable, ChainId, Challenge, MicroUsd, Payer, ProtocolId, Reason, Timestamp};
use tollpass::policy::{Context, Decision, History, Host, Input, Policy, RuleId, Scope, Span, Standing, Stopped, View, Violation};
use tollpass::protocol;

use crate::naive::case::{Case, Offer, Paid};
use crate::naive::judge::Opinion;
use alloy_primitives::Address;

/// What the engine says to a case.
pub(super) fn opinion(policy: &Policy, case: &Case) -> Opinion {
    let agent: AgentId = case.agent.parse().expect("an agent's name");
    let session = case.session.as_ref().map(|s| s.parse().expect("a session's name"));
    let method: Method = case.request.method.parse().expect("a method");
    let host = Host::parse(&case.request.host).expect("a host");
    let context = Context::parse(case.context.as_ref().map(|c| c.as_bytes()), policy.context_keys());
    let granted: Vec<Arc<str>> = case.granted.iter().map(|g| g.as_str().into()).collect();
    let wallet: Address = case.wallet.as_ref().map_or(Address::repeat_byte(0xee), |w| w.parse().expect("an address"));
    let input = Input {
        agent: &agent,
        session: session.as_ref(),
        method: &method,
        https: case.request.scheme == "https",
        host: &host,
        port: case.request.port,
        path: &case.request.path,
        payer: Payer(wallet),
        now: timestamp(case.at),
        held: MicroUsd::ZERO,
        context: &context,
        granted: &granted,
        bound_to: None,
        session_max: None,
    };
    let books = Past { case, standing: standing(case) };
    told(policy.evaluate(&input, &challenge(policy.assets(), case), &books))
}

fn timestamp(at: jiff::Timestamp) -> Timestamp {
    Timestamp::from_millis(at.as_millisecond())
}

/// The seller's header, read by the protocol as any other.
fn challenge(assets: &AssetTable, case: &Case) -> Challenge {
    let accepts: Vec<_> = case.offers.iter().map(|o| accepted(assets, o)).collect();
    let document = json!({ "x402Version": 2, "resource": { "url": "https://seller.example/" }, "accepts": accepts });
    let value = base64::engine::general_purpose::STANDARD.encode(document.to_string());
    let name = HeaderName::from_static("payment-required");
    let headers = HeaderMap::from_iter([(name, value.parse().expect("a header"))]);
    protocol::parse_head(&headers, assets).expect("a challenge").expect("of ours")
}

fn accepted(assets: &AssetTable, offer: &Offer) -> serde_json::Value {
    assert_eq!(offer.protocol, ProtocolId::X402V2.as_str(), "cases speak x402 version 2");
    let chain: Option<ChainId> = offer.network.parse().ok();
    let asset = assets.by_symbol(&offer.asset).find(|a| Some(a.id.chain) == chain);
    let token = asset.map_or(offer.asset.clone(), |a| a.id.token.to_string());
    let decimals = asset.map_or(6, |a| u32::from(a.decimals));
    let atomic = offer.atomic.clone().unwrap_or_else(|| (offer.usd.expect("a price") * 10i128.pow(decimals) / 1_000_000).to_string());
    let mut extra = json!({
        "name": asset.map_or("", |a| &a.eip712.name),
        "version": asset.map_or("", |a| &a.eip712.version),
        "paymentFlow": offer.flow,
        "assetTransferMethod": offer.transfer,
    });
    for (key, value) in &offer.extra {
        extra[key] = serde_json::from_str(value).expect("a number");
    }
    json!({
        "scheme": offer.scheme,
        "network": offer.network,
        "amount": atomic,
        "asset": token,
        "payTo": offer.payee,
        "maxTimeoutSeconds": offer.timeout.parse::<u64>().expect("seconds"),
        "extra": extra,
    })
}

fn standing(case: &Case) -> Standing {
    let stopped = || Stopped { by: "operator".into(), why: "a case".into(), at: timestamp(case.at) };
    Standing {
        killed: None,
        agents: case.frozen_agents.iter().map(|a| (a.as_str().into(), stopped())).collect(),
        hosts: case.frozen_hosts.iter().map(|h| (h.as_str().into(), stopped())).collect(),
    }
}

/// The case's list of payments, summed anew for every question.
struct Past<'a> {
    case: &'a Case,
    standing: Standing,
}

impl Past<'_> {
    fn of<'s>(&'s self, scope: &'s Scope, span: Span) -> impl Iterator<Item = &'s Paid> {
        self.case.paid.iter().filter(move |p| posted_to(p, scope) && span.contains(timestamp(p.at)))
    }

    fn consumed(&self, agent: &AgentId, entry: &RuleId, host: &Host) -> Vec<&Paid> {
        let here =
            |p: &&Paid| p.delivered && p.agent == agent.as_str() && *p.entry == *entry.0 && Host::parse(&p.host).as_ref() == Ok(host);
        let mut found: Vec<_> = self.case.paid.iter().filter(here).collect();
        found.sort_by_key(|p| p.at);
        found
    }
}

/// Whether a payment of the past was posted to a counter.
fn posted_to(paid: &Paid, scope: &Scope) -> bool {
    let agent = |a: &AgentId| a.as_str() == paid.agent;
    match scope {
        Scope::Agent(a) => agent(a),
        Scope::Entry(a, entry) => agent(a) && *entry.0 == *paid.entry,
        Scope::Host(a, host) => agent(a) && Host::parse(&paid.host).is_ok_and(|h| h.to_string() == **host),
        Scope::AgentPayee(a, payee) => agent(a) && address(&paid.payee) == payee.0,
        Scope::Session(a, session) => agent(a) && paid.session.as_deref() == Some(session.as_str()),
        Scope::Shared(members, customer) => {
            let member = members.contains(&paid.agent.parse().expect("an agent's name"));
            let bucket = paid.context.get("customer").map_or("", String::as_str);
            member && customer.as_deref().is_none_or(|c| c == bucket)
        }
        Scope::Wallet(_) | Scope::Payee(_) | Scope::Identity(_) | Scope::Unverified => panic!("a co-signer's counter: {scope:?}"),
    }
}

fn address(text: &str) -> Address {
    text.parse().unwrap_or_else(|e| panic!("{text}: {e}"))
}

fn money(micro: i128) -> MicroUsd {
    MicroUsd::new(micro.try_into().expect("fits"))
}

impl View for Past<'_> {
    fn spent(&self, scope: &Scope, span: Span) -> MicroUsd {
        money(self.of(scope, span).map(|p| p.usd).sum())
    }

    fn commitments(&self, scope: &Scope, span: Span) -> u32 {
        self.of(scope, span).count().try_into().expect("few")
    }

    fn pin(&self, agent: &AgentId, entry: &RuleId, host: &Host, chain: ChainId) -> Option<Address> {
        let all = self.consumed(agent, entry, host);
        all.iter().find(|p| p.network == chain.to_string()).map(|p| address(&p.payee))
    }

    fn history(&self, agent: &AgentId, entry: &RuleId, host: &Host, method: &Method, now: Timestamp) -> History {
        let mut all = self.consumed(agent, entry, host);
        all.retain(|p| p.method == method.as_str());
        let first = all.first().map(|p| money(p.usd));
        let from = now.plus_millis(-30 * 86_400_000);
        let recent: Vec<i128> = all.iter().filter(|p| timestamp(p.at) >= from).map(|p| p.usd).collect();
        let mut last = recent[recent.len().saturating_sub(50)..].to_vec();
        let latest = last.last().copied().unwrap_or(0);
        last.sort_unstable();
        let median = last.get(last.len().saturating_sub(1) / 2).copied().unwrap_or(0);
        History { count: last.len().try_into().expect("few"), median: money(median), last: money(latest), first }
    }

    fn standing(&self) -> &Standing {
        &self.standing
    }

    fn nth_commitment(&self, scope: &Scope, span: Span, n: u32) -> Option<Timestamp> {
        let mut at: Vec<_> = self.of(scope, span).map(|p| timestamp(p.at)).collect();
        at.sort_unstable();
        at.get(n as usize).copied()
    }
}

/// The decision in the words of the cases.
fn told(decision: Decision) -> Opinion {
    let mut opinion = Opinion { verdict: "deny".to_owned(), ..Opinion::default() };
    match (decision.verdict, decision.question) {
        (Ok(approval), question) => {
            assert!(question.is_none(), "nothing is asked about what is allowed");
            opinion.verdict = "allow".to_owned();
            opinion.entry = named(approval.entry());
            opinion.usd = Some(i128::from(approval.offer().price.micro()));
            opinion.offer = Some(approval.offer().index);
        }
        (Err(refusal), question) => {
            opinion.reasons = refusal.violations.iter().map(|v| v.reason.as_str().to_owned()).collect();
            opinion.rules = refusal.violations.iter().filter_map(rule).collect();
            if let Some(question) = question {
                opinion.verdict = "ask".to_owned();
                opinion.entry = named(&question.entry);
                opinion.usd = Some(i128::from(question.offer.price.micro()));
                opinion.offer = Some(question.offer.index);
                opinion.groups = question.asks.iter().flat_map(|a| a.any_of.iter().map(|g| g.to_string())).collect::<BTreeSet<_>>();
                opinion.timeout = Some(i128::from(question.timeout.as_secs()));
            }
        }
    }
    opinion
}

/// What matched nothing has no entry, whatever it is called inside.
fn named(entry: &RuleId) -> Option<String> {
    (*entry.0 != *"unmatched").then(|| entry.to_string())
}

/// The rule that spoke, of the reasons whose rule has a name in the case format.
fn rule(violation: &Violation) -> Option<String> {
    use Reason::{NotAllowed, PayeeChanged, PlainHttp, TestnetNotListed, ZeroAmount};
    let nameless = matches!(violation.reason, NotAllowed | PayeeChanged | PlainHttp | TestnetNotListed | ZeroAmount);
    let name = violation.rule.as_ref().filter(|_| !nameless)?;
    named(name)
}
