//! One process takes over from another on the same state: no connection is refused or reset, no payment lost or made twice.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use alloy_primitives::U256;

use crate::harness::{Agent, Plan, Program, Response, Seller, Setup, Wire, eventually};
use crate::till::{CENT, Gate, Till, payee, spent};

/// A seller of whom `/slow…` is answered when the gate opens, and everything else at once.
fn gated(setup: Setup) -> (Till, Gate) {
    let gate = Gate::default();
    let mine = gate.clone();
    let till = Till::new(setup, move |visit| {
        if visit.head.target().starts_with("/slow") {
            mine.pass();
        }
        Plan::ok("sold")
    });
    (till, gate)
}

/// A request over a connection of its own. Any failure to connect, send or read whole is an error.
fn get(proxy: SocketAddr, url: &str) -> io::Result<Response> {
    let mut agent = Agent { wire: Wire::plain(TcpStream::connect(proxy)?) };
    agent.wire.write(&Agent::request_bytes("GET", url, "", b""))?;
    whole(agent.response_to("GET")?)
}

pub(crate) fn whole(response: Response) -> io::Result<Response> {
    if response.complete { Ok(response) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

/// A request in the background.
fn ask(proxy: SocketAddr, url: String) -> JoinHandle<io::Result<Response>> {
    std::thread::spawn(move || get(proxy, &url))
}

#[track_caller]
fn waits_for_ledger(response: &Response) {
    assert_eq!((response.status, response.reason().as_str()), (402, "ledger_handover"), "{}", response.text());
    assert_eq!(response.json()["retry"], "soon");
}

/// Whether the old process has given the ledger away; before that it still pays for the probe.
fn stopped(proxy: SocketAddr, till: &Till) -> bool {
    let answer = get(proxy, &till.url("/probe")).unwrap();
    answer.status != 200 && answer.reason() == "ledger_handover"
}

/// Waits until it holds the ledger. Its own log says so; `/readyz` may still be answered by the other process.
#[track_caller]
pub(crate) fn has_ledger(program: &Program) {
    eventually("the successor holds the ledger", || program.log().contains("ledger and signer are taken over"));
    eventually("and nobody else answers", || program.missing().is_some_and(|m| m.is_empty()));
}

#[test]
fn a_paid_request_in_flight_is_finished_by_the_old_process_and_nothing_is_paid_meanwhile() {
    let (mut till, gate) = gated(Setup::new());
    let proxy = till.program.proxy();
    let slow = ask(proxy, till.url("/slow"));
    till.paid(1);
    let next = till.program.successor(&[]);
    assert_eq!(next.proxy(), proxy, "the same sockets");
    eventually("the old process has stopped accepting", || stopped(proxy, &till));
    assert_eq!(next.missing().unwrap(), ["ledger"]);
    assert_eq!(next.admin_get("/livez").unwrap().status, 200);
    waits_for_ledger(&get(proxy, &till.url("/x")).unwrap());
    let free = Seller::http(|call| call.reply(200, "", "free"));
    assert_eq!(get(proxy, &free.url("/")).unwrap().text(), "free", "traffic that costs nothing flows");
    let paid = till.chain.count();

    gate.open();
    assert_eq!(slow.join().unwrap().unwrap().text(), "sold");
    assert_eq!(till.program.wait().code(), Some(0), "{}", till.program.log());
    has_ledger(&next);
    assert_eq!(get(proxy, &till.url("/x")).unwrap().text(), "sold");
    assert_eq!(till.chain.count(), paid + 2);
    assert_eq!(spent(&next), till.chain.count() as u64 * CENT);
    let refusals = next.metrics().sum("tollpass_refusals_total", &[("reason", "ledger_handover")]);
    assert!(refusals >= 1.0, "{refusals}");
}

#[test]
fn nothing_is_refused_or_reset_under_continuous_traffic() {
    let free = Arc::new(Seller::http(|call| call.reply(200, "", "free")));
    let (till, _) = gated(Setup::new().limits("connections: 4000"));
    let (proxy, done) = (till.program.proxy(), Arc::new(AtomicBool::new(false)));
    let until_done = |mut one: Box<dyn FnMut(usize) -> io::Result<usize> + Send>| {
        let done = done.clone();
        std::thread::spawn(move || {
            let mut sum = 0;
            for n in 0.. {
                if done.load(Ordering::Acquire) {
                    break;
                }
                sum += one(n).unwrap_or_else(|e| panic!("request {n}: {e}"));
            }
            sum
        })
    };
    // New connections, from several threads.
    let mut fresh = Vec::new();
    for _ in 0..4 {
        let url = free.url("/");
        fresh.push(until_done(Box::new(move |_| {
            let answer = get(proxy, &url)?;
            assert_eq!(answer.text(), "free");
            Ok(1)
        })));
    }
    // A kept connection, opened anew whenever the proxy says that it closes.
    let (url, mut kept) = (free.url("/"), None);
    let keeper = until_done(Box::new(move |_| {
        let mut agent = match kept.take() {
            Some(agent) => agent,
            None => Agent { wire: Wire::plain(TcpStream::connect(proxy)?) },
        };
        agent.wire.write(&Agent::request_bytes("GET", &url, "", b""))?;
        let answer = whole(agent.response_to("GET")?)?;
        assert_eq!(answer.text(), "free");
        if answer.head.get("connection") != Some("close") {
            kept = Some(agent);
        }
        Ok(1)
    }));
    // Payments: each is made, or refused with the reason and then asked again.
    let mut buyers = Vec::new();
    for buyer in 0..2 {
        let base = till.url(&format!("/goods/{buyer}"));
        buyers.push(until_done(Box::new(move |n| {
            loop {
                let answer = get(proxy, &format!("{base}/{n}"))?;
                if answer.status == 200 {
                    return Ok(1);
                }
                waits_for_ledger(&answer);
            }
        })));
    }
    let mut programs = vec![till.program.successor(&[])];
    has_ledger(&programs[0]);
    for _ in 0..2 {
        let before = till.chain.count();
        eventually("payments go on", || till.chain.count() > before + 5);
        let next = programs.last().unwrap().successor(&[]);
        has_ledger(&next);
        programs.push(next);
    }
    done.store(true, Ordering::Release);
    let bought: usize = buyers.into_iter().map(|b| b.join().unwrap()).sum();
    let served: usize = fresh.into_iter().map(|f| f.join().unwrap()).sum();
    assert!(served > 50 && keeper.join().unwrap() > 20, "{served} fresh connections");
    assert_eq!(till.chain.count(), bought);
    let mut old = till.program;
    assert_eq!(old.wait().code(), Some(0));
    let mut last = programs.pop().unwrap();
    for program in &mut programs {
        assert_eq!(program.wait().code(), Some(0));
    }
    assert_eq!(spent(&last), bought as u64 * CENT);
    assert_eq!(till.chain.paid_to(payee()), U256::from(bought as u64 * CENT));
    last.terminate();
    assert_eq!(last.wait().code(), Some(0));
}

#[test]
fn a_new_process_that_is_killed_before_it_has_the_ledger_leaves_the_old_one_serving_and_paying() {
    let (till, gate) = gated(Setup::new());
    let proxy = till.program.proxy();
    let slow = ask(proxy, till.url("/slow"));
    till.paid(1);
    let mut next = till.program.successor(&[]);
    eventually("the old process has stopped accepting", || stopped(proxy, &till));
    let paid = till.chain.count();
    next.kill9();
    // Queued at the shared socket until the old process accepts again, not refused.
    eventually("the old process pays again", || get(proxy, &till.url("/x")).unwrap().status == 200);
    assert_eq!(till.program.missing().unwrap(), [""; 0]);
    gate.open();
    assert_eq!(slow.join().unwrap().unwrap().text(), "sold");
    assert_eq!(till.chain.count(), paid + 2);
    assert_eq!(spent(&till.program), till.chain.count() as u64 * CENT);
    // And it can hand over still.
    let mut old = till.program;
    let next = old.successor(&[]);
    has_ledger(&next);
    assert_eq!(old.wait().code(), Some(0));
    assert_eq!(get(proxy, &till.seller.url("/y")).unwrap().text(), "sold");
}

#[test]
fn a_policy_that_changes_during_a_hand_over_is_the_one_in_force_after_it() {
    let (till, gate) = gated(Setup::new());
    let proxy = till.program.proxy();
    let slow = ask(proxy, till.url("/slow"));
    till.paid(1);
    let next = till.program.successor(&[]);
    eventually("the old process has stopped accepting", || stopped(proxy, &till));
    let before = next.metrics().label("tollpass_policy_info", "digest");
    next.policy_write(&Setup::policy_with("per_payment: 0.001, day: 1000", "", ""));
    eventually("the new policy is in effect", || next.metrics().label("tollpass_policy_info", "digest") != before);
    gate.open();
    assert_eq!(slow.join().unwrap().unwrap().text(), "sold");
    has_ledger(&next);
    assert_eq!(get(proxy, &till.url("/x")).unwrap().reason(), "cap_per_payment");
    next.policy_set(&Setup::policy_with("per_payment: 1, day: 1000", "", ""));
    assert_eq!(get(proxy, &till.url("/x")).unwrap().text(), "sold");
}

#[test]
fn only_its_owner_can_ask_for_a_hand_over_and_only_once_at_a_time() {
    let (till, gate) = gated(Setup::new());
    let socket = till.program.path("state/private/handover.sock");
    assert_eq!(std::fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(std::fs::metadata(socket.parent().unwrap()).unwrap().permissions().mode() & 0o777, 0o700);
    let slow = ask(till.program.proxy(), till.url("/slow"));
    till.paid(1);
    let next = till.program.successor(&[]);
    let third = till.program.run(&["serve", "--config", "tollpass.yaml", "--handover"]);
    let said = String::from_utf8_lossy(&third.stderr).into_owned();
    assert_eq!(third.status.code(), Some(1), "{said}");
    assert!(said.contains("it is handing over already"), "{said}");
    gate.open();
    assert_eq!(slow.join().unwrap().unwrap().text(), "sold");
    has_ledger(&next);
}

#[test]
fn without_a_process_to_take_over_from_it_starts_as_usual() {
    let mut setup = Setup::new();
    setup.args.push("--handover".into());
    let (till, _) = gated(setup);
    assert_eq!(till.get("/x").text(), "sold");
    // The socket file of a process that was killed is no process.
    let mut program = till.program;
    program.restart();
    assert_eq!(program.get(&till.seller.url("/y")).text(), "sold");
}

#[test]
fn a_listener_that_is_new_in_the_configuration_is_opened_and_the_others_are_taken() {
    let (till, _) = gated(Setup::new());
    let mut old = till.program;
    let port = crate::harness::free_port();
    let config = std::fs::read_to_string(old.path("tollpass.yaml")).unwrap();
    std::fs::write(
        old.path("tollpass.yaml"),
        config.replacen("admin: 127.0.0.1:0", &format!("admin: 127.0.0.1:0, health: 127.0.0.1:{port}"), 1),
    )
    .unwrap();
    let next = old.successor(&[]);
    has_ledger(&next);
    assert_eq!((next.proxy(), next.admin()), (old.proxy(), old.admin()));
    assert_eq!(get(SocketAddr::from(([127, 0, 0, 1], port)), "/readyz").unwrap().status, 200);
    assert_eq!(old.wait().code(), Some(0));
}

#[test]
fn a_stop_answers_what_is_queued_at_its_sockets() {
    let free = Seller::http(|call| call.reply(200, "", "free"));
    let mut program = Program::start(Setup::new());
    // Queued by the kernel, for the program does not run: more than it accepts between two looks at its signals.
    program.freeze(true);
    let url = free.url("/");
    let asked: Vec<Agent> = (0..200)
        .map(|_| {
            let mut agent = Agent { wire: Wire::plain(TcpStream::connect(program.proxy()).unwrap()) };
            agent.send(Agent::request_bytes("GET", &url, "Connection: close\r\n", b""));
            agent
        })
        .collect();
    program.terminate();
    program.freeze(false);
    for (n, mut agent) in asked.into_iter().enumerate() {
        let answer = agent.response_to("GET").unwrap_or_else(|e| panic!("connection {n}: {e}"));
        assert_eq!(answer.text(), "free");
    }
    assert_eq!(program.wait().code(), Some(0));
}

#[test]
#[cfg(feature = "failpoints")]
fn a_share_changes_hands_with_the_ledger() {
    let wallet = crate::harness::Wallet::new();
    let _cosigner = wallet.start(&[]);
    wallet.enroll();
    let (till, _) = gated(Setup::new().signer(&wallet.signer("")).env("UNSEAL", wallet.passphrase()));
    assert_eq!(till.get("/a").status, 200);
    let mut old = till.program;
    let next = old.successor(&[]);
    has_ledger(&next);
    eventually("the successor pays with the co-signer", || next.get(&till.seller.url("/b")).status == 200);
    assert_eq!(old.wait().code(), Some(0), "{}", old.log());
    assert_eq!(till.chain.count(), 2);
    assert_eq!(spent(&next), 2 * CENT);
}

#[test]
#[cfg(feature = "failpoints")]
fn a_new_process_that_cannot_open_its_share_gives_the_ledger_back() {
    let wallet = crate::harness::Wallet::new();
    let _cosigner = wallet.start(&[]);
    wallet.enroll();
    let (till, _) = gated(Setup::new().signer(&wallet.signer("")).env("UNSEAL", wallet.passphrase()));
    assert_eq!(till.get("/a").status, 200);
    let mut next = till.program.successor(&[("UNSEAL", "another passphrase")]);
    assert_eq!(next.wait().code(), Some(2), "{}", next.log());
    eventually("the old process pays again", || till.get("/b").status == 200);
    assert_eq!(spent(&till.program), till.chain.count() as u64 * CENT);
}
