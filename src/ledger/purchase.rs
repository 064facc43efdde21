//! The life of a purchase: `committed → signed → sent → open → settled | void | lost | expired_unverified` (money.md §1).

use std::fmt;
use std::sync::Arc;

use alloy_primitives::U256;

use super::{Digest, NewPurchase};
use crate::payment::{
    AgentId, Asset, AssetId, Authorization, MicroUsd, Nonce, Payee, Payer, ProtocolId, PurchaseId, RequestKey, SessionName, Timestamp,
    WireEntry,
};
use crate::policy::{Approval, Cosigned, Host, RepeatRules, RuleId};

/// Where a purchase stands. Everything but `Void` counts as spent; `Dead` comes with chain access (M1.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PurchaseState {
    /// Intent durable; after a crash: perhaps sent (M1.5).
    Committed,
    /// A complete signature was formed.
    Signed,
    /// The first byte of the paid request may have left.
    Sent,
    /// Answered or broken without proof of settlement: the authorization may still be used.
    Open,
    /// The seller's answer says it was charged.
    Settled,
    /// Charged, and the answer is gone (M1.6).
    Lost,
    /// Provably never signed: the only state in this version that returns money.
    Void,
    /// validBefore passed without a look at the chain: stays spent, may be signed again under the same nonce (M1.4).
    ExpiredUnverified,
}

impl PurchaseState {
    /// Every state.
    pub const ALL: [Self; 8] =
        [Self::Committed, Self::Signed, Self::Sent, Self::Open, Self::Settled, Self::Lost, Self::Void, Self::ExpiredUnverified];

    /// Stable text for the store, `ledger show` and the log.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Committed => "committed",
            Self::Signed => "signed",
            Self::Sent => "sent",
            Self::Open => "open",
            Self::Settled => "settled",
            Self::Lost => "lost",
            Self::Void => "void",
            Self::ExpiredUnverified => "expired_unverified",
        }
    }

    /// Reads [`Self::as_str`] back.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|s| s.as_str() == text)
    }
}

/// How a paid exchange ended, by the outcome table (M1.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// No proof either way: error status, reset, time-out.
    Open,
    /// Charged and answered.
    Settled,
    /// Charged, answer cut short or unreadable; blocks an identical purchase until then.
    Lost {
        /// End of the hold (M1.6).
        until: Timestamp,
    },
}

/// Hashes of the request's other headers, sorted: two requests are alike by how many they share (M1.1).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Likeness(pub Vec<u64>);

/// One purchase as recorded.
#[derive(Clone)]
pub struct Purchase {
    /// Its id, also the idempotency key towards the signer (S5).
    pub id: PurchaseId,
    /// The request it was bought for.
    pub key: RequestKey,
    /// Whose budget.
    pub agent: AgentId,
    /// Its session.
    pub session: Option<SessionName>,
    /// The customer it is for, from the request's context.
    pub customer: Option<Arc<str>>,
    /// The allow entry.
    pub entry: RuleId,
    /// Seller's host.
    pub host: String,
    /// Request method.
    pub method: String,
    /// Wire protocol.
    pub protocol: ProtocolId,
    /// The seller's entry, verbatim, to rebuild the credential.
    pub wire: WireEntry,
    /// Token.
    pub asset: AssetId,
    /// Symbol of the token when it was held, for tables.
    pub symbol: Arc<str>,
    /// Atomic units signed for.
    pub amount: U256,
    /// Payee.
    pub payee: Payee,
    /// Payer.
    pub payer: Payer,
    /// The one nonce (M1.2).
    pub nonce: Nonce,
    /// Unix seconds.
    pub valid_after: u64,
    /// Unix seconds; of the latest signature.
    pub valid_before: u64,
    /// The largest `valid_before` that was ever signed under the nonce: what `dead` is measured against (M1.4).
    pub last_valid_before: u64,
    /// EIP-712 digest of the latest intent.
    pub digest: Digest,
    /// Micro-USD held: the maximum over all signatures.
    pub held: MicroUsd,
    /// State.
    pub state: PurchaseState,
    /// `r ‖ s ‖ v` once signed. A bearer secret: never in `Debug`, logs or `ledger show`.
    pub signature: Option<[u8; 65]>,
    /// When it was held (ledger time); it belongs to this period (M2.1).
    pub at: Timestamp,
    /// An answer < 400 was fully written to its waiter.
    pub consumed: bool,
    /// End of the `lost` hold.
    pub lost_until: Option<Timestamp>,
    /// Likeness of the request.
    pub likeness: Likeness,
    /// Repeat rules of the entry at the time.
    pub repeats: RepeatRules,
    /// Digest of the policy that approved it.
    pub policy_digest: Arc<str>,
    /// Transaction hash the seller claimed.
    pub claimed_tx: Option<String>,
    /// A co-signer's further counters; `None` on a proxy.
    pub cosigned: Option<Arc<Cosigned>>,
}

impl fmt::Debug for Purchase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Purchase").field("id", &self.id).field("agent", &self.agent).field("state", &self.state).finish_non_exhaustive()
    }
}

impl Purchase {
    /// True while a signature is out, or may be, that a seller can still use: neither settled nor past its window.
    pub fn in_flight(&self, now: Timestamp) -> bool {
        use PurchaseState as S;
        let unsettled = matches!(self.state, S::Committed | S::Signed | S::Sent | S::Open);
        unsettled && i64::try_from(self.valid_before).is_ok_and(|until| until > now.secs())
    }

    /// The complete intent of a new purchase: nonce, window, every signed field, digest (M1.5).
    pub(super) fn intent(approval: &Approval, new: NewPurchase, at: Timestamp) -> Self {
        let offer = approval.offer();
        let mut purchase = Self {
            id: new.id,
            key: new.key,
            agent: approval.agent().clone(),
            session: approval.session().cloned(),
            customer: approval.customer().cloned(),
            entry: approval.entry().clone(),
            // As `View::pin` asks for it.
            host: Host::parse(&new.host).map_or(new.host, |host| host.to_string()),
            method: new.method,
            protocol: offer.protocol,
            wire: offer.wire.clone(),
            asset: offer.asset.id,
            symbol: offer.asset.symbol.as_str().into(),
            amount: offer.amount.atomic(),
            payee: offer.payee,
            payer: new.payer,
            nonce: Nonce::derive(new.payer.0, &new.id),
            valid_after: new.valid_after,
            valid_before: 0,
            last_valid_before: 0,
            digest: Digest::ZERO,
            held: MicroUsd::ZERO,
            state: PurchaseState::Committed,
            signature: None,
            at,
            consumed: false,
            lost_until: None,
            likeness: new.likeness,
            repeats: approval.repeats(),
            policy_digest: Arc::clone(approval.policy_digest()),
            claimed_tx: None,
            cosigned: approval.cosigned().cloned().map(Arc::new),
        };
        purchase.sign_again(approval, new.valid_after, at);
        purchase
    }

    /// Takes the terms of `approval`; payer, chain, token and nonce stay, and the hold never shrinks (M1.2).
    pub(super) fn sign_again(&mut self, approval: &Approval, valid_after: u64, at: Timestamp) {
        let offer = approval.offer();
        self.entry = approval.entry().clone();
        self.protocol = offer.protocol;
        self.wire = offer.wire.clone();
        self.amount = offer.amount.atomic();
        self.payee = offer.payee;
        self.valid_after = valid_after;
        let clipped = || u64::try_from(at.secs()).unwrap_or(0).saturating_add(approval.lifetime().as_secs());
        self.valid_before = approval.valid_before().unwrap_or_else(clipped);
        self.last_valid_before = self.last_valid_before.max(self.valid_before);
        self.held = self.held.max(offer.price);
        self.signature = None;
        if self.state != PurchaseState::Settled {
            self.state = PurchaseState::Committed;
        }
        self.repeats = approval.repeats();
        self.policy_digest = Arc::clone(approval.policy_digest());
        if let Some(cosigned) = approval.cosigned() {
            let ticket = cosigned.ticket.or_else(|| self.cosigned.as_ref().and_then(|c| c.ticket));
            self.cosigned = Some(Cosigned { ticket, ..cosigned.clone() }.into());
        }
        self.digest = self.authorization(&offer.asset).digest();
    }

    /// The typed data of the recorded intent, under the domain of `asset`.
    pub(super) fn authorization(&self, asset: &Arc<Asset>) -> Authorization {
        Authorization {
            asset: Arc::clone(asset),
            from: self.payer,
            to: self.payee,
            value: self.amount,
            valid_after: self.valid_after,
            valid_before: self.valid_before,
            nonce: self.nonce,
        }
    }

    /// The end of the last window, as an instant.
    pub(super) fn live_until(&self) -> Timestamp {
        Timestamp::from_secs(i64::try_from(self.last_valid_before).unwrap_or(i64::MAX))
    }

    /// Whether `approval` may change these terms. On a co-signer payee, entry, identity and budget stay as well: each has a
    /// counter of its own, and money held under one must not be signed for under another (S4).
    pub fn may_become(&self, approval: &Approval) -> bool {
        let offer = approval.offer();
        let same = match (&self.cosigned, approval.cosigned()) {
            (None, None) => true,
            (Some(a), Some(b)) => {
                a.identity == b.identity
                    && a.unverified == b.unverified
                    && self.payee == offer.payee
                    && self.entry == *approval.entry()
                    && approval.valid_before().is_some()
            }
            _ => false,
        };
        same && *approval.agent() == self.agent && offer.asset.id == self.asset && offer.amount.asset() == self.asset
    }

    /// A step of the exchange. What is settled stays settled when its bytes are shown again.
    pub(super) fn advance(&mut self, state: PurchaseState) {
        if self.state != PurchaseState::Settled {
            self.state = state;
        }
    }

    /// Takes the signed terms and what they hold from `other`; state and outcome stay.
    pub(super) fn take_terms(&mut self, other: &Self) {
        self.entry = other.entry.clone();
        self.protocol = other.protocol;
        self.wire = other.wire.clone();
        self.amount = other.amount;
        self.payee = other.payee;
        self.valid_after = other.valid_after;
        self.valid_before = other.valid_before;
        self.last_valid_before = other.last_valid_before;
        self.digest = other.digest;
        self.held = other.held;
        self.state = other.state;
        self.signature = other.signature;
        self.repeats = other.repeats;
        self.policy_digest = Arc::clone(&other.policy_digest);
        self.cosigned = other.cosigned.clone();
    }

    /// How the exchange ended. A seller's claim of settlement is kept against later words to the contrary.
    pub(super) fn conclude(&mut self, outcome: Outcome, claimed_tx: Option<String>) {
        (self.state, self.lost_until) = match outcome {
            Outcome::Open if self.state == PurchaseState::Settled => (PurchaseState::Settled, None),
            Outcome::Open => (PurchaseState::Open, None),
            Outcome::Settled => (PurchaseState::Settled, None),
            Outcome::Lost { until } => (PurchaseState::Lost, Some(until)),
        };
        self.claimed_tx = claimed_tx.or_else(|| self.claimed_tx.take());
    }
}
