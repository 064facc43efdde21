//! The desk of questions to people: `/v1/approvals` and `/v1/mandates`. GET decides nothing (S18).

use std::sync::Arc;

use serde_json::{Value, json};

use crate::admin::api::{Answer, ApiError, Call, Desk, Role};
use crate::payment::{MicroUsd, Timestamp};
use crate::proxy::Proxy;
use crate::treasurer::approvals::{Approvals, Bounds, Mandate, Refused, Ticket};

/// `GET /approvals`; `POST /approvals/ID/approve`, `/deny`, `/remember {"max_usd", "total_usd", "until"}`.
pub(super) struct ApprovalsDesk(pub(super) Arc<Proxy>);

/// `GET /mandates`; `POST /mandates/ID/revoke`.
pub(super) struct MandatesDesk(pub(super) Arc<Proxy>);

/// The approvals of the till, and ledger time.
fn open(proxy: &Proxy) -> Result<(Arc<Approvals>, Timestamp), ApiError> {
    let till = proxy.till().ok_or_else(|| ApiError::unavailable("another process has the ledger: ask it"))?;
    Ok((Arc::clone(till.treasurer().approvals()), till.treasurer().now().now))
}

impl Desk for ApprovalsDesk {
    fn prefix(&self) -> &'static str {
        "/approvals"
    }

    fn call<'a>(&'a self, call: &'a Call) -> Answer<'a> {
        Box::pin(async move {
            let (method, path) = call.route(self.prefix());
            let (approvals, now) = open(&self.0)?;
            let mut parts = path.trim_start_matches('/').split('/');
            match (method, parts.next().unwrap_or_default(), parts.next(), parts.next()) {
                ("GET", "", None, None) => {
                    call.need(Role::Read)?;
                    let rows: Vec<Value> = approvals.tickets().iter().map(|t| ticket(t, now)).collect();
                    Ok(json!({ "approvals": rows }))
                }
                ("POST", id, Some(verdict @ ("approve" | "deny")), None) => {
                    call.need(Role::Approve)?;
                    let voted = approvals.vote(id, &call.who, verdict == "approve", now).map_err(refused)?;
                    tracing::info!(ticket = id, who = &*call.who, verdict, "a question was answered");
                    Ok(ticket(&voted, now))
                }
                ("POST", id, Some("remember"), None) => {
                    // Who answers a question may not thereby answer all that come.
                    call.need(Role::Raise)?;
                    let bounds = bounds(call)?;
                    let made = approvals.remember(id, &call.who, bounds, now).map_err(refused)?;
                    tracing::info!(mandate = &*made.id, who = &*call.who, "a mandate was given");
                    Ok(mandate(&made))
                }
                ("GET" | "POST", ..) => {
                    Err(ApiError::not_found("there is /approvals, and below it /ID/approve, /ID/deny and /ID/remember"))
                }
                _ => Err(ApiError::method()),
            }
        })
    }
}

impl Desk for MandatesDesk {
    fn prefix(&self) -> &'static str {
        "/mandates"
    }

    fn call<'a>(&'a self, call: &'a Call) -> Answer<'a> {
        Box::pin(async move {
            let (method, path) = call.route(self.prefix());
            let (approvals, _) = open(&self.0)?;
            match (method, path.strip_suffix("/revoke").and_then(|p| p.strip_prefix('/'))) {
                ("GET", None) if path.is_empty() => {
                    call.need(Role::Read)?;
                    Ok(json!({ "mandates": approvals.mandates().iter().map(mandate).collect::<Vec<_>>() }))
                }
                ("POST", Some(id)) => {
                    call.need(Role::Operate)?;
                    approvals.revoke(id).map_err(refused)?;
                    Ok(json!({ "revoked": id }))
                }
                ("GET" | "POST", _) => Err(ApiError::not_found("there is /mandates, and below it /ID/revoke")),
                _ => Err(ApiError::method()),
            }
        })
    }
}

fn bounds(call: &Call) -> Result<Bounds, ApiError> {
    let text = |name: &str| call.text(name, 40)?.ok_or_else(|| ApiError::bad(format!("`{name}` is missing")));
    let money = |name: &str| {
        let amount = MicroUsd::parse(text(name)?).map_err(|e| ApiError::bad(format!("`{name}` is {e}")))?;
        Ok::<_, ApiError>(amount.micro())
    };
    let until = text("until")?.parse::<jiff::Timestamp>();
    let until = until.map_err(|_| ApiError::bad("`until` is not a time: write it as 2026-12-31T00:00:00Z"))?;
    Ok(Bounds { max: money("max_usd")?, total: money("total_usd")?, until: Timestamp::from_millis(until.as_millisecond()) })
}

fn refused(error: Refused) -> ApiError {
    match error {
        Refused::Unknown => ApiError::not_found(error.to_string()),
        Refused::Ended(_) => ApiError::conflict("ended", error.to_string()),
        Refused::NotAsked(_) => ApiError { status: 403, code: "not_asked", message: error.to_string() },
        Refused::Bounds(_) => ApiError::bad(error.to_string()),
        Refused::Journal(_) => ApiError::unavailable(error.to_string()),
    }
}

fn usd(micro: i64) -> String {
    MicroUsd::new(micro).to_string()
}

/// A ticket for people and programs: our own words and numbers (S19).
fn ticket(t: &Ticket, now: Timestamp) -> Value {
    let facts = &t.facts;
    let asks: Vec<Value> = facts.asks.iter().map(|a| json!({ "any_of": a.any_of, "rule": a.rule, "reason": a.reason })).collect();
    let groups: Vec<Value> = t.groups.iter().map(|g| json!({ "name": g.name, "quorum": g.quorum, "members": g.members })).collect();
    let votes: Vec<Value> = t.votes.iter().map(|v| json!({ "who": v.who, "yes": v.yes, "at": v.at.rfc3339() })).collect();
    json!({
        "id": t.id, "state": t.standing(now), "agent": facts.agent, "session": facts.session, "host": facts.host, "method": facts.method,
        "usd": usd(facts.micro_usd), "asset": facts.asset, "network": facts.network, "payee": facts.payee, "entry": facts.entry,
        "asks": asks, "groups": groups, "votes": votes, "opened_at": t.opened.rfc3339(), "expires_at": t.expires.rfc3339(),
    })
}

fn mandate(m: &Mandate) -> Value {
    json!({
        "id": m.id, "by": m.by, "agent": m.agent, "host": m.host, "payee": m.payee, "groups": m.groups, "rules": m.rules,
        "max_usd": usd(m.max), "total_usd": usd(m.total), "used_usd": usd(m.used), "until": m.until.rfc3339(),
    })
}
