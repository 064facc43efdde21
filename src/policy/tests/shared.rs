//! Shared budgets, caps per host, payee and session, and questions to people (M2.6, M3.4, M3.7).

use super::*;

const HEAD: &str = "version: 1
context: { customer: text }
approvers:
  finance: { may_exceed: [team], timeout: 5m }
  board: { quorum: 2, timeout: 1h }
agents:
  bot:
    caps: { per_payment: 1, day: 10, per_host_day: 2, per_payee_day: 3 }
    sessions: { max: 1.5 }
    allow: [ { id: e, host: [api.example, b.example] } ]
  other: { caps: { per_payment: 1, day: 10 }, allow: [ { host: api.example } ] }
";

fn with(rest: &str) -> Policy {
    policy(&format!("{HEAD}{rest}"))
}

fn bot() -> AgentId {
    "bot".parse().unwrap()
}

fn having(scope: Scope, micro: i64) -> Books {
    Books { postings: vec![(scope, NOW, micro)], ..Books::default() }
}

fn team() -> Scope {
    Scope::Shared(Members::of(["other".parse().unwrap(), bot()]), None)
}

#[test]
fn m2_1_caps_of_host_payee_session_and_budget_are_inclusive() {
    let policy = with(
        "budgets: [ { name: team, limit: 5, window: month, agents: [bot, other] }, { name: all, limit: 7, window: total, agents: all } ]\n",
    );
    let host = Scope::Host(bot(), "api.example".into());
    let session = Scope::Session(bot(), "s".parse().unwrap());
    for (scope, limit, reason, rule) in [
        (host, 2_000_000, Reason::CapHost, "caps.per_host_day"),
        (Scope::AgentPayee(bot(), payee(0x11)), 3_000_000, Reason::CapAgentPayee, "caps.per_payee_day"),
        (session, 1_500_000, Reason::CapSession, "session.max"),
        (team(), 5_000_000, Reason::BudgetExceeded, "budget:team"),
        (Scope::Shared(Members::ALL, None), 7_000_000, Reason::BudgetExceeded, "budget:all"),
    ] {
        let ask = Ask { session: Some("s"), ..Ask::default() };
        let fits = ask.of(&policy, vec![usdc(10)], &having(scope.clone(), limit - 10));
        let approval = fits.verdict.unwrap();
        let check = approval.checks().iter().find(|c| c.scope == scope).unwrap_or_else(|| panic!("{rule}"));
        assert_eq!((check.limit, check.reason, &*check.rule.0), (Limit::Spend(MicroUsd::new(limit)), reason, rule));
        let over = ask.of(&policy, vec![usdc(10)], &having(scope, limit - 9)).verdict.unwrap_err();
        assert_eq!(over.violations.len(), 1, "{rule}: {over:?}");
        let said = &over.violations[0];
        assert_eq!((said.reason, &*said.rule.as_ref().unwrap().0, said.remaining), (reason, rule, Some(MicroUsd::new(9))));
    }
}

#[test]
fn m2_1_a_rolling_cap_counts_the_last_hours() {
    let policy = policy(
        "version: 1\nagents:\n  bot: { caps: { per_payment: 1, rolling: { 24h: 5, 1h: 2 } }, allow: [ { id: e, host: api.example } ] }\n",
    );
    let spent =
        |ago_s: i64, micro: i64| Books { postings: vec![(Scope::Agent(bot()), NOW.plus_millis(-1000 * ago_s), micro)], ..Books::default() };
    let of = |books: &Books| reasons(&Ask::default().of(&policy, vec![usdc(10)], books));
    assert_eq!(of(&spent(10, 1_999_990)), []);
    assert_eq!(of(&spent(10, 1_999_991)), [Reason::CapRolling]);
    assert_eq!(of(&spent(3599, 2_000_000)), [Reason::CapRolling], "the bucket of an hour ago has not left");
    assert_eq!(of(&spent(3660, 4_999_990)), []);
    assert_eq!(of(&spent(3661, 4_999_991)), [Reason::CapRolling]);
    assert_eq!(of(&spent(24 * 3600 + 24 * 60, 9_000_000)), [], "NOW lies on a bucket's edge, so what is older has left");
}

#[test]
fn m2_6_over_budget_asks_only_where_the_budget_and_a_group_say_so() {
    let text = |more: &str| format!("budgets: [ {{ name: team, limit: 5, window: month, agents: [bot, other]{more} }} ]\n");
    let full = having(team(), 5_000_000);
    for (more, granted, expected) in [
        ("", vec![], "deny"),
        ("", vec!["finance"], "deny"),
        (", over: ask", vec![], "ask"),
        (", over: ask", vec!["board"], "ask"),
        (", over: ask", vec!["finance"], "allow"),
        (", over: deny", vec!["finance"], "deny"),
        (", hard: true", vec!["finance"], "deny"),
    ] {
        let decision = Ask { granted: granted.clone(), ..Ask::default() }.of(&with(&text(more)), vec![usdc(10)], &full);
        let verdict = match (&decision.verdict, &decision.question) {
            (Ok(_), None) => "allow",
            (Err(_), Some(_)) => "ask",
            (Err(_), None) => "deny",
            (Ok(_), Some(_)) => "both",
        };
        assert_eq!(verdict, expected, "{more} {granted:?}");
        if let Ok(approval) = decision.verdict {
            assert!(approval.granted());
            assert!(approval.checks().iter().all(|c| c.scope != team()), "the ledger must not refuse what people allowed");
        }
    }
    // A yes does not lift a limit that was not in the way when it was asked.
    let fits = Ask { granted: vec!["finance"], ..Ask::default() }.of(&with(&text(", over: ask")), vec![usdc(10)], &Books::default());
    assert!(fits.verdict.unwrap().checks().iter().any(|c| c.scope == team()));
}

#[test]
fn m3_4_asks_are_united_and_a_deny_beats_them() {
    let policy = policy(
        "version: 1
defaults: { hold: 7s, unmatched: { ask: board } }
approvers: { finance: { may_exceed: [team], timeout: 5m }, board: { timeout: 1h } }
risk: { payee_change: { ask: board } }
agents:
  bot: { caps: { per_payment: 1, day: 10 }, allow: [ { id: e, host: api.example } ] }
budgets: [ { name: team, limit: 5, window: month, agents: [bot], over: ask } ]
",
    );
    let books = Books {
        postings: vec![(Scope::Shared(Members::of([bot()]), None), NOW, 5_000_000)],
        pins: vec![("e".into(), payee(0x22))],
        ..Books::default()
    };
    let decision = Ask::default().of(&policy, vec![usdc(10)], &books);
    assert_eq!(reasons(&decision), [Reason::PayeeChanged, Reason::BudgetExceeded]);
    let question = decision.question.unwrap();
    let asks: Vec<_> = question.asks.iter().map(|a| (&*a.rule.0, a.any_of.join(","), a.exceeds)).collect();
    assert_eq!(asks, [("e", "board".into(), false), ("budget:team", "finance".into(), true)]);
    assert_eq!((question.hold.as_secs(), question.timeout.as_secs()), (7, 300), "the shortest timeout wins");
    let one = Ask { granted: vec!["board"], ..Ask::default() }.of(&policy, vec![usdc(10)], &books);
    assert_eq!(one.question.unwrap().asks.len(), 1);
    let both = Ask { granted: vec!["finance", "board"], ..Ask::default() }.of(&policy, vec![usdc(10)], &books);
    assert!(both.verdict.is_ok() && both.question.is_none());
    let dear = Ask::default().of(&policy, vec![usdc(1_000_001)], &books);
    assert!(dear.question.is_none(), "deny > ask");
    assert_eq!(reasons(&dear), [Reason::CapPerPayment, Reason::PayeeChanged, Reason::BudgetExceeded]);
    // A cheaper offer that needs nobody ranks before a still cheaper one that does.
    let pinned = Offer { payee: payee(0x22), ..offer(1, BASE_USDC, 500) };
    let free = Books { pins: vec![("e".into(), payee(0x22))], ..Books::default() };
    assert_eq!(Ask::default().of(&policy, vec![usdc(10), pinned], &free).verdict.unwrap().offer().index, 1);
}

#[test]
fn what_no_entry_takes_can_be_put_to_people() {
    let policy = policy(
        "version: 1
defaults: { unmatched: { ask: board } }
approvers: { board: {} }
agents:
  bot: { caps: { per_payment: 1, day: 10 }, allow: [ { id: e, host: api.example } ], deny: [ { host: casino.example } ] }
",
    );
    for (url, granted, expected) in [
        ("https://else.example/x", vec![], vec![Reason::ApprovalRequired]),
        ("https://else.example/x", vec!["board"], vec![]),
        ("http://else.example/x", vec!["board"], vec![Reason::NotAllowed]),
        ("https://casino.example/x", vec!["board"], vec![Reason::Denied]),
    ] {
        let decision = Ask { granted: granted.clone(), ..Ask::url(url) }.of(&policy, vec![usdc(10)], &Books::default());
        assert_eq!(reasons(&decision), expected, "{url} {granted:?}");
        assert_eq!(decision.question.is_some(), expected == [Reason::ApprovalRequired], "{url}");
    }
    let testnet = Ask { granted: vec!["board"], ..Ask::url("https://else.example/x") };
    assert_eq!(reasons(&testnet.of(&policy, vec![offer(0, SEPOLIA_USDC, 1)], &Books::default())), [Reason::NotAllowed]);
}

#[test]
fn m2_4_a_rule_reads_what_is_left_of_a_session_as_it_was_issued_or_ruled_whichever_is_less() {
    let rule = "rules: [ { id: last, when: 'has(session.remaining_usd) && session.remaining_usd < usd(\"0.50\")', then: deny } ]";
    let head = HEAD.replace("sessions: { max: 1.5 }", &format!("sessions: {{ max: 1.5 }}\n    {rule}"));
    let policy = policy(&format!("{head}budgets: [ {{ name: team, limit: 5, window: month, agents: all, over: ask }} ]\n"));
    let spent = having(Scope::Session(bot(), "s".parse().unwrap()), 400_000);
    for (issued, speaks) in [(None, false), (Some(2_000_000), false), (Some(900_000), false), (Some(899_999), true)] {
        let ask = Ask { session: Some("s"), session_max: issued, ..Ask::default() };
        let verdict = ask.of(&policy, vec![usdc(10)], &spent).verdict;
        assert_eq!(verdict.is_err_and(|refusal| refusal.violations[0].reason == Reason::RuleDenied), speaks, "{issued:?}");
    }
}

#[test]
fn m2_4_a_required_session_is_a_gate_and_a_frozen_agent_too() {
    let budget = "budgets: [ { name: team, limit: 5, window: month, agents: [bot], over: ask } ]\n";
    let policy = with(budget);
    let required = format!("{HEAD}{budget}").replace("sessions: { max: 1.5 }", "sessions: { required: true }");
    assert_eq!(reasons(&Ask::default().of(&super::policy(&required), vec![usdc(1)], &Books::default())), [Reason::SessionRequired]);
    let stopped = Stopped { by: "operator".into(), why: "test".into(), at: NOW };
    let frozen = |standing: Standing| Books { standing, ..Books::default() };
    for (standing, reason) in [
        (Standing { killed: Some(stopped.clone()), ..Standing::default() }, Reason::Killed),
        (Standing { agents: [("bot".into(), stopped.clone())].into(), ..Standing::default() }, Reason::AgentFrozen),
        (Standing { hosts: [("api.example".into(), stopped.clone())].into(), ..Standing::default() }, Reason::HostFrozen),
    ] {
        assert_eq!(reasons(&Ask::default().of(&policy, vec![usdc(1)], &frozen(standing))), [reason]);
    }
    let others =
        Standing { agents: [("other".into(), stopped.clone())].into(), hosts: [("b.example".into(), stopped)].into(), killed: None };
    assert_eq!(reasons(&Ask::default().of(&policy, vec![usdc(1)], &frozen(others))), []);
}

#[test]
fn budgets_and_groups_are_checked_against_each_other() {
    let errors = |text: &str| {
        let source = Source { name: "p".into(), text: format!("version: 1\n{text}") };
        Policy::parse(&[source], 1).map_or_else(
            |e| e.0.iter().map(|e| e.message.clone()).collect(),
            |p| p.warnings().iter().filter(|w| !w.message.contains("no allow entry")).map(|w| w.message.clone()).collect::<Vec<_>>(),
        )
    };
    for (text, expected) in [
        (
            "budgets: [ { name: a, limit: 1, window: day, agents: [bot] } ]",
            "budgets.a.agents: there is no agent `bot`: add it under `agents`, or remove it here",
        ),
        (
            "budgets: [ { name: a, limit: 1, window: fortnight, agents: all } ]",
            "budgets.a.window: \"fortnight\" is not a window: write hour, day, week, month or total",
        ),
        (
            "budgets: [ { name: a, limit: 1, window: day, agents: bot } ]",
            "budgets.a.agents: write `all`, or a list of agents such as [research-bot, pricing-bot]",
        ),
        ("budgets: [ { name: a, limit: 1, window: day } ]", "budgets: `agents` is missing: write `agents: all`, or a list of agents"),
        (
            "budgets: [ { name: a, limit: 1, window: day, agents: all }, { name: a, limit: 1, window: day, agents: all } ]",
            "budgets: the name `a` stands at line 2 already: give each budget its own",
        ),
        (
            "context: { customer: text }\nbudgets: [ { name: a, limit: 1, window: day, per: customer } ]",
            "budgets.a: the agent names the customer, so a new name is new money: add a budget with `agents: all` and no `per` around it",
        ),
        (
            "budgets: [ { name: a, limit: 1, window: day, agents: all, over: ask } ]",
            "budgets.a.over: no group of `approvers` names it in `may_exceed`, so nobody can say yes and it denies",
        ),
        (
            "budgets: [ { name: a, limit: 1, window: day, agents: all, over: ask, hard: true } ]",
            "budgets.a.over: nobody may exceed a hard budget: remove `over: ask`, or `hard: true`",
        ),
        ("approvers: { f: { may_exceed: [a] } }", "approvers.f.may_exceed: there is no budget `a`; none is defined"),
        (
            "approvers: { f: { webhook: { url: env:HOOK } } }",
            "approvers.f.webhook: `secret` is missing: write `secret: env:APPROVAL_SECRET` or file:PATH",
        ),
        (
            "approvers: { f: { webhook: { url: \"https://hooks.example/T0/key\", secret: env:S } } }",
            "approvers.f.webhook.url: write `url: env:APPROVAL_HOOK` or file:PATH",
        ),
        (
            "approvers: { f: { second_factor: {} } }",
            "approvers.f.second_factor: `above` is missing: write `second_factor: { above: 10.00 }`, or 0 for every yes",
        ),
        (
            "approvers: { f: { second_factor: { above: much } } }",
            "approvers.f.second_factor.above: \"much\" is not an amount of US dollars: write digits with at most six decimals, such as 5 or 0.05 (no sign, exponent, $ or thousands mark)",
        ),
        (
            "approvers: { f: { may_exceed: [a] } }\nbudgets: [ { name: a, limit: 1, window: day, agents: all } ]",
            "approvers.f.may_exceed: `a` has no effect: the budget does not say `over: ask`",
        ),
        (
            "defaults: { unmatched: { ask: g } }",
            "defaults.unmatched.ask: there is no group `g` of approvers; none is defined: add it under `approvers`",
        ),
        ("risk: { payee_change: ask }", "risk.payee_change: \"ask\": write deny, or `{ ask: GROUP }` with a group of `approvers`"),
        (
            "agents: { bot: { hours: { days: someday } } }",
            "hours.days: \"someday\" is not a day: write mon, tue, wed, thu, fri, sat, sun, or a stretch such as mon-fri",
        ),
        (
            "agents: { bot: { hours: { from: \"9\" } } }",
            "hours.from: \"9\" is not a time of day: write it as \"09:00\", from \"00:00\" to \"24:00\"",
        ),
        ("agents: { bot: { hours: { holidays: [25.12.] } } }", "hours.holidays: \"25.12.\" is not a date: write it as 2026-12-25"),
        (
            "agents: { bot: { caps: { rolling: { 90m: 5 } } } }",
            "caps.rolling: \"90m\" is not a length: write whole hours or days up to 30d, such as `24h`",
        ),
        (
            "agents: { bot: { caps: { per_payment: 3, rolling: { 24h: 2 } } } }",
            "caps.per_payment 3.00 is above caps.rolling.24h 2.00, so it could never be reached: lower it to 2.00 or less, or raise caps.rolling.24h",
        ),
        (
            "agents: { bot: { caps: { per_payment: 3, per_host_day: 2 } } }",
            "caps.per_payment 3.00 is above caps.per_host_day 2.00, so it could never be reached: lower it to 2.00 or less, or raise caps.per_host_day",
        ),
    ] {
        assert!(errors(text).contains(&expected.to_owned()), "{text}\n{:#?}", errors(text));
    }
}
