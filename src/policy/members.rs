//! Who shares a counter: everybody, or a list of agents known by its content.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use crate::payment::AgentId;

/// The agents whose payments one counter sums. Two lists of the same agents are the same members, whatever the budget is called:
/// a counter is what was posted to it, not who asks (M2.2).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Members(Which);

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Which {
    All,
    Listed(Arc<[AgentId]>),
}

impl Members {
    /// Every agent there is or was.
    pub const ALL: Self = Self(Which::All);

    /// These agents, in any order.
    pub fn of(agents: impl IntoIterator<Item = AgentId>) -> Self {
        let mut agents: Vec<AgentId> = agents.into_iter().collect();
        agents.sort();
        agents.dedup();
        Self(Which::Listed(agents.into()))
    }

    /// Whether `agent` is one of them.
    pub fn contains(&self, agent: &AgentId) -> bool {
        self.listed().is_none_or(|agents| agents.binary_search(agent).is_ok())
    }

    /// The agents in name order; `None` for all.
    pub fn listed(&self) -> Option<&[AgentId]> {
        match &self.0 {
            Which::All => None,
            Which::Listed(agents) => Some(agents),
        }
    }
}

impl Hash for Members {
    /// A long list is told apart by its ends and length: equality still compares all of it.
    fn hash<H: Hasher>(&self, state: &mut H) {
        let agents = self.listed().unwrap_or_default();
        (self.listed().is_some(), agents.len(), agents.first(), agents.last()).hash(state);
    }
}

impl fmt::Debug for Members {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.listed() {
            None => f.write_str("all"),
            Some(agents) => f.debug_list().entries(agents.iter().map(AgentId::as_str)).finish(),
        }
    }
}
