//! The desk of the sessions (M2.4): `GET /sessions`; `POST /sessions {"agent", "name"?, "expires"?: "30m", "max"?: "5.00"}`;
//! `POST /sessions/close {"agent", "name"}`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use rand::TryRng as _;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::admin::api::{Answer, ApiError, Call, Desk, Role};
use crate::agents::token_text;
use crate::config;
use crate::payment::{AgentId, MicroUsd, SessionName, Timestamp};
use crate::policy::Policy;
use crate::proxy::Proxy;
use crate::treasurer::{Session, SessionError, Sessions, Wanted};

pub(super) struct SessionDesk {
    pub(super) sessions: Arc<Sessions>,
    pub(super) policy: Arc<ArcSwap<Policy>>,
    pub(super) proxy: Arc<Proxy>,
    /// Where agents connect; known once it is bound.
    pub(super) address: Arc<OnceLock<SocketAddr>>,
}

impl Desk for SessionDesk {
    fn prefix(&self) -> &'static str {
        "/sessions"
    }

    fn call<'a>(&'a self, call: &'a Call) -> Answer<'a> {
        Box::pin(async move {
            match call.route(self.prefix()) {
                ("GET", "") => {
                    call.need(Role::Read)?;
                    let now = self.now()?;
                    let list = self.sessions.list(now, false);
                    Ok(json!({ "sessions": list.iter().map(|(a, n, s)| shown(a, n, s)).collect::<Vec<_>>() }))
                }
                ("POST", "") => {
                    call.need(Role::Operate)?;
                    self.issue(call).await
                }
                ("POST", "/close") => {
                    call.need(Role::Operate)?;
                    let (agent, name) = (self.agent(call)?, name(call)?.ok_or_else(|| ApiError::bad("`name` is missing"))?);
                    let (sessions, now) = (self.sessions.clone(), self.now()?);
                    Ok(json!({ "changed": blocking(move || sessions.close(&agent, &name, now)).await? }))
                }
                (_, "" | "/close") => Err(ApiError::method()),
                _ => Err(ApiError::not_found("there are /sessions and /sessions/close")),
            }
        })
    }
}

impl SessionDesk {
    /// The ledger's time: a wall clock that was set back must not prolong a session (M1.8).
    fn now(&self) -> Result<Timestamp, ApiError> {
        let till = self.proxy.till().ok_or_else(|| ApiError::unavailable("another process has the ledger at this moment"))?;
        Ok(till.ledger().clock(crate::clock::read()).now)
    }

    /// An agent that the policy names: a session for anybody else could pay nothing, and the name may only be misspelt.
    fn agent(&self, call: &Call) -> Result<AgentId, ApiError> {
        let text = call.text("agent", 63)?.ok_or_else(|| ApiError::bad("`agent` is missing"))?;
        let agent = text.parse::<AgentId>().map_err(|e| ApiError::bad(format!("`agent`: {e}")))?;
        if self.policy.load().agents().any(|known| *known == agent) {
            return Ok(agent);
        }
        Err(ApiError::bad(format!("`agent`: the policy has no agent {agent}")))
    }

    async fn issue(&self, call: &Call) -> Result<Value, ApiError> {
        let known = ["agent", "name", "expires", "max"];
        if let Some(key) = call.body.as_object().and_then(|all| all.keys().find(|key| !known.contains(&key.as_str()))) {
            let key: String = key.chars().filter(|c| c.is_ascii_graphic()).take(40).collect();
            return Err(ApiError::bad(format!("unknown field `{key}`: there are agent, name, expires, max")));
        }
        let agent = self.agent(call)?;
        let mut random = Zeroizing::new([0_u8; 40]);
        rand::rngs::SysRng.try_fill_bytes(&mut *random).map_err(|_| ApiError::unavailable("the system gives no random bytes"))?;
        let name = match name(call)? {
            Some(name) => name,
            None => {
                let text = format!("s-{}", alloy_primitives::hex::encode(&random[32..]));
                text.parse().map_err(|_| ApiError::unavailable("no name could be made"))?
            }
        };
        let expires = call.text("expires", 20)?.map(config::duration).transpose().map_err(|e| ApiError::bad(format!("`expires`: {e}")))?;
        let max = call.text("max", 20)?.map(MicroUsd::parse).transpose().map_err(|e| ApiError::bad(format!("`max`: {e}")))?;
        let mut secret = Zeroizing::new([0_u8; 32]);
        secret.copy_from_slice(&random[..32]);
        let token = Zeroizing::new(token_text(&secret));
        let wanted = Wanted { agent: agent.clone(), name: name.clone(), expires, max };
        let (sessions, now, given) = (self.sessions.clone(), self.now()?, token.clone());
        let rules = self.policy.load().sessions(&agent).cloned();
        let expires_at = blocking(move || sessions.issue(&wanted, &given, rules.as_ref(), now)).await?;
        tracing::info!(%agent, session = %name, who = %call.who, "a session was opened");
        Ok(json!({
            "agent": agent.as_str(),
            "name": name.as_str(),
            "user": format!("{agent}+{name}"),
            "token": token.as_str(),
            "proxy_url": self.address.get().map(|at| format!("http://{agent}+{name}:{}@{}", token.as_str(), reachable(*at))),
            "expires_at": expires_at.rfc3339(),
            "max_usd": max.map(|m| m.to_string()),
        }))
    }
}

/// An address that a program on this machine can dial.
fn reachable(bound: SocketAddr) -> SocketAddr {
    match bound.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => SocketAddr::new(Ipv4Addr::LOCALHOST.into(), bound.port()),
        IpAddr::V6(ip) if ip.is_unspecified() => SocketAddr::new(Ipv6Addr::LOCALHOST.into(), bound.port()),
        _ => bound,
    }
}

fn name(call: &Call) -> Result<Option<SessionName>, ApiError> {
    call.text("name", 63)?.map(str::parse).transpose().map_err(|e| ApiError::bad(format!("`name`: {e}")))
}

fn shown(agent: &AgentId, name: &SessionName, session: &Session) -> Value {
    json!({
        "agent": agent.as_str(),
        "name": name.as_str(),
        "issued": session.is_issued(),
        "opened_at": session.opened_at.rfc3339(),
        "expires_at": session.expires_at.rfc3339(),
        "max_usd": session.max.map(|m| m.to_string()),
    })
}

/// The disk is not waited for on a runtime's thread.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, SessionError> + Send + 'static) -> Result<T, ApiError> {
    let done = tokio::task::spawn_blocking(work).await.map_err(|_| ApiError::unavailable("the process is ending"))?;
    done.map_err(|error| match error {
        SessionError::Bad(_) => ApiError::bad(error.to_string()),
        SessionError::Taken => ApiError::conflict("session_taken", error.to_string()),
        SessionError::Full => ApiError::conflict("session_limit", error.to_string()),
        SessionError::Unknown => ApiError::not_found(error.to_string()),
        SessionError::Disk(_) => ApiError::unavailable(error.to_string()),
    })
}
