//! Bodies pass as they come, both ways; what can be sent twice is bounded.

use std::sync::Mutex;
use std::sync::mpsc::channel;

use alloy_primitives::Address;

use crate::harness::{Agent, Call, Chain, Next, PATIENCE, Plan, Program, Seller, Setup, Terms, Visit, sha256, shop};

const PAYEE: Address = Address::repeat_byte(0x33);

fn chunk(text: &str) -> String {
    format!("{:x}\r\n{text}\r\n", text.len())
}

/// Bytes without a period.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    (0..len.div_ceil(8)).flat_map(|_| next().to_le_bytes()).take(len).collect()
}

#[test]
fn a_request_body_streams_to_the_seller() {
    let (tell, told) = channel();
    let tell = Mutex::new(tell);
    let seller = Seller::http(move |call| {
        let mut all = Vec::new();
        while let Ok(Some(chunk)) = call.wire.chunk() {
            tell.lock().unwrap().send(chunk.clone()).unwrap();
            all.extend(chunk);
        }
        call.note(&all);
        call.raw("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        Next::Keep
    });
    let program = Program::start(Setup::new());
    let mut agent = program.agent();
    agent.send(format!("POST {} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", seller.url("/")));
    for part in ["first", "second", "third"] {
        agent.send(chunk(part));
        // The seller has it before the next one is sent.
        assert_eq!(told.recv_timeout(PATIENCE).unwrap(), part.as_bytes());
    }
    agent.send("0\r\n\r\n");
    assert_eq!(agent.response().text(), "ok");
    assert_eq!(seller.seen()[0].body, Some(sha256(b"firstsecondthird")));
}

/// A seller's event stream whose next event waits for `go`.
fn events(call: &mut Call<'_>, go: &Mutex<std::sync::mpsc::Receiver<()>>) -> Next {
    call.body();
    call.raw("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n");
    for n in 0..3 {
        call.chunk(format!("data: {n}\n\n"));
        go.lock().unwrap().recv_timeout(PATIENCE).unwrap();
    }
    call.raw("0\r\n\r\n");
    Next::Keep
}

#[test]
fn an_answer_streams_to_the_agent() {
    let (go, wait) = channel();
    let wait = Mutex::new(wait);
    let seller = Seller::http(move |call| events(call, &wait));
    let program = Program::start(Setup::new());
    read_events(&mut program.agent(), &seller.url("/events"), &go);
}

fn read_events(agent: &mut Agent, url: &str, go: &std::sync::mpsc::Sender<()>) {
    agent.send(Agent::request_bytes("GET", url, "", b""));
    let head = agent.head().unwrap();
    assert_eq!((head.status(), head.get("content-type")), (200, Some("text/event-stream")));
    for n in 0..3 {
        assert_eq!(agent.wire.chunk().unwrap().unwrap(), format!("data: {n}\n\n").as_bytes());
        go.send(()).unwrap();
    }
    assert!(agent.wire.chunk().unwrap().is_none());
}

#[test]
fn a_seller_may_answer_while_the_agent_still_sends() {
    let seller = Seller::http(|call| {
        call.raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        while let Ok(Some(chunk)) = call.wire.chunk() {
            call.chunk(chunk);
        }
        call.raw("0\r\n\r\n");
        Next::Keep
    });
    let program = Program::start(Setup::new());
    let mut agent = program.agent();
    agent.send(format!("POST {} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", seller.url("/")));
    assert_eq!(agent.head().unwrap().status(), 200);
    for part in ["ping", "pong"] {
        agent.send(chunk(part));
        assert_eq!(agent.wire.chunk().unwrap().unwrap(), part.as_bytes());
    }
    agent.send("0\r\n\r\n");
    assert!(agent.wire.chunk().unwrap().is_none());
}

#[test]
fn large_bodies_pass_unchanged_both_ways_and_so_does_a_large_paid_answer() {
    let chain = Chain::new();
    let big = noise(20 << 20);
    let answer = big.clone();
    let pay = shop(&chain, Terms::v2(PAYEE, 10_000), move |_: &Visit| Plan::ok(&answer));
    let seller = Seller::http(move |call| {
        if call.head.target() == "/echo" {
            let body = call.body();
            return call.reply(200, "", body);
        }
        pay(call)
    });
    let program = Program::start(Setup::new().upstream("replay_limit: 1MiB"));
    let echoed = program.request("POST", &seller.url("/echo"), "", &big);
    assert_eq!((echoed.status, sha256(&echoed.body)), (200, sha256(&big)));
    let bought = program.get(&seller.url("/buy"));
    assert_eq!((bought.status, sha256(&bought.body)), (200, sha256(&big)));
    assert_eq!(chain.count(), 1);
}

#[test]
fn a_chunked_body_above_the_replay_limit_passes_whole_and_unpaid() {
    let chain = Chain::new();
    let seller = Seller::http(shop(&chain, Terms::v2(PAYEE, 10_000), |_| Plan::ok("sold")));
    let program = Program::start(Setup::new().upstream("replay_limit: 1MiB"));
    let body = noise((1 << 20) + 1);
    let mut agent = program.agent();
    agent.send(format!("POST {} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", seller.url("/")));
    agent.send([format!("{:x}\r\n", body.len()).as_bytes(), &body, b"\r\n0\r\n\r\n"].concat());
    let answer = agent.response();
    assert_eq!((answer.status, answer.reason().as_str()), (402, "body_not_replayable"));
    assert_eq!((seller.count(), seller.seen()[0].body, chain.count()), (1, Some(sha256(&body)), 0));
}

#[test]
fn an_early_402_is_not_lost_when_the_seller_resets() {
    let chain = Chain::new();
    let terms = Terms::v2(PAYEE, 10_000);
    let (headers, body) = terms.answer();
    let pay = shop(&chain, terms, |visit| Plan::ok(sha256(&visit.body)));
    let seller = Seller::http(move |call| {
        if call.head.has("payment-signature") {
            return pay(call);
        }
        call.raw(format!("HTTP/1.1 402 Payment Required\r\n{headers}Content-Length: {}\r\n\r\n{body}", body.len()));
        // A seller that closes with an upload unread resets the connection: its last words may be discarded by our own
        // kernel, but only after they arrived and could be read.
        call.wire.exactly(1 << 20).ok();
        Next::Reset
    });
    let program = Program::start(Setup::new());
    let body = noise(10 << 20);
    for round in 1..=8 {
        let answer = program.request("POST", &seller.url("/upload"), "", &body);
        assert_eq!((answer.status, answer.body), (200, sha256(&body).to_vec()), "round {round}");
        assert_eq!(chain.count(), round);
    }
}

#[test]
fn kept_bodies_share_one_budget_of_memory_and_give_it_back() {
    const SIZE: usize = 700 << 10;
    let chain = Chain::new();
    let (paid, arrived) = channel();
    let told = Mutex::new(paid);
    let pay = shop(&chain, Terms::v2(PAYEE, 10_000), |_| Plan::ok("sold"));
    let seller = Seller::http(move |call| {
        if call.head.target() != "/free" {
            return pay(call);
        }
        // Most of it is here, and so in the proxy's memory too.
        call.wire.exactly(SIZE - 1).unwrap();
        told.lock().unwrap().send(()).unwrap();
        call.wire.exactly(1).unwrap();
        call.raw("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        Next::Close
    });
    let program = Program::start(Setup::new().upstream("replay_limit: 1MiB, replay_memory: 1MiB, replay_disk: 0"));
    let body = noise(SIZE);
    let post = |path: &str| program.request("POST", &seller.url(path), "", &body);
    let free_again = || crate::harness::eventually("there is room again", || post("/").status == 200);
    for _ in 0..5 {
        free_again();
    }
    // While one upload is under way, a second one passes but cannot be paid.
    let mut first = program.agent();
    first.send(format!("POST {} HTTP/1.1\r\nHost: x\r\nContent-Length: {SIZE}\r\n\r\n", seller.url("/free")));
    first.send(&body[..SIZE - 1]);
    arrived.recv_timeout(PATIENCE).unwrap();
    assert_eq!(post("/").reason(), "body_not_replayable");
    first.send(&body[SIZE - 1..]);
    assert_eq!(first.response().status, 200);
    free_again();
}

#[test]
fn a_paid_upload_keeps_its_room_until_it_is_written_although_its_agent_left() {
    let chain = Chain::new();
    let pay = shop(&chain, Terms::v2(PAYEE, 10_000), |_| Plan::ok("sold"));
    // Takes the head of the paid request and not one byte of its body.
    let seller = Seller::http(
        move |call| if call.head.has("payment-signature") && call.head.target() == "/stall" { call.stall() } else { pay(call) },
    );
    let program = Program::start(Setup::new().upstream("replay_limit: 32MiB, replay_memory: 50MiB, replay_disk: 0"));
    let body = noise(30 << 20);
    let mut agent = program.agent();
    agent.send(Agent::request_bytes("POST", &seller.url("/stall"), "", &body));
    crate::harness::eventually("it is paid", || seller.paid().len() == 1);
    drop(agent);
    for _ in 0..3 {
        assert_eq!(program.request("POST", &seller.url("/"), "", &body).reason(), "body_not_replayable");
    }
}

#[test]
fn an_agent_that_hangs_up_in_the_middle_of_an_upload_harms_nobody() {
    let chain = Chain::new();
    let seller = Seller::http(shop(&chain, Terms::v2(PAYEE, 10_000), |_| Plan::ok("sold")));
    let program = Program::start(Setup::new());
    for _ in 0..5 {
        let mut agent = program.agent();
        agent.send(format!("POST {} HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\nonly this", seller.url("/")));
    }
    assert_eq!(program.get(&seller.url("/")).status, 200);
    assert_eq!(chain.count(), 1);
}

#[test]
fn answers_without_a_body_stay_without_one() {
    let seller = Seller::http(|call| {
        let status = call.head.target().trim_start_matches('/').parse().unwrap();
        call.reply(status, "ETag: \"x\"\r\n", "")
    });
    let program = Program::start(Setup::new());
    let mut agent = program.agent();
    for status in [204, 304, 200] {
        let answer = agent.get(&seller.url(&format!("/{status}")));
        assert_eq!((answer.status, answer.body.len(), answer.head.get("etag")), (status, 0, Some("\"x\"")));
    }
}

#[test]
fn an_answer_that_ends_with_its_connection_arrives_whole() {
    let body = noise(300_000);
    let sent = body.clone();
    let seller = Seller::http(move |call| {
        call.raw([b"HTTP/1.0 200 OK\r\nContent-Type: x/y\r\n\r\n", &sent[..]].concat());
        Next::Close
    });
    let program = Program::start(Setup::new());
    let mut agent = program.agent();
    for _ in 0..2 {
        let answer = agent.get(&seller.url("/"));
        assert_eq!((answer.status, answer.complete), (200, true));
        assert_eq!(sha256(&answer.body), sha256(&body));
    }
}

#[test]
fn an_answer_cut_short_is_cut_short_for_the_agent_too() {
    let seller = Seller::http(|call| {
        call.body();
        call.raw("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this");
        Next::Close
    });
    let program = Program::start(Setup::new());
    let answer = program.get(&seller.url("/"));
    assert_eq!((answer.status, answer.complete), (200, false), "never a short body that looks whole");
}
