//! A replay against the truth: a world in which the draft decided about the same requests.

use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::policy::ContextKeys;

/// A policy of every kind of limit that reads the books, with these numbers in cents and counts.
fn text(n: &[u32; 8]) -> String {
    let cents = |n: u32| format!("{}.{:02}", n / 100, n % 100);
    let [payment, hour, day, host, per_minute, team, each, median] = *n;
    // What could never be reached is a mistake of a policy.
    let (host, team, each) = (host.max(payment), team.max(payment), each.max(payment));
    let (payment, hour, day) = (cents(payment), cents(hour.max(payment)), cents(day.max(hour).max(payment)));
    let rules = format!(
        "[ {{ id: sure, when: 'has(ctx.confidence) && ctx.confidence < 0.5', then: deny }}, \
           {{ id: jump, when: 'history.count >= 2 && price.usd > pct(history.median_usd, {})', then: {{ ask: finance }} }}, \
           {{ id: much, when: 'spent.day > usd(\"{}\")', then: {{ ask: finance }} }} ]",
        100 + median,
        cents(team)
    );
    let agent = format!(
        "    caps: {{ per_payment: {payment}, hour: {hour}, day: {day}, rolling: {{ 2h: {day} }}, per_host_day: {}, per_payee_day: {day} }}\n    \
         rate: {{ per_minute: {per_minute}, per_hour: 30 }}\n    \
         allow: [ {{ id: one, host: one.example, networks: [\"eip155:8453\"], assets: [USDC], caps: {{ hour: {hour} }} }}, \
                  {{ id: rest, host: \"*.example\", networks: [\"eip155:8453\"], assets: [USDC], pay_to: any }} ]\n    rules: {rules}\n",
        cents(host)
    );
    format!(
        "version: 1\ncontext: {{ confidence: decimal, customer: text }}\napprovers: {{ finance: {{ may_exceed: [team] }} }}\n\
         agents:\n  a:\n{agent}  b:\n{agent}budgets:\n  - {{ name: team, limit: {}, window: day, agents: [a, b], over: ask }}\n  \
         - {{ name: each, limit: {}, window: hour, per: customer }}\n  - {{ name: all, limit: 50, window: month, agents: all }}\n",
        cents(team),
        cents(each)
    )
}

/// One request, and what becomes of it if it is bought.
#[derive(Clone, Debug)]
struct Event {
    gap: i64,
    agent: usize,
    host: usize,
    offers: Vec<(u64, u8)>,
    context: usize,
    yes: bool,
    fate: Option<What>,
}

fn event() -> impl Strategy<Value = Event> {
    let fate = prop_oneof![5 => Just(Some(What::Consumed)), 1 => Just(Some(What::Void)), 1 => Just(Some(What::Kept)), 1 => Just(None)];
    let offers = prop::collection::vec((1_u64..8, 0x11_u8..0x13), 1..3);
    let gap = prop_oneof![0_i64..5_000, 0_i64..900_000];
    (gap, 0..2_usize, 0..3_usize, offers, 0..4_usize, any::<bool>(), fate)
        .prop_map(|(gap, agent, host, offers, context, yes, fate)| Event { gap, agent, host, offers, context, yes, fate })
}

fn numbers() -> impl Strategy<Value = [u32; 8]> {
    [2_u32..9, 5..30, 10..80, 5..50, 1..6, 10..100, 5..40, 0..80]
}

/// A world: a policy in force and its books.
struct World {
    policy: Arc<Policy>,
    books: Logged,
}

impl World {
    fn of(numbers: &[u32; 8]) -> Self {
        let policy = policy(&text(numbers));
        Self { books: Logged::new(policy.members()), policy }
    }

    /// Decides and holds; the decision as a record.
    fn decide(&mut self, id: usize, mut record: Record, yes: &[Arc<str>]) -> Record {
        judge(&mut record, &self.policy, &self.books, yes);
        let verdict = record.judged.as_ref().unwrap().verdict.clone();
        if verdict.say == Say::Allow {
            record.purchase = Some(purchase(id));
            let case = Case::read(&record.to_row()).unwrap();
            self.books.paid(&purchase(id).to_string(), Bought::of(&case, &verdict).unwrap());
        }
        record
    }
}

fn record(event: &Event, now: Timestamp, keys: &ContextKeys) -> Record {
    let offers = event.offers.iter().enumerate().map(|(n, (cents, payee))| offer(n, cents * 10_000, *payee)).collect();
    let mut record = request(["a", "b"][event.agent], ["one.example", "two.example", "casino.test"][event.host], offers, now);
    let said = ["", "confidence=0.4", "confidence=0.9, customer=acme", "customer=other"][event.context];
    record.context = Context::parse([said.as_bytes()], keys);
    record
}

/// The log that a world writes, and what the draft's own world says to each decision in it.
fn run(live: &[u32; 8], draft: &[u32; 8], events: &[Event]) -> (Vec<Row>, Vec<Verdict>) {
    let (mut live, mut truth) = (World::of(live), World::of(draft));
    let keys = live.policy.context_keys().clone();
    let (mut rows, mut said, mut now) = (Vec::new(), Vec::new(), NOON);
    for (id, event) in events.iter().enumerate() {
        now = now.plus_millis(event.gap);
        let yes: &[Arc<str>] = if event.yes { &["finance".into()] } else { &[] };
        let lived = live.decide(id, record(event, now, &keys), yes);
        let granted = lived.judged.as_ref().unwrap().granted.clone();
        let other = truth.decide(id, record(event, now, &keys), &granted);
        said.push(other.judged.unwrap().verdict);
        rows.push(Row::Decision(decided(&lived)));
        match (&lived.purchase, event.fate) {
            (Some(_), Some(what)) => {
                let outcome = outcome(id, what, now);
                live.books.outcome(&outcome);
                truth.books.outcome(&outcome);
                rows.push(Row::Outcome(outcome));
            }
            (Some(_), None) => {}
            // What only the draft pays counts as delivered.
            (None, _) => truth.books.outcome(&outcome(id, What::Consumed, now)),
        }
    }
    (rows.into_iter().map(reread).collect(), said)
}

fn replay(numbers: &[u32; 8], rows: &[Row]) -> Report {
    let mut replay = Replay::new(policy(&text(numbers)), Vec::new(), 5);
    rows.iter().enumerate().for_each(|(n, row)| replay.step(&placed(n + 1, row.clone())).unwrap());
    replay.finish()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn the_policy_that_wrote_a_log_changes_nothing_wherever_the_log_begins(
        live in numbers(), events in prop::collection::vec(event(), 1..40), skip in 0..40_usize,
    ) {
        let (rows, _) = run(&live, &live, &events);
        let rest = &rows[skip.min(rows.len())..];
        let report = replay(&live, rest);
        prop_assert_eq!((report.changed, report.other_reason, report.guessed), (0, 0, 0), "{:?}", report.first);
        prop_assert_eq!(report.judged, rest.iter().filter(|r| matches!(r, Row::Decision(_))).count() as u64);
        prop_assert!(report.paid.values().all(|(paid, would)| paid == would));
    }

    #[test]
    fn a_draft_decides_in_a_replay_as_it_would_have_in_its_own_world(
        live in numbers(), draft in numbers(), events in prop::collection::vec(event(), 1..40),
    ) {
        let (rows, truth) = run(&live, &draft, &events);
        let draft = policy(&text(&draft));
        let (mut fold, mut books, mut truth) = (Fold::new(Arc::clone(&draft)), Logged::new(draft.members()), truth.into_iter());
        for row in &rows {
            match row {
                Row::Decision(row) => {
                    let judged = fold.step(row, &books).unwrap().unwrap();
                    let expected = truth.next().unwrap();
                    let strip = |v: &Verdict| {
                        let reasons: Vec<_> = v.reasons.iter().map(|w| (w.reason.clone(), w.rule.clone(), w.limit, w.remaining)).collect();
                        (v.say, v.entry.clone(), v.offer, v.micro, v.groups.clone(), reasons)
                    };
                    prop_assert_eq!(strip(&judged.draft), strip(&expected), "{:?}", row);
                    if let (Some(id), Some(paid)) = (&row.purchase, judged.paid) {
                        books.paid(id, paid);
                    }
                }
                Row::Outcome(outcome) => {
                    fold.outcome(outcome);
                    books.outcome(outcome);
                }
                Row::Refusals(_) => {}
            }
        }
    }
}

#[test]
fn the_strategies_reach_every_verdict() {
    use proptest::strategy::ValueTree as _;
    use proptest::test_runner::TestRunner;
    let mut runner = TestRunner::deterministic();
    let mut seen = std::collections::BTreeMap::new();
    let mut changed = 0;
    for _ in 0..40 {
        let mut draw = |strategy: &mut dyn FnMut(&mut TestRunner) -> Vec<Event>| strategy(&mut runner);
        let events = draw(&mut |r| prop::collection::vec(event(), 40).new_tree(r).unwrap().current());
        let live = numbers().new_tree(&mut runner).unwrap().current();
        let draft = numbers().new_tree(&mut runner).unwrap().current();
        let (rows, _) = run(&live, &draft, &events);
        for row in &rows {
            if let Row::Decision(row) = row {
                let verdict = row.verdict.as_ref().unwrap();
                *seen.entry((verdict.say, verdict.lead().to_owned())).or_insert(0) += 1;
            }
        }
        changed += replay(&draft, &rows).changed;
    }
    for lead in ["none", "cap_per_payment", "cap_hour", "cap_day", "rate_limited", "budget_exceeded", "rule_denied", "payee_changed"] {
        assert!(seen.keys().any(|(_, l)| l == lead), "{lead} never leads: {seen:?}");
    }
    assert!(seen.keys().any(|(say, _)| *say == Say::Ask) && changed > 50, "{changed} {seen:?}");
}
