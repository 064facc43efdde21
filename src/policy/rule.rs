//! The compiled policy.

use std::sync::Arc;

use super::{Host, PolicyErrors, Scope, Source, Window};
use crate::payment::{AgentId, AssetTable, MicroUsd};

/// Whose body a refused request gets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RefusalBody {
    /// Our RFC 9457 problem document.
    #[default]
    Problem,
    /// The seller's own 402, with our `Proxy-Status` added.
    Seller,
}

/// A cap on a window, as metrics and `ledger show` list them.
#[derive(Clone, Debug)]
pub struct Budget {
    /// `caps.day`, or `entry:<id>.caps.day`.
    pub name: String,
    /// Whose counter.
    pub scope: Scope,
    /// Period.
    pub window: Window,
    /// The limit.
    pub limit: MicroUsd,
}

/// A whole policy, immutable; one request uses one snapshot.
#[derive(Debug)]
pub struct Policy {}

impl Policy {
    /// Parses one file, or the files of a folder in name order, into a policy.
    ///
    /// # Errors
    /// Every mistake found, each with file, line, column and what to write instead. A policy with an error is never used.
    pub fn parse(sources: &[Source], epoch: u64) -> Result<Self, PolicyErrors> {
        let _ = (sources, epoch);
        unimplemented!("helper")
    }

    /// A policy without agents: nothing is payable.
    pub fn empty() -> Self {
        unimplemented!("helper")
    }

    /// SHA-256 over the sources, hex.
    pub fn digest(&self) -> &Arc<str> {
        unimplemented!("helper")
    }

    /// Counts loads of this process; an approval of an older epoch is stale.
    pub fn epoch(&self) -> u64 {
        unimplemented!("helper")
    }

    /// Shipped assets plus the file's.
    pub fn assets(&self) -> &AssetTable {
        unimplemented!("helper")
    }

    /// The agents in name order.
    pub fn agents(&self) -> impl Iterator<Item = &AgentId> {
        std::iter::empty()
    }

    /// Whether some allow entry of `agent` could match a request to `host`:`port`: decides interception and body keeping.
    pub fn payable(&self, agent: &AgentId, host: &Host, port: u16) -> bool {
        let _ = (agent, host, port);
        unimplemented!("helper")
    }

    /// Whose refusal body `agent` gets.
    pub fn refusal_body(&self, agent: &AgentId) -> RefusalBody {
        let _ = agent;
        unimplemented!("helper")
    }

    /// The caps of `agent`, for gauges and tables.
    pub fn budgets(&self, agent: &AgentId) -> Vec<Budget> {
        let _ = agent;
        unimplemented!("helper")
    }

    /// The time zone of calendar periods.
    pub fn zone(&self) -> &jiff::tz::TimeZone {
        unimplemented!("helper")
    }

    /// Mistakes that do not stop the policy from loading (M3.5): file, line, column, text.
    pub fn warnings(&self) -> &[super::PolicyError] {
        unimplemented!("helper")
    }
}
