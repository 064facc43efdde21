//! `risk`: thresholds, lists of payees, the hook.

use std::time::Duration;

use alloy_primitives::Address;

use crate::policy::{Breaker, Found, Policy, Risk, Source, Then, Velocity, Watching};

const REST: &str = "agents: { bot: { caps: { per_payment: 1, day: 5 }, allow: [] } }\n";

fn parse(risk: &str, lists: &[(&str, &str)]) -> Result<Policy, String> {
    let mut sources = vec![Source { name: "p/policy.yaml".into(), text: format!("version: 1\n{risk}\n{REST}") }];
    sources.extend(lists.iter().map(|(name, text)| Source { name: (*name).into(), text: (*text).into() }));
    Policy::parse(&sources, 1).map_err(|e| e.to_string())
}

fn risk(text: &str) -> Risk {
    parse(text, &[]).unwrap().risk().clone()
}

#[test]
fn thresholds_are_on_unless_they_are_turned_off() {
    let minutes = |n: u64| Duration::from_secs(60 * n);
    assert_eq!(risk("").watching, Watching::default());
    assert_eq!(risk("risk: { velocity: off }").watching, Watching { velocity: None, ..Watching::default() });
    let none = Watching { paid_but_failed: None, velocity: None, retry_loop: None };
    assert_eq!(risk("risk: { paid_but_failed: off, velocity: off, retry_loop: off }").watching, none);
    let own = risk(
        "risk: { paid_but_failed: { count: 5, then: freeze_agent }, velocity: { times: 3, least: 1, within: 1h }, retry_loop: { count: 7, within: 30s } }",
    );
    let watching = own.watching;
    assert_eq!(watching.paid_but_failed, Some(Breaker { count: 5, within: minutes(10), then: Then::FreezeAgent }));
    assert_eq!(watching.velocity, Some(Velocity { times: 3, least: 1, within: minutes(60), then: Then::FreezeAgent }));
    assert_eq!(watching.retry_loop, Some(Breaker { count: 7, within: Duration::from_secs(30), then: Then::FreezeAgent }));
}

#[test]
fn a_list_of_payees_is_part_of_the_policy_and_of_its_digest() {
    let (listed, free) = (Address::repeat_byte(0x11), Address::repeat_byte(0x12));
    let text = "# sanctions\n\n0x1111111111111111111111111111111111111111   # one\n";
    let policy = parse("risk: { deny_payees: [bad.payees] }", &[("p/bad.payees", text)]).unwrap();
    assert!(policy.risk().payees.contains(&listed) && !policy.risk().payees.contains(&free));
    let longer = format!("{text}0x1212121212121212121212121212121212121212\n");
    let after = parse("risk: { deny_payees: [bad.payees] }", &[("p/bad.payees", &longer)]).unwrap();
    assert!(after.risk().payees.contains(&free));
    assert_ne!(after.digest(), policy.digest());
}

#[test]
fn the_hook_is_found_in_the_environment_and_shows_nothing() {
    let hook = risk("risk: { hook: { url: \"https://canary.example/x\", secret: env:HOOK_SECRET } }").hook.unwrap();
    assert_eq!((hook.deadline, &hook.secret), (Duration::from_millis(500), &Found::Env("HOOK_SECRET".into())));
    assert!(!format!("{hook:?}").contains("canary"));
    let hook = risk("risk: { hook: { url: env:HOOK_URL, secret: file:hook.key, deadline: 2s } }").hook.unwrap();
    assert_eq!(hook.deadline, Duration::from_secs(2));
    assert_eq!(risk("risk: { hook: off }").hook, None);
}

#[test]
fn mistakes_have_a_place_and_say_what_to_write() {
    for (text, says) in [
        ("risk: { velocity: on }", "2:19: risk.velocity: \"on\": write off, or a mapping with the keys times, least, within, then"),
        ("risk: { velocity: { times: 0 } }", "0 would stop everything"),
        ("risk: { velocity: { within: 90s } }", "write whole minutes"),
        ("risk: { velocity: { then: freeze_host } }", "write freeze_agent"),
        ("risk: { paid_but_failed: { count: 1001 } }", "not a whole number up to 1000"),
        ("risk: { paid_but_failed: { then: stop } }", "write freeze_host or freeze_agent"),
        ("risk: { retry_loop: { within: 2d } }", "write 1s to 24h"),
        ("risk: { retry_loop: { cuont: 3 } }", "did you mean `count`?"),
        ("risk: { hook: { url: env:A } }", "`secret` is missing"),
        ("risk: { hook: { url: env:A, secret: hunter2 } }", "write `secret: env:HOOK_SECRET` or file:PATH"),
        ("risk: { hook: { url: \"ftp://x\", secret: env:A } }", "an http or https URL"),
        ("risk: { hook: { url: env:A, secret: env:B, deadline: 6s } }", "write 50ms to 5s"),
        ("risk: { hook: { url: env:A, secret: env:B, deadline: 49ms } }", "write 50ms to 5s"),
        ("risk: { deny_payees: [none.payees] }", "2:23: risk.deny_payees: \"none.payees\": there is no such file beside the policy"),
        ("risk: { deny_payees: [p/bad.payees] }", "without its folder"),
        ("risk: { deny_payees: [bad.payees] }", "p/bad.payees:2:1: \"0x12\" is no account"),
        ("risk: { deny_payee: [bad.payees] }", "did you mean `deny_payees`?"),
    ] {
        let found = parse(text, &[("p/bad.payees", "# x\n0x12\n")]).expect_err(text);
        assert!(found.contains(says) && !found.contains("hunter2"), "{text}\n{found}");
    }
}
