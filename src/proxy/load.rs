//! How much each agent has open, against its limits: connections and requests under way, in total and per agent.
//!
//! The counters of an agent are found once per connection and kept on it: a request adds and takes away, without a look-up and
//! without a lock.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::config::Limits;
use crate::payment::{AgentId, Reason};

/// The counters of all agents.
pub(super) struct Loads {
    /// Connections that one agent may have.
    connections: usize,
    most: Most,
    /// Grows with the agents that ever called; only authenticated ones get here.
    agents: Mutex<HashMap<AgentId, Arc<Counts>>>,
}

/// What bounds requests.
#[derive(Clone)]
struct Most {
    running: Arc<AtomicUsize>,
    requests: usize,
    agent_requests: usize,
}

#[derive(Default)]
struct Counts {
    connections: AtomicUsize,
    requests: AtomicUsize,
}

/// One connection of an agent, with all that is inside it. Dropping the last clone frees the place.
pub(super) struct Place {
    counts: Arc<Counts>,
    most: Most,
}

/// One request under way.
pub(super) struct Running {
    place: Arc<Place>,
}

impl Loads {
    pub(super) fn new(limits: &Limits) -> Self {
        let most = Most { running: Arc::default(), requests: limits.requests, agent_requests: limits.agent_requests };
        Self { connections: limits.agent_connections, most, agents: Mutex::default() }
    }

    /// A place for one more connection of `agent`.
    pub(super) fn place(&self, agent: &AgentId) -> Result<Arc<Place>, Reason> {
        let mut agents = self.agents.lock().unwrap_or_else(PoisonError::into_inner);
        let counts = match agents.get(agent) {
            Some(counts) => counts.clone(),
            None => agents.entry(agent.clone()).or_default().clone(),
        };
        drop(agents);
        enter(&counts.connections, self.connections, Reason::TooManyAgentConnections)?;
        Ok(Arc::new(Place { counts, most: self.most.clone() }))
    }
}

impl Place {
    /// Counts a request until its answer is handed on whole.
    pub(super) fn request(self: &Arc<Self>) -> Result<Running, Reason> {
        enter(&self.most.running, self.most.requests, Reason::TooManyRequests)?;
        if let Err(reason) = enter(&self.counts.requests, self.most.agent_requests, Reason::TooManyAgentRequests) {
            self.most.running.fetch_sub(1, Ordering::Relaxed);
            return Err(reason);
        }
        Ok(Running { place: self.clone() })
    }
}

fn enter(count: &AtomicUsize, limit: usize, full: Reason) -> Result<(), Reason> {
    if count.fetch_add(1, Ordering::Relaxed) >= limit {
        count.fetch_sub(1, Ordering::Relaxed);
        return Err(full);
    }
    Ok(())
}

impl Drop for Place {
    fn drop(&mut self) {
        self.counts.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.place.counts.requests.fetch_sub(1, Ordering::Relaxed);
        self.place.most.running.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::time::Duration;

    fn loads(agent_connections: usize, requests: usize, agent_requests: usize) -> Loads {
        let second = Duration::from_secs(1);
        Loads::new(&Limits {
            connections: 100,
            agent_connections,
            requests,
            agent_requests,
            header: 8192,
            seller_header: 8192,
            body: u64::MAX,
            idle: second,
            challenge: 1024,
            challenge_time: second,
            identical: 1,
        })
    }

    #[test]
    fn an_agent_has_so_many_connections_and_no_more_until_one_ends() {
        let loads = loads(2, 10, 10);
        let (a, b) = ("a".parse().unwrap(), "b".parse().unwrap());
        let (first, _second) = (loads.place(&a).unwrap(), loads.place(&a).unwrap());
        let inside = first.clone();
        assert_eq!(loads.place(&a).err(), Some(Reason::TooManyAgentConnections));
        assert!(loads.place(&b).is_ok(), "another agent's room is its own");
        drop(first);
        assert_eq!(loads.place(&a).err(), Some(Reason::TooManyAgentConnections), "its tunnel is still open");
        drop(inside);
        assert!(loads.place(&a).is_ok());
    }

    #[test]
    fn requests_are_bounded_per_agent_and_in_total() {
        let loads = loads(9, 3, 2);
        let (a, b) = (loads.place(&"a".parse().unwrap()).unwrap(), loads.place(&"b".parse().unwrap()).unwrap());
        let (one, _two) = (a.request().unwrap(), a.request().unwrap());
        assert_eq!(a.request().err(), Some(Reason::TooManyAgentRequests));
        let _three = b.request().unwrap();
        assert_eq!(b.request().err(), Some(Reason::TooManyRequests));
        drop(one);
        assert_eq!(a.request().map(drop), Ok(()));
        assert_eq!(b.request().map(drop), Ok(()), "what was refused was not counted");
    }
}
