//! Share 1 in this process, share 2 with a co-signer that judges for itself: two round trips per signature, or one with a
//! presignature (opt-in, S9).
//!
//! Who can have a complete signature decides what returns money. The co-signer's half arrives here and is combined here;
//! our own half never leaves. So as long as *this* process did not combine, no complete signature of the purchase's latest
//! intent exists, and [`SignError::Refused`] is proof of that. An earlier run may have combined for the same purchase:
//! that is [`crate::ledger::Commitment::void`]'s part, which gives nothing back then. A timeout would be proof by the same
//! argument, but the co-signer holds the amount by then; the same intent is signed again later, never a new one, so that its
//! books and ours stay together.

mod greet;
mod interactive;
mod pool;
mod presigned;

use std::collections::HashMap;
use std::future::ready;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest as _, Sha256};

use super::{BoxFuture, Objection, SignError, Signer};
use crate::clock;
use crate::crew::{Crew, Gone};
use crate::custody::Custody;
use crate::ledger::{Outcome, SignRequest};
use crate::metrics::Metrics;
use crate::mpc::{Abort, Party, Wallet};
use crate::payment::{AgentId, MicroUsd, Payer, PurchaseId, Reason, Signed, Timestamp};
use crate::wire::identity::Identity;
use crate::wire::link::{Client, LinkError};
use crate::wire::message::{Answer, Claims, HELLO_FIRST, Intent, Noted, Refused, Settle, SignedIntent, VERSION, path};
use pool::Pool;

/// What an intent's signature is over, before its bytes.
const CONTEXT: &str = "tollpass/intent/1";

/// How long the co-signer's word about a budget is shown.
const REMAINING_FOR: Duration = Duration::from_secs(900);

/// How long `settle` may try.
const SETTLE: Duration = Duration::from_secs(2);

/// What a signer is made of.
pub struct Parts {
    /// Share 1.
    pub custody: Arc<Custody>,
    /// The key that the co-signer's registry knows.
    pub identity: Identity,
    /// The link to the co-signer.
    pub client: Client,
    /// Threads for the arithmetic.
    pub crew: Crew,
    /// Gauges about the co-signer.
    pub metrics: Arc<Metrics>,
    /// The co-signer's `host:port`, for metrics and log.
    pub cosigner: String,
    /// Presignatures to keep ready; 0 without `accept_unreviewed_presign`.
    pub pool: usize,
}

/// The signer. Cheap to clone.
#[derive(Clone)]
pub struct MpcSigner {
    inner: Arc<Inner>,
}

struct Inner {
    custody: Arc<Custody>,
    wallet: Wallet,
    identity: Identity,
    client: Client,
    crew: Crew,
    metrics: Arc<Metrics>,
    cosigner: String,
    pool: Pool,
    /// One greeting at a time; counts the ones that were accepted.
    greeting: tokio::sync::Mutex<()>,
    greeted: AtomicU64,
    /// The highest ledger head that the co-signer has shown.
    head: AtomicU64,
    /// It showed a lower one later: its ledger was restored from a backup (S2).
    rolled_back: AtomicBool,
    remaining: Mutex<HashMap<AgentId, (MicroUsd, Instant)>>,
}

/// Why an exchange with the co-signer gave nothing.
enum Failed {
    Link(LinkError),
    Refused(Refused),
    /// The protocol ended; a ban is durable already.
    Aborted(Abort),
    /// Too much waits for our own threads, or a store of ours failed; nothing left.
    Busy,
}

impl From<LinkError> for Failed {
    fn from(error: LinkError) -> Self {
        Self::Link(error)
    }
}

impl From<Gone> for Failed {
    fn from(_: Gone) -> Self {
        Self::Busy
    }
}

impl MpcSigner {
    /// Wires the signer; it speaks to the co-signer when [`Self::keep`] runs or a payment needs it.
    pub fn new(parts: Parts) -> Self {
        let Parts { custody, identity, client, crew, metrics, cosigner, pool } = parts;
        let wallet = custody.share().wallet().clone();
        Self {
            inner: Arc::new(Inner {
                custody,
                wallet,
                identity,
                client,
                crew,
                metrics,
                cosigner,
                pool: Pool::new(pool),
                greeting: tokio::sync::Mutex::default(),
                greeted: AtomicU64::new(0),
                head: AtomicU64::new(0),
                rolled_back: AtomicBool::new(false),
                remaining: Mutex::default(),
            }),
        }
    }

    /// The wallet whose share this holds.
    pub fn wallet(&self) -> &Wallet {
        &self.inner.wallet
    }

    /// Keeps the connection warm, the presignatures ready and the gauges true, until dropped. Runs on the money runtime.
    pub async fn keep(self) {
        let mut every = tokio::time::interval(Duration::from_secs(1));
        every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = every.tick() => {}
                () = self.inner.pool.wanted() => {}
            }
            let inner = &self.inner;
            if inner.halted().is_none() {
                let deadline = Instant::now() + Duration::from_secs(5);
                if !inner.client.up() || inner.greeted.load(Ordering::Acquire) == 0 {
                    let before = inner.greeted.load(Ordering::Acquire);
                    let _ = inner.greet(before, deadline).await;
                }
                if inner.client.up() {
                    inner.fill().await;
                }
            }
            inner.metrics.cosigner_peer(&inner.cosigner, inner.client.up(), inner.pool.len());
        }
    }
}

impl Inner {
    /// What stops every signature of this wallet: a ban, a freeze, a co-signer that went back in time.
    fn halted(&self) -> Option<Reason> {
        let halted = self.custody.frozen().is_some() || self.rolled_back.load(Ordering::Acquire);
        halted.then_some(Reason::WalletFrozen)
    }

    async fn authorize(&self, request: &SignRequest, deadline: Instant) -> Result<Signed, SignError> {
        let authorization = request.authorization();
        if authorization.from.0 != self.wallet.address {
            return Err(SignError::refused(Reason::WrongPayer));
        }
        if let Some(reason) = self.halted() {
            return Err(SignError::refused(reason));
        }
        let intent = self.intent(request);
        let signing = async {
            if let Some(ready) = self.pool.take() {
                match self.presigned(request, &intent, ready, deadline).await {
                    // Used up on the other side: nothing was signed with it. The library's own protocol always works.
                    Err(Failed::Refused(refused)) if refused.reason == Reason::SessionLost.as_str() => {}
                    done => return done,
                }
            }
            self.interactive(request, &intent, deadline).await
        };
        let rsv = tokio::time::timeout_at(deadline.into(), signing).await.map_err(|_| SignError::Timeout)?;
        let rsv = rsv.map_err(|failed| self.judge(failed))?;
        crate::failpoint!("sidecar_finished");
        Ok(Signed::new(authorization.clone(), rsv)?)
    }

    /// The typed intent, signed so that a gateway can relay it and alter nothing.
    fn intent(&self, request: &SignRequest) -> SignedIntent {
        let a = request.authorization();
        let context = request.context();
        let purchase = *request.id().bytes();
        let hash: [u8; 32] = Sha256::new_with_prefix(purchase).chain_update(a.digest()).finalize().into();
        let mut key = [0; 16];
        key.copy_from_slice(&hash[..16]);
        let intent = Intent {
            version: VERSION,
            wallet: self.wallet.id.to_string(),
            epoch: self.wallet.epoch,
            purchase,
            key,
            agent: context.agent.to_string(),
            chain: a.asset.id.chain.id(),
            token: a.asset.id.token.into(),
            from: a.from.0.into(),
            to: a.to.0.into(),
            value: a.value.to_be_bytes(),
            valid_after: a.valid_after,
            valid_before: a.valid_before,
            claims: Claims {
                session: context.session.as_ref().map(ToString::to_string),
                host: context.host.clone(),
                method: context.method.clone(),
                entry: context.entry.to_string(),
                price_micro: context.price.micro(),
                policy: context.policy.to_string(),
                url: context.url.as_ref().map(|url| url.0.clone()),
            },
            offer: context.offer.clone(),
            grant: context.grant.clone(),
        };
        let bytes = encode(&intent);
        let signature = self.identity.sign(CONTEXT, &bytes);
        SignedIntent { bytes, signer: self.identity.public().fingerprint().0, signature }
    }

    /// One exchange. A connection that is new to the co-signer is greeted first, and the request sent again: it was not looked at.
    async fn ask<Q: Serialize, A: DeserializeOwned>(&self, path: &'static str, question: &Q, deadline: Instant) -> Result<A, Failed> {
        let payload = encode(question);
        let before = self.greeted.load(Ordering::Acquire);
        match self.once(path, &payload, deadline).await {
            Err(Failed::Refused(refused)) if refused.reason == HELLO_FIRST => {}
            done => return done,
        }
        self.greet(before, deadline).await?;
        self.once(path, &payload, deadline).await
    }

    async fn once<A: DeserializeOwned>(&self, path: &'static str, payload: &[u8], deadline: Instant) -> Result<A, Failed> {
        let answer = self.client.call(path, self.wallet.epoch, payload, deadline).await?;
        match postcard::take_from_bytes::<Answer<A>>(&answer) {
            Ok((Answer::Yes(value), [])) => Ok(value),
            Ok((Answer::No(refused), [])) => Err(Failed::Refused(refused)),
            _ => Err(LinkError::Garbage("not an answer of this version".into()).into()),
        }
    }

    /// Compares the ledger head of an answer with the highest one that was known when its request left: answers overtake each
    /// other, a ledger does not go back (S2).
    fn see_head(&self, known: u64, head: u64) -> Result<(), Failed> {
        self.head.fetch_max(head, Ordering::AcqRel);
        // Remembers it durably; a lower one than another answer's is no news here.
        let _ = self.custody.peer_head(head);
        if head >= known { Ok(()) } else { Err(self.went_back(known, head)) }
    }

    fn went_back(&self, known: u64, head: u64) -> Failed {
        self.rolled_back.store(true, Ordering::Release);
        self.pool.clear();
        tracing::error!(
            cosigner = self.cosigner,
            known,
            head,
            "the co-signer's ledger went back in time: what it forgot could be paid twice; nothing is signed until its newest state is \
             restored and this process started again"
        );
        Failed::Refused(own(Reason::WalletFrozen))
    }

    /// What a failure means for the money.
    fn judge(&self, failed: Failed) -> SignError {
        match failed {
            Failed::Busy => SignError::refused(Reason::CosignerBusy),
            Failed::Link(LinkError::Unreachable(why)) => {
                tracing::warn!(cosigner = self.cosigner, why, "the co-signer cannot be reached");
                SignError::Unreachable
            }
            Failed::Link(LinkError::Timeout) => SignError::Timeout,
            Failed::Link(LinkError::Garbage(why)) => {
                tracing::warn!(cosigner = self.cosigner, why, "the co-signer's answer cannot be used");
                SignError::Timeout
            }
            Failed::Aborted(Abort::Ban) => {
                self.pool.clear();
                SignError::refused(Reason::WalletFrozen)
            }
            Failed::Aborted(abort) => {
                tracing::warn!(cosigner = self.cosigner, %abort, "a signing session failed");
                SignError::Unfinished(Box::new(Objection::own(Reason::SessionLost)))
            }
            Failed::Refused(refused) => {
                let objection = Box::new(objection(&refused));
                // It may hold the amount by then, and the cause is passing.
                let passing = matches!(objection.reason, Reason::SessionLost | Reason::CosignerBusy | Reason::PolicyChanged);
                if passing { SignError::Unfinished(objection) } else { SignError::Refused(objection) }
            }
        }
    }
}

impl Signer for MpcSigner {
    fn account(&self, _agent: &AgentId) -> Result<Payer, SignError> {
        Ok(Payer(self.inner.wallet.address))
    }

    fn authorize<'a>(&'a self, request: &'a SignRequest, deadline: Instant) -> BoxFuture<'a, Result<Signed, SignError>> {
        Box::pin(async move {
            let signed = self.inner.authorize(request, deadline).await;
            if let Err(error) = &signed
                && error.objection().is_some_and(|o| o.by_cosigner)
            {
                self.inner.metrics.cosigner_refusal(&request.context().agent, error.reason());
            }
            signed
        })
    }

    fn settle(&self, id: PurchaseId, outcome: Outcome) -> BoxFuture<'_, ()> {
        let outcome = match outcome {
            Outcome::Settled => "settled",
            Outcome::Open => "open",
            Outcome::Lost { .. } => "lost",
        };
        let message = Settle { wallet: self.inner.wallet.id.to_string(), purchase: *id.bytes(), outcome: outcome.to_owned() };
        Box::pin(async move {
            let told = self.inner.ask::<_, Noted>(path::SETTLE, &message, Instant::now() + SETTLE).await;
            if told.is_err() {
                tracing::debug!(purchase = %id, "the co-signer did not hear of an outcome; it moves no money there");
            }
        })
    }

    fn warm<'a>(&'a self, _agent: &'a AgentId, n: usize) -> BoxFuture<'a, ()> {
        self.inner.pool.want(n);
        Box::pin(ready(()))
    }

    fn remaining(&self, agent: &AgentId) -> Option<MicroUsd> {
        lock(&self.inner.remaining).get(agent).filter(|(_, at)| at.elapsed() < REMAINING_FOR).map(|(left, _)| *left)
    }
}

impl std::fmt::Debug for MpcSigner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MpcSigner").field("wallet", &self.inner.wallet.id).field("cosigner", &self.inner.cosigner).finish_non_exhaustive()
    }
}

/// Bans the co-signer if the protocol says so. Runs inside the job that found the reason, so that a caller who gave up cannot
/// keep it from being written (S3).
fn ban(custody: &Custody, abort: &Abort) {
    if *abort != Abort::Ban {
        return;
    }
    if let Err(error) = custody.ban(Party::Cosigner, now()) {
        tracing::error!(%error, "the ban cannot be written: frozen in memory only, do not restart before the disk is repaired");
    }
    if let Some(frozen) = custody.frozen() {
        tracing::error!(wallet = %custody.share().wallet().id, "{frozen}");
    }
}

/// The co-signer's words in our types. A code that this version does not know is a refusal all the same.
fn objection(refused: &Refused) -> Objection {
    Objection {
        reason: Reason::parse(&refused.reason).unwrap_or(Reason::SignerRefused),
        // Rule ids have no quote or backslash; what comes over the wire is held to that again.
        rule: refused.rule.as_deref().map(|r| r.chars().filter(|c| c.is_ascii_alphanumeric() || "._-:/ ".contains(*c)).take(100).collect()),
        amount: refused.amount_micro.map(MicroUsd::new),
        limit: refused.limit_micro.map(MicroUsd::new),
        remaining: refused.remaining_micro.map(MicroUsd::new),
        resets_at: refused.resets_at_ms.map(Timestamp::from_millis),
        by_cosigner: true,
    }
}

fn own(reason: Reason) -> Refused {
    let reason = reason.as_str().to_owned();
    Refused { reason, rule: None, amount_micro: None, limit_micro: None, remaining_micro: None, resets_at_ms: None }
}

fn now() -> Timestamp {
    clock::read().wall
}

/// Our own message types always encode.
fn encode<T: Serialize>(message: &T) -> Vec<u8> {
    postcard::to_allocvec(message).unwrap_or_default()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
