//! Text → cases, with the same tree and readers as a policy: every mistake at its place, with what to write instead.

use std::collections::{BTreeMap, BTreeSet};

use alloy_primitives::Address;
use http::Method;

use super::offer::{CaseOffer, Price};
use super::past::Paid;
use super::{Case, Expect, Say};
use crate::payment::{AgentId, ChainId, Payer, ProtocolId, Reason, SessionName, Timestamp, parse_address};
use crate::policy::read::{Fields, Report, count, duration, each, fields, flag, items, list, money, named, one, shown, text};
use crate::policy::yaml::{self, Node, Value};
use crate::policy::{Host, Policy, PolicyErrors, Source, Standing, Stopped};
use crate::spelling::nearest;

const CASE: [&str; 11] = ["name", "agent", "session", "at", "context", "request", "offers", "paid", "frozen", "granted", "wallet"];
const OFFER: [&str; 11] = ["usd", "atomic", "network", "asset", "payee", "scheme", "flow", "transfer", "protocol", "timeout", "extra"];
const PAID: [&str; 12] = ["at", "usd", "agent", "entry", "host", "method", "payee", "network", "session", "count", "every", "delivered"];
const EXPECT: [&str; 7] = ["verdict", "reasons", "rules", "groups", "entry", "usd", "offer"];

/// What an offer names that says no more than its price.
const NETWORK: &str = "eip155:8453";
const PAYEE: &str = "0x1111111111111111111111111111111111111111";
/// The account that pays unless a case names another.
const WALLET: Address = Address::repeat_byte(0xee);
/// The most payments that one line of `paid` makes.
const MOST: u32 = 10_000;

pub(super) fn file(source: &Source, policy: &Policy) -> Result<Vec<Case>, PolicyErrors> {
    let mut report = Report::default();
    let root = match yaml::parse(&source.name, &source.text, &mut report.errors) {
        Ok(root) => root,
        Err(error) => return Err(PolicyErrors(vec![error])),
    };
    let mut cases: Vec<Case> = Vec::new();
    if let Some(map) = fields(&root, "cases", &["version", "cases"], &mut report) {
        if map.get("version").is_none_or(|n| !matches!(&n.value, Value::Text(t) if t == "1")) {
            report.error(map.at, "a case file begins with `version: 1`: write that");
        }
        let Some(node) = map.get("cases") else {
            report.error(map.at, "`cases` is missing: write a list of cases, such as `- { name: …, agent: …, request: …, expect: … }`");
            return Err(report.finish().err().unwrap_or_else(|| PolicyErrors(Vec::new())));
        };
        for node in list(node, "cases", &mut report) {
            let Some(case) = case(node, policy, &mut report) else { continue };
            if let Some(first) = cases.iter().find(|c| c.name == case.name) {
                let line = first.line;
                report
                    .error(&node.at, format!("cases: the name \"{}\" stands at line {line} already: give each its own", shown(&case.name)));
            }
            cases.push(case);
        }
    }
    report.finish().map(|_| cases)
}

/// The value under a key that a case cannot do without.
fn need<'a>(map: &Fields<'a>, place: &str, key: &str, example: &str, report: &mut Report) -> Option<&'a Node> {
    let found = map.get(key);
    if found.is_none() {
        report.error(map.at, format!("{place}: `{key}` is missing: write {example}"));
    }
    found
}

fn case(node: &Node, policy: &Policy, report: &mut Report) -> Option<Case> {
    let known: Vec<&str> = CASE.into_iter().chain(["expect"]).collect();
    let map = fields(node, "case", &known, report)?;
    let name = need(&map, "case", "name", "what it shows, such as `name: five dollars a day and no more`", report);
    let name = name.and_then(|n| text(n, "name", report)).map(str::to_owned);
    let agent = need(&map, "case", "agent", "an agent of the policy, such as `agent: research-bot`", report);
    let agent = agent.and_then(|n| agent_id(n, "agent", report));
    let at = need(&map, "case", "at", "a time, such as `at: \"2026-11-27T15:00:00Z\"`", report);
    let at = at.and_then(|n| instant(n, "at", report));
    let request = need(&map, "case", "request", "method and URL, such as `request: GET https://api.bureau.example/v2/report`", report);
    let request = request.and_then(|n| one(n, "request", report, request_line));
    let offers = need(&map, "case", "offers", "what the seller asks for, such as `offers: [ { usd: 0.05 } ]`", report);
    let offers: Option<Vec<CaseOffer>> = offers.map(|n| list(n, "offers", report).iter().filter_map(|o| offer(o, report)).collect());
    let expect = need(&map, "case", "expect", "what the policy says, such as `expect: { verdict: allow }`", report);
    let expect = expect.and_then(|n| expectation(n, policy, report));
    let session = map.get("session").and_then(|n| session(n, "session", report));
    let context = map.get("context").and_then(|n| text(n, "context", report)).map(str::to_owned);
    let granted = map.get("granted").map_or_else(Vec::new, |n| each(n, "granted", report, |t| group(t, policy).map(Into::into)));
    let wallet = map.get("wallet").and_then(|n| address(n, "wallet", report)).unwrap_or(WALLET);
    let standing = map.get("frozen").and_then(|n| frozen(n, at?, report)).unwrap_or_default();
    let (agent, at, offers) = (agent?, at?, offers?);
    let (method, https, host, port, path) = request?;
    let mut case = Case {
        name: name?,
        line: node.at.line,
        agent,
        session,
        at,
        context,
        method,
        https,
        host,
        port,
        path,
        offers,
        paid: Vec::new(),
        standing,
        granted,
        wallet: Payer(wallet),
        expect: expect?,
    };
    let past = map.get("paid").map_or(&[][..], |n| list(n, "paid", report));
    case.paid = past.iter().flat_map(|n| paid(n, &case, policy, report).unwrap_or_default()).collect();
    Some(case)
}

fn agent_id(node: &Node, place: &str, report: &mut Report) -> Option<AgentId> {
    one(node, place, report, |t| t.parse().map_err(|e| format!("\"{}\": {e}", shown(t))))
}

fn session(node: &Node, place: &str, report: &mut Report) -> Option<SessionName> {
    one(node, place, report, |t| t.parse().map_err(|e| format!("\"{}\": {e}", shown(t))))
}

fn instant(node: &Node, place: &str, report: &mut Report) -> Option<Timestamp> {
    one(node, place, report, |t| {
        let at: Result<jiff::Timestamp, _> = t.parse();
        let fault = |_| format!("\"{}\" is not a time: write it as \"2026-11-27T15:00:00Z\"", shown(t));
        at.map(|at| Timestamp::from_millis(at.as_millisecond())).map_err(fault)
    })
}

fn address(node: &Node, place: &str, report: &mut Report) -> Option<Address> {
    one(node, place, report, |t| parse_address(t).ok_or_else(|| format!("\"{}\" is not an address: write 0x and 40 hex digits", shown(t))))
}

fn host(t: &str) -> Result<Host, String> {
    Host::parse(t).map_err(|e| format!("\"{}\" is {e}", shown(t)))
}

fn method(t: &str) -> Result<Method, String> {
    t.parse().map_err(|_| format!("\"{}\" is not a method: write one such as GET", shown(t)))
}

fn group(t: &str, policy: &Policy) -> Result<String, String> {
    let known: Vec<&str> = policy.approver_groups().keys().map(|k| &**k).collect();
    if known.contains(&t) {
        return Ok(t.to_owned());
    }
    let known = if known.is_empty() { "the policy has none".to_owned() } else { format!("the policy has {}", known.join(", ")) };
    Err(format!("\"{}\" is not a group of approvers: {known}", shown(t)))
}

/// `GET https://host:port/path?query`, the path as it is sent: it may be abnormal on purpose.
fn request_line(t: &str) -> Result<(Method, bool, Host, u16, String), String> {
    let fault = || format!("\"{}\" is not a request: write method and URL, such as GET https://api.bureau.example/v2/report", shown(t));
    let (verb, url) = t.split_once(' ').ok_or_else(fault)?;
    let (https, rest) = match url.split_once("://").ok_or_else(fault)? {
        ("https", rest) => (true, rest),
        ("http", rest) => (false, rest),
        _ => return Err(fault()),
    };
    let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let after_v6 = authority.rfind(']').map_or(0, |end| end + 1);
    let (name, port) = match authority[after_v6..].split_once(':') {
        Some((_, port)) => (&authority[..authority.len() - port.len() - 1], port.parse().map_err(|_| fault())?),
        None => (authority, if https { 443 } else { 80 }),
    };
    let path = path.split('?').next().filter(|p| !p.is_empty()).unwrap_or("/");
    Ok((method(verb)?, https, host(name)?, port, path.to_owned()))
}

fn frozen(node: &Node, at: Timestamp, report: &mut Report) -> Option<Standing> {
    let map = fields(node, "frozen", &["agents", "hosts"], report)?;
    let stopped = || Stopped { by: "operator".into(), why: "a case".into(), at };
    let mut standing = Standing::default();
    if let Some(node) = map.get("agents") {
        standing.agents.extend(each(node, "frozen.agents", report, |t| Ok(t.into())).into_iter().map(|a| (a, stopped())));
    }
    if let Some(node) = map.get("hosts") {
        let hosts = each(node, "frozen.hosts", report, host);
        standing.hosts.extend(hosts.into_iter().map(|h| (h.to_string().into(), stopped())));
    }
    Some(standing)
}

fn offer(node: &Node, report: &mut Report) -> Option<CaseOffer> {
    let map = fields(node, "offers", &OFFER, report)?;
    let price = match (map.get("usd"), map.get("atomic")) {
        (Some(node), None) => money(node, "offers.usd", report).map(Price::Usd),
        (None, Some(node)) => text(node, "offers.atomic", report).map(|t| Price::Atomic(t.to_owned())),
        _ => {
            report.error(map.at, "offers: the price is one of two: write `usd`, such as 0.05, or `atomic`, such as \"50000\"");
            None
        }
    };
    if let Some(node) = map.get("protocol") {
        one(node, "offers.protocol", report, |t| {
            (t == ProtocolId::X402V2.as_str()).then_some(()).ok_or_else(|| format!("\"{}\": cases speak x402v2: remove the key", shown(t)))
        });
    }
    let mut or =
        |key: &str, default: &str| map.get(key).and_then(|n| text(n, &format!("offers.{key}"), report)).unwrap_or(default).to_owned();
    let (network, asset, payee) = (or("network", NETWORK), or("asset", "USDC"), or("payee", PAYEE));
    let (scheme, flow, transfer) = (or("scheme", "exact"), or("flow", "authorization"), or("transfer", "eip3009"));
    let timeout = map.get("timeout").and_then(|n| count(n, "offers.timeout", u32::MAX, report)).unwrap_or(60);
    let extra = map.get("extra").map_or_else(Vec::new, |n| {
        let pairs = named(n, "offers.extra", report).iter();
        pairs.filter_map(|p| Some((p.key.clone(), json(text(&p.value, "offers.extra", report)?)))).collect()
    });
    Some(CaseOffer { price: price?, network, asset, payee, scheme, flow, transfer, timeout, extra })
}

/// A number, true or false as JSON has them; anything else is text.
fn json(t: &str) -> serde_json::Value {
    let bare = serde_json::from_str(t).ok().filter(|v: &serde_json::Value| v.is_number() || v.is_boolean());
    bare.unwrap_or_else(|| t.into())
}

/// `count` payments, each `every` after the one before; what a line leaves out is as in the case's own request and first offer.
fn paid(node: &Node, case: &Case, policy: &Policy, report: &mut Report) -> Option<Vec<Paid>> {
    let known: Vec<&str> = PAID.into_iter().chain(policy.context_keys().names()).collect();
    let map = fields(node, "paid", &known, report)?;
    let at = need(&map, "paid", "at", "when it was paid, such as `at: \"2026-11-27T14:00:00Z\"`", report);
    let at = at.and_then(|n| instant(n, "paid.at", report));
    let usd = need(&map, "paid", "usd", "how much, such as `usd: 0.05`", report).and_then(|n| money(n, "paid.usd", report));
    let first = case.offers.first();
    let payee = map.get("payee").map_or_else(|| first.and_then(|o| parse_address(&o.payee)), |n| address(n, "paid.payee", report));
    let network: Option<ChainId> = match map.get("network") {
        Some(node) => one(node, "paid.network", report, |t| t.parse().map_err(|e| format!("\"{}\": {e}", shown(t)))),
        None => first.and_then(|o| o.network.parse().ok()),
    };
    let mut context = BTreeMap::new();
    for key in policy.context_keys().names() {
        if let Some(value) = map.get(key).filter(|_| !PAID.contains(&key)).and_then(|n| text(n, key, report)) {
            context.insert(key.to_owned(), value.to_owned());
        }
    }
    let one_of_them = Paid {
        at: at?,
        usd: usd?,
        agent: map.get("agent").and_then(|n| agent_id(n, "paid.agent", report)).unwrap_or_else(|| case.agent.clone()),
        entry: map.get("entry").and_then(|n| text(n, "paid.entry", report)).unwrap_or_default().into(),
        host: map.get("host").and_then(|n| one(n, "paid.host", report, host)).unwrap_or_else(|| case.host.clone()),
        method: map.get("method").and_then(|n| one(n, "paid.method", report, method)).unwrap_or_else(|| case.method.clone()),
        payee: payee.unwrap_or(Address::ZERO),
        network,
        session: map.get("session").and_then(|n| session(n, "paid.session", report)),
        context,
        delivered: map.get("delivered").and_then(|n| flag(n, "paid.delivered", report)).unwrap_or(true),
    };
    let times = map.get("count").and_then(|n| count(n, "paid.count", MOST, report)).unwrap_or(1);
    let every = map.get("every").and_then(|n| duration(n, "paid.every", report)).unwrap_or_default();
    let every = i64::try_from(every.as_millis()).unwrap_or(i64::MAX);
    let later = |n: u32| one_of_them.at.plus_millis(every.saturating_mul(i64::from(n)));
    Some((0..times).map(|n| Paid { at: later(n), ..one_of_them.clone() }).collect())
}

fn expectation(node: &Node, policy: &Policy, report: &mut Report) -> Option<Expect> {
    let map = fields(node, "expect", &EXPECT, report)?;
    let verdict = need(&map, "expect", "verdict", "`verdict: allow`, ask or deny", report)?;
    let verdict = one(verdict, "expect.verdict", report, |t| {
        let found = Say::ALL.into_iter().find(|v| v.as_str() == t);
        found.ok_or_else(|| format!("\"{}\" is not a verdict: write allow, ask or deny", shown(t)))
    });
    let mut set = |key: &str, read: &dyn Fn(&str) -> Result<String, String>| {
        let node = map.get(key)?;
        // An empty list is a statement here: nothing may be named.
        if items(node).is_empty() {
            return Some(BTreeSet::new());
        }
        Some(each(node, &format!("expect.{key}"), report, read).into_iter().collect())
    };
    let (reasons, rules) = (set("reasons", &reason), set("rules", &|t| Ok(t.to_owned())));
    let groups = set("groups", &|t| group(t, policy));
    Some(Expect {
        verdict,
        reasons,
        rules,
        groups,
        entry: map.get("entry").and_then(|n| text(n, "expect.entry", report)).map(str::to_owned),
        usd: map.get("usd").and_then(|n| money(n, "expect.usd", report)),
        offer: map.get("offer").and_then(|n| count(n, "expect.offer", 1000, report)).and_then(|n| usize::try_from(n).ok()),
    })
}

fn reason(t: &str) -> Result<String, String> {
    let known: Vec<&str> = Reason::ALL.iter().map(|r| r.as_str()).collect();
    if known.contains(&t) {
        return Ok(t.to_owned());
    }
    let hint = nearest(t, &known).map_or_else(String::new, |k| format!("; did you mean `{k}`?"));
    Err(format!("\"{}\" is not a reason of ours{hint}", shown(t)))
}
