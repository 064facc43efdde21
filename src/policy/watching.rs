//! The rest of `risk`: what is watched, with its thresholds, whom nobody pays, and whom else is asked.

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use alloy_primitives::Address;

use super::Source;
use super::read::{Fields, Report, count, count_text, duration, each, fields, one, shown};
use super::yaml::{Node, Value};
use crate::payment::parse_address;

/// How the name of a list of payees ends.
const LIST: &str = ".payees";
/// More of a kind are not remembered.
const MOST: u32 = 1000;

/// Who is stopped when something looks wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// The agent pays nobody any more.
    FreezeAgent,
    /// Nobody pays the host any more.
    FreezeHost,
}

/// So often within so long is too often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Breaker {
    /// The one that trips it.
    pub count: u32,
    /// Counted while `now − at < within` (M3.7).
    pub within: Duration,
    /// What happens then.
    pub then: Then,
}

/// An agent that pays much more often than it did before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Velocity {
    /// This many times its own normal is too much.
    pub times: u32,
    /// The normal counts as at least this many payments per `within`.
    pub least: u32,
    /// Over this long.
    pub within: Duration,
    /// What happens then.
    pub then: Then,
}

/// What is watched; `None` is off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watching {
    /// Payments at one host whose answer was lost or had status 400 or above.
    pub paid_but_failed: Option<Breaker>,
    /// Payments of one agent.
    pub velocity: Option<Velocity>,
    /// Refusals and failed answers of one and the same request.
    pub retry_loop: Option<Breaker>,
}

impl Default for Watching {
    fn default() -> Self {
        let minutes = |n: u64| Duration::from_secs(60 * n);
        Self {
            paid_but_failed: Some(Breaker { count: 3, within: minutes(10), then: Then::FreezeHost }),
            velocity: Some(Velocity { times: 10, least: 20, within: minutes(5), then: Then::FreezeAgent }),
            retry_loop: Some(Breaker { count: 100, within: minutes(1), then: Then::FreezeAgent }),
        }
    }
}

/// Where a text of the operator is found.
#[derive(Clone, PartialEq, Eq)]
pub enum Found {
    /// In an environment variable.
    Env(Arc<str>),
    /// In a file.
    File(PathBuf),
    /// Here; never a secret.
    Here(Arc<str>),
}

impl fmt::Debug for Found {
    /// A URL may carry a key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Env(name) => write!(f, "env:{name}"),
            Self::File(path) => write!(f, "file:{}", path.display()),
            Self::Here(_) => f.write_str("…"),
        }
    }
}

/// A program of the operator that is asked before each payment (S21). It can only tighten.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HookAt {
    /// http or https.
    pub url: Found,
    /// Signs what is sent.
    pub secret: Found,
    /// After this long it counts as a no.
    pub deadline: Duration,
}

/// Accounts that nobody pays, from files beside the policy.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct PayeeList(Arc<BTreeSet<Address>>);

impl PayeeList {
    /// Whether `payee` is on a list.
    pub fn contains(&self, payee: &Address) -> bool {
        self.0.contains(payee)
    }
}

impl PayeeList {
    /// Whether everybody on `other` is on this one, too.
    pub(super) fn covers(&self, other: &Self) -> bool {
        self.0.is_superset(&other.0)
    }
}

impl fmt::Debug for PayeeList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} payees", self.0.len())
    }
}

/// Whether this source is a list of payees, not a policy file.
pub(super) fn is_list(source: &Source) -> bool {
    source.name.ends_with(LIST)
}

/// The thresholds among the keys of `risk`.
pub(super) fn watching(map: &Fields<'_>, report: &mut Report) -> Watching {
    let mut watching = Watching::default();
    if let Some(node) = map.get("paid_but_failed") {
        watching.paid_but_failed = breaker(node, "risk.paid_but_failed", watching.paid_but_failed, true, report);
    }
    if let Some(node) = map.get("retry_loop") {
        watching.retry_loop = breaker(node, "risk.retry_loop", watching.retry_loop, false, report);
    }
    if let Some(node) = map.get("velocity") {
        watching.velocity = velocity(node, watching.velocity, report);
    }
    watching
}

fn is_off(node: &Node) -> bool {
    matches!(&node.value, Value::Text(t) if t == "off")
}

fn breaker(node: &Node, place: &str, normal: Option<Breaker>, of_host: bool, report: &mut Report) -> Option<Breaker> {
    if is_off(node) {
        return None;
    }
    let map = section(node, place, &["count", "within", "then"], report)?;
    let mut breaker = normal?;
    if let Some(node) = map.get("count") {
        breaker.count = at_least_one(node, &format!("{place}.count"), report).unwrap_or(breaker.count);
    }
    breaker.within = span(&map, place, breaker.within, report);
    breaker.then = then(&map, place, breaker.then, of_host, report);
    Some(breaker)
}

fn velocity(node: &Node, normal: Option<Velocity>, report: &mut Report) -> Option<Velocity> {
    let place = "risk.velocity";
    if is_off(node) {
        return None;
    }
    let map = section(node, place, &["times", "least", "within", "then"], report)?;
    let mut velocity = normal?;
    for (key, value) in [("times", &mut velocity.times), ("least", &mut velocity.least)] {
        if let Some(node) = map.get(key) {
            *value = at_least_one(node, &format!("{place}.{key}"), report).unwrap_or(*value);
        }
    }
    velocity.within = span(&map, place, velocity.within, report);
    if !velocity.within.as_secs().is_multiple_of(60) {
        report.error(map.at, format!("{place}.within: payments are counted by the minute: write whole minutes, such as 5m"));
    }
    velocity.then = then(&map, place, velocity.then, false, report);
    Some(velocity)
}

fn section<'a>(node: &'a Node, place: &str, known: &[&str], report: &mut Report) -> Option<Fields<'a>> {
    if let Value::Text(text) = &node.value {
        report.error(&node.at, format!("{place}: \"{}\": write off, or a mapping with the keys {}", shown(text), known.join(", ")));
        return None;
    }
    fields(node, place, known, report)
}

fn at_least_one(node: &Node, place: &str, report: &mut Report) -> Option<u32> {
    let number = count(node, place, MOST, report)?;
    if number == 0 {
        report.error(&node.at, format!("{place}: 0 would stop everything: write 1 or more, or turn the rule off"));
        return None;
    }
    Some(number)
}

fn span(map: &Fields<'_>, place: &str, normal: Duration, report: &mut Report) -> Duration {
    let Some(node) = map.get("within") else { return normal };
    let place = format!("{place}.within");
    match duration(node, &place, report) {
        Some(within) if within < Duration::from_secs(1) || within > Duration::from_secs(24 * 3600) => {
            report.error(&node.at, format!("{place}: write 1s to 24h, such as 10m"));
            normal
        }
        within => within.unwrap_or(normal),
    }
}

fn then(map: &Fields<'_>, place: &str, normal: Then, of_host: bool, report: &mut Report) -> Then {
    let Some(node) = map.get("then") else { return normal };
    let read = one(node, &format!("{place}.then"), report, |t| match t {
        "freeze_agent" => Ok(Then::FreezeAgent),
        "freeze_host" if of_host => Ok(Then::FreezeHost),
        _ if of_host => Err(format!("\"{}\": write freeze_host or freeze_agent, or turn the rule off", shown(t))),
        _ => Err(format!("\"{}\": write freeze_agent, or turn the rule off", shown(t))),
    });
    read.unwrap_or(normal)
}

/// `deny_payees`: names of lists that lie beside the policy.
pub(super) fn payees(map: &Fields<'_>, sources: &[Source], report: &mut Report) -> PayeeList {
    let mut all = BTreeSet::new();
    let Some(node) = map.get("deny_payees") else { return PayeeList::default() };
    let names = each(node, "risk.deny_payees", report, |t| {
        let is = |s: &&Source| is_list(s) && s.name.rsplit('/').next() == Some(t);
        sources.iter().find(is).ok_or_else(|| {
            format!(
                "\"{}\": there is no such file beside the policy: write the name of a file that ends in {LIST}, without its folder",
                shown(t)
            )
        })
    });
    for source in names {
        for (line, text) in source.text.lines().enumerate() {
            let entry = text.split('#').next().unwrap_or_default().trim();
            if entry.is_empty() {
                continue;
            }
            match parse_address(entry) {
                Some(address) => drop(all.insert(address)),
                None => {
                    let at = super::yaml::Pos { file: source.name.as_str().into(), line: line + 1, column: 1 };
                    report.error(&at, format!("\"{}\" is no account: write one address per line, 0x and 40 hex digits", shown(entry)));
                }
            }
        }
    }
    PayeeList(Arc::new(all))
}

/// `hook`: who else is asked.
pub(super) fn hook(map: &Fields<'_>, report: &mut Report) -> Option<HookAt> {
    let node = map.get("hook").filter(|node| !is_off(node))?;
    let map = section(node, "risk.hook", &["url", "secret", "deadline"], report)?;
    let url = found(&map, "risk.hook.url", "write `url: env:HOOK_URL`, file:PATH or an http or https URL", true, report);
    let secret = found(&map, "risk.hook.secret", "write `secret: env:HOOK_SECRET` or file:PATH", false, report);
    let deadline = map.get("deadline").map_or(Some(Duration::from_millis(500)), |node| one(node, "risk.hook.deadline", report, soon));
    Some(HookAt { url: url?, secret: secret?, deadline: deadline? })
}

/// 50 ms to 5 s: an agent waits for it, with every payment.
fn soon(text: &str) -> Result<Duration, String> {
    let fault = || format!("\"{}\": write 50ms to 5s, such as 500ms", shown(text));
    let (digits, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let millis = match (unit, count_text(digits, 5000)) {
        ("ms", Ok(n)) => n,
        ("s", Ok(n)) => n.saturating_mul(1000),
        _ => return Err(fault()),
    };
    if (50..=5000).contains(&millis) { Ok(Duration::from_millis(millis.into())) } else { Err(fault()) }
}

/// The text at `place`, the last part of which is its key in `map`; with `here` a URL may be written out.
pub(super) fn found(map: &Fields<'_>, place: &str, form: &str, here: bool, report: &mut Report) -> Option<Found> {
    let (section, key) = place.rsplit_once('.').unwrap_or(("", place));
    let Some(node) = map.get(key) else {
        report.error(map.at, format!("{section}: `{key}` is missing: {form}"));
        return None;
    };
    one(node, place, report, |t| match (t.strip_prefix("env:"), t.strip_prefix("file:")) {
        (Some(name), _) if !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') => Ok(Found::Env(name.into())),
        (_, Some(path)) if !path.is_empty() => Ok(Found::File(path.into())),
        // What was meant may be a secret: it is not shown.
        _ if here && (t.starts_with("https://") || t.starts_with("http://")) => Ok(Found::Here(t.into())),
        _ => Err(form.to_owned()),
    })
}
