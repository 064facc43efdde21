//! `hours`: when an agent may pay, by the clock on the wall in the policy's time zone (M2.1, M3.7).

use std::collections::BTreeSet;

use jiff::ToSpan as _;
use jiff::civil::{Date, Time};
use jiff::tz::TimeZone;

use super::read::{Report, each, fields, one, shown};
use super::window::begins;
use super::yaml::Node;
use crate::payment::Timestamp;

/// A stretch of some days: `[from, to)`; one that crosses midnight belongs to its first day, one from a time to the same time is
/// 24 hours long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Hours {
    days: [bool; 7],
    from: Time,
    /// `None` is the end of the day.
    to: Option<Time>,
    holidays: BTreeSet<Date>,
}

const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

/// How far ahead the next opening is looked for: a whole year of holidays is no opening at all.
const HORIZON_DAYS: i64 = 400;

impl Hours {
    /// Whether `now` lies inside.
    pub(super) fn contains(&self, now: Timestamp, zone: &TimeZone) -> bool {
        let Ok(instant) = jiff::Timestamp::from_millisecond(now.millis()) else { return false };
        let local = zone.to_datetime(instant);
        let (date, time) = (local.date(), local.time());
        let began_today = self.opens(date) && time >= self.from;
        let began_yesterday = || date.yesterday().is_ok_and(|day| self.opens(day));
        match self.to {
            None => began_today,
            Some(to) if to > self.from => began_today && time < to,
            Some(to) => began_today || (time < to && began_yesterday()),
        }
    }

    /// The next instant after `now` at which a stretch begins.
    pub(super) fn next(&self, now: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let instant = jiff::Timestamp::from_millisecond(now.millis()).ok()?;
        let today = zone.to_datetime(instant).date();
        let opening = |ahead: i64| {
            let day = today.checked_add(ahead.days()).ok().filter(|day| self.opens(*day))?;
            begins(day.to_datetime(self.from), zone).filter(|at| *at > now)
        };
        (0..HORIZON_DAYS).find_map(opening)
    }

    /// True if every instant of it lies in `outer`, as far as that can be told from the way it is written.
    pub(super) fn is_within(&self, outer: &Self) -> bool {
        let Self { days, from, to, holidays } = self;
        let days = days.iter().zip(&outer.days).all(|(own, theirs)| !own || *theirs) && holidays.is_superset(&outer.holidays);
        // Of stretches that stay in their day one can lie in the other; others are compared as they are.
        let stays = |h: &Self| h.to.is_none_or(|to| to > h.from);
        let end = |h: &Self| h.to.map_or((1, Time::midnight()), |to| (0, to));
        let same = (*from, *to) == (outer.from, outer.to);
        days && (same || (stays(self) && stays(outer) && *from >= outer.from && end(self) <= end(outer)))
    }

    fn opens(&self, date: Date) -> bool {
        self.days[usize::from(date.weekday().to_monday_zero_offset().unsigned_abs())] && !self.holidays.contains(&date)
    }

    /// Reads `hours`.
    pub(super) fn read(node: &Node, report: &mut Report) -> Option<Self> {
        let map = fields(node, "hours", &["days", "from", "to", "holidays"], report)?;
        let mut days = [map.get("days").is_none(); 7];
        if let Some(node) = map.get("days") {
            for range in each(node, "hours.days", report, day_range) {
                range.into_iter().for_each(|day| days[day] = true);
            }
        }
        let from = map.get("from").and_then(|n| one(n, "hours.from", report, time)).unwrap_or(Some(Time::midnight()));
        let to = map.get("to").and_then(|n| one(n, "hours.to", report, time)).unwrap_or(None);
        if let (None, Some(node)) = (from, map.get("from")) {
            report.error(&node.at, "hours.from: a day begins at \"00:00\": write that");
        }
        let mut holidays = BTreeSet::new();
        if let Some(node) = map.get("holidays") {
            holidays.extend(each(node, "hours.holidays", report, holiday));
        }
        Some(Self { days, from: from.unwrap_or(Time::midnight()), to, holidays })
    }
}

/// `mon`, or `mon-fri`, which may go over Sunday; as positions from Monday.
fn day_range(t: &str) -> Result<Vec<usize>, String> {
    let day = |t: &str| DAYS.iter().position(|name| *name == t);
    let (first, last) = t.split_once('-').unwrap_or((t, t));
    let (Some(first), Some(last)) = (day(first), day(last)) else {
        return Err(format!("\"{}\" is not a day: write mon, tue, wed, thu, fri, sat, sun, or a stretch such as mon-fri", shown(t)));
    };
    let length = (last + 7 - first) % 7;
    Ok((0..=length).map(|i| (first + i) % 7).collect())
}

/// `HH:MM`; `24:00` is `None`.
fn time(t: &str) -> Result<Option<Time>, String> {
    let fault = || format!("\"{}\" is not a time of day: write it as \"09:00\", from \"00:00\" to \"24:00\"", shown(t));
    if t == "24:00" {
        return Ok(None);
    }
    let two = |t: &str| t.parse::<i8>().ok().filter(|_| t.len() == 2 && t.bytes().all(|b| b.is_ascii_digit()));
    let (hour, minute) = t.split_once(':').and_then(|(h, m)| Some((two(h)?, two(m)?))).ok_or_else(fault)?;
    Time::new(hour, minute, 0, 0).map(Some).map_err(|_| fault())
}

fn holiday(t: &str) -> Result<Date, String> {
    let date = t.parse::<Date>().ok().filter(|_| t.len() == 10);
    date.ok_or_else(|| format!("\"{}\" is not a date: write it as 2026-12-25", shown(t)))
}
