//! "Approve and remember": a yes for later questions like this one, bounded in every direction (M2.6).

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::ticket::Facts;
use crate::payment::Timestamp;

/// A bounded yes in advance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mandate {
    /// 32 hex digits.
    pub id: Arc<str>,
    /// Who gave it.
    pub by: Arc<str>,
    /// For this agent.
    pub agent: Arc<str>,
    /// At this host.
    pub host: Arc<str>,
    /// To this payee.
    pub payee: Arc<str>,
    /// The groups whose yes it is.
    pub groups: Vec<Arc<str>>,
    /// The rules and budgets that it answers for.
    pub rules: Vec<Arc<str>>,
    /// The most for one payment, micro-USD.
    pub max: i64,
    /// The most for all of them, micro-USD.
    pub total: i64,
    /// Until then.
    pub until: Timestamp,
    /// What was paid under it, micro-USD; never given back.
    pub used: i64,
    /// Taken back.
    pub revoked: bool,
    /// The time step of the code that came with it, if one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<u64>,
}

impl Mandate {
    /// Whether it answers a question about `facts` at `now`.
    pub fn covers(&self, facts: &Facts, now: Timestamp) -> bool {
        let answered =
            |asked: &super::ticket::Asked| self.rules.contains(&asked.rule) && asked.any_of.iter().any(|g| self.groups.contains(g));
        !self.revoked
            && now < self.until
            && self.agent == facts.agent
            && self.host == facts.host
            && self.payee == facts.payee
            && facts.micro_usd <= self.max
            && self.used.checked_add(facts.micro_usd).is_some_and(|sum| sum <= self.total)
            && facts.asks.iter().all(answered)
    }
}
