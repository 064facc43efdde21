//! How much one agent, and all of them, may have open, send and hold; and that what is over a limit is told which.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::harness::{Agent, Next, Program, Response, Seller, Setup, basic, eventually};

#[track_caller]
fn expect(answer: &Response, status: u16, reason: &str) {
    assert_eq!((answer.status, answer.reason().as_str()), (status, reason));
    let line = answer.head.get("proxy-status").unwrap();
    assert!(line.contains(&format!("details=\"{reason}\"")), "{line}");
}

/// Answers `/hang` when the test ends, everything else at once.
fn seller() -> Seller {
    Seller::http(|call| if call.head.target() == "/hang" { call.stall() } else { call.reply(200, "", "ok") })
}

fn two_agents(limits: &str) -> Setup {
    let rows = [("one", "1"), ("two", "2")];
    Setup::new().limits(limits).agents("tokens: file:agents.yaml").file("agents.yaml", crate::proxy_agents::tokens(&rows))
}

/// Sends a request whose answer does not come.
fn hang(program: &Program, seller: &Seller, headers: &str) -> Agent {
    let before = seller.count();
    let mut agent = program.agent();
    agent.send(Agent::request_bytes("GET", &seller.url("/hang"), headers, b""));
    eventually("the seller has the request", || seller.count() > before);
    agent
}

#[test]
fn an_agent_beyond_its_connections_is_told_429_and_another_is_served() {
    let seller = seller();
    let program = Program::start(two_agents("agent_connections: 2"));
    let (one, two, url) = (basic("one", "1"), basic("two", "2"), seller.url("/"));
    let (mut a, mut b) = (program.agent(), program.agent());
    assert_eq!((a.request("GET", &url, &one, b"").status, b.request("GET", &url, &one, b"").status), (200, 200));
    let mut third = program.agent();
    expect(&third.request("GET", &url, &one, b""), 429, "too_many_agent_connections");
    assert!(third.is_closed(), "waiting must not keep it a place");
    assert_eq!(program.request("GET", &url, &two, b"").status, 200);
    assert_eq!(a.request("GET", &url, &one, b"").status, 200, "its other connections go on");
    drop(b);
    eventually("the place is free again", || program.request("GET", &url, &one, b"").status == 200);
}

#[test]
fn a_tunnel_keeps_its_agents_place_until_it_ends() {
    let echo = Seller::tcp(|wire| wire.wait_for_close());
    let seller = seller();
    let program = Program::start(two_agents("agent_connections: 1").tls("intercept: none"));
    let tunnel = program.agent().connect(&echo.authority(), &basic("one", "1"));
    expect(&program.request("GET", &seller.url("/"), &basic("one", "1"), b""), 429, "too_many_agent_connections");
    drop(tunnel);
    eventually("the place is free again", || program.request("GET", &seller.url("/"), &basic("one", "1"), b"").status == 200);
}

#[test]
fn requests_under_way_are_bounded_per_agent_and_in_total() {
    let seller = seller();
    let program = Program::start(two_agents("requests: 3, agent_requests: 2"));
    let (one, two, url) = (basic("one", "1"), basic("two", "2"), seller.url("/"));
    let hanging = [hang(&program, &seller, &one), hang(&program, &seller, &one)];
    expect(&program.request("GET", &url, &one, b""), 429, "too_many_agent_requests");
    assert_eq!(program.request("GET", &url, &two, b"").status, 200);
    let third = hang(&program, &seller, &two);
    expect(&program.request("GET", &url, &two, b""), 503, "too_many_requests");
    drop((hanging, third));
    eventually("there is room again", || {
        program.request("GET", &url, &one, b"").status == 200 && program.request("GET", &url, &two, b"").status == 200
    });
}

#[test]
fn an_answer_that_its_agent_does_not_take_counts_until_the_agent_is_given_up() {
    let big = vec![b'x'; 64 << 20];
    let seller = Seller::http(move |call| if call.head.target() == "/big" { call.reply(200, "", &big) } else { call.reply(200, "", "ok") });
    let program = Program::start(Setup::new().limits("requests: 1, idle: 1s"));
    let mut lazy = program.agent();
    lazy.send(Agent::request_bytes("GET", &seller.url("/big"), "", b""));
    assert_eq!(lazy.head().unwrap().status(), 200);
    let before = program.memory_kib();
    expect(&program.get(&seller.url("/")), 503, "too_many_requests");
    // It never reads on; the kernel ends the connection by itself.
    eventually("the slow agent is given up", || program.get(&seller.url("/")).status == 200);
    assert!(program.peak_kib() < before + 16 * 1024, "{} KiB, then at most {}", before, program.peak_kib());
}

#[test]
fn an_idle_agent_is_closed() {
    let seller = seller();
    let program = Program::start(Setup::new().limits("idle: 300ms"));
    let mut agent = program.agent();
    assert_eq!(agent.get(&seller.url("/")).status, 200);
    assert!(agent.is_closed());
    for before in 0..2 {
        let mut slow = program.agent();
        for _ in 0..before {
            assert_eq!(slow.get(&seller.url("/")).status, 200);
        }
        slow.send("GET http://127.0.0.1/ HTTP/1.1\r\nX-Never: ");
        assert!(slow.response_to("GET").is_err(), "a head that never ends, after {before}");
    }
}

#[test]
fn an_agent_whose_answer_is_under_way_is_not_idle() {
    let seller = Seller::http(|call| {
        call.raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        call.chunk("one");
        // Three times as long as an agent may be idle.
        std::thread::sleep(Duration::from_millis(900));
        call.chunk("two");
        call.raw("0\r\n\r\n");
        Next::Keep
    });
    let program = Program::start(Setup::new().limits("idle: 300ms"));
    let mut agent = program.agent();
    for _ in 0..2 {
        let answer = agent.get(&seller.url("/"));
        assert_eq!((answer.status, answer.body.as_slice()), (200, &b"onetwo"[..]));
    }
    assert!(agent.is_closed(), "afterwards it is");
}

#[test]
fn a_body_beyond_the_limit_is_413_announced_or_not() {
    let seller = seller();
    // Where the body is kept for a second sending, and where it is not.
    for setup in [Setup::new(), Setup::new().policy("version: 1\n")] {
        let program = Program::start(setup.limits("body: 1MiB"));
        let (url, host) = (seller.url("/"), seller.authority());
        assert_eq!(program.request("POST", &url, "", &vec![b'x'; 1 << 20]).status, 200);
        let before = seller.connections();
        let mut announced = program.agent();
        announced.send(format!("POST {url} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 1048577\r\n\r\n"));
        expect(&announced.response_to("POST").unwrap(), 413, "body_too_large");
        assert_eq!(seller.connections(), before, "nothing was sent");
        let mut chunked = program.agent();
        chunked.send(format!("POST {url} HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\n"));
        let chunk = [b"10000\r\n".as_slice(), &[b'x'; 1 << 16], b"\r\n"].concat();
        for _ in 0..17 {
            chunked.send(&chunk);
        }
        expect(&chunked.response_to("POST").unwrap(), 413, "body_too_large");
    }
    assert!(seller.seen().iter().all(|s| s.body_len <= 1 << 20), "no seller got more than the limit");
}

#[test]
fn an_answer_with_too_large_a_head_is_502_and_one_below_the_limit_passes() {
    let seller = Seller::http(|call| {
        let n: usize = call.head.target()[1..].parse().unwrap();
        call.reply(200, &format!("X-Pad: {}\r\n", "p".repeat(n)), "ok")
    });
    let program = Program::start(Setup::new().limits("seller_header: 24KiB"));
    assert_eq!(program.get(&seller.url("/20000")).status, 200, "a challenge of 20 kB must fit");
    expect(&program.get(&seller.url("/30000")), 502, "upstream_header_too_large");
    let many = Seller::http(|call| call.reply(200, &"A: b\r\n".repeat(150), "ok"));
    expect(&program.get(&many.url("/")), 502, "upstream_header_too_large");
}

#[test]
fn a_seller_that_sends_faster_than_its_agent_reads_does_not_grow_the_process() {
    let sent = Arc::new(AtomicUsize::new(0));
    let count = sent.clone();
    let seller = Seller::http(move |call| {
        call.raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        while call.chunk([b'x'; 1 << 16]) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        Next::Close
    });
    let program = Program::start(Setup::new());
    assert_eq!(program.get("http://127.0.0.1:9/").status, 502);
    let before = program.memory_kib();
    let mut agents: Vec<Agent> = (0..16).map(|_| program.agent()).collect();
    for agent in &mut agents {
        agent.send(Agent::request_bytes("GET", &seller.url("/"), "", b""));
        assert_eq!(agent.head().unwrap().status(), 200);
    }
    eventually("every buffer on the way is full", || {
        let before = sent.load(Ordering::Relaxed);
        std::thread::sleep(Duration::from_millis(100));
        before > 0 && sent.load(Ordering::Relaxed) == before
    });
    let grown = program.peak_kib().saturating_sub(before);
    assert!(grown < 16 * 512, "{grown} KiB for 16 answers that nobody reads");
}

#[test]
fn what_names_another_way_to_the_seller_does_not_reach_the_agent() {
    let seller = Seller::http(|call| call.reply(200, "Alt-Svc: h3=\":443\"; ma=86400\r\n", "ok"));
    let program = Program::start(Setup::new());
    let answer = program.get(&seller.url("/"));
    assert_eq!(answer.status, 200);
    assert!(!answer.head.has("alt-svc"), "{:?}", answer.head);
}
