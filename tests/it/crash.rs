//! SIGKILL at every step of a payment, and at any moment under load: at most one transfer per purchase, no budget exceeded.

use std::collections::HashMap;
use std::os::unix::process::ExitStatusExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use alloy_primitives::U256;

use crate::harness::{Act, Chain, Plan, Program, Response, Seller, Setup, Terms, Visit, basic, eventually, payer, shop};
use crate::till::{CENT, Gate, Till, payee, rows, spent, tokens, try_get};

/// What the client finally gets: a delivery, or a refusal that says why.
fn final_answer(last: &Response) -> String {
    match last.status {
        200 => "200".into(),
        402 if last.head.get("content-type") == Some("application/problem+json") => last.reason(),
        status => format!("unclear: {status}"),
    }
}

struct Row {
    failpoint: &'static str,
    settles: bool,
    died: bool,
    transfers: usize,
    answer: String,
    books: String,
}

/// Buys with the program dying at `failpoint`, starts it again and repeats the request as a client would.
fn kill_at(failpoint: &'static str, settles: bool) -> Row {
    let after = Gate::default();
    let alive_again = after.clone();
    let before_the_answer = ["bytes_stored", "first_byte_sent"].contains(&failpoint);
    let plan = move |_: &_| {
        let act = Act::Answer(200, String::new(), b"sold".to_vec());
        match (alive_again.is_open(), settles) {
            (true, _) => Plan::ok("sold"),
            // Only a seller that is still busy lets the program die between request and answer.
            (false, true) if before_the_answer => Plan::settle(Act::Hang),
            (false, false) if before_the_answer => Plan::keep(Act::Hang),
            (false, true) => Plan::settle(act),
            (false, false) => Plan::keep(act),
        }
    };
    // The cap fits one payment exactly: whoever forgets one, or pays twice, shows.
    let setup = Setup::new().caps("per_payment: 0.01, day: 0.01").env("TOLLPASS_FAILPOINT", failpoint);
    let mut till = Till::new(setup, plan);
    let mut agent = till.ask("/x");
    let _ = agent.response_to("GET");
    let status = till.program.wait();
    let died = status.signal() == Some(9);
    assert!(died, "{failpoint}: never reached, ended with {status}");
    after.open();
    till.program.restart();
    let mut last = till.get("/x");
    for _ in 0..2 {
        if last.status != 200 {
            last = till.get("/x");
        }
    }
    // What only follows an exchange is written a moment later.
    eventually("the books are closed", || rows(&till.program).iter().all(|r| ["settled", "lost"].contains(&r.state.as_str())));
    let (all, transfers) = (rows(&till.program), till.chain.count());
    let case = format!("{failpoint}, settles: {settles}");
    assert!(transfers <= 1, "{case}: {transfers} transfers");
    assert!(U256::from(spent(&till.program)) >= till.chain.total(), "{case}: the books say less than the chain");
    assert!(spent(&till.program) <= CENT, "{case}: more held than the cap");
    let answer = final_answer(&last);
    assert!(!answer.starts_with("unclear"), "{case}: {answer} {}", last.text());
    assert!(answer == "200" || answer == "paid_not_delivered", "{case}: {answer}");
    assert!(
        till.seller
            .paid()
            .iter()
            .map(|s| s.head.get("payment-signature"))
            .all(|c| c == till.seller.paid()[0].head.get("payment-signature"))
    );
    let books = all.iter().map(|r| format!("{} {}", r.state, r.micro)).collect::<Vec<_>>().join(", ");
    Row { failpoint, settles, died, transfers, answer, books }
}

#[test]
fn m1_5_killed_at_every_step_a_purchase_is_one_transfer_at_most() {
    if !cfg!(feature = "failpoints") {
        println!("skipped: built without --features failpoints");
        return;
    }
    let table: Vec<Row> = tollpass::failpoint::NAMES.iter().flat_map(|name| [true, false].map(|settles| kill_at(name, settles))).collect();
    println!("{:<20} {:<9} {:<8} {:>9}  {:<20} ledger", "killed at", "settles", "SIGKILL", "transfers", "client finally gets");
    for Row { failpoint, settles, died, transfers, answer, books } in &table {
        println!("{failpoint:<20} {settles:<9} {died:<8} {transfers:>9}  {answer:<20} {books}");
    }
    for name in tollpass::failpoint::NAMES {
        assert_eq!(table.iter().filter(|r| r.failpoint == *name).count(), 2, "{name} has no row");
    }
}

#[test]
fn m1_2_killed_while_an_adopted_purchase_is_signed_for_a_new_price_it_keeps_its_nonce() {
    if !cfg!(feature = "failpoints") {
        println!("skipped: built without --features failpoints");
        return;
    }
    // The second visit: the first payment fails and stays open, the repeat meets twice the price and dies on the way.
    for failpoint in ["signature_in_memory:2", "first_byte_sent:2", "headers_received:2", "before_outcome:2"] {
        for settles in [true, false] {
            let (after, chain) = (Gate::default(), Chain::new());
            let (alive_again, counted) = (after.clone(), chain.clone());
            let visits = AtomicUsize::new(0);
            let seller = Seller::http(move |call| {
                // An unpaid and a paid request at the old price, then the new one for ever.
                let price = if visits.fetch_add(1, Ordering::AcqRel) < 2 { CENT } else { 2 * CENT };
                let (first, again) = (price == CENT, alive_again.is_open());
                let plan = move |_: &Visit| match (first, again, settles) {
                    (true, ..) => Plan::keep(Act::Answer(500, String::new(), Vec::new())),
                    (_, true, _) => Plan::ok("sold"),
                    (_, false, true) if failpoint.starts_with("first") => Plan::settle(Act::Hang),
                    (_, false, false) if failpoint.starts_with("first") => Plan::keep(Act::Hang),
                    (_, false, true) => Plan::ok("sold"),
                    (_, false, false) => Plan::keep(Act::Answer(200, String::new(), b"sold".to_vec())),
                };
                shop(&counted, Terms::v2(payee(), price), plan)(call)
            });
            let setup = Setup::new().caps("per_payment: 0.02, day: 0.02").env("TOLLPASS_FAILPOINT", failpoint);
            let mut till = Till { chain, seller, program: Program::start(setup) };
            assert_eq!(till.get("/x").status, 500);
            let nonce = rows(&till.program)[0].nonce.clone();
            let _ = till.ask("/x").response_to("GET");
            assert_eq!(till.program.wait().signal(), Some(9), "{failpoint}: never reached");
            after.open();
            till.program.restart();
            let answers: Vec<String> = (0..3).map(|_| final_answer(&till.get("/x"))).collect();
            let all = rows(&till.program);
            assert_eq!((all.len(), &all[0].nonce, all[0].micro), (1, &nonce, 2 * CENT), "{failpoint}: {answers:?}");
            assert!(till.chain.count() <= 1 && till.chain.total() <= U256::from(2 * CENT), "{failpoint}");
            let delivered = answers[0] == "200";
            assert!(delivered || answers[2] == "paid_not_delivered", "{failpoint} {settles}: {answers:?}");
        }
    }
}

/// Small, repeatable, good enough to choose moments and prices.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % below
    }
}

/// A seed to print, and with it the dice.
fn dice() -> Dice {
    let seed = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos() as u64 | 1;
    println!("seed {seed}");
    Dice(seed)
}

#[test]
fn m1_5_killed_at_any_moment_under_load_the_cap_holds() {
    const ROUNDS: usize = 10;
    const BUYERS: usize = 8;
    const CAP: u64 = 60 * CENT;
    let mut dice = dice();
    // One answer in four fails, one settlement in four does not happen, some answers are slow.
    let mut till = Till::new(Setup::new().caps("per_payment: 0.01, day: 0.60"), |visit| {
        let luck = visit.payment.nonce[0] ^ visit.before as u8;
        let act = Act::Answer(if luck & 3 == 0 { 500 } else { 200 }, String::new(), vec![b'x'; 5000]);
        let plan = if luck & 12 == 0 { Plan::keep(act) } else { Plan::settle(act) };
        plan.after(Duration::from_millis(u64::from(luck & 7)))
    });
    for round in 0..ROUNDS {
        let stop = Gate::default();
        let (address, base) = (till.program.proxy(), till.url(""));
        let bought = Arc::new(AtomicUsize::new(0));
        let buyers: Vec<_> = (0..BUYERS)
            .map(|buyer| {
                let (stop, base, bought) = (stop.clone(), base.clone(), bought.clone());
                thread::spawn(move || {
                    // Half of them ask for the same page, so that purchases are adopted too.
                    let url = if buyer % 2 == 0 { format!("{base}/same") } else { format!("{base}/{round}/{buyer}") };
                    while !stop.is_open() {
                        let got = try_get(address, &url, "");
                        bought.fetch_add(1, Ordering::AcqRel);
                        if got.is_none_or(|r| r.status == 402) {
                            break;
                        }
                    }
                })
            })
            .collect();
        // Some number of answers, then some moments more.
        let answers = dice.roll(6) as usize;
        eventually("the buyers are at it", || bought.load(Ordering::Acquire) >= answers);
        thread::sleep(Duration::from_micros(dice.roll(8000)));
        till.program.kill9();
        stop.open();
        buyers.into_iter().for_each(|b| b.join().unwrap());
        till.program.restart();
        let (books, chain) = (spent(&till.program), till.chain.total());
        assert!(chain <= U256::from(books), "round {round}: the chain moved {chain}, the books say {books}");
        assert!(books <= CAP, "round {round}: {books} held");
    }
    println!("chain {} books {} cap {CAP}", till.chain.total(), spent(&till.program));
    assert!(till.chain.total() <= U256::from(CAP));
}

const CLIENTS: usize = 16;
const REQUESTS: usize = 200;

#[test]
fn random_prices_from_many_clients_never_pass_a_cap_across_reload_and_kill() {
    let mut dice = dice();
    let chain = Chain::new();
    // The first path segment is the price, in atomic units; the second the agent, whose payee it is.
    let counted = chain.clone();
    let seller = Seller::http(move |call| {
        let mut parts = call.head.target()[1..].split('/').map(str::to_owned);
        let (price, agent) = (parts.next().unwrap().parse().unwrap(), parts.next().unwrap());
        let plan = |visit: &Visit| {
            if visit.payment.nonce[1] & 7 == 0 { Plan::settle(Act::Answer(503, String::new(), Vec::new())) } else { Plan::ok("sold") }
        };
        shop(&counted, Terms::v2(account(&agent), price), plan)(call)
    });
    let caps: HashMap<&str, u64> = AGENTS.iter().map(|a| (*a, (3 + dice.roll(8)) * CENT)).collect();
    let policy = |day: &dyn Fn(&str) -> u64| {
        let agent = |name: &&str| {
            let cap = day(name);
            format!(
                "  {name}:\n    caps: {{ per_payment: 0.02, day: {}.{:06} }}\n    allow:\n      - {{ id: local, host: 127.0.0.1, networks: [\"eip155:84532\"], assets: [USDC], pay_to: any, plain_http: true }}\n",
                cap / 1_000_000,
                cap % 1_000_000
            )
        };
        format!("version: 1\nrisk: {{ paid_but_failed: off, retry_loop: off }}\nagents:\n{}", AGENTS.iter().map(agent).collect::<String>())
    };
    let (tokens, passwords) = tokens(&AGENTS);
    let setup = Setup::new().policy(policy(&|a| caps[a])).agents("tokens: file:tokens.yaml").file("tokens.yaml", tokens);
    let mut till = Till { chain, seller, program: Program::start(setup) };
    let work: Arc<Vec<(String, String)>> = Arc::new(
        (0..REQUESTS)
            .map(|n| {
                let agent = AGENTS[dice.roll(3) as usize];
                let url = format!("{}/{}/{agent}/{}", till.url(""), 1 + dice.roll(2 * CENT), n / 2);
                (url, basic(agent, &passwords[agent]))
            })
            .collect(),
    );
    // Three parts: before a reload with lower caps, before a kill, after it.
    let third = REQUESTS / 3;
    let lower = policy(&|a| caps[a] * 3 / 4);
    let parts = [(0, third), (third, 2 * third), (2 * third, REQUESTS)];
    for (part, (from, to)) in parts.into_iter().enumerate() {
        let next = Arc::new(AtomicUsize::new(from));
        let address = till.program.proxy();
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| {
                let (next, work) = (next.clone(), work.clone());
                thread::spawn(move || {
                    loop {
                        let n = next.fetch_add(1, Ordering::AcqRel);
                        if n >= to {
                            return;
                        }
                        let (url, headers) = &work[n];
                        if let Some(got) = try_get(address, url, headers) {
                            assert!([200, 402, 502, 503].contains(&got.status), "{} {}", got.status, got.text());
                        }
                    }
                })
            })
            .collect();
        let half = from + (to - from) / 2;
        eventually("half of the part is under way", || next.load(Ordering::Acquire) >= half);
        match part {
            0 => till.program.policy_set(&lower),
            1 => till.program.kill9(),
            _ => {}
        }
        clients.into_iter().for_each(|c| c.join().unwrap());
        if part == 1 {
            till.program.restart();
        }
        for agent in AGENTS {
            let books: u64 = rows(&till.program).iter().filter(|r| r.agent == agent && r.state != "void").map(|r| r.micro).sum();
            let paid = till.chain.paid_to(account(agent));
            assert!(paid <= U256::from(books), "part {part}, {agent}: the chain moved {paid}, the books say {books}");
            assert!(books <= caps[agent], "part {part}, {agent}: {books} of {}", caps[agent]);
        }
    }
    println!("{} transfers from {}, {} atomic units", till.chain.count(), payer(), till.chain.total());
    assert!(till.chain.count() > 3 && till.chain.count_to(payee()) == 0);
}

const AGENTS: [&str; 3] = ["ann", "bob", "cid"];

fn account(agent: &str) -> alloy_primitives::Address {
    alloy_primitives::Address::repeat_byte(agent.as_bytes()[0])
}
