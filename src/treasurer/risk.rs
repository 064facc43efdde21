//! The rules of `risk` at work: what was seen goes into [`watch::Watch`], what comes out is a freeze, and a person undoes it.

mod watch;

use std::sync::{Arc, Mutex, PoisonError};

use super::Ask;
use crate::metrics::Metrics;
use crate::payment::{Reason, Retry, Timestamp};
use crate::policy::{Policy, Stopped, Then};
use crate::stops::{RISK, Stops, Target};
use watch::{Alarm, Watch};

/// Watches payments, and stops who looks wrong.
pub(super) struct Guard {
    stops: Arc<Stops>,
    metrics: Arc<Metrics>,
    watch: Mutex<Watch>,
}

impl Guard {
    pub(super) fn new(stops: Arc<Stops>, metrics: Arc<Metrics>) -> Self {
        Self { stops, metrics, watch: Mutex::default() }
    }

    /// What stands against a payment now.
    pub(super) fn stopped(&self, ask: &Ask) -> Option<Reason> {
        self.stops.closed(&ask.agent, &ask.host)
    }

    /// A payment was signed.
    pub(super) fn paid(&self, ask: &Ask, policy: &Policy, now: Timestamp) {
        let Some(rule) = policy.risk().watching.velocity else { return };
        let alarm = self.watching(|watch| watch.paid(&ask.agent, now, &rule));
        self.act(ask, alarm, rule.then, "velocity", now);
    }

    /// A payment was refused. What passes by itself, and what is stopped already, says nothing about the agent.
    pub(super) fn refused(&self, ask: &Ask, reason: Reason, policy: &Policy, now: Timestamp) {
        let stopped = matches!(reason, Reason::Killed | Reason::AgentFrozen | Reason::HostFrozen);
        if reason.retry() != Retry::Soon && !stopped {
            self.again(ask, policy, now);
        }
    }

    /// A payment was sent and the seller's answer is lost, or has a status of 400 or above.
    pub(super) fn failed(&self, ask: &Ask, policy: &Policy, now: Timestamp) {
        if let Some(rule) = policy.risk().watching.paid_but_failed {
            let alarm = self.watching(|watch| watch.failed(&ask.host.to_string(), now, &rule));
            self.act(ask, alarm, rule.then, "paid_but_failed", now);
        }
        self.again(ask, policy, now);
    }

    fn again(&self, ask: &Ask, policy: &Policy, now: Timestamp) {
        let Some(rule) = policy.risk().watching.retry_loop else { return };
        let alarm = self.watching(|watch| watch.again(&ask.key, now, &rule));
        self.act(ask, alarm, rule.then, "retry_loop", now);
    }

    fn watching<T>(&self, look: impl FnOnce(&mut Watch) -> T) -> T {
        look(&mut self.watch.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Freezes at once; the disk is not waited for here. The evidence is numbers and our own words (S19).
    fn act(&self, ask: &Ask, alarm: Option<Alarm>, then: Then, rule: &'static str, at: Timestamp) {
        let Some(alarm) = alarm else { return };
        let target = match then {
            Then::FreezeAgent => Target::Agent(ask.agent.clone()),
            Then::FreezeHost => Target::Host(ask.host.clone()),
        };
        let why = format!("{rule}: {alarm} (agent {}, host {})", ask.agent, ask.host);
        let stopped = Stopped { by: RISK.into(), why: why.into(), at };
        self.metrics.frozen_by(rule);
        let stops = Arc::clone(&self.stops);
        let write = move || {
            if let Err(error) = stops.freeze(&target, stopped) {
                tracing::error!(%target, "{error}");
            }
        };
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(write)),
            Err(_) => write(),
        }
    }
}
