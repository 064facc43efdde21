//! `egress`: connect at all, apart from payment (money.md §3, M3.7).

use super::*;

fn with(egress: &str) -> Policy {
    policy(&format!(
        "version: 1\negress: {egress}\nagents:\n  bot:\n    caps: {{ per_payment: 0.05, day: 1 }}\n    allow: [ {{ id: e, host: [api.example, \"*.api.example\"] }} ]\n  \
         other:\n    caps: {{ per_payment: 0.05, day: 1 }}\n    allow: [ {{ id: e, host: other.example }} ]\n"
    ))
}

#[test]
fn m3_7_deny_wins_and_a_closed_default_opens_only_what_is_named() {
    let open = with("{ default: allow, deny: [\"*.shady.example\", bad.example, 10.0.0.1] }");
    let shut = with("{ default: deny, allow: [\"*.news.example\", 10.0.0.1], deny: [ads.news.example, x.api.example] }");
    for (policy, agent, host, connects) in [
        (&open, "bot", "anything.example", true),
        (&open, "bot", "shady.example", true),
        (&open, "bot", "a.shady.example", false),
        (&open, "bot", "A.Shady.Example.", false),
        (&open, "stranger", "bad.example", false),
        (&open, "bot", "::ffff:10.0.0.1", false),
        (&shut, "bot", "anything.example", false),
        (&shut, "bot", "www.news.example", true),
        (&shut, "stranger", "www.news.example", true),
        (&shut, "bot", "ads.news.example", false),
        (&shut, "bot", "10.0.0.1", true),
        (&shut, "bot", "10.0.0.2", false),
        (&shut, "bot", "api.example", true),
        (&shut, "bot", "y.api.example", true),
        (&shut, "bot", "x.api.example", false),
        (&shut, "bot", "other.example", false),
        (&shut, "other", "other.example", true),
        (&shut, "stranger", "api.example", false),
    ] {
        assert_eq!(policy.connects(&agent.parse().unwrap(), &Host::parse(host).unwrap()), connects, "{agent} → {host}");
    }
    assert!(policy("version: 1\n").connects(&"bot".parse().unwrap(), &Host::parse("a.example").unwrap()), "absent: everything");
}

#[test]
fn what_may_not_be_connected_to_is_not_paid_and_explain_says_so() {
    let policy = with("{ deny: [x.api.example] }");
    let all = challenge(vec![offer(0, BASE_USDC, 10_000)]);
    let shown = |url: &str| Ask::url(url).with(&policy, &all, &Books::default(), |input, d| d.explain(&policy, input, &all)).to_string();
    assert!(shown("https://x.api.example/").contains("refuse: egress_denied"), "{}", shown("https://x.api.example/"));
    assert!(shown("https://y.api.example/").contains("pay 0.01 USD"));
}

#[test]
fn keys_without_effect_are_warned_about() {
    for (egress, expected) in [
        ("{ default: deny, allow: [a.example] }", &[][..]),
        ("{ allow: [a.example] }", &["egress.allow has no effect"]),
        ("{ default: deny }", &[]),
    ] {
        let policy = with(egress);
        let found: Vec<&str> = policy.warnings().iter().map(|w| w.message.as_str()).collect();
        assert_eq!(found.len(), expected.len(), "{egress}: {found:?}");
        assert!(found.iter().zip(expected).all(|(f, e)| f.starts_with(e)), "{egress}: {found:?}");
    }
}
