//! Interim answers (RFC 9110 §15.2) reach an agent of HTTP/1.1 when a seller gives them, in front of the answer, and never as one.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

use alloy_primitives::Address;

use crate::harness::{Agent, Call, Chain, Next, Program, Seller, Setup, Terms, TestCa, challenge, present};

const PAYEE: Address = Address::repeat_byte(0x22);
const HINT: &str = "HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\nX-ODD: 1\r\nProxy-Status: tollpass; error=x\r\n\r\n";

/// Nothing at any host can be paid for.
fn unpaid() -> Setup {
    let mut setup = Setup::new();
    setup.policy = setup.policy.replace("host: [localhost, 127.0.0.1]", "host: [elsewhere.example]");
    setup
}

/// A gate that the agent opens once it has seen something.
fn gate() -> (Sender<()>, Arc<Mutex<Receiver<()>>>) {
    let (open, opened) = channel();
    (open, Arc::new(Mutex::new(opened)))
}

fn hint_then_answer(opened: Arc<Mutex<Receiver<()>>>) -> impl Fn(&mut Call<'_>) -> Next + Send + Sync + 'static {
    move |call| {
        call.raw("HTTP/1.1 102 Processing\r\n\r\n");
        call.raw(HINT);
        // The answer waits for the hint to be seen: it is not kept for later.
        opened.lock().unwrap().recv().unwrap();
        call.reply(200, "", "x")
    }
}

#[track_caller]
fn sees_hint(agent: &mut Agent, fields: &[&str]) {
    assert_eq!(agent.wire.head().unwrap().unwrap().start, "HTTP/1.1 102 Processing");
    let hint = agent.wire.head().unwrap().unwrap();
    assert_eq!(hint.start, "HTTP/1.1 103 Early Hints");
    let names: Vec<&str> = hint.headers.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, fields);
}

#[test]
fn an_interim_answer_arrives_before_the_answer_is_known() {
    for (setup, fields) in [(unpaid(), &["Link", "X-ODD"][..]), (Setup::new(), &["Link"])] {
        for tls in [false, true] {
            let ca = TestCa::new();
            let (open, opened) = gate();
            let seller = Seller::start(tls.then(|| ca.server(&["127.0.0.1"]).0), hint_then_answer(opened));
            let program = Program::start(Setup { policy: setup.policy.clone(), ..Setup::new() }.tls("intercept: all").roots(&ca.pem));
            let (mut agent, target) = match tls {
                false => (program.agent(), seller.url("/")),
                true => (program.agent().connect(&seller.authority(), "").tls("127.0.0.1", &program.ca()), "/".into()),
            };
            // Twice on one connection: the second is not told what the first was.
            for _ in 0..2 {
                agent.send(format!("GET {target} HTTP/1.1\r\nHost: {}\r\n\r\n", seller.authority()));
                sees_hint(&mut agent, fields);
                open.send(()).unwrap();
                let answer = agent.wire.head().unwrap().unwrap();
                assert_eq!((answer.status(), agent.wire.body(&answer, true).unwrap()), (200, b"x".to_vec()));
            }
        }
    }
}

#[test]
fn a_body_that_waits_to_be_asked_for_is_and_interim_answers_come_between() {
    let seller = Seller::http(|call| {
        assert!(!call.head.has("expect"));
        call.raw("HTTP/1.1 100 Continue\r\n\r\n");
        call.raw(HINT);
        let body = call.body();
        call.raw(HINT);
        call.reply(200, "", body)
    });
    let program = Program::start(unpaid());
    let mut agent = program.agent();
    agent.send(format!(
        "POST {} HTTP/1.1\r\nHost: {}\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n",
        seller.url("/"),
        seller.authority()
    ));
    let mut starts: Vec<String> = (0..2).map(|_| agent.wire.head().unwrap().unwrap().start).collect();
    agent.send("hello");
    starts.push(agent.wire.head().unwrap().unwrap().start);
    let answer = agent.wire.head().unwrap().unwrap();
    assert_eq!((answer.status(), agent.wire.body(&answer, true).unwrap()), (200, b"hello".to_vec()));
    let hint = "HTTP/1.1 103 Early Hints";
    assert_eq!(starts.pop().unwrap(), hint);
    starts.sort();
    assert_eq!(starts, ["HTTP/1.1 100 Continue", hint], "one 100, of the proxy, and what the seller said");
}

#[test]
fn an_agent_of_http_1_0_gets_the_answer_alone() {
    let seller = Seller::http(|call| {
        call.raw(HINT);
        call.reply(200, "", "x")
    });
    let program = Program::start(unpaid());
    let mut agent = program.agent();
    agent.send(format!("GET {} HTTP/1.0\r\nHost: {}\r\n\r\n", seller.url("/"), seller.authority()));
    let answer = agent.wire.head().unwrap().unwrap();
    assert_eq!((answer.status(), agent.wire.body(&answer, true).unwrap()), (200, b"x".to_vec()));
    assert!(agent.is_closed());
}

#[test]
fn interim_answers_are_bounded() {
    for (count, padding, status) in [(32, 10, 200), (33, 10, 502), (20, 4000, 200)] {
        let seller = Seller::http(move |call| {
            let hint = format!("HTTP/1.1 103 Early Hints\r\nLink: <{}>\r\n\r\n", "x".repeat(padding));
            call.raw(hint.repeat(count) + "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx");
            Next::Keep
        });
        let program = Program::start(unpaid());
        let mut agent = program.agent();
        agent.send(Agent::request_bytes("GET", &seller.url("/"), "", b""));
        let mut bytes = 0;
        let answer = loop {
            let head = agent.wire.head().unwrap().unwrap();
            if head.status() != 103 {
                break head;
            }
            bytes += head.get("link").unwrap().len();
        };
        assert_eq!(answer.status(), status, "{count} of {padding}");
        assert!(bytes <= 32 * (padding + 2) && bytes < 100_000, "{bytes}");
    }
}

#[test]
fn of_an_exchange_that_is_paid_here_only_hints_are_seen() {
    let (chain, terms) = (Chain::new(), Terms::v2(PAYEE, 10_000));
    let mine = chain.clone();
    let seller = Seller::http(move |call| {
        call.raw(format!("HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n{}\r\n", terms.answer().0));
        let Some(Ok(payment)) = present(&call.head, &terms) else { return challenge(call, &terms) };
        mine.settle(payment.from, payment.to, payment.value, payment.nonce).unwrap();
        call.reply(200, "", "sold")
    });
    let program = Program::start(Setup::new());
    let mut agent = program.agent();
    agent.send(Agent::request_bytes("GET", &seller.url("/"), "", b""));
    let hint = agent.wire.head().unwrap().unwrap();
    let names: Vec<&str> = hint.headers.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!((hint.status(), names), (103, vec!["Link"]), "nothing of a challenge");
    let answer = agent.wire.head().unwrap().unwrap();
    assert_eq!((answer.status(), agent.wire.body(&answer, true).unwrap(), chain.count()), (200, b"sold".to_vec(), 1));
}
