//! The case format shared with `tollpass policy test`: a request, offers, the past and what is expected.

use super::host;
use super::money::micro;
use super::time::{instant, span_ms};
use super::yaml::Node;
use jiff::{SignedDuration, Timestamp};
use std::collections::{BTreeMap, BTreeSet};

/// One case with every default filled in.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) agent: String,
    pub(crate) session: Option<String>,
    pub(crate) at: Timestamp,
    /// The text of the `Tollpass-Context` header.
    pub(crate) context: Option<String>,
    pub(crate) request: Request,
    pub(crate) offers: Vec<Offer>,
    pub(crate) paid: Vec<Paid>,
    pub(crate) frozen_agents: Vec<String>,
    pub(crate) frozen_hosts: Vec<String>,
    pub(crate) granted: BTreeSet<String>,
    pub(crate) wallet: Option<String>,
    pub(crate) expect: Expect,
}

#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) scheme: String,
    /// Plain: lower-case A-labels or an address.
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) path: String,
}

#[derive(Clone, Debug)]
pub(crate) struct Offer {
    pub(crate) usd: Option<i128>,
    pub(crate) atomic: Option<String>,
    pub(crate) network: String,
    pub(crate) asset: String,
    pub(crate) payee: String,
    pub(crate) scheme: String,
    pub(crate) flow: String,
    pub(crate) transfer: String,
    pub(crate) protocol: String,
    pub(crate) timeout: String,
    pub(crate) extra: Vec<(String, String)>,
}

/// One payment of the past.
#[derive(Clone, Debug)]
pub(crate) struct Paid {
    pub(crate) at: Timestamp,
    pub(crate) usd: i128,
    pub(crate) agent: String,
    pub(crate) entry: String,
    pub(crate) host: String,
    pub(crate) method: String,
    pub(crate) payee: String,
    pub(crate) network: String,
    pub(crate) session: Option<String>,
    /// Context keys, such as `customer`.
    pub(crate) context: BTreeMap<String, String>,
    pub(crate) delivered: bool,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Expect {
    pub(crate) verdict: String,
    pub(crate) reasons: Option<BTreeSet<String>>,
    pub(crate) rules: Option<BTreeSet<String>>,
    pub(crate) groups: Option<BTreeSet<String>>,
    pub(crate) entry: Option<String>,
    pub(crate) usd: Option<i128>,
    pub(crate) offer: Option<usize>,
}

const OF_A_PAYMENT: [&str; 11] = ["at", "usd", "agent", "entry", "host", "method", "payee", "network", "session", "count", "every"];

pub(crate) fn cases(file: &Node) -> Vec<Case> {
    file.get("cases").items().into_iter().map(case).collect()
}

fn text(node: &Node, key: &str, default: &str) -> String {
    node.get(key).text().unwrap_or(default).to_owned()
}

fn maybe(node: &Node, key: &str) -> Option<String> {
    node.get(key).text().map(str::to_owned)
}

fn set(node: &Node) -> BTreeSet<String> {
    node.texts().into_iter().map(str::to_owned).collect()
}

fn case(node: &Node) -> Case {
    let request = request(node.get("request").text().expect("a request"));
    let offers: Vec<Offer> = node.get("offers").items().into_iter().map(offer).collect();
    let expect = node.get("expect");
    let maybe_set = |key: &str| expect.get(key).is_there().then(|| set(expect.get(key)));
    let mut case = Case {
        name: text(node, "name", ""),
        agent: text(node, "agent", ""),
        session: maybe(node, "session"),
        at: instant(node.get("at").text().expect("a time")),
        context: maybe(node, "context"),
        request,
        offers,
        paid: vec![],
        frozen_agents: node.get("frozen").get("agents").texts().into_iter().map(str::to_owned).collect(),
        frozen_hosts: node.get("frozen").get("hosts").texts().into_iter().map(host::plain).collect(),
        granted: set(node.get("granted")),
        wallet: maybe(node, "wallet"),
        expect: Expect {
            verdict: text(expect, "verdict", ""),
            reasons: maybe_set("reasons"),
            rules: maybe_set("rules"),
            groups: maybe_set("groups"),
            entry: maybe(expect, "entry"),
            usd: expect.get("usd").text().map(micro),
            offer: expect.get("offer").text().map(|t| t.parse().expect("an index")),
        },
    };
    case.paid = node.get("paid").items().into_iter().flat_map(|p| paid(p, &case)).collect();
    case
}

/// "GET https://host:port/path?query"
pub(crate) fn request(line: &str) -> Request {
    let (method, url) = line.split_once(' ').expect("a method and a URL");
    let (scheme, rest) = url.split_once("://").expect("a scheme");
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let after_v6 = authority.rfind(']').map_or(0, |end| end + 1);
    let (name, port) = match authority[after_v6..].split_once(':') {
        Some((_, port)) => (&authority[..authority.len() - port.len() - 1], port.parse().expect("a port")),
        None => (authority, if scheme == "https" { 443 } else { 80 }),
    };
    let path = path.split('?').next().expect("a first part");
    Request {
        method: method.to_owned(),
        scheme: scheme.to_owned(),
        host: host::plain(name),
        port,
        path: if path.is_empty() { "/".to_owned() } else { path.to_owned() },
    }
}

fn offer(node: &Node) -> Offer {
    Offer {
        usd: node.get("usd").text().map(micro),
        atomic: maybe(node, "atomic"),
        network: text(node, "network", ""),
        asset: text(node, "asset", "USDC"),
        payee: text(node, "payee", "").to_lowercase(),
        scheme: text(node, "scheme", "exact"),
        flow: text(node, "flow", "authorization"),
        transfer: text(node, "transfer", "eip3009"),
        protocol: text(node, "protocol", "x402v2"),
        timeout: text(node, "timeout", "60"),
        extra: node.get("extra").pairs().iter().filter_map(|(k, v)| Some((k.clone(), v.text()?.to_owned()))).collect(),
    }
}

/// `count` payments, each `every` after the one before.
fn paid(node: &Node, case: &Case) -> Vec<Paid> {
    let first = case.offers.first();
    let count: i128 = text(node, "count", "1").parse().expect("a number");
    let every = span_ms(&text(node, "every", "0s"));
    let at = instant(node.get("at").text().expect("a time"));
    let one = |n: i128| Paid {
        at: at + SignedDuration::from_millis(i64::try_from(n * every).expect("a short while")),
        usd: micro(node.get("usd").text().expect("an amount")),
        agent: text(node, "agent", &case.agent),
        entry: text(node, "entry", ""),
        host: host::plain(&text(node, "host", &case.request.host)),
        method: text(node, "method", &case.request.method),
        payee: text(node, "payee", first.map_or("", |o| &o.payee)).to_lowercase(),
        network: text(node, "network", first.map_or("", |o| &o.network)),
        session: maybe(node, "session"),
        context: node.pairs().iter().filter_map(|(k, v)| Some((k.clone(), v.text()?.to_owned()))).filter(of_context).collect(),
        delivered: text(node, "delivered", "true") == "true",
    };
    (0..count).map(one).collect()
}

fn of_context((key, _): &(String, String)) -> bool {
    !OF_A_PAYMENT.contains(&key.as_str()) && key != "delivered"
}
