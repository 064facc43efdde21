//! Ledger time never runs backwards, and a jump stops payments (M1.8).

use crate::payment::Timestamp;

/// One reading of both clocks, taken together by the caller.
#[derive(Clone, Copy, Debug)]
pub struct ClockReading {
    /// CLOCK_REALTIME.
    pub wall: Timestamp,
    /// CLOCK_BOOTTIME in milliseconds: counts through suspend, cannot be set.
    pub boot_ms: i64,
}

/// Ledger time and whether it can be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockState {
    /// max(wall, last recorded).
    pub now: Timestamp,
    /// False: no payment until the time is confirmed (`clock_unsure`).
    pub sure: bool,
}
