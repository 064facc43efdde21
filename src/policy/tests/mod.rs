//! Rules of money.md §3 as tests. Each table names the rule it holds.
#![allow(clippy::unwrap_used)]

mod bad;
mod cosigner;
mod edges;
mod egress;
mod examples;
mod explain;
mod hours;
mod lint;
mod looser;
mod order;
mod risk;
mod rules;
mod second_look;
mod selection;
mod shared;
mod speed;

use alloy_primitives::{Address, U256};
use http::Method;

use super::*;
use crate::payment::*;

pub(super) const BASE_USDC: &str = "eip155:8453/erc20:0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913";
pub(super) const SEPOLIA_USDC: &str = "eip155:84532/erc20:0x036CbD53842c5426634e7929541eC2318f3dCF7e";
pub(super) const POLYGON_USDC: &str = "eip155:137/erc20:0x3c499c542cEF5E3811e1192ce70d8cC03d5c3359";

/// 2026-11-21T12:00:00Z, a Saturday.
pub(super) const NOW: Timestamp = Timestamp::from_secs(1_795_262_400);

pub(super) fn policy(text: &str) -> Policy {
    Policy::parse(&[Source { name: "p.yaml".into(), text: text.into() }], 1).unwrap_or_else(|e| panic!("{e}"))
}

/// A policy with one agent `bot`, caps 0.05 per payment and 1 a day, and this `allow` list.
pub(super) fn allowing(allow: &str) -> Policy {
    policy(&format!("version: 1\nagents:\n  bot:\n    caps: {{ per_payment: 0.05, day: 1 }}\n    allow: {allow}\n"))
}

pub(super) fn payee(n: u8) -> Payee {
    Payee(Address::repeat_byte(n))
}

/// An offer of `atomic` units of `asset` to payee 0x11…, as the protocol layer would make it of the shipped table.
pub(super) fn offer(index: usize, asset: &str, atomic: u64) -> Offer {
    let id: AssetId = asset.parse().unwrap();
    let asset = AssetTable::shipped().get(&id).cloned().unwrap_or_else(|| {
        let eip712 = Eip712Name { name: "Gold".into(), version: "1".into() };
        Asset { id, symbol: "GOLD".into(), decimals: 6, eip712, price: Some(Price::ONE_DOLLAR) }.into()
    });
    Offer {
        index,
        protocol: ProtocolId::X402V2,
        scheme: Scheme::Exact,
        flow: Flow::Authorization,
        transfer: TransferMethod::Eip3009,
        amount: Amount::new(id, U256::from(atomic)),
        price: MicroUsd::new(i64::try_from(atomic).unwrap()),
        asset,
        payee: payee(0x11),
        max_timeout: 60,
        wire: WireEntry { accepted: "{}".into(), resource: None, extensions: None },
    }
}

pub(super) fn challenge(offers: Vec<Offer>) -> Challenge {
    Challenge { protocol: ProtocolId::X402V2, offers, rejected: Vec::new(), error: None }
}

/// Books that a test fills by hand.
#[derive(Default)]
pub(super) struct Books {
    pub(super) postings: Vec<(Scope, Timestamp, i64)>,
    pub(super) commitments: Vec<(Scope, Timestamp)>,
    pub(super) pins: Vec<(String, Payee)>,
    pub(super) history: History,
    pub(super) standing: Standing,
}

impl Books {
    pub(super) fn spent(micro: i64) -> Self {
        let scope = Scope::Agent("bot".parse().unwrap());
        Self { postings: vec![(scope, NOW, micro)], ..Self::default() }
    }
}

impl View for Books {
    fn spent(&self, scope: &Scope, span: Span) -> MicroUsd {
        MicroUsd::new(self.postings.iter().filter(|(s, at, _)| s == scope && span.contains(*at)).map(|(_, _, m)| m).sum())
    }
    fn commitments(&self, scope: &Scope, span: Span) -> u32 {
        u32::try_from(self.commitments.iter().filter(|(s, at)| s == scope && span.contains(*at)).count()).unwrap()
    }
    fn pin(&self, _: &AgentId, entry: &RuleId, _: &Host, _: ChainId) -> Option<Address> {
        self.pins.iter().find(|(id, _)| **id == *entry.0).map(|(_, payee)| payee.0)
    }
    fn history(&self, _: &AgentId, _: &RuleId, _: &Host, _: &Method, _: Timestamp) -> History {
        self.history
    }
    fn standing(&self) -> &Standing {
        &self.standing
    }
    fn nth_commitment(&self, scope: &Scope, span: Span, n: u32) -> Option<Timestamp> {
        let mut made: Vec<Timestamp> =
            self.commitments.iter().filter(|(s, at)| s == scope && span.contains(*at)).map(|(_, at)| *at).collect();
        made.sort_unstable();
        made.get(n as usize).copied()
    }
}

/// A request that tests change field by field.
#[derive(Clone)]
pub(super) struct Ask {
    pub(super) agent: String,
    pub(super) method: Method,
    pub(super) url: String,
    pub(super) now: Timestamp,
    pub(super) payer: u8,
    pub(super) held: i64,
    pub(super) bound_to: Option<&'static str>,
    pub(super) session: Option<&'static str>,
    pub(super) session_max: Option<i64>,
    pub(super) granted: Vec<&'static str>,
}

impl Default for Ask {
    fn default() -> Self {
        let (agent, url) = ("bot".into(), "https://api.example/v2/data".into());
        Self {
            agent,
            method: Method::GET,
            url,
            now: NOW,
            payer: 0xee,
            held: 0,
            bound_to: None,
            session: None,
            session_max: None,
            granted: Vec::new(),
        }
    }
}

impl Ask {
    pub(super) fn url(url: &str) -> Self {
        Self { url: url.into(), ..Self::default() }
    }

    /// Evaluates, and hands the input to `then` as well.
    pub(super) fn with<T>(&self, policy: &Policy, challenge: &Challenge, books: &Books, then: impl FnOnce(&Input<'_>, Decision) -> T) -> T {
        let (scheme, rest) = self.url.split_once("://").unwrap();
        let (authority, path) = rest.find('/').map_or((rest, "/"), |at| rest.split_at(at));
        let split = authority.rsplit_once(':').filter(|(h, p)| !h.ends_with(':') && !p.ends_with(']'));
        let (host, port) = split.map_or((authority, if scheme == "https" { 443 } else { 80 }), |(h, p)| (h, p.parse().unwrap()));
        let (agent, host) = (self.agent.parse().unwrap(), Host::parse(host).unwrap());
        let session = self.session.map(|s| s.parse().unwrap());
        let granted: Vec<std::sync::Arc<str>> = self.granted.iter().map(|g| (*g).into()).collect();
        let input = Input {
            agent: &agent,
            session: session.as_ref(),
            method: &self.method,
            https: scheme == "https",
            host: &host,
            port,
            path,
            payer: Payer(Address::repeat_byte(self.payer)),
            now: self.now,
            held: MicroUsd::new(self.held),
            context: &Context::default(),
            granted: &granted,
            bound_to: self.bound_to.map(|b| b.parse().unwrap()),
            session_max: self.session_max.map(MicroUsd::new),
        };
        if policy.evaluate(&input, challenge, books).verdict.is_ok() {
            assert!(policy.payable(&agent, &host, port), "payable() must never be narrower than evaluate(): {}", self.url);
        }
        then(&input, policy.evaluate(&input, challenge, books))
    }

    pub(super) fn of(&self, policy: &Policy, offers: Vec<Offer>, books: &Books) -> Decision {
        self.with(policy, &challenge(offers), books, |_, decision| decision)
    }
}

/// An offer of USDC on Base, of `atomic` units.
pub(crate) fn usdc(atomic: u64) -> Offer {
    offer(0, BASE_USDC, atomic)
}

/// `entry` of the approval, or the leading reason: what most tables compare.
pub(super) fn short(decision: &Decision) -> String {
    match &decision.verdict {
        Ok(approval) => approval.entry().to_string(),
        Err(refusal) => refusal.reason().to_string(),
    }
}

/// Every reason of a refusal, in its order.
pub(super) fn reasons(decision: &Decision) -> Vec<Reason> {
    decision.verdict.as_ref().err().map(|r| r.violations.iter().map(|v| v.reason).collect()).unwrap_or_default()
}
