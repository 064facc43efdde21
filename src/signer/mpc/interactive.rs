//! The headline: the library's own protocol in two round trips.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::{Failed, Inner, lock};
use crate::custody::OpenSession;
use crate::ledger::SignRequest;
use crate::mpc::{Abort, Begun, Partial, Party};
use crate::payment::MicroUsd;
use crate::wire::message::{Begin, Finish, Finished, Opened, SignedIntent, path};

impl Inner {
    /// Signs with a session of its own. `r ‖ s ‖ v`, already verified against the wallet.
    pub(super) async fn interactive(&self, request: &SignRequest, intent: &SignedIntent, deadline: Instant) -> Result<[u8; 65], Failed> {
        let digest = request.authorization().digest();
        let sign_id: [u8; 32] = rand::random();
        crate::failpoint!("sidecar_before_begin");
        let (mark, begun, round1) = self
            .step(move |custody| {
                let mark = custody.session().map_err(|e| Abort::Recoverable(e.to_string()))?;
                let (begun, round1) = Begun::new(Arc::clone(custody.share()), Party::Cosigner, sign_id, digest)?;
                Ok((mark, begun, round1))
            })
            .await?;
        let known = self.head.load(Ordering::Acquire);
        let begin = Begin { intent: intent.clone(), sign_id, round1 };
        let opened: Opened = self.ask(path::BEGIN, &begin, deadline).await?;
        self.see_head(known, opened.head)?;
        crate::failpoint!("sidecar_begun");
        let (_mark, (completing, round2)) = self.marked(mark, move || begun.advance(&opened.round1, &opened.round2)).await?;
        crate::failpoint!("sidecar_before_finish");
        let finished: Finished = self.ask(path::FINISH, &Finish { session: opened.session, round2 }, deadline).await?;
        self.heard(request, known, &finished)?;
        let partial = Partial::from_bytes(finished.partial);
        self.step(move |_| completing.complete(&partial)).await
    }

    /// What comes with a partial: the ledger's head and what the agent may still spend there.
    pub(super) fn heard(&self, request: &SignRequest, known: u64, finished: &Finished) -> Result<(), Failed> {
        let agent = &request.context().agent;
        let mut remaining = lock(&self.remaining);
        match finished.remaining_micro {
            Some(micro) => drop(remaining.insert(agent.clone(), (MicroUsd::new(micro), Instant::now()))),
            None => drop(remaining.remove(agent)),
        }
        drop(remaining);
        self.see_head(known, finished.head)
    }

    /// A step that may end in a ban. The mark of the open session goes with the job and outlives its ban, also if nobody waits
    /// for the job any more: a process that dies in between has stopped uncleanly (S3).
    pub(super) async fn marked<T: Send + 'static>(
        &self,
        mark: OpenSession,
        step: impl FnOnce() -> Result<T, Abort> + Send + 'static,
    ) -> Result<(OpenSession, T), Failed> {
        let (mark, result) = self
            .step(move |custody| {
                let result = step().inspect_err(|abort| super::ban(custody, abort));
                Ok((mark, result))
            })
            .await?;
        result.map(|value| (mark, value)).map_err(Failed::Aborted)
    }

    /// Runs a step of the protocol on the crew. A ban is durable before this returns.
    pub(super) async fn step<T: Send + 'static>(
        &self,
        step: impl FnOnce(&Arc<crate::custody::Custody>) -> Result<T, Abort> + Send + 'static,
    ) -> Result<T, Failed> {
        if let Some(reason) = self.halted() {
            return Err(Failed::Refused(super::own(reason)));
        }
        let custody = Arc::clone(&self.custody);
        let job = move || {
            // Queued work of a wallet that was frozen since stops here.
            if custody.frozen().is_some() {
                return Err(Abort::Ban);
            }
            step(&custody).inspect_err(|abort| super::ban(&custody, abort))
        };
        self.crew.run(job).await?.map_err(Failed::Aborted)
    }
}
