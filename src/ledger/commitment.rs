//! Proof types between a durable hold and a signature.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::index::Live;
use super::store::{Answer, Change};
use super::{Outcome, Purchase, PurchaseState, ReserveError, Shared, State, durable};
use crate::payment::{AgentId, Asset, Authorization, MicroUsd, PurchaseId, SessionName, Signed, Timestamp};
use crate::policy::{Approval, RuleId};

/// A purchase this task owns. Dropping it keeps the amount spent and leaves an orphan that an identical request adopts (M1.1).
///
/// While it lives its exchange counts as running and an identical request joins it.
#[must_use = "a commitment is money"]
pub struct Commitment {
    shared: Arc<Shared>,
    purchase: Arc<Purchase>,
    owner: u64,
    /// Made by this process for a new purchase; an adopted one may have been signed by somebody before us.
    fresh: bool,
    /// Sign requests made.
    asked: AtomicU32,
}

impl Commitment {
    /// The first owner of a purchase.
    pub(super) const fn first(shared: Arc<Shared>, purchase: Arc<Purchase>, owner: u64) -> Self {
        Self { shared, purchase, owner, fresh: true, asked: AtomicU32::new(0) }
    }

    /// The next owner of an orphan. One whose window has passed is marked so: it is to be signed again (M1.4).
    pub(super) fn adopt(shared: &Arc<Shared>, id: PurchaseId, owner: u64, now: Timestamp) -> Option<Self> {
        let purchase = Arc::clone(&shared.state().books.index().owned(&id, owner)?.purchase);
        let mut adopted = Self { shared: Arc::clone(shared), purchase, owner, fresh: false, asked: AtomicU32::new(0) };
        let expired = u64::try_from(now.secs()).is_ok_and(|now| now >= adopted.purchase.valid_before);
        if expired && !matches!(adopted.purchase.state, PurchaseState::Settled | PurchaseState::ExpiredUnverified) {
            adopted.change(|live| live.edit().state = PurchaseState::ExpiredUnverified);
        }
        Some(adopted)
    }

    /// The purchase as recorded now.
    pub fn purchase(&self) -> &Purchase {
        &self.purchase
    }

    /// The one thing that may be signed for this purchase, with the domain taken from `asset`, our table's entry for it.
    /// `None` if `asset` is not the asset of the purchase, or the digest is not the recorded one.
    pub fn sign_request(&self, asset: &Arc<Asset>) -> Option<SignRequest> {
        let p = &self.purchase;
        if asset.id != p.asset {
            return None;
        }
        let authorization = p.authorization(asset);
        if authorization.digest() != p.digest {
            return None;
        }
        self.asked.fetch_add(1, Ordering::Relaxed);
        let context = SignContext {
            agent: p.agent.clone(),
            session: p.session.clone(),
            host: p.host.clone(),
            method: p.method.clone(),
            entry: p.entry.clone(),
            price: p.held,
            policy: Arc::clone(&p.policy_digest),
            url: None,
            offer: None,
            grant: None,
        };
        Some(SignRequest { id: p.id, authorization, context })
    }

    /// New terms or a new window for the same purchase: same payer, chain, token and nonce; holds the maximum of the amounts (M1.2).
    /// Durable before it returns.
    ///
    /// # Errors
    /// [`ReserveError::Stale`] as for a new hold; the purchase is unchanged then.
    pub async fn resign(&mut self, approval: Approval, valid_after: u64, now: Timestamp) -> Result<(), ReserveError> {
        let answer = self.raise(&approval, valid_after, now)?;
        durable(answer).await?;
        self.refresh();
        Ok(())
    }

    /// Puts the new terms into the books and the channel; from then on the writer decides, even if nobody waits any more.
    fn raise(&self, approval: &Approval, valid_after: u64, now: Timestamp) -> Result<Answer, ReserveError> {
        if !self.shared.store.available() {
            return Err(ReserveError::Unavailable);
        }
        let mut state = self.shared.state();
        let State { books, clock } = &mut *state;
        if !clock.sure() {
            return Err(ReserveError::ClockUnsure);
        }
        let at = clock.record(now);
        let stale = || ReserveError::Stale(None);
        let live = books.index().owned(&self.purchase.id, self.owner).filter(|l| !l.writing).ok_or_else(stale)?;
        let (before, num) = (Arc::clone(&live.purchase), live.num);
        if !before.may_become(approval) {
            return Err(stale());
        }
        let (purchase, posting) = books.raise(approval, &before, valid_after, at).map_err(ReserveError::Stale)?;
        let change = Change::Raise { num, before: Arc::clone(&before), purchase, posting: posting.clone() };
        let answer = self.shared.store.submit(Some(change));
        if answer.is_none() {
            books.undo_raise(&before.id, &before, posting.as_ref());
        }
        answer.ok_or(ReserveError::Unavailable)
    }

    /// A complete signature exists. Queued, not waited for.
    pub fn signed(&mut self, signed: &Signed) {
        crate::failpoint!("signature_in_memory");
        // A signature over anything but the recorded intent is not this purchase's and is not kept.
        let ours = signed.authorization().digest() == self.purchase.digest;
        self.change(|live| {
            let p = live.edit();
            p.advance(PurchaseState::Signed);
            p.signature = ours.then(|| *signed.bytes());
        });
    }

    /// The first byte is about to leave. Queued, not waited for.
    pub fn sent(&mut self) {
        self.change(|live| {
            live.exchange = true;
            live.edit().advance(PurchaseState::Sent);
        });
    }

    /// What the answer's head says. Queued, not waited for. `claimed_tx` is the seller's word.
    ///
    /// The exchange goes on until this is dropped: an identical request joins it to read the body from its start.
    pub fn outcome(&mut self, outcome: Outcome, claimed_tx: Option<String>) {
        crate::failpoint!("before_outcome");
        self.change(|live| live.edit().conclude(outcome, claimed_tx));
    }

    /// Marks whether a waiter is attached. Without one the purchase is an orphan: an identical request joins it while this
    /// lives, and adopts it, with the kept answer if there is one, after this was dropped.
    pub fn waiter(&mut self, live: bool) {
        if let Some(entry) = self.shared.state().books.index().owned(&self.purchase.id, self.owner) {
            entry.waiter = live;
        }
    }

    /// An answer < 400 was fully written to its waiter (M1.1). Sets the pin on the first one (M3.3).
    pub fn consumed(self) {
        crate::failpoint!("before_consumed");
        let mut state = self.shared.state();
        if state.books.index().owned(&self.purchase.id, self.owner).is_none() {
            return;
        }
        if let Some((num, purchase, pin)) = state.books.consume(&self.purchase.id) {
            drop(state);
            self.shared.store.queue(Change::Status { num, purchase, pin });
        }
    }

    /// Gives the amount back: only with proof that no signature was formed, by the process that committed (M1.5).
    ///
    /// The proof is about the latest request to the signer. If there was an earlier one, by this owner or another, a signature
    /// may exist all the same, and the amount stays spent as if this had been dropped.
    pub fn void(self, proof: DefinitelyUnsigned) {
        let DefinitelyUnsigned(()) = proof;
        let unsigned = self.fresh && self.asked.load(Ordering::Relaxed) <= 1;
        let mut state = self.shared.state();
        let books = &mut state.books;
        let Some(live) = books.index().owned(&self.purchase.id, self.owner) else { return };
        if !unsigned || live.writing || live.purchase.state != PurchaseState::Committed {
            return;
        }
        live.edit().state = PurchaseState::Void;
        let (num, purchase) = (live.num, Arc::clone(&live.purchase));
        let postings = books.void(&purchase.id);
        drop(state);
        self.shared.store.queue(Change::Void { num, purchase, postings });
    }

    /// Changes the purchase in the books and queues it, unless another owner has taken it over.
    fn change(&mut self, f: impl FnOnce(&mut Live)) {
        let mut state = self.shared.state();
        let Some(live) = state.books.index().owned(&self.purchase.id, self.owner) else { return };
        f(live);
        self.purchase = Arc::clone(&live.purchase);
        let change = Change::Status { num: live.num, purchase: Arc::clone(&live.purchase), pin: None };
        drop(state);
        self.shared.store.queue(change);
    }

    fn refresh(&mut self) {
        if let Some(live) = self.shared.state().books.index().owned(&self.purchase.id, self.owner) {
            self.purchase = Arc::clone(&live.purchase);
        }
    }
}

impl Drop for Commitment {
    fn drop(&mut self) {
        if let Some(live) = self.shared.state().books.index().owned(&self.purchase.id, self.owner) {
            live.exchange = false;
            live.waiter = false;
        }
    }
}

impl fmt::Debug for Commitment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Commitment").field(&self.purchase).finish()
    }
}

/// Proof that no complete signature exists. Made by the signer layer alone, for a refusal or a connection that never was.
#[derive(Debug)]
pub struct DefinitelyUnsigned(());

impl DefinitelyUnsigned {
    /// Only `signer::SignError` calls this (a test reads the sources).
    pub(crate) const fn attest() -> Self {
        Self(())
    }
}

/// What is known about a payment beside the signed fields, for the co-signer's policy. All of it is *claimed* there (S4).
#[derive(Clone, Debug)]
pub struct SignContext {
    /// Agent.
    pub agent: AgentId,
    /// Session.
    pub session: Option<SessionName>,
    /// Seller's host.
    pub host: String,
    /// Request method.
    pub method: String,
    /// Allow entry.
    pub entry: RuleId,
    /// Price in micro-USD.
    pub price: MicroUsd,
    /// Digest of the policy that decided.
    pub policy: Arc<str>,
    /// Where the seller was asked, with the query: a co-signer may ask there itself. Never stored or logged.
    pub url: Option<Unlogged>,
    /// The seller's signed offer, verbatim, if the challenge had one.
    pub offer: Option<String>,
    /// A human's yes to this purchase, signed for the co-signer and opaque here (S5).
    pub grant: Option<Vec<u8>>,
}

/// Text with a query string in it: no Debug of the content.
#[derive(Clone, PartialEq, Eq)]
pub struct Unlogged(pub String);

impl fmt::Debug for Unlogged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

/// A typed intent for the signer: never a hash. Only a [`Commitment`] makes one.
#[derive(Clone, Debug)]
pub struct SignRequest {
    pub(super) id: PurchaseId,
    pub(super) authorization: Authorization,
    pub(super) context: SignContext,
}

impl SignRequest {
    /// Adds what proves the payee elsewhere: words for a co-signer to check, no part of what is signed.
    pub fn with_proofs(mut self, url: Option<String>, offer: Option<String>) -> Self {
        self.context.url = url.map(Unlogged);
        self.context.offer = offer;
        self
    }

    /// Adds a human's signed yes: what it lifts is the co-signer's to judge (S5).
    pub fn with_grant(mut self, grant: Option<Vec<u8>>) -> Self {
        self.context.grant = grant;
        self
    }

    /// Idempotency key: one key ↔ one purchase (S5).
    pub const fn id(&self) -> &PurchaseId {
        &self.id
    }
    /// The typed data to sign.
    pub const fn authorization(&self) -> &Authorization {
        &self.authorization
    }
    /// Context for the co-signer's policy.
    pub const fn context(&self) -> &SignContext {
        &self.context
    }
}
