//! The life of a purchase: `committed → signed → sent → open → settled | void | lost | expired_unverified` (money.md §1).

use std::fmt;
use std::sync::Arc;

use alloy_primitives::U256;

use super::Digest;
use crate::payment::{AgentId, AssetId, MicroUsd, Nonce, Payee, Payer, ProtocolId, PurchaseId, RequestKey, SessionName, Timestamp, WireEntry};
use crate::policy::{RepeatRules, RuleId};

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
}

impl fmt::Debug for Purchase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Purchase").field("id", &self.id).field("agent", &self.agent).field("state", &self.state).finish_non_exhaustive()
    }
}
