//! `budgets`: money that several agents share (M3.7: a group's caps apply to each member; shared money is a budget).

use std::collections::HashMap;
use std::sync::Arc;

use super::approvers::Approvers;
use super::read::{Report, fields, flag, list, money, one, shown, texts};
use super::yaml::{Node, Pos, Value};
use super::{Members, RuleId, Window};
use crate::payment::{AgentId, MicroUsd};

/// A shared budget.
#[derive(Clone, Debug)]
pub(super) struct SharedBudget {
    /// `budget:NAME`.
    pub(super) rule: RuleId,
    pub(super) limit: MicroUsd,
    pub(super) window: Window,
    pub(super) members: Members,
    /// One such budget per customer of the request's context; requests without a customer share one (M3.7).
    pub(super) per_customer: bool,
    /// Whose yes may exceed it: groups that name it in `may_exceed`. Empty: it is never exceeded.
    pub(super) askers: Arc<[Arc<str>]>,
}

/// Reads the sections of all files, in file order.
pub(super) fn read(
    nodes: &[&Node],
    agents: &HashMap<String, AgentId>,
    approvers: &Approvers,
    customer: bool,
    report: &mut Report,
) -> Vec<SharedBudget> {
    let mut all: Vec<(Pos, SharedBudget, bool)> = Vec::new();
    for node in nodes {
        let Some((at, budget, asks)) = budget(node, agents, approvers, customer, report) else { continue };
        match all.iter().find(|(_, b, _)| b.rule == budget.rule) {
            Some((first, ..)) => {
                let (name, line) = (&budget.rule.0["budget:".len()..], first.line);
                report.error(&at, format!("budgets: the name `{name}` stands at line {line} already: give each budget its own"));
            }
            None => all.push((at, budget, asks)),
        }
    }
    let outer = all.iter().any(|(_, b, _)| !b.per_customer && b.members == Members::ALL);
    for (at, budget, _) in all.iter().filter(|(_, b, _)| b.per_customer && !outer) {
        let name = &budget.rule.0["budget:".len()..];
        report.error(at, format!("budgets.{name}: the agent names the customer, so a new name is new money: add a budget with `agents: all` and no `per` around it"));
    }
    check_approvers(&all, approvers, report);
    all.into_iter().map(|(_, budget, _)| budget).collect()
}

/// What groups may exceed must be there, and must say so itself (M3.7).
fn check_approvers(all: &[(Pos, SharedBudget, bool)], approvers: &Approvers, report: &mut Report) {
    for (group, name, at) in &approvers.exceeds {
        match all.iter().find(|(_, b, _)| b.rule.0.strip_prefix("budget:") == Some(name)) {
            None => {
                let names: Vec<&str> = all.iter().map(|(_, b, _)| &b.rule.0["budget:".len()..]).collect();
                let names = if names.is_empty() { "none is defined".to_owned() } else { format!("defined are {}", names.join(", ")) };
                report.error(at, format!("approvers.{group}.may_exceed: there is no budget `{}`; {names}", shown(name)));
            }
            Some((_, _, false)) => {
                let name = shown(name);
                report.warn(at, format!("approvers.{group}.may_exceed: `{name}` has no effect: the budget does not say `over: ask`"));
            }
            Some(_) => {}
        }
    }
}

const KEYS: [&str; 7] = ["name", "limit", "window", "agents", "per", "over", "hard"];

fn budget(
    node: &Node,
    agents: &HashMap<String, AgentId>,
    approvers: &Approvers,
    customer: bool,
    report: &mut Report,
) -> Option<(Pos, SharedBudget, bool)> {
    let map = fields(node, "budgets", &KEYS, report)?;
    let mut need = |key: &str, example: &str| {
        let found = map.get(key);
        if found.is_none() {
            report.error(map.at, format!("budgets: `{key}` is missing: write {example}"));
        }
        found
    };
    let name = need("name", "a short name, such as `name: team-data`");
    let limit = need("limit", "`limit: 500` in US dollars");
    let window = need("window", "`window: month` (hour, day, week, month or total)");
    let per = map.get("per");
    let who = if per.is_some() { map.get("agents") } else { need("agents", "`agents: all`, or a list of agents") };
    let name = name.and_then(|n| one(n, "budgets.name", report, super::entry::name_text))?;
    let place = |key: &str| format!("budgets.{name}.{key}");
    let limit = limit.and_then(|n| money(n, &place("limit"), report));
    let window = window.and_then(|n| one(n, &place("window"), report, window_text));
    let members = who.map_or(Some(Members::ALL), |n| members(n, &place("agents"), agents, report));
    let per_customer = per.and_then(|n| one(n, &place("per"), report, |t| per_text(t, customer))).is_some();
    let asks = map.get("over").and_then(|n| one(n, &place("over"), report, over_text)).unwrap_or(false);
    let hard = map.get("hard").and_then(|n| flag(n, &place("hard"), report)).unwrap_or(false);
    if let Some(node) = map.get("over").filter(|_| hard && asks) {
        report.error(&node.at, format!("{}: nobody may exceed a hard budget: remove `over: ask`, or `hard: true`", place("over")));
    }
    let able = |g: &&super::ApproverGroup| g.may_exceed.iter().any(|n| **n == *name);
    let askers: Vec<Arc<str>> = approvers.groups.values().filter(able).map(|g| Arc::clone(&g.name)).collect();
    if let Some(node) = map.get("over").filter(|_| asks && !hard && askers.is_empty()) {
        report.warn(
            &node.at,
            format!("{}: no group of `approvers` names it in `may_exceed`, so nobody can say yes and it denies", place("over")),
        );
    }
    let askers = if asks && !hard { askers.into() } else { Arc::from([]) };
    let rule = RuleId(format!("budget:{name}").into());
    Some((map.at.clone(), SharedBudget { rule, limit: limit?, window: window?, members: members?, per_customer, askers }, asks))
}

fn members(node: &Node, place: &str, agents: &HashMap<String, AgentId>, report: &mut Report) -> Option<Members> {
    if matches!(&node.value, Value::Text(t) if t == "all") {
        return Some(Members::ALL);
    }
    if matches!(&node.value, Value::Text(_)) {
        report.error(&node.at, format!("{place}: write `all`, or a list of agents such as [research-bot, pricing-bot]"));
        return None;
    }
    list(node, place, report);
    let mut found = Vec::new();
    for (name, at) in texts(node, place, report) {
        match agents.get(name) {
            Some(agent) => found.push(agent.clone()),
            None => report.error(at, format!("{place}: there is no agent `{}`: add it under `agents`, or remove it here", shown(name))),
        }
    }
    Some(Members::of(found))
}

fn window_text(t: &str) -> Result<Window, String> {
    let known = Window::ALL.into_iter().find(|w| w.as_str() == t);
    known.ok_or_else(|| format!("\"{}\" is not a window: write hour, day, week, month or total", shown(t)))
}

fn over_text(t: &str) -> Result<bool, String> {
    match t {
        "ask" => Ok(true),
        "deny" => Ok(false),
        _ => Err(format!("\"{}\": write ask or deny", shown(t))),
    }
}

fn per_text(t: &str, customer: bool) -> Result<(), String> {
    match (t, customer) {
        ("customer", true) => Ok(()),
        ("customer", false) => Err("`customer` is no declared key: write `context: { customer: text }` at the top of the file".into()),
        _ => Err(format!("\"{}\": write customer, a key that `context` declares as text", shown(t))),
    }
}
