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
    closed(vec![("quorum", count()), ("members", some(&text())), ("timeout", duration()), ("may_exceed", some(&text()))])
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::super::yaml::{self, Node, Value as Yaml};
    use super::*;
    use crate::policy::{Policy, Source};

    /// The keys that the reader of this policy's `zzz` names when it refuses it.
    fn known_to_the_reader(text: &str) -> BTreeSet<String> {
        let source = Source { name: "p".into(), text: text.into() };
        let said = Policy::parse(&[source], 1).unwrap_err().to_string();
        let (_, rest) = said.split_once("unknown key `zzz`; known here: ").unwrap_or_else(|| panic!("{text}: {said}"));
        rest.lines().next().unwrap().split(" (did").next().unwrap().split(", ").map(str::to_owned).collect()
    }

    #[test]
    fn the_schema_has_the_keys_that_the_readers_know_and_no_others() {
        let agent = "/properties/agents/additionalProperties/properties";
        for (policy, pointer) in [
            ("zzz: 1", String::new()),
            ("defaults: { zzz: 1 }", "/properties/defaults".into()),
            ("defaults: { unmatched: { zzz: 1 } }", "/properties/defaults/properties/unmatched/anyOf/1".into()),
            ("groups: { g: { zzz: 1 } }", "/properties/groups/additionalProperties".into()),
            ("groups: { g: { caps: { zzz: 1 } } }", "/properties/groups/additionalProperties/properties/caps".into()),
            ("agents: { a: { zzz: 1 } }", "/properties/agents/additionalProperties".into()),
            ("agents: { a: { caps: { zzz: 1 } } }", format!("{agent}/caps")),
            ("agents: { a: { rate: { zzz: 1 } } }", format!("{agent}/rate")),
            ("agents: { a: { hours: { zzz: 1 } } }", format!("{agent}/hours")),
            ("agents: { a: { sessions: { zzz: 1 } } }", format!("{agent}/sessions")),
            ("agents: { a: { rules: [ { zzz: 1 } ] } }", format!("{agent}/rules/items")),
            ("agents: { a: { deny: [ { zzz: 1 } ] } }", format!("{agent}/deny/items")),
            ("agents: { a: { allow: [ { zzz: 1 } ] } }", format!("{agent}/allow/items")),
            ("agents: { a: { allow: [ { id: e, caps: { zzz: 1 } } ] } }", format!("{agent}/allow/items/properties/caps")),
            ("agents: { a: { allow: [ { id: e, repeats: { zzz: 1 } } ] } }", format!("{agent}/allow/items/properties/repeats")),
            ("budgets: [ { zzz: 1 } ]", "/properties/budgets/items".into()),
            ("egress: { zzz: 1 }", "/properties/egress".into()),
            ("assets: [ { zzz: 1 } ]", "/properties/assets/items".into()),
            ("assets: [ { eip712: { zzz: 1 } } ]", "/properties/assets/items/properties/eip712".into()),
            ("risk: { zzz: 1 }", "/properties/risk".into()),
            ("risk: { paid_but_failed: { zzz: 1 } }", "/properties/risk/properties/paid_but_failed/anyOf/2".into()),
            ("risk: { velocity: { zzz: 1 } }", "/properties/risk/properties/velocity/anyOf/2".into()),
            ("risk: { retry_loop: { zzz: 1 } }", "/properties/risk/properties/retry_loop/anyOf/2".into()),
            ("risk: { hook: { zzz: 1 } }", "/properties/risk/properties/hook/anyOf/2".into()),
            ("approvers: { g: { zzz: 1 } }", "/properties/approvers/additionalProperties".into()),
        ] {
            let schema = schema();
            let place = schema.pointer(&format!("{pointer}/properties")).unwrap_or_else(|| panic!("{pointer}"));
            let keys: BTreeSet<String> = place.as_object().unwrap().keys().cloned().collect();
            assert_eq!(keys, known_to_the_reader(&format!("version: 1\n{policy}\n")), "{policy}");
        }
    }

    /// Whether `node` fits, by the words of JSON Schema that the schema uses; patterns apart.
    fn fits(node: &Node, schema: &Value) -> bool {
        if let Some(all) = schema["anyOf"].as_array() {
            return all.iter().any(|s| fits(node, s));
        }
        if let Some(words) = schema["enum"].as_array() {
            return matches!(&node.value, Yaml::Text(t) if words.iter().any(|w| w.as_str() == Some(t)));
        }
        let kinds = schema["type"].as_array().cloned().unwrap_or_else(|| vec![schema["type"].clone()]);
        match &node.value {
            Yaml::Null => false,
            Yaml::Text(t) => kinds.iter().any(|kind| match kind.as_str().unwrap() {
                "string" => true,
                "boolean" => t == "true" || t == "false",
                "integer" => t.parse::<u64>().is_ok(),
                "number" => crate::payment::MicroUsd::parse(t).is_ok(),
                _ => false,
            }),
            Yaml::List(items) => kinds == ["array"] && items.iter().all(|item| fits(item, &schema["items"])),
            Yaml::Map(pairs) => {
                let has = |key: &Value| pairs.iter().any(|p| Some(p.key.as_str()) == key.as_str());
                let of = |key: &str| schema["properties"].get(key).unwrap_or(&schema["additionalProperties"]).clone();
                kinds == ["object"]
                    && schema["required"].as_array().is_none_or(|keys| keys.iter().all(has))
                    && pairs.iter().all(|p| of(&p.key) != json!(false) && fits(&p.value, &of(&p.key)))
            }
        }
    }

    #[test]
    fn every_example_fits_the_schema_and_mistakes_do_not() {
        let tree = |text: &str| yaml::parse("p", text, &mut Vec::new()).unwrap();
        let mut count = 0;
        for file in std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("policies")).unwrap() {
            let path = file.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            if name.ends_with(".yaml") && !name.ends_with(".test.yaml") && name != "cosigner.yaml" {
                assert!(fits(&tree(&std::fs::read_to_string(&path).unwrap()), &schema()), "{name}");
                count += 1;
            }
        }
        assert!(count >= 12, "{count} examples");
        for wrong in [
            "agents: {}",
            "version: 2",
            "version: 1\nagent: {}",
            "version: 1\nagents: { a: { caps: { day: five } , allow: yes } }",
            "version: 1\nbudgets: [ { name: x, limit: 1, window: year } ]",
            "version: 1\nagents: { a: { rules: [ { id: r, when: 'true', then: allow } ] } }",
        ] {
            assert!(!fits(&tree(wrong), &schema()), "{wrong}");
        }
    }
}
