//! No interleaving spends more than a budget (M2.5): the shipped books and the shipped evaluator under a scheduler that tries orders
//! of its own, with reloads, freezes, releases and people's yeses in between. A copy without the second look fails the same check.

use std::panic::{AssertUnwindSafe, catch_unwind};

use shuttle::scheduler::{PctScheduler, RandomScheduler};
use shuttle::sync::Mutex;
use shuttle::thread;

use super::super::posting::{Kind, Posting, Tags};
use super::*;
use crate::payment::Challenge;
use crate::policy::{Context, Host, Input, Members, Policy, Source, Standing, Stopped};

/// Two agents, each with a cap and a rate of its own, under a budget that both share; people may let `team` be exceeded.
fn policy(epoch: u64, team: &str) -> Arc<Policy> {
    let text = format!(
        "version: 1
approvers: {{ finance: {{ may_exceed: [team] }} }}
agents:
  a: {{ caps: {{ per_payment: 1, day: 7, per_host_day: 6 }}, rate: {{ per_minute: 9 }}, allow: [ {{ id: e, host: api.example, pay_to: any }} ] }}
  b: {{ caps: {{ per_payment: 1, rolling: {{ 24h: 8 }} }}, allow: [ {{ id: e, host: api.example, pay_to: any }} ] }}
budgets:
  - {{ name: team, limit: {team}, window: day, agents: [a, b], over: ask }}
  - {{ name: everything, limit: 14, window: month, agents: all, hard: true }}
"
    );
    Arc::new(Policy::parse(&[Source { name: "p".into(), text }], epoch).unwrap_or_else(|e| panic!("{e}")))
}

/// What the threads share.
struct Shop {
    books: Mutex<Books>,
    policy: Mutex<Arc<Policy>>,
    /// Micro-USD of payments that people let through beside `team`.
    granted: Mutex<i64>,
    checked: bool,
}

const PRICE: i64 = 700_000;

fn team() -> Scope {
    Scope::Shared(Members::of(["a", "b"].map(|a| a.parse().unwrap())), None)
}

impl Shop {
    fn new(checked: bool) -> Arc<Self> {
        let first = policy(1, "9");
        let mut books = Books::default();
        books.follow(first.epoch(), first.members());
        Arc::new(Self { books: Mutex::new(books), policy: Mutex::new(first), granted: Mutex::new(0), checked })
    }

    /// One request: decided under the lock, held under the lock, and anything may happen in between.
    fn buy(&self, agent: &str, n: u64, granted: bool) -> Option<Posting> {
        let agent: AgentId = agent.parse().unwrap();
        let challenge = Challenge { protocol: ProtocolId::X402V2, offers: vec![offer(PRICE)], rejected: vec![], error: None };
        let yes: Vec<Arc<str>> = if granted { vec!["finance".into()] } else { vec![] };
        let (host, payer) = (Host::parse("api.example").unwrap(), Payer(Address::repeat_byte(0xaa)));
        for _ in 0..3 {
            let policy = Arc::clone(&self.policy.lock().unwrap());
            let input = Input {
                agent: &agent,
                session: None,
                method: &http::Method::GET,
                https: true,
                host: &host,
                port: 443,
                path: "/",
                payer,
                now: T0,
                held: MicroUsd::ZERO,
                context: &Context::default(),
                granted: &yes,
                bound_to: None,
            };
            let approval = policy.evaluate(&input, &challenge, &*self.books.lock().unwrap()).verdict.ok()?;
            let mut id = [0; 16];
            id[..8].copy_from_slice(&n.to_le_bytes());
            let mut books = self.books.lock().unwrap();
            let held = if self.checked {
                books.hold(&approval, payer, &PurchaseId::from_bytes(id), T0)
            } else {
                Ok(unchecked(&mut books, &approval))
            };
            if let Ok(posting) = held {
                self.look(&books, &posting);
                return Some(posting);
            }
        }
        None
    }

    /// After every hold, under its lock: no limit of any policy that was in force is exceeded, beyond what people let through.
    fn look(&self, books: &Books, posting: &Posting) {
        let mut granted = self.granted.lock().unwrap();
        *granted += if posting.granted() { posting.micro } else { 0 };
        let (a, b): (AgentId, AgentId) = ("a".parse().unwrap(), "b".parse().unwrap());
        for (scope, limit) in [
            (Scope::Agent(a.clone()), 7_000_000),
            (Scope::Host(a, "api.example".into()), 6_000_000),
            (Scope::Agent(b), 8_000_000),
            (team(), 9_000_000 + *granted),
            (Scope::Shared(Members::ALL, None), 14_000_000),
        ] {
            let spent = books.spent(&scope, everything()).micro();
            assert!(spent <= limit, "{scope:?}: {spent} of {limit}");
        }
    }
}

/// The mistake that the books are there against: what was decided is taken as still true.
fn unchecked(books: &mut Books, approval: &Approval) -> Posting {
    let (agent, entry, micro) = (approval.agent().clone(), approval.entry().clone(), approval.offer().price.micro());
    let posting = Posting { agent, entry, at: T0, micro, kind: Kind::Hold, tags: Tags::of(approval), by: None };
    books.post(&posting);
    posting
}

/// `buyers` requests at once, and what an operator does meanwhile.
fn day_at_the_shop(buyers: u64, checked: bool) {
    let shop = Shop::new(checked);
    let mut threads = Vec::new();
    for n in 0..buyers {
        let shop = Arc::clone(&shop);
        threads.push(thread::spawn(move || {
            let posting = shop.buy(if n % 2 == 0 { "a" } else { "b" }, n, n % 5 == 4);
            // Some find that nothing was signed and give the money back.
            if let Some(posting) = posting.filter(|p| n % 7 == 3 && !p.granted()) {
                shop.books.lock().unwrap().unpost(&posting);
            }
        }));
    }
    let reload = Arc::clone(&shop);
    threads.push(thread::spawn(move || {
        for (epoch, limit) in [(2, "5"), (3, "9")] {
            let next = policy(epoch, limit);
            *reload.policy.lock().unwrap() = Arc::clone(&next);
            reload.books.lock().unwrap().follow(epoch, next.members());
        }
    }));
    let freeze = Arc::clone(&shop);
    threads.push(thread::spawn(move || {
        let stopped = Stopped { by: "operator".into(), why: "test".into(), at: T0 };
        let frozen = Standing { agents: [("b".into(), stopped)].into(), ..Standing::default() };
        let before = {
            let mut books = freeze.books.lock().unwrap();
            books.set_standing(frozen.into());
            books.spent(&Scope::Agent("b".parse().unwrap()), everything())
        };
        thread::yield_now();
        let mut books = freeze.books.lock().unwrap();
        assert!(books.spent(&Scope::Agent("b".parse().unwrap()), everything()) <= before, "a frozen agent paid");
        books.set_standing(Standing::default().into());
    }));
    threads.into_iter().for_each(|t| t.join().unwrap());
}

/// Evaluation in a debug build wants more stack than the scheduler's tasks have by themselves.
fn run(scheduler: impl shuttle::scheduler::Scheduler + 'static, buyers: u64, checked: bool) {
    let mut config = shuttle::Config::new();
    config.stack_size = 256 << 10;
    config.failure_persistence = shuttle::FailurePersistence::None;
    shuttle::Runner::new(scheduler, config).run(move || day_at_the_shop(buyers, checked));
}

#[test]
fn no_interleaving_of_a_dozen_requests_exceeds_a_limit() {
    run(RandomScheduler::new(150), 24, true);
    run(PctScheduler::new(3, 150), 24, true);
}

#[test]
fn no_interleaving_of_a_thousand_requests_exceeds_a_limit() {
    run(RandomScheduler::new(3), 1_000, true);
}

#[test]
fn the_same_check_catches_books_that_do_not_look_again() {
    let careless = catch_unwind(AssertUnwindSafe(|| run(RandomScheduler::new(200), 24, false)));
    assert!(careless.is_err(), "nobody noticed that limits were exceeded");
}
