//! `caps` and `rate`: reading, order (M3.5), and narrowing of a group's limits by its members (M3.7: effective = the smaller).

use super::read::{Report, count, duration_text, fields, money, named, shown};
use super::rule::{Cap, Limits, PaymentCap, Rate};
use super::yaml::{Node, Pos};
use super::{Period, RuleId, Scope, Window};
use crate::payment::MicroUsd;

/// A value and where it was written.
type At<T> = Option<(T, Pos)>;

/// Caps as written in one place.
#[derive(Clone, Default)]
pub(super) struct Caps {
    pub(super) per_payment: At<MicroUsd>,
    windows: [At<MicroUsd>; Window::ALL.len()],
    /// Sliding windows by their hours, the shortest first.
    rolling: Vec<(u32, MicroUsd, Pos)>,
    per_host_day: At<MicroUsd>,
    per_payee_day: At<MicroUsd>,
    /// Something here was reported as wrong, so what is missing may only be misspelt.
    pub(super) broken: bool,
}

/// Rates as written in one place: last minute, last hour.
#[derive(Clone, Default)]
pub(super) struct Rates([At<u32>; 2]);

const RATES: [(&str, i64); 2] = [("per_minute", 60_000), ("per_hour", 3_600_000)];

/// The longest rolling window, hours: minutes are kept for a little longer than that.
const MAX_ROLLING_HOURS: u32 = 30 * 24;

/// How many of [`KNOWN`], at its end, only an agent or a group of a proxy's policy has.
const OF_AGENTS: usize = 2;
const KNOWN: [&str; 9] = ["per_payment", "hour", "day", "week", "month", "total", "rolling", "per_host_day", "per_payee_day"];

/// Reads a `caps` mapping and reports caps that stand in the wrong order. `agents` says that those on one host and one payee may
/// stand here: a co-signer does not see the host, and an entry has hosts and payees of its own.
pub(super) fn caps(node: &Node, agents: bool, report: &mut Report) -> Caps {
    let known = if agents { &KNOWN[..] } else { &KNOWN[..KNOWN.len() - OF_AGENTS] };
    let before = report.errors.len();
    let mut caps = Caps { broken: true, ..Caps::default() };
    let Some(map) = fields(node, "caps", known, report) else { return caps };
    let mut read = |key: &str| {
        let node = map.get(key)?;
        Some((money(node, &format!("caps.{key}"), report)?, node.at.clone()))
    };
    caps.per_payment = read("per_payment");
    caps.windows = Window::ALL.map(|w| read(w.as_str()));
    if agents {
        (caps.per_host_day, caps.per_payee_day) = (read("per_host_day"), read("per_payee_day"));
    }
    caps.rolling = map.get("rolling").map(|node| rolling(node, report)).unwrap_or_default();
    caps.broken = report.errors.len() > before;
    caps.check_order(report);
    caps
}

/// Reads `rolling: { 24h: 10 }`.
fn rolling(node: &Node, report: &mut Report) -> Vec<(u32, MicroUsd, Pos)> {
    let mut all: Vec<(u32, MicroUsd, Pos)> = Vec::new();
    for pair in named(node, "caps.rolling", report) {
        let hours = duration_text(&pair.key).ok().map(|d| d.as_secs()).filter(|s| s % 3600 == 0);
        let hours = hours.and_then(|s| u32::try_from(s / 3600).ok()).filter(|h| (1..=MAX_ROLLING_HOURS).contains(h));
        let Some(hours) = hours else {
            let key = shown(&pair.key);
            report.error(&pair.at, format!("caps.rolling: \"{key}\" is not a length: write whole hours or days up to 30d, such as `24h`"));
            continue;
        };
        let Some(limit) = money(&pair.value, &format!("caps.rolling.{}", pair.key), report) else { continue };
        match all.iter().find(|(h, ..)| *h == hours) {
            Some((_, _, first)) => {
                let line = first.line;
                report.error(&pair.at, format!("caps.rolling: {hours} hours stand at line {line} already: keep one of them"));
            }
            None => all.push((hours, limit, pair.value.at.clone())),
        }
    }
    all.sort_by_key(|(hours, ..)| *hours);
    all
}

/// Reads a `rate` mapping.
pub(super) fn rates(node: &Node, report: &mut Report) -> Rates {
    let Some(map) = fields(node, "rate", &RATES.map(|(key, _)| key), report) else { return Rates::default() };
    let rates = Rates(RATES.map(|(key, _)| {
        let node = map.get(key)?;
        Some((count(node, &format!("rate.{key}"), 1_000_000, report)?, node.at.clone()))
    }));
    if let [Some((minute, at)), Some((hour, _))] = &rates.0
        && minute > hour
    {
        report.warn(at, format!("rate.per_minute {minute} is above rate.per_hour {hour}, so it has no effect"));
    }
    rates
}

impl Caps {
    fn get(&self, window: Window) -> &At<MicroUsd> {
        &self.windows[window as usize]
    }

    /// True if some window but `total` is capped: what an agent that may pay must have (M3.7).
    pub(super) fn has_window(&self) -> bool {
        self.windows[..Window::Total as usize].iter().any(Option::is_some) || !self.rolling.is_empty()
    }

    /// A cap above that of a period around it can never be reached. A week is not inside a month, so that is only a warning.
    fn check_order(&self, report: &mut Report) {
        use Window::{Day, Hour, Month, Total, Week};
        let around: [(&str, &At<MicroUsd>, &[Window]); 5] = [
            ("per_payment", &self.per_payment, &Window::ALL),
            ("hour", self.get(Hour), &[Day, Week, Month, Total]),
            ("day", self.get(Day), &[Week, Month, Total]),
            ("week", self.get(Week), &[Total]),
            ("month", self.get(Month), &[Total]),
        ];
        for (name, small, larger) in around {
            let Some((small, at)) = small else { continue };
            let above = larger.iter().find_map(|w| self.get(*w).as_ref().filter(|(large, _)| small > large).map(|(large, _)| (w, large)));
            if let Some((window, large)) = above {
                let window = window.as_str();
                report.error(at, format!("caps.{name} {small} is above caps.{window} {large}, so it could never be reached: lower it to {large} or less, or raise caps.{window}"));
            }
        }
        if let (Some((small, at)), Some((hours, large, _))) =
            (&self.per_payment, self.rolling.iter().find(|(_, large, _)| self.per_payment.as_ref().is_some_and(|(small, _)| small > large)))
        {
            report.error(at, format!("caps.per_payment {small} is above caps.rolling.{hours}h {large}, so it could never be reached: lower it to {large} or less, or raise caps.rolling.{hours}h"));
        }
        for (i, (hours, large, _)) in self.rolling.iter().enumerate() {
            if let Some((short, small, at)) = self.rolling[..i].iter().find(|(_, small, _)| small > large) {
                report.error(at, format!("caps.rolling.{short}h {small} is above caps.rolling.{hours}h {large}, so it could never be reached: lower it to {large} or less, or raise caps.rolling.{hours}h"));
            }
        }
        for (name, cap) in [("per_host_day", &self.per_host_day), ("per_payee_day", &self.per_payee_day)] {
            if let (Some((part, at)), Some((whole, _))) = (cap, self.get(Day))
                && part > whole
            {
                report.warn(at, format!("caps.{name} {part} has no effect: caps.day is {whole}, and the smaller counts"));
            }
            if let (Some((one, at)), Some((part, _))) = (&self.per_payment, cap)
                && one > part
            {
                report.error(at, format!("caps.per_payment {one} is above caps.{name} {part}, so it could never be reached: lower it to {part} or less, or raise caps.{name}"));
            }
        }
        if let (Some((week, at)), Some((month, _))) = (self.get(Week), self.get(Month))
            && week > month
        {
            report.warn(at, format!("caps.week {week} is above caps.month {month}, so it hardly ever has an effect"));
        }
    }

    /// These caps under those of `outer`: the smaller of each. Says where a cap here is without effect.
    pub(super) fn within(&self, outer: &Self, whose: &str, report: &mut Report) -> Self {
        let mut narrow =
            |name: &str, own: &At<MicroUsd>, outer: &At<MicroUsd>| narrower(&format!("caps.{name}"), own, outer, whose, report);
        let per_payment = narrow("per_payment", &self.per_payment, &outer.per_payment);
        let windows = Window::ALL.map(|w| narrow(w.as_str(), self.get(w), outer.get(w)));
        let per_host_day = narrow("per_host_day", &self.per_host_day, &outer.per_host_day);
        let per_payee_day = narrow("per_payee_day", &self.per_payee_day, &outer.per_payee_day);
        let mut lengths: Vec<u32> = self.rolling.iter().chain(&outer.rolling).map(|(hours, ..)| *hours).collect();
        lengths.sort_unstable();
        lengths.dedup();
        let rolling = lengths.into_iter().filter_map(|hours| {
            let of = |caps: &Self| caps.rolling.iter().find(|(h, ..)| *h == hours).map(|(_, limit, at)| (*limit, at.clone()));
            let (limit, at) = narrow(&format!("rolling.{hours}h"), &of(self), &of(outer))?;
            Some((hours, limit, at))
        });
        let rolling = rolling.collect();
        Self { per_payment, windows, rolling, per_host_day, per_payee_day, broken: self.broken || outer.broken }
    }

    /// Says that an entry's `max` above the agent's own cap on one payment is without effect.
    pub(super) fn warn_above_payment(&self, max: MicroUsd, at: &Pos, report: &mut Report) {
        if let Some((cap, _)) = self.per_payment.as_ref().filter(|(cap, _)| max > *cap) {
            report.warn(at, format!("allow.max {max} has no effect: the agent's caps.per_payment is {cap}, and the smaller counts"));
        }
    }

    /// These caps as they stand, with a warning for each that the agent's own make pointless. The agent's count anyway.
    pub(super) fn narrow_only(self, outer: &Self, report: &mut Report) -> Self {
        let _ = self.within(outer, "the agent", report);
        self
    }

    /// Compiled without a counter, the names after `place`: for limits whose counter a payment names.
    pub(super) fn named(&self, place: &str) -> (Option<PaymentCap>, Vec<Cap>) {
        let rule = |name: &str| RuleId(format!("{place}.{name}").into());
        let per_payment = self.per_payment.as_ref().map(|(limit, _)| PaymentCap { rule: rule("per_payment"), limit: *limit });
        (per_payment, self.periods().map(|(period, limit)| Cap { rule: rule(&period.to_string()), period, limit }).collect())
    }

    /// Every window with a cap, the calendar's first.
    fn periods(&self) -> impl Iterator<Item = (Period, MicroUsd)> {
        let calendar = Window::ALL.into_iter().filter_map(|w| Some((Period::Calendar(w), self.get(w).as_ref()?.0)));
        calendar.chain(self.rolling.iter().map(|(hours, limit, _)| (Period::Rolling(*hours), *limit)))
    }

    /// The caps on what goes to one host, and to one payee, per day.
    pub(super) fn per_target(&self) -> [Option<PaymentCap>; 2] {
        let cap = |name: &str, cap: &At<MicroUsd>| cap.as_ref().map(|(limit, _)| PaymentCap { rule: RuleId(name.into()), limit: *limit });
        [cap("caps.per_host_day", &self.per_host_day), cap("caps.per_payee_day", &self.per_payee_day)]
    }

    /// Compiled for the counter `scope`; `prefix` goes before each rule's name.
    pub(super) fn compile(&self, scope: Scope, prefix: &str, rates: &Rates) -> Limits {
        let rule = |name: &str| RuleId(format!("{prefix}{name}").into());
        let per_payment = self.per_payment.as_ref().map(|(limit, _)| PaymentCap { rule: rule("caps.per_payment"), limit: *limit });
        let cap = |(period, limit): (Period, MicroUsd)| Cap { rule: rule(&format!("caps.{period}")), period, limit };
        let rate = |((name, span_ms), limit): ((&str, i64), &At<u32>)| {
            Some(Rate { rule: rule(&format!("rate.{name}")), span_ms, limit: limit.as_ref()?.0 })
        };
        Limits {
            per_payment,
            caps: self.periods().map(cap).collect(),
            rates: RATES.into_iter().zip(&rates.0).filter_map(rate).collect(),
            scope,
        }
    }
}

impl Rates {
    /// These rates under those of `outer`.
    pub(super) fn within(&self, outer: &Self, whose: &str, report: &mut Report) -> Self {
        let mut rates = Self::default();
        for (i, (name, _)) in RATES.into_iter().enumerate() {
            rates.0[i] = narrower(&format!("rate.{name}"), &self.0[i], &outer.0[i], whose, report);
        }
        rates
    }
}

fn narrower<T: PartialOrd + Copy + std::fmt::Display>(name: &str, own: &At<T>, outer: &At<T>, whose: &str, report: &mut Report) -> At<T> {
    match (own, outer) {
        (Some((mine, at)), Some((theirs, _))) if mine > theirs => {
            report.warn(at, format!("{name} {mine} has no effect: {whose} has {theirs}, and the smaller counts"));
            outer.clone()
        }
        (None, theirs) => theirs.clone(),
        (own, _) => own.clone(),
    }
}
