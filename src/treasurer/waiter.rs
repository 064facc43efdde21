//! Whoever waits for the answer that a challenge is paid for.

use crate::payment::PurchaseId;

/// An agent's request on its way through the treasurer.
pub trait Waiter: Send + Sync {
    /// False while nobody waits: nobody pays for a caller that hung up.
    fn waits(&self) -> bool;

    /// From here on the ledger has to hear when the waiter leaves: a signature may take seconds, and whoever gives up in the
    /// meantime and repeats must find this purchase (M1.1).
    fn holds(&self, id: PurchaseId);
}
