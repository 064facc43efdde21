//! Who is calling: proxy credentials, or the configured default for a loopback peer. Everybody else gets 407.

use std::sync::Arc;

use http::HeaderMap;
use http::header::PROXY_AUTHORIZATION;

use super::Proxy;
use super::connection::Peer;
use super::load::Place;
use crate::agents::parse_basic;
use crate::metrics::AgentMetrics;
use crate::payment::{AgentId, Reason, SessionName};

/// An authenticated caller with its metrics at hand.
#[derive(Clone)]
pub(super) struct Caller {
    pub(super) agent: AgentId,
    pub(super) session: Option<SessionName>,
    pub(super) metrics: Arc<AgentMetrics>,
    /// This connection among those of the agent.
    pub(super) place: Arc<Place>,
}

/// Names the caller, or says that credentials are needed. `before` is who called last on the same connection.
pub(super) fn identify(proxy: &Proxy, headers: &HeaderMap, peer: &Peer, before: Option<&Caller>) -> Result<Caller, Reason> {
    let (agent, session) = match headers.get(PROXY_AUTHORIZATION) {
        Some(value) => {
            let (user, password) = parse_basic(value).ok_or(Reason::ProxyAuthRequired)?;
            verify(proxy, &user, &password, peer)?
        }
        None => (default_agent(proxy, peer)?, None),
    };
    caller(proxy, agent, session, before)
}

/// The configured default, for a program on this machine.
pub(super) fn by_default(proxy: &Proxy, peer: &Peer) -> Result<Caller, Reason> {
    caller(proxy, default_agent(proxy, peer)?, None, None)
}

/// The agent whose token this is.
pub(super) fn by_password(proxy: &Proxy, peer: &Peer, user: &str, password: &str) -> Result<Caller, Reason> {
    let (agent, session) = verify(proxy, user, password, peer)?;
    caller(proxy, agent, session, None)
}

fn caller(proxy: &Proxy, agent: AgentId, session: Option<SessionName>, before: Option<&Caller>) -> Result<Caller, Reason> {
    let place = match before {
        Some(before) if before.agent == agent => before.place.clone(),
        _ => proxy.loads.place(&agent)?,
    };
    Ok(Caller { metrics: proxy.metrics.agent(&agent), agent, session, place })
}

fn default_agent(proxy: &Proxy, peer: &Peer) -> Result<AgentId, Reason> {
    match &proxy.default_agent {
        Some(agent) if peer.is_here() => Ok(agent.clone()),
        _ => Err(Reason::ProxyAuthRequired),
    }
}

/// A session that an operator opened has a token of its own; for any other name the agent's credentials decide (M2.4).
fn verify(proxy: &Proxy, user: &str, password: &str, peer: &Peer) -> Result<(AgentId, Option<SessionName>), Reason> {
    if let Some((agent, session)) = user.split_once('+').and_then(|(a, s)| Some((a.parse().ok()?, s.parse().ok()?))) {
        match proxy.sessions.admits(&agent, &session, password) {
            Some(true) => return Ok((agent, Some(session))),
            Some(false) => return Err(Reason::ProxyAuthRequired),
            None => {}
        }
    }
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
