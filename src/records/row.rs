//! A line of the decision log. Names are a contract: add, never rename; another meaning is another [`VERSION`].
//!
//! Money is integers of micro-USD, atomic units are decimal text, times are milliseconds of ledger time. No query of a URL, no header,
//! no credential and no text of a seller is in a line: of a seller's JSON only numbers and their names are kept (S19).

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::payment::{MicroUsd, Payer};
use crate::policy::{Context, Violation};

/// The format of this program.
pub const VERSION: u32 = 1;

/// One line.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Line {
    /// Its format.
    pub v: u32,
    /// What it tells.
    #[serde(flatten)]
    pub row: Row,
}

/// What a line tells.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Row {
    /// One answer to one challenge.
    Decision(Box<Decided>),
    /// What became of a purchase after its decision.
    Outcome(Outcome),
    /// Refusals of one agent for one reason that have no line of their own (M4.3).
    Refusals(Many),
}

/// One answer to one challenge, with everything it was decided on.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Decided {
    /// Ledger time, ms.
    pub at: i64,
    /// The same for people.
    pub time: String,
    /// The caller.
    pub agent: String,
    /// Its session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// Request method.
    pub method: String,
    /// TLS towards the seller.
    pub https: bool,
    /// The host that was connected to.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Path without the query.
    pub path: String,
    /// The account that would pay; none if there is none for this agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payer: Option<Payer>,
    /// What the purchase that is signed again holds, micro-USD.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub held: i64,
    /// The asset it is bound to, CAIP-19.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bound_to: Option<String>,
    /// What the request says of itself, declared keys only.
    #[serde(default, skip_serializing_if = "Context::is_empty")]
    pub context: Context,
    /// The wire protocol of the challenge.
    pub protocol: String,
    /// The assets of the offers, from our own table.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub assets: Vec<Token>,
    /// The offers that could be read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub offers: Vec<Offered>,
    /// Those that could not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rejected: Vec<Unread>,
    /// Groups whose people's yes was used.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub granted: Vec<Arc<str>>,
    /// The limit of an issued session, micro-USD.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_max: Option<i64>,
    /// How many paid answers led here; none where chains do not count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chain: Option<u32>,
    /// What was read of the books; none if the policy was not asked, or if the line would have been too long.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read: Option<Read>,
    /// Digest of the policy.
    pub policy: Arc<str>,
    /// Release of the time-zone data.
    pub tz: String,
    /// What the policy said; none if it was not asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<Verdict>,
    /// Why it was refused, if that was not the policy's doing: a gate, people, a hook, the ledger.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<Why>,
    /// The purchase that was held for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub purchase: Option<String>,
    /// The ticket that people can answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ticket: Option<String>,
    /// True if parts were left out because the line would have been too long: it cannot be judged again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cut: bool,
    /// What the draft in the shadow says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shadow: Option<Shadow>,
}

/// A token of our own table, as the offers were read with it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Token {
    /// CAIP-19.
    pub id: String,
    /// Symbol.
    pub symbol: String,
    /// Decimals.
    pub decimals: u8,
    /// Name of the EIP-712 domain.
    pub name: String,
    /// Its version.
    pub version: String,
}

/// One offer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Offered {
    /// Position in the seller's list.
    pub index: usize,
    /// Scheme.
    pub scheme: String,
    /// Flow.
    pub flow: String,
    /// Transfer method.
    pub transfer: String,
    /// Position in [`Decided::assets`].
    pub asset: usize,
    /// Atomic units.
    pub amount: String,
    /// The price in micro-USD, by the table of that moment.
    pub micro: i64,
    /// Who is paid.
    pub payee: String,
    /// The window that is asked for, seconds.
    pub timeout: u64,
    /// What is left of the seller's own entry: numbers, and its place among the entries.
    pub scores: String,
    /// The same of the challenge's extensions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extensions: Option<String>,
}

/// An offer that could not be read.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Unread {
    /// Position in the seller's list.
    pub index: usize,
    /// Why.
    pub reason: String,
}

/// Everything a decision read of the books. Counters are named as [`super::counter`] writes them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Read {
    /// The gate that was closed: killed, or agent or host frozen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopped: Option<String>,
    /// Micro-USD spent: counter, from, until, value.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub spent: Vec<(String, i64, i64, i64)>,
    /// Commitments made: counter, from, until, value.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub made: Vec<(String, i64, i64, u32)>,
    /// When the n-th commitment was made: counter, from, until, n, value.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nth: Vec<(String, i64, i64, u32, Option<i64>)>,
    /// Pinned payees: entry, network, address.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pins: Vec<(String, String, Option<String>)>,
    /// Histories: entry; count, median, last, first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<(String, u32, i64, i64, Option<i64>)>,
}

/// A decision in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Say {
    /// It may be paid.
    Allow,
    /// Only people stand before it.
    Ask,
    /// It may not.
    Deny,
}

impl Say {
    /// Stable text, also of the metric's labels.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Ask => "ask",
            Self::Deny => "deny",
        }
    }
}

/// What a policy said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// In one word.
    pub say: Say,
    /// The allow entry of what is paid or asked about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entry: Option<String>,
    /// The offer that is paid or asked about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offer: Option<usize>,
    /// Its price in micro-USD; of a refusal, that of the offer that came nearest.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub micro: i64,
    /// Groups that are asked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<Arc<str>>,
    /// Everything that speaks against it, the most telling first; empty if it is allowed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<Why>,
}

impl Verdict {
    /// The reason that leads; `none` if it is allowed.
    pub fn lead(&self) -> &str {
        self.reasons.first().map_or("none", |w| &w.reason)
    }
}

/// One reason with its numbers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Why {
    /// The code.
    pub reason: String,
    /// `cosigner` if it is the co-signer's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// The rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// The offer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offer: Option<usize>,
    /// Its price, micro-USD.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub micro: Option<i64>,
    /// The limit, micro-USD.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<i64>,
    /// What is left of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remaining: Option<i64>,
    /// When that changes, ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resets_at: Option<i64>,
}

impl From<&Violation> for Why {
    fn from(v: &Violation) -> Self {
        let micro = |m: Option<MicroUsd>| m.map(MicroUsd::micro);
        Self {
            reason: v.reason.as_str().to_owned(),
            by: (v.by != crate::policy::By::Policy).then(|| v.by.as_str().to_owned()),
            rule: v.rule.as_ref().map(ToString::to_string),
            offer: v.offer,
            micro: micro(v.amount),
            limit: micro(v.limit),
            remaining: micro(v.remaining),
            resets_at: v.resets_at.map(crate::payment::Timestamp::millis),
        }
    }
}

/// What became of a purchase.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Outcome {
    /// When, ms.
    pub at: i64,
    /// The same for people.
    pub time: String,
    /// The purchase.
    pub purchase: String,
    /// What.
    pub what: What,
    /// Why, if nothing was sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// What can become of a purchase, as far as decisions read it. The ledger has all of its states.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// Its answer was delivered in full: it is history, and may pin its payee.
    Consumed,
    /// Nothing was held in the end, or it was proven that nothing was signed: the money is back.
    Void,
    /// It was refused after it was held, and the money stays spent.
    Kept,
}

/// Refusals that are counted together.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Many {
    /// The first of them, ms.
    pub at: i64,
    /// The same for people.
    pub time: String,
    /// Whose.
    pub agent: String,
    /// The reason that led.
    pub reason: String,
    /// How many.
    pub count: u64,
    /// Their prices together, micro-USD.
    pub micro: i64,
}

/// What a draft in the shadow said, with its own counters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shadow {
    /// Its digest.
    pub policy: Arc<str>,
    /// What it said.
    pub verdict: Verdict,
}

fn is_zero(n: &i64) -> bool {
    *n == 0
}
