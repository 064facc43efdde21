//! A co-signer's selection step by step: what shrinks it, what a refusal tells, and the numbers beside each limit (S4).

use std::sync::Arc;

use super::cosigner::{ask, transfer};
use super::*;
use crate::policy::Ask;
use crate::policy::cosigner::Whose;

/// A budget for payees that nothing proves.
const UNPROVEN: &str = "unverified: { per_payment: 0.02, day: 0.5 }";

const NETWORK: &str = "networks: [\"eip155:8453\"]";

/// A co-signer's policy whose one agent has these lines.
fn own(top: &str, agent: &str) -> Policy {
    let text = format!("version: 1\n{top}\nagents:\n  bot:\n    caps: {{ per_payment: 0.05, day: 1, total: 100 }}\n{agent}\n");
    Policy::parse_for_cosigner(&[Source { name: "p.yaml".into(), text }], 1).unwrap_or_else(|e| panic!("{e}"))
}

fn bot() -> AgentId {
    "bot".parse().unwrap()
}

/// Reason and rule of what speaks first.
fn lead(refusal: &Refusal) -> (Reason, String) {
    let first = &refusal.violations[0];
    (first.reason, first.rule.as_ref().map(|r| r.to_string()).unwrap_or_default())
}

const TWO: &str = "    allow:\n      - { id: listed, host: a.example, networks: [\"eip155:8453\"], pay_to: [\"0x1111111111111111111111111111111111111111\"], methods: [GET] }\n      - { id: asked, host: [b.example, x.b.example], networks: [\"eip155:8453\"], probe: true }\n      - { id: keyed, host: [c.example, \"*.c.example\"], networks: [\"eip155:8453\"], offer_key: \"0x3333333333333333333333333333333333333333\" }";

#[test]
fn terms_that_nothing_selects_say_which_key_an_operator_has_to_change() {
    let payees = "pay_to: [\"0x1111111111111111111111111111111111111111\"]";
    let one = |networks: &str| own("", &format!("    allow: [ {{ id: e, host: a.example, {networks}, assets: USDC, {payees} }} ]"));
    let listed = one(NETWORK);
    let open = own("", &format!("    allow: [ {{ id: e, host: a.example, {payees} }} ]"));
    for (policy, transfer, reason, rule) in [
        (&listed, transfer(BASE_USDC, 10, 0x22), Reason::UnverifiedPayee, "allow.pay_to"),
        (&listed, transfer(POLYGON_USDC, 10, 0x11), Reason::NotAllowed, "allow"),
        (&listed, transfer(POLYGON_USDC, 10, 0x22), Reason::NotAllowed, "allow"),
        (&listed, transfer(SEPOLIA_USDC, 10, 0x11), Reason::NotAllowed, "allow"),
        (&open, transfer(SEPOLIA_USDC, 10, 0x11), Reason::TestnetNotListed, "allow.networks"),
        (&open, transfer(SEPOLIA_USDC, 10, 0x22), Reason::NotAllowed, "allow"),
    ] {
        let found = policy.select(&bot(), transfer).map(|_| ()).unwrap_err();
        let said = (found.reason, found.rule.map(|r| r.to_string()), found.amount);
        assert_eq!(said, (reason, Some(rule.to_owned()), Some(MicroUsd::new(10))), "{} {}", transfer.asset, transfer.payee.0);
    }
    assert!(listed.select(&bot(), transfer(BASE_USDC, 10, 0x11)).is_ok());
}

#[test]
fn a_deny_of_terms_alone_ends_the_selection_and_one_of_words_waits_for_them() {
    let policy = |deny: &str| {
        own(
            UNPROVEN,
            &format!("    allow: [ {{ id: e, host: [a.example, b.example], {NETWORK}, pay_to: any }} ]\n    deny: [ {{ id: d, {deny} }} ]"),
        )
    };
    let payee = "pay_to: \"0x2222222222222222222222222222222222222222\"";
    let found = policy(payee).select(&bot(), transfer(BASE_USDC, 10, 0x22)).map(|_| ()).unwrap_err();
    let said = (found.reason, found.rule.map(|r| r.to_string()), found.amount);
    assert_eq!(said, (Reason::Denied, Some("d".into()), Some(MicroUsd::new(10))));
    let (a, b, get, post) = (Host::parse("a.example").unwrap(), Host::parse("b.example").unwrap(), Method::GET, Method::POST);
    for (deny, host, method, denied) in [
        ("host: a.example", Some(&a), None, true),
        ("host: a.example", Some(&b), Some(&get), false),
        ("host: a.example", None, Some(&get), false),
        ("methods: [GET]", None, Some(&get), true),
        ("methods: [GET]", Some(&a), Some(&post), false),
        ("methods: [GET]", Some(&a), None, false),
        ("host: a.example, methods: [GET]", Some(&a), Some(&get), true),
        ("host: a.example, methods: [GET]", Some(&a), Some(&post), false),
        ("host: a.example, methods: [GET]", Some(&b), Some(&get), false),
        ("host: a.example, methods: [GET]", Some(&a), None, false),
        ("host: a.example, methods: [GET]", None, Some(&get), false),
    ] {
        let policy = policy(&format!("{deny}, {payee}"));
        let mut selection = policy.select(&bot(), transfer(BASE_USDC, 10, 0x22)).unwrap();
        selection.narrow(|rule| rule.opposes(host, method));
        let refused = selection.still();
        assert_eq!(refused.is_err(), denied, "{deny} {host:?} {method:?}");
        if let Err(refusal) = refused {
            assert_eq!(lead(&refusal), (Reason::Denied, "d".into()));
            assert_eq!(refusal.violations[0].amount, Some(MicroUsd::new(10)));
        }
    }
}

#[test]
fn what_is_wanted_is_the_entries_that_a_proof_would_help() {
    let policy = own("", TWO);
    let mut selection = policy.select(&bot(), transfer(BASE_USDC, 10, 0x11)).unwrap();
    assert_eq!((selection.price(), selection.transfer().payee), (MicroUsd::new(10), payee(0x11)));
    let wanted = selection.wanted();
    let ids: Vec<String> = wanted.iter().map(|w| w.id().to_string()).collect();
    assert_eq!(ids, ["asked", "keyed"], "a listed payee needs none");
    assert_eq!(wanted.iter().map(|w| (w.probe(), w.offer_keys().len())).collect::<Vec<_>>(), [(true, 0), (false, 1)]);
    let exact = |i: usize| wanted[i].exact_hosts().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!([exact(0), exact(1)], [vec!["b.example", "x.b.example"], vec!["c.example"]], "a pattern is asked nothing");
    let host = |h: &str| wanted[1].host(&Host::parse(h).unwrap());
    assert_eq!([host("c.example"), host("x.c.example"), host("b.example")], [true, true, false]);
    selection.prove(&RuleId("asked".into()));
    assert_eq!(selection.wanted().iter().map(|w| w.id().to_string()).collect::<Vec<_>>(), ["keyed"]);
    let any = own(UNPROVEN, &format!("    allow: [ {{ id: e, host: a.example, {NETWORK}, pay_to: any }} ]"));
    assert!(any.select(&bot(), transfer(BASE_USDC, 10, 0x11)).unwrap().wanted().is_empty(), "nothing could prove it");
}

#[test]
fn a_failed_proof_leads_the_refusal_and_an_entry_that_is_held_under_stands_alone() {
    let policy = own("", TWO);
    let select = || policy.select(&bot(), transfer(BASE_USDC, 10, 0x11)).unwrap();
    let mut failed = select();
    failed.only(&RuleId("keyed".into()));
    failed.unproven(&RuleId("keyed".into()), Reason::OfferInvalid);
    let refusal = failed.approve(&ask(), &Books::default()).unwrap_err();
    assert_eq!(lead(&refusal), (Reason::OfferInvalid, "keyed".into()));
    assert_eq!(refusal.violations[1].reason, Reason::UnverifiedPayee);
    assert_eq!(refusal.violations[1].rule, Some(RuleId("keyed".into())));
    let mut alone = select();
    alone.only(&RuleId("asked".into()));
    alone.prove(&RuleId("asked".into()));
    alone.prove(&RuleId("keyed".into()));
    assert_eq!(alone.approve(&ask(), &Books::default()).unwrap().entry().to_string(), "asked");
    let mut none = select();
    none.only(&RuleId("gone".into()));
    let refusal = none.still().unwrap_err();
    assert_eq!(lead(&refusal), (Reason::NotAllowed, "allow".into()));
    assert_eq!(refusal.violations[0].amount, Some(MicroUsd::new(10)));
}

#[test]
fn a_purchase_that_is_held_still_needs_an_entry_with_its_window() {
    let policy = own(UNPROVEN, "    allow: [ { id: e, host: a.example, networks: [\"eip155:8453\"], pay_to: any, lifetime: 90s } ]");
    let until = |s: u64| Transfer { valid_before: u64::try_from(NOW.secs()).unwrap() + s, ..transfer(BASE_USDC, 10, 0x11) };
    assert!(policy.select(&bot(), until(90)).unwrap().still().is_ok());
    let refusal = policy.select(&bot(), until(91)).unwrap().still().unwrap_err();
    assert_eq!(lead(&refusal), (Reason::WindowTooLong, "e".into()));
}

#[test]
fn a_payee_that_nothing_proves_needs_a_budget_for_it() {
    let entry = format!("    allow: [ {{ id: e, host: a.example, {NETWORK}, pay_to: any }} ]");
    let mut policy = own(&format!("caps: {{ wallet: {{ day: 5 }}, payee: {{ day: 5 }} }}\n{UNPROVEN}"), &entry);
    let of = |policy: &Policy| policy.select(&bot(), transfer(BASE_USDC, 10, 0x11)).unwrap().approve(&ask(), &Books::default());
    let approval = of(&policy).unwrap();
    assert!(approval.cosigned().unwrap().unverified);
    assert!(approval.checks().iter().any(|c| c.scope == Scope::Unverified));
    // No file loads without one; if it were lost, nothing is paid: other rings are no such budget.
    policy.cosigner.as_mut().unwrap().rings.retain(|ring| ring.whose != Whose::Unverified);
    assert_eq!(lead(&of(&policy).unwrap_err()), (Reason::UnverifiedPayee, "e".into()));
}

#[test]
fn a_limit_of_a_co_signer_tells_its_numbers() {
    let entry = "    rate: { per_minute: 2 }\n    hours: { days: mon-fri }\n    allow: [ { id: e, host: a.example, networks: [\"eip155:8453\"], pay_to: [\"0x1111111111111111111111111111111111111111\"], max: 0.04 } ]";
    let policy = own("", entry);
    let weekday = NOW.plus_secs(2 * 86_400);
    let at = |now: Timestamp, atomic: u64, books: &Books| {
        let transfer = Transfer { now, valid_before: u64::try_from(now.secs()).unwrap() + 60, ..transfer(BASE_USDC, atomic, 0x11) };
        policy.select(&bot(), transfer).unwrap().approve(&ask(), books)
    };
    let shut = at(NOW, 10, &Books::default()).unwrap_err();
    assert_eq!(lead(&shut), (Reason::OutsideHours, "hours".into()), "a Saturday");
    assert_eq!(shut.violations[0].resets_at.unwrap().rfc3339(), "2026-11-23T00:00:00Z");
    assert_eq!(at(weekday, 10, &Books::default()).unwrap().entry().to_string(), "e");
    let zero = at(weekday, 0, &Books::default()).unwrap_err();
    assert_eq!(lead(&zero), (Reason::ZeroAmount, "e".into()));
    let dear = at(weekday, 40_001, &Books::default()).unwrap_err();
    assert_eq!(lead(&dear), (Reason::EntryMax, "entry:e.max".into()));
    assert_eq!(dear.violations[0].limit, Some(MicroUsd::new(40_000)));
    let posted = |micro| Books { postings: vec![(Scope::Agent(bot()), weekday, micro)], ..Books::default() };
    let full = at(weekday, 10, &posted(999_991)).unwrap_err();
    let said = &full.violations[0];
    assert_eq!(lead(&full), (Reason::CapDay, "caps.day".into()));
    assert_eq!((said.limit, said.remaining), (Some(MicroUsd::new(1_000_000)), Some(MicroUsd::new(9))));
    assert_eq!(said.resets_at.unwrap().rfc3339(), "2026-11-24T00:00:00Z");
    let total = at(weekday, 10, &posted(100_000_000)).unwrap_err();
    let total = total.violations.iter().find(|v| v.reason == Reason::CapTotal).unwrap();
    assert_eq!((total.remaining, total.resets_at), (Some(MicroUsd::ZERO), None), "all time never resets");
    let made = |ago: &[i64]| Books {
        commitments: ago.iter().map(|ms| (Scope::Agent(bot()), weekday.plus_millis(-ms))).collect(),
        ..Books::default()
    };
    assert!(at(weekday, 10, &made(&[1])).is_ok());
    for (ago, free_in) in [(&[1_000, 50_000][..], 10_000), (&[1_000, 2_000, 50_000], 58_000), (&[1_000, 2_000, 3_000, 50_000], 58_000)] {
        let often = at(weekday, 10, &made(ago)).unwrap_err();
        assert_eq!(lead(&often), (Reason::RateLimited, "rate.per_minute".into()));
        assert_eq!(often.violations[0].resets_at, Some(weekday.plus_millis(free_in)), "{ago:?}");
    }
    // A re-signature is no new commitment (M2.5), and a grant lifts a rate too.
    let transfer = Transfer { now: weekday, valid_before: u64::try_from(weekday.secs()).unwrap() + 60, ..transfer(BASE_USDC, 10, 0x11) };
    let with = |ask: &Ask| policy.select(&bot(), transfer).unwrap().approve(ask, &made(&[1, 2, 3]));
    assert!(with(&ask()).is_err());
    let again = with(&Ask { held: Some(MicroUsd::new(10)), ..ask() }).unwrap();
    assert!(again.checks().iter().all(|c| matches!(c.limit, Limit::Spend(_))));
    assert!(with(&Ask { lifted: Some((vec![RuleId("rate.per_minute".into())], [1; 16])), ..ask() }).is_ok());
    let fresh = at(weekday, 10, &Books::default()).unwrap();
    assert!(fresh.checks().iter().any(|c| c.limit == Limit::Count(2)), "the ledger looks again");
    // With a rate of zero no passing of time helps.
    let never = own("", &entry.replace("per_minute: 2", "per_minute: 0"));
    let refusal = never.select(&bot(), transfer).unwrap().approve(&ask(), &made(&[1_000])).unwrap_err();
    assert_eq!((lead(&refusal).0, refusal.violations[0].resets_at), (Reason::RateLimited, None));
}

#[test]
fn a_price_that_is_stale_is_none_for_a_co_signer_too_m2_3() {
    let gold = "eip155:8453/erc20:0x00000000000000000000000000000000000000aa";
    let asset = format!(
        "assets: [ {{ id: \"{gold}\", symbol: GOLD, decimals: 6, eip712: {{ name: Gold, version: \"1\" }}, usd: \"1.10\", margin: 10, as_of: 2026-11-20T12:00:00Z, max_age: 1d }} ]"
    );
    let policy = own(
        &asset,
        &format!(
            "    allow: [ {{ id: e, host: a.example, assets: GOLD, {NETWORK}, pay_to: [\"0x1111111111111111111111111111111111111111\"] }} ]"
        ),
    );
    let at = |now| policy.select(&bot(), Transfer { now, ..transfer(gold, 10, 0x11) }).map(|s| s.price()).map_err(|v| v.reason);
    assert!(at(NOW).is_ok());
    assert_eq!(at(NOW.plus_millis(1)), Err(Reason::AssetNotPriced));
}

#[test]
fn who_may_lift_a_limit_is_asked_by_name_and_a_proxy_has_nobody() {
    let names = |p: &Policy| p.approvers().iter().map(|a| Arc::clone(&a.name)).collect::<Vec<_>>();
    let example =
        Policy::parse_for_cosigner(&[Source { name: "p".into(), text: include_str!("../../../policies/cosigner.yaml").into() }], 1);
    assert_eq!(names(&example.unwrap()), ["finance".into()]);
    assert_eq!(names(&allowing("[]")), Vec::<Arc<str>>::new());
}
