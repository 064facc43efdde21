//! `http://tollpass.invalid/session`: what an agent may ask of the proxy itself. Read-only, about the caller alone, from our own
//! words and numbers, and never from anywhere else (S17, S19). The name can have no address (RFC 6761).

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HOST, HeaderName, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use http::{Method, Request, Response, StatusCode};
use serde_json::{Value, json};

use super::Proxy;
use super::agent::Caller;
use super::body::AgentBody;
use super::connection::{Connection, Towards};
use super::error;
use super::till::Till;
use crate::payment::{MicroUsd, Reason, Timestamp};
use crate::policy::{Budget, Host, Policy, Scope, Span, View as _};

/// Where the proxy speaks for itself.
const NAME: &str = "tollpass.invalid";
const PAGE: &str = "/session";

/// Whether this is our own name.
pub(super) fn is_name(host: &Host) -> bool {
    matches!(host, Host::Name(name) if &**name == NAME)
}

fn is_text(host: &str) -> bool {
    host.strip_suffix('.').unwrap_or(host).eq_ignore_ascii_case(NAME)
}

/// Whether a request is for the proxy itself: one comparison for every other request.
pub(super) fn is_asked<B>(conn: &Connection, request: &Request<B>) -> bool {
    match conn.inside.as_ref().map(|inside| &inside.towards) {
        None => request.uri().host().is_some_and(is_text),
        Some(Towards::Fixed(target)) => is_name(&target.host),
        Some(Towards::Host { .. }) => match request.uri().host() {
            Some(host) => is_text(host),
            None => request.headers().get(HOST).and_then(|v| v.to_str().ok()).is_some_and(|v| is_text(v.split(':').next().unwrap_or(v))),
        },
    }
}

/// Answers. Whoever may not call learns nothing here either.
pub(super) fn answer(conn: &Connection, method: &Method, path: &str, caller: Result<Caller, Reason>) -> Response<AgentBody> {
    let caller = match caller {
        Ok(caller) => caller,
        Err(reason) => return error::failure(reason),
    };
    let mut response = if path != PAGE {
        page(StatusCode::NOT_FOUND, &json!({ "error": "not_found", "paths": [PAGE] }))
    } else if *method != Method::GET {
        let mut refused = page(StatusCode::METHOD_NOT_ALLOWED, &json!({ "error": "method_not_allowed" }));
        refused.headers_mut().insert(ALLOW, HeaderValue::from_static("GET"));
        refused
    } else {
        page(StatusCode::OK, &describe(&conn.proxy, &caller))
    };
    response.headers_mut().insert(HeaderName::from_static("referrer-policy"), HeaderValue::from_static("no-referrer"));
    caller.metrics.request(response.status().as_u16());
    response
}

fn page(status: StatusCode, body: &Value) -> Response<AgentBody> {
    let mut response = Response::new(AgentBody::Full(Some(Bytes::from(body.to_string()))));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

fn describe(proxy: &Proxy, caller: &Caller) -> Value {
    let (policy, till, now) = (proxy.policy.load_full(), proxy.till(), proxy.now());
    let till = till.as_deref();
    let closed = till.map(|till| {
        till.ledger().read(|books| (books.standing().killed.is_some(), books.standing().agents.contains_key(caller.agent.as_str())))
    });
    let budgets: Vec<Value> = policy.budgets(&caller.agent).iter().map(|budget| shown(budget, &policy, till, now)).collect();
    json!({
        "agent": caller.agent.as_str(),
        "session": session(proxy, caller, &policy, till, now),
        "budgets": budgets,
        "policy": policy.digest().as_ref(),
        // Without the ledger, which another process may hold (M1.9), nothing is known of what was spent.
        "pays": till.is_some_and(|till| till.ledger().available()),
        "killed": closed.map(|(killed, _)| killed),
        "frozen": closed.map(|(_, frozen)| frozen),
        "now": now.rfc3339(),
    })
}

fn session(proxy: &Proxy, caller: &Caller, policy: &Policy, till: Option<&Till>, now: Timestamp) -> Value {
    let rules = policy.sessions(&caller.agent);
    let Some(name) = &caller.session else { return Value::Null };
    let known = proxy.sessions.get(&caller.agent, name);
    let own = known.as_ref().and_then(|s| s.max);
    let max = own.into_iter().chain(rules.and_then(|r| r.max)).min();
    let scope = Scope::Session(caller.agent.clone(), name.clone());
    let spent = till.map(|till| till.ledger().read(|books| books.spent(&scope, Span::ALL)));
    let left = max.zip(spent).map(|(max, spent)| max.saturating_sub(spent).max(MicroUsd::ZERO));
    json!({
        "name": name.as_str(),
        "issued": known.as_ref().is_some_and(|s| s.is_issued()),
        "live": known.as_ref().map(|s| s.is_live(now)),
        "expires_at": known.as_ref().map(|s| s.expires_at.rfc3339()),
        "max_usd": text(max),
        "spent_usd": text(spent),
        "remaining_usd": text(left),
    })
}

fn shown(budget: &Budget, policy: &Policy, till: Option<&Till>, now: Timestamp) -> Value {
    let span = budget.period.span(now, policy.zone());
    let spent =
        till.map(|till| till.ledger().read(|books| (books.spent(&budget.scope, span), books.remaining(&budget.scope, span, budget.limit))));
    let ends = Some(span.until).filter(|until| *until < Span::ALL.until);
    json!({
        "name": budget.name,
        "period": budget.period.to_string(),
        "limit_usd": text(Some(budget.limit)),
        "spent_usd": text(spent.map(|(spent, _)| spent)),
        "remaining_usd": text(spent.map(|(_, left)| left)),
        "resets_at": ends.map(Timestamp::rfc3339),
    })
}

/// Decimal text: a number of JSON would pass through somebody's float.
fn text(amount: Option<MicroUsd>) -> Option<String> {
    amount.map(|m| m.to_string())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn only_our_own_name_is_ours() {
        for (host, ours) in [
            ("tollpass.invalid", true),
            ("TollPass.Invalid", true),
            ("tollpass.invalid.", true),
            ("a.tollpass.invalid", false),
            ("tollpass.invalid.example", false),
            ("tollpass.invalid..", false),
            ("tollpass", false),
            ("", false),
        ] {
            assert_eq!(is_text(host), ours, "{host}");
            assert_eq!(Host::parse(host).is_ok_and(|h| is_name(&h)), ours, "{host}");
        }
    }
}
