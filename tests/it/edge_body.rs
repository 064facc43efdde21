//! Bodies: streams both ways, bodies kept for the retry, early answers, time-outs.

use std::time::{Duration, Instant};

use alloy_primitives::Address;

use crate::harness::{Agent, Call, Chain, Next, Plan, Program, Seller, Setup, Terms, challenge, eventually, sha256, shop};

const MIB: usize = 1 << 20;
const PAYEE: Address = Address::repeat_byte(0x11);

fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut x = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut byte = || {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        x as u8
    };
    (0..len).map(|_| byte()).collect()
}

/// What a seller does with the unpaid upload after it answered 402.
#[derive(Clone, Copy)]
enum Early {
    Closes,
    Stalls,
    Drains,
}

/// Ten times, ten MiB: one paid 200 each, byte for byte.
fn an_early_402(early: Early) {
    let chain = Chain::new();
    let terms = Terms::v2(PAYEE, 10_000);
    let paid = shop(&chain, terms.clone(), |_| Plan::ok("sold"));
    let seller = Seller::http(move |call: &mut Call<'_>| {
        if call.head.has("payment-signature") {
            return paid(call);
        }
        let (headers, body) = terms.answer();
        call.raw(format!("HTTP/1.1 402 Payment Required\r\n{headers}Content-Length: {}\r\n\r\n{body}", body.len()));
        match early {
            Early::Closes => Next::Close,
            Early::Stalls => call.stall(),
            Early::Drains => {
                call.body();
                Next::Keep
            }
        }
    });
    let program = Program::start(Setup::new());
    for n in 0..10 {
        let body = noise(10 * MIB, n);
        let mut agent = program.agent();
        agent.send(Agent::request_bytes("POST", &seller.url(&format!("/{n}")), "", &body));
        let answer = agent.response();
        assert_eq!((answer.status, answer.text().as_str()), (200, "sold"), "round {n}");
        assert_eq!(seller.paid().last().unwrap().body, Some(sha256(&body)), "round {n}: byte-identical");
    }
    assert_eq!(chain.count(), 10);
}

#[test]
fn an_early_402_on_10_mib_is_not_lost_when_the_seller_closes() {
    an_early_402(Early::Closes);
}

#[test]
fn an_early_402_on_10_mib_is_not_lost_when_the_seller_stalls() {
    an_early_402(Early::Stalls);
}

#[test]
fn an_early_402_on_10_mib_is_not_lost_when_the_seller_drains() {
    an_early_402(Early::Drains);
}

#[test]
fn a_body_above_the_replay_limit_passes_whole_and_is_not_paid() {
    let chain = Chain::new();
    let seller = Seller::http(shop(&chain, Terms::v2(PAYEE, 10_000), |_| Plan::ok("sold")));
    let free = Seller::http(|call| {
        let body = call.body();
        call.reply(200, "", format!("{}", body.len()))
    });
    let program = Program::start(Setup::new().upstream("replay_limit: 1MiB"));
    let large = noise(2 * MIB, 1);
    assert_eq!(program.request("POST", &free.url("/"), "", &large).text(), large.len().to_string());
    let answer = program.request("POST", &seller.url("/"), "", &large);
    assert_eq!((answer.status, answer.reason().as_str()), (402, "body_not_replayable"));
    assert_eq!(program.request("POST", &seller.url("/"), "", &large[..MIB]).status, 200, "exactly the limit is kept");
    assert_eq!(chain.count(), 1);
}

#[test]
fn a_chunked_upload_is_kept_and_sent_again_whole() {
    let chain = Chain::new();
    let seller = Seller::http(shop(&chain, Terms::v2(PAYEE, 10_000), |visit| Plan::ok(format!("{:?}", sha256(&visit.body)))));
    let program = Program::start(Setup::new());
    let mut agent = program.agent();
    agent.send(format!("POST {} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", seller.url("/")));
    let mut whole = Vec::new();
    for n in 0..200_usize {
        let part = noise(n * 7 + 1, n as u64);
        agent.send([format!("{:x}\r\n", part.len()).as_bytes(), &part, b"\r\n"].concat());
        whole.extend_from_slice(&part);
    }
    agent.send("0\r\n\r\n");
    assert_eq!(agent.response().text(), format!("{:?}", sha256(&whole)));
    assert_eq!(chain.count(), 1);
}

#[test]
fn an_expectation_is_answered_and_the_upload_paid() {
    let chain = Chain::new();
    let seller = Seller::http(shop(&chain, Terms::v2(PAYEE, 10_000), |_| Plan::ok("sold")));
    let program = Program::start(Setup::new());
    let mut agent = program.agent();
    agent.send(format!("POST {} HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n", seller.url("/")));
    assert_eq!(agent.wire.head().unwrap().unwrap().status(), 100);
    agent.send("hello");
    assert_eq!(agent.response().text(), "sold");
}

#[test]
fn answers_stream_the_first_piece_arrives_before_the_last_is_sent() {
    let seller = Seller::http(|call| {
        call.raw("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n");
        call.chunk("data: 1\n\n");
        // Goes on only when the agent says that it has the first event.
        if call.wire.some().is_ok_and(|b| !b.is_empty()) {
            call.chunk("data: 2\n\n");
        }
        call.raw("0\r\n\r\n");
        Next::Close
    });
    let program = Program::start(Setup::new().tls("intercept: none"));
    // Through a blind tunnel the agent's go-ahead reaches the seller as it is.
    let mut agent = program.agent().connect(&seller.authority(), "");
    agent.send(format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", seller.authority()));
    agent.head().unwrap();
    assert_eq!(agent.wire.chunk().unwrap().unwrap(), b"data: 1\n\n");
    agent.send("go on");
    assert_eq!(agent.wire.chunk().unwrap().unwrap(), b"data: 2\n\n");
}

#[test]
fn a_paid_stream_arrives_piece_by_piece() {
    let chain = Chain::new();
    let terms = Terms::v2(PAYEE, 10_000);
    let gate = crate::till::Gate::default();
    let opened = gate.clone();
    let seller = Seller::http(move |call| {
        if !call.head.has("payment-signature") {
            return challenge(call, &terms);
        }
        call.raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        call.chunk("one");
        opened.pass();
        call.chunk("two");
        call.raw("0\r\n\r\n");
        Next::Close
    });
    let program = Program::start(Setup::new());
    let mut agent = program.agent();
    agent.send(Agent::request_bytes("GET", &seller.url("/"), "", b""));
    assert_eq!(agent.head().unwrap().status(), 200);
    assert_eq!(agent.wire.chunk().unwrap().unwrap(), b"one");
    gate.open();
    assert_eq!(agent.wire.chunk().unwrap().unwrap(), b"two");
    assert_eq!(agent.wire.chunk().unwrap(), None);
    assert_eq!(chain.count(), 0, "this seller never settles");
}

#[test]
fn uploads_stream_the_seller_has_the_first_piece_before_the_last_is_sent() {
    let seller = Seller::http(|call| {
        let first = call.wire.exactly(5).unwrap();
        call.raw("HTTP/1.1 103 Early Hints\r\n\r\n");
        let second = call.wire.exactly(5).unwrap();
        call.note(b"");
        call.raw(format!(
            "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{}{}",
            String::from_utf8_lossy(&first),
            String::from_utf8_lossy(&second)
        ));
        Next::Close
    });
    let program = Program::start(Setup::new());
    let mut agent = program.agent();
    agent.send(format!("POST {} HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nfirst", seller.url("/")));
    eventually("the seller sees the request before it is whole", || seller.count() == 1);
    agent.send("later");
    assert_eq!(agent.response().text(), "firstlater");
}

#[test]
fn the_first_byte_has_a_time_out_of_its_own_and_a_long_stream_lives_past_it() {
    let silent = Seller::http(|call| call.hang());
    let stream = Seller::http(|call| {
        call.raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        let begun = Instant::now();
        let mut n = 0;
        while begun.elapsed() < Duration::from_millis(2500) {
            call.chunk(format!("{n},"));
            n += 1;
            std::thread::sleep(Duration::from_millis(100));
        }
        call.raw("0\r\n\r\n");
        Next::Close
    });
    let program = Program::start(Setup::new().upstream("first_byte: 1s, idle: 1s, connect: 1s"));
    let answer = program.get(&silent.url("/"));
    assert_eq!((answer.status, answer.reason().as_str()), (504, "first_byte_timeout"));
    let begun = Instant::now();
    let answer = program.get(&stream.url("/"));
    assert!(answer.complete && begun.elapsed() > Duration::from_secs(2), "{}", answer.text());
}

#[test]
fn a_body_that_stands_still_is_cut_after_the_idle_time() {
    let seller = Seller::http(|call| {
        call.raw("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf.");
        call.hang()
    });
    let program = Program::start(Setup::new().upstream("idle: 1s"));
    let answer = program.get(&seller.url("/"));
    assert!(answer.status == 200 && !answer.complete);
}

#[test]
fn an_upload_that_moves_is_not_cut_by_the_first_byte_time_out() {
    let seller = Seller::http(|call| {
        let body = call.body();
        call.reply(200, "", body.len().to_string())
    });
    let program = Program::start(Setup::new().upstream("first_byte: 1s"));
    let mut agent = program.agent();
    agent.send(format!("POST {} HTTP/1.1\r\nHost: x\r\nContent-Length: 25\r\n\r\n", seller.url("/")));
    for _ in 0..25 {
        agent.send("x");
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(agent.response().text(), "25");
}
