//! `risk`: what looks wrong, and what happens then.

use std::sync::Arc;

use super::approvers::Approvers;
use super::read::{Report, fields, one, shown};
use super::yaml::{Node, Value};

/// The thresholds, with sensible defaults on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Risk {
    /// A payee other than the pinned one (M3.3): the group that is asked; `None` denies.
    pub payee_change: Option<Arc<str>>,
}

/// Reads the section.
pub(super) fn read(node: &Node, approvers: &Approvers, report: &mut Report) -> Risk {
    let mut risk = Risk::default();
    let Some(map) = fields(node, "risk", &["payee_change"], report) else { return risk };
    if let Some(node) = map.get("payee_change") {
        risk.payee_change = deny_or_ask(node, "risk.payee_change", approvers, report).flatten();
    }
    risk
}

/// `deny`, or `{ ask: GROUP }`; the outer `None` was reported.
pub(super) fn deny_or_ask(node: &Node, place: &str, approvers: &Approvers, report: &mut Report) -> Option<Option<Arc<str>>> {
    if matches!(node.value, Value::Map(_)) {
        let map = fields(node, place, &["ask"], report)?;
        let Some(group) = map.get("ask") else {
            report.error(map.at, format!("{place}: `ask` is missing: write `{{ ask: finance }}`, or deny"));
            return None;
        };
        return one(group, &format!("{place}.ask"), report, |t| approvers.find(t).map(Some));
    }
    one(node, place, report, |t| match t {
        "deny" => Ok(None),
        _ => Err(format!("\"{}\": write deny, or `{{ ask: GROUP }}` with a group of `approvers`", shown(t))),
    })
}
