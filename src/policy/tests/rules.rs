//! What one entry selects and restricts, M3.4 and M3.7.

use super::*;

const ENTRY: &str = "host: api.example, pay_to: pinned";

fn with(extra: &str) -> Policy {
    allowing(&format!("[ {{ id: e, {ENTRY}{extra} }} ]"))
}

#[test]
fn m3_7_an_entry_selects_by_request_and_absent_keys_mean_what_the_rule_says() {
    for (extra, url, expected) in [
        ("", "https://api.example/x", "e"),
        ("", "https://API.example./x", "e"),
        ("", "https://api.example", "e"),
        ("", "https://other.example/x", "not_allowed"),
        ("", "https://sub.api.example/x", "not_allowed"),
        ("", "https://api.example:8443/x", "not_allowed"),
        ("", "https://api.example:80/x", "not_allowed"),
        ("", "http://api.example/x", "plain_http"),
        ("", "http://api.example:8080/x", "not_allowed"),
        ("", "http://api.example:443/x", "not_allowed"),
        (", plain_http: true", "http://api.example/x", "e"),
        (", plain_http: true", "https://api.example/x", "e"),
        (", plain_http: true", "http://api.example:443/x", "not_allowed"),
        (", ports: 8443", "https://api.example:8443/x", "e"),
        (", ports: [8443, 9443]", "https://api.example/x", "not_allowed"),
        (", paths: [\"/v2/**\"]", "https://api.example/v2/", "e"),
        (", paths: [\"/v2/**\"]", "https://api.example/v2/a/b", "e"),
        (", paths: [\"/v2/**\"]", "https://api.example/v2", "not_allowed"),
        (", paths: [\"/v2/**\"]", "https://api.example/V2/a", "not_allowed"),
        (", paths: /a*", "https://api.example/a", "e"),
        (", paths: /a*", "https://api.example/ab", "e"),
        (", paths: /a*", "https://api.example/a/b", "not_allowed"),
        (", methods: [POST]", "https://api.example/x", "not_allowed"),
        (", methods: GET", "https://api.example/x", "e"),
    ] {
        assert_eq!(short(&Ask::url(url).of(&with(extra), vec![usdc(10_000)], &Books::default())), expected, "{extra} {url}");
    }
}

#[test]
fn m3_7_any_port_on_loopback_addresses() {
    for (host, url, expected) in [
        ("127.0.0.1", "http://127.0.0.1:4021/x", "e"),
        ("127.0.0.1", "https://127.0.0.1:8443/x", "e"),
        ("localhost", "http://localhost:4021/x", "e"),
        ("\"::1\"", "http://[::1]:4021/x", "e"),
        ("127.0.0.1", "http://[::ffff:127.0.0.1]:4021/x", "e"),
        ("127.0.0.1", "http://127.0.0.2:4021/x", "not_allowed"),
        ("192.168.1.9", "http://192.168.1.9:4021/x", "not_allowed"),
        ("192.168.1.9", "http://192.168.1.9/x", "e"),
    ] {
        let policy = allowing(&format!("[ {{ id: e, host: {host}, plain_http: true }} ]"));
        assert_eq!(short(&Ask::url(url).of(&policy, vec![usdc(10_000)], &Books::default())), expected, "{host} {url}");
    }
}

#[test]
fn m3_7_an_entry_selects_per_offer() {
    let other = "0x2222222222222222222222222222222222222222";
    let listed = format!(", pay_to: [\"{other}\"]");
    let table: [(&str, Offer, &str); 12] = [
        ("", usdc(10_000), "e"),
        (", networks: \"eip155:8453\"", usdc(10_000), "e"),
        (", networks: [\"eip155:137\"]", usdc(10_000), "not_allowed"),
        (", assets: [USDC]", usdc(10_000), "e"),
        (", assets: [USDC]", offer(0, POLYGON_USDC, 10_000), "e"),
        (", assets: [USDC]", offer(0, SEPOLIA_USDC, 10_000), "not_allowed"),
        ("", offer(0, SEPOLIA_USDC, 10_000), "testnet_not_listed"),
        (", networks: \"eip155:84532\", assets: USDC", offer(0, SEPOLIA_USDC, 10_000), "e"),
        (", protocols: x402v1", usdc(10_000), "not_allowed"),
        (", protocols: [x402v1, x402v2], schemes: exact, transfer: eip3009", usdc(10_000), "e"),
        ("", Offer { flow: Flow::Upfront, ..usdc(10_000) }, "not_allowed"),
        (", flows: [authorization, upfront]", Offer { flow: Flow::Upfront, ..usdc(10_000) }, "e"),
    ];
    for (extra, offer, expected) in table {
        let what = format!("{extra} {}", offer.asset.id);
        assert_eq!(short(&Ask::default().of(&with(extra), vec![offer], &Books::default())), expected, "{what}");
    }
    let policy = allowing(&format!("[ {{ id: e, host: api.example{listed} }} ]"));
    assert_eq!(short(&Ask::default().of(&policy, vec![usdc(10_000)], &Books::default())), "not_allowed");
    let right = Offer { payee: payee(0x22), ..usdc(10_000) };
    assert_eq!(short(&Ask::default().of(&policy, vec![right], &Books::default())), "e");
}

#[test]
fn m3_4_the_first_matching_entry_in_file_order_decides_alone() {
    let policy = allowing("[ { id: narrow, host: api.example, paths: /v2/**, max: 0.01 }, { id: wide, host: api.example } ]");
    let at = |url: &str, atomic| short(&Ask::url(url).of(&policy, vec![usdc(atomic)], &Books::default()));
    assert_eq!(at("https://api.example/v2/a", 10_000), "narrow");
    assert_eq!(at("https://api.example/v2/a", 10_001), "entry_max", "a restriction never falls through to the next entry");
    assert_eq!(at("https://api.example/v1/a", 10_001), "wide");
}

#[test]
fn m3_4_deny_wins_and_everything_is_collected() {
    let text = "version: 1\nagents:\n  bot:\n    caps: { per_payment: 0.05, day: 1 }\n    allow: [ { id: e, host: \"*.example\", max: 0.01 } ]\n    deny: [ { id: casino, host: [casino.example, \"*.casino.example\"] }, { id: who, pay_to: \"0x2222222222222222222222222222222222222222\" }, { id: admin, host: api.example, paths: [\"/admin/**\", /private] } ]\n";
    let policy = policy(text);
    for (url, expected) in [
        ("https://casino.example/", vec![Reason::Denied]),
        ("https://a.casino.example/", vec![Reason::Denied]),
        ("https://casino.example:8443/", vec![Reason::Denied, Reason::NotAllowed]),
        ("https://api.example/admin/x", vec![Reason::Denied]),
        ("https://api.example/%61dmin/x", vec![Reason::Denied]),
        ("https://api.example//admin/x", vec![Reason::Denied]),
        ("https://api.example/priv%61te", vec![Reason::Denied]),
        ("https://api.example/public", vec![]),
        ("https://noncasino.example/", vec![]),
    ] {
        assert_eq!(reasons(&Ask::url(url).of(&policy, vec![usdc(10_000)], &Books::default())), expected, "{url}");
    }
    let worst = Offer { payee: payee(0x22), ..usdc(60_000) };
    let decision = Ask::url("https://api.example/admin/x").of(&policy, vec![worst], &Books::spent(990_000));
    assert_eq!(reasons(&decision), [Reason::Denied, Reason::Denied, Reason::CapPerPayment, Reason::EntryMax, Reason::CapDay]);
    let rules: Vec<String> = decision.verdict.unwrap_err().violations.iter().map(|v| v.rule.clone().unwrap().to_string()).collect();
    assert_eq!(rules, ["who", "admin", "caps.per_payment", "entry:e.max", "caps.day"]);
}

#[test]
fn m3_6_gates_end_the_decision_with_their_reason_alone() {
    let policy = with("");
    let gate = |ask: Ask| {
        let decision = ask.of(&policy, vec![usdc(10_000)], &Books::default());
        assert!(decision.considered.is_empty());
        reasons(&decision)
    };
    for method in [Method::HEAD, Method::OPTIONS, Method::TRACE, Method::CONNECT] {
        assert_eq!(gate(Ask { method, ..Ask::default() }), [Reason::MethodNotPayable]);
    }
    assert_eq!(gate(Ask { agent: "nobody".into(), method: Method::HEAD, ..Ask::default() }), [Reason::UnknownAgent]);
    for path in ["/a/../b", "/./a", "/a/..", "/a/%2e%2E/b", "/a/.%2e", "/a%2fb", "/a%2Fb", "/a%5cb", "/a\\b", "/..;x/b"] {
        assert_eq!(gate(Ask::url(&format!("https://api.example{path}"))), [Reason::PathNotNormal], "{path}");
    }
    for path in ["/...", "/a..b", "/.well-known", "/a//b", "/%252e%252e", "/a%zz", "/%"] {
        assert_eq!(short(&Ask::url(&format!("https://api.example{path}")).of(&policy, vec![usdc(1)], &Books::default())), "e", "{path}");
    }
}

#[test]
fn m2_1_boundaries_are_inclusive() {
    for (spent, price, expected) in [
        (0, 50_000, "e"),
        (0, 50_001, "cap_per_payment"),
        (950_000, 50_000, "e"),
        (950_001, 50_000, "cap_day"),
        (1_000_000, 1, "cap_day"),
        (2_000_000, 1, "cap_day"),
        (i64::MAX, 1, "cap_day"),
    ] {
        assert_eq!(short(&Ask::default().of(&with(""), vec![usdc(price)], &Books::spent(spent))), expected, "{spent} + {price}");
    }
    let refused = Ask::default().of(&with(""), vec![usdc(50_000)], &Books::spent(960_000)).verdict.unwrap_err();
    let violation = &refused.violations[0];
    assert_eq!(violation.amount, Some(MicroUsd::new(50_000)));
    assert_eq!(violation.limit, Some(MicroUsd::new(1_000_000)));
    assert_eq!(violation.remaining, Some(MicroUsd::new(40_000)));
    assert_eq!(violation.resets_at.unwrap().rfc3339(), "2026-11-22T00:00:00Z");
    let over = Ask::default().of(&with(""), vec![usdc(1)], &Books::spent(3_000_000)).verdict.unwrap_err();
    assert_eq!(over.violations[0].remaining, Some(MicroUsd::ZERO), "M2.2: lowered below spent shows zero");
}

#[test]
fn m3_7_a_cap_of_zero_is_a_cap_and_total_never_resets() {
    let text = |caps: &str| {
        format!("version: 1\nagents:\n  bot:\n    caps: {{ {caps} }}\n    allow: [ {{ id: e, host: api.example, allow_zero: true }} ]\n")
    };
    let at = |caps: &str, atomic, spent| Ask::default().of(&policy(&text(caps)), vec![usdc(atomic)], &Books::spent(spent));
    assert_eq!(short(&at("per_payment: 0, hour: 0", 1, 0)), "cap_per_payment");
    assert_eq!(short(&at("per_payment: 0, hour: 0", 0, 0)), "e");
    let total = at("per_payment: 1, day: 5, total: 5", 1, 5_000_000);
    assert_eq!(reasons(&total), [Reason::CapDay, Reason::CapTotal]);
    assert_eq!(total.verdict.unwrap_err().violations[1].resets_at, None);
}

#[test]
fn m2_3_zero_needs_allow_zero_and_counts_in_rates() {
    assert_eq!(short(&Ask::default().of(&with(""), vec![usdc(0)], &Books::default())), "zero_amount");
    let policy = policy(
        "version: 1\nagents:\n  bot:\n    caps: { per_payment: 1, day: 1 }\n    rate: { per_minute: 1 }\n    allow: [ { host: api.example, allow_zero: true } ]\n",
    );
    assert_eq!(short(&Ask::default().of(&policy, vec![usdc(0)], &Books::default())), "api.example");
    let books = Books { commitments: vec![(Scope::Agent("bot".parse().unwrap()), NOW)], ..Books::default() };
    assert_eq!(short(&Ask::default().of(&policy, vec![usdc(0)], &books)), "rate_limited");
}

#[test]
fn m3_7_a_rate_counts_the_last_sixty_seconds_exclusively() {
    let policy = policy(
        "version: 1\nagents:\n  bot:\n    caps: { per_payment: 1, day: 1 }\n    rate: { per_minute: 2, per_hour: 3 }\n    allow: [ { id: e, host: api.example } ]\n",
    );
    let ago = |ms: &[i64]| Books {
        commitments: ms.iter().map(|ms| (Scope::Agent("bot".parse().unwrap()), NOW.plus_millis(-ms))).collect(),
        ..Books::default()
    };
    for (ms, expected) in [
        (&[0, 59_999][..], "rate_limited"),
        (&[0, 60_000], "e"),
        (&[60_000, 60_001, 60_002], "rate_limited"),
        (&[60_000, 60_001, 3_600_000], "e"),
    ] {
        assert_eq!(short(&Ask::default().of(&policy, vec![usdc(1)], &ago(ms))), expected, "{ms:?}");
    }
    let refused = Ask::default().of(&policy, vec![usdc(1)], &ago(&[0, 59_999])).verdict.unwrap_err();
    assert_eq!(refused.violations[0].resets_at, Some(NOW.plus_millis(1)));
    // A limit lowered below what was made: two more have to leave.
    let refused = Ask::default().of(&policy, vec![usdc(1)], &ago(&[0, 30_000, 40_000, 59_999])).verdict.unwrap_err();
    assert_eq!(refused.violations[0].resets_at, Some(NOW.plus_millis(30_000)));
    let again = Ask { held: 1, ..Ask::default() };
    let decision = again.of(&policy, vec![usdc(1)], &ago(&[0, 1, 2, 3]));
    assert_eq!(short(&decision), "e", "M2.5: a re-signature is no new commitment");
    assert!(decision.verdict.unwrap().checks().iter().all(|c| matches!(c.limit, Limit::Spend(_))));
}

#[test]
fn m1_2_a_resignature_adds_only_what_goes_beyond_its_hold_and_stays_on_its_asset() {
    let ask = Ask { held: 30_000, bound_to: Some(BASE_USDC), ..Ask::default() };
    for (spent, price, expected) in [
        (1_000_000, 30_000, "e"),
        (1_000_000, 20_000, "e"),
        (1_000_000, 30_001, "cap_day"),
        (990_000, 40_000, "e"),
        (30_000, 50_001, "cap_per_payment"),
    ] {
        assert_eq!(short(&ask.of(&with(""), vec![usdc(price)], &Books::spent(spent))), expected, "{spent} + {price}");
    }
    let elsewhere = ask.of(&with(""), vec![offer(0, POLYGON_USDC, 1)], &Books::default());
    assert_eq!(reasons(&elsewhere), [Reason::PaymentOutstanding]);
    let both = ask.of(&with(""), vec![offer(0, POLYGON_USDC, 1), offer(1, BASE_USDC, 2)], &Books::default());
    assert_eq!(both.verdict.unwrap().offer().index, 1);
}

#[test]
fn m3_3_a_pin_restricts_and_any_does_not_read_it() {
    let books = Books { pins: vec![("e".into(), payee(0x33))], ..Books::default() };
    assert_eq!(short(&Ask::default().of(&with(""), vec![usdc(1)], &books)), "payee_changed");
    let same = Offer { payee: payee(0x33), ..usdc(1) };
    assert_eq!(short(&Ask::default().of(&with(""), vec![same], &books)), "e");
    let any = allowing("[ { id: e, host: api.example, pay_to: any } ]");
    assert_eq!(short(&Ask::default().of(&any, vec![usdc(1)], &books)), "e");
}

#[test]
fn m3_7_an_invalid_offer_reports_its_own_reason_only() {
    let yourself = Offer { payee: payee(0xee), ..usdc(999_999_999) };
    assert_eq!(reasons(&Ask::default().of(&with(""), vec![yourself], &Books::default())), [Reason::InvalidPayee]);
    let unknown = offer(0, "eip155:8453/erc20:0x00000000000000000000000000000000000000aa", 1);
    assert_eq!(reasons(&Ask::default().of(&with(""), vec![unknown], &Books::default())), [Reason::UnknownAsset]);
    let huge = Offer { amount: Amount::new(BASE_USDC.parse().unwrap(), U256::MAX), ..usdc(1) };
    assert_eq!(reasons(&Ask::default().of(&with(""), vec![huge], &Books::default())), [Reason::AmountTooLarge]);
}

#[test]
fn m3_7_a_refusal_unites_the_reasons_of_all_offers_the_nearest_first() {
    let mut all = challenge(vec![offer(1, SEPOLIA_USDC, 1), offer(2, BASE_USDC, 60_000)]);
    all.rejected.push(Rejected { index: 0, reason: Reason::UnsupportedNetwork });
    let decision = Ask::default().with(&with(""), &all, &Books::default(), |_, d| d);
    assert_eq!(reasons(&decision), [Reason::CapPerPayment, Reason::TestnetNotListed, Reason::UnsupportedNetwork]);
    let offers: Vec<_> = decision.verdict.unwrap_err().violations.iter().map(|v| v.offer).collect();
    assert_eq!(offers, [Some(2), Some(1), Some(0)]);
    assert_eq!(short(&Ask::default().of(&with(""), vec![], &Books::default())), "malformed_offer");
}

#[test]
fn m2_5_an_approval_names_every_counter_it_read_and_every_counter_it_posts_to() {
    let policy = policy(
        "version: 1\ngroups: { g: { caps: { per_payment: 1, hour: 2, day: 10 }, rate: { per_minute: 30 } } }\nagents:\n  bot:\n    group: g\n    caps: { day: 5, total: 100 }\n    allow: [ { id: e, host: api.example, max: 0.5, caps: { week: 3 }, lifetime: 30s } ]\n",
    );
    let approval = Ask::default().of(&policy, vec![usdc(10_000)], &Books::default()).verdict.unwrap();
    let bot: AgentId = "bot".parse().unwrap();
    let entry = Scope::Entry(bot.clone(), approval.entry().clone());
    let named: Vec<(String, Scope, Reason)> = approval.checks().iter().map(|c| (c.rule.to_string(), c.scope.clone(), c.reason)).collect();
    let agent = Scope::Agent(bot.clone());
    assert_eq!(
        named,
        [
            ("rate.per_minute".into(), agent.clone(), Reason::RateLimited),
            ("caps.hour".into(), agent.clone(), Reason::CapHour),
            ("caps.day".into(), agent.clone(), Reason::CapDay),
            ("caps.total".into(), agent.clone(), Reason::CapTotal),
            ("entry:e.caps.week".into(), entry.clone(), Reason::CapWeek),
        ]
    );
    assert_eq!(approval.checks()[2].limit, Limit::Spend(MicroUsd::new(5_000_000)), "M3.7: effective = the smaller");
    assert_eq!(approval.checks()[0].span.from, NOW.plus_millis(-59_999));
    assert_eq!(approval.scopes(), [agent, entry]);
    assert_eq!(approval.lifetime().as_secs(), 30, "M3.7: lifetime clips");
    assert_eq!(approval.epoch(), 1);
    let budgets: Vec<String> = policy.budgets(&bot).into_iter().map(|b| format!("{} {}", b.name, b.limit)).collect();
    assert_eq!(budgets, ["caps.hour 2.00", "caps.day 5.00", "caps.total 100.00", "entry:e.caps.week 3.00"]);
}

#[test]
fn entry_caps_sum_what_was_posted_under_the_entry() {
    let policy = allowing("[ { id: e, host: api.example, caps: { per_payment: 0.02, day: 0.1 } } ]");
    let entry = Scope::Entry("bot".parse().unwrap(), RuleId("e".into()));
    let books = Books { postings: vec![(entry, NOW, 90_000)], ..Books::default() };
    assert_eq!(short(&Ask::default().of(&policy, vec![usdc(10_000)], &books)), "e");
    let over = Ask::default().of(&policy, vec![usdc(10_001)], &books);
    assert_eq!(reasons(&over), [Reason::CapDay]);
    assert_eq!(&*over.verdict.unwrap_err().violations[0].rule.as_ref().unwrap().0, "entry:e.caps.day");
    assert_eq!(short(&Ask::default().of(&policy, vec![usdc(20_001)], &Books::default())), "cap_per_payment");
}

#[test]
fn m2_3_a_peg_other_than_one_dollar_ages_and_carries_its_margin() {
    let gold = "eip155:8453/erc20:0x00000000000000000000000000000000000000aa";
    let text = format!(
        "version: 1\nassets: [ {{ id: \"{gold}\", symbol: GOLD, decimals: 6, eip712: {{ name: Gold, version: \"1\" }}, usd: \"1.10\", margin: 10, as_of: 2026-11-20T12:00:00Z, max_age: 1d }} ]\nagents:\n  bot:\n    caps: {{ per_payment: 5, day: 5 }}\n    allow: [ {{ id: e, host: api.example, assets: GOLD, networks: \"eip155:8453\" }} ]\n"
    );
    let policy = policy(&text);
    let at = |now| Ask { now, ..Ask::default() }.of(&policy, vec![offer(0, gold, 1_000_000)], &Books::default());
    assert_eq!(at(NOW).verdict.unwrap().offer().price, MicroUsd::new(1_210_000), "age = max_age is fresh, margin is on top");
    assert_eq!(short(&at(NOW.plus_millis(1))), "asset_not_priced");
    assert_eq!(short(&at(Timestamp::from_secs(1_795_262_400 - 86_401))), "asset_not_priced", "a price of the future is none");
}

#[test]
fn a_policy_can_be_shared_between_threads() {
    fn shared<T: Send + Sync + 'static>() {}
    shared::<Policy>();
    shared::<Approval>();
}

#[test]
fn an_agent_of_another_name_or_an_empty_policy_pays_nothing() {
    let policy = Policy::empty();
    assert_eq!(short(&Ask::default().of(&policy, vec![usdc(1)], &Books::default())), "unknown_agent");
    assert_eq!(policy.agents().count(), 0);
    let (agent, host) = ("bot".parse().unwrap(), Host::parse("api.example").unwrap());
    assert!(!policy.payable(&agent, &host, 443));
    assert!(with("").payable(&agent, &host, 443));
    assert!(!with("").payable(&agent, &host, 80));
    assert!(with(", plain_http: true").payable(&agent, &host, 80));
    assert!(!with("").payable(&"other".parse().unwrap(), &host, 443));
}
