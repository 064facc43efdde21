//! What counts as looser: everything that is not provably equal or tighter.

use super::*;

/// Says something in every place that is compared.
const BASE: &str = r#"version: 1
timezone: America/Lima
defaults: { unmatched: deny, pay_to: pinned, lifetime: 120s, hold: 20s }
context: { confidence: decimal, customer: text, extra: integer }
groups: { bots: { caps: { per_payment: 0.20, hour: 2, day: 10, rolling: { 24h: 9 } }, rate: { per_minute: 30 } } }
approvers: { finance: { quorum: 2, members: [ann, bob, eve], timeout: 10m, may_exceed: [team] }, boss: {} }
risk: { payee_change: { ask: finance }, paid_but_failed: { count: 3, within: 10m, then: freeze_host }, velocity: { times: 4 }, deny_payees: bad.payees, hook: { url: "env:HOOK", secret: "env:SECRET" } }
egress: { default: deny, allow: ["*.open.example"], deny: [shady.example] }
assets: [ { id: "eip155:137/erc20:0x3c499c542cEF5E3811e1192ce70d8cC03d5c3359", symbol: USDC, decimals: 6, eip712: { name: USD Coin, version: "2" }, usd: "1.00" } ]
agents:
  bot:
    group: bots
    caps: { per_host_day: 5, per_payee_day: 4 }
    hours: { days: mon-fri, from: "09:00", to: "17:00", holidays: [2026-12-25] }
    sessions: { required: true, max: 5.00, expires: 30m, open: 20 }
    allow:
      - { id: bureau, host: [api.bureau.example, "*.b.example"], methods: [GET, POST], paths: ["/v2/**"], ports: [443, 8443], networks: ["eip155:8453"], assets: [USDC], max: 0.15, lifetime: 60s, caps: { day: 3 }, repeats: { lost_hold: 15m, paid_redirects: 1 } }
      - { id: feed, host: feed.example, pay_to: ["0x1111111111111111111111111111111111111111", "0x2222222222222222222222222222222222222222"] }
      - { id: any, host: "*.example", pay_to: any, max: 0.01 }
    deny:
      - { id: casino, host: [casino.example, "*.casino.example"] }
      - { id: post, host: feed.example, methods: [POST], paths: ["/admin/**"] }
    rules:
      - { id: sure, when: '!has(ctx.confidence) || ctx.confidence <= 0.8', then: deny }
      - { id: dear, when: 'price.usd > usd("0.10")', then: { ask: finance } }
  idle: { group: bots }
budgets:
  - { name: team, limit: 500, window: month, agents: [bot, idle], over: ask }
  - { name: per-customer, limit: 25, window: day, per: customer }
  - { name: everything, limit: 2000, window: month, agents: all, hard: true }
"#;

fn read(text: &str, list: &str) -> Policy {
    let sources = [Source { name: "p.yaml".into(), text: text.into() }, Source { name: "bad.payees".into(), text: list.into() }];
    Policy::parse(&sources, 1).unwrap_or_else(|e| panic!("{e}\n{text}"))
}

const LIST: &str = "0x1111111111111111111111111111111111111111\n0x2222222222222222222222222222222222222222\n";

/// The places in which `BASE` with `from` written as `to` is looser than `BASE`.
fn changed(from: &str, to: &str) -> Vec<String> {
    assert_eq!(BASE.matches(from).count(), 1, "{from}");
    let new = read(&BASE.replace(from, to), LIST);
    new.looser_than(&read(BASE, LIST)).iter().map(|l| l.path.join(".")).collect()
}

#[test]
fn what_raises_loosens_or_cannot_be_compared_is_looser_and_says_where() {
    let mut wrong = Vec::new();
    for (from, to, place) in [
        ("per_payment: 0.20", "per_payment: 0.21", "agents.bot.caps.per_payment"),
        ("per_payment: 0.20, hour: 2", "per_payment: 0.20, hour: 2.000001", "agents.bot.caps.hour"),
        ("hour: 2, day: 10", "day: 10", "agents.bot.caps.hour"),
        ("rolling: { 24h: 9 }", "rolling: { 24h: 10 }", "agents.bot.caps.rolling.24h"),
        ("rolling: { 24h: 9 }", "rolling: { 12h: 1 }", "agents.bot.caps.rolling.24h"),
        ("per_minute: 30", "per_minute: 31", "agents.bot.rate.per_minute"),
        ("per_minute: 30", "per_hour: 1", "agents.bot.rate.per_minute"),
        ("per_host_day: 5", "per_host_day: 6", "agents.bot.caps.per_host_day"),
        (", per_payee_day: 4", "", "agents.bot.caps.per_payee_day"),
        ("    group: bots\n    caps: {", "    caps: { per_payment: 0.1, day: 1, hour: 1,", "agents.bot.caps.rolling.24h"),
        ("timezone: America/Lima", "timezone: UTC", "timezone"),
        ("unmatched: deny", "unmatched: { ask: finance }", "agents.bot"),
        ("pay_to: pinned", "pay_to: any", "agents.bot.allow.bureau.pay_to"),
        ("lifetime: 120s", "lifetime: 121s", "agents.bot.allow.feed.lifetime"),
        ("days: mon-fri", "days: mon-sat", "agents.bot.hours"),
        ("from: \"09:00\"", "from: \"08:59\"", "agents.bot.hours"),
        ("to: \"17:00\"", "to: \"24:00\"", "agents.bot.hours"),
        ("to: \"17:00\"", "to: \"08:00\"", "agents.bot.hours"),
        (", holidays: [2026-12-25]", "", "agents.bot.hours"),
        ("    hours: { days: mon-fri, from: \"09:00\", to: \"17:00\", holidays: [2026-12-25] }\n", "", "agents.bot.hours"),
        ("required: true, max", "max", "agents.bot.sessions.required"),
        ("max: 5.00", "max: 5.01", "agents.bot.sessions.max"),
        ("expires: 30m", "expires: 31m", "agents.bot.sessions.expires"),
        ("expires: 30m", "expires: 29m", "agents.bot.sessions.expires"),
        ("open: 20", "open: 21", "agents.bot.sessions.open"),
        ("    sessions: { required: true, max: 5.00, expires: 30m, open: 20 }\n", "", "agents.bot.sessions"),
        ("[api.bureau.example, ", "[api.bureau.example, other.net, ", "agents.bot.allow.bureau.host"),
        ("methods: [GET, POST], ", "", "agents.bot.allow.bureau.methods"),
        ("methods: [GET, POST], ", "methods: [GET, PUT], ", "agents.bot.allow.bureau.methods"),
        ("paths: [\"/v2/**\"]", "paths: [\"/**\"]", "agents.bot.allow.bureau.paths"),
        ("paths: [\"/v2/**\"], ", "", "agents.bot.allow.bureau.paths"),
        ("ports: [443, 8443]", "ports: [443, 8444]", "agents.bot.allow.bureau.ports"),
        ("networks: [\"eip155:8453\"]", "networks: [\"eip155:8453\", \"eip155:137\"]", "agents.bot.allow.bureau.networks"),
        ("max: 0.15", "max: 0.16", "agents.bot.allow.bureau.max"),
        ("max: 0.15, ", "", "agents.bot.allow.bureau.max"),
        ("lifetime: 60s", "lifetime: 61s", "agents.bot.allow.bureau.lifetime"),
        ("caps: { day: 3 }", "caps: { hour: 1 }", "agents.bot.allow.bureau.caps.day"),
        ("lost_hold: 15m", "lost_hold: 14m", "agents.bot.allow.bureau.repeats.lost_hold"),
        ("paid_redirects: 1", "paid_redirects: 2", "agents.bot.allow.bureau.repeats.paid_redirects"),
        ("max: 0.15", "max: 0.15, plain_http: true", "agents.bot.allow.bureau.plain_http"),
        ("max: 0.15", "max: 0.15, allow_zero: true", "agents.bot.allow.bureau.allow_zero"),
        ("max: 0.15", "max: 0.15, flows: [authorization, upfront]", "agents.bot.allow.bureau.flows"),
        ("host: feed.example, pay_to", "host: feed.example, networks: [\"eip155:84532\"], pay_to", "agents.bot.allow.feed.networks"),
        (
            "\"0x2222222222222222222222222222222222222222\"]",
            "\"0x3333333333333333333333333333333333333333\"]",
            "agents.bot.allow.feed.pay_to",
        ),
        ("{ id: any, ", "{ id: more, ", "agents.bot.allow.more"),
        (
            "{ id: any, host: \"*.example\", pay_to: any, max: 0.01 }",
            "{ id: any, host: \"*\", any_host: true, max: 0.01 }",
            "agents.bot.allow.any.host",
        ),
        // What an entry no longer takes falls to the next one.
        ("[api.bureau.example, \"*.b.example\"]", "api.bureau.example", "agents.bot.allow.bureau"),
        (
            "      - { id: feed, host: feed.example, pay_to: [\"0x1111111111111111111111111111111111111111\", \"0x2222222222222222222222222222222222222222\"] }\n",
            "",
            "agents.bot.allow.feed",
        ),
        ("casino.example, \"*.casino.example\"", "casino.example", "agents.bot.deny.casino"),
        ("      - { id: casino, host: [casino.example, \"*.casino.example\"] }\n", "", "agents.bot.deny.casino"),
        ("paths: [\"/admin/**\"]", "paths: [\"/admin/x/**\"]", "agents.bot.deny.post"),
        ("methods: [POST], paths", "methods: [PUT], paths", "agents.bot.deny.post"),
        ("{ id: post, host: feed.example, ", "{ id: post, host: feed.example, assets: [USDC], ", "agents.bot.deny.post"),
        ("ctx.confidence <= 0.8", "ctx.confidence < 0.8", "agents.bot.rules.sure"),
        ("ctx.confidence <= 0.8', then: deny", "ctx.confidence <= 0.8', then: { ask: finance }", "agents.bot.rules.sure"),
        ("price.usd > usd(\"0.10\")', then: { ask: finance }", "price.usd > usd(\"0.10\")', then: { ask: boss }", "agents.bot.rules.dear"),
        ("      - { id: dear, when: 'price.usd > usd(\"0.10\")', then: { ask: finance } }\n", "", "agents.bot.rules.dear"),
        ("  idle: { group: bots }", "  idle: { group: bots, allow: [ { host: x.example } ] }", "agents.idle.allow.x.example"),
        ("  idle: { group: bots }", "  idle: { group: bots }\n  new: { group: bots, allow: [ { host: x.example } ] }", "agents.new"),
        ("extra: integer", "extra: flag", "context.extra"),
        (", extra: integer", "", "context.extra"),
        ("limit: 500", "limit: 501", "budgets.team.limit"),
        ("limit: 500, window: month", "limit: 500, window: week", "budgets.team.window"),
        ("agents: [bot, idle]", "agents: [idle]", "budgets.team.agents"),
        (
            "agents: all, hard: true }",
            "agents: [bot, idle], hard: true }\n  - { name: outer, limit: 9, window: day, agents: all }",
            "budgets.everything.agents",
        ),
        ("  - { name: per-customer, limit: 25, window: day, per: customer }\n", "", "budgets.per-customer"),
        ("boss: {}", "boss: { may_exceed: [team] }", "budgets.team.over"),
        ("quorum: 2", "quorum: 1", "approvers.finance.quorum"),
        ("members: [ann, bob, eve], ", "", "approvers.finance.members"),
        ("members: [ann, bob, eve]", "members: [ann, bob, joe]", "approvers.finance.members"),
        ("timeout: 10m", "timeout: 11m", "approvers.finance.timeout"),
        ("payee_change: { ask: finance }", "payee_change: { ask: boss }", "risk.payee_change"),
        ("paid_but_failed: { count: 3", "paid_but_failed: { count: 4", "risk.paid_but_failed.count"),
        ("within: 10m", "within: 9m", "risk.paid_but_failed.within"),
        ("then: freeze_host", "then: freeze_agent", "risk.paid_but_failed.then"),
        ("velocity: { times: 4 }", "velocity: off", "risk.velocity"),
        ("velocity: { times: 4 }", "velocity: { times: 5 }", "risk.velocity.times"),
        ("velocity: { times: 4 }", "velocity: { times: 4 }, retry_loop: off", "risk.retry_loop"),
        ("deny_payees: bad.payees, ", "", "risk.deny_payees"),
        ("url: \"env:HOOK\"", "url: \"env:OTHER\"", "risk.hook"),
        ("egress: { default: deny", "egress: { default: allow", "egress.default"),
        ("\"*.open.example\"", "\"*.open.example\", x.example", "egress.allow"),
        ("deny: [shady.example]", "deny: [other.example]", "egress.deny"),
        (
            "usd: \"1.00\" } ]",
            "usd: \"1.00\" }, { id: \"eip155:137/erc20:0x00000000000000000000000000000000000000aa\", symbol: GOLD, decimals: 6, eip712: { name: Gold, version: \"1\" }, usd: \"1.00\" } ]",
            "assets",
        ),
        ("decimals: 6, eip712: { name: USD Coin", "decimals: 7, eip712: { name: USD Coin", "assets"),
    ] {
        let found = changed(from, to);
        if found.first().map(String::as_str) != Some(place) {
            wrong.push(format!("{from} → {to}: {place}, not {found:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_is_equal_or_tighter_is_not_looser() {
    for (from, to) in [
        ("version: 1\n", "version: 1 # a comment\n"),
        ("per_payment: 0.20, hour: 2", "per_payment: 0.2, hour: 1.999999"),
        ("hour: 2, day: 10", "hour: 2, day: 10, week: 30"),
        ("rolling: { 24h: 9 }", "rolling: { 24h: 8, 12h: 7 }"),
        ("per_minute: 30", "per_minute: 29, per_hour: 100"),
        ("lifetime: 120s, hold: 20s", "lifetime: 119s, hold: 60s, refusal_body: seller"),
        ("days: mon-fri, from: \"09:00\", to: \"17:00\"", "days: mon-thu, from: \"09:01\", to: \"16:59\""),
        ("holidays: [2026-12-25]", "holidays: [2026-12-25, 2027-01-01]"),
        ("max: 5.00, expires: 30m, open: 20", "max: 4.99, expires: 30m, open: 19"),
        ("methods: [GET, POST], paths: [\"/v2/**\"], ports: [443, 8443]", "methods: [POST, GET], paths: [\"/v2/**\"], ports: [8443, 443]"),
        ("max: 0.15, lifetime: 60s, caps: { day: 3 }", "max: 0.14, lifetime: 59s, caps: { day: 2.5, hour: 1 }"),
        ("lost_hold: 15m, paid_redirects: 1", "lost_hold: 16m, paid_redirects: 0"),
        // The last entry: nothing is below it.
        ("{ id: any, host: \"*.example\", pay_to: any, max: 0.01 }", "{ id: any, host: x.example, paths: [/a], max: 0.01 }"),
        ("      - { id: any, host: \"*.example\", pay_to: any, max: 0.01 }\n", ""),
        ("[casino.example, \"*.casino.example\"]", "[casino.example, \"*.casino.example\", x.example]"),
        (
            "- { id: post, host: feed.example, methods: [POST], paths: [\"/admin/**\"] }",
            "- { id: all, host: \"*.example\", paths: [\"/admin/**\"] }",
        ),
        ("    rules:\n", "    rules:\n      - { id: more, when: 'price.usd > usd(\"0.15\")', then: deny }\n"),
        ("price.usd > usd(\"0.10\")', then: { ask: finance }", "price.usd > usd(\"0.1\")', then: deny"),
        ("context: {", "context: { more: text,"),
        ("limit: 500", "limit: 499"),
        ("limit: 25, window: day, per: customer", "limit: 25, window: day, agents: all"),
        ("budgets:\n", "budgets:\n  - { name: new, limit: 1, window: day, agents: all, over: ask }\n"),
        ("over: ask", "over: deny"),
        ("hard: true", "hard: false"),
        ("quorum: 2, members: [ann, bob, eve], timeout: 10m", "quorum: 2, members: [ann, bob], timeout: 9m"),
        ("boss: {}", "boss: { quorum: 2 }, third: {}"),
        ("payee_change: { ask: finance }", "payee_change: deny"),
        ("paid_but_failed: { count: 3, within: 10m", "paid_but_failed: { count: 2, within: 11m"),
        ("velocity: { times: 4 }", "velocity: { times: 3 }"),
        ("allow: [\"*.open.example\"], deny: [shady.example]", "allow: [x.open.example], deny: [shady.example, \"*.shady.example\"]"),
        ("  idle: { group: bots }", "  idle: { group: bots }\n  new: { group: bots }"),
    ] {
        assert_eq!(changed(from, to), Vec::<String>::new(), "{from} → {to}");
    }
    let (one, more) = (read(BASE, LIST), read(BASE, &format!("{LIST}0x3333333333333333333333333333333333333333\n")));
    assert!(more.looser_than(&one).is_empty());
    assert_eq!(one.looser_than(&more)[0].to_string(), "risk.deny_payees: somebody is no longer on a list");
    assert!(Policy::empty().looser_than(&policy("version: 1\nagents: {}\n")).is_empty());
}

#[test]
fn entries_that_change_places_are_looser() {
    let list = |ids: &[&str]| {
        let all: Vec<String> = ids.iter().map(|id| format!("{{ id: {id}, host: {id}.example }}")).collect();
        allowing(&format!("[ {} ]", all.join(", ")))
    };
    let places = |new: &[&str]| list(new).looser_than(&list(&["a", "b", "c"])).iter().map(ToString::to_string).collect::<Vec<_>>();
    assert!(places(&["a", "b", "c"]).is_empty() && places(&["b"]).is_empty() && places(&["a", "c"]).is_empty());
    let text = "agents.bot.allow.a: stands in another order, and the first that takes a request decides";
    assert_eq!(places(&["b", "a", "c"]), [text]);
}

#[test]
fn a_co_signers_policy_is_compared_as_well() {
    let base = "version: 1
caps: { wallet: { day: 100 }, payee: { day: 20 }, identity: { day: 50 } }
unverified: { per_payment: 0.05, day: 1 }
live: 10
approvers: { ann: { keys: [\"MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE\"], may_exceed: [caps.day] } }
agents:
  bot:
    caps: { per_payment: 1, day: 10 }
    allow: [ { id: a, host: api.example, probe: true }, { id: b, host: b.example } ]
";
    let base = base.replace("QgAE\"", &format!("QgAE{}==\"", "A".repeat(86)));
    let read = |text: &str| {
        Policy::parse_for_cosigner(&[Source { name: "p".into(), text: text.into() }], 1).unwrap_or_else(|e| panic!("{e}\n{text}"))
    };
    for (from, to, place) in [
        ("wallet: { day: 100 }", "wallet: { day: 101 }", "caps.wallet.day"),
        (", identity: { day: 50 }", "", "caps.identity.day"),
        ("per_payment: 0.05, day: 1 }", "per_payment: 0.06, day: 1 }", "unverified.per_payment"),
        ("live: 10\n", "", "live"),
        ("live: 10\n", "live: 11\n", "live"),
        ("may_exceed: [caps.day]", "may_exceed: [caps.day, caps.hour]", "approvers.ann"),
        ("{ ann:", "{ eve:", "approvers.eve"),
        (", probe: true", "", "agents.bot.allow.a"),
        ("host: b.example", "host: b.example, probe: true", "agents.bot.allow.b"),
        ("unverified: { per_payment: 0.05, day: 1 }\n", "", ""),
        ("live: 10\n", "live: 9\n", ""),
    ] {
        assert_eq!(base.matches(from).count(), 1, "{from}");
        let text = base.replace(from, to);
        // Without that budget the entry that nothing proves would not load.
        let text = if text.contains("unverified") { text } else { text.replace(", { id: b, host: b.example }", "") };
        let found = read(&text).looser_than(&read(&base));
        assert_eq!(found.first().map(|l| l.path.join(".")).unwrap_or_default(), place, "{from} → {to}: {found:?}");
    }
    assert!(!read(&base).looser_than(&policy("version: 1\nagents: {}\n")).is_empty(), "a policy of another kind");
}

#[test]
fn a_finding_shows_the_line_or_what_is_left_of_it() {
    let sources = |text: &str| [Source { name: "p.yaml".into(), text: text.into() }];
    let shown = |from: &str, to: &str| {
        let text = BASE.replace(from, to);
        read(&text, LIST).looser_than(&read(BASE, LIST))[0].shown_in(&sources(&text))
    };
    assert_eq!(shown("max: 0.15", "max: 0.16"), "p.yaml:17:175: agents.bot.allow.bureau.max: raised from 0.15 to 0.16");
    assert_eq!(
        shown("      - { id: casino, host: [casino.example, \"*.casino.example\"] }\n", ""),
        "p.yaml:21:7: agents.bot.deny.casino: the deny entry is gone"
    );
    assert_eq!(shown("per_minute: 30", "per_minute: 31"), "p.yaml:12:5: agents.bot.rate.per_minute: raised from 30 to 31");
}
