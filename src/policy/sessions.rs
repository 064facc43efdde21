//! `sessions`: what an agent may spend under one session name, and which names there may be (M2.4).

use std::time::Duration;

use super::read::{Report, count, duration, fields, flag, money};
use super::yaml::Node;
use crate::payment::MicroUsd;

/// An agent's rules for sessions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sessions {
    /// Only sessions that an operator opened, and no request without one.
    pub required: bool,
    /// The most that one session may spend, micro-USD.
    pub max: Option<MicroUsd>,
    /// How long a session lives from its first use, or from when it was opened. Absolute: nothing prolongs it.
    pub expires: Duration,
    /// How many sessions may be open at once.
    pub open: u32,
}

impl Sessions {
    /// Reads the key.
    pub(super) fn read(node: &Node, report: &mut Report) -> Option<Self> {
        let map = fields(node, "sessions", &["required", "max", "expires", "open"], report)?;
        let required = map.get("required").and_then(|n| flag(n, "sessions.required", report)).unwrap_or(false);
        let max = map.get("max").and_then(|n| money(n, "sessions.max", report));
        let expires = map.get("expires").and_then(|n| duration(n, "sessions.expires", report)).unwrap_or(Duration::from_secs(3600));
        let open = map.get("open").and_then(|n| count(n, "sessions.open", 100_000, report)).unwrap_or(20);
        if let Some(node) = map.get("expires").filter(|_| expires < Duration::from_secs(1)) {
            report.error(&node.at, "sessions.expires: a session that ends at once pays nothing: write 1s or more, such as 30m");
        }
        if let Some(node) = map.get("open").filter(|_| open == 0) {
            report.error(&node.at, "sessions.open: no session could be open: write 1 or more, or remove the key");
        }
        Some(Self { required, max, expires, open })
    }
}
