//! The desk of questions to people: `/v1/approvals` and `/v1/mandates`. GET decides nothing (S18).

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::admin::api::{Answer, ApiError, Call, Desk, Role};
use crate::admin::entrance::Tokens;
use crate::admin::totp::{CodeError, Tries};
use crate::clock;
use crate::payment::{AgentId, MicroUsd, Timestamp};
use crate::proxy::Proxy;
use crate::treasurer::approvals::{Approvals, Bounds, Mandate, Refused, Ticket, Word};

/// `GET /approvals`; `POST /approvals/ID/approve {"code"?}`, `/deny`, `/grant {"grant": base64}`,
/// `/remember {"max_usd", "total_usd", "until", "code"?}`.
pub(super) struct ApprovalsDesk(pub(super) Arc<People>);

/// What the API and the page both need to let somebody decide.
pub(super) struct People {
    proxy: Arc<Proxy>,
    /// Who may; hot.
    pub(super) operators: Tokens,
    tries: Tries,
}

impl People {
    pub(super) fn new(proxy: Arc<Proxy>, operators: Tokens) -> Self {
        Self { proxy, operators, tries: Tries::default() }
    }

    /// The approvals of the till, and ledger time.
    pub(super) fn open(&self) -> Result<(Arc<Approvals>, Timestamp), ApiError> {
        open(&self.proxy)
    }

    /// The time step of `who`'s code, if there is one.
    pub(super) fn step(&self, who: &Arc<str>, code: Option<&str>) -> Result<Option<u64>, ApiError> {
        let Some(code) = code else { return Ok(None) };
        let totp = self.operators.as_ref().and_then(|tokens| tokens.load().totp(who));
        let Some(totp) = totp else {
            let message = format!("`{who}` has no second factor: `tollpass operator {who} --role approve --totp` makes one");
            return Err(ApiError { status: 403, code: "no_second_factor", message });
        };
        let step = self.tries.check(&totp, who, code, clock::read().wall.secs());
        step.map(Some).map_err(|error| {
            tracing::warn!(who = &**who, %error, "a code of a second factor was not taken");
            let (status, code) = match error {
                CodeError::Wrong => (403, "code_wrong"),
                CodeError::Locked => (429, "code_locked"),
            };
            ApiError { status, code, message: error.to_string() }
        })
    }

    /// The wallet that pays for `agent`: what a grant names beside the ticket.
    fn wallet(&self, agent: &str) -> Option<String> {
        let agent = agent.parse::<AgentId>().ok()?;
        Some(format!("{:#x}", self.proxy.till()?.signer().account(&agent).ok()?.0))
    }
}

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
            let (approvals, now) = self.0.open()?;
            let shown = |t: &Ticket| {
                let mut shown = ticket(t, now);
                shown["wallet"] = self.0.wallet(&t.facts.agent).into();
                shown
            };
            let mut parts = path.trim_start_matches('/').split('/');
            match (method, parts.next().unwrap_or_default(), parts.next(), parts.next()) {
                ("GET", "", None, None) => {
                    call.need(Role::Read)?;
                    let rows: Vec<Value> = approvals.tickets().iter().map(shown).collect();
                    Ok(json!({ "approvals": rows }))
                }
                ("POST", id, Some(verdict @ ("approve" | "deny")), None) => {
                    call.need(Role::Approve)?;
                    let step = self.0.step(&call.who, call.text("code", 16)?)?;
                    let word = Word { who: &call.who, yes: verdict == "approve", step, link: None };
                    let voted = approvals.vote(id, word, now).map_err(refused)?;
                    tracing::info!(ticket = id, who = &*call.who, verdict, "a question was answered");
                    Ok(shown(&voted))
                }
                ("POST", id, Some("grant"), None) => {
                    call.need(Role::Approve)?;
                    let text = call.text("grant", 8192)?.ok_or_else(|| ApiError::bad("`grant` is missing"))?;
                    let grant = STANDARD.decode(text).map_err(|_| ApiError::bad("`grant` is not base64"))?;
                    let kept = approvals.attach(id, &call.who, grant, now).map_err(refused)?;
                    tracing::info!(ticket = id, who = &*call.who, "a grant for the co-signer was brought");
                    Ok(shown(&kept))
                }
                ("POST", id, Some("remember"), None) => {
                    // Who answers a question may not thereby answer all that come.
                    call.need(Role::Raise)?;
                    let bounds = bounds(call)?;
                    // The code of the yes may come again with the mandate that is made from it.
                    let step = self.0.step(&call.who, call.text("code", 16)?)?;
                    let made = approvals.remember(id, &call.who, step, bounds, now).map_err(refused)?;
                    tracing::info!(mandate = &*made.id, who = &*call.who, "a mandate was given");
                    Ok(mandate(&made))
                }
                ("GET" | "POST", ..) => {
                    Err(ApiError::not_found("there is /approvals, and below it /ID/approve, /ID/deny, /ID/grant and /ID/remember"))
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

pub(super) fn refused(error: Refused) -> ApiError {
    match error {
        Refused::CodeNeeded(_) => ApiError { status: 403, code: "code_needed", message: error.to_string() },
        Refused::CodeUsed => ApiError { status: 403, code: "code_used", message: error.to_string() },
        Refused::Link => ApiError::conflict("link_used", error.to_string()),
        Refused::Unknown => ApiError::not_found(error.to_string()),
        Refused::Ended(_) => ApiError::conflict("ended", error.to_string()),
        Refused::NotAsked(_) => ApiError { status: 403, code: "not_asked", message: error.to_string() },
        Refused::Bounds(_) => ApiError::bad(error.to_string()),
        Refused::Journal(_) => ApiError::unavailable(error.to_string()),
    }
}

pub(super) fn usd(micro: i64) -> String {
    MicroUsd::new(micro).to_string()
}

/// A ticket for people and programs: our own words and numbers (S19).
pub(super) fn ticket(t: &Ticket, now: Timestamp) -> Value {
    let facts = &t.facts;
    let asks: Vec<Value> = facts.asks.iter().map(|a| json!({ "any_of": a.any_of, "rule": a.rule, "reason": a.reason })).collect();
    let groups: Vec<Value> = t
        .groups
        .iter()
        .map(|g| {
            json!({
                "name": g.name, "quorum": g.quorum, "members": g.members, "second_factor_above_usd": g.second_factor.map(usd),
            })
        })
        .collect();
    let votes: Vec<Value> = t
        .votes
        .iter()
        .map(|v| {
            json!({
                "who": v.who, "yes": v.yes, "at": v.at.rfc3339(), "code": v.step.is_some(),
            })
        })
        .collect();
    let grants: Vec<&str> = t.grants.iter().map(|given| &*given.who).collect();
    json!({
        "id": t.id, "state": t.standing(now), "agent": facts.agent, "session": facts.session, "host": facts.host, "method": facts.method,
        "usd": usd(facts.micro_usd), "asset": facts.asset, "network": facts.network, "payee": facts.payee, "entry": facts.entry,
        "amount": facts.amount, "token": facts.token, "purchase": alloy_primitives::hex::encode(t.purchase.bytes()),
        "asks": asks, "groups": groups, "votes": votes, "grants": grants, "opened_at": t.opened.rfc3339(), "expires_at": t.expires.rfc3339(),
    })
}

fn mandate(m: &Mandate) -> Value {
    json!({
        "id": m.id, "by": m.by, "agent": m.agent, "host": m.host, "payee": m.payee, "groups": m.groups, "rules": m.rules,
        "max_usd": usd(m.max), "total_usd": usd(m.total), "used_usd": usd(m.used), "until": m.until.rfc3339(),
    })
}
