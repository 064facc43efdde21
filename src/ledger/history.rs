//! What was bought before: the last 50 consumed purchases within 30 days, and the first ever (M3.3).

use std::collections::HashMap;

use crate::payment::{AgentId, MicroUsd, Timestamp};
use crate::policy::{History, RuleId};

/// How long a history looks back, inclusive.
pub(super) const REACH_MS: i64 = History::REACH_MS;

/// What is told apart: the same entry, host and method.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) agent: AgentId,
    pub(super) entry: RuleId,
    pub(super) host: String,
    pub(super) method: String,
}

/// Prices in the order of their rows, which is that of their holds: of two in the same millisecond one is the later, also
/// after a restart.
#[derive(Debug, Default)]
struct Prices {
    first: Option<(i64, MicroUsd)>,
    recent: Vec<(i64, Timestamp, MicroUsd)>,
}

/// All histories.
#[derive(Debug, Default)]
pub(super) struct Histories(HashMap<Key, Prices>);

impl Histories {
    /// The purchase in row `num` was consumed.
    pub(super) fn add(&mut self, key: Key, num: i64, at: Timestamp, price: MicroUsd) {
        let prices = self.0.entry(key).or_default();
        prices.first = Some(prices.first.map_or((num, price), |first| first.min((num, price))));
        prices.recent.insert(prices.recent.partition_point(|(n, ..)| *n <= num), (num, at, price));
        if prices.recent.len() > History::LENGTH {
            prices.recent.remove(0);
        }
    }

    /// The history of `key` at `now`.
    pub(super) fn of(&self, key: &Key, now: Timestamp) -> History {
        let (first, recent) = self.prices(key);
        History::of(first, &recent, now)
    }

    /// What the first purchase ever under `key` was paid, and the last fifty, the oldest first.
    pub(super) fn prices(&self, key: &Key) -> (Option<MicroUsd>, Vec<(Timestamp, MicroUsd)>) {
        let Some(prices) = self.0.get(key) else { return (None, Vec::new()) };
        (prices.first.map(|(_, price)| price), prices.recent.iter().map(|(_, at, price)| (*at, *price)).collect())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn history(prices: &[(i64, i64)], now_ms: i64) -> (u32, i64, i64, Option<i64>) {
        let key = Key { agent: "a".parse().unwrap(), entry: RuleId("e".into()), host: "h".into(), method: "GET".into() };
        let mut all = Histories::default();
        prices.iter().for_each(|(at, micro)| all.add(key.clone(), *at, Timestamp::from_millis(*at), MicroUsd::new(*micro)));
        let h = all.of(&key, Timestamp::from_millis(now_ms));
        (h.count, h.median.micro(), h.last.micro(), h.first.map(MicroUsd::micro))
    }

    #[test]
    fn m3_3_the_median_is_the_lower_one_and_the_first_price_stays() {
        assert_eq!(history(&[], 0), (0, 0, 0, None));
        assert_eq!(history(&[(1, 7)], 1), (1, 7, 7, Some(7)));
        assert_eq!(history(&[(1, 7), (2, 3)], 2), (2, 3, 3, Some(7)));
        assert_eq!(history(&[(1, 7), (2, 3), (3, 5)], 3), (3, 5, 5, Some(7)));
        assert_eq!(history(&[(3, 5), (1, 7), (2, 3)], 3), (3, 5, 5, Some(7)), "in the order of the holds");
        let many: Vec<_> = (0..60).map(|i| (i, i)).collect();
        assert_eq!(history(&many, 60), (50, 34, 59, Some(0)));
    }

    #[test]
    fn m3_7_thirty_days_are_inclusive() {
        const DAYS_30: i64 = 2_592_000_000;
        assert_eq!(history(&[(0, 7), (5, 3)], DAYS_30), (2, 3, 3, Some(7)));
        assert_eq!(history(&[(0, 7), (5, 3)], DAYS_30 + 1), (1, 3, 3, Some(7)));
        assert_eq!(history(&[(0, 7), (5, 3)], 2 * DAYS_30), (0, 0, 0, Some(7)));
    }
}
