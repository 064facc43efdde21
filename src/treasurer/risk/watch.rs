//! What was seen lately, in memory: sliding counts, and each agent's own pace. Pure: `now` is an argument. After a restart it
//! begins anew; what it stopped stays stopped.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::hash::Hash;

use crate::payment::{AgentId, RequestKey, Timestamp};
use crate::policy::{Breaker, Velocity};

/// Keys of one kind that are remembered; beyond it the stale ones go, then all: forgetting only makes the rules milder.
const KEYS: usize = 10_000;
const MINUTE_MS: i64 = 60_000;
/// A pace is compared with what was paid since a day before.
const DAY_MINUTES: i64 = 24 * 60;

/// Why somebody is stopped, in numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Alarm {
    /// So many within so many seconds.
    TooMany { count: usize, seconds: u64 },
    /// So many within so many minutes, where `normal` would have been usual.
    TooFast { count: u64, minutes: u64, normal: u64, times: u32 },
}

impl fmt::Display for Alarm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooMany { count, seconds } => write!(f, "{count} within {seconds} s"),
            Self::TooFast { count, minutes, normal, times } => {
                write!(f, "{count} payments within {minutes} min, more than {times} times the usual {normal}")
            }
        }
    }
}

/// Everything that is watched.
#[derive(Debug, Default)]
pub(super) struct Watch {
    hosts: HashMap<String, Slide>,
    requests: HashMap<RequestKey, Slide>,
    agents: HashMap<AgentId, Pace>,
}

impl Watch {
    /// A paid request at `host` failed.
    pub(super) fn failed(&mut self, host: &str, now: Timestamp, rule: &Breaker) -> Option<Alarm> {
        make_room(&mut self.hosts, |slide| slide.stale(now, rule));
        if !self.hosts.contains_key(host) {
            self.hosts.insert(host.to_owned(), Slide::default());
        }
        self.hosts.get_mut(host)?.hit(now, rule)
    }

    /// The same request was refused, or failed, once more.
    pub(super) fn again(&mut self, key: &RequestKey, now: Timestamp, rule: &Breaker) -> Option<Alarm> {
        make_room(&mut self.requests, |slide| slide.stale(now, rule));
        self.requests.entry(*key).or_default().hit(now, rule)
    }

    /// `agent` paid.
    pub(super) fn paid(&mut self, agent: &AgentId, now: Timestamp, rule: &Velocity) -> Option<Alarm> {
        make_room(&mut self.agents, |pace| pace.stale(now));
        if !self.agents.contains_key(agent) {
            self.agents.insert(agent.clone(), Pace::default());
        }
        let alarm = self.agents.get_mut(agent)?.hit(now, rule);
        if alarm.is_some() {
            // Whoever unfreezes it has accepted what it did: it is measured anew.
            self.agents.remove(agent);
        }
        alarm
    }
}

fn make_room<K: Hash + Eq, V>(map: &mut HashMap<K, V>, stale: impl Fn(&V) -> bool) {
    if map.len() < KEYS {
        return;
    }
    map.retain(|_, value| !stale(value));
    if map.len() >= KEYS {
        map.clear();
    }
}

/// The last instants of something, as many as could matter.
#[derive(Debug, Default)]
struct Slide(VecDeque<i64>);

impl Slide {
    fn hit(&mut self, now: Timestamp, rule: &Breaker) -> Option<Alarm> {
        let span = i64::try_from(rule.within.as_millis()).unwrap_or(i64::MAX);
        self.0.push_back(now.millis());
        self.0.retain(|at| now.millis().saturating_sub(*at) < span);
        let count = self.0.len();
        if count < usize::try_from(rule.count).unwrap_or(usize::MAX) {
            return None;
        }
        // Begins anew: after an unfreeze the same failures do not count twice.
        self.0.clear();
        Some(Alarm::TooMany { count, seconds: rule.within.as_secs() })
    }

    fn stale(&self, now: Timestamp, rule: &Breaker) -> bool {
        let span = i64::try_from(rule.within.as_millis()).unwrap_or(i64::MAX);
        self.0.back().is_none_or(|at| now.millis().saturating_sub(*at) >= span)
    }
}

/// Payments of one agent by the minute, a day and the rule's span back.
#[derive(Debug, Default)]
struct Pace(VecDeque<(i64, u64)>);

impl Pace {
    /// The normal is the mean over what came before the span, up to a day; with less than one more span of it there is no
    /// normal, and nothing is judged: the caps bound a new agent.
    fn hit(&mut self, now: Timestamp, rule: &Velocity) -> Option<Alarm> {
        let minute = now.millis().div_euclid(MINUTE_MS);
        match self.0.back_mut() {
            // A clock that was set back counts in the newest minute.
            Some((last, count)) if *last >= minute => *count += 1,
            _ => self.0.push_back((minute, 1)),
        }
        let span = i64::try_from(rule.within.as_secs() / 60).unwrap_or(DAY_MINUTES).max(1);
        let border = minute - span;
        while self.0.front().is_some_and(|(at, _)| *at <= border - DAY_MINUTES) {
            self.0.pop_front();
        }
        let split = self.0.partition_point(|(at, _)| *at <= border);
        let recent: u64 = self.0.iter().skip(split).map(|(_, n)| n).sum();
        let before: u64 = self.0.iter().take(split).map(|(_, n)| n).sum();
        let known = self.0.front().map_or(0, |(first, _)| border - first + 1);
        if known < span {
            return None;
        }
        let (known, minutes) = (u64::try_from(known).ok()?, u64::try_from(span).ok()?);
        let (times, least) = (u64::from(rule.times), u64::from(rule.least));
        // recent > times × before × span / known, without rounding.
        let unusual = u128::from(recent) * u128::from(known) > u128::from(times) * u128::from(before) * u128::from(minutes);
        let normal = (before * minutes / known).max(least);
        (unusual && recent > times * least).then_some(Alarm::TooFast { count: recent, minutes, normal, times: rule.times })
    }

    fn stale(&self, now: Timestamp) -> bool {
        let minute = now.millis().div_euclid(MINUTE_MS);
        self.0.back().is_none_or(|(at, _)| minute - at > DAY_MINUTES)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::time::Duration;

    use super::*;
    use crate::policy::Then;

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_millis(1_700_000_000_000 - 1_700_000_000_000 % MINUTE_MS + ms)
    }

    fn minute(n: i64) -> Timestamp {
        at(n * MINUTE_MS)
    }

    const THREE: Breaker = Breaker { count: 3, within: Duration::from_secs(600), then: Then::FreezeHost };

    #[test]
    fn the_third_failure_within_the_span_trips_and_a_millisecond_later_does_not() {
        for (third, trips) in [(599_999, true), (600_000, false)] {
            let mut watch = Watch::default();
            assert_eq!(watch.failed("a.example", at(0), &THREE), None);
            assert_eq!(watch.failed("b.example", at(1), &THREE), None, "hosts are counted apart");
            assert_eq!(watch.failed("a.example", at(2), &THREE), None);
            let alarm = watch.failed("a.example", at(third), &THREE);
            assert_eq!(alarm, trips.then_some(Alarm::TooMany { count: 3, seconds: 600 }), "{third}");
            assert_eq!(watch.failed("a.example", at(third + 1), &THREE).is_some(), !trips, "{third}: it begins anew after an alarm");
        }
    }

    #[test]
    fn requests_are_counted_by_their_key() {
        let mut watch = Watch::default();
        let keys: Vec<RequestKey> = (0..3).map(|n| RequestKey([n; 32])).collect();
        for key in &keys {
            assert_eq!(watch.again(key, at(0), &THREE), None);
            assert_eq!(watch.again(key, at(1), &THREE), None);
        }
        assert!(watch.again(&keys[1], at(2), &THREE).is_some());
    }

    const FAST: Velocity = Velocity { times: 10, least: 2, within: Duration::from_secs(300), then: Then::FreezeAgent };

    /// Pays `count` times in `n`; whether that ever alarms.
    fn pay(watch: &mut Watch, n: i64, count: u64) -> Option<Alarm> {
        let bot: AgentId = "bot".parse().unwrap();
        (0..count).filter_map(|_| watch.paid(&bot, minute(n), &FAST)).next()
    }

    #[test]
    fn a_new_agent_has_no_normal_and_a_steady_one_keeps_to_it() {
        let mut watch = Watch::default();
        assert_eq!(pay(&mut watch, 0, 5000), None, "nothing to compare with");
        for n in 1..2000 {
            assert_eq!(pay(&mut watch, n, 40), None, "minute {n}");
        }
    }

    #[test]
    fn more_than_ten_times_the_normal_is_too_fast_and_exactly_ten_times_is_not() {
        // One a minute for 100 minutes: 5 are usual within 5 minutes.
        let steady = || {
            let mut watch = Watch::default();
            (0..100).for_each(|n| assert_eq!(pay(&mut watch, n, 1), None));
            watch
        };
        // Minutes 96 to 100 are the span: four of them have one payment already, and the normal is 5 of 96 minutes.
        let mut watch = steady();
        assert_eq!(pay(&mut watch, 100, 46), None);
        let alarm = pay(&mut watch, 100, 1);
        assert_eq!(alarm, Some(Alarm::TooFast { count: 51, minutes: 5, normal: 5, times: 10 }));
        assert_eq!(alarm.unwrap().to_string(), "51 payments within 5 min, more than 10 times the usual 5");
        assert_eq!(pay(&mut watch, 100, 500), None, "measured anew after an alarm");
    }

    #[test]
    fn the_normal_is_at_least_what_the_rule_says() {
        // One payment in an hour: 20 within the span are ten times `least`.
        let mut watch = Watch::default();
        assert_eq!(pay(&mut watch, 0, 1), None);
        assert_eq!(pay(&mut watch, 60, 20), None);
        assert!(pay(&mut watch, 60, 1).is_some());
    }

    #[test]
    fn what_is_older_than_a_day_is_forgotten_and_memory_is_bounded() {
        let mut watch = Watch::default();
        pay(&mut watch, 0, 100_000);
        assert_eq!(pay(&mut watch, DAY_MINUTES + 10, 1), None);
        let pace = watch.agents.values().next().unwrap();
        assert_eq!(pace.0.len(), 1);
        for n in 0..(KEYS + 5) {
            watch.failed(&format!("h{n}.example"), at(0), &THREE);
        }
        assert!(watch.hosts.len() <= KEYS);
    }
}
