//! No interleaving spends more than a budget (M2.5): the shipped books and the shipped evaluator under a scheduler that tries orders
//! of its own, with reloads, freezes, releases, failing transactions, re-signatures and people's yeses in between. Copies without
//! a second look fail the same checks.

use std::panic::{AssertUnwindSafe, catch_unwind};

use shuttle::scheduler::{PctScheduler, RandomScheduler, Scheduler};
use shuttle::sync::{Mutex, MutexGuard};
use shuttle::thread;

use super::super::index::Live;
use super::super::posting::{Kind, Posting};
use super::*;
use crate::payment::Challenge;
use crate::policy::{Context, Host, Input, Members, Policy, Source, Standing, Stopped};

/// Two agents, each with caps and a rate of its own, under a budget that both share and people may let be exceeded.
fn policy(epoch: u64, team: &str) -> Arc<Policy> {
    let text = format!(
        "version: 1
approvers: {{ finance: {{ may_exceed: [team] }} }}
agents:
  a: {{ caps: {{ per_payment: 1, day: 7, per_host_day: 6 }}, rate: {{ per_minute: 9 }}, allow: [ {{ id: e, host: api.example, pay_to: any }} ] }}
  b: {{ caps: {{ per_payment: 1, rolling: {{ 24h: 8 }} }}, allow: [ {{ id: e, host: api.example, pay_to: any }} ] }}
budgets:
  - {{ name: team, limit: {team}, window: day, agents: [{}], over: ask }}
  - {{ name: everything, limit: 14, window: month, agents: all, hard: true }}
",
        if epoch == 2 { "a" } else { "a, b" }
    );
    Arc::new(Policy::parse(&[Source { name: "p".into(), text }], epoch).unwrap_or_else(|e| panic!("{e}")))
}

/// What `team` may spend under the policy of an epoch. The second counts one agent only, so the third finds its list new.
const TEAM: [i64; 4] = [0, 9_000_000, 6_000_000, 5_000_000];

fn policies() -> [Arc<Policy>; 3] {
    [policy(1, "9"), policy(2, "6"), policy(3, "5")]
}

fn members(epoch: u64) -> Members {
    Members::of(["a", "b"][..if epoch == 2 { 1 } else { 2 }].iter().map(|a| a.parse().unwrap()))
}

/// Which second look is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Careless {
    Nowhere,
    AtTheHold,
    AtTheCommit,
}

/// What the one lock guards.
#[derive(Default)]
struct World {
    books: Books,
    /// The epoch that the books follow.
    followed: u64,
    /// Purchases and re-signatures of each agent that went on to the disk.
    written: [u64; 2],
}

struct Shop {
    world: Mutex<World>,
    policy: Mutex<Arc<Policy>>,
    careless: Careless,
}

const PRICE: i64 = 700_000;
const DEARER: i64 = 900_000;

fn name(who: usize) -> AgentId {
    ["a", "b"][who].parse().unwrap()
}

fn account() -> Payer {
    Payer(Address::repeat_byte(0xaa))
}

impl Shop {
    /// One decision under the lock, and the lock given back.
    fn decide(&self, who: usize, price: i64, held: MicroUsd, granted: bool) -> Option<Approval> {
        let agent = name(who);
        let challenge = Challenge { protocol: ProtocolId::X402V2, offers: vec![offer(price)], rejected: vec![], error: None };
        let yes: Vec<Arc<str>> = if granted { vec!["finance".into()] } else { vec![] };
        let policy = Arc::clone(&self.policy.lock().unwrap());
        let input = Input {
            agent: &agent,
            session: None,
            method: &http::Method::GET,
            https: true,
            host: &Host::parse("api.example").unwrap(),
            port: 443,
            path: "/",
            payer: account(),
            now: T0,
            held,
            context: &Context::default(),
            granted: &yes,
            bound_to: None,
            session_max: None,
        };
        policy.evaluate(&input, &challenge, &self.world.lock().unwrap().books).verdict.ok()
    }

    /// One request from its decision to its end; answers what stays spent.
    fn request(&self, n: u64, who: usize) -> i64 {
        let Some((purchase, posting, epoch)) = self.hold(n, who) else { return 0 };
        let mut world = self.world.lock().unwrap();
        if n % 13 == 6 || !self.enter(&mut world, &purchase, &posting, epoch) {
            // The agent left, or it may no longer be written: a reservation is dropped.
            world.books.unpost(&posting);
            return 0;
        }
        world.written[who] += 1;
        drop(world);
        let mut world = self.world.lock().unwrap();
        if n % 11 == 5 {
            world.books.undo_hold(&purchase.id);
            return 0;
        }
        durable(&mut world, &purchase.id);
        if n % 7 == 3 {
            world.books.void(&purchase.id);
            return 0;
        }
        drop(world);
        let more = if n % 4 == 1 { self.raise(n, who, &purchase) } else { 0 };
        if n.is_multiple_of(3) {
            self.world.lock().unwrap().books.consume(&purchase.id);
        }
        PRICE + more
    }

    fn hold(&self, n: u64, who: usize) -> Option<(Arc<Purchase>, Posting, u64)> {
        for _ in 0..3 {
            let approval = self.decide(who, PRICE, MicroUsd::ZERO, n % 5 == 4)?;
            let purchase = NewPurchase { host: "api.example".into(), ..new(0) };
            let mut world = self.world.lock().unwrap();
            let held = if self.careless == Careless::AtTheHold {
                let posting = Posting::of(&approval, account(), Kind::Hold, PRICE, T0);
                world.books.post(&posting);
                Ok(posting)
            } else {
                world.books.hold(&approval, account(), &purchase.id, T0)
            };
            if let Ok(posting) = held {
                look(world, &approval);
                return Some((Arc::new(Purchase::intent(&approval, purchase, T0)), posting, approval.epoch()));
            }
        }
        None
    }

    fn enter(&self, world: &mut World, purchase: &Arc<Purchase>, posting: &Posting, epoch: u64) -> bool {
        if self.careless != Careless::AtTheCommit {
            return world.books.enter(purchase, posting, epoch).is_ok();
        }
        let (num, purchase, postings) = (world.books.index().number(), Arc::clone(purchase), vec![posting.clone()]);
        let live = Live { purchase, num, postings, writing: true, waiter: true, exchange: true, owner: 1 };
        world.books.index().insert(live).is_some()
    }

    /// Signs again for more; every third time the transaction fails.
    fn raise(&self, n: u64, who: usize, before: &Arc<Purchase>) -> i64 {
        let Some(approval) = self.decide(who, DEARER, before.held, false) else { return 0 };
        let mut world = self.world.lock().unwrap();
        let Ok((_, posting)) = world.books.raise(&approval, before, 0, T0) else { return 0 };
        world.written[who] += 1;
        look(world, &approval);
        let mut world = self.world.lock().unwrap();
        if n % 3 == 2 {
            world.books.undo_raise(&before.id, before, posting.as_ref());
            return 0;
        }
        durable(&mut world, &before.id);
        DEARER - PRICE
    }

    fn reload(&self, next: &Arc<Policy>) {
        *self.policy.lock().unwrap() = Arc::clone(next);
        let mut world = self.world.lock().unwrap();
        world.books.follow(next.epoch(), next.members());
        world.followed = next.epoch();
    }

    /// While an agent is frozen nothing of it is written, whatever was decided or held before.
    fn freeze(&self, who: usize) {
        let stopped = Stopped { by: "operator".into(), why: "test".into(), at: T0 };
        let frozen = Standing { agents: [(name(who).as_str().into(), stopped)].into(), ..Standing::default() };
        let before = {
            let mut world = self.world.lock().unwrap();
            world.books.set_standing(frozen.into());
            world.written[who]
        };
        (0..5).for_each(|_| thread::yield_now());
        let after = {
            let mut world = self.world.lock().unwrap();
            world.books.set_standing(Standing::default().into());
            world.written[who]
        };
        assert_eq!(after, before, "a frozen agent paid");
    }
}

fn durable(world: &mut World, id: &PurchaseId) {
    world.books.index().get_mut(id).unwrap().writing = false;
}

/// After every hold, under its lock: it is within every limit of the policy in force, but for the one that people let through.
/// Numbers are read under the lock and judged without it: a check that fails while it holds the lock lets others run into a
/// poisoned one, and theirs might be the words that are reported.
fn look(world: MutexGuard<'_, World>, approval: &Approval) {
    let epoch = approval.epoch();
    let team = (Scope::Shared(members(epoch), None), TEAM[usize::try_from(epoch).unwrap()]);
    let fixed = [
        (Scope::Agent(name(0)), 7_000_000),
        (Scope::Host(name(0), "api.example".into()), 6_000_000),
        (Scope::Agent(name(1)), 8_000_000),
        (Scope::Shared(Members::ALL, None), 14_000_000),
    ];
    let in_team = members(epoch).contains(approval.agent()) && !approval.granted();
    let spent: Vec<(Scope, i64, i64)> = fixed
        .into_iter()
        .chain(Some(team).filter(|_| in_team))
        .map(|(scope, limit)| (scope.clone(), world.books.spent(&scope, everything()).micro(), limit))
        .collect();
    let commitments = world.books.commitments(&Scope::Agent(name(0)), everything());
    let followed = world.followed;
    drop(world);
    assert!(epoch >= followed, "held under a policy that is no longer in force");
    for (scope, spent, limit) in spent {
        assert!(spent <= limit, "{scope:?}: {spent} of {limit}");
    }
    assert!(commitments <= 9, "the rate of a");
}

/// `buyers` requests at once, and what an operator does meanwhile; at the end every counter is the sum of what stayed spent.
fn day_at_the_shop(policies: &[Arc<Policy>; 3], buyers: u64, careless: Careless) {
    let policy = Mutex::new(Arc::clone(&policies[0]));
    let shop = Arc::new(Shop { world: Mutex::new(World::default()), policy, careless });
    shop.reload(&policies[0]);
    let who = |n: u64| usize::from(n % 2 == 1);
    let mut requests = Vec::new();
    for n in 0..buyers {
        let shop = Arc::clone(&shop);
        requests.push(thread::spawn(move || shop.request(n, who(n))));
    }
    let (reloading, [_, second, third]) = (Arc::clone(&shop), policies.clone());
    let reload = thread::spawn(move || [second, third].iter().for_each(|p| reloading.reload(p)));
    let freezing = Arc::clone(&shop);
    let freeze = thread::spawn(move || [1, 0].into_iter().for_each(|who| freezing.freeze(who)));
    let mut stayed = [0, 0];
    for (n, request) in (0..buyers).zip(requests) {
        stayed[who(n)] += request.join().unwrap();
    }
    reload.join().unwrap();
    freeze.join().unwrap();
    let world = shop.world.lock().unwrap();
    for (scope, sum) in [
        (Scope::Agent(name(0)), stayed[0]),
        (Scope::Entry(name(1), RuleId("e".into())), stayed[1]),
        (Scope::Host(name(1), "api.example".into()), stayed[1]),
        (Scope::Shared(members(2), None), stayed[0]),
        (Scope::Shared(members(3), None), stayed[0] + stayed[1]),
        (Scope::Shared(members(3), Some("".into())), stayed[0] + stayed[1]),
        (Scope::Shared(Members::ALL, None), stayed[0] + stayed[1]),
    ] {
        assert_eq!(world.books.spent(&scope, everything()).micro(), sum, "{scope:?}");
    }
}

/// Evaluation in a debug build wants more stack than the scheduler's tasks have by themselves.
fn run(scheduler: impl Scheduler + 'static, buyers: u64, careless: Careless) {
    let policies = policies();
    let mut config = shuttle::Config::new();
    config.stack_size = 256 << 10;
    config.failure_persistence = shuttle::FailurePersistence::None;
    shuttle::Runner::new(scheduler, config).run(move || day_at_the_shop(&policies, buyers, careless));
}

#[test]
fn no_interleaving_of_a_few_requests_exceeds_a_limit() {
    run(RandomScheduler::new(80), 24, Careless::Nowhere);
    run(PctScheduler::new(3, 80), 24, Careless::Nowhere);
}

#[test]
fn no_interleaving_of_a_thousand_requests_exceeds_a_limit() {
    run(RandomScheduler::new(2), 1_000, Careless::Nowhere);
}

/// With what the check said.
fn caught(careless: Careless) -> String {
    let run = || run(RandomScheduler::new(300), 24, careless);
    let said = catch_unwind(AssertUnwindSafe(run)).expect_err("nobody noticed");
    said.downcast_ref::<String>().cloned().or_else(|| said.downcast_ref::<&str>().map(ToString::to_string)).unwrap_or_default()
}

#[test]
fn the_same_checks_catch_books_that_do_not_look_again_at_the_hold() {
    let said = caught(Careless::AtTheHold);
    assert!(said.contains(" of ") || said.contains("no longer in force") || said.contains("the rate of a"), "{said}");
}

#[test]
fn the_same_checks_catch_books_that_do_not_look_again_at_the_commit() {
    let said = caught(Careless::AtTheCommit);
    assert!(said.contains("a frozen agent paid"), "{said}");
}
