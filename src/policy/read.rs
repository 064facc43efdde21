//! Typed readers over the tree: each reports what is wrong and what to write instead, then lets the others go on, so that one
//! load shows every mistake. `None` means "absent, or already reported".

use std::time::Duration;

use super::yaml::{Node, Pair, Pos, Value};
use super::{PolicyError, PolicyErrors};
use crate::payment::MicroUsd;
use crate::spelling::nearest;

/// Everything found wrong so far.
#[derive(Default)]
pub(super) struct Report {
    pub(super) errors: Vec<PolicyError>,
    pub(super) warnings: Vec<PolicyError>,
}

impl Report {
    pub(super) fn error(&mut self, at: &Pos, message: impl Into<String>) {
        self.errors.push(at.error(message));
    }

    pub(super) fn warn(&mut self, at: &Pos, message: impl Into<String>) {
        self.warnings.push(at.error(message));
    }

    /// The warnings, or every error in reading order.
    pub(super) fn finish(mut self) -> Result<Vec<PolicyError>, PolicyErrors> {
        let place = |e: &PolicyError| (e.file.clone(), e.line, e.column);
        if self.errors.is_empty() {
            self.warnings.sort_by_key(place);
            return Ok(self.warnings);
        }
        self.errors.sort_by_key(place);
        self.errors.dedup();
        Err(PolicyErrors(self.errors))
    }
}

/// Keys of the format that this version does not implement. They are refused, never ignored.
const LATER: [&str; 1] = ["release_unverified_after"];

/// Keys that a co-signer's policy has, in some place, and a proxy's has not.
const OF_COSIGNER: [&str; 4] = ["unverified", "live", "offer_key", "probe"];

/// Keys that stand in one place of a proxy's policy and nowhere else.
const OF_PROXY: [(&str, &str); 9] = [
    ("egress", "at the top"),
    ("context", "at the top"),
    ("budgets", "at the top"),
    ("risk", "at the top"),
    ("rules", "in an agent"),
    ("sessions", "in an agent"),
    ("per_host_day", "in the caps of an agent or a group"),
    ("per_payee_day", "in the caps of an agent or a group"),
    ("hold", "in `defaults`"),
];

/// A mapping whose keys were all checked.
pub(super) struct Fields<'a> {
    pub(super) at: &'a Pos,
    pairs: &'a [Pair],
}

impl<'a> Fields<'a> {
    /// The value under `key`, if the key stands there with a value.
    pub(super) fn get(&self, key: &str) -> Option<&'a Node> {
        self.pairs.iter().find(|p| p.key == key && !matches!(p.value.value, Value::Null)).map(|p| &p.value)
    }
}

/// Reads a mapping with closed keys. `place` is how messages call it, such as `agents.bot.caps`.
pub(super) fn fields<'a>(node: &'a Node, place: &str, known: &[&str], report: &mut Report) -> Option<Fields<'a>> {
    let Value::Map(pairs) = &node.value else {
        report.error(&node.at, format!("{place}: {} stands here: write a mapping with the keys {}", node.kind(), listed(known)));
        return None;
    };
    for pair in pairs {
        if !known.contains(&pair.key.as_str()) {
            let message = unknown(&pair.key, known);
            report.error(&pair.at, message);
        } else if matches!(pair.value.value, Value::Null) {
            report.error(&pair.at, format!("`{}` has no value: write one, or remove the key", pair.key));
        }
    }
    Some(Fields { at: &node.at, pairs })
}

fn unknown(key: &str, known: &[&str]) -> String {
    if OF_COSIGNER.contains(&key) {
        return format!("`{key}`: only a co-signer reads this: remove it here");
    }
    if let Some((_, place)) = OF_PROXY.iter().find(|(k, _)| *k == key) {
        return format!("`{key}` stands {place} of a proxy's policy and nowhere else: remove it here");
    }
    if LATER.contains(&key) {
        return format!("`{key}` is not in this version: remove it");
    }
    let hint = nearest(key, known).map_or(String::new(), |k| format!(" (did you mean `{k}`?)"));
    format!("unknown key `{key}`; known here: {}{hint}", known.join(", "))
}

fn listed(known: &[&str]) -> String {
    known.iter().map(|k| format!("`{k}`")).collect::<Vec<_>>().join(", ")
}

/// A mapping with free keys (names), in file order.
pub(super) fn named<'a>(node: &'a Node, place: &str, report: &mut Report) -> &'a [Pair] {
    if let Value::Map(pairs) = &node.value {
        return pairs;
    }
    report.error(&node.at, format!("{place}: {} stands here: write a mapping from name to definition", node.kind()));
    &[]
}

/// A list.
pub(super) fn list<'a>(node: &'a Node, place: &str, report: &mut Report) -> &'a [Node] {
    if let Value::List(items) = &node.value {
        return items;
    }
    report.error(&node.at, format!("{place}: {} stands here: write a list, such as `[ … ]`", node.kind()));
    &[]
}

/// A single value as its raw text.
pub(super) fn text<'a>(node: &'a Node, place: &str, report: &mut Report) -> Option<&'a str> {
    if let Value::Text(text) = &node.value {
        return Some(text);
    }
    report.error(&node.at, format!("{place}: {} stands here: write a single value", node.kind()));
    None
}

/// The items of a list, or the one value.
pub(super) fn items(node: &Node) -> &[Node] {
    match &node.value {
        Value::List(items) => items,
        _ => std::slice::from_ref(node),
    }
}

/// One value or a list of them. An empty list would select nothing, so it is a mistake.
pub(super) fn texts<'a>(node: &'a Node, place: &str, report: &mut Report) -> Vec<(&'a str, &'a Pos)> {
    let items = items(node);
    if items.is_empty() {
        report.error(&node.at, format!("{place}: an empty list selects nothing: remove the key to mean any, or name what you mean"));
    }
    items.iter().filter_map(|item| Some((text(item, place, report)?, &item.at))).collect()
}

/// One value or a list of them, each read by `read`; its error says what to write.
pub(super) fn each<T>(node: &Node, place: &str, report: &mut Report, mut read: impl FnMut(&str) -> Result<T, String>) -> Vec<T> {
    let mut values = Vec::new();
    for (text, at) in texts(node, place, report) {
        match read(text) {
            Ok(value) => values.push(value),
            Err(message) => report.error(at, format!("{place}: {message}")),
        }
    }
    values
}

/// One value read by `read`.
pub(super) fn one<T>(node: &Node, place: &str, report: &mut Report, read: impl FnOnce(&str) -> Result<T, String>) -> Option<T> {
    match read(text(node, place, report)?) {
        Ok(value) => Some(value),
        Err(message) => {
            report.error(&node.at, format!("{place}: {message}"));
            None
        }
    }
}

/// Money by the grammar of M3.1, from the raw scalar.
pub(super) fn money(node: &Node, place: &str, report: &mut Report) -> Option<MicroUsd> {
    one(node, place, report, |t| MicroUsd::parse(t).map_err(|e| format!("\"{}\" is {e}", shown(t))))
}

/// `true` or `false` and nothing else.
pub(super) fn flag(node: &Node, place: &str, report: &mut Report) -> Option<bool> {
    one(node, place, report, |t| match t {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(format!("\"{}\" is not yes or no: write true or false", shown(t))),
    })
}

/// A whole number in canonical form, at most `max`.
pub(super) fn count(node: &Node, place: &str, max: u32, report: &mut Report) -> Option<u32> {
    one(node, place, report, |t| count_text(t, max))
}

/// [`count`] on text.
pub(super) fn count_text(t: &str, max: u32) -> Result<u32, String> {
    let canonical = t == "0" || (!t.is_empty() && !t.starts_with('0') && t.bytes().all(|b| b.is_ascii_digit()));
    let number = t.parse::<u32>().ok().filter(|n| canonical && *n <= max);
    number.ok_or_else(|| format!("\"{}\" is not a whole number up to {max}: write digits only, such as 30", shown(t)))
}

/// A duration with its unit: `300s`, `15m`, `1h`, `30d`.
pub(super) fn duration(node: &Node, place: &str, report: &mut Report) -> Option<Duration> {
    one(node, place, report, duration_text)
}

/// [`duration`] on text.
pub(super) fn duration_text(t: &str) -> Result<Duration, String> {
    let split = t.find(|c: char| !c.is_ascii_digit()).unwrap_or(t.len());
    let (digits, unit) = t.split_at(split);
    let fault = || format!("\"{}\" is not a duration: write a whole number and its unit s, m, h or d, such as 300s or 15m", shown(t));
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        "" if !digits.is_empty() => return Err(format!("\"{}\" has no unit: write {digits}s, or another of s, m, h, d", shown(t))),
        _ => return Err(fault()),
    };
    let number = digits.parse::<u32>().map_err(|_| fault())?;
    Ok(Duration::from_secs(u64::from(number) * seconds))
}

/// The operator's own text as it may stand in a message: one line, bounded.
pub(super) fn shown(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(80).collect()
}
