//! Sums over time: money per quarter of an hour, commitments per instant.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};

use crate::payment::Timestamp;
use crate::policy::Span;

/// A quarter of an hour: every calendar period of every time zone begins on a multiple of it in UTC.
pub(super) const QUARTER_MS: i64 = 900_000;

/// How long an instant matters for a rate (M3.7: the longest is `per_hour`).
pub(super) const RATE_MS: i64 = 3_600_000;

/// How long a single minute matters: a rolling window is at most 30 days, and its last bucket half a day (M2.1).
pub(super) const MINUTES_MS: i64 = 31 * 86_400_000;

/// A minute: every bucket of a rolling window begins on a multiple of it.
pub(super) const MINUTE_MS: i64 = 60_000;

/// Spans whose sums are kept at hand: hour, day, week, month, one of the period before, and as many that slide.
const REMEMBERED: usize = 12;

/// The quarter that `at` lies in.
pub(super) const fn quarter(at: Timestamp) -> i64 {
    at.millis().div_euclid(QUARTER_MS)
}

/// Money posted to one scope (M2.2): the sum over any period, in constant time for the periods asked for lately.
#[derive(Debug, Default)]
pub(super) struct Money {
    total: i64,
    quarters: BTreeMap<i64, i64>,
    /// The same of the last month, minute by minute, for windows that slide.
    minutes: BTreeMap<i64, i64>,
    /// How many payments of a quarter exceed a limit because people said yes (M3.7).
    granted: BTreeMap<i64, i64>,
    remembered: RefCell<VecDeque<(Span, i64)>>,
}

impl Money {
    /// Adds `micro` (negative for a release) to the period of `at`, and to no other (M2.1).
    pub(super) fn post(&mut self, at: Timestamp, micro: i64) {
        self.total = self.total.saturating_add(micro);
        add(&mut self.quarters, quarter(at), micro);
        add(&mut self.minutes, at.millis().div_euclid(MINUTE_MS), micro);
        self.forget();
        for (span, sum) in self.remembered.get_mut() {
            if if slides(*span) { span.contains(at) } else { covers(*span, quarter(at)) } {
                *sum = sum.saturating_add(micro);
            }
        }
    }

    /// Counts `count` payments (negative to take them back) that people let exceed a limit.
    pub(super) fn mark(&mut self, at: Timestamp, count: i64) {
        add(&mut self.granted, quarter(at), count);
        self.granted.retain(|_, count| *count != 0);
    }

    /// True if people let a payment within `span`, widened to quarters, exceed a limit.
    pub(super) fn granted(&self, span: Span) -> bool {
        let (from, until) = quarters(span);
        self.granted.range(from..).next().is_some_and(|(at, _)| *at < until)
    }

    /// Adds everything that was posted to `other`.
    pub(super) fn add_all(&mut self, other: &Self) {
        self.total = self.total.saturating_add(other.total);
        other.quarters.iter().for_each(|(at, micro)| add(&mut self.quarters, *at, *micro));
        other.minutes.iter().for_each(|(at, micro)| add(&mut self.minutes, *at, *micro));
        other.granted.iter().for_each(|(at, count)| add(&mut self.granted, *at, *count));
        self.forget();
        self.remembered.get_mut().clear();
    }

    fn forget(&mut self) {
        let Some((&newest, _)) = self.minutes.last_key_value() else { return };
        while let Some(oldest) = self.minutes.first_entry().filter(|e| newest - e.key() > MINUTES_MS / MINUTE_MS) {
            oldest.remove();
        }
    }

    /// True if `micro` more can be counted at all.
    pub(super) const fn has_room(&self, micro: i64) -> bool {
        self.total.checked_add(micro).is_some()
    }

    /// What was posted within `span`. A span that does not begin and end on a quarter is widened to it: never too little; but one
    /// that goes on for ever and begins on a minute is that of a sliding window and exact.
    pub(super) fn spent(&self, span: Span) -> i64 {
        let (Some((&first, _)), Some((&last, _))) = (self.quarters.first_key_value(), self.quarters.last_key_value()) else {
            return 0;
        };
        if !slides(span) && covers(span, first) && covers(span, last) {
            return self.total;
        }
        let mut remembered = self.remembered.borrow_mut();
        if let Some((_, sum)) = remembered.iter().find(|(s, _)| *s == span) {
            return *sum;
        }
        let sum = if slides(span) {
            self.minutes.range(span.from.millis().div_euclid(MINUTE_MS)..).map(|(_, v)| v).sum()
        } else {
            let (from, until) = quarters(span);
            self.quarters.range(from..).take_while(|(at, _)| **at < until).map(|(_, v)| v).sum()
        };
        if remembered.len() == REMEMBERED {
            remembered.pop_front();
        }
        remembered.push_back((span, sum));
        sum
    }
}

fn add(sums: &mut BTreeMap<i64, i64>, at: i64, micro: i64) {
    let sum = sums.entry(at).or_default();
    *sum = sum.saturating_add(micro);
}

/// A span of a sliding window: without an end, and from a minute that begins no quarter.
const fn slides(span: Span) -> bool {
    let from = span.from.millis();
    span.until.millis() == i64::MAX && from.rem_euclid(QUARTER_MS) != 0 && from.rem_euclid(MINUTE_MS) == 0
}

/// The quarters `[from, until)` that `span` touches.
const fn quarters(span: Span) -> (i64, i64) {
    let until = span.until.millis();
    let whole = until.div_euclid(QUARTER_MS);
    (quarter(span.from), if until.rem_euclid(QUARTER_MS) == 0 { whole } else { whole + 1 })
}

fn covers(span: Span, quarter: i64) -> bool {
    let (from, until) = quarters(span);
    from <= quarter && quarter < until
}

/// The instants of the last hour's commitments of one scope, in order (M2.5: never refunded).
#[derive(Debug, Default)]
pub(super) struct Instants(VecDeque<i64>);

impl Instants {
    /// Counts a commitment and forgets those no rate can ask for any more.
    pub(super) fn add(&mut self, at: Timestamp) {
        let at = at.millis();
        self.0.insert(self.0.partition_point(|x| *x <= at), at);
        while self.0.front().is_some_and(|x| at - *x >= RATE_MS) {
            self.0.pop_front();
        }
    }

    /// Takes back one commitment that never happened.
    pub(super) fn remove(&mut self, at: Timestamp) {
        let i = self.0.partition_point(|x| *x < at.millis());
        if self.0.get(i) == Some(&at.millis()) {
            self.0.remove(i);
        }
    }

    /// Commitments within `[from, until)`.
    pub(super) fn within(&self, span: Span) -> usize {
        let before = |t: Timestamp| self.0.partition_point(|x| *x < t.millis());
        before(span.until).saturating_sub(before(span.from))
    }

    /// Commitments since `from`, whatever the end of the span a decision used.
    pub(super) fn since(&self, from: Timestamp) -> usize {
        self.0.len() - self.0.partition_point(|x| *x < from.millis())
    }

    /// The `n`-th commitment since `from`, from zero.
    pub(super) fn nth_since(&self, from: Timestamp, n: usize) -> Option<Timestamp> {
        self.0.get(self.0.partition_point(|x| *x < from.millis()) + n).map(|x| Timestamp::from_millis(*x))
    }
}

/// What is signed and may still be used, by the end of its last window (S4). A co-signer's windows end within ten minutes, so
/// this stays small.
#[derive(Debug, Default)]
pub(super) struct LiveTotal(BTreeMap<i64, i64>);

impl LiveTotal {
    /// Adds `micro` (negative to take it out) until `end`.
    pub(super) fn add(&mut self, end: Timestamp, micro: i64) {
        let sum = self.0.entry(end.millis()).or_default();
        *sum = sum.saturating_add(micro);
        if *sum == 0 {
            self.0.remove(&end.millis());
        }
    }

    /// The sum of what ends after `now`.
    pub(super) fn total(&self, now: Timestamp) -> i64 {
        self.0.range(now.millis().saturating_add(1)..).fold(0, |sum, (_, micro)| sum.saturating_add(*micro))
    }

    /// When the next of it ends.
    pub(super) fn next_end(&self, now: Timestamp) -> Option<Timestamp> {
        self.0.range(now.millis().saturating_add(1)..).next().map(|(end, _)| Timestamp::from_millis(*end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn span(from: i64, until: i64) -> Span {
        Span { from: Timestamp::from_secs(from), until: Timestamp::from_secs(until) }
    }

    #[test]
    fn a_posting_belongs_to_the_period_of_its_instant_m2_1() {
        let mut money = Money::default();
        money.post(Timestamp::from_secs(3599), 5);
        money.post(Timestamp::from_secs(3600), 7);
        assert_eq!((money.spent(span(0, 3600)), money.spent(span(3600, 7200)), money.spent(span(7200, 9000))), (5, 7, 0));
        assert_eq!(money.spent(Span { from: Timestamp::from_millis(i64::MIN), until: Timestamp::from_millis(i64::MAX) }), 12);
    }

    #[test]
    fn a_release_credits_only_its_own_period_m2_1() {
        let mut money = Money::default();
        money.post(Timestamp::from_secs(10), 5);
        money.post(Timestamp::from_secs(3600), 7);
        assert_eq!(money.spent(span(3600, 7200)), 7);
        money.post(Timestamp::from_secs(10), -5);
        assert_eq!((money.spent(span(0, 3600)), money.spent(span(3600, 7200))), (0, 7));
    }

    #[test]
    fn an_unaligned_span_is_widened_never_narrowed() {
        let mut money = Money::default();
        money.post(Timestamp::from_secs(0), 1);
        money.post(Timestamp::from_secs(1799), 2);
        money.post(Timestamp::from_secs(9000), 4);
        assert_eq!(money.spent(span(899, 901)), 3);
        assert_eq!(money.spent(span(901, 899)), 0);
    }

    #[test]
    fn a_rate_counts_instants_with_now_minus_at_below_the_span_m3_7() {
        let mut instants = Instants::default();
        for at in [0, 60_000, 60_001, 119_999] {
            instants.add(Timestamp::from_millis(at));
        }
        let last_minute = |now: i64| Span { from: Timestamp::from_millis(now - 60_000 + 1), until: Timestamp::from_millis(now + 1) };
        assert_eq!(instants.within(last_minute(120_000)), 2);
        assert_eq!(instants.within(last_minute(119_999)), 3);
        instants.remove(Timestamp::from_millis(60_001));
        instants.remove(Timestamp::from_millis(60_001));
        assert_eq!(instants.within(last_minute(119_999)), 2);
        instants.add(Timestamp::from_millis(RATE_MS));
        assert_eq!(instants.since(Timestamp::from_millis(i64::MIN)), 3, "the first is older than any rate");
    }

    #[test]
    fn m2_1_a_sliding_span_is_exact_to_the_minute() {
        let at = |minute: i64| Timestamp::from_millis(minute * MINUTE_MS);
        let mut money = Money::default();
        let since = |minute: i64| Span { from: at(minute), until: Timestamp::from_millis(i64::MAX) };
        [(0, 1), (16, 2), (17, 4), (31, 8)].into_iter().for_each(|(minute, micro)| money.post(at(minute).plus_millis(59_999), micro));
        assert_eq!([0, 1, 16, 17, 18, 31, 32].map(|m| money.spent(since(m))), [15, 14, 14, 12, 8, 8, 0]);
        money.post(at(17), -4);
        assert_eq!([0, 1, 16, 17, 18].map(|m| money.spent(since(m))), [11, 10, 10, 8, 8]);
        let mut month = Money::default();
        [(1, 1), (60 * 24 * 30, 2)].into_iter().for_each(|(minute, micro)| month.post(at(minute), micro));
        assert_eq!((month.spent(since(1)), month.spent(since(2))), (3, 2), "thirty days are kept by the minute");
        let mut sum = Money::default();
        sum.add_all(&money);
        sum.add_all(&money);
        assert_eq!((sum.spent(since(16)), sum.spent(Span::ALL)), (20, 22));
        money.post(at(60 * 24 * 40), 16);
        assert_eq!(money.spent(since(60 * 24 * 10 + 1)), 16, "a month later only the new one is left");
        assert_eq!(money.spent(Span::ALL), 27);
    }

    #[test]
    fn minutes_are_kept_for_a_month_and_sums_for_the_spans_asked_for_lately() {
        let at = |minute: i64| Timestamp::from_millis(minute * MINUTE_MS);
        let mut money = Money::default();
        money.post(at(1), 1);
        money.post(at(1 + 31 * 1_440), 2);
        assert_eq!(money.minutes.len(), 2, "31 days, inclusive");
        money.post(at(2 + 31 * 1_440), 4);
        assert_eq!(money.minutes.keys().copied().collect::<Vec<_>>(), [1 + 31 * 1_440, 2 + 31 * 1_440]);
        for hour in 0..3 * REMEMBERED as i64 {
            money.spent(span(hour * 3600, hour * 3600 + 3600));
        }
        let kept: Vec<Span> = money.remembered.borrow().iter().map(|(s, _)| *s).collect();
        let last = 3 * REMEMBERED as i64 - 1;
        assert_eq!((kept.len(), kept.last()), (REMEMBERED, Some(&span(last * 3600, last * 3600 + 3600))));
    }

    #[test]
    fn a_sum_has_room_up_to_the_largest_number_and_not_beyond() {
        let mut money = Money::default();
        money.post(Timestamp::from_secs(0), 5);
        assert!(money.has_room(i64::MAX - 5) && !money.has_room(i64::MAX - 4));
    }

    #[test]
    fn m3_7_a_yes_marks_the_quarters_of_its_period() {
        let mut money = Money::default();
        money.mark(Timestamp::from_secs(900), 1);
        for (from, until, marked) in
            [(0, 900, false), (0, 901, true), (900, 1800, true), (1799, 1800, true), (1800, 2700, false), (1800, 0, false)]
        {
            assert_eq!(money.granted(span(from, until)), marked, "{from} {until}");
        }
        money.mark(Timestamp::from_secs(1000), -1);
        assert!(!money.granted(Span::ALL));
    }

    #[test]
    fn commitments_are_counted_from_an_instant_on_that_one_included() {
        let mut instants = Instants::default();
        [5, 7, 7, 9].into_iter().for_each(|ms| instants.add(Timestamp::from_millis(ms)));
        let at = Timestamp::from_millis;
        assert_eq!([4, 5, 6, 7, 8, 9, 10].map(|ms| instants.since(at(ms))), [4, 4, 3, 3, 1, 1, 0]);
        assert_eq!(
            [(5, 0), (5, 3), (6, 0), (7, 1), (7, 2), (8, 1)].map(|(ms, n)| instants.nth_since(at(ms), n).map(Timestamp::millis)),
            [Some(5), Some(9), Some(7), Some(7), Some(9), None]
        );
    }

    proptest! {
        #[test]
        fn a_remembered_sum_equals_a_fresh_one(posts in prop::collection::vec((0_i64..40, -5_i64..9), 0..60), asked in prop::collection::vec((0_i64..44, 0_i64..44), 1..12)) {
            let at = |q: i64| Timestamp::from_millis(q * QUARTER_MS);
            let mut money = Money::default();
            for (i, (q, micro)) in posts.iter().enumerate() {
                money.post(at(*q), *micro);
                let (from, until) = asked[i % asked.len()];
                let want: i64 = posts[..=i].iter().filter(|(p, _)| from <= *p && *p < until).map(|(_, m)| m).sum();
                prop_assert_eq!(money.spent(Span { from: at(from), until: at(until) }), want);
            }
        }
    }
}
