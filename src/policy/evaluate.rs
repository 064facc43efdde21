//! The order of evaluation, M3.4.

use alloy_primitives::Address;

use super::{Decision, Host, Policy, RuleId, Scope, Span};
use crate::payment::{AgentId, ChainId, Challenge, MicroUsd, Payer, SessionName, Timestamp};

/// What the request is, as the proxy knows it: nothing here is the agent's or the seller's say-so.
#[derive(Clone, Debug)]
pub struct Input<'a> {
    /// The authenticated caller.
    pub agent: &'a AgentId,
    /// Its session.
    pub session: Option<&'a SessionName>,
    /// Request method.
    pub method: &'a http::Method,
    /// True if the upstream leg is TLS.
    pub https: bool,
    /// The host that is really connected to: CONNECT authority or absolute-form authority.
    pub host: &'a Host,
    /// Its port.
    pub port: u16,
    /// Path as sent, without the query.
    pub path: &'a str,
    /// The account that would pay.
    pub payer: Payer,
    /// Ledger time.
    pub now: Timestamp,
    /// What the purchase being re-signed already holds; zero for a new one (M1.2).
    pub held: MicroUsd,
    /// A re-signature must stay on this chain and token; other offers are skipped with `payment_outstanding`.
    pub bound_to: Option<crate::payment::AssetId>,
}

/// The books, as a decision reads them.
pub trait View {
    /// Micro-USD posted to `scope` within `span`.
    fn spent(&self, scope: &Scope, span: Span) -> MicroUsd;
    /// Commitments of `scope` with `now − at < span` (M3.7).
    fn commitments(&self, scope: &Scope, span: Span) -> u32;
    /// The payee pinned for this entry, host and network by the first consumed purchase (M3.3).
    fn pin(&self, agent: &AgentId, entry: &RuleId, host: &Host, chain: ChainId) -> Option<Address>;
}

impl Policy {
    /// Judges every offer of `challenge` for `input` against `books`.
    pub fn evaluate(&self, input: &Input<'_>, challenge: &Challenge, books: &dyn View) -> Decision {
        let _ = (input, challenge, books);
        unimplemented!("helper")
    }
}
