//! Warnings and what is not one (M3.5).

use super::*;

fn warnings(allow: &str, deny: &str) -> Vec<String> {
    let text = format!("version: 1\nagents:\n  bot:\n    caps: {{ per_payment: 0.05, day: 1 }}\n    deny: {deny}\n    allow: {allow}\n");
    policy(&text).warnings().iter().map(|w| w.message.clone()).collect()
}

#[test]
fn m3_5_warnings() {
    for (allow, deny, expected) in [
        ("[ { id: e, host: a.example } ]", "[]", &[][..]),
        ("[]", "[]", &["agent `bot` has no allow entry"]),
        ("[ { id: e, host: a.example, pay_to: any } ]", "[]", &["allow.pay_to: any pays whoever"]),
        ("[ { id: e, host: a.example, plain_http: true } ]", "[]", &["allow.plain_http: anyone on the way"]),
        ("[ { id: e, host: 127.0.0.1, plain_http: true }, { id: f, host: localhost, plain_http: true } ]", "[]", &[]),
        ("[ { id: e, host: \"*.com\" } ]", "[]", &["allow.host: \"*.com\" takes every host of a whole top-level domain"]),
        ("[ { id: e, host: \"*\", any_host: true } ]", "[]", &[]),
        ("[ { id: e, host: a.example, max: 0.05 } ]", "[]", &[]),
        (
            "[ { id: e, host: a.example, max: 0.06, caps: { day: 2 } } ]",
            "[]",
            &["allow.max 0.06 has no effect", "caps.day 2.00 has no effect: the agent has 1.00"],
        ),
        ("[ { id: e, host: a.example, any_host: true } ]", "[]", &["allow.any_host has no effect"]),
        ("[ { id: e, host: a.example }, { id: f, host: a.example, max: 0.01 } ]", "[]", &["allow: `f` is never used: `e` (line 6)"]),
        ("[ { id: e, host: \"*.b.example\" }, { id: f, host: a.b.example, paths: /x } ]", "[]", &["allow: `f` is never used"]),
        (
            "[ { id: e, host: a.example, paths: /v2/** }, { id: f, host: a.example, paths: [/v2/x, /v2/y/**] } ]",
            "[]",
            &["allow: `f` is never used"],
        ),
        ("[ { id: e, host: a.example, paths: /v2/** }, { id: f, host: a.example, paths: [/v2] } ]", "[]", &[]),
        ("[ { id: e, host: a.example, methods: GET }, { id: f, host: a.example } ]", "[]", &[]),
        ("[ { id: e, host: a.example }, { id: f, host: a.example, ports: 8443 } ]", "[]", &[]),
        ("[ { id: e, host: a.example }, { id: f, host: a.example, networks: \"eip155:84532\" } ]", "[]", &[]),
        ("[ { id: e, host: a.example }, { id: f, host: a.example, flows: [upfront] } ]", "[]", &[]),
        ("[ { id: e, host: localhost }, { id: f, host: localhost, plain_http: true } ]", "[]", &[]),
        ("[ { id: e, host: a.example } ]", "[ { id: d, host: unrelated.example } ]", &[]),
        ("[ { id: e, host: a.example } ]", "[ { id: d, host: a.example, paths: /x } ]", &[]),
        ("[ { id: e, host: a.example } ]", "[ { id: d, host: a.example, ports: 443, methods: POST } ]", &[]),
        ("[ { id: e, host: a.example, max: 0.01 } ]", "[ { id: d, host: \"*\", networks: \"eip155:84532\" } ]", &[]),
    ] {
        let found = warnings(allow, deny);
        let same = found.len() == expected.len() && found.iter().zip(expected).all(|(f, e)| f.starts_with(e));
        assert!(same, "{allow} {deny}: {found:?}");
    }
}

#[test]
fn m3_7_a_member_that_widens_its_group_is_told_that_it_does_not() {
    let text = "version: 1\ngroups: { g: { caps: { per_payment: 0.2, day: 10 }, rate: { per_minute: 5 } } }\nagents:\n  bot: { group: g, caps: { day: 20 }, rate: { per_minute: 9 }, allow: [ { host: a.example } ] }\n";
    let found: Vec<String> = policy(text).warnings().iter().map(|w| format!("{}:{}: {}", w.line, w.column, w.message)).collect();
    assert_eq!(
        found,
        [
            "4:33: caps.day 20.00 has no effect: group `g` has 10.00, and the smaller counts",
            "4:59: rate.per_minute 9 has no effect: group `g` has 5, and the smaller counts",
        ]
    );
}
