//! Calendar periods in the policy's time zone, and the counters they are applied to (M2.1).

use std::sync::Arc;

use jiff::ToSpan as _;
use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, TimeZone};

use super::{Members, RuleId};
use crate::payment::{AgentId, Payee, Payer, SessionName, Timestamp};

/// Whose counter: postings are summed per scope.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// Everything the agent paid.
    Agent(AgentId),
    /// What the agent paid under one allow entry.
    Entry(AgentId, RuleId),
    /// What the agent paid at one host, as [`super::Host`] writes it.
    Host(AgentId, Arc<str>),
    /// What the agent paid one account.
    AgentPayee(AgentId, Payee),
    /// What the agent paid in one session.
    Session(AgentId, SessionName),
    /// What these agents paid together; with a customer only what they paid for it. The empty customer is the nameless one of a
    /// budget `per: customer` (M3.7).
    Shared(Members, Option<Arc<str>>),
    /// Everything this account paid; a co-signer's counter, as are the following (S4).
    Wallet(Payer),
    /// Everything this account was paid, whoever asked for it.
    Payee(Payee),
    /// Everything one identity had signed, whichever of its agents it named.
    Identity(Arc<str>),
    /// Everything paid to payees that nothing proves.
    Unverified,
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

    /// The sliding span of a rolling cap of `hours`: sixty buckets aligned to the epoch, of which one leaves when its end + the
    /// length ≤ now (M2.1, M3.7). So it looks back a little further than its length, never less far.
    pub const fn rolling(hours: u32, now: Timestamp) -> Self {
        let length = hours as i64 * 3_600_000;
        let bucket = length / 60;
        // The first bucket whose end (start + bucket) + length > now.
        let from = (now.millis().saturating_sub(length + bucket).div_euclid(bucket) + 1) * bucket;
        Self { from: Timestamp::from_millis(from), until: Timestamp::from_millis(i64::MAX) }
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
        let start = self.floor(zone.to_datetime(instant))?;
        // The wall clock reads `start` or later now, so the first instant at which it did is not after now.
        let (mut from, mut next) = (begins(start, zone)?, self.after(start)?);
        // Where a clock went back over the end of a period, it names one that has ended: walk to the one that holds `now`.
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

/// What a cap counts over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Period {
    /// A calendar period in the policy's time zone, or all time.
    Calendar(Window),
    /// The last so many hours (M2.1).
    Rolling(u32),
}

impl Period {
    /// What counts at `now`.
    pub fn span(self, now: Timestamp, zone: &TimeZone) -> Span {
        match self {
            Self::Calendar(window) => window.span(now, zone),
            Self::Rolling(hours) => Span::rolling(hours, now),
        }
    }
}

impl std::fmt::Display for Period {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Calendar(window) => f.write_str(window.as_str()),
            Self::Rolling(hours) => write!(f, "rolling.{hours}h"),
        }
    }
}

/// The first instant at which the wall clock in `zone` reads `civil`, a whole second, or later.
pub(super) fn begins(civil: DateTime, zone: &TimeZone) -> Option<Timestamp> {
    let ambiguous = zone.to_ambiguous_timestamp(civil);
    let instant = match ambiguous.offset() {
        AmbiguousOffset::Unambiguous { .. } | AmbiguousOffset::Fold { .. } => ambiguous.earlier().ok()?,
        // Inside a gap the clock jumps over `civil`: the jump itself is the next transition after the earlier reading.
        AmbiguousOffset::Gap { .. } => {
            let earlier = ambiguous.earlier().ok()?;
            zone.following(earlier).next()?.timestamp()
        }
    };
    Some(Timestamp::from_millis(instant.as_millisecond()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn zone(name: &str) -> TimeZone {
        jiff::tz::TimeZoneDatabase::bundled().get(name).unwrap()
    }

    fn at(text: &str) -> Timestamp {
        Timestamp::from_millis(text.parse::<jiff::Timestamp>().unwrap().as_millisecond())
    }

    #[test]
    fn m2_1_periods_are_those_of_the_calendar_in_the_zone() {
        use Window::{Day, Hour, Month, Week};
        for (zone_name, window, now, from, until) in [
            ("UTC", Hour, "2026-11-21T12:34:56.789Z", "2026-11-21T12:00:00Z", "2026-11-21T13:00:00Z"),
            ("UTC", Hour, "2026-11-21T13:00:00Z", "2026-11-21T13:00:00Z", "2026-11-21T14:00:00Z"),
            ("UTC", Day, "2026-11-21T00:00:00Z", "2026-11-21T00:00:00Z", "2026-11-22T00:00:00Z"),
            ("America/Lima", Day, "2026-11-21T04:59:59.999Z", "2026-11-20T05:00:00Z", "2026-11-21T05:00:00Z"),
            // ISO weeks begin on Monday: Sunday belongs to the week before.
            ("UTC", Week, "2026-11-22T23:59:59Z", "2026-11-16T00:00:00Z", "2026-11-23T00:00:00Z"),
            ("UTC", Week, "2026-11-23T00:00:00Z", "2026-11-23T00:00:00Z", "2026-11-30T00:00:00Z"),
            ("UTC", Week, "2027-01-01T12:00:00Z", "2026-12-28T00:00:00Z", "2027-01-04T00:00:00Z"),
            ("UTC", Month, "2028-02-29T12:00:00Z", "2028-02-01T00:00:00Z", "2028-03-01T00:00:00Z"),
            ("Asia/Kathmandu", Hour, "2026-11-21T12:20:00Z", "2026-11-21T12:15:00Z", "2026-11-21T13:15:00Z"),
            ("Asia/Kolkata", Hour, "2026-11-21T12:20:00Z", "2026-11-21T11:30:00Z", "2026-11-21T12:30:00Z"),
            // A fold: 01:00–02:00 occurs twice and is one period of two hours (M3.7).
            ("America/New_York", Hour, "2026-11-01T05:30:00Z", "2026-11-01T05:00:00Z", "2026-11-01T07:00:00Z"),
            ("America/New_York", Hour, "2026-11-01T06:30:00Z", "2026-11-01T05:00:00Z", "2026-11-01T07:00:00Z"),
            ("America/New_York", Day, "2026-11-01T06:30:00Z", "2026-11-01T04:00:00Z", "2026-11-02T05:00:00Z"),
            // A gap: 02:00–03:00 does not occur.
            ("America/New_York", Hour, "2026-03-08T06:59:59Z", "2026-03-08T06:00:00Z", "2026-03-08T07:00:00Z"),
            ("America/New_York", Hour, "2026-03-08T07:00:00Z", "2026-03-08T07:00:00Z", "2026-03-08T08:00:00Z"),
            ("America/New_York", Day, "2026-03-08T12:00:00Z", "2026-03-08T05:00:00Z", "2026-03-09T04:00:00Z"),
            // Half an hour back and forth.
            ("Australia/Lord_Howe", Hour, "2026-04-04T15:10:00Z", "2026-04-04T14:00:00Z", "2026-04-04T15:30:00Z"),
            ("Australia/Lord_Howe", Hour, "2026-10-03T15:40:00Z", "2026-10-03T15:30:00Z", "2026-10-03T16:00:00Z"),
            // Midnight that does not occur, and a whole day that does not.
            ("Africa/Cairo", Day, "2026-04-24T12:00:00Z", "2026-04-23T22:00:00Z", "2026-04-24T21:00:00Z"),
            ("Pacific/Apia", Day, "2011-12-30T09:59:59Z", "2011-12-29T10:00:00Z", "2011-12-30T10:00:00Z"),
            ("Pacific/Apia", Day, "2011-12-30T10:00:00Z", "2011-12-30T10:00:00Z", "2011-12-31T10:00:00Z"),
        ] {
            let span = window.span(at(now), &zone(zone_name));
            assert_eq!((span.from.rfc3339(), span.until.rfc3339()), (from.into(), until.into()), "{zone_name} {window:?} {now}");
        }
        assert_eq!(Window::Total.span(at("2026-11-21T12:00:00Z"), &TimeZone::UTC), Span::ALL);
    }

    #[test]
    fn a_time_beyond_the_calendar_counts_over_everything() {
        for ms in [i64::MIN, i64::MAX, 253_402_300_800_000] {
            assert_eq!(Window::Day.span(Timestamp::from_millis(ms), &TimeZone::UTC), Span::ALL);
        }
    }

    #[test]
    fn m2_1_a_rolling_span_has_sixty_buckets_that_expire_late() {
        let day = 24 * 3600;
        for (hours, now, from) in [
            // Buckets of 24 minutes = 1440 s: the one that ends exactly a day ago has left, the next is whole.
            (24, 10 * day, 9 * day),
            (24, 10 * day + 1, 9 * day),
            (24, 10 * day + 1439, 9 * day),
            (24, 10 * day + 1440, 9 * day + 1440),
            // Buckets of a minute.
            (1, 7200, 3600),
            (1, 7259, 3600),
            (1, 7260, 3660),
            (720, 100 * day, 70 * day),
        ] {
            let span = Span::rolling(hours, Timestamp::from_secs(now));
            assert_eq!((span.from, span.until.millis()), (Timestamp::from_secs(from), i64::MAX), "{hours} {now}");
        }
        assert_eq!(Period::Rolling(24).to_string(), "rolling.24h");
    }

    #[test]
    fn m3_7_a_rate_looks_back_less_than_its_length() {
        let now = Timestamp::from_secs(1_000);
        let span = Span::last(60_000, now);
        assert!(span.contains(now) && span.contains(now.plus_millis(-59_999)) && !span.contains(now.plus_millis(-60_000)));
    }

    const ZONES: [&str; 12] = [
        "UTC",
        "America/New_York",
        "America/St_Johns",
        "America/Sao_Paulo",
        "Europe/London",
        "Europe/Dublin",
        "Africa/Casablanca",
        "Australia/Lord_Howe",
        "Asia/Kathmandu",
        "Pacific/Apia",
        "America/Nuuk",
        "Pacific/Chatham",
    ];

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn spans_contain_now_and_tile(name in prop::sample::select(ZONES.to_vec()), index in 0_usize..4, secs in 0_i64..2_200_000_000, near in any::<bool>()) {
            let (zone, window) = (zone(name), Window::ALL[index]);
            // Half of the cases lie within two hours of a transition, where mistakes live.
            let second = jiff::Timestamp::from_second(secs).unwrap();
            let jump = zone.following(second).next().filter(|_| near).map(|t| t.timestamp().as_second() + secs % 14_400 - 7_200);
            let now = Timestamp::from_secs(jump.unwrap_or(secs));
            let span = window.span(now, &zone);
            prop_assert!(span.contains(now));
            prop_assert!(span.from < span.until);
            for inside in [span.from, span.until.plus_millis(-1)] {
                prop_assert_eq!(window.span(inside, &zone), span);
            }
            prop_assert_eq!(window.span(span.until, &zone).from, span.until);
            prop_assert_eq!(window.span(span.from.plus_millis(-1), &zone).until, span.from);
        }
    }
}
