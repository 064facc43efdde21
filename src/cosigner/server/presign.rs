//! Presignatures on the co-signer's side (S9, mpc.md §5); only with `accept_unreviewed_presign: true`.

use std::sync::Arc;
use std::time::Instant;

use super::{Caller, No, Server, lock};
use crate::cosigner::sessions::{MAX_PRESIGNED, Stage};
use crate::mpc::{Abort, Party, PreJoined};
use crate::payment::{PurchaseId, Reason};
use crate::wire::message::{Finished, Kept, Opened, Prepare, Prepared, Present};

/// Presignatures an identity may begin per second, beyond a full pool at once.
const PER_SECOND: f64 = 100.0;

/// A bucket that fills with time.
pub(super) struct Rate {
    left: f64,
    at: Instant,
}

impl Rate {
    fn new() -> Self {
        Self { left: MAX_PRESIGNED as f64, at: Instant::now() }
    }

    fn now(&self) -> f64 {
        (self.left + self.at.elapsed().as_secs_f64() * PER_SECOND).min(MAX_PRESIGNED as f64)
    }

    /// A bucket that was not used for a while need not be remembered.
    pub(super) fn is_full(&self) -> bool {
        self.now() >= MAX_PRESIGNED as f64
    }

    fn take(&mut self) -> bool {
        *self = Self { left: self.now(), at: Instant::now() };
        let enough = self.left >= 1.0;
        self.left -= if enough { 1.0 } else { 0.0 };
        enough
    }
}

impl Server {
    fn may_prepare(&self, caller: &Caller) -> Result<(), No> {
        if !self.presign {
            return Err(Reason::SessionLost.into());
        }
        let fits = lock(&self.rates).entry(caller.owner.key).or_insert_with(Rate::new).take();
        if fits { Ok(()) } else { Err(Reason::CosignerBusy.into()) }
    }

    /// First round trip of a presignature: nothing to judge, nothing is signed.
    pub(super) async fn prepare(self: &Arc<Self>, prepare: Prepare, caller: &Caller) -> Result<Opened, No> {
        self.may_prepare(caller)?;
        if prepare.wallet != self.wallet.id.as_str() || prepare.epoch != self.wallet.epoch {
            return Err(Reason::StaleEpoch.into());
        }
        let open = self.sessions.place(caller.owner).ok_or(Reason::CosignerBusy)?;
        let place = self.sessions.presigned_place(caller.owner).ok_or(Reason::CosignerBusy)?;
        let mark = self.mark().await?;
        let joining = self.marked(mark, move |server| {
            let share = Arc::clone(server.custody.share());
            PreJoined::new(share, Party::Sidecar, prepare.sign_id, &prepare.round1)
        });
        let (mark, (joined, round1, round2)) = joining.await?;
        let stage = Stage::Prepare { joined: Box::new(joined), place };
        let session = self.sessions.open(caller.owner, stage, open, mark).ok_or(Reason::WalletFrozen)?;
        Ok(Opened { session, round1, round2, head: self.head() })
    }

    /// Its second: our half waits under the session's id for one use.
    pub(super) async fn prepared(self: &Arc<Self>, prepared: Prepared, caller: &Caller) -> Result<Kept, No> {
        let session = self.sessions.take(prepared.session, caller.owner).ok_or(Reason::SessionLost)?;
        let Stage::Prepare { joined, place } = session.stage else { return Err(Reason::SessionLost.into()) };
        let policy = (self.policy)();
        let (_mark, half) = self.marked(session.mark, move |_| joined.finish(&prepared.round2)).await?;
        let kept = self.sessions.keep(prepared.session, caller.owner, half, place, policy);
        if kept { Ok(Kept { session: prepared.session }) } else { Err(Reason::WalletFrozen.into()) }
    }

    /// One round trip: the half is gone before anything is looked at that may fail (S9). Our randomness is drawn after we have
    /// accepted, so that nobody knew the nonce before the digest was fixed.
    pub(super) async fn present(self: &Arc<Self>, present: Present, caller: Caller) -> Result<Finished, No> {
        let half = self.sessions.take_presigned(present.session, caller.owner, (self.policy)()).ok_or(Reason::SessionLost)?;
        let intent = self.intent(&present.intent, &caller)?;
        self.sessions.supersede(caller.owner.key, PurchaseId::from_bytes(intent.purchase));
        let permit = self.judge.consider(&intent, &caller.standing).await?;
        crate::failpoint!("cosigner_hold_durable");
        self.still(&permit, &caller)?;
        let digest = permit.digest();
        let presenting = self.step(move |_| {
            rand::rng().reseed().map_err(|e| Abort::Recoverable(e.to_string()))?;
            let rho: [u8; 32] = rand::random();
            Ok((half.present(digest, present.rho, rho)?, rho))
        });
        let (partial, rho) = presenting.await?;
        self.release(permit, &partial, rho, &caller)
    }
}
