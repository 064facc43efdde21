//! The breaker in front of a peer: after three failures in a row nothing is sent for a while, then one probe.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Failures in a row that open it.
const FAILURES: u32 = 3;
/// First pause; each failed probe doubles it.
const FIRST: Duration = Duration::from_millis(500);
/// Longest pause.
const LONGEST: Duration = Duration::from_secs(10);

/// Closed, open until a time, or half open with one probe under way.
#[derive(Debug, Default)]
pub(super) struct Breaker {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    failures: u32,
    /// Length of the pause, and its end.
    pause: Option<(Duration, Instant)>,
    probing: bool,
}

/// Leave to make one attempt. Dropped without a verdict (the caller gave up) it counts as nothing.
#[derive(Debug)]
pub(super) struct Pass<'a> {
    breaker: &'a Breaker,
    probe: bool,
}

impl Breaker {
    /// Leave for an attempt now, or `None` while open.
    pub(super) fn enter(&self, now: Instant) -> Option<Pass<'_>> {
        let mut state = self.lock();
        let Some((_, until)) = state.pause else { return Some(Pass { breaker: self, probe: false }) };
        if now < until || state.probing {
            return None;
        }
        state.probing = true;
        Some(Pass { breaker: self, probe: true })
    }

    /// No failure since the last success.
    pub(super) fn is_clean(&self) -> bool {
        self.lock().failures == 0
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pass<'_> {
    /// The peer answered: closed again.
    pub(super) fn succeeded(self) {
        // Not a probe's success as well: an answer to an earlier request shows the same.
        let mut state = self.breaker.lock();
        state.failures = 0;
        state.pause = None;
    }

    /// It did not; true if that opened the breaker. `chance` in 0..=255 shortens the pause by up to half, so that many
    /// clients do not come back together.
    pub(super) fn failed(self, now: Instant, chance: u8) -> bool {
        let mut state = self.breaker.lock();
        state.failures = state.failures.saturating_add(1);
        let length = match state.pause {
            // An attempt from before it opened says nothing new.
            Some(_) if !self.probe => return false,
            Some((length, _)) => (length * 2).min(LONGEST),
            None if state.failures >= FAILURES => FIRST,
            None => return false,
        };
        let jittered = length - length / 2 * u32::from(chance) / 255;
        state.pause = Some((length, now + jittered));
        true
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        if self.probe {
            self.breaker.lock().probing = false;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn fail(breaker: &Breaker, now: Instant) {
        let _ = breaker.enter(now).unwrap().failed(now, 0);
    }

    fn opened(now: Instant) -> Breaker {
        let breaker = Breaker::default();
        (0..FAILURES).for_each(|_| fail(&breaker, now));
        breaker
    }

    #[test]
    fn it_opens_after_three_failures_in_a_row_and_not_before() {
        let now = Instant::now();
        let breaker = Breaker::default();
        fail(&breaker, now);
        fail(&breaker, now);
        breaker.enter(now).unwrap().succeeded();
        assert!(breaker.is_clean());
        fail(&breaker, now);
        fail(&breaker, now);
        assert!(breaker.enter(now).is_some());
        fail(&breaker, now);
        assert!(breaker.enter(now).is_none() && !breaker.is_clean());
    }

    #[test]
    fn one_probe_at_a_time_after_the_pause_and_its_success_closes() {
        let now = Instant::now();
        let breaker = opened(now);
        assert!(breaker.enter(now + FIRST - Duration::from_millis(1)).is_none());
        let probe = breaker.enter(now + FIRST).unwrap();
        assert!(breaker.enter(now + FIRST).is_none());
        probe.succeeded();
        assert!(breaker.enter(now + FIRST).is_some() && breaker.is_clean());
    }

    #[test]
    fn a_probe_whose_caller_gave_up_leaves_room_for_the_next() {
        let now = Instant::now();
        let breaker = opened(now);
        drop(breaker.enter(now + FIRST).unwrap());
        assert!(breaker.enter(now + FIRST).is_some());
    }

    #[test]
    fn the_pause_doubles_up_to_ten_seconds() {
        let mut now = Instant::now();
        let breaker = opened(now);
        for millis in [500, 1000, 2000, 4000, 8000, 10_000, 10_000] {
            assert!(breaker.enter(now + Duration::from_millis(millis - 1)).is_none(), "{millis}");
            now += Duration::from_millis(millis);
            fail(&breaker, now);
        }
    }

    #[test]
    fn chance_shortens_the_pause_by_half_at_most() {
        let now = Instant::now();
        let breaker = Breaker::default();
        let opened: Vec<bool> = (0..FAILURES).map(|_| breaker.enter(now).unwrap().failed(now, 255)).collect();
        assert_eq!(opened, [false, false, true]);
        assert!(breaker.enter(now + FIRST / 2 - Duration::from_millis(1)).is_none());
        assert!(breaker.enter(now + FIRST / 2).is_some());
    }

    #[test]
    fn late_failures_of_earlier_attempts_do_not_lengthen_the_pause() {
        let now = Instant::now();
        let breaker = Breaker::default();
        let late: Vec<_> = (0..5).map(|_| breaker.enter(now).unwrap()).collect();
        let opened = late.into_iter().map(|pass| pass.failed(now, 0)).filter(|o| *o).count();
        assert_eq!(opened, 1);
        assert!(breaker.enter(now + FIRST).is_some());
    }
}
