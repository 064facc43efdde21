//! Opening and closing the till: ledger and signer, which one process at a time has (M1.9).

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context as _, Result};
use arc_swap::ArcSwap;
use tokio::runtime::Handle;
use tokio::task::AbortHandle;

use super::signer;
use crate::clock;
use crate::config::Config;
use crate::custody::CustodyError;
use crate::ledger::{self, Ledger, OpenError};
use crate::metrics::Metrics;
use crate::policy::Policy;
use crate::proxy::{Proxy, Till};
use crate::treasurer::Treasurer;

/// Opens the ledger: the first thing a process does that is not to take over from another, for the lock guards all of the state.
pub(super) fn open_ledger(config: &Config, accept_clock: bool) -> Result<Ledger> {
    let opening = ledger::Options { dir: config.private(), ephemeral_ok: config.ledger.ephemeral_ok, accept_clock };
    let opened = Ledger::open(&opening, clock::read());
    if let Err(OpenError::Locked(_)) = &opened {
        return opened.context("this state is in use: `tollpass serve --handover` takes over from the process that uses it");
    }
    Ok(opened?)
}

/// True if another process still has what was to be opened.
pub(super) fn is_taken(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(OpenError::Locked(_))) || matches!(error.downcast_ref(), Some(CustodyError::Locked(_)))
}

/// Opens the till, and closes it around a hand-over.
pub(super) struct Cashier {
    pub(super) config: Config,
    pub(super) accept_clock: bool,
    pub(super) metrics: Arc<Metrics>,
    pub(super) policy: Arc<ArcSwap<Policy>>,
    pub(super) epochs: Epochs,
    pub(super) proxy: Arc<Proxy>,
    pub(super) money: Handle,
    /// What keeps the signer's link warm, while the till is open.
    pub(super) keeper: Mutex<Option<AbortHandle>>,
}

impl std::fmt::Debug for Cashier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Cashier")
    }
}

impl Cashier {
    /// Takes ledger and signer: a till for [`Proxy::open_till`]. Blocking.
    ///
    /// # Errors
    /// What cannot be opened; [`is_taken`] tells whether waiting may help.
    pub(super) fn open(&self) -> Result<Arc<Till>> {
        self.open_with(open_ledger(&self.config, self.accept_clock)?)
    }

    /// The same with a ledger that is open.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub(super) fn open_with(&self, ledger: Ledger) -> Result<Arc<Till>> {
        let signer::Started { signer, deadline, keeper } = signer::start(&self.config, &self.metrics, &self.money)?;
        *lock(&self.keeper) = keeper;
        self.epochs.attach(&ledger, &self.policy);
        let treasurer = Treasurer::new(self.policy.clone(), ledger, signer.clone(), self.metrics.clone(), deadline);
        Ok(Arc::new(Till::open(treasurer, signer, &self.config.private())?))
    }

    /// Lets go of ledger and signer, as far as no task still has them: what is queued is written first.
    ///
    /// # Errors
    /// If the ledger could not be flushed.
    pub(super) async fn release(&self, till: Arc<Till>) -> Result<()> {
        let flushed = till.ledger().flush().await;
        if let Some(keeper) = lock(&self.keeper).take() {
            keeper.abort();
        }
        self.epochs.detach();
        drop(till);
        flushed.context("the ledger could not be flushed")
    }
}

/// Tells the ledger which policy is in force, from the moment there is a ledger.
#[derive(Clone, Default)]
pub(super) struct Epochs(Arc<Mutex<Option<Ledger>>>);

impl Epochs {
    /// A policy took effect.
    pub(super) fn loaded(&self, policy: &Policy) {
        if let Some(ledger) = &*lock(&self.0) {
            ledger.follow(policy);
        }
    }

    /// Under the lock: a policy that takes effect at this moment is read here, or told after it.
    fn attach(&self, ledger: &Ledger, policy: &ArcSwap<Policy>) {
        let mut attached = lock(&self.0);
        ledger.follow(&policy.load());
        *attached = Some(ledger.clone());
    }

    fn detach(&self) {
        *lock(&self.0) = None;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
