//! The two round trips of a signature: judged and held, then joined; finished, then released.

use std::sync::Arc;

use super::{Caller, No, Server};
use crate::cosigner::judge::Permit;
use crate::cosigner::sessions::Stage;
use crate::mpc::{Joined, Partial, Party};
use crate::payment::{ChainId, PurchaseId, Reason};
use crate::wire::message::{Begin, Finish, Finished, Intent, Opened, SignedIntent, VERSION};

/// What an intent's signature is over, before its bytes.
const CONTEXT: &str = "tollpass/intent/1";

impl Server {
    /// First round trip. The amount is held and the key remembered, durably, before our first message exists.
    pub(super) async fn begin(self: &Arc<Self>, begin: Begin, caller: Caller) -> Result<Opened, No> {
        let intent = self.intent(&begin.intent, &caller)?;
        self.sessions.supersede(caller.owner.key, PurchaseId::from_bytes(intent.purchase));
        let place = self.sessions.place(caller.owner).ok_or(Reason::CosignerBusy)?;
        let permit = self.judge.consider(&intent, &caller.standing).await?;
        crate::failpoint!("cosigner_hold_durable");
        let digest = permit.digest();
        let mark = self.mark().await?;
        let joining = self.marked(mark, move |server| {
            let share = Arc::clone(server.custody.share());
            Joined::new(share, Party::Sidecar, begin.sign_id, digest, &begin.round1)
        });
        let (mark, (joined, round1, round2)) = joining.await?;
        crate::failpoint!("cosigner_joined");
        let stage = Stage::Sign { permit: Box::new(permit), joined: Box::new(joined) };
        let session = self.sessions.open(caller.owner, stage, place, mark).ok_or(Reason::WalletFrozen)?;
        Ok(Opened { session, round1, round2, head: self.head() })
    }

    /// Second round trip: the session is used up whatever comes of it.
    pub(super) async fn finish(self: &Arc<Self>, finish: Finish, caller: &Caller) -> Result<Finished, No> {
        let session = self.sessions.take(finish.session, caller.owner).ok_or(Reason::SessionLost)?;
        let Stage::Sign { permit, joined } = session.stage else { return Err(Reason::SessionLost.into()) };
        self.still(&permit, caller)?;
        let (_mark, partial) = self.marked(session.mark, move |_| joined.finish(&finish.round2)).await?;
        self.release(*permit, &partial, [0; 32], caller)
    }

    /// The bytes were signed by the identity that sends them, say what we can read, and are about our wallet.
    pub(super) fn intent(&self, signed: &SignedIntent, caller: &Caller) -> Result<Intent, No> {
        if signed.signer != caller.owner.key.0 || caller.key.verify(CONTEXT, &signed.bytes, &signed.signature).is_err() {
            return Err(No::Close);
        }
        let intent: Intent = super::decode(&signed.bytes)?;
        if intent.version != VERSION {
            return Err(Reason::WireVersion.into());
        }
        if intent.wallet != self.wallet.id.as_str() {
            return Err(Reason::WalletUnknown.into());
        }
        if intent.epoch != self.wallet.epoch {
            return Err(Reason::StaleEpoch.into());
        }
        let testnet = ChainId::new(intent.chain).is_some_and(ChainId::is_testnet);
        if !testnet && self.over_limit.load(std::sync::atomic::Ordering::Acquire) {
            return Err(Reason::WalletOverLimit.into());
        }
        Ok(intent)
    }

    /// Asked again right before the last message (S5): revoked, frozen, another policy, too little time.
    pub(super) fn still(&self, permit: &Permit, caller: &Caller) -> Result<(), No> {
        if self.custody.frozen().is_some() {
            return Err(Reason::WalletFrozen.into());
        }
        match self.judge.still(permit, crate::wire::link::Service::now(self)) {
            Ok(()) => Ok(()),
            Err(Reason::IdentityRevoked) => {
                self.dismiss(caller.owner.key);
                Err(No::Close)
            }
            Err(reason) => Err(reason.into()),
        }
    }

    /// The partial leaves.
    pub(super) fn release(&self, permit: Permit, partial: &Partial, rho: [u8; 32], caller: &Caller) -> Result<Finished, No> {
        self.still(&permit, caller)?;
        crate::failpoint!("cosigner_before_partial");
        let remaining_micro = self.judge.remaining(&permit).map(crate::payment::MicroUsd::micro);
        self.judge.released(permit);
        crate::failpoint!("cosigner_after_partial");
        Ok(Finished { partial: partial.as_bytes().to_vec(), rho, remaining_micro, head: self.head() })
    }
}
