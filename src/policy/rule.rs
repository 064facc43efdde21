//! The compiled policy: what a decision reads. Built by [`super::load`], never changed afterwards.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use alloy_primitives::Address;
use http::Method;

use super::budget::SharedBudget;
use super::cosigner::Cosigner;
use super::egress::Egress;
use super::entry::Trust;
use super::hours::Hours;
use super::pattern::{HostPattern, PathPattern, RequestPath};
use super::rules::Rule;
use super::{
    ApproverGroup, ContextKeys, Host, Members, Period, PolicyError, PolicyErrors, RepeatRules, Risk, RuleId, Scope, Sessions, Source, Span,
    load,
};
use crate::payment::{AgentId, AssetId, AssetTable, ChainId, Flow, MicroUsd, Offer, ProtocolId, Reason, Scheme, TransferMethod};

/// Whose body a refused request gets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RefusalBody {
    /// Our RFC 9457 problem document.
    #[default]
    Problem,
    /// The seller's own 402, with our `Proxy-Status` added.
    Seller,
}

/// A cap on a window, as metrics and `ledger show` list them.
#[derive(Clone, Debug)]
pub struct Budget {
    /// `caps.day`, `entry:<id>.caps.day` or `budget:<name>`.
    pub name: String,
    /// Whose counter.
    pub scope: Scope,
    /// Period.
    pub period: Period,
    /// The limit.
    pub limit: MicroUsd,
}

/// A whole policy, immutable; one request uses one snapshot.
#[derive(Debug)]
pub struct Policy {
    pub(super) digest: Arc<str>,
    pub(super) epoch: u64,
    pub(super) zone: jiff::tz::TimeZone,
    pub(super) assets: AssetTable,
    /// When the price of an asset with another peg than 1.00 is fresh (M2.3).
    pub(super) fresh: HashMap<AssetId, Span>,
    pub(super) refusal_body: RefusalBody,
    /// How long an agent waits for people.
    pub(super) hold: Duration,
    pub(super) context: ContextKeys,
    pub(super) budgets: Vec<SharedBudget>,
    pub(super) approvers: BTreeMap<Arc<str>, ApproverGroup>,
    pub(super) risk: Risk,
    pub(super) egress: Egress,
    pub(super) agents: HashMap<AgentId, Agent>,
    pub(super) names: Vec<AgentId>,
    pub(super) warnings: Vec<PolicyError>,
    pub(super) cosigner: Option<Cosigner>,
}

/// One agent's rules.
#[derive(Debug)]
pub(super) struct Agent {
    pub(super) limits: Limits,
    /// Caps on what goes to one host, and to one payee, per day.
    pub(super) host_day: Option<PaymentCap>,
    pub(super) payee_day: Option<PaymentCap>,
    pub(super) allow: Vec<Allow>,
    pub(super) deny: Vec<Deny>,
    pub(super) rules: Vec<Arc<Rule>>,
    pub(super) hours: Option<Hours>,
    pub(super) sessions: Option<Sessions>,
    /// Who is asked about what no entry takes, and what stands for the entry then.
    pub(super) unmatched: Option<(Arc<str>, Box<Allow>)>,
    /// Positions in `Policy::budgets` of those it draws on.
    pub(super) budgets: Vec<usize>,
}

/// Caps and rates on one counter.
#[derive(Debug)]
pub(super) struct Limits {
    pub(super) scope: Scope,
    pub(super) per_payment: Option<PaymentCap>,
    pub(super) caps: Vec<Cap>,
    pub(super) rates: Vec<Rate>,
}

/// A bound on the price of one payment.
#[derive(Debug)]
pub(super) struct PaymentCap {
    pub(super) rule: RuleId,
    pub(super) limit: MicroUsd,
}

/// A bound on the sum over a window.
#[derive(Debug)]
pub(super) struct Cap {
    pub(super) rule: RuleId,
    pub(super) period: Period,
    pub(super) limit: MicroUsd,
}

/// A bound on the number of commitments over a sliding span.
#[derive(Debug)]
pub(super) struct Rate {
    pub(super) rule: RuleId,
    pub(super) span_ms: i64,
    pub(super) limit: u32,
}

/// What an allow or deny entry selects. An empty list means any.
#[derive(Debug, Default)]
pub(super) struct Target {
    pub(super) hosts: Vec<HostPattern>,
    pub(super) ports: Vec<u16>,
    pub(super) paths: Vec<PathPattern>,
    pub(super) methods: Vec<Method>,
    pub(super) networks: Vec<ChainId>,
    pub(super) assets: Vec<AssetId>,
    pub(super) payees: Vec<Address>,
}

/// How the payee is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PayTo {
    /// The payee of the first consumed purchase, from then on (M3.3).
    Pinned,
    /// Whoever the seller names.
    Any,
    /// One of `Target::payees`, which selects the entry (M3.7).
    Listed,
}

/// One allow entry.
#[derive(Debug)]
pub(super) struct Allow {
    pub(super) id: RuleId,
    pub(super) target: Target,
    pub(super) plain_http: bool,
    pub(super) protocols: Vec<ProtocolId>,
    pub(super) schemes: Vec<Scheme>,
    pub(super) flows: Vec<Flow>,
    pub(super) transfer: Vec<TransferMethod>,
    pub(super) pay_to: PayTo,
    pub(super) allow_zero: bool,
    pub(super) max: Option<PaymentCap>,
    pub(super) lifetime: Duration,
    pub(super) limits: Limits,
    pub(super) repeats: RepeatRules,
    pub(super) trust: Trust,
}

/// One deny entry.
#[derive(Debug)]
pub(super) struct Deny {
    pub(super) id: RuleId,
    pub(super) target: Target,
}

/// The request part of an [`super::Input`], ready to be matched.
pub(super) struct Request<'a> {
    pub(super) host: &'a Host,
    pub(super) port: u16,
    pub(super) https: bool,
    pub(super) method: &'a Method,
    pub(super) path: RequestPath<'a>,
}

fn any_or<T: PartialEq>(list: &[T], value: &T) -> bool {
    list.is_empty() || list.contains(value)
}

impl Target {
    pub(super) fn host(&self, host: &Host) -> bool {
        self.hosts.iter().any(|h| h.matches(host))
    }

    pub(super) fn asset_and_payee(&self, offer: &Offer) -> bool {
        self.asset(offer) && any_or(&self.payees, &offer.payee.0)
    }

    pub(super) fn asset(&self, offer: &Offer) -> bool {
        any_or(&self.assets, &offer.asset.id)
    }
}

impl Allow {
    /// Host, ports, paths and methods. `plain_http` is judged apart, since missing only that is worth telling.
    pub(super) fn takes(&self, request: &Request<'_>) -> bool {
        let t = &self.target;
        t.host(request.host)
            && self.port(request.host, request.port, request.https)
            && any_or(&t.methods, request.method)
            && (t.paths.is_empty() || t.paths.iter().any(|p| p.allows(&request.path)))
    }

    /// Absent ports = the scheme's own port, and any port on loopback addresses (M3.7).
    fn port(&self, host: &Host, port: u16, https: bool) -> bool {
        match self.target.ports.as_slice() {
            [] => host.is_loopback() || port == if https { 443 } else { 80 },
            ports => ports.contains(&port),
        }
    }

    /// Everything the entry selects by the offer except its network, which [`Self::network`] judges.
    pub(super) fn takes_offer(&self, offer: &Offer) -> bool {
        self.target.asset_and_payee(offer)
            && any_or(&self.protocols, &offer.protocol)
            && any_or(&self.schemes, &offer.scheme)
            && self.flows.contains(&offer.flow)
            && self.transfer.contains(&offer.transfer)
    }

    /// Absent networks = any that is not a test network (M3.7). The error says whether only that stands in the way.
    pub(super) fn network(&self, chain: ChainId) -> Result<(), Option<Reason>> {
        match self.target.networks.as_slice() {
            [] if chain.is_testnet() => Err(Some(Reason::TestnetNotListed)),
            [] => Ok(()),
            listed if listed.contains(&chain) => Ok(()),
            _ => Err(None),
        }
    }
}

impl Deny {
    /// Host, ports, paths and methods. Absent ports = any port: a deny is read as wide as it can be.
    pub(super) fn takes(&self, request: &Request<'_>) -> bool {
        let t = &self.target;
        (t.hosts.is_empty() || t.host(request.host))
            && any_or(&t.ports, &request.port)
            && any_or(&t.methods, request.method)
            && (t.paths.is_empty() || t.paths.iter().any(|p| p.denies(&request.path)))
    }

    pub(super) fn takes_offer(&self, offer: &Offer) -> bool {
        any_or(&self.target.networks, &offer.asset.id.chain) && self.target.asset_and_payee(offer)
    }
}

impl Policy {
    /// Parses one file, or the files of a folder in name order, into a policy.
    ///
    /// # Errors
    /// Every mistake found, each with file, line, column and what to write instead. A policy with an error is never used.
    pub fn parse(sources: &[Source], epoch: u64) -> Result<Self, PolicyErrors> {
        load::policy(sources, epoch, false)
    }

    /// The same for a co-signer: its own keys are read, and what would take a payee on somebody's word is an error (S4).
    ///
    /// # Errors
    /// As [`Self::parse`].
    pub fn parse_for_cosigner(sources: &[Source], epoch: u64) -> Result<Self, PolicyErrors> {
        load::policy(sources, epoch, true)
    }

    /// A policy without agents: nothing is payable.
    pub fn empty() -> Self {
        Self {
            digest: load::digest(&[]),
            epoch: 0,
            zone: jiff::tz::TimeZone::UTC,
            assets: AssetTable::shipped(),
            fresh: HashMap::new(),
            refusal_body: RefusalBody::default(),
            hold: Duration::ZERO,
            context: ContextKeys::default(),
            budgets: Vec::new(),
            approvers: BTreeMap::new(),
            risk: Risk::default(),
            egress: Egress::default(),
            agents: HashMap::new(),
            names: Vec::new(),
            warnings: Vec::new(),
            cosigner: None,
        }
    }

    /// SHA-256 over the sources, hex.
    pub const fn digest(&self) -> &Arc<str> {
        &self.digest
    }

    /// Counts loads of this process; an approval of an older epoch is stale.
    pub const fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Shipped assets plus the file's.
    pub const fn assets(&self) -> &AssetTable {
        &self.assets
    }

    /// The agents in name order.
    pub fn agents(&self) -> impl Iterator<Item = &AgentId> {
        self.names.iter()
    }

    /// Whether some allow entry of `agent` could match a request to `host`:`port`: decides interception and body keeping.
    ///
    /// Says yes more often than [`Self::evaluate`] pays, never less often, and allocates nothing.
    pub fn payable(&self, agent: &AgentId, host: &Host, port: u16) -> bool {
        let could = |a: &Allow| a.target.host(host) && (a.port(host, port, true) || (a.plain_http && a.port(host, port, false)));
        self.agents.get(agent).is_some_and(|agent| agent.allow.iter().any(could) || agent.unmatched.iter().any(|(_, a)| could(a)))
    }

    /// Whose refusal body `agent` gets.
    pub const fn refusal_body(&self, agent: &AgentId) -> RefusalBody {
        let _ = agent; // one setting for all agents in this version
        self.refusal_body
    }

    /// The caps of `agent`, for gauges and tables.
    pub fn budgets(&self, agent: &AgentId) -> Vec<Budget> {
        let Some(agent) = self.agents.get(agent) else { return Vec::new() };
        let shared = agent.budgets.iter().filter_map(|i| self.budgets.get(*i)).filter(|b| !b.per_customer).map(|b| Budget {
            name: b.rule.to_string(),
            scope: Scope::Shared(b.members.clone(), None),
            period: Period::Calendar(b.window),
            limit: b.limit,
        });
        let budget = |limits: &Limits, cap: &Cap| Budget {
            name: cap.rule.to_string(),
            scope: limits.scope.clone(),
            period: cap.period,
            limit: cap.limit,
        };
        let all = std::iter::once(&agent.limits).chain(agent.allow.iter().map(|a| &a.limits));
        all.flat_map(|limits| limits.caps.iter().map(move |cap| budget(limits, cap))).chain(shared).collect()
    }

    /// The keys that a request's context may have.
    pub const fn context_keys(&self) -> &ContextKeys {
        &self.context
    }

    /// The rules for sessions of `agent`, if it has any.
    pub fn sessions(&self, agent: &AgentId) -> Option<&Sessions> {
        self.agents.get(agent)?.sessions.as_ref()
    }

    /// The groups of people that payments can be put to, by name.
    pub const fn approver_groups(&self) -> &BTreeMap<Arc<str>, ApproverGroup> {
        &self.approvers
    }

    /// What looks wrong, and what happens then.
    pub const fn risk(&self) -> &Risk {
        &self.risk
    }

    /// The lists of agents that share a budget, each once: the books keep a counter for each.
    pub fn members(&self) -> Vec<Members> {
        let mut all: Vec<Members> = self.budgets.iter().map(|b| b.members.clone()).filter(|m| *m != Members::ALL).collect();
        all.sort();
        all.dedup();
        all
    }

    /// The time zone of calendar periods.
    pub const fn zone(&self) -> &jiff::tz::TimeZone {
        &self.zone
    }

    /// Mistakes that do not stop the policy from loading (M3.5): file, line, column, text.
    pub fn warnings(&self) -> &[PolicyError] {
        &self.warnings
    }
}
