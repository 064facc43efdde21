//! One round trip with a presignature, and the making of them in the background (S9; opt-in).

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::pool::Ready;
use super::{Failed, Inner};
use crate::ledger::SignRequest;
use crate::mpc::{Abort, Partial, Party, PreBegun};
use crate::wire::message::{Finished, Kept, Opened, Prepare, Prepared, Present, SignedIntent, path};

/// Made at the same time: enough to hide the round trips, few enough to leave the threads to payments.
const AT_ONCE: usize = 8;

/// One may take this long.
const PATIENCE: Duration = Duration::from_secs(5);

impl Inner {
    /// Signs with a presignature that was taken out of the pool for it; it is gone whatever happens.
    pub(super) async fn presigned(
        &self,
        request: &SignRequest,
        intent: &SignedIntent,
        ready: Ready,
        deadline: Instant,
    ) -> Result<[u8; 65], Failed> {
        let digest = request.authorization().digest();
        let rho: [u8; 32] = rand::random();
        let known = self.head.load(Ordering::Acquire);
        let present = Present { intent: intent.clone(), session: ready.session, rho };
        crate::failpoint!("sidecar_before_begin");
        // A connection that is new to the co-signer has no presignatures there: no greeting and no second try with this one.
        let finished: Finished = match self.once(path::PRESENT, &super::encode(&present), deadline).await {
            Err(Failed::Refused(refused)) if refused.reason == super::HELLO_FIRST => {
                return Err(Failed::Refused(super::own(crate::payment::Reason::SessionLost)));
            }
            answer => answer?,
        };
        self.heard(request, known, &finished)?;
        let (partial, rho_b) = (Partial::from_bytes(finished.partial), finished.rho);
        self.step(move |_| ready.half.complete(digest, rho, rho_b, &partial)).await
    }

    /// Makes what the pool lacks.
    pub(super) async fn fill(&self) {
        loop {
            let (missing, generation) = self.pool.missing();
            if missing == 0 {
                return;
            }
            let mut made = Vec::new();
            for _ in 0..missing.min(AT_ONCE) {
                made.push(self.prepare(generation));
            }
            for one in join_all(made).await {
                if let Err(failed) = one {
                    // The next tick tries again.
                    let why = self.judge(failed);
                    tracing::debug!(%why, "no presignature");
                    return;
                }
            }
        }
    }

    async fn prepare(&self, generation: usize) -> Result<(), Failed> {
        let deadline = Instant::now() + PATIENCE;
        let sign_id: [u8; 32] = rand::random();
        let (mark, begun, round1) = self
            .step(move |custody| {
                let mark = custody.session().map_err(|e| Abort::Recoverable(e.to_string()))?;
                let (begun, round1) = PreBegun::new(Arc::clone(custody.share()), Party::Cosigner, sign_id)?;
                Ok((mark, begun, round1))
            })
            .await?;
        let prepare = Prepare { wallet: self.wallet.id.to_string(), epoch: self.wallet.epoch, sign_id, round1 };
        let opened: Opened = self.ask(path::PREPARE, &prepare, deadline).await?;
        let (_mark, (half, round2)) = self.marked(mark, move || begun.advance(&opened.round1, &opened.round2)).await?;
        let kept: Kept = self.ask(path::PREPARED, &Prepared { session: opened.session, round2 }, deadline).await?;
        self.pool.put(half, kept.session, generation);
        Ok(())
    }
}

/// Polls all of them to their ends, in one task: they borrow the signer.
async fn join_all<F: Future>(futures: Vec<F>) -> Vec<F::Output> {
    let mut running: Vec<_> = futures.into_iter().map(|f| (Box::pin(f), None)).collect();
    std::future::poll_fn(|cx| {
        let mut open = false;
        for (future, done) in &mut running {
            if done.is_none() {
                match future.as_mut().poll(cx) {
                    std::task::Poll::Ready(output) => *done = Some(output),
                    std::task::Poll::Pending => open = true,
                }
            }
        }
        if open { std::task::Poll::Pending } else { std::task::Poll::Ready(()) }
    })
    .await;
    running.into_iter().filter_map(|(_, done)| done).collect()
}
