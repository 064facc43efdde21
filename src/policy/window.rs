//! Calendar periods in the policy's time zone, and the counters they are applied to (M2.1).

use jiff::ToSpan as _;
use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, TimeZone};

use super::RuleId;
use crate::payment::{AgentId, Timestamp};

/// Whose counter: postings are summed per scope.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// Everything the agent paid.
    Agent(AgentId),
    /// What the agent paid under one allow entry.
    Entry(AgentId, RuleId),
}

/// A half-open stretch of time `[from, until)`, milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    /// First instant inside.
    pub from: Timestamp,
    /// First instant after.
    pub until: Timestamp,
}

impl Span {
    /// Everything there was and will be.
    pub const ALL: Self = Self { from: Timestamp::from_millis(i64::MIN), until: Timestamp::from_millis(i64::MAX) };

    /// The sliding span of a rate: `at >= from` is exactly `now − at < length` (M3.7).
    pub const fn last(length_ms: i64, now: Timestamp) -> Self {
        Self { from: now.plus_millis(1 - length_ms), until: Timestamp::from_millis(i64::MAX) }
    }

    /// True if `at` lies inside.
    pub fn contains(&self, at: Timestamp) -> bool {
        self.from <= at && at < self.until
    }
}

/// A period a cap counts over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Window {
    /// Wall-clock hour; an hour that occurs twice is one period (M3.7).
    Hour,
    /// Calendar day.
    Day,
    /// ISO week, from Monday.
    Week,
    /// Calendar month.
    Month,
    /// All time.
    Total,
}

impl Window {
    /// Every window, smallest first.
    pub const ALL: [Self; 5] = [Self::Hour, Self::Day, Self::Week, Self::Month, Self::Total];

    /// The key in a policy file.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Week => "week",
            Self::Month => "month",
            Self::Total => "total",
        }
    }

    /// The period of this kind that contains `now` in `zone`.
    ///
    /// Periods of one kind tile all of time: each begins at the first instant at which the clock on the wall reads its start
    /// or later. So an hour that occurs twice is one long period and an hour that is skipped is an empty one. A time outside
    /// what the calendar can express counts over everything, which is never too little.
    pub fn span(self, now: Timestamp, zone: &TimeZone) -> Span {
        self.calendar_span(now, zone).unwrap_or(Span::ALL)
    }

    fn calendar_span(self, now: Timestamp, zone: &TimeZone) -> Option<Span> {
        let instant = jiff::Timestamp::from_millisecond(now.millis()).ok()?;
        let mut start = self.floor(zone.to_datetime(instant))?;
        let (mut from, mut next) = (begins(start, zone)?, self.after(start)?);
        // Around a transition the wall clock may name a period that ended or has not begun: walk to the one that holds `now`.
        while now < from {
            next = start;
            start = self.before(start)?;
            from = begins(start, zone)?;
        }
        let mut until = begins(next, zone)?;
        while now >= until {
            next = self.after(next)?;
            from = until;
            until = begins(next, zone)?;
        }
        Some(Span { from, until })
    }

    fn floor(self, at: DateTime) -> Option<DateTime> {
        let midnight = at.date().at(0, 0, 0, 0);
        match self {
            Self::Hour => Some(at.date().at(at.hour(), 0, 0, 0)),
            Self::Day => Some(midnight),
            Self::Week => midnight.checked_sub(i64::from(at.weekday().to_monday_zero_offset()).days()).ok(),
            Self::Month => Some(at.date().first_of_month().at(0, 0, 0, 0)),
            Self::Total => None,
        }
    }

    fn after(self, start: DateTime) -> Option<DateTime> {
        start.checked_add(self.length()?).ok()
    }

    fn before(self, start: DateTime) -> Option<DateTime> {
        start.checked_sub(self.length()?).ok()
    }

    fn length(self) -> Option<jiff::Span> {
        Some(match self {
            Self::Hour => 1.hour(),
            Self::Day => 1.day(),
            Self::Week => 1.week(),
            Self::Month => 1.month(),
            Self::Total => return None,
        })
    }
}

/// The first instant at which the wall clock in `zone` reads `civil` or later.
fn begins(civil: DateTime, zone: &TimeZone) -> Option<Timestamp> {
    let ambiguous = zone.to_ambiguous_timestamp(civil);
    let instant = match ambiguous.offset() {
        AmbiguousOffset::Unambiguous { .. } | AmbiguousOffset::Fold { .. } => ambiguous.earlier().ok()?,
        // Inside a gap the clock jumps over `civil`: the jump itself is the next transition after the earlier reading.
        AmbiguousOffset::Gap { .. } => {
            let earlier = ambiguous.earlier().ok()?;
            zone.following(earlier).next()?.timestamp()
        }
    };
    Some(Timestamp::from_millis(ceil_millis(instant)))
}

fn ceil_millis(instant: jiff::Timestamp) -> i64 {
    let (ms, rest) = (instant.as_millisecond(), instant.subsec_nanosecond() % 1_000_000);
    if rest > 0 { ms + 1 } else { ms }
}
