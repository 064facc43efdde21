//! Calendar periods, rolling windows and opening hours, from M2.1 and M3.7.

use super::yaml::Node;
use jiff::civil::{Date, Time, Weekday};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};

/// "2026-11-27T15:00:00Z"
pub(crate) fn instant(text: &str) -> Timestamp {
    text.parse().unwrap_or_else(|e| panic!("{text}: {e}"))
}

/// "90s", "15m", "24h", "30d" in milliseconds.
pub(crate) fn span_ms(text: &str) -> i128 {
    let (number, unit) = text.split_at(text.len() - 1);
    let unit = match unit {
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => panic!("no unit in {text:?}"),
    };
    number.parse::<i128>().unwrap_or_else(|e| panic!("{text}: {e}")) * unit
}

pub(crate) fn ms(at: Timestamp) -> i128 {
    i128::from(at.as_millisecond())
}

/// What the calendar calls the period that holds this instant. Two instants are in one period when the names are equal; so a
/// local hour that occurs twice is one period.
pub(crate) fn period(window: &str, at: Timestamp, zone: &str) -> String {
    let local = at.to_zoned(TimeZone::get(zone).unwrap_or_else(|e| panic!("{zone}: {e}"))).datetime();
    let date = local.date();
    match window {
        "hour" => format!("{date} {}", local.hour()),
        "day" => date.to_string(),
        "week" => {
            let week = date.iso_week_date();
            format!("{} week {}", week.year(), week.week())
        }
        "month" => format!("{}-{}", date.year(), date.month()),
        "total" => "all".to_owned(),
        other => panic!("no window {other:?}"),
    }
}

/// Whether a payment still counts in a rolling window: its bucket, one sixtieth of the span and aligned to the epoch, leaves
/// when the bucket's end + span ≤ now.
pub(crate) fn rolls(paid: Timestamp, now: Timestamp, span: i128) -> bool {
    let width = span / 60;
    let end = (ms(paid).div_euclid(width) + 1) * width;
    end + span > ms(now)
}

/// Whether the wall clock is within `hours: { days, from, to, holidays }`.
pub(crate) fn open(hours: &Node, now: Timestamp, zone: &str) -> bool {
    let local = now.to_zoned(TimeZone::get(zone).expect("checked")).datetime();
    let from = clock(hours.get("from"));
    let to = clock(hours.get("to"));
    let (date, time) = (local.date(), local.time());
    let yesterday = date.checked_sub(1.day()).expect("a day before");
    match (from, to) {
        (Some(from), Some(to)) if from < to => from <= time && time < to && day_open(hours, date),
        // crosses midnight, or is 24 hours long: belongs to its first day
        (Some(from), Some(to)) => (time >= from && day_open(hours, date)) || (time < to && day_open(hours, yesterday)),
        (Some(from), None) => time >= from && day_open(hours, date),
        (None, Some(to)) => time < to && day_open(hours, date),
        (None, None) => day_open(hours, date),
    }
}

fn clock(node: &Node) -> Option<Time> {
    let (hour, minute) = node.text()?.split_once(':').expect("hh:mm");
    Some(Time::new(hour.parse().expect("hour"), minute.parse().expect("minute"), 0, 0).expect("a time"))
}

fn day_open(hours: &Node, date: Date) -> bool {
    let holiday = hours.get("holidays").texts().contains(&date.to_string().as_str());
    let days = hours.get("days");
    let listed = !days.is_there() || days.texts().iter().any(|d| names_day(d, date.weekday()));
    listed && !holiday
}

/// "sat" or "mon-fri", also around the end of the week.
fn names_day(text: &str, day: Weekday) -> bool {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last, day) = (number(first), number(last), day.to_monday_zero_offset());
    if first <= last { first <= day && day <= last } else { day >= first || day <= last }
}

fn number(name: &str) -> i8 {
    let at = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"].iter().position(|d| *d == name);
    i8::try_from(at.unwrap_or_else(|| panic!("no day {name:?}"))).expect("small")
}
