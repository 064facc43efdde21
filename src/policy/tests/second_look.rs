//! M2.5: what a decision read of the books beside its limits is judged again when the amount is held.

use std::sync::Arc;

use super::*;

fn with_rules(rules: &str) -> Policy {
    policy(&format!(
        "version: 1
context: {{ confidence: decimal }}
approvers: {{ finance: {{}}, board: {{}} }}
agents:
  bot:
    caps: {{ per_payment: 1, day: 100 }}
    sessions: {{ max: 50 }}
    allow: [ {{ id: e, host: api.example }} ]
    rules: {rules}
"
    ))
}

fn history(count: u32, micro: i64) -> History {
    let price = MicroUsd::new(micro);
    History { count, median: price, last: price, first: (count > 0).then_some(price) }
}

fn session(micro: i64) -> Books {
    let scope = Scope::Session("bot".parse().unwrap(), "s".parse().unwrap());
    Books { postings: vec![(scope, NOW, micro)], ..Books::default() }
}

/// What is said at the hold of what was approved with empty books.
fn held(policy: &Policy, ask: &Ask, books: &Books, at: Timestamp) -> String {
    let approval = ask.of(policy, vec![usdc(50_000)], &Books::default()).verdict.unwrap();
    let said = approval.still_holds(books, at);
    said.map_or_else(|v| format!("{} {}", v.reason, v.rule.unwrap()), |()| "held".into())
}

#[test]
fn m2_5_a_condition_over_the_books_is_asked_again_at_the_hold() {
    let past = |h| Books { history: h, ..Books::default() };
    let day = |then: &str| format!("[ {{ id: r, when: 'spent.day + price.usd > usd(\"1\")', then: {then} }} ]");
    let of = |when: &str| format!("[ {{ id: r, when: '{when}', then: deny }} ]");
    let tomorrow = NOW.plus_secs(86_400);
    for (rules, books, at, expected) in [
        (day("deny"), Books::spent(950_000), NOW, "held"),
        (day("deny"), Books::spent(950_001), NOW, "rule_denied r"),
        (day("{ ask: finance }"), Books::spent(950_001), NOW, "approval_required r"),
        // The period that the amount is held in, not that of the decision.
        (day("deny"), Books::spent(950_001), tomorrow, "held"),
        (of("spent.day + price.usd > usd(\"1\")"), Books::spent(i64::MAX), NOW, "rule_error r"),
        (of("has(session.spent_usd) && session.spent_usd >= usd(\"1\")"), session(999_999), NOW, "held"),
        (of("has(session.spent_usd) && session.spent_usd >= usd(\"1\")"), session(1_000_000), NOW, "rule_denied r"),
        (of("has(session.remaining_usd) && session.remaining_usd < usd(\"49\")"), session(1_000_001), NOW, "rule_denied r"),
        (of("history.count >= 3 && price.usd > pct(history.median_usd, 150)"), past(history(3, 33_333)), NOW, "held"),
        (of("history.count >= 3 && price.usd > pct(history.median_usd, 150)"), past(history(3, 33_332)), NOW, "rule_denied r"),
        (of("has(history.first_usd) && price.usd > history.first_usd"), past(history(1, 49_999)), NOW, "rule_denied r"),
        // Only what payments change is asked again.
        (of("now > 1795262400"), Books::default(), NOW.plus_secs(1), "held"),
    ] {
        let ask = Ask { session: Some("s"), ..Ask::default() };
        assert_eq!(held(&with_rules(&rules), &ask, &books, at), expected, "{rules}");
    }
}

#[test]
fn m2_6_a_yes_of_people_covers_the_rule_that_they_were_asked_for_and_no_other() {
    let policy = with_rules(
        "[ { id: first, when: 'history.count == 0', then: { ask: finance } }, { id: second, when: 'spent.day > usd(\"1\")', then: { ask: finance } } ]",
    );
    let ask = Ask { granted: vec!["finance"], ..Ask::default() };
    assert_eq!(held(&policy, &ask, &Books::default(), NOW), "held");
    assert_eq!(held(&policy, &ask, &Books { history: history(1, 1), ..Books::default() }, NOW), "held");
    assert_eq!(held(&policy, &ask, &Books::spent(1_000_001), NOW), "approval_required second");
}

#[test]
fn m3_3_the_first_payee_that_is_bought_from_is_the_one_also_for_what_was_decided_before() {
    let pinned = |n: u8| Books { pins: vec![("e".into(), payee(n))], ..Books::default() };
    let policy = with_rules("[]");
    assert_eq!(held(&policy, &Ask::default(), &Books::default(), NOW), "held");
    assert_eq!(held(&policy, &Ask::default(), &pinned(0x11), NOW), "held");
    assert_eq!(held(&policy, &Ask::default(), &pinned(0x33), NOW), "payee_changed e");
    let any = allowing("[ { id: e, host: api.example, pay_to: any } ]");
    assert_eq!(held(&any, &Ask::default(), &pinned(0x33), NOW), "held");
}

#[test]
fn m2_4_a_session_as_it_was_issued_takes_up_to_its_limit_and_says_what_is_left() {
    let limits = |approval: &Approval| approval.checks().iter().filter(|c| c.reason == Reason::CapSession).count();
    let of = |name: Option<&'static str>, held: i64, max: i64| {
        let ask = Ask { session: name, held, ..Ask::default() };
        let approval = ask.of(&with_rules("[]"), vec![usdc(50_000)], &Books::default()).verdict.unwrap();
        let before = limits(&approval);
        approval.within_session(MicroUsd::new(max), &session(400_000)).map(|approval| limits(&approval) - before)
    };
    assert_eq!(of(Some("s"), 0, 450_000).unwrap(), 1, "checked again at the hold");
    assert_eq!(of(Some("s"), 20_000, 430_000).unwrap(), 1, "a hold counts once");
    assert_eq!(of(None, 0, 1).unwrap(), 0, "without a session");
    for (held, max, left) in [(0, 449_999, 49_999), (20_000, 429_999, 29_999), (0, 399_999, 0)] {
        let said = of(Some("s"), held, max).unwrap_err().violations.remove(0);
        assert_eq!((said.reason, &*said.rule.unwrap().0, said.amount), (Reason::CapSession, "session.max", Some(MicroUsd::new(50_000))));
        assert_eq!((said.limit, said.remaining), (Some(MicroUsd::new(max)), Some(MicroUsd::new(left))));
    }
}

#[test]
fn m1_7_so_many_paid_answers_lead_on_as_the_entry_says_and_one_more_is_refused() {
    let policy = allowing("[ { id: e, host: api.example, repeats: { paid_redirects: 2 } } ]");
    let of = |depth| Ask::default().of(&policy, vec![usdc(10)], &Books::default()).verdict.unwrap().within_chain(depth);
    assert!(of(0).is_ok() && of(2).is_ok());
    let said = of(3).unwrap_err().violations.remove(0);
    assert_eq!((said.reason, &*said.rule.unwrap().0, said.amount), (Reason::PaidRedirectLimit, "e", Some(MicroUsd::new(10))));
}

#[test]
fn m2_6_a_yes_is_used_for_the_question_it_answered_and_for_its_terms_alone() {
    let policy = with_rules(
        "[ { id: cheap, when: 'price.usd < usd(\"0.01\")', then: { ask: finance } }, { id: dear, when: 'price.usd >= usd(\"0.01\")', then: { ask: board } } ]",
    );
    let all = challenge(vec![usdc(10), Offer { index: 1, ..usdc(10_000) }]);
    for (groups, theirs, verdict, question, used) in [
        (vec!["finance"], true, Ok(0), false, true),
        (vec!["finance"], false, Err(Reason::ApprovalRequired), true, false),
        (vec![], true, Err(Reason::ApprovalRequired), true, false),
        (vec!["finance", "board"], true, Ok(0), false, true),
        // A yes that lets another offer pass than the one they saw lets none pass, and nobody is asked once more.
        (vec!["board"], true, Err(Reason::ApprovalRequired), false, true),
    ] {
        let names: Vec<Arc<str>> = groups.iter().map(|g| (*g).into()).collect();
        let (decision, was_used) = Ask::default().with(&policy, &all, &Books::default(), |input, _| {
            policy.decide(input, &all, &Books::default(), &names, |question| {
                assert_eq!(question.offer.index, 0, "the cheapest is asked about");
                theirs
            })
        });
        let said = decision.verdict.as_ref().map(|approval| approval.offer().index).map_err(Refusal::reason);
        assert_eq!((said, decision.question.is_some(), was_used), (verdict, question, used), "{groups:?} {theirs}");
    }
}
