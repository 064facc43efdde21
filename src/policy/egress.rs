//! `egress`: what may be connected to at all, apart from what may be paid (money.md §3). One section for every agent; deny
//! wins. An agent's own `deny` entries only mean: do not pay.

use super::read::{Report, fields, items, one, shown, text};
use super::rule::Allow;
use super::yaml::{Node, Pos};
use super::{Host, HostPattern, Policy};
use crate::payment::AgentId;

/// The compiled section. Absent, everything may be connected to.
#[derive(Debug, Default)]
pub(super) struct Egress {
    /// `default: deny`: only what an allow entry of the agent, or `allow` here, names.
    pub(super) only_named: bool,
    pub(super) allow: Vec<HostPattern>,
    pub(super) deny: Vec<HostPattern>,
}

impl Egress {
    pub(super) fn read(node: &Node, report: &mut Report) -> Self {
        let Some(map) = fields(node, "egress", &["default", "allow", "deny"], report) else { return Self::default() };
        let default = map.get("default").and_then(|n| {
            one(n, "egress.default", report, |t| match t {
                "allow" => Ok(false),
                "deny" => Ok(true),
                _ => Err(format!("\"{}\": write allow or deny", shown(t))),
            })
        });
        let only_named = default.unwrap_or(false);
        let allow = map.get("allow").map(|n| patterns(n, "egress.allow", report)).unwrap_or_default();
        let deny = map.get("deny").map(|n| patterns(n, "egress.deny", report)).unwrap_or_default();
        if let (Some(node), false) = (map.get("allow"), only_named) {
            report.warn(
                &node.at,
                "egress.allow has no effect: everything that is not denied may be connected to; write `default: deny` beside it",
            );
        }
        if let (Some(node), true) = (map.get("deny"), deny.contains(&HostPattern::Any)) {
            report.warn(&node.at, "egress.deny: \"*\" lets nothing be connected to, whatever else is allowed");
        }
        Self { only_named, allow, deny }
    }

    /// What can never be reached need not be allowed (M3.5).
    pub(super) fn lint(&self, allow: &[(Pos, Allow)], report: &mut Report) {
        let gone = |host: &HostPattern| self.deny.iter().any(|d| d.covers(host));
        for (at, entry) in allow.iter().filter(|(_, a)| !a.target.hosts.is_empty() && a.target.hosts.iter().all(gone)) {
            report.error(at, format!("allow: `{}` is unreachable: `egress.deny` takes all of its hosts: remove one of them", entry.id));
        }
    }
}

fn patterns(node: &Node, place: &str, report: &mut Report) -> Vec<HostPattern> {
    let all = items(node);
    if all.is_empty() {
        report.error(&node.at, format!("{place}: an empty list names nothing: remove the key, or name hosts"));
    }
    let mut found = Vec::new();
    for item in all {
        match text(item, place, report).map(HostPattern::parse) {
            Some(Ok(pattern)) => found.push(pattern),
            Some(Err(message)) => report.error(&item.at, format!("{place}: {message}")),
            None => {}
        }
    }
    found
}

impl Policy {
    /// Whether `agent` may connect to `host` at all, paid for or not. Allocates nothing.
    pub fn connects(&self, agent: &AgentId, host: &Host) -> bool {
        let named = |list: &[HostPattern]| list.iter().any(|p| p.matches(host));
        let payable = || self.agents.get(agent).is_some_and(|a| a.allow.iter().any(|entry| entry.target.host(host)));
        !named(&self.egress.deny) && (!self.egress.only_named || named(&self.egress.allow) || payable())
    }
}
