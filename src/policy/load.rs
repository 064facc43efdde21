//! Files → [`Policy`]: the sections of all files are united first, then assets, defaults, groups and agents are compiled in
//! that order, each into its final type. Whatever is wrong is reported at its line and column, all of it in one go.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use jiff::tz::{TimeZone, TimeZoneDatabase};
use sha2::{Digest as _, Sha256};

use super::approvers::Approvers;
use super::assets::{self, Assets};
use super::budget::{self, SharedBudget};
use super::caps::{self, Caps, Rates};
use super::context::ContextKeys;
use super::cosigner::{self, MAX_LIFETIME, Role};
use super::egress::Egress;
use super::entry::{self, Context};
use super::hours::Hours;
use super::read::{Fields, Report, duration, fields, list, named, one, shown, text};
use super::risk::{self, Risk, deny_or_ask};
use super::rule::{Agent, PayTo};
use super::sessions::Sessions;
use super::watching::is_list;
use super::yaml::{self, Node, Pair, Pos, Value};
use super::{Policy, PolicyErrors, RefusalBody, Scope, Source, lint, rules};
use crate::payment::{AgentId, Flow, TransferMethod};

/// What `defaults` says, with what holds where it says nothing.
pub(super) struct Defaults {
    pub(super) pay_to: PayTo,
    pub(super) flows: Vec<Flow>,
    pub(super) transfer: Vec<TransferMethod>,
    pub(super) lifetime: Duration,
    refusal_body: RefusalBody,
    /// How long an agent waits for people.
    hold: Duration,
    /// Who is asked about what no allow entry takes; `None` denies.
    unmatched: Option<Arc<str>>,
}

impl Defaults {
    /// On a co-signer the payee is listed, or proven otherwise, and a window may last as long as one may at all.
    fn of(role: Role) -> Self {
        let (pay_to, lifetime) = if role.is_cosigner() { (PayTo::Listed, MAX_LIFETIME) } else { (PayTo::Pinned, 300) };
        Self {
            pay_to,
            flows: vec![Flow::Authorization],
            transfer: vec![TransferMethod::Eip3009],
            lifetime: Duration::from_secs(lifetime),
            refusal_body: RefusalBody::Problem,
            hold: Duration::from_secs(20),
            unmatched: None,
        }
    }
}

/// The sections of all files.
#[derive(Default)]
struct Sections<'a> {
    timezone: Option<&'a Node>,
    defaults: Option<&'a Node>,
    egress: Option<&'a Node>,
    groups: Vec<&'a Pair>,
    agents: Vec<&'a Pair>,
    assets: Vec<&'a Node>,
    context: Option<&'a Node>,
    budgets: Vec<&'a Node>,
    risk: Option<&'a Node>,
    approvers: Vec<&'a Pair>,
    cosigner: cosigner::Sections<'a>,
}

/// Builds the policy of `sources`.
pub(super) fn policy(sources: &[Source], epoch: u64, cosigner: bool) -> Result<Policy, PolicyErrors> {
    let mut report = Report::default();
    let roots = trees(sources, &mut report)?;
    let sections = Sections::unite(&roots, cosigner, &mut report);
    let role = if cosigner { Role::Cosigner { unverified: sections.cosigner.unverified.is_some() } } else { Role::Proxy };
    let zone = sections.timezone.and_then(|node| zone(node, &mut report)).unwrap_or(TimeZone::UTC);
    let approvers = Approvers::read(&sections.approvers, &mut report);
    let defaults = sections.defaults.and_then(|node| read_defaults(node, role, &approvers, &mut report));
    let defaults = defaults.unwrap_or_else(|| Defaults::of(role));
    let context_keys = sections.context.map(|node| ContextKeys::read(node, &mut report)).unwrap_or_default();
    let Assets { table, fresh } = assets::read(&sections.assets, &zone, &mut report);
    let groups = read_groups(&sections.groups, !cosigner, &mut report);
    let egress = sections.egress.map(|node| Egress::read(node, &mut report)).unwrap_or_default();
    let risk = sections.risk.map_or_else(Risk::default, |node| risk::read(node, &approvers, sources, &mut report));
    let own = cosigner.then(|| cosigner::read(&sections.cosigner, &mut report));

    let mut agents = HashMap::new();
    for pair in sections.agents {
        let Some(id) = agent_id(pair, &mut report) else { continue };
        let context =
            Context { agent: &id, defaults: &defaults, egress: &egress, assets: &table, role, keys: &context_keys, approvers: &approvers };
        if let Some(agent) = agent(&pair.value, &context, &groups, &mut report) {
            agents.insert(id, agent);
        }
    }
    let by_name = agents.keys().map(|id: &AgentId| (id.as_str().to_owned(), id.clone())).collect();
    let budgets = budget::read(&sections.budgets, &by_name, &approvers, context_keys.has_customer(), &mut report);
    share(&mut agents, &budgets);
    let warnings = report.finish()?;
    let mut names: Vec<AgentId> = agents.keys().cloned().collect();
    names.sort();
    let refusal_body = defaults.refusal_body;
    Ok(Policy {
        digest: digest(sources),
        epoch,
        zone,
        assets: table,
        fresh,
        refusal_body,
        hold: defaults.hold,
        context: context_keys,
        budgets,
        approvers: approvers.groups,
        risk,
        egress,
        agents,
        names,
        warnings,
        cosigner: own,
    })
}

/// Tells each agent which shared budgets it draws on: a decision looks at no others.
fn share(agents: &mut HashMap<AgentId, Agent>, budgets: &[SharedBudget]) {
    for (index, budget) in budgets.iter().enumerate() {
        match budget.members.listed() {
            None => agents.values_mut().for_each(|agent| agent.budgets.push(index)),
            Some(listed) => listed.iter().for_each(|id| {
                if let Some(agent) = agents.get_mut(id) {
                    agent.budgets.push(index);
                }
            }),
        }
    }
}

/// SHA-256 over the texts, each with its length: the same rules under other file names have the same digest.
pub(super) fn digest(sources: &[Source]) -> Arc<str> {
    let mut hash = Sha256::new();
    for source in sources {
        hash.update(source.text.len().to_be_bytes());
        hash.update(&source.text);
    }
    let mut hex = String::with_capacity(64);
    for byte in hash.finalize() {
        let _ = write!(hex, "{byte:02x}");
    }
    hex.into()
}

/// One tree per file. Bad syntax ends the load here: what the file would have said is unknown.
fn trees(sources: &[Source], report: &mut Report) -> Result<Vec<Node>, PolicyErrors> {
    let mut roots = Vec::new();
    let mut readable = true;
    for source in sources {
        if is_list(source) {
            continue;
        }
        match yaml::parse(&source.name, &source.text, &mut report.errors) {
            Ok(root) => roots.push(root),
            Err(error) => {
                readable = false;
                report.errors.push(error);
            }
        }
    }
    if sources.iter().all(is_list) {
        let at = Pos { file: "policy".into(), line: 1, column: 1 };
        report.error(&at, "there is no policy file: write one that begins with `version: 1`");
        readable = false;
    }
    if readable { Ok(roots) } else { Err(std::mem::take(report).finish().err().unwrap_or_else(|| PolicyErrors(Vec::new()))) }
}

impl<'a> Sections<'a> {
    fn unite(roots: &'a [Node], cosigner: bool, report: &mut Report) -> Self {
        let mut known = vec!["version", "timezone", "defaults", "groups", "agents", "assets"];
        if cosigner {
            known.extend(cosigner::KEYS);
        } else {
            known.extend(["egress", "context", "budgets", "risk", "approvers"]);
        }
        let mut all = Self::default();
        for root in roots {
            if matches!(root.value, Value::Null) {
                report.error(&root.at, "the file is empty: write `version: 1` and `agents`");
                continue;
            }
            let Some(file) = fields(root, "policy", &known, report) else { continue };
            match file.get("version") {
                None => report.error(file.at, "`version` is missing: write `version: 1`"),
                Some(node) => {
                    one(node, "version", report, |t| {
                        (t == "1").then_some(()).ok_or_else(|| format!("\"{}\" is not a version of this format: write 1", shown(t)))
                    });
                }
            }
            single(&mut all.timezone, file.get("timezone"), "timezone", report);
            single(&mut all.defaults, file.get("defaults"), "defaults", report);
            single(&mut all.egress, file.get("egress").filter(|_| !cosigner), "egress", report);
            unique(&mut all.groups, file.get("groups"), "groups", report);
            unique(&mut all.agents, file.get("agents"), "agents", report);
            all.proxy_keys(&file, cosigner, report);
            all.cosigner_keys(&file, cosigner, report);
            all.assets.extend(file.get("assets").map_or(&[][..], |node| list(node, "assets", report)));
        }
        all
    }

    fn proxy_keys(&mut self, file: &Fields<'a>, cosigner: bool, report: &mut Report) {
        if cosigner {
            return;
        }
        single(&mut self.context, file.get("context"), "context", report);
        single(&mut self.risk, file.get("risk"), "risk", report);
        unique(&mut self.approvers, file.get("approvers"), "approvers", report);
        self.budgets.extend(file.get("budgets").map_or(&[][..], |node| list(node, "budgets", report)));
    }

    fn cosigner_keys(&mut self, file: &Fields<'a>, cosigner: bool, report: &mut Report) {
        if !cosigner {
            return;
        }
        single(&mut self.cosigner.caps, file.get("caps"), "caps", report);
        single(&mut self.cosigner.unverified, file.get("unverified"), "unverified", report);
        single(&mut self.cosigner.live, file.get("live"), "live", report);
        unique(&mut self.cosigner.approvers, file.get("approvers"), "approvers", report);
    }
}

fn single<'a>(slot: &mut Option<&'a Node>, node: Option<&'a Node>, what: &str, report: &mut Report) {
    match (&slot, node) {
        (Some(first), Some(second)) => {
            let (file, line) = (&first.at.file, first.at.line);
            report.error(&second.at, format!("`{what}` stands in {file}:{line} already: keep it in one file"));
        }
        (None, Some(node)) => *slot = Some(node),
        (_, None) => {}
    }
}

fn unique<'a>(all: &mut Vec<&'a Pair>, node: Option<&'a Node>, what: &str, report: &mut Report) {
    let mut known: HashMap<&str, &'a Pair> = all.iter().map(|p| (p.key.as_str(), *p)).collect();
    for pair in node.map_or(&[][..], |node| named(node, what, report)) {
        match known.get(pair.key.as_str()) {
            Some(first) => {
                let (file, line) = (&first.at.file, first.at.line);
                report.error(&pair.at, format!("{what}: `{}` is defined in {file}:{line} already: keep one of them", shown(&pair.key)));
            }
            None => {
                known.insert(&pair.key, pair);
                all.push(pair);
            }
        }
    }
}

fn zone(node: &Node, report: &mut Report) -> Option<TimeZone> {
    one(node, "timezone", report, |name| {
        let fault = |_| format!("\"{}\" is not a time zone: write an IANA name such as America/Lima, or UTC", shown(name));
        TimeZoneDatabase::bundled().get(name).map_err(fault)
    })
}

fn read_defaults(node: &Node, role: Role, approvers: &Approvers, report: &mut Report) -> Option<Defaults> {
    let known = ["unmatched", "pay_to", "flows", "transfer", "lifetime", "refusal_body", "hold"];
    let known = if role.is_cosigner() { &known[..known.len() - 1] } else { &known[..] };
    let map = fields(node, "defaults", known, report)?;
    let mut defaults = Defaults::of(role);
    if let Some(node) = map.get("unmatched") {
        defaults.unmatched = deny_or_ask(node, "defaults.unmatched", approvers, report).flatten();
    }
    if let Some(node) = map.get("hold") {
        defaults.hold = hold(node, report).unwrap_or(defaults.hold);
    }
    if let Some(node) = map.get("pay_to")
        && let Some(pay_to) = one(node, "defaults.pay_to", report, |t| match t {
            "pinned" => Ok(PayTo::Pinned),
            "any" => Ok(PayTo::Any),
            _ => Err(format!("\"{}\": write pinned or any (a list of payees belongs into an allow entry)", shown(t))),
        })
    {
        if role == (Role::Cosigner { unverified: false }) {
            report.error(
                &node.at,
                "defaults.pay_to: a co-signer takes no payee on somebody's word: remove it, and give each allow entry its own proof",
            );
        } else if pay_to == PayTo::Any {
            report.warn(&node.at, "defaults.pay_to: any pays whoever the seller names, also after it changed: prefer pinned or a list");
        }
        defaults.pay_to = pay_to;
    }
    if let Some(node) = map.get("flows") {
        defaults.flows = entry::flows(node, "defaults.flows", report);
    }
    if let Some(node) = map.get("transfer") {
        defaults.transfer = entry::transfer(node, "defaults.transfer", report);
    }
    if let Some(node) = map.get("lifetime") {
        defaults.lifetime = lifetime(node, "defaults.lifetime", role, report).unwrap_or(defaults.lifetime);
    }
    if let Some(node) = map.get("refusal_body") {
        let read = |t: &str| match t {
            "problem" => Ok(RefusalBody::Problem),
            "seller" => Ok(RefusalBody::Seller),
            _ => Err(format!("\"{}\": write problem (our explanation) or seller (the seller's own 402)", shown(t))),
        };
        defaults.refusal_body = one(node, "defaults.refusal_body", report, read).unwrap_or_default();
    }
    Some(defaults)
}

/// How long an agent waits for people. Clients and proxies in between give up after some minutes.
fn hold(node: &Node, report: &mut Report) -> Option<Duration> {
    let hold = duration(node, "defaults.hold", report)?;
    if hold > Duration::from_secs(600) {
        report.error(
            &node.at,
            "defaults.hold: no client waits so long: write 600s or less, such as 20s; a ticket lives on for the group's `timeout`",
        );
        return None;
    }
    Some(hold)
}

/// A validity window. Less than ten seconds is never signed (M1.8), so it would refuse everything.
pub(super) fn lifetime(node: &Node, place: &str, role: Role, report: &mut Report) -> Option<Duration> {
    let lifetime = duration(node, place, report)?;
    if lifetime < Duration::from_secs(10) {
        report.error(&node.at, format!("{place}: under ten seconds nothing is signed: write 10s or more, such as 300s"));
        return None;
    }
    if role.is_cosigner() && lifetime > Duration::from_secs(MAX_LIFETIME) {
        report.error(
            &node.at,
            format!("{place}: a co-signer signs windows of at most {MAX_LIFETIME} seconds: write {MAX_LIFETIME}s or less"),
        );
        return None;
    }
    Some(lifetime)
}

type Groups<'a> = HashMap<&'a str, (Caps, Rates)>;

fn read_groups<'a>(pairs: &[&'a Pair], proxy: bool, report: &mut Report) -> Groups<'a> {
    let mut groups = Groups::new();
    for pair in pairs {
        if let Some(map) = fields(&pair.value, &format!("groups.{}", shown(&pair.key)), &["caps", "rate"], report) {
            let caps = map.get("caps").map(|node| caps::caps(node, proxy, report)).unwrap_or_default();
            let rates = map.get("rate").map(|node| caps::rates(node, report)).unwrap_or_default();
            groups.insert(&pair.key, (caps, rates));
        }
    }
    groups
}

fn agent_id(pair: &Pair, report: &mut Report) -> Option<AgentId> {
    match pair.key.parse() {
        Ok(id) => Some(id),
        Err(e) => {
            report.error(&pair.at, format!("agents: \"{}\" is {e}", shown(&pair.key)));
            None
        }
    }
}

/// How many of [`AGENT`], at its end, only a proxy reads.
const OF_PROXY: usize = 2;
const AGENT: [&str; 8] = ["group", "caps", "rate", "hours", "allow", "deny", "rules", "sessions"];

fn agent(node: &Node, context: &Context<'_>, groups: &Groups<'_>, report: &mut Report) -> Option<Agent> {
    let id = context.agent;
    let cosigner = context.role.is_cosigner();
    let known = if cosigner { &AGENT[..AGENT.len() - OF_PROXY] } else { &AGENT[..] };
    let map = fields(node, &format!("agents.{id}"), known, report)?;
    let mut own_caps = map.get("caps").map(|node| caps::caps(node, !cosigner, report)).unwrap_or_default();
    let own_rates = map.get("rate").map(|node| caps::rates(node, report)).unwrap_or_default();
    let (caps, rates) = match map.get("group").and_then(|node| group(node, groups, report)) {
        Some((name, (caps, rates))) => {
            let whose = format!("group `{name}`");
            (own_caps.within(caps, &whose, report), own_rates.within(rates, &whose, report))
        }
        None => {
            own_caps.broken |= map.get("group").is_some();
            (own_caps, own_rates)
        }
    };
    let mut ids = Vec::new();
    let allow = map.get("allow").map(|node| entry::allow(node, context, &caps, &mut ids, report)).unwrap_or_default();
    let deny = map.get("deny").map(|node| entry::deny(node, context, &mut ids, report)).unwrap_or_default();
    let rules = map.get("rules").filter(|_| !cosigner).map(|n| rules::read(n, context.keys, context.approvers, &mut ids, report));
    let hours = map.get("hours").and_then(|node| Hours::read(node, report));
    let sessions = map.get("sessions").filter(|_| !cosigner).and_then(|node| Sessions::read(node, report));
    let unmatched = context.defaults.unmatched.as_ref().map(|ask| (Arc::clone(ask), Box::new(entry::unmatched(context))));
    let place = map.get("allow").map_or(map.at, |node| &node.at);
    if allow.is_empty() && unmatched.is_none() {
        report.warn(place, format!("agent `{id}` has no allow entry: nothing is paid for it"));
    } else if !caps.broken {
        require_caps(id, &caps, place, report);
    }
    lint::agent(&allow, &deny, cosigner, report);
    context.egress.lint(&allow, report);
    let limits = caps.compile(Scope::Agent(id.clone()), "", &rates);
    let [host_day, payee_day] = caps.per_target();
    let (allow, deny) = (allow.into_iter().map(|(_, a)| a).collect(), deny.into_iter().map(|(_, d)| d).collect());
    let rules = rules.unwrap_or_default();
    Some(Agent { limits, host_day, payee_day, allow, deny, rules, hours, sessions, unmatched, budgets: Vec::new() })
}

/// An agent that may pay has a cap on one payment and one on a window (M3.1); `total` is not a window (M3.7).
fn require_caps(id: &AgentId, caps: &Caps, at: &Pos, report: &mut Report) {
    if caps.per_payment.is_none() {
        report.error(at, format!("agent `{id}` may pay but has no cap on one payment: write `caps: {{ per_payment: 0.05 }}` with the most one payment may cost"));
    }
    if !caps.has_window() {
        report.error(at, format!("agent `{id}` may pay but has no cap per hour, day, week or month: write one, such as `caps: {{ day: 5 }}` (`total` alone is not enough)"));
    }
}

fn group<'a>(node: &'a Node, groups: &'a Groups<'_>, report: &mut Report) -> Option<(&'a str, &'a (Caps, Rates))> {
    let name = text(node, "group", report)?;
    let found = groups.get(name);
    if found.is_none() {
        let mut known: Vec<&str> = groups.keys().copied().collect();
        known.sort_unstable();
        let known = if known.is_empty() { "none is defined".into() } else { format!("defined are {}", known.join(", ")) };
        report.error(&node.at, format!("group: there is no group `{}`; {known}: add it under `groups`", shown(name)));
    }
    found.map(|group| (name, group))
}
