//! An amount held in memory, until it is durable or given back.

use std::fmt;
use std::sync::Arc;

use super::posting::Posting;
use super::store::{Answer, Change};
use super::{Commitment, NewPurchase, Purchase, ReserveError, Shared, State, durable};
use crate::payment::{Reason, Timestamp};
use crate::policy::{Approval, Violation};

/// An amount held in memory. Dropping it gives the amount back: nothing was written, nothing signed.
#[must_use = "dropping a reservation releases the amount"]
pub struct Reservation {
    shared: Arc<Shared>,
    /// Taken by `commit`; what is still here at the end goes back.
    held: Option<Held>,
}

#[derive(Debug)]
struct Held {
    purchase: Arc<Purchase>,
    posting: Posting,
    epoch: u64,
}

impl Reservation {
    /// Checks everything again under the books' lock and posts to every counter, all or nothing (M2.5).
    pub(super) fn new(shared: &Arc<Shared>, approval: &Approval, new: NewPurchase, now: Timestamp) -> Result<Self, ReserveError> {
        if !shared.store.available() {
            return Err(ReserveError::Unavailable);
        }
        let offer = approval.offer();
        if offer.amount.asset() != offer.asset.id {
            return Err(ReserveError::Stale(Some(Violation::new(Reason::InvalidAsset))));
        }
        let posting = {
            let mut state = shared.state();
            let State { books, clock } = &mut *state;
            if !clock.sure() {
                return Err(ReserveError::ClockUnsure);
            }
            let at = clock.record(now);
            books.hold(approval, new.payer, &new.id, at).map_err(ReserveError::Stale)?
        };
        // Outside the lock: the digest takes longer than the sums.
        let purchase = Arc::new(Purchase::intent(approval, new, posting.at));
        Ok(Self { shared: Arc::clone(shared), held: Some(Held { purchase, posting, epoch: approval.epoch() }) })
    }

    /// Writes hold and complete intent in one durable transaction and waits for it (M1.5).
    ///
    /// If this future is dropped while it waits, the purchase is an orphan as soon as it is durable: still spent, to be adopted.
    ///
    /// # Errors
    /// [`ReserveError::Unavailable`] if the transaction failed, [`ReserveError::Stale`] if the policy changed since (M2.2); the
    /// amount is released.
    pub async fn commit(self) -> Result<Commitment, ReserveError> {
        self.commit_and(|| ()).await
    }

    /// As [`Self::commit`]; `entered` is called as soon as the purchase is in the books, before it is durable.
    ///
    /// # Errors
    /// As [`Self::commit`].
    pub async fn commit_and(self, entered: impl FnOnce()) -> Result<Commitment, ReserveError> {
        let (commitment, answer) = self.submit()?;
        entered();
        // On failure the writer has undone the hold, and the commitment dropped here finds nothing to leave behind.
        durable(answer).await?;
        Ok(commitment)
    }

    /// Hands the hold to the writer, which decides its fate from here on.
    fn submit(mut self) -> Result<(Commitment, Answer), ReserveError> {
        let mut state = self.shared.state();
        let books = &mut state.books;
        let Some(held) = &self.held else { return Err(ReserveError::Stale(None)) };
        let (num, owner) = books.enter(&held.purchase, &held.posting, held.epoch).map_err(ReserveError::Stale)?;
        // From here on it is not ours to give back.
        let Some(Held { purchase, posting, .. }) = self.held.take() else { return Err(ReserveError::Stale(None)) };
        let id = purchase.id;
        let change = Change::Hold { num, purchase: Arc::clone(&purchase), posting };
        let Some(answer) = self.shared.store.submit(Some(change)) else {
            books.undo_hold(&id);
            return Err(ReserveError::Unavailable);
        };
        Ok((Commitment::first(Arc::clone(&self.shared), purchase, owner), answer))
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if let Some(held) = self.held.take() {
            let mut state = self.shared.state();
            state.books.unpost(&held.posting);
            state.books.leave_live(&held.purchase);
        }
    }
}

impl fmt::Debug for Reservation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reservation").field("held", &self.held).finish_non_exhaustive()
    }
}
