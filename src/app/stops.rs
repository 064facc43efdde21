//! The desks of the stops: `/v1/kill` and `/v1/freezes`.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::admin::api::{Answer, ApiError, Call, Desk, Role};
use crate::clock;
use crate::ledger::{Ledger, Purchase};
use crate::payment::{AgentId, Timestamp};
use crate::policy::{Host, Stopped};
use crate::proxy::Proxy;
use crate::stops::{StopError, Stops, Target};

/// Longest reason of a person.
const WHY: usize = 200;

/// `GET /kill`; `POST /kill {"on": true, "why": "…"}`.
pub(super) struct KillDesk {
    pub(super) stops: Arc<Stops>,
    pub(super) proxy: Arc<Proxy>,
}

/// `GET /freezes`; `POST /freezes {"agent": "…" | "host": "…", "why": "…"}`; `POST /freezes/lift` with the same target.
pub(super) struct FreezeDesk {
    pub(super) stops: Arc<Stops>,
}

impl Desk for KillDesk {
    fn prefix(&self) -> &'static str {
        "/kill"
    }

    fn call<'a>(&'a self, call: &'a Call) -> Answer<'a> {
        Box::pin(async move {
            match call.route(self.prefix()) {
                ("GET", "") => call.need(Role::Read)?,
                ("POST", "") => {
                    call.need(Role::Operate)?;
                    let Some(on) = call.body.get("on").and_then(Value::as_bool) else {
                        return Err(ApiError::bad("write `{\"on\": true}` or `{\"on\": false}`, and `why` if you like"));
                    };
                    let (stops, stopped) = (self.stops.clone(), stopped(call, "stopped by a person")?);
                    blocking(move || if on { stops.kill(&stopped) } else { stops.revive() }).await?;
                }
                (_, "") => return Err(ApiError::method()),
                _ => return Err(ApiError::not_found("there is /kill and nothing below it")),
            }
            Ok(self.status())
        })
    }
}

impl KillDesk {
    fn status(&self) -> Value {
        let killed = self.stops.standing().killed.clone();
        let flight = self.proxy.till().map(|till| in_flight(till.ledger()));
        json!({ "on": killed.is_some(), "stopped": killed.as_ref().map(shown), "in_flight": flight })
    }
}

impl Desk for FreezeDesk {
    fn prefix(&self) -> &'static str {
        "/freezes"
    }

    fn call<'a>(&'a self, call: &'a Call) -> Answer<'a> {
        Box::pin(async move {
            let stops = self.stops.clone();
            let changed = match call.route(self.prefix()) {
                ("GET", "") => {
                    call.need(Role::Read)?;
                    false
                }
                ("POST", "") => {
                    call.need(Role::Operate)?;
                    let (target, stopped) = (target(call)?, stopped(call, "frozen by a person")?);
                    blocking(move || stops.freeze(&target, stopped)).await?
                }
                ("POST", "/lift") => {
                    call.need(Role::Operate)?;
                    let (target, who) = (target(call)?, call.who.clone());
                    blocking(move || stops.unfreeze(&target, &who)).await?
                }
                (_, "" | "/lift") => return Err(ApiError::method()),
                _ => return Err(ApiError::not_found("there are /freezes and /freezes/lift")),
            };
            let standing = self.stops.standing();
            let list = |all: &std::collections::BTreeMap<Arc<str>, Stopped>| {
                all.iter().map(|(name, stopped)| (name.to_string(), shown(stopped))).collect::<Map<_, _>>()
            };
            Ok(json!({ "changed": changed, "agents": list(&standing.agents), "hosts": list(&standing.hosts) }))
        })
    }
}

/// Purchases with a signature that is out, or may be, and can still be used by a seller: nobody can call those back.
pub(super) fn in_flight(ledger: &Ledger) -> Value {
    let now = ledger.clock(clock::read()).now;
    ledger.read(|books| in_flight_of(books.open(), now))
}

/// The same of any purchases, in the order of their holds.
pub(crate) fn in_flight_of<'a>(all: impl Iterator<Item = &'a Purchase>, now: Timestamp) -> Value {
    let mut list: Vec<Value> = all
        .filter(|p| p.in_flight(now))
        .map(|p| {
            json!({
                "purchase": p.id.to_string(),
                "agent": p.agent.as_str(),
                "host": p.host,
                "usd": p.held.to_string(),
                "state": p.state.as_str(),
                "at": p.at.rfc3339_millis(),
            })
        })
        .collect();
    list.sort_by_key(|p| (p["at"].to_string(), p["purchase"].to_string()));
    Value::Array(list)
}

fn shown(stopped: &Stopped) -> Value {
    json!({ "by": &*stopped.by, "why": &*stopped.why, "at": stopped.at.rfc3339() })
}

fn stopped(call: &Call, default: &str) -> Result<Stopped, ApiError> {
    let why = call.text("why", WHY)?.unwrap_or(default).into();
    Ok(Stopped { by: call.who.clone(), why, at: clock::read().wall })
}

fn target(call: &Call) -> Result<Target, ApiError> {
    match (call.text("agent", 256)?, call.text("host", 256)?) {
        (Some(agent), None) => agent.parse::<AgentId>().map(Target::Agent).map_err(|e| ApiError::bad(e.to_string())),
        (None, Some(host)) => Host::parse(host).map(Target::Host).map_err(|_| ApiError::bad("`host` is neither a name nor an address")),
        _ => Err(ApiError::bad("write either `agent` or `host`")),
    }
}

/// The disk is not waited for on a runtime's thread.
async fn blocking(work: impl FnOnce() -> Result<bool, StopError> + Send + 'static) -> Result<bool, ApiError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|_| ApiError::unavailable("the process is ending"))?.map_err(|e| ApiError::unavailable(e.to_string()))
}
