//! What was bought before under the same wallet, allow entry, host and method (M3.3).

use crate::payment::{MicroUsd, Timestamp};

/// The last 50 consumed purchases within 30 days, in four numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// How many there are, at most 50.
    pub count: u32,
    /// Their lower median; meaningful only if `count` > 0.
    pub median: MicroUsd,
    /// The latest of them; meaningful only if `count` > 0.
    pub last: MicroUsd,
    /// The first ever, however long ago: the anchor against a slow drift.
    pub first: Option<MicroUsd>,
}

impl History {
    /// How many purchases a history looks back at.
    pub const LENGTH: usize = 50;

    /// How long it looks back, inclusive, ms (M3.7).
    pub const REACH_MS: i64 = 30 * 86_400_000;

    /// The history at `now` of these consumed purchases, the oldest first; `first` is what the first ever was paid, which may lie
    /// before them. More than the last fifty change nothing.
    pub fn of(first: Option<MicroUsd>, consumed: &[(Timestamp, MicroUsd)], now: Timestamp) -> Self {
        let recent = &consumed[consumed.len().saturating_sub(Self::LENGTH)..];
        let within = |at: Timestamp| now.millis().saturating_sub(at.millis()) <= Self::REACH_MS;
        let mut prices: Vec<MicroUsd> = recent.iter().filter(|(at, _)| within(*at)).map(|(_, price)| *price).collect();
        let last = prices.last().copied().unwrap_or_default();
        prices.sort_unstable();
        Self {
            count: u32::try_from(prices.len()).unwrap_or(u32::MAX),
            median: prices.get(prices.len().saturating_sub(1) / 2).copied().unwrap_or_default(),
            last,
            first,
        }
    }
}
