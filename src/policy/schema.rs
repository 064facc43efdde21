//! The format of a proxy's policy as JSON Schema 2020-12, for editors. The loader stays the judge: it checks more than a schema can
//! say, such as caps in the wrong order. A test compares the keys with those that the readers know.

use serde_json::{Map, Value, json};

use super::Window;

/// One key of a mapping: its name, and what stands there.
type Key = (&'static str, Value);

/// The schema.
pub fn schema() -> Value {
    let mut root = closed(vec![
        ("version", json!({ "enum": [1, "1"] })),
        ("timezone", about("IANA name of the zone that periods and hours are in; UTC if absent", &text())),
        ("defaults", defaults()),
        ("context", about("Keys of the Tollpass-Context header that are read", &named(&one_of(&["decimal", "integer", "text", "flag"])))),
        ("groups", about("Limits that each member has for itself", &named(&closed(vec![("caps", caps(true)), ("rate", rate())])))),
        ("agents", named(&agent())),
        ("budgets", about("Money that agents share", &list(&budget()))),
        ("egress", closed(vec![("default", one_of(&["allow", "deny"])), ("allow", some(&text())), ("deny", some(&text()))])),
        ("assets", list(&asset())),
        ("risk", risk()),
        ("approvers", named(&approvers())),
    ]);
    root["$schema"] = "https://json-schema.org/draft/2020-12/schema".into();
    root["title"] = "Tollpass policy".into();
    root["required"] = json!(["version"]);
    root
}

/// A mapping with these keys and no others.
fn closed(keys: Vec<Key>) -> Value {
    let properties: Map<String, Value> = keys.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    json!({ "type": "object", "properties": properties, "additionalProperties": false })
}

/// The same, without which some keys cannot stand.
fn closed_with(required: &[&str], keys: Vec<Key>) -> Value {
    let mut mapping = closed(keys);
    mapping["required"] = json!(required);
    mapping
}

fn named(value: &Value) -> Value {
    json!({ "type": "object", "additionalProperties": value })
}

fn list(item: &Value) -> Value {
    json!({ "type": "array", "items": item })
}

/// One, or a list of at least one.
fn some(item: &Value) -> Value {
    json!({ "anyOf": [item, { "type": "array", "items": item, "minItems": 1 }] })
}

fn about(description: &str, value: &Value) -> Value {
    let mut value = value.clone();
    value["description"] = description.into();
    value
}

fn text() -> Value {
    json!({ "type": "string" })
}

fn flag() -> Value {
    json!({ "type": "boolean" })
}

fn one_of(words: &[&str]) -> Value {
    json!({ "enum": words })
}

/// US dollars (M3.1), quoted or not.
fn money() -> Value {
    json!({ "anyOf": [{ "type": "number", "minimum": 0 }, { "type": "string", "pattern": "^(0|[1-9][0-9]{0,9})(\\.[0-9]{1,6})?$" }] })
}

fn count() -> Value {
    json!({ "type": "integer", "minimum": 0 })
}

fn duration() -> Value {
    json!({ "type": "string", "pattern": "^[0-9]+(ms|s|m|h|d)$" })
}

/// `deny`, or the group that is asked.
fn deny_or_ask() -> Value {
    json!({ "anyOf": [one_of(&["deny"]), closed_with(&["ask"], vec![("ask", text())])] })
}

/// `off`, `on`, or a mapping.
fn switch(mapping: Value) -> Value {
    json!({ "anyOf": [one_of(&["on", "off"]), flag(), mapping] })
}

fn windows() -> Vec<&'static str> {
    Window::ALL.iter().map(|w| w.as_str()).collect()
}

fn defaults() -> Value {
    closed(vec![
        ("unmatched", about("What becomes of what no allow entry takes", &deny_or_ask())),
        ("pay_to", one_of(&["pinned", "any"])),
        ("flows", some(&flow())),
        ("transfer", some(&transfer())),
        ("lifetime", about("How long a signed payment is worth anything", &duration())),
        ("refusal_body", one_of(&["problem", "seller"])),
        ("hold", about("How long an agent waits for people", &duration())),
    ])
}

fn flow() -> Value {
    one_of(&["authorization", "upfront", "escrow"])
}

fn transfer() -> Value {
    one_of(&["eip3009"])
}

/// Those on one host and one payee stand in an agent or a group only.
fn caps(of_agents: bool) -> Value {
    let mut keys = vec![("per_payment", about("The most that one payment may cost, US dollars", &money()))];
    keys.extend(windows().into_iter().map(|window| (window, money())));
    keys.push(("rolling", about("The most within any so many hours, such as { 24h: 10 }", &named(&money()))));
    if of_agents {
        keys.extend([("per_host_day", money()), ("per_payee_day", money())]);
    }
    closed(keys)
}

fn rate() -> Value {
    about("Payments, not requests", &closed(vec![("per_minute", count()), ("per_hour", count())]))
}

fn agent() -> Value {
    let hours = vec![("days", some(&text())), ("from", text()), ("to", text()), ("holidays", some(&text()))];
    let sessions = vec![("required", flag()), ("max", money()), ("expires", duration()), ("open", count())];
    let rule = vec![("id", text()), ("when", text()), ("then", deny_or_ask())];
    closed(vec![
        ("group", text()),
        ("caps", caps(true)),
        ("rate", rate()),
        ("hours", closed(hours)),
        ("allow", list(&allow())),
        ("deny", list(&closed_with(&["id"], target()))),
        ("rules", list(&closed_with(&["id", "when", "then"], rule))),
        ("sessions", closed(sessions)),
    ])
}

/// What allow and deny entries both select by.
fn target() -> Vec<Key> {
    vec![
        ("id", text()),
        ("host", some(&text())),
        ("ports", some(&count())),
        ("paths", some(&text())),
        ("methods", some(&text())),
        ("networks", some(&text())),
        ("assets", some(&text())),
        ("pay_to", some(&text())),
    ]
}

fn allow() -> Value {
    let mut keys = target();
    let repeats = vec![("share", flag()), ("lost_hold", duration()), ("paid_redirects", count())];
    keys.extend([
        ("protocols", some(&one_of(&["x402v1", "x402v2"]))),
        ("schemes", some(&one_of(&["exact"]))),
        ("max", about("The most that one payment under this entry may cost, US dollars", &money())),
        ("caps", caps(false)),
        ("plain_http", flag()),
        ("any_host", flag()),
        ("allow_zero", flag()),
        ("flows", some(&flow())),
        ("transfer", some(&transfer())),
        ("lifetime", duration()),
        ("repeats", closed(repeats)),
    ]);
    closed_with(&["id"], keys)
}

fn budget() -> Value {
    closed_with(
        &["name", "limit", "window"],
        vec![
            ("name", text()),
            ("limit", money()),
            ("window", one_of(&windows())),
            ("agents", json!({ "anyOf": [one_of(&["all"]), list(&text())] })),
            ("per", one_of(&["customer"])),
            ("over", one_of(&["ask", "deny"])),
            ("hard", flag()),
        ],
    )
}

fn asset() -> Value {
    closed_with(
        &["id", "symbol", "decimals", "eip712"],
        vec![
            ("id", text()),
            ("symbol", text()),
            ("decimals", count()),
            ("eip712", closed_with(&["name", "version"], vec![("name", text()), ("version", text())])),
            ("usd", money()),
            ("margin", json!({ "type": ["integer", "string"] })),
            ("as_of", text()),
            ("max_age", duration()),
        ],
    )
}

fn risk() -> Value {
    let breaker = || switch(closed(vec![("count", count()), ("within", duration()), ("then", one_of(&["freeze_agent", "freeze_host"]))]));
    let velocity = closed(vec![("times", count()), ("least", count()), ("within", duration()), ("then", one_of(&["freeze_agent"]))]);
    closed(vec![
        ("payee_change", deny_or_ask()),
        ("paid_but_failed", breaker()),
        ("velocity", switch(velocity)),
        ("retry_loop", breaker()),
        ("deny_payees", some(&text())),
        ("hook", switch(closed_with(&["url", "secret"], vec![("url", text()), ("secret", text()), ("deadline", duration())]))),
    ])
}

fn approvers() -> Value {
    closed(vec![
        ("quorum", count()),
        ("members", some(&text())),
        ("timeout", duration()),
        ("may_exceed", some(&text())),
        ("webhook", closed_with(&["url", "secret"], vec![("url", text()), ("secret", text())])),
        (
            "second_factor",
            about("Above this amount, US dollars, a yes needs a code too", &closed_with(&["above"], vec![("above", money())])),
        ),
    ])
}

#[cfg(test)]
mod tests;
