//! The one place that reads clocks; everything below takes the reading as an argument.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::ledger::ClockReading;
use crate::payment::Timestamp;

/// Wall clock and boot time, read together (M1.8).
pub fn read() -> ClockReading {
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| i64::try_from(d.as_millis()).unwrap_or(i64::MAX));
    let boot = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    ClockReading { wall: Timestamp::from_millis(wall), boot_ms: boot.tv_sec.saturating_mul(1000).saturating_add(boot.tv_nsec / 1_000_000) }
}
