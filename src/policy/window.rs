//! Calendar periods in the policy's time zone, and the counters they are applied to (M2.1).

use jiff::tz::TimeZone;

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
    /// The period of this kind that contains `now` in `zone`.
    pub fn span(self, now: Timestamp, zone: &TimeZone) -> Span {
        let _ = (now, zone);
        unimplemented!("helper")
    }
}
