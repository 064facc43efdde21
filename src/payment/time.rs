//! Wall-clock instants as integers.

use serde::{Deserialize, Serialize};

/// Milliseconds since the Unix epoch. The ledger hands out times that never run backwards (M1.8).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(i64);

impl Timestamp {
    /// From milliseconds since the epoch.
    pub const fn from_millis(ms: i64) -> Self {
        Self(ms)
    }

    /// From whole seconds since the epoch.
    pub const fn from_secs(s: i64) -> Self {
        Self(s.saturating_mul(1000))
    }

    /// Milliseconds since the epoch.
    pub const fn millis(self) -> i64 {
        self.0
    }

    /// Whole seconds since the epoch, rounded down.
    pub const fn secs(self) -> i64 {
        self.0.div_euclid(1000)
    }

    /// This instant moved by `ms` milliseconds (saturating).
    pub const fn plus_millis(self, ms: i64) -> Self {
        Self(self.0.saturating_add(ms))
    }

    /// This instant moved by `s` seconds (saturating).
    pub const fn plus_secs(self, s: i64) -> Self {
        self.plus_millis(s.saturating_mul(1000))
    }

    /// RFC 3339 in UTC, whole seconds, as the agent and the log see it.
    pub fn rfc3339(self) -> String {
        jiff::Timestamp::from_second(self.secs()).map_or_else(|_| self.secs().to_string(), |t| t.to_string())
    }

    /// RFC 3339 in UTC with milliseconds, for lines that are sorted.
    pub fn rfc3339_millis(self) -> String {
        let seconds = self.rfc3339();
        format!("{}.{:03}Z", seconds.trim_end_matches('Z'), self.millis().rem_euclid(1000))
    }
}
