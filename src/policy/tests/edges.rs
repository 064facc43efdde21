//! What an equal amount, a second entry or an order decides, where the other tables stay away from the edge.

use super::*;

/// Errors of a policy, or its warnings if it loads; those about agents without entries left out.
fn told(text: &str) -> Vec<String> {
    let source = Source { name: "p".into(), text: format!("version: 1\n{text}\n") };
    let all = Policy::parse(&[source], 1).map_or_else(|e| e.0, |p| p.warnings().to_vec());
    all.into_iter().map(|e| e.message).filter(|m| !m.contains("no allow entry")).collect()
}

#[test]
fn m3_5_a_cap_is_above_another_only_if_it_is_larger() {
    for (caps, expected) in [
        ("caps: { per_payment: 2, hour: 2, day: 2, week: 2, month: 2, total: 2 }", None),
        ("caps: { per_payment: 2, rolling: { 24h: 2 } }", None),
        ("caps: { per_payment: 2.000001, rolling: { 24h: 2 } }", Some("caps.per_payment 2.000001 is above caps.rolling.24h 2.00")),
        ("caps: { rolling: { 1h: 2, 24h: 2 } }", None),
        ("caps: { rolling: { 1h: 1, 24h: 2 } }", None),
        ("caps: { rolling: { 30d: 2 } }", None),
        ("caps: { rolling: { 721h: 2 } }", Some("caps.rolling: \"721h\" is not a length")),
        ("caps: { rolling: { 0h: 2 } }", Some("caps.rolling: \"0h\" is not a length")),
        ("caps: { rolling: { 1h: 3, 24h: 2 } }", Some("caps.rolling.1h 3.00 is above caps.rolling.24h 2.00")),
        ("caps: { per_payment: 1, day: 2, per_host_day: 2, per_payee_day: 1 }", None),
        ("caps: { day: 2, per_host_day: 3 }", Some("caps.per_host_day 3.00 has no effect: caps.day is 2.00")),
        ("caps: { day: 2, per_payee_day: 2.000001 }", Some("caps.per_payee_day 2.000001 has no effect: caps.day is 2.00")),
        ("caps: { per_payment: 1.5, per_payee_day: 1 }", Some("caps.per_payment 1.50 is above caps.per_payee_day 1.00")),
        ("caps: { week: 3, month: 2 }", Some("caps.week 3.00 is above caps.month 2.00, so it hardly ever has an effect")),
        ("caps: { week: 2, month: 3 }", None),
        ("rate: { per_minute: 5, per_hour: 5 }", None),
        ("rate: { per_minute: 4, per_hour: 5 }", None),
        ("rate: { per_minute: 6, per_hour: 5 }", Some("rate.per_minute 6 is above rate.per_hour 5")),
    ] {
        let found = told(&format!("agents: {{ bot: {{ {caps} }} }}"));
        assert_eq!(found.len(), usize::from(expected.is_some()), "{caps}: {found:?}");
        assert!(found.iter().all(|m| expected.is_some_and(|e| m.starts_with(e))), "{caps}: {found:?}");
    }
}

#[test]
fn m3_7_a_member_gets_the_smaller_of_each_rolling_cap_and_equal_is_no_warning() {
    let text = "groups: { g: { caps: { per_payment: 1, day: 9, rolling: { 1h: 2, 24h: 5 } } } }\nagents: { bot: { group: g, caps: { day: 9, rolling: { 24h: 3, 48h: 8 } }, allow: [ { host: a.example } ] } }";
    assert_eq!(told(text), Vec::<String>::new());
    let caps: Vec<String> = policy(&format!("version: 1\n{text}\n"))
        .budgets(&"bot".parse().unwrap())
        .iter()
        .map(|b| format!("{} {}", b.name, b.limit))
        .collect();
    assert_eq!(caps, ["caps.day 9.00", "caps.rolling.1h 2.00", "caps.rolling.24h 3.00", "caps.rolling.48h 8.00"]);
}

#[test]
fn a_cap_that_was_misread_is_told_once_and_not_also_as_missing() {
    for text in [
        "agents: { bot: { caps: 5, allow: [ { host: a.example } ] } }",
        "groups: { g: { caps: { per_payment: five } } }\nagents: { bot: { group: g, caps: { day: 1 }, allow: [ { host: a.example } ] } }",
        "groups: { g: { caps: { day: 1 } } }\nagents: { bot: { group: g, caps: { per_payment: five }, allow: [ { host: a.example } ] } }",
    ] {
        let found = told(text);
        assert!(found.len() == 1 && !found[0].contains("has no cap"), "{text}: {found:?}");
    }
}

#[test]
fn m3_7_a_budget_per_customer_needs_one_around_it_for_everybody() {
    let around = "a new name is new money";
    for (context, more, expected) in [
        ("context: { customer: text }", "{ name: b, limit: 9, window: day, agents: all }", None),
        ("context: { customer: text }", "{ name: b, limit: 9, window: day, agents: [bot] }", Some(around)),
        ("context: { customer: text }", "{ name: b, limit: 9, window: day, agents: all, per: customer }", Some(around)),
        ("context: { customer: integer }", "{ name: b, limit: 9, window: day, agents: all }", Some("`customer` is no declared key")),
        ("context: { other: text }", "{ name: b, limit: 9, window: day, agents: all }", Some("`customer` is no declared key")),
    ] {
        let text = format!("{context}\nagents: {{ bot: {{}} }}\nbudgets: [ {{ name: a, limit: 1, window: day, per: customer }}, {more} ]");
        let found = told(&text);
        assert!(found.iter().any(|m| expected.is_some_and(|e| m.contains(e))) == expected.is_some(), "{text}: {found:?}");
        assert!(expected.is_some() || found.is_empty(), "{text}: {found:?}");
    }
    let other = told("budgets: [ { name: a, limit: 1, window: day, per: agent } ]");
    assert!(other[0].contains("\"agent\": write customer"), "{other:?}");
}

#[test]
fn m3_4_of_two_near_misses_the_first_in_file_order_is_told() {
    let plain = allowing("[ { id: first, host: api.example, ports: 80 }, { id: second, host: api.example, ports: 80 } ]");
    let said = Ask::url("http://api.example/x").of(&plain, vec![usdc(1)], &Books::default()).verdict.unwrap_err();
    let of = |v: &Violation| (v.reason, v.rule.as_ref().map(|r| r.to_string()).unwrap_or_default());
    assert_eq!(said.violations.iter().map(of).collect::<Vec<_>>(), [(Reason::PlainHttp, "first".into())]);
    let test = allowing("[ { id: first, host: api.example }, { id: second, host: \"*\", any_host: true } ]");
    let said = Ask::default().of(&test, vec![offer(0, SEPOLIA_USDC, 1)], &Books::default()).verdict.unwrap_err();
    assert_eq!(said.violations.iter().map(of).collect::<Vec<_>>(), [(Reason::TestnetNotListed, "first".into())]);
    let both = Ask::url("http://api.example/x").of(&test, vec![offer(0, SEPOLIA_USDC, 1)], &Books::default()).verdict.unwrap_err();
    let both: Vec<_> = both.violations.iter().map(of).collect();
    assert_eq!(both, [(Reason::PlainHttp, "first".into()), (Reason::TestnetNotListed, "first".into())]);
    // A miss that is told does not keep a later entry from taking the offer.
    let later = allowing("[ { id: first, host: api.example, ports: 80 }, { id: second, host: api.example, ports: 80, plain_http: true } ]");
    assert_eq!(short(&Ask::url("http://api.example/x").of(&later, vec![usdc(1)], &Books::default())), "second");
}

#[test]
fn m3_7_the_nearest_offer_leads_matched_before_missed_before_denied_before_unpayable() {
    let policy = policy(
        "version: 1\nagents:\n  bot:\n    caps: { per_payment: 0.05, day: 1 }\n    allow: [ { id: e, host: api.example, networks: [\"eip155:8453\"] }, { id: t, host: api.example, paths: /t, networks: [\"eip155:8453\"] } ]\n    deny: [ { id: who, pay_to: \"0x2222222222222222222222222222222222222222\" } ]\n",
    );
    let unpayable = |i| Offer { payee: payee(0xee), ..offer(i, BASE_USDC, 1) };
    let denied = |i| Offer { payee: payee(0x22), ..offer(i, BASE_USDC, 1) };
    let elsewhere = |i| offer(i, POLYGON_USDC, 1);
    let dear = |i, atomic| offer(i, BASE_USDC, atomic);
    let order = |offers: Vec<Offer>, books: &Books| -> Vec<usize> {
        let said = Ask::default().of(&policy, offers, books).verdict.unwrap_err();
        let mut order: Vec<usize> = said.violations.iter().filter_map(|v| v.offer).collect();
        order.dedup();
        order
    };
    let none = Books::default();
    assert_eq!(order(vec![unpayable(0), denied(1)], &none), [1, 0], "no price is farther than a deny");
    assert_eq!(order(vec![unpayable(0), elsewhere(1)], &none), [1, 0]);
    assert_eq!(order(vec![denied(0), dear(1, 60_000)], &none), [1, 0], "a deny is farther than a cap");
    assert_eq!(order(vec![elsewhere(0), dear(1, 60_000)], &none), [1, 0]);
    assert_eq!(order(vec![dear(0, 60_000), dear(1, 50_001)], &none), [1, 0], "then the cheaper one");
    assert_eq!(order(vec![dear(0, 60_000), dear(1, 50_000)], &Books::spent(1_000_000)), [1, 0], "fewer reasons first");
    assert_eq!(order(vec![dear(1, 60_000), dear(0, 60_000)], &none), [0, 1], "then its place in the list");
}

#[test]
fn m3_7_the_offer_that_people_are_asked_about_leads_the_refusal() {
    let policy = policy(
        "version: 1\napprovers: { board: {} }\nrisk: { payee_change: { ask: board } }\nagents:\n  bot: { caps: { per_payment: 0.05, day: 1 }, allow: [ { id: e, host: api.example, networks: [\"eip155:8453\"] } ] }\n",
    );
    let books = Books { pins: vec![("e".into(), payee(0x22))], ..Books::default() };
    let (dear, asked, asked_too) = (offer(0, BASE_USDC, 60_000), offer(1, BASE_USDC, 30_000), offer(2, BASE_USDC, 20_000));
    let decision = Ask::default().of(&policy, vec![dear, asked, asked_too], &books);
    assert_eq!(decision.question.as_ref().unwrap().offer.index, 2, "the cheaper one is asked about");
    let said = decision.verdict.unwrap_err();
    let first = &said.violations[0];
    assert_eq!((first.reason, first.offer, first.amount), (Reason::PayeeChanged, Some(2), Some(MicroUsd::new(20_000))));
    assert_eq!(first.rule, Some(RuleId("e".into())));
    assert_eq!(said.violations.iter().map(|v| v.offer.unwrap()).collect::<Vec<_>>(), [2, 1, 0, 0]);
}

#[test]
fn what_became_of_the_question_leads_a_refusal_and_is_told_once() {
    let refused = |reason: Reason| Refusal { ticket: None, violations: vec![Violation::new(reason), Violation::new(Reason::CapDay)] };
    for (first, became, expected) in [
        (Reason::PayeeChanged, Reason::ApprovalDenied, vec![Reason::ApprovalDenied, Reason::PayeeChanged, Reason::CapDay]),
        (Reason::ApprovalDenied, Reason::ApprovalDenied, vec![Reason::ApprovalDenied, Reason::CapDay]),
        (Reason::PayeeChanged, Reason::ApprovalRequired, vec![Reason::PayeeChanged, Reason::CapDay]),
        (Reason::ApprovalRequired, Reason::ApprovalRequired, vec![Reason::ApprovalRequired, Reason::CapDay]),
    ] {
        let said = refused(first).asked(became, Some("t".into()));
        assert_eq!(said.violations.iter().map(|v| v.reason).collect::<Vec<_>>(), expected, "{first} {became}");
        assert_eq!(said.ticket.as_deref(), Some("t"));
    }
    assert_eq!([By::Policy, By::Cosigner].map(By::as_str), ["policy", "cosigner"]);
}

#[test]
fn m3_2_a_rule_denies_asks_or_fails_closed() {
    let with = |rule: &str| {
        policy(&format!(
            "version: 1\ncontext: {{ n: integer }}\napprovers: {{ board: {{}} }}\nagents:\n  bot:\n    caps: {{ per_payment: 0.05, day: 1 }}\n    allow: [ {{ id: e, host: api.example }} ]\n    rules: [ {{ id: r, {rule} }} ]\n"
        ))
    };
    let of = |rule: &str, granted: Vec<&'static str>| {
        let decision = Ask { granted, ..Ask::default() }.of(&with(rule), vec![usdc(10)], &Books::default());
        (reasons(&decision), decision.question.is_some())
    };
    let dear = "when: 'price.usd >= usd(\"0.00001\")'";
    let cheap = "when: 'price.usd > usd(\"0.00001\")'";
    assert_eq!(of(&format!("{dear}, then: deny"), vec![]), (vec![Reason::RuleDenied], false));
    assert_eq!(of(&format!("{cheap}, then: deny"), vec![]), (vec![], false));
    assert_eq!(of(&format!("{dear}, then: {{ ask: board }}"), vec![]), (vec![Reason::ApprovalRequired], true));
    assert_eq!(of(&format!("{dear}, then: {{ ask: board }}"), vec!["board"]), (vec![], false));
    assert_eq!(of(&format!("{cheap}, then: {{ ask: board }}"), vec![]), (vec![], false));
    let absent = "when: 'has(ctx.n) || ctx.n > 1'";
    assert_eq!(of(&format!("{absent}, then: deny"), vec![]), (vec![Reason::RuleError], false));
    assert_eq!(of(&format!("{absent}, then: {{ ask: board }}"), vec!["board"]), (vec![Reason::RuleError], false), "no yes lifts an error");
}

#[test]
fn m2_2_members_are_known_by_who_they_are() {
    let of = |names: &[&str]| Members::of(names.iter().map(|n| n.parse::<AgentId>().unwrap()));
    let (ab, ba) = (of(&["a", "b"]), of(&["b", "a", "b"]));
    assert_eq!(ab, ba);
    assert!(ab.contains(&"a".parse().unwrap()) && !ab.contains(&"c".parse().unwrap()) && Members::ALL.contains(&"c".parse().unwrap()));
    assert_eq!((ba.listed().unwrap().len(), Members::ALL.listed()), (2, None));
    assert_eq!((format!("{ab:?}"), format!("{:?}", Members::ALL)), (r#"["a", "b"]"#.into(), "all".into()));
    let hash = |m: &Members| std::hash::BuildHasher::hash_one(&std::hash::BuildHasherDefault::<std::hash::DefaultHasher>::default(), m);
    assert_eq!(hash(&ab), hash(&ba));
    let all = [ab, of(&["a", "c"]), of(&["b", "c"]), of(&["a"]), of(&[]), of(&["a", "b", "c"]), Members::ALL];
    let different: std::collections::BTreeSet<u64> = all.iter().map(hash).collect();
    assert_eq!(different.len(), all.len(), "lists of other ends or lengths do not collide: one map holds ten thousand");
}

#[test]
fn a_policy_tells_what_it_holds() {
    let policy = policy(
        "version: 1\ncontext: { customer: text }\ndefaults: { refusal_body: seller }\napprovers: { board: {} }\nagents:\n  bot: { caps: { per_payment: 0.05, day: 1 }, sessions: { required: true }, allow: [ { host: a.example } ] }\n  other: {}\nbudgets: [ { name: all, limit: 5, window: month, agents: all }, { name: two, limit: 4, window: day, agents: [other, bot] }, { name: twins, limit: 3, window: week, agents: [bot, other] }, { name: each, limit: 2, window: day, per: customer } ]\n",
    );
    let (bot, other): (AgentId, AgentId) = ("bot".parse().unwrap(), "other".parse().unwrap());
    assert_eq!(policy.refusal_body(&bot), RefusalBody::Seller);
    assert_eq!((policy.context_keys().kind("customer"), policy.context_keys().kind("else")), (Some(Kind::Text), None));
    assert!(policy.sessions(&bot).is_some_and(|s| s.required) && policy.sessions(&other).is_none());
    assert_eq!(policy.approver_groups().keys().map(|g| &**g).collect::<Vec<_>>(), ["board"]);
    assert_eq!(policy.members(), [Members::of([bot.clone(), other.clone()])], "each list once, and everybody is counted anyway");
    assert_eq!(policy.agents().collect::<Vec<_>>(), [&bot, &other]);
    let budgets: Vec<String> = policy.budgets(&bot).into_iter().map(|b| b.name).collect();
    assert_eq!(budgets, ["caps.day", "budget:all", "budget:two", "budget:twins"], "one per customer is no single budget");
}

#[test]
fn m1_6_an_approval_carries_its_entrys_rules_for_repeats() {
    let policy = allowing("[ { id: e, host: api.example, repeats: { lost_hold: 30m, paid_redirects: 3 } } ]");
    let repeats = Ask::default().of(&policy, vec![usdc(1)], &Books::default()).verdict.unwrap().repeats();
    assert_eq!((repeats.lost_hold.as_secs(), repeats.paid_redirects), (1_800, 3));
}

#[test]
fn m3_7_texts_and_flags_are_equal_or_not() {
    for (condition, denied) in [
        ("request.host == \"api.example\"", true),
        ("request.host == \"api.exampl\"", false),
        ("request.host != \"api.example\"", false),
        ("agent != \"other\"", true),
        ("(agent == \"bot\") == true", true),
        ("(agent == \"bot\") == false", false),
        ("(agent == \"bot\") != false", true),
        ("request.path.startsWith(\"/v2\")", true),
        ("request.path.startsWith(\"/v3\")", false),
        ("request.path.endsWith(\"/data\")", true),
        ("request.path.endsWith(\"/v2\")", false),
        ("request.path.contains(\"2/d\")", true),
        ("request.path.contains(\"3\")", false),
        ("request.method in [\"POST\"]", false),
        ("request.port in [442, 443]", true),
    ] {
        let policy = policy(&format!(
            "version: 1\nagents:\n  bot:\n    caps: {{ per_payment: 0.05, day: 1 }}\n    allow: [ {{ id: e, host: api.example }} ]\n    rules: [ {{ id: r, when: '{condition}', then: deny }} ]\n"
        ));
        let found = reasons(&Ask::default().of(&policy, vec![usdc(1)], &Books::default()));
        assert_eq!(found, if denied { vec![Reason::RuleDenied] } else { vec![] }, "{condition}");
    }
}

#[test]
fn a_time_of_day_has_two_digits_on_either_side() {
    for (time, read) in [
        ("09:00", true),
        ("24:00", true),
        ("9:00", false),
        ("+9:00", false),
        ("09:0", false),
        ("-1:00", false),
        ("24:01", false),
        ("009:00", false),
    ] {
        let found = told(&format!("agents: {{ bot: {{ hours: {{ to: \"{time}\" }} }} }}"));
        assert_eq!(found.is_empty(), read, "{time}: {found:?}");
    }
}

#[test]
fn a_host_with_something_around_it_says_what_to_write() {
    for (text, expected) in [
        ("https://a.example/x", "has a scheme: write only the host, such as a.example"),
        ("a.example/x", "has a path: write `host: a.example`"),
        ("a.example:443", "has a port: write `host: a.example` and `ports: [443]`"),
        ("[::1]:443", "has a port: write `host: \"::1\"` and `ports: [443]`"),
        ("a.example:", "is not a host"),
        ("a.example:x", "is not a host"),
        ("a.*.example", "a `*` stands only in front"),
        ("*.10.0.0.1", "a `*` stands only in front"),
    ] {
        let fault = HostPattern::parse(text).unwrap_err();
        assert!(fault.contains(expected), "{text}: {fault}");
    }
}
