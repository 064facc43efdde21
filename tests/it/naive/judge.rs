//! M3.4, step by step, for one case.

use super::case::{Case, Expect, Offer, Paid};
use super::cel::{self, Value, score};
use super::context::context;
use super::host;
use super::money::micro;
use super::offer::{Priced, TESTNETS, asset_id, validate};
use super::time::{ms, open, period, rolls, span_ms};
use super::yaml::Node;
use std::collections::{BTreeMap, BTreeSet};

/// What the naive evaluator says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Opinion {
    /// `allow`, `ask` or `deny`.
    pub(crate) verdict: String,
    pub(crate) reasons: BTreeSet<String>,
    /// Names of the rules in the way, as far as they have one.
    pub(crate) rules: BTreeSet<String>,
    /// Groups whose yes is missing, for the chosen offer.
    pub(crate) groups: BTreeSet<String>,
    pub(crate) entry: Option<String>,
    pub(crate) usd: Option<i128>,
    pub(crate) offer: Option<usize>,
    /// Seconds: how long the ticket lives.
    pub(crate) timeout: Option<i128>,
}

const DAY: i128 = 86_400_000;
const WINDOWS: [&str; 5] = ["hour", "day", "week", "month", "total"];

/// Everything in the way of one offer.
#[derive(Default)]
struct Found {
    denied: Vec<(&'static str, String)>,
    /// Reason, rule, and the groups of which one must say yes.
    asked: Vec<(&'static str, String, Vec<String>)>,
}

impl Found {
    fn deny(&mut self, reason: &'static str, rule: impl Into<String>) {
        self.denied.push((reason, rule.into()));
    }

    fn ask(&mut self, reason: &'static str, rule: impl Into<String>, groups: Vec<String>) {
        self.asked.push((reason, rule.into(), groups));
    }
}

struct Bench<'a> {
    policy: &'a Node,
    case: &'a Case,
    zone: &'a str,
    agent: &'a Node,
    group: &'a Node,
    context: BTreeMap<String, Value>,
}

pub(crate) fn judge(policy: &Node, case: &Case) -> Opinion {
    let agent = policy.get("agents").get(&case.agent);
    if let Some(reason) = gate(case, agent) {
        return Opinion { verdict: "deny".to_owned(), reasons: [reason.to_owned()].into(), ..Opinion::default() };
    }
    let bench = Bench {
        policy,
        case,
        zone: policy.get("timezone").text().unwrap_or("UTC"),
        agent,
        group: agent.get("group").text().map_or(&Node::Nothing, |g| policy.get("groups").get(g)),
        context: context(policy, case.context.as_deref().unwrap_or("")),
    };
    let mut opinion = Opinion { verdict: "deny".to_owned(), ..Opinion::default() };
    let mut ranked = vec![];
    for (index, offer) in case.offers.iter().enumerate() {
        match validate(policy, case, offer) {
            Err(reason) => {
                opinion.reasons.insert(reason.to_owned());
            }
            Ok(priced) => {
                let entry = bench.entry(offer, true, true);
                let found = bench.collect(offer, &priced, entry);
                let reasons = found.denied.iter().map(|(r, _)| *r).chain(found.asked.iter().map(|(r, _, _)| *r));
                opinion.reasons.extend(reasons.map(str::to_owned));
                let rules = found.denied.iter().map(|(_, r)| r).chain(found.asked.iter().map(|(_, r, _)| r));
                opinion.rules.extend(rules.filter(|r| !r.is_empty()).cloned());
                if found.denied.is_empty() {
                    ranked.push((bench.rank(offer, &priced, entry, found.asked.is_empty()), index, priced, entry, found));
                }
            }
        }
    }
    ranked.sort_by(|a, b| a.0.cmp(&b.0));
    let Some((_, index, priced, entry, found)) = ranked.into_iter().next() else { return opinion };
    opinion.entry = entry.and_then(|e| e.get("id").text()).map(str::to_owned);
    opinion.usd = Some(priced.micro);
    opinion.offer = Some(index);
    if found.asked.is_empty() {
        opinion.verdict = "allow".to_owned();
        opinion.reasons.clear();
        opinion.rules.clear();
        return opinion;
    }
    opinion.verdict = "ask".to_owned();
    opinion.groups = found.asked.iter().flat_map(|(_, _, groups)| groups.clone()).collect();
    opinion.timeout =
        opinion.groups.iter().filter_map(|g| policy.get("approvers").get(g).get("timeout").text()).map(|t| span_ms(t) / 1000).min();
    opinion
}

/// Step 0. The first gate ends the decision with its reason alone.
fn gate(case: &Case, agent: &Node) -> Option<&'static str> {
    if case.frozen_agents.contains(&case.agent) {
        return Some("agent_frozen");
    }
    if case.frozen_hosts.contains(&case.request.host) {
        return Some("host_frozen");
    }
    if !agent.is_there() {
        return Some("unknown_agent");
    }
    if agent.get("sessions").get("required").is_true() && case.session.is_none() {
        return Some("session_required");
    }
    if ["HEAD", "OPTIONS", "TRACE", "CONNECT"].contains(&case.request.method.as_str()) {
        return Some("method_not_payable");
    }
    if !host::path_is_normal(&case.request.path) {
        return Some("path_not_normal");
    }
    None
}

impl<'a> Bench<'a> {
    /// The first allow entry in file order that selects this offer. The two flags switch off plain_http and testnets, to tell
    /// the reason.
    fn entry(&self, offer: &Offer, mind_http: bool, mind_testnet: bool) -> Option<&'a Node> {
        self.agent.get("allow").items().into_iter().find(|entry| self.selects(entry, offer, mind_http, mind_testnet))
    }

    fn selects(&self, entry: &Node, offer: &Offer, mind_http: bool, mind_testnet: bool) -> bool {
        let request = &self.case.request;
        let list = |key: &str| {
            let own = entry.get(key);
            if own.is_there() { own } else { self.policy.get("defaults").get(key) }
        };
        let listed = |node: &Node, value: &str| !node.is_there() || node.texts().contains(&value);
        let or = |node: &Node, value: &str, default: &str| if node.is_there() { node.texts().contains(&value) } else { value == default };
        let testnet = TESTNETS.contains(&offer.network.as_str());
        let pay_to = list("pay_to");
        self.names_host_and_path(entry)
            && host::port_matches(entry, request)
            && listed(entry.get("methods"), &request.method)
            && (request.scheme == "https" || entry.get("plain_http").is_true() || !mind_http)
            && listed(entry.get("networks"), &offer.network)
            && (!testnet || entry.get("networks").is_there() || !mind_testnet)
            && self.names_asset(entry, offer)
            && listed(entry.get("protocols"), &offer.protocol)
            && listed(entry.get("schemes"), &offer.scheme)
            && or(list("flows"), &offer.flow, "authorization")
            && or(list("transfer"), &offer.transfer, "eip3009")
            && (!matches!(pay_to, Node::List(_)) || names_payee(pay_to, offer))
    }

    fn names_host_and_path(&self, entry: &Node) -> bool {
        let request = &self.case.request;
        let hosts = entry.get("host");
        let paths = entry.get("paths");
        (!hosts.is_there() || hosts.texts().iter().any(|h| host::host_matches(h, &request.host)))
            && (!paths.is_there() || paths.texts().iter().any(|p| host::path_matches(p.as_bytes(), request.path.as_bytes())))
    }

    fn names_asset(&self, entry: &Node, offer: &Offer) -> bool {
        let assets = entry.get("assets");
        let this = asset_id(self.policy, &offer.network, &offer.asset);
        !assets.is_there() || assets.texts().iter().any(|a| asset_id(self.policy, &offer.network, a) == this)
    }

    /// A deny entry denies what has all it names; what it leaves out is anything.
    fn denies(&self, entry: &Node, offer: &Offer) -> bool {
        let listed = |key: &str, value: &str| !entry.get(key).is_there() || entry.get(key).texts().contains(&value);
        self.names_host_and_path(entry)
            && listed("ports", &self.case.request.port.to_string())
            && listed("methods", &self.case.request.method)
            && listed("networks", &offer.network)
            && listed("protocols", &offer.protocol)
            && listed("schemes", &offer.scheme)
            && listed("flows", &offer.flow)
            && listed("transfer", &offer.transfer)
            && self.names_asset(entry, offer)
            && (!entry.get("pay_to").is_there() || names_payee(entry.get("pay_to"), offer))
    }

    /// Step 2: everything, without stopping at the first.
    fn collect(&self, offer: &Offer, priced: &Priced, entry: Option<&Node>) -> Found {
        let mut found = Found::default();
        for deny in self.agent.get("deny").items() {
            if self.denies(deny, offer) {
                found.deny("denied", deny.get("id").text().unwrap_or(""));
            }
        }
        match entry {
            None => self.unmatched(offer, &mut found),
            Some(entry) => self.restrictions(entry, offer, priced, &mut found),
        }
        // without an entry nothing says allow_zero (M2.3)
        if priced.atomic == 0 && !entry.is_some_and(|e| e.get("allow_zero").is_true()) {
            found.deny("zero_amount", "");
        }
        let hours = self.agent.get("hours");
        if hours.is_there() && !open(hours, self.case.at, self.zone) {
            found.deny("outside_hours", "hours");
        }
        self.rules(offer, priced, entry, &mut found);
        self.rates(&mut found);
        let of_agent = |p: &&Paid| p.agent == self.case.agent;
        self.caps(&[self.agent.get("caps"), self.group.get("caps")], "caps", &of_agent, priced, offer, &mut found);
        self.session(priced, &mut found);
        for budget in self.policy.get("budgets").items() {
            self.budget(budget, priced, &mut found);
        }
        found.asked.retain(|(_, _, groups)| !groups.iter().any(|g| self.case.granted.contains(g)));
        found
    }

    fn unmatched(&self, offer: &Offer, found: &mut Found) {
        let unmatched = self.policy.get("defaults").get("unmatched");
        // test networks only when listed (M2.3), upfront and escrow only when listed (M1.7): nobody is asked about them
        let flows = self.policy.get("defaults").get("flows");
        let flow_is_off = if flows.is_there() { !flows.texts().contains(&offer.flow.as_str()) } else { offer.flow != "authorization" };
        let off = flow_is_off || TESTNETS.contains(&offer.network.as_str());
        match unmatched.get("ask").text() {
            Some(group) if !off => found.ask("approval_required", "", vec![group.to_owned()]),
            _ if self.entry(offer, false, true).is_some() => found.deny("plain_http", ""),
            _ if self.entry(offer, true, false).is_some() => found.deny("testnet_not_listed", ""),
            _ => found.deny("not_allowed", ""),
        }
    }

    /// What the matched entry restricts.
    fn restrictions(&self, entry: &Node, offer: &Offer, priced: &Priced, found: &mut Found) {
        let id = entry.get("id").text().expect("an id");
        if entry.get("max").text().is_some_and(|max| priced.micro > micro(max)) {
            found.deny("entry_max", format!("entry:{id}.max"));
        }
        let of_entry = |p: &&Paid| p.agent == self.case.agent && p.entry == id;
        self.caps(&[entry.get("caps")], &format!("entry:{id}.caps"), &of_entry, priced, offer, found);
        let own = entry.get("pay_to");
        let pay_to = if own.is_there() { own } else { self.policy.get("defaults").get("pay_to") };
        if pay_to.text().unwrap_or("pinned") == "pinned" && !matches!(pay_to, Node::List(_)) {
            let pin = self.consumed(id).into_iter().filter(|p| p.network == offer.network).min_by_key(|p| p.at);
            if pin.is_some_and(|p| p.payee != offer.payee) {
                match self.policy.get("risk").get("payee_change").get("ask").text() {
                    Some(group) => found.ask("payee_changed", "", vec![group.to_owned()]),
                    None => found.deny("payee_changed", ""),
                }
            }
        }
    }

    /// Purchases under an entry at this host whose answer was handed over, whatever their method and age.
    fn consumed(&self, entry: &str) -> Vec<&Paid> {
        let here = |p: &&Paid| p.delivered && p.agent == self.case.agent && p.entry == entry && p.host == self.case.request.host;
        self.case.paid.iter().filter(here).collect()
    }

    /// Caps over payments that `counts`; the smallest of several texts is the one in effect.
    fn caps(&self, caps: &[&Node], name: &str, counts: &dyn Fn(&&Paid) -> bool, priced: &Priced, offer: &Offer, found: &mut Found) {
        let smallest = |key: &str| caps.iter().filter_map(|c| c.get(key).text()).map(micro).min();
        let sum = |also: &dyn Fn(&&Paid) -> bool| self.case.paid.iter().filter(counts).filter(also).map(|p| p.usd).sum::<i128>();
        let today = |p: &&Paid| self.same_period("day", p);
        if smallest("per_payment").is_some_and(|cap| priced.micro > cap) {
            found.deny("cap_per_payment", format!("{name}.per_payment"));
        }
        for (window, reason) in WINDOWS.iter().zip(["cap_hour", "cap_day", "cap_week", "cap_month", "cap_total"]) {
            let spent = sum(&|p| self.same_period(window, p));
            if smallest(window).is_some_and(|cap| spent + priced.micro > cap) {
                found.deny(reason, format!("{name}.{window}"));
            }
        }
        let spans: BTreeSet<&String> = caps.iter().flat_map(|c| c.get("rolling").pairs()).map(|(span, _)| span).collect();
        for span in spans {
            let cap = caps.iter().filter_map(|c| c.get("rolling").get(span).text()).map(micro).min().expect("one has it");
            let spent = sum(&|p| rolls(p.at, self.case.at, span_ms(span)));
            if spent + priced.micro > cap {
                found.deny("cap_rolling", format!("{name}.rolling.{span}"));
            }
        }
        let at_host = sum(&|p| today(p) && p.host == self.case.request.host);
        if smallest("per_host_day").is_some_and(|cap| at_host + priced.micro > cap) {
            found.deny("cap_host", format!("{name}.per_host_day"));
        }
        let to_payee = sum(&|p| today(p) && p.payee == offer.payee);
        if smallest("per_payee_day").is_some_and(|cap| to_payee + priced.micro > cap) {
            found.deny("cap_agent_payee", format!("{name}.per_payee_day"));
        }
    }

    fn same_period(&self, window: &str, paid: &Paid) -> bool {
        period(window, paid.at, self.zone) == period(window, self.case.at, self.zone)
    }

    fn rates(&self, found: &mut Found) {
        for (key, span) in [("per_minute", 60_000), ("per_hour", 3_600_000)] {
            let limits = [self.agent.get("rate"), self.group.get("rate")];
            let Some(limit) = limits.iter().filter_map(|r| r.get(key).text()).map(|t| t.parse::<usize>().expect("a count")).min() else {
                continue;
            };
            let recent = |p: &&Paid| p.agent == self.case.agent && ms(self.case.at) - ms(p.at) < span;
            if self.case.paid.iter().filter(recent).count() + 1 > limit {
                found.deny("rate_limited", format!("rate.{key}"));
            }
        }
    }

    fn session_spent(&self) -> i128 {
        let same = |p: &&Paid| p.agent == self.case.agent && p.session == self.case.session;
        self.case.paid.iter().filter(same).map(|p| p.usd).sum()
    }

    fn session(&self, priced: &Priced, found: &mut Found) {
        let Some(max) = self.agent.get("sessions").get("max").text() else { return };
        if self.case.session.is_some() && self.session_spent() + priced.micro > micro(max) {
            found.deny("cap_session", "session.max");
        }
    }

    fn budget(&self, budget: &Node, priced: &Priced, found: &mut Found) {
        let agents = budget.get("agents");
        let member = |name: &str| !agents.is_there() || agents.text() == Some("all") || agents.texts().contains(&name);
        if !member(&self.case.agent) {
            return;
        }
        let key = budget.get("per").text();
        // no customer is a bucket too, the one without a name
        let mine = key.and_then(|k| self.context.get(k)).and_then(|v| if let Value::Text(t) = v { Some(t.clone()) } else { None });
        let same_bucket = |p: &&Paid| key.is_none_or(|k| p.context.get(k) == mine.as_ref());
        let window = budget.get("window").text().unwrap_or("total");
        let counts = |p: &&Paid| member(&p.agent) && same_bucket(p) && self.same_period(window, p);
        let spent: i128 = self.case.paid.iter().filter(counts).map(|p| p.usd).sum();
        if spent + priced.micro <= micro(budget.get("limit").text().expect("a limit")) {
            return;
        }
        let name = budget.get("name").text().expect("a name");
        let able = self.policy.get("approvers").pairs().iter().filter(|(_, g)| g.get("may_exceed").texts().contains(&name));
        let able: Vec<String> = able.map(|(group, _)| group.clone()).collect();
        let rule = format!("budget:{name}");
        if budget.get("over").text() == Some("ask") && !budget.get("hard").is_true() && !able.is_empty() {
            found.ask("budget_exceeded", rule, able);
        } else {
            found.deny("budget_exceeded", rule);
        }
    }

    fn rules(&self, offer: &Offer, priced: &Priced, entry: Option<&Node>, found: &mut Found) {
        for rule in self.agent.get("rules").items() {
            let id = rule.get("id").text().unwrap_or("");
            let names = |name: &str| self.variable(name, offer, priced, entry);
            match cel::truth(rule.get("when").text().expect("a condition"), &names) {
                Err(_) => found.deny("rule_error", id),
                Ok(false) => {}
                Ok(true) => match rule.get("then").get("ask").text() {
                    Some(group) => found.ask("approval_required", id, vec![group.to_owned()]),
                    None => found.deny("rule_denied", id),
                },
            }
        }
    }

    fn variable(&self, name: &str, offer: &Offer, priced: &Priced, entry: Option<&Node>) -> Option<Value> {
        let text = |t: &str| Some(Value::Text(t.to_owned()));
        let request = &self.case.request;
        match name.split_once('.').unwrap_or((name, "")) {
            ("agent", "") => text(&self.case.agent),
            ("price", "usd") => Some(Value::Money(priced.micro)),
            ("request", "method") => text(&request.method),
            ("request", "host") => text(&request.host),
            ("request", "port") => Some(Value::Whole(i128::from(request.port))),
            ("request", "path") => text(&request.path),
            ("offer", "protocol") => text(&offer.protocol),
            ("offer", "scheme") => text(&offer.scheme),
            ("offer", "flow") => text(&offer.flow),
            ("offer", "network") => text(&offer.network),
            ("offer", "payee") => text(&offer.payee),
            ("ctx", key) => self.context.get(key).cloned(),
            ("challenge", key) => offer.extra.iter().find(|(k, _)| k == key).map(|(_, v)| Value::Score(score(v))),
            ("session", field) => self.session_field(field),
            ("spent", window) => {
                let mine = |p: &&Paid| p.agent == self.case.agent && self.same_period(window, p);
                Some(Value::Money(self.case.paid.iter().filter(mine).map(|p| p.usd).sum()))
            }
            ("history", field) => self.history(field, entry),
            _ => panic!("no variable {name}"),
        }
    }

    fn session_field(&self, field: &str) -> Option<Value> {
        let name = self.case.session.clone()?;
        match field {
            "name" => Some(Value::Text(name)),
            "spent_usd" => Some(Value::Money(self.session_spent())),
            _ => self.agent.get("sessions").get("max").text().map(|max| Value::Money((micro(max) - self.session_spent()).max(0))),
        }
    }

    /// M3.3: the last 50 consumed purchases within 30 days, per wallet, entry, host and method.
    fn history(&self, field: &str, entry: Option<&Node>) -> Option<Value> {
        let id = entry.and_then(|e| e.get("id").text());
        let mut all: Vec<&Paid> = id.map_or(vec![], |id| self.consumed(id));
        all.retain(|p| p.method == self.case.request.method);
        all.sort_by_key(|p| p.at);
        let first = all.first().map(|p| p.usd);
        let mut recent: Vec<&Paid> = all.into_iter().filter(|p| ms(self.case.at) - ms(p.at) <= 30 * DAY).collect();
        recent.drain(..recent.len().saturating_sub(50));
        match field {
            "count" => Some(Value::Whole(recent.len().try_into().expect("small"))),
            "first_usd" => first.map(Value::Money),
            "last_usd" => recent.last().map(|p| Value::Money(p.usd)),
            "median_usd" => {
                let mut prices: Vec<i128> = recent.iter().map(|p| p.usd).collect();
                prices.sort_unstable();
                prices.get(prices.len().saturating_sub(1) / 2).map(|m| Value::Money(*m))
            }
            other => panic!("no history.{other}"),
        }
    }

    /// Step 3: allow before ask; then flow and transfer by their lists' order, price, network, asset, payee, amount.
    fn rank(
        &self,
        offer: &Offer,
        priced: &Priced,
        entry: Option<&Node>,
        allowed: bool,
    ) -> (bool, usize, usize, i128, String, String, String, i128) {
        let place = |key: &str, value: &str| {
            let own = entry.map_or(&Node::Nothing, |e| e.get(key));
            let list = if own.is_there() { own } else { self.policy.get("defaults").get(key) };
            list.texts().iter().position(|t| *t == value).unwrap_or(0)
        };
        (
            !allowed,
            place("flows", &offer.flow),
            place("transfer", &offer.transfer),
            priced.micro,
            offer.network.to_lowercase(),
            priced.asset.clone(),
            offer.payee.clone(),
            priced.atomic,
        )
    }
}

fn names_payee(list: &Node, offer: &Offer) -> bool {
    list.texts().iter().any(|p| p.to_lowercase() == offer.payee)
}

impl Opinion {
    /// What differs from what a case expects; keys that are not written are not compared.
    pub(crate) fn meets(&self, expect: &Expect) -> Result<(), String> {
        let mut wrong = vec![];
        let mut check = |what: &str, same: bool, found: String| {
            if !same {
                wrong.push(format!("{what} is {found}"));
            }
        };
        check("verdict", self.verdict == expect.verdict, self.verdict.clone());
        check("reasons", expect.reasons.as_ref().is_none_or(|r| *r == self.reasons), format!("{:?}", self.reasons));
        check("rules", expect.rules.as_ref().is_none_or(|r| *r == self.rules), format!("{:?}", self.rules));
        check("groups", expect.groups.as_ref().is_none_or(|g| *g == self.groups), format!("{:?}", self.groups));
        check("entry", expect.entry.is_none() || expect.entry == self.entry, format!("{:?}", self.entry));
        check("usd", expect.usd.is_none() || expect.usd == self.usd, format!("{:?}", self.usd));
        check("offer", expect.offer.is_none() || expect.offer == self.offer, format!("{:?}", self.offer));
        if wrong.is_empty() { Ok(()) } else { Err(wrong.join("; ")) }
    }
}
