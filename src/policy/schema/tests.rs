#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::path::Path;

use super::*;
use crate::policy::yaml::{self, Node, Value as Yaml};
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
        ("approvers: { g: { webhook: { zzz: 1 } } }", "/properties/approvers/additionalProperties/properties/webhook".into()),
        ("approvers: { g: { second_factor: { zzz: 1 } } }", "/properties/approvers/additionalProperties/properties/second_factor".into()),
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
