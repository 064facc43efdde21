//! Hello: the turn exchange of a run, at the start and on every new connection (see `custody`).

use std::sync::atomic::Ordering;
use std::time::Instant;

use super::{Failed, Inner};
use crate::payment::Reason;
use crate::wire::message::{Hello, Refused, Welcome, path};

/// An exchange that was left open by an earlier run is finished first; then this run makes its own.
const EXCHANGES: usize = 3;

impl Inner {
    /// Presents the share. `before` is the count of greetings the caller knew: if there is a newer one, it counts for the caller too.
    pub(super) async fn greet(&self, before: u64, deadline: Instant) -> Result<(), Failed> {
        let _one = self.greeting.lock().await;
        if self.greeted.load(Ordering::Acquire) != before {
            return Ok(());
        }
        // What was prepared on the connection before went with it.
        self.pool.clear();
        for _ in 0..EXCHANGES {
            if self.exchange(deadline).await? {
                self.greeted.fetch_add(1, Ordering::AcqRel);
                return Ok(());
            }
        }
        Err(Failed::Refused(super::own(Reason::ShareCopied)))
    }

    /// One exchange; true if its token was made by this process.
    async fn exchange(&self, deadline: Instant) -> Result<bool, Failed> {
        let custody = std::sync::Arc::clone(&self.custody);
        let (turn, next_turn) = self.crew.run(move || custody.turn()).await?.map_err(|error| self.unwritable(&error))?;
        let hello = Hello { wallet: self.wallet.id.to_string(), epoch: self.wallet.epoch, turn, next_turn };
        let known = self.head.load(Ordering::Acquire);
        let welcome: Welcome = self.once(path::HELLO, &super::encode(&hello), deadline).await.map_err(|failed| self.explain(failed))?;
        if welcome.address != <[u8; 20]>::from(self.wallet.address) {
            tracing::error!(
                cosigner = self.cosigner,
                "the co-signer holds a share of another wallet: compare both with `tollpass wallet show`"
            );
            return Err(Failed::Refused(super::own(Reason::WalletUnknown)));
        }
        if known == 0 {
            // The first answer of this run is compared with what runs before have seen.
            if let Err(seen) = self.custody.peer_head(welcome.head) {
                return Err(self.went_back(seen, welcome.head));
            }
        }
        self.see_head(known, welcome.head)?;
        let custody = std::sync::Arc::clone(&self.custody);
        let fresh = self.crew.run(move || custody.turned()).await?.map_err(|error| self.unwritable(&error))?;
        self.pool.allow(welcome.presign);
        Ok(fresh)
    }

    fn unwritable(&self, error: &crate::custody::CustodyError) -> Failed {
        tracing::error!(%error, wallet = %self.wallet.id, "the share's state cannot be written");
        Failed::Busy
    }

    /// A refused greeting is worth a line of its own: the operator has to act.
    fn explain(&self, failed: Failed) -> Failed {
        if let Failed::Refused(Refused { reason, .. }) = &failed {
            let what = Reason::parse(reason).map_or("an unknown reason", Reason::explain);
            tracing::error!(cosigner = self.cosigner, reason, "the co-signer does not take us: {what}");
        }
        failed
    }
}
