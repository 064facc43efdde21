//! `caps` and `rate`: reading, order (M3.5), and narrowing of a group's limits by its members (M3.7: effective = the smaller).

use super::read::{Report, count, fields, money};
use super::rule::{Cap, Limits, PaymentCap, Rate};
use super::yaml::{Node, Pos};
use super::{RuleId, Scope, Window};
use crate::payment::MicroUsd;

/// A value and where it was written.
type At<T> = Option<(T, Pos)>;

/// Caps as written in one place.
#[derive(Clone, Default)]
pub(super) struct Caps {
    pub(super) per_payment: At<MicroUsd>,
    windows: [At<MicroUsd>; Window::ALL.len()],
    /// Something here was reported as wrong, so what is missing may only be misspelt.
    pub(super) broken: bool,
}

/// Rates as written in one place: last minute, last hour.
#[derive(Clone, Default)]
pub(super) struct Rates([At<u32>; 2]);

const RATES: [(&str, i64); 2] = [("per_minute", 60_000), ("per_hour", 3_600_000)];

/// Reads a `caps` mapping and reports caps that stand in the wrong order.
pub(super) fn caps(node: &Node, report: &mut Report) -> Caps {
    let known = ["per_payment", "hour", "day", "week", "month", "total"];
    let before = report.errors.len();
    let mut caps = Caps { broken: true, ..Caps::default() };
    let Some(map) = fields(node, "caps", &known, report) else { return caps };
    let mut read = |key: &str| {
        let node = map.get(key)?;
        Some((money(node, &format!("caps.{key}"), report)?, node.at.clone()))
    };
    caps.per_payment = read("per_payment");
    caps.windows = Window::ALL.map(|w| read(w.as_str()));
    caps.broken = report.errors.len() > before;
    caps.check_order(report);
    caps
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
        self.windows[..Window::Total as usize].iter().any(Option::is_some)
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
        Self { per_payment, windows, broken: self.broken || outer.broken }
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
        let cap = |window: Window| Some(Cap { rule: rule(window.as_str()), window, limit: self.get(window).as_ref()?.0 });
        (per_payment, Window::ALL.into_iter().filter_map(cap).collect())
    }

    /// Compiled for the counter `scope`; `prefix` goes before each rule's name.
    pub(super) fn compile(&self, scope: Scope, prefix: &str, rates: &Rates) -> Limits {
        let rule = |name: &str| RuleId(format!("{prefix}{name}").into());
        let per_payment = self.per_payment.as_ref().map(|(limit, _)| PaymentCap { rule: rule("caps.per_payment"), limit: *limit });
        let cap = |window: Window| {
            let limit = self.get(window).as_ref()?.0;
            Some(Cap { rule: rule(&format!("caps.{}", window.as_str())), window, limit })
        };
        let rate = |((name, span_ms), limit): ((&str, i64), &At<u32>)| {
            Some(Rate { rule: rule(&format!("rate.{name}")), span_ms, limit: limit.as_ref()?.0 })
        };
        Limits {
            per_payment,
            caps: Window::ALL.into_iter().filter_map(cap).collect(),
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
