//! Ledger time never runs backwards, and a jump stops payments (M1.8). Pure: the caller reads the clocks.

use crate::payment::Timestamp;

/// How far the clocks may disagree, milliseconds.
const TOLERANCE_MS: i64 = 30_000;

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

/// The clock of one ledger.
#[derive(Debug)]
pub(super) struct Clock {
    last: Timestamp,
    base: ClockReading,
    sure: bool,
}

impl Clock {
    /// Starts from the last recorded time; `accept` takes the wall clock as it is, even if it is behind.
    pub(super) fn open(last: Timestamp, reading: ClockReading, accept: bool) -> Self {
        let mut clock = Self { last, base: reading, sure: false };
        if accept {
            clock.accept(reading);
        }
        clock.read(reading);
        clock
    }

    /// An operator vouches for this reading: it becomes the base and the last recorded time, even if that was later.
    pub(super) fn accept(&mut self, reading: ClockReading) {
        self.base = reading;
        self.last = reading.wall;
        self.sure = true;
    }

    /// Judges a reading. A time that is not sure is answered but not recorded, so a jump leaves no trace once undone.
    pub(super) fn read(&mut self, reading: ClockReading) -> ClockState {
        let wall_delta = reading.wall.millis().saturating_sub(self.base.wall.millis());
        let boot_delta = reading.boot_ms.saturating_sub(self.base.boot_ms);
        let agrees = wall_delta.saturating_sub(boot_delta).saturating_abs() <= TOLERANCE_MS;
        let behind = self.last > reading.wall.plus_millis(TOLERANCE_MS);
        self.sure = agrees && !behind;
        let now = reading.wall.max(self.last);
        if self.sure {
            self.last = now;
        }
        ClockState { now, sure: self.sure }
    }

    /// Takes a time that is about to be recorded: never before the last one.
    pub(super) fn record(&mut self, now: Timestamp) -> Timestamp {
        self.last = self.last.max(now);
        self.last
    }

    /// The latest time handed out as sure, or recorded.
    pub(super) const fn last(&self) -> Timestamp {
        self.last
    }

    /// What the latest reading said.
    pub(super) const fn sure(&self) -> bool {
        self.sure
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(wall: i64, boot: i64) -> ClockReading {
        ClockReading { wall: Timestamp::from_secs(wall), boot_ms: boot * 1000 }
    }

    #[test]
    fn ledger_time_is_the_later_of_wall_and_last_recorded_and_a_jump_is_unsure_m1_8() {
        // (last recorded, wall and boot at open, accept, then readings: wall, boot → now, sure)
        type Steps = &'static [(i64, i64, i64, bool)];
        let table: [(i64, (i64, i64), bool, Steps); 8] = [
            (0, (1000, 50), false, &[(1000, 50, 1000, true), (1010, 60, 1010, true), (1005, 61, 1010, true)]),
            (1030, (1000, 50), false, &[(1000, 50, 1030, true), (1031, 81, 1031, true)]),
            (1031, (1000, 50), false, &[(1000, 50, 1031, false), (1001, 51, 1031, true), (1040, 90, 1040, true)]),
            (9999, (1000, 50), true, &[(1000, 50, 1000, true), (1001, 51, 1001, true)]),
            (0, (1000, 50), false, &[(1040, 60, 1040, true), (1041, 60, 1041, false), (1011, 61, 1040, true)]),
            (0, (1000, 50), false, &[(5000, 60, 5000, false), (1020, 70, 1020, true)]),
            (0, (1000, 50), false, &[(970, 50, 1000, true), (969, 50, 1000, false), (1060, 110, 1060, true)]),
            (0, (1000, 50), false, &[(9000, 8050, 9000, true)]),
        ];
        for (i, (last, (wall, boot), accept, steps)) in table.into_iter().enumerate() {
            let mut clock = Clock::open(Timestamp::from_secs(last), at(wall, boot), accept);
            for (j, (wall, boot, now, sure)) in steps.iter().enumerate() {
                let want = ClockState { now: Timestamp::from_secs(*now), sure: *sure };
                assert_eq!(clock.read(at(*wall, *boot)), want, "row {i} step {j}");
            }
        }
    }

    #[test]
    fn an_operator_may_accept_a_jump_m1_8() {
        let mut clock = Clock::open(Timestamp::from_secs(0), at(1000, 50), false);
        assert!(!clock.read(at(5000, 51)).sure);
        clock.accept(at(5000, 51));
        assert_eq!(clock.read(at(5001, 52)), ClockState { now: Timestamp::from_secs(5001), sure: true });
    }
}
