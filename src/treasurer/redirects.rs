//! Chains of paid redirects (M1.7): a `Location` handed out by a paid answer belongs to its chain for 60 seconds.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use super::Ask;
use crate::payment::{AgentId, SessionName, Timestamp};

/// How long a handed-out address belongs to its chain.
const LIFE_MS: i64 = 60_000;

/// Most addresses remembered; past that the oldest are forgotten first.
const MAX: usize = 10_000;

type Key = (AgentId, Option<SessionName>, String);

/// Remembers where paid answers sent their agents.
#[derive(Debug, Default)]
pub struct Redirects {
    any: AtomicBool,
    chains: Mutex<HashMap<Key, (u32, Timestamp)>>,
}

impl Redirects {
    /// How many paid answers led to this request.
    pub fn depth(&self, ask: &Ask, now: Timestamp) -> u32 {
        self.look_up(&(ask.agent.clone(), ask.session.clone(), ask.url.clone()), now)
    }

    /// False while no chain is known: lets the unpaid path skip everything else.
    pub fn any(&self) -> bool {
        self.any.load(Ordering::Relaxed)
    }

    /// A paid answer sent the agent to `to` (absolute URL).
    pub fn paid(&self, ask: &Ask, to: String, now: Timestamp) {
        let depth = self.depth(ask, now);
        self.insert((ask.agent.clone(), ask.session.clone(), to), depth.saturating_add(1), now);
    }

    /// An unpaid answer at `from` sent the agent on to `to`: the chain goes on, or a free hop would hide a paid loop.
    pub fn free(&self, agent: &AgentId, session: Option<&SessionName>, from: String, to: String, now: Timestamp) {
        let depth = self.look_up(&(agent.clone(), session.cloned(), from), now);
        if depth > 0 {
            self.insert((agent.clone(), session.cloned(), to), depth, now);
        }
    }

    fn look_up(&self, key: &Key, now: Timestamp) -> u32 {
        if !self.any() {
            return 0;
        }
        let chains = self.chains.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        chains.get(key).filter(|(_, at)| now.millis() - at.millis() < LIFE_MS).map_or(0, |(depth, _)| *depth)
    }

    fn insert(&self, key: Key, depth: u32, now: Timestamp) {
        let mut chains = self.chains.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if chains.len() >= MAX {
            chains.retain(|_, (_, at)| now.millis() - at.millis() < LIFE_MS);
        }
        if chains.len() >= MAX {
            // Still full of live chains: forgetting one could only allow a payment that caps and rates still bound.
            if let Some(oldest) = chains.iter().min_by_key(|(_, (_, at))| *at).map(|(k, _)| k.clone()) {
                chains.remove(&oldest);
            }
        }
        chains.insert(key, (depth, now));
        self.any.store(true, Ordering::Relaxed);
    }
}
