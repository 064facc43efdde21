//! A challenge is all the ways a seller accepts to be paid; an offer is one of them, normalised and validated.

use std::sync::Arc;

use super::{Amount, Asset, MicroUsd, Payee, Reason, SellerText};

/// The wire protocol a challenge was written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ProtocolId {
    /// x402 version 1: challenge in the body, payment in `X-PAYMENT`.
    X402V1,
    /// x402 version 2: challenge in `PAYMENT-REQUIRED`, payment in `PAYMENT-SIGNATURE`.
    X402V2,
}

impl ProtocolId {
    /// Every protocol, for tables and tests.
    pub const ALL: [Self; 2] = [Self::X402V1, Self::X402V2];

    /// Stable text for policy files, metric labels and the store.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::X402V1 => "x402v1",
            Self::X402V2 => "x402v2",
        }
    }

    /// Reads [`Self::as_str`] back.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|p| p.as_str() == text)
    }
}

/// How the price is charged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scheme {
    /// Exactly the stated amount.
    Exact,
}

impl Scheme {
    /// Stable text for policy files and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Exact => "exact",
        }
    }
}

/// When the seller charges relative to its work (x402 `extra.paymentFlow`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Flow {
    /// Verify, work, settle: an error answer is normally not charged. The default.
    Authorization,
    /// Settle first: any status counts as paid.
    Upfront,
    /// Settle a deposit first: any status counts as paid.
    Escrow,
}

impl Flow {
    /// Stable text, as on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Authorization => "authorization",
            Self::Upfront => "upfront",
            Self::Escrow => "escrow",
        }
    }

    /// Reads the wire text; `None` for a flow that does not exist, whose offer must not be paid.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Authorization, Self::Upfront, Self::Escrow].into_iter().find(|f| f.as_str() == text)
    }
}

/// How the token is moved (x402 `extra.assetTransferMethod`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TransferMethod {
    /// EIP-3009 `transferWithAuthorization`.
    Eip3009,
}

impl TransferMethod {
    /// Stable text, as on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Eip3009 => "eip3009",
        }
    }
}

/// The seller's own JSON of the chosen entry, echoed verbatim in the credential (servers deep-compare it).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WireEntry {
    /// The entry of `accepts`, exactly as received.
    pub accepted: Arc<str>,
    /// v2 `resource`, exactly as received.
    pub resource: Option<Arc<str>>,
    /// v2 `extensions`, exactly as received.
    pub extensions: Option<Arc<str>>,
}

/// One validated way to pay. Asset facts come from our table, never from the seller.
#[derive(Clone, Debug)]
pub struct Offer {
    /// Position in the seller's list, for messages only; rank never uses it.
    pub index: usize,
    /// The wire protocol.
    pub protocol: ProtocolId,
    /// The scheme.
    pub scheme: Scheme,
    /// When the seller charges.
    pub flow: Flow,
    /// How the token moves.
    pub transfer: TransferMethod,
    /// The asset, from our table.
    pub asset: Arc<Asset>,
    /// The price in atomic units of `asset`.
    pub amount: Amount,
    /// The price in micro-USD by our table (M2.3).
    pub price: MicroUsd,
    /// Who is paid.
    pub payee: Payee,
    /// The window the seller asks for, seconds, ≥ 1. Policy clips it.
    pub max_timeout: u64,
    /// What the credential echoes.
    pub wire: WireEntry,
}

impl Offer {
    /// True if `other` is the same terms: what a seller would still accept the same credential for.
    pub fn same_terms(&self, other: &Self) -> bool {
        self.protocol == other.protocol
            && self.asset.id == other.asset.id
            && self.amount == other.amount
            && self.payee == other.payee
            && self.flow == other.flow
            && self.wire.accepted == other.wire.accepted
    }
}

/// An entry that cannot be paid, and why. It never hides the others (x402 reference §5.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// Position in the seller's list.
    pub index: usize,
    /// Why.
    pub reason: Reason,
}

/// A parsed 402 that is ours to answer.
#[derive(Clone, Debug)]
pub struct Challenge {
    /// The protocol that recognised it.
    pub protocol: ProtocolId,
    /// The entries that validated.
    pub offers: Vec<Offer>,
    /// The entries that did not.
    pub rejected: Vec<Rejected>,
    /// The seller's `error` field: on a paid retry, a machine reason.
    pub error: Option<SellerText>,
}
