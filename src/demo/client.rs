//! The demo's agent: a plain HTTP client that knows a proxy and nothing of payments.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::net;

/// Longest wait for one answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// What the agent got.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    /// The problem document of a refusal (RFC 9457).
    pub(super) problem: Option<Value>,
}

impl Answer {
    /// A member of the refusal, as text.
    pub(super) fn get(&self, key: &str) -> Option<&str> {
        self.problem.as_ref()?.get(key)?.as_str()
    }
}

/// Gets `url` through the proxy.
pub(super) async fn get(proxy: SocketAddr, url: &str) -> Result<Answer> {
    let (status, body) = net::get(proxy, url, PATIENCE).await.with_context(|| format!("GET {url} through the proxy"))?;
    let problem = serde_json::from_slice(&body).ok().filter(|v: &Value| v.get("reason").is_some());
    Ok(Answer { status, problem })
}
