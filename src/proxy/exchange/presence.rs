//! What treasurer and ledger learn of the agent that waits for an exchange, from the hold to the answer.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Exchange, Exchanges};
use crate::ledger::Ledger;
use crate::payment::PurchaseId;
use crate::treasurer::Waiter;

/// The waiter of an exchange, and the purchase that is held for it.
pub(in crate::proxy) struct Presence {
    exchange: Arc<Exchange>,
    exchanges: Arc<Exchanges>,
    ledger: Ledger,
    held: Mutex<Option<PurchaseId>>,
}

impl Presence {
    pub(in crate::proxy) const fn new(exchange: Arc<Exchange>, exchanges: Arc<Exchanges>, ledger: Ledger) -> Self {
        Self { exchange, exchanges, ledger, held: Mutex::new(None) }
    }

    fn held(&self) -> MutexGuard<'_, Option<PurchaseId>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// As [`Waiter::holds`], unless that was said of it: told again, the ledger would forget who has taken the place since.
    pub(in crate::proxy) fn keeps(&self, id: PurchaseId) {
        if *self.held() != Some(id) {
            self.holds(id);
        }
    }

    /// Nobody finds the exchange any more.
    pub(in crate::proxy) fn end(&self) {
        let held = self.held().take();
        if let Some(id) = held {
            self.exchanges.remove(&id, &self.exchange);
        }
    }
}

impl Waiter for Presence {
    fn waits(&self) -> bool {
        self.exchange.wanted()
    }

    fn holds(&self, id: PurchaseId) {
        *self.held() = Some(id);
        self.exchanges.insert(id, self.exchange.clone());
        let ledger = self.ledger.clone();
        self.exchange.when_gone(move || ledger.waiter_gone(&id));
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        self.end();
    }
}
