//! Who is calling: proxy credentials, or the configured default for a loopback peer. Everybody else gets 407.

use std::net::IpAddr;
use std::sync::Arc;

use http::HeaderMap;
use http::header::PROXY_AUTHORIZATION;

use super::Proxy;
use crate::agents::parse_basic;
use crate::metrics::AgentMetrics;
use crate::payment::{AgentId, Reason, SessionName};

/// An authenticated caller with its metrics at hand.
#[derive(Clone)]
pub(super) struct Caller {
    pub(super) agent: AgentId,
    pub(super) session: Option<SessionName>,
    pub(super) metrics: Arc<AgentMetrics>,
}

/// Names the caller, or says that credentials are needed.
pub(super) fn identify(proxy: &Proxy, headers: &HeaderMap, peer: IpAddr) -> Result<Caller, Reason> {
    let (agent, session) = match headers.get(PROXY_AUTHORIZATION) {
        Some(value) => {
            let (user, password) = parse_basic(value).ok_or(Reason::ProxyAuthRequired)?;
            verify(proxy, &user, &password, peer)?
        }
        None => (by_address(proxy, peer)?, None),
    };
    let metrics = proxy.metrics.agent(&agent);
    Ok(Caller { agent, session, metrics })
}

fn by_address(proxy: &Proxy, peer: IpAddr) -> Result<AgentId, Reason> {
    match &proxy.default_agent {
        Some(agent) if peer.to_canonical().is_loopback() => Ok(agent.clone()),
        _ => Err(Reason::ProxyAuthRequired),
    }
}

fn verify(proxy: &Proxy, user: &str, password: &str, peer: IpAddr) -> Result<(AgentId, Option<SessionName>), Reason> {
    if let Some(tokens) = &proxy.tokens {
        return tokens.load().verify(user, password).ok_or(Reason::ProxyAuthRequired);
    }
    // Without tokens a name proves nothing: only the loopback default may be named, to choose a session.
    let agent = by_address(proxy, peer)?;
    let (name, session) = user.split_once('+').map_or((user, None), |(n, s)| (n, Some(s)));
    if name != agent.as_str() {
        return Err(Reason::ProxyAuthRequired);
    }
    let session = session.map(str::parse).transpose().map_err(|_| Reason::ProxyAuthRequired)?;
    Ok((agent, session))
}
