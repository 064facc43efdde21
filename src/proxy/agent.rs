//! Who is calling: proxy credentials, or the configured default for a loopback peer. Everybody else gets 407.

use std::sync::Arc;

use http::HeaderMap;
use http::header::PROXY_AUTHORIZATION;

use super::Proxy;
use super::connection::Peer;
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
pub(super) fn identify(proxy: &Proxy, headers: &HeaderMap, peer: &Peer) -> Result<Caller, Reason> {
    match headers.get(PROXY_AUTHORIZATION) {
        Some(value) => {
            let (user, password) = parse_basic(value).ok_or(Reason::ProxyAuthRequired)?;
            by_password(proxy, peer, &user, &password)
        }
        None => by_default(proxy, peer),
    }
}

/// The configured default, for a program on this machine.
pub(super) fn by_default(proxy: &Proxy, peer: &Peer) -> Result<Caller, Reason> {
    Ok(caller(proxy, default_agent(proxy, peer)?, None))
}

/// The agent whose token this is.
pub(super) fn by_password(proxy: &Proxy, peer: &Peer, user: &str, password: &str) -> Result<Caller, Reason> {
    let (agent, session) = verify(proxy, user, password, peer)?;
    Ok(caller(proxy, agent, session))
}

fn caller(proxy: &Proxy, agent: AgentId, session: Option<SessionName>) -> Caller {
    let metrics = proxy.metrics.agent(&agent);
    Caller { agent, session, metrics }
}

fn default_agent(proxy: &Proxy, peer: &Peer) -> Result<AgentId, Reason> {
    match &proxy.default_agent {
        Some(agent) if peer.is_here() => Ok(agent.clone()),
        _ => Err(Reason::ProxyAuthRequired),
    }
}

fn verify(proxy: &Proxy, user: &str, password: &str, peer: &Peer) -> Result<(AgentId, Option<SessionName>), Reason> {
    if let Some(tokens) = &proxy.tokens {
        return tokens.load().verify(user, password).ok_or(Reason::ProxyAuthRequired);
    }
    // Without tokens a name proves nothing: only the loopback default may be named, to choose a session.
    let agent = default_agent(proxy, peer)?;
    let (name, session) = user.split_once('+').map_or((user, None), |(n, s)| (n, Some(s)));
    if name != agent.as_str() {
        return Err(Reason::ProxyAuthRequired);
    }
    let session = session.map(str::parse).transpose().map_err(|_| Reason::ProxyAuthRequired)?;
    Ok((agent, session))
}
