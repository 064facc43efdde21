//! What every test needs: the program, sellers, agents, a chain that counts.

pub(crate) mod agent;
pub(crate) mod chain;
pub(crate) mod program;
pub(crate) mod seller;
pub(crate) mod tls;
pub(crate) mod wire;
pub(crate) mod x402;

use std::time::{Duration, Instant};

pub(crate) use agent::*;
pub(crate) use chain::*;
pub(crate) use program::*;
pub(crate) use seller::*;
pub(crate) use tls::*;
pub(crate) use wire::*;
pub(crate) use x402::*;

/// Nothing in these tests legitimately takes longer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Waits until `cond` holds; panics with `what` if it never does.
#[track_caller]
pub(crate) fn eventually(what: &str, mut cond: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !cond() {
        assert!(Instant::now() < deadline, "never happened: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
