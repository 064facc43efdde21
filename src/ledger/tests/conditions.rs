//! No interleaving spends past a condition (M2.5): rules that read counters and history have no limit that the ledger could compare,
//! so it asks them again under its lock. An approval without that second look fails the same checks.

use std::panic::{AssertUnwindSafe, catch_unwind};

use shuttle::scheduler::{PctScheduler, RandomScheduler, Scheduler};
use shuttle::sync::Mutex;
use shuttle::thread;

use super::*;
use crate::payment::Challenge;
use crate::policy::{Context, Host, Input, Policy, Source};

/// Caps that nothing reaches: only the rules stand in the way.
fn policy() -> Arc<Policy> {
    let text = "version: 1
agents:
  bot:
    caps: { per_payment: 1, day: 1000 }
    sessions: { max: 100 }
    allow: [ { id: e, host: api.example, pay_to: any } ]
    rules:
      - { id: day, when: 'spent.day + price.usd > usd(\"5\")', then: deny }
      - { id: session, when: 'has(session.spent_usd) && session.spent_usd + price.usd > usd(\"2\")', then: deny }
      - { id: jump, when: 'has(history.first_usd) && price.usd > pct(history.first_usd, 150)', then: deny }
";
    Policy::parse(&[Source { name: "p".into(), text: text.into() }], 1).unwrap().into()
}

#[derive(Default)]
struct Shop {
    books: Mutex<Books>,
    /// Approvals are looked at once.
    careless: bool,
}

const CHEAP: i64 = 400_000;
const DEAR: i64 = 700_000;

fn bot() -> AgentId {
    "bot".parse().unwrap()
}

fn in_session() -> Scope {
    Scope::Session(bot(), "s".parse().unwrap())
}

impl Shop {
    fn decide(&self, policy: &Policy, price: i64, session: bool) -> Option<Approval> {
        let (agent, name) = (bot(), "s".parse().unwrap());
        let challenge = Challenge { protocol: ProtocolId::X402V2, offers: vec![offer(price)], rejected: vec![], error: None };
        let input = Input {
            agent: &agent,
            session: session.then_some(&name),
            method: &http::Method::GET,
            https: true,
            host: &Host::parse("api.example").unwrap(),
            port: 443,
            path: "/",
            payer: Payer(Address::repeat_byte(0xaa)),
            now: T0,
            held: MicroUsd::ZERO,
            context: &Context::default(),
            granted: &[],
            bound_to: None,
            session_max: None,
        };
        policy.evaluate(&input, &challenge, &*self.books.lock().unwrap()).verdict.ok()
    }

    /// One request; like the treasurer it decides again when its approval is stale. Answers what it paid.
    fn request(&self, policy: &Policy, n: u64) -> Option<i64> {
        let (price, session) = if n.is_multiple_of(3) { (CHEAP, n.is_multiple_of(2)) } else { (DEAR, n % 2 == 1) };
        for _ in 0..3 {
            let approval = self.decide(policy, price, session)?;
            let approval = if self.careless { approval.looked_at_once() } else { approval };
            let purchase = NewPurchase { host: "api.example".into(), ..new(0) };
            let mut books = self.books.lock().unwrap();
            let Ok(posting) = books.hold(&approval, Payer(Address::repeat_byte(0xaa)), &purchase.id, T0) else { continue };
            look(&books, price);
            drop(books);
            let purchase = Arc::new(Purchase::intent(&approval, purchase, T0));
            let mut books = self.books.lock().unwrap();
            books.enter(&purchase, &posting, 1).ok()?;
            books.index().get_mut(&purchase.id).unwrap().writing = false;
            drop(books);
            self.books.lock().unwrap().consume(&purchase.id);
            return Some(price);
        }
        // A condition that was asked again says the same at the next decision.
        panic!("busy")
    }
}

/// After every hold, under its lock.
fn look(books: &Books, price: i64) {
    let day = books.spent(&Scope::Agent(bot()), everything()).micro();
    assert!(day <= 5_000_000, "past the rule of the day: {day}");
    let session = books.spent(&in_session(), everything()).micro();
    assert!(session <= 2_000_000, "past the rule of the session: {session}");
    let host = crate::policy::Host::parse("api.example").unwrap();
    let first = books.history(&bot(), &RuleId("e".into()), &host, &http::Method::GET, T0).first;
    assert!(first.is_none_or(|first| price * 100 <= first.micro() * 150), "past the rule of the jump: {price} after {first:?}");
}

fn run(scheduler: impl Scheduler + 'static, requests: u64, careless: bool) {
    let policy = policy();
    let mut config = shuttle::Config::new();
    config.stack_size = 256 << 10;
    config.failure_persistence = shuttle::FailurePersistence::None;
    shuttle::Runner::new(scheduler, config).run(move || {
        let shop = Arc::new(Shop { careless, ..Shop::default() });
        let buyers: Vec<_> = (0..requests)
            .map(|n| {
                let (shop, policy) = (Arc::clone(&shop), Arc::clone(&policy));
                thread::spawn(move || shop.request(&policy, n))
            })
            .collect();
        let paid: i64 = buyers.into_iter().filter_map(|buyer| buyer.join().unwrap()).sum();
        let books = shop.books.lock().unwrap();
        assert_eq!(books.spent(&Scope::Agent(bot()), everything()).micro(), paid);
    });
}

#[test]
fn m2_5_no_interleaving_of_requests_goes_past_a_condition() {
    run(RandomScheduler::new(80), 30, false);
    run(PctScheduler::new(3, 80), 30, false);
}

#[test]
fn m2_5_the_same_checks_catch_an_approval_that_is_looked_at_once() {
    let run = || run(RandomScheduler::new(100), 30, true);
    let said = catch_unwind(AssertUnwindSafe(run)).expect_err("nobody noticed");
    let said = said.downcast_ref::<String>().cloned().unwrap_or_default();
    assert!(said.contains("past the rule of"), "{said}");
}

#[test]
fn m2_5_a_condition_that_speaks_at_the_hold_tells_its_rule_the_offer_and_the_amount() {
    // The shop's lock works only under a scheduler.
    let held_one_by_one = || {
        let (shop, policy) = (Shop::default(), policy());
        let decided: Vec<Approval> = (0..8).map(|_| shop.decide(&policy, DEAR, false).unwrap()).collect();
        let mut books = shop.books.lock().unwrap();
        let mut said = decided.iter().map(|approval| books.hold(approval, Payer(Address::repeat_byte(0xaa)), &new(0).id, T0));
        assert!(said.by_ref().take(7).all(|held| held.is_ok()), "4.90 of 5.00");
        let violation = said.next().unwrap().unwrap_err().unwrap();
        assert_eq!((violation.reason, violation.rule), (Reason::RuleDenied, Some(RuleId("day".into()))));
        assert_eq!((violation.offer, violation.amount), (Some(0), Some(MicroUsd::new(DEAR))));
    };
    shuttle::check_random(held_one_by_one, 1);
}
