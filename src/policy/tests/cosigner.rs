//! A co-signer's policy: what fields select, what words take away, which limit speaks (S4).

use std::sync::Arc;

use alloy_primitives::Address;
use proptest::prelude::*;

use super::*;
use crate::policy::Ask;

fn own(text: &str) -> Policy {
    Policy::parse_for_cosigner(&[Source { name: "p.yaml".into(), text: text.into() }], 1).unwrap_or_else(|e| panic!("{e}"))
}

fn example() -> Policy {
    own(include_str!("../../../policies/cosigner.yaml"))
}

pub(super) fn transfer(asset: &str, atomic: u64, to: u8) -> Transfer {
    Transfer {
        asset: asset.parse().unwrap(),
        amount: U256::from(atomic),
        payer: Payer(Address::repeat_byte(0xee)),
        payee: payee(to),
        valid_before: u64::try_from(NOW.secs()).unwrap() + 60,
        now: NOW,
    }
}

pub(super) fn ask() -> Ask {
    Ask { identity: "sidecar".into(), held: None, lifted: None }
}

/// Entry or reason of the decision over words (host, method), with proofs for the named entries.
fn decide(policy: &Policy, transfer: Transfer, words: (&str, &str), proven: &[&str], ask: &Ask, books: &Books) -> String {
    let host = Host::parse(words.0).ok();
    let method = words.1.parse::<Method>().ok().filter(|_| !words.1.is_empty());
    let mut selection = match policy.select(&"research-bot".parse().unwrap(), transfer) {
        Ok(selection) => selection,
        Err(violation) => return violation.reason.to_string(),
    };
    selection.narrow(|rule| rule.opposes(host.as_ref(), method.as_ref()));
    proven.iter().for_each(|id| selection.prove(&RuleId((*id).into())));
    match selection.approve(ask, books) {
        Ok(approval) => approval.entry().to_string(),
        Err(refusal) => refusal.reason().to_string(),
    }
}

#[test]
fn the_example_of_a_co_signer_does_what_it_says() {
    let policy = example();
    assert!(policy.warnings().is_empty(), "{:?}", policy.warnings());
    let late = Transfer { valid_before: u64::try_from(NOW.secs()).unwrap() + 121, ..transfer(BASE_USDC, 30_000, 0x22) };
    let longest = Transfer { valid_before: u64::try_from(NOW.secs()).unwrap() + 600, ..transfer(BASE_USDC, 10_000, 0x11) };
    let longer = Transfer { valid_before: u64::try_from(NOW.secs()).unwrap() + 601, ..transfer(BASE_USDC, 10_000, 0x11) };
    for (what, transfer, words, proven, expected) in [
        ("a listed payee", transfer(BASE_USDC, 150_000, 0x11), ("api.bureau.example", "GET"), &[][..], "bureau"),
        ("words are not needed", transfer(BASE_USDC, 150_000, 0x11), ("", ""), &[], "bureau"),
        ("another host than the entry's", transfer(BASE_USDC, 150_000, 0x11), ("evil.example", "GET"), &[], "cap_unverified"),
        ("above max, and too dear for the rest", transfer(BASE_USDC, 150_001, 0x11), ("", ""), &[], "entry_max"),
        ("nothing proves it", transfer(BASE_USDC, 30_000, 0x22), ("papers.example", "GET"), &[], "unverified_payee"),
        ("a signed offer", transfer(BASE_USDC, 30_000, 0x22), ("papers.example", "GET"), &["papers"], "papers"),
        ("a probe", transfer(BASE_USDC, 30_000, 0x22), ("maps.example", "GET"), &["maps"], "maps"),
        ("a probe, too long", late, ("maps.example", "GET"), &["maps"], "window_too_long"),
        ("little to somebody", transfer(BASE_USDC, 20_000, 0x22), ("x.example", "GET"), &[], "rest"),
        ("more to somebody", transfer(BASE_USDC, 20_001, 0x22), ("x.example", "GET"), &[], "cap_unverified"),
        ("a payee that is denied", transfer(BASE_USDC, 1, 0x66), ("", ""), &[], "denied"),
        ("a chain without an entry", transfer(POLYGON_USDC, 1, 0x11), ("", ""), &[], "not_allowed"),
        (
            "a token we do not know",
            transfer("eip155:8453/erc20:0x1111111111111111111111111111111111111111", 1, 0x11),
            ("", ""),
            &[],
            "unknown_asset",
        ),
        ("to the wallet itself", transfer(BASE_USDC, 1, 0xee), ("", ""), &[], "invalid_payee"),
        ("nothing", transfer(BASE_USDC, 0, 0x11), ("", ""), &[], "zero_amount"),
        ("ten minutes", longest, ("", ""), &[], "bureau"),
        ("more than ten minutes", longer, ("", ""), &[], "window_too_long"),
    ] {
        let found = decide(&policy, transfer, words, proven, &ask(), &Books::default());
        assert_eq!(found, expected, "{what}");
    }
}

#[test]
fn caps_of_payee_wallet_identity_and_what_is_unproven_speak_with_their_own_codes_s4() {
    let policy = example();
    let payer = Payer(Address::repeat_byte(0xee));
    for (scope, spent, to, expected) in [
        (Scope::Payee(payee(0x11)), 4_990_000, 0x11, "bureau"),
        (Scope::Payee(payee(0x11)), 4_990_001, 0x11, "cap_payee"),
        (Scope::Payee(payee(0x22)), 4_990_001, 0x11, "bureau"),
        (Scope::Wallet(payer), 19_990_001, 0x11, "cap_wallet"),
        (Scope::Identity("sidecar".into()), 4_990_001, 0x11, "cap_identity"),
        (Scope::Identity("other".into()), 4_990_001, 0x11, "bureau"),
        (Scope::Unverified, 490_001, 0x11, "bureau"),
        (Scope::Unverified, 490_000, 0x33, "rest"),
        (Scope::Unverified, 490_001, 0x33, "cap_unverified"),
    ] {
        let books = Books { postings: vec![(scope.clone(), NOW, spent)], ..Books::default() };
        let words = (if to == 0x11 { "api.bureau.example" } else { "x.example" }, "GET");
        assert_eq!(decide(&policy, transfer(BASE_USDC, 10_000, to), words, &[], &ask(), &books), expected, "{scope:?} {spent}");
    }
}

#[test]
fn without_an_unverified_budget_a_payee_nothing_proves_is_never_paid() {
    let policy = own(
        "version: 1\nagents:\n  research-bot:\n    caps: { per_payment: 1, day: 5 }\n    allow: [ { id: a, host: a.example, networks: [\"eip155:8453\"], probe: true } ]\n",
    );
    for atomic in [1, 10, 999_999] {
        let found = decide(&policy, transfer(BASE_USDC, atomic, 0x22), ("a.example", "GET"), &[], &ask(), &Books::default());
        assert_eq!(found, "unverified_payee");
    }
}

#[test]
fn a_grant_lifts_the_limits_it_names_and_no_other() {
    let policy = example();
    let dear = transfer(BASE_USDC, 190_000, 0x11);
    let bureau = ("api.bureau.example", "GET");
    let lifted = |rules: &[&str]| Ask { lifted: Some((rules.iter().map(|r| RuleId((*r).into())).collect(), [1; 16])), ..ask() };
    let full = |scope: Scope| Books { postings: vec![(scope, NOW, 20_000_000)], ..Books::default() };
    let none = Books::default();
    assert_eq!(decide(&policy, dear, bureau, &[], &ask(), &none), "entry_max");
    assert_eq!(decide(&policy, dear, bureau, &[], &lifted(&["entry:bureau.max"]), &none), "bureau");
    assert_eq!(decide(&policy, dear, bureau, &[], &lifted(&["caps.per_payment"]), &none), "entry_max");
    let day = full(Scope::Agent("research-bot".parse().unwrap()));
    assert_eq!(decide(&policy, dear, bureau, &[], &lifted(&["entry:bureau.max"]), &day), "cap_day");
    assert_eq!(decide(&policy, dear, bureau, &[], &lifted(&["entry:bureau.max", "caps.day"]), &day), "bureau");
    let denied = transfer(BASE_USDC, 190_000, 0x66);
    assert_eq!(decide(&policy, denied, ("", ""), &[], &lifted(&["caps.day", "known-bad"]), &none), "denied");
}

#[test]
fn remaining_is_the_least_of_the_agents_the_identitys_and_the_wallets_m1_10() {
    let policy = example();
    let (agent, identity, wallet): (AgentId, Arc<str>, _) =
        ("research-bot".parse().unwrap(), "sidecar".into(), Payer(Address::repeat_byte(0xee)));
    let left = |books: &Books| policy.remaining(&agent, &identity, wallet, NOW, books).unwrap().micro();
    assert_eq!(left(&Books::default()), 5_000_000);
    let posted = |scope: Scope, micro| Books { postings: vec![(scope, NOW, micro)], ..Books::default() };
    assert_eq!(left(&posted(Scope::Agent(agent.clone()), 1)), 4_999_999);
    assert_eq!(left(&posted(Scope::Wallet(wallet), 19_000_000)), 1_000_000);
    assert_eq!(left(&posted(Scope::Identity(identity.clone()), 9_000_000)), 0, "never below zero");
    let unbounded = own("version: 1\nagents: { b: {} }\n");
    assert_eq!(unbounded.remaining(&"b".parse().unwrap(), &identity, wallet, NOW, &Books::default()), None);
}

fn entry() -> impl Strategy<Value = String> {
    let host = prop_oneof![Just("a.example"), Just("b.example"), Just("'*.example'")];
    let proof = prop_oneof![
        Just("pay_to: ['0x1111111111111111111111111111111111111111']"),
        Just("pay_to: ['0x2222222222222222222222222222222222222222']"),
        Just("pay_to: any"),
        Just("offer_key: '0x3333333333333333333333333333333333333333'"),
    ];
    let methods = prop_oneof![Just(""), Just(", methods: [GET]"), Just(", methods: [POST]")];
    let max = prop_oneof![Just(""), Just(", max: 0.01"), Just(", max: 0.03")];
    (host, proof, methods, max)
        .prop_map(|(host, proof, methods, max)| format!("host: {host}, networks: ['eip155:8453'], {proof}{methods}{max}"))
}

fn denial() -> impl Strategy<Value = String> {
    let what = [
        "host: a.example",
        "host: '*.example', methods: [POST]",
        "methods: [GET]",
        "pay_to: ['0x2222222222222222222222222222222222222222']",
    ];
    prop::sample::select(what.to_vec()).prop_map(str::to_owned)
}

fn words() -> impl Strategy<Value = (&'static str, &'static str)> {
    (
        prop::sample::select(vec!["", "a.example", "b.example", "c.example", "127.0.0.1"]),
        prop::sample::select(vec!["", "GET", "POST", "TRACE"]),
    )
}

proptest! {
    /// S4: whatever is permitted with words is permitted without them, and with fewer words.
    #[test]
    fn words_never_turn_a_refusal_into_a_permit(
        allow in prop::collection::vec(entry(), 1..5),
        deny in prop::collection::vec(denial(), 0..3),
        said in words(),
        proven in prop::collection::vec(0_usize..5, 0..3),
        atomic in 1_u64..60_000,
        to in prop::sample::select(vec![0x11_u8, 0x22, 0x44]),
        spent in 0_i64..100_000,
    ) {
        let list = |name: &str, entries: &[String]| -> String {
            entries.iter().enumerate().map(|(i, e)| format!("      - {{ id: {name}{i}, {e} }}\n")).collect()
        };
        let text = format!(
            "version: 1\nunverified: {{ per_payment: 0.02, day: 0.05 }}\ncaps: {{ payee: {{ day: 0.08 }} }}\nagents:\n  research-bot:\n    caps: {{ per_payment: 0.05, day: 0.1 }}\n    allow:\n{}    deny:\n{}",
            list("a", &allow),
            if deny.is_empty() { "      []\n".to_owned() } else { list("d", &deny) },
        );
        // A deny that makes an entry unreachable is a load error; such a policy is no case.
        let Ok(policy) = Policy::parse_for_cosigner(&[Source { name: "p".into(), text }], 1) else { return Ok(()) };
        let proven: Vec<String> = proven.iter().map(|i| format!("a{i}")).collect();
        let proven: Vec<&str> = proven.iter().map(String::as_str).collect();
        let books = Books { postings: vec![(Scope::Payee(payee(to)), NOW, spent)], ..Books::default() };
        let permitted = |words| !Reason::ALL.iter().any(|r| r.as_str() == decide(&policy, transfer(BASE_USDC, atomic, to), words, &proven, &ask(), &books));
        if permitted(said) {
            prop_assert!(permitted(("", "")) && permitted((said.0, "")) && permitted(("", said.1)));
        }
    }
}
