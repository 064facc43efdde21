//! `rules`: conditions that deny or ask (M3.2). None of them makes payable what allow entries and caps do not.

use std::sync::Arc;

use super::RuleId;
use super::approvers::Approvers;
use super::condition::Condition;
use super::context::ContextKeys;
use super::read::{Report, fields, list, one, text};
use super::risk::deny_or_ask;
use super::yaml::{Node, Pos};

/// One rule of an agent.
#[derive(Debug)]
pub(super) struct Rule {
    pub(super) id: RuleId,
    pub(super) when: Condition,
    /// The group that is asked; `None` denies.
    pub(super) ask: Option<Arc<str>>,
}

/// Reads `rules`, in file order. Their ids are the agent's, as those of its entries are.
pub(super) fn read(
    node: &Node,
    keys: &ContextKeys,
    approvers: &Approvers,
    ids: &mut Vec<(RuleId, Pos)>,
    report: &mut Report,
) -> Vec<Arc<Rule>> {
    list(node, "rules", report).iter().filter_map(|item| rule(item, keys, approvers, ids, report).map(Arc::new)).collect()
}

fn rule(node: &Node, keys: &ContextKeys, approvers: &Approvers, ids: &mut Vec<(RuleId, Pos)>, report: &mut Report) -> Option<Rule> {
    let map = fields(node, "rules", &["id", "when", "then"], report)?;
    let mut need = |key: &str, example: &str| {
        let found = map.get(key);
        if found.is_none() {
            report.error(map.at, format!("rules: `{key}` is missing: write {example}"));
        }
        found
    };
    let id = need("id", "a short name, such as `id: dear`");
    let when = need("when", "a condition, such as `when: 'price.usd > usd(\"0.10\")'`");
    let then = need("then", "`then: deny`, or `then: { ask: GROUP }`");
    let id = id.and_then(|n| Some((one(n, "rules.id", report, super::entry::name_text)?, &n.at)));
    let id = id.map(|(name, at)| {
        let id = RuleId(name.into());
        match ids.iter().find(|(known, _)| *known == id) {
            Some((_, first)) => {
                let line = first.line;
                report.error(
                    at,
                    format!("rules: the id `{id}` stands at line {line} already: give each entry and rule of an agent its own `id`"),
                );
            }
            None => ids.push((id.clone(), at.clone())),
        }
        id
    });
    let when = when.and_then(|n| {
        let condition = Condition::parse(text(n, "rules.when", report)?, keys);
        condition.map_err(|mistake| report.error(&n.at, format!("rules.when: {}", mistake.message))).ok()
    });
    let ask = then.and_then(|n| {
        if matches!(&n.value, super::yaml::Value::Text(t) if t == "allow") {
            report.error(&n.at, "rules.then: \"allow\": a rule only denies or asks; what may be paid stands under `allow`");
            return None;
        }
        deny_or_ask(n, "rules.then", approvers, report)
    });
    Some(Rule { id: id?, when: when?, ask: ask? })
}
