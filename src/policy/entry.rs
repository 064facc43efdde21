//! Entries of `allow` and `deny` (M3.1, M3.7): each sub-key read into its final type.

use alloy_primitives::Address;
use http::Method;

use super::approvers::Approvers;
use super::caps::{self, Caps, Rates};
use super::context::ContextKeys;
use super::cosigner::{self, Role};
use super::egress::Egress;
use super::load::{Defaults, lifetime};
use super::pattern::{HostPattern, PathPattern};
use super::read::{Fields, Report, count, count_text, duration, each, fields, flag, list, money, one, shown};
use super::rule::{Allow, Deny, PayTo, PaymentCap, Target};
use super::symbols;
use super::yaml::{Node, Pos, Value};
use super::{Host, RepeatRules, RuleId, Scope};
use crate::payment::{AgentId, AssetTable, Flow, OfferKey, ProtocolId, Scheme, TransferMethod, parse_address};

/// What an entry is read against.
pub(super) struct Context<'a> {
    pub(super) agent: &'a AgentId,
    pub(super) defaults: &'a Defaults,
    pub(super) egress: &'a Egress,
    pub(super) assets: &'a AssetTable,
    pub(super) role: Role,
    pub(super) keys: &'a ContextKeys,
    pub(super) approvers: &'a Approvers,
}

/// How an entry's payee can be proven beside a list (S4); read by a co-signer alone.
#[derive(Debug, Default)]
pub(super) struct Trust {
    /// The seller's keys for signed offers.
    pub(super) offer_keys: Vec<OfferKey>,
    /// The co-signer asks the seller itself.
    pub(super) probe: bool,
}

impl Trust {
    pub(super) const fn is_empty(&self) -> bool {
        self.offer_keys.is_empty() && !self.probe
    }

    fn read(map: &Fields<'_>, report: &mut Report) -> Self {
        let key = |t: &str| t.parse::<OfferKey>().map_err(|e| format!("\"{}\" is {e}", shown(t)));
        Self {
            offer_keys: map.get("offer_key").map(|n| each(n, "allow.offer_key", report, key)).unwrap_or_default(),
            probe: map.get("probe").and_then(|n| flag(n, "allow.probe", report)).unwrap_or(false),
        }
    }
}

/// How many of [`ALLOW`], at its end, only a co-signer reads.
const OF_COSIGNER: usize = 2;
const ALLOW: [&str; 21] = [
    "id",
    "host",
    "ports",
    "paths",
    "methods",
    "networks",
    "assets",
    "protocols",
    "schemes",
    "pay_to",
    "max",
    "caps",
    "plain_http",
    "any_host",
    "allow_zero",
    "flows",
    "transfer",
    "lifetime",
    "repeats",
    "offer_key",
    "probe",
];
const DENY: [&str; 8] = ["id", "host", "ports", "paths", "methods", "networks", "assets", "pay_to"];

/// Reads `allow`, in file order.
pub(super) fn allow(
    node: &Node,
    context: &Context<'_>,
    outer: &Caps,
    ids: &mut Vec<(RuleId, Pos)>,
    report: &mut Report,
) -> Vec<(Pos, Allow)> {
    list(node, "allow", report).iter().filter_map(|item| allow_entry(item, context, outer, ids, report)).collect()
}

/// Reads `deny`, in file order.
pub(super) fn deny(node: &Node, context: &Context<'_>, ids: &mut Vec<(RuleId, Pos)>, report: &mut Report) -> Vec<(Pos, Deny)> {
    list(node, "deny", report).iter().filter_map(|item| deny_entry(item, context, ids, report)).collect()
}

fn allow_entry(
    node: &Node,
    context: &Context<'_>,
    outer: &Caps,
    ids: &mut Vec<(RuleId, Pos)>,
    report: &mut Report,
) -> Option<(Pos, Allow)> {
    let known = if context.role.is_cosigner() { &ALLOW[..] } else { &ALLOW[..ALLOW.len() - OF_COSIGNER] };
    let map = fields(node, "allow", known, report)?;
    let mut target = request_target(&map, "allow", report);
    check_host(&map, &target, report);
    (target.networks, target.assets) = symbols::resolve_allow(&map, context.assets, report);
    let (pay_to, payees) = pay_to(&map, context, report);
    target.payees = payees;
    let trust = Trust::read(&map, report);
    cosigner::check_allow(&map, &target, &trust, context.role, report);
    let id = entry_id(&map, "allow", &target, ids, report);
    let rule = |name: &str| RuleId(format!("entry:{id}.{name}").into());
    let max = map.get("max").and_then(|n| {
        let limit = money(n, "allow.max", report)?;
        outer.warn_above_payment(limit, &n.at, report);
        Some(PaymentCap { rule: rule("max"), limit })
    });
    let caps = map.get("caps").map(|n| caps::caps(n, false, report).narrow_only(outer, report)).unwrap_or_default();
    let limits = caps.compile(Scope::Entry(context.agent.clone(), id.clone()), &format!("entry:{id}."), &Rates::default());
    let mut switch = |key: &str| map.get(key).and_then(|n| flag(n, &format!("allow.{key}"), report)).unwrap_or(false);
    let (plain_http, allow_zero) = (switch("plain_http"), switch("allow_zero"));
    let entry = Allow {
        id,
        target,
        plain_http,
        protocols: listed(&map, "protocols", report, &PROTOCOLS),
        schemes: listed(&map, "schemes", report, &SCHEMES),
        flows: map.get("flows").map_or_else(|| context.defaults.flows.clone(), |n| flows(n, "allow.flows", report)),
        transfer: map.get("transfer").map_or_else(|| context.defaults.transfer.clone(), |n| transfer(n, "allow.transfer", report)),
        pay_to,
        allow_zero,
        max,
        lifetime: map
            .get("lifetime")
            .and_then(|n| lifetime(n, "allow.lifetime", context.role, report))
            .unwrap_or(context.defaults.lifetime),
        limits,
        trust,
        repeats: map.get("repeats").map(|n| repeats(n, report)).unwrap_or_default(),
    };
    warn_http(&map, &entry, report);
    Some((node.at.clone(), entry))
}

/// The name that what no entry takes is counted and pinned under.
pub(super) const UNMATCHED: &str = "unmatched";

/// What stands for an allow entry where people are asked about everything else: https to any host, no test network.
pub(super) fn unmatched(context: &Context<'_>) -> Allow {
    let id = RuleId(UNMATCHED.into());
    let limits = Caps::default().compile(Scope::Entry(context.agent.clone(), id.clone()), "", &Rates::default());
    Allow {
        id,
        target: Target { hosts: vec![HostPattern::Any], ..Target::default() },
        plain_http: false,
        protocols: Vec::new(),
        schemes: Vec::new(),
        flows: context.defaults.flows.clone(),
        transfer: context.defaults.transfer.clone(),
        pay_to: context.defaults.pay_to,
        allow_zero: false,
        max: None,
        lifetime: context.defaults.lifetime,
        limits,
        repeats: RepeatRules::default(),
        trust: Trust::default(),
    }
}

fn deny_entry(node: &Node, context: &Context<'_>, ids: &mut Vec<(RuleId, Pos)>, report: &mut Report) -> Option<(Pos, Deny)> {
    let map = fields(node, "deny", &DENY, report)?;
    let mut target = request_target(&map, "deny", report);
    cosigner::check_deny(&map, context.role, report);
    (target.networks, target.assets) = symbols::resolve_deny(&map, context.assets, report);
    if let Some(node) = map.get("pay_to") {
        target.payees = each(node, "deny.pay_to", report, payee);
    }
    if DENY[1..].iter().all(|key| map.get(key).is_none()) {
        report.error(map.at, "deny: nothing is selected: write `host`, such as casino.example, or `host: \"*\"` to deny everything");
        return None;
    }
    let id = entry_id(&map, "deny", &target, ids, report);
    Some((node.at.clone(), Deny { id, target }))
}

/// Host, ports, paths and methods.
fn request_target(map: &Fields<'_>, section: &str, report: &mut Report) -> Target {
    let mut target = Target::default();
    let place = |key: &str| format!("{section}.{key}");
    if let Some(node) = map.get("host") {
        target.hosts = each(node, &place("host"), report, HostPattern::parse);
    }
    if let Some(node) = map.get("ports") {
        target.ports = each(node, &place("ports"), report, port);
    }
    if let Some(node) = map.get("paths") {
        target.paths = each(node, &place("paths"), report, PathPattern::parse);
    }
    if let Some(node) = map.get("methods") {
        target.methods = each(node, &place("methods"), report, method);
    }
    target
}

fn check_host(map: &Fields<'_>, target: &Target, report: &mut Report) {
    let any_host = map.get("any_host").and_then(|n| flag(n, "allow.any_host", report)).unwrap_or(false);
    let Some(node) = map.get("host") else {
        report.error(map.at, "allow: `host` is missing: write the host that may be paid, such as api.example.com");
        return;
    };
    let any = target.hosts.contains(&HostPattern::Any);
    if any && !any_host {
        report.error(&node.at, "allow.host: \"*\" pays every host there is: name hosts, or add `any_host: true` if that is what you want");
    }
    if any_host && !any {
        report.warn(&node.at, "allow.any_host has no effect without host: \"*\"");
    }
    for pattern in &target.hosts {
        if let HostPattern::Below(suffix) = pattern
            && !suffix[1..].contains('.')
            && !pattern.is_loopback()
        {
            report.warn(&node.at, format!("allow.host: \"*{suffix}\" takes every host of a whole top-level domain"));
        }
    }
}

fn warn_http(map: &Fields<'_>, entry: &Allow, report: &mut Report) {
    if let Some(node) = map.get("plain_http")
        && entry.plain_http
        && !entry.target.hosts.iter().all(HostPattern::is_loopback)
    {
        report.warn(&node.at, "allow.plain_http: anyone on the way can change the price and the payee: prefer https outside this machine");
    }
}

/// The `id`, or the host's name where that is unambiguous: counters and pins are stored under it, so it must be stable.
fn entry_id(map: &Fields<'_>, section: &str, target: &Target, ids: &mut Vec<(RuleId, Pos)>, report: &mut Report) -> RuleId {
    let (name, at) = match (map.get("id"), target.hosts.as_slice()) {
        (Some(node), _) => (one(node, &format!("{section}.id"), report, name_text), &node.at),
        (None, [HostPattern::Exact(Host::Name(name))]) if name_text(name).is_ok() => (Some(name.to_string()), map.at),
        (None, _) => {
            report.error(map.at, format!("{section}: `id` is missing: write a short name, such as `id: search` (it may be left out only where `host` is a single name)"));
            (None, map.at)
        }
    };
    let Some(name) = name else { return RuleId("?".into()) };
    let id = RuleId(name.into());
    match ids.iter().find(|(known, _)| *known == id) {
        Some((_, first)) => report
            .error(at, format!("{section}: the id `{id}` stands at line {} already: give each entry of an agent its own `id`", first.line)),
        None => ids.push((id.clone(), at.clone())),
    }
    id
}

pub(super) fn name_text(t: &str) -> Result<String, String> {
    t.parse::<AgentId>().map(|_| t.to_owned()).map_err(|e| format!("\"{}\" is {e}", shown(t)))
}

fn pay_to(map: &Fields<'_>, context: &Context<'_>, report: &mut Report) -> (PayTo, Vec<Address>) {
    let Some(node) = map.get("pay_to") else { return (context.defaults.pay_to, Vec::new()) };
    match &node.value {
        Value::Text(t) if t == "pinned" => (PayTo::Pinned, Vec::new()),
        Value::Text(t) if t == "any" => {
            // On a co-signer it draws on a budget of its own.
            if !context.role.is_cosigner() {
                report.warn(
                    &node.at,
                    "allow.pay_to: any pays whoever the seller names, also after it changed: prefer pinned or a list of addresses",
                );
            }
            (PayTo::Any, Vec::new())
        }
        Value::Text(t) if !t.starts_with("0x") => {
            report.error(&node.at, format!("allow.pay_to: \"{}\" is unknown: write pinned, any, or a list of addresses", shown(t)));
            (PayTo::Listed, Vec::new())
        }
        _ => (PayTo::Listed, each(node, "allow.pay_to", report, payee)),
    }
}

fn payee(t: &str) -> Result<Address, String> {
    let fault =
        || format!("\"{}\" is not a payee: write an address of 0x and 40 hex digits (mixed case must be its EIP-55 checksum)", shown(t));
    match parse_address(t) {
        Some(address) if !address.is_zero() => Ok(address),
        Some(_) => Err("the zero address cannot be paid: write the seller's address".into()),
        None if t == "any" || t == "pinned" => Err(format!("{t} stands alone, not in a list: write `pay_to: {t}`")),
        None => Err(fault()),
    }
}

fn port(t: &str) -> Result<u16, String> {
    let fault = || format!("\"{}\" is not a port: write a number from 1 to 65535", shown(t));
    let number = count_text(t, 65_535).map_err(|_| fault())?;
    u16::try_from(number).ok().filter(|p| *p > 0).ok_or_else(fault)
}

fn method(t: &str) -> Result<Method, String> {
    match t {
        "HEAD" | "OPTIONS" | "TRACE" | "CONNECT" => Err(format!("{t} requests are never paid: remove it")),
        _ if t.bytes().any(|b| b.is_ascii_lowercase()) => {
            Err(format!("\"{}\": methods are upper-case, write {}", shown(t), shown(&t.to_ascii_uppercase())))
        }
        _ => Method::from_bytes(t.as_bytes()).map_err(|_| format!("\"{}\" is not a method: write GET, POST, …", shown(t))),
    }
}

/// Names this version knows, and names that later ones will.
type Closed<T, const N: usize, const L: usize> = ([(&'static str, T); N], [&'static str; L]);

const PROTOCOLS: Closed<ProtocolId, 2, 2> = ([("x402v1", ProtocolId::X402V1), ("x402v2", ProtocolId::X402V2)], ["mpp", "l402"]);
const SCHEMES: Closed<Scheme, 1, 1> = ([("exact", Scheme::Exact)], ["upto"]);
const FLOWS: Closed<Flow, 3, 0> = ([("authorization", Flow::Authorization), ("upfront", Flow::Upfront), ("escrow", Flow::Escrow)], []);
const TRANSFER: Closed<TransferMethod, 1, 1> = ([("eip3009", TransferMethod::Eip3009)], ["permit2"]);

fn closed<T: Copy, const N: usize, const L: usize>(t: &str, (names, later): &Closed<T, N, L>) -> Result<T, String> {
    if later.contains(&t) {
        return Err(format!("`{t}` is not in this version: remove it"));
    }
    let known = || names.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
    names
        .iter()
        .find(|(name, _)| *name == t)
        .map(|(_, value)| *value)
        .ok_or_else(|| format!("\"{}\" is unknown; known here: {}", shown(t), known()))
}

fn listed<T: Copy, const N: usize, const L: usize>(map: &Fields<'_>, key: &str, report: &mut Report, names: &Closed<T, N, L>) -> Vec<T> {
    map.get(key).map(|node| each(node, &format!("allow.{key}"), report, |t| closed(t, names))).unwrap_or_default()
}

/// Payment flows, the preferred first.
pub(super) fn flows(node: &Node, place: &str, report: &mut Report) -> Vec<Flow> {
    each(node, place, report, |t| closed(t, &FLOWS))
}

/// Transfer methods, the preferred first.
pub(super) fn transfer(node: &Node, place: &str, report: &mut Report) -> Vec<TransferMethod> {
    each(node, place, report, |t| closed(t, &TRANSFER))
}

fn repeats(node: &Node, report: &mut Report) -> RepeatRules {
    let mut rules = RepeatRules::default();
    if matches!(node.value, Value::Text(_)) {
        report.error(&node.at, "allow.repeats: write a mapping, such as `repeats: { lost_hold: 15m }`");
        return rules;
    }
    let Some(map) = fields(node, "allow.repeats", &["share", "lost_hold", "paid_redirects"], report) else { return rules };
    if let Some(node) = map.get("share")
        && flag(node, "allow.repeats.share", report) == Some(true)
    {
        report.error(
            &node.at,
            "`allow.repeats.share: true` is not in this version: identical live requests are separate purchases; remove it",
        );
    }
    if let Some(hold) = map.get("lost_hold").and_then(|n| duration(n, "allow.repeats.lost_hold", report)) {
        rules.lost_hold = hold;
    }
    if let Some(redirects) = map.get("paid_redirects").and_then(|n| count(n, "allow.repeats.paid_redirects", 10, report)) {
        rules.paid_redirects = redirects;
    }
    rules
}
