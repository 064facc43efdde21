//! The one place that reads clocks; everything below takes the reading as an argument.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::ledger::ClockReading;
use crate::payment::Timestamp;

/// Wall clock and boot time, read together (M1.8).
pub fn read() -> ClockReading {
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| i64::try_from(d.as_millis()).unwrap_or(i64::MAX));
    let boot = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let boot_ms = boot.tv_sec.saturating_mul(1000).saturating_add(boot.tv_nsec / 1_000_000);
    let ahead = simulated_ms();
    ClockReading { wall: Timestamp::from_millis(wall.saturating_add(ahead)), boot_ms: boot_ms.saturating_add(ahead) }
}

/// How far a test has moved both clocks ahead: the number in the file that `TOLLPASS_CLOCK_AHEAD_MS` names, so that seven
/// days pass in seconds. Only in builds with failpoints.
#[cfg(feature = "failpoints")]
fn simulated_ms() -> i64 {
    use std::sync::OnceLock;

    static FILE: OnceLock<Option<std::path::PathBuf>> = OnceLock::new();
    let file = FILE.get_or_init(|| std::env::var_os("TOLLPASS_CLOCK_AHEAD_MS").map(Into::into));
    let text = file.as_ref().and_then(|path| std::fs::read_to_string(path).ok());
    text.and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}

#[cfg(not(feature = "failpoints"))]
const fn simulated_ms() -> i64 {
    0
}
