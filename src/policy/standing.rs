//! Who and what is stopped: by a person, by the risk rules, or by the kill switch. A gate of every decision (M3.4 step 0).

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Host;
use crate::payment::{AgentId, Reason, Timestamp};

/// Why something is stopped, and since when. Our own words and numbers only (S19).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stopped {
    /// Who did it: `operator`, `risk`, `file`.
    pub by: Arc<str>,
    /// Why, one line; the evidence of an automatic stop.
    pub why: Arc<str>,
    /// Since when.
    pub at: Timestamp,
}

/// Everything that is stopped now. Immutable; a change makes a new one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// The kill switch: nothing is signed for anybody.
    pub killed: Option<Stopped>,
    /// Frozen agents.
    pub agents: BTreeMap<Arc<str>, Stopped>,
    /// Hosts that are paid by nobody, as [`Host`] writes them.
    pub hosts: BTreeMap<Arc<str>, Stopped>,
}

impl Standing {
    /// The first gate that is closed for a payment of `agent` at `host` (M3.4 step 0, M3.7: it ends the decision alone).
    pub fn closed(&self, agent: &AgentId, host: &Host) -> Option<Reason> {
        if self.killed.is_some() {
            return Some(Reason::Killed);
        }
        if self.agents.contains_key(agent.as_str()) {
            return Some(Reason::AgentFrozen);
        }
        let host = || match host {
            Host::Name(name) => self.hosts.contains_key(name),
            Host::Ip(_) => self.hosts.contains_key(host.to_string().as_str()),
        };
        if !self.hosts.is_empty() && host() { Some(Reason::HostFrozen) } else { None }
    }
}
