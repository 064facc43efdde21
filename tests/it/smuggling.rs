//! Request smuggling: every row of `corpus/smuggling`, in every way in, against a seller that checks each byte it gets.

#[path = "corpus/smuggling/mod.rs"]
mod corpus;
pub(crate) mod tap;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use alloy_primitives::Address;
use corpus::{agent, seller};
use tap::Tap;

use crate::harness::{Agent, Chain, Program, Response, Seller, Setup, Terms, TestCa, basic, eventually};

/// How an agent reaches the seller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Absolute,
    Connect,
    ConnectTls,
}

struct Rig {
    way: Way,
    program: Program,
    tap: Tap,
}

impl Rig {
    fn new(way: Way) -> Self {
        let ca = TestCa::new();
        let tap = Tap::start((way == Way::ConnectTls).then(|| ca.server(&["127.0.0.1"]).0));
        Self { way, program: Program::start(Setup::new().roots(&ca.pem)), tap }
    }

    /// A connection on which one request was answered.
    fn agent(&self) -> Agent {
        let mut agent = self.program.agent();
        if self.way != Way::Absolute {
            agent = agent.connect(&self.tap.authority(), "");
        }
        if self.way == Way::ConnectTls {
            agent = agent.tls("127.0.0.1", &self.program.ca());
        }
        self.probe(&mut agent);
        agent
    }

    /// A good request is answered, and reaches the seller as the only one.
    #[track_caller]
    fn probe(&self, agent: &mut Agent) {
        self.tap.drain();
        agent.send(self.bytes("GET {U}/probe HTTP/1.1\r\nHost: {A}\r\n\r\n"));
        assert_eq!(agent.response().status, 200);
        assert_eq!(self.tap.drain(), ["GET /probe "]);
    }

    fn bytes(&self, row: &str) -> Vec<u8> {
        let authority = self.tap.authority();
        let url = if self.way == Way::Absolute { format!("http://{authority}") } else { String::new() };
        // The length of a body must not depend on the port: {A} stands in bodies only where the row is refused anyway.
        row.replace("{U}", &url).replace("{A}", &authority).into_bytes()
    }

    /// Sends `bytes`, in one piece or one by one; the other side may close meanwhile.
    fn send(&self, agent: &mut Agent, bytes: &[u8], slowly: bool) {
        for piece in bytes.chunks(if slowly { 1 } else { bytes.len() }) {
            if agent.wire.write(piece).is_err() {
                return;
            }
        }
    }
}

#[track_caller]
fn is_ours(answer: &Response, status: u16, reason: &str, row: &str) {
    assert_eq!((answer.status, answer.reason().as_str()), (status, reason), "{row}");
    assert_eq!(
        answer.head.get("proxy-status"),
        Some(format!("tollpass; error=http_request_error; details=\"{reason}\"").as_str()),
        "{row}"
    );
    assert_eq!(answer.head.get("connection"), Some("close"), "{row}");
}

/// Every row that is refused, alone and behind a good request in the same piece.
fn refused_in(way: Way, slowly: bool) {
    let rig = Rig::new(way);
    for (row, bytes) in agent::REFUSED {
        for pipelined in [false, true] {
            let mut agent = rig.agent();
            let before = if pipelined { "POST {U}/first HTTP/1.1\r\nHost: {A}\r\nContent-Length: 2\r\n\r\nab" } else { "" };
            // What comes after the bad message must not be read as one.
            let behind = "GET {U}/behind HTTP/1.1\r\nHost: {A}\r\n\r\n";
            rig.send(&mut agent, &rig.bytes(&format!("{before}{bytes}{behind}")), slowly);
            if pipelined {
                assert_eq!(agent.response().status, 200, "{row}");
            }
            is_ours(&agent.response(), 400, "bad_request", row);
            assert!(agent.is_closed(), "{row}");
            let seen: &[&str] = if pipelined { &["POST /first ab"] } else { &[] };
            assert_eq!(rig.tap.drain(), seen, "{row}");
            assert_eq!(rig.tap.cut(), 0, "{row}");
        }
    }
}

#[test]
fn what_two_readers_divide_differently_is_400_and_the_end_of_the_connection() {
    refused_in(Way::Absolute, false);
}

#[test]
fn it_is_however_its_bytes_arrive() {
    refused_in(Way::Absolute, true);
}

#[test]
fn it_is_inside_a_plain_tunnel() {
    refused_in(Way::Connect, false);
}

#[test]
fn it_is_inside_a_tunnel_of_tls() {
    refused_in(Way::ConnectTls, false);
}

#[test]
fn a_body_that_breaks_its_framing_is_400_and_the_seller_never_sees_it_whole() {
    for way in [Way::Absolute, Way::Connect, Way::ConnectTls] {
        let rig = Rig::new(way);
        for (row, body) in agent::BROKEN {
            for slowly in [false, true] {
                let mut agent = rig.agent();
                let head = "POST {U}/a HTTP/1.1\r\nHost: {A}\r\nTransfer-Encoding: chunked\r\n\r\n";
                rig.send(&mut agent, &rig.bytes(&format!("{head}{body}")), slowly);
                is_ours(&agent.response(), 400, "bad_request", row);
                assert!(agent.is_closed(), "{row}");
                assert_eq!(rig.tap.drain(), [""; 0], "{row}");
                rig.tap.cut();
            }
        }
    }
}

#[test]
fn a_request_whose_body_breaks_is_never_paid() {
    let (chain, terms) = (Chain::new(), Terms::v2(Address::repeat_byte(0x22), 10_000));
    let (lines, body) = terms.answer();
    // The challenge comes before the body is through.
    let seller = Seller::http(move |call| {
        call.raw(format!("HTTP/1.1 402 Pay\r\n{lines}Content-Length: {}\r\n\r\n{body}", body.len()));
        call.hang()
    });
    let program = Program::start(Setup::new());
    for slowly in [false, true] {
        let mut agent = program.agent();
        let head = format!("POST {} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n", seller.url("/buy"));
        agent.send(head);
        if slowly {
            eventually("the seller has asked for money", || seller.count() > 0);
        }
        agent.send("2\nab\r\n0\r\n\r\n");
        let answer = agent.response();
        assert!(matches!(answer.status, 400 | 402), "{}", answer.status);
        assert!(agent.is_closed());
    }
    assert_eq!((chain.count(), seller.paid().len()), (0, 0));
    assert_eq!(program.ledger()["purchases"], serde_json::json!([]));
}

#[test]
fn near_misses_are_served_and_reach_the_seller_as_one_thing() {
    for way in [Way::Absolute, Way::Connect, Way::ConnectTls] {
        let rig = Rig::new(way);
        for (row, bytes, seen) in agent::SERVED {
            for slowly in [false, true] {
                let mut agent = rig.agent();
                rig.send(&mut agent, &rig.bytes(bytes), slowly);
                for _ in *seen {
                    assert_eq!(agent.response().status, 200, "{row}");
                }
                assert_eq!(rig.tap.drain(), *seen, "{row}");
                rig.probe(&mut agent);
            }
        }
    }
}

#[test]
fn a_head_over_the_limit_is_431_with_a_reason() {
    let rig = Rig::new(Way::Absolute);
    let long = "GET {U}/a HTTP/1.1\r\nHost: {A}\r\n";
    for lines in [format!("X: {}\r\n", "x".repeat(70_000)), "X: y\r\n".repeat(100), "x".repeat(70_000)] {
        let mut agent = rig.agent();
        rig.send(&mut agent, &rig.bytes(&format!("{long}{lines}\r\n")), false);
        is_ours(&agent.response(), 431, "header_too_large", &lines[..9]);
        assert!(agent.is_closed());
        assert_eq!(rig.tap.drain(), [""; 0]);
    }
    let mut agent = rig.agent();
    agent.send(rig.bytes(&format!("{long}X: {}\r\n{}\r\n", "x".repeat(20_000), "Y: z\r\n".repeat(98))));
    assert_eq!(agent.response().status, 200);
}

#[test]
fn the_request_line_decides_and_another_host_is_no_way_around_it() {
    let rig = Rig::new(Way::Absolute);
    let mut agent = rig.agent();
    for host in ["Host: evil.example\r\n", "Host: evil.example:80@x\r\n", "Host:\r\n", ""] {
        agent.send(rig.bytes(&format!("GET {{U}}/a HTTP/1.1\r\n{host}\r\n")));
        assert_eq!(agent.response().status, 200, "{host}");
        // The tap has checked the one Host.
        assert_eq!(rig.tap.drain(), ["GET /a "], "{host}");
    }
    for way in [Way::Connect, Way::ConnectTls] {
        let rig = Rig::new(way);
        for (bytes, status) in [
            ("GET /a HTTP/1.1\r\nHost: evil.example\r\n\r\n", 421),
            ("GET /a HTTP/1.1\r\nHost: {A}, evil.example\r\n\r\n", 421),
            ("GET /a HTTP/1.1\r\nHost: x@{A}\r\n\r\n", 421),
            ("GET http://evil.example/a HTTP/1.1\r\nHost: {A}\r\n\r\n", 421),
            ("CONNECT evil.example:443 HTTP/1.1\r\nHost: {A}\r\n\r\n", 400),
        ] {
            let mut agent = rig.agent();
            agent.send(rig.bytes(bytes));
            assert_eq!(agent.response().status, status, "{bytes}");
            assert_eq!(rig.tap.drain(), [""; 0], "{bytes}");
        }
    }
}

#[test]
fn behind_a_connect_that_is_refused_the_next_bytes_are_a_request_and_judged_as_one() {
    let rig = Rig::new(Way::Absolute);
    let refused = "CONNECT 169.254.169.254:80 HTTP/1.1\r\nHost: x\r\n\r\n";
    for slowly in [false, true] {
        let mut agent = rig.agent();
        rig.send(&mut agent, &rig.bytes(&format!("{refused}GET {{U}}/a HTTP/1.1\r\nHost: {{A}}\r\n\r\n")), slowly);
        assert_eq!((agent.response().status, agent.response().status), (403, 200));
        assert_eq!(rig.tap.drain(), ["GET /a "]);
        rig.send(&mut agent, &rig.bytes(&format!("{refused}GET {{U}}/a HTTP/1.1\nHost: {{A}}\r\n\r\n")), slowly);
        assert_eq!(agent.response().status, 403);
        is_ours(&agent.response(), 400, "bad_request", "behind CONNECT");
        assert!(agent.is_closed());
        assert_eq!(rig.tap.drain(), [""; 0]);
    }
    // A body that CONNECT cannot have.
    for lines in ["Content-Length: 1\r\n\r\nx", "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"] {
        let mut agent = rig.agent();
        rig.send(&mut agent, &rig.bytes(&format!("CONNECT {{A}} HTTP/1.1\r\nHost: {{A}}\r\n{lines}")), false);
        is_ours(&agent.response(), 400, "bad_request", lines);
    }
}

#[test]
fn what_an_agent_says_too_early_behind_connect_is_the_tunnels() {
    let rig = Rig::new(Way::Absolute);
    for slowly in [false, true] {
        let mut agent = rig.agent();
        let inside = "GET /in HTTP/1.1\r\nHost: {A}\r\n\r\n";
        let connect = "GET {U}/first HTTP/1.1\r\nHost: {A}\r\n\r\nCONNECT {A} HTTP/1.1\r\nContent-Length: 0\r\n\r\n";
        rig.send(&mut agent, &rig.bytes(&format!("{connect}{inside}")), slowly);
        assert_eq!((agent.response().status, agent.response_to("CONNECT").unwrap().status, agent.response().status), (200, 200, 200));
        assert_eq!(rig.tap.drain(), ["GET /first ", "GET /in "]);
    }
}

#[test]
fn a_request_for_another_protocol_that_is_not_granted_leaves_http_behind_it() {
    let rig = Rig::new(Way::Absolute);
    let asks = "GET {U}/ws HTTP/1.1\r\nHost: {A}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    for (behind, status, seen) in [
        ("GET {U}/a HTTP/1.1\r\nHost: {A}\r\n\r\n", 200, &["GET /ws ", "GET /a "][..]),
        ("GET {U}/a HTTP/1.1\nHost: {A}\r\n\r\n", 400, &["GET /ws "]),
    ] {
        let mut agent = rig.agent();
        rig.send(&mut agent, &rig.bytes(&format!("{asks}{behind}")), false);
        assert_eq!((agent.response().status, agent.response().status), (200, status));
        assert_eq!(rig.tap.drain(), seen);
    }
}

#[test]
fn a_request_for_another_protocol_may_have_a_body() {
    let rig = Rig::new(Way::Absolute);
    let mut agent = rig.agent();
    for protocol in ["websocket", "h2c"] {
        let head = "POST {U}/a HTTP/1.1\r\nHost: {A}\r\nConnection: Upgrade\r\nContent-Length: 2\r\n";
        agent.send(rig.bytes(&format!("{head}Upgrade: {protocol}\r\n\r\nab")));
        assert_eq!(agent.response().status, 200);
        assert_eq!(rig.tap.drain(), ["POST /a ab"]);
        rig.probe(&mut agent);
    }
}

#[test]
fn a_407_does_not_end_the_watch() {
    let tap = Tap::start(None);
    let tokens = crate::proxy_agents::tokens(&[("bot", "secret")]);
    let program = Program::start(Setup::new().agents("tokens: file:tokens.yaml").file("tokens.yaml", tokens));
    let mut agent = program.agent();
    let authority = tap.authority();
    agent.send(format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n"));
    assert_eq!(agent.response().status, 407);
    agent.send(format!("GET http://{authority}/ HTTP/1.1\r\nHost: {authority}\r\n{}\r\n", basic("bot", "secret")));
    assert_eq!(agent.response().status, 200);
    agent.send(format!(
        "POST http://{authority}/ HTTP/1.1\r\n{}Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        basic("bot", "secret")
    ));
    assert_eq!(agent.response().reason(), "bad_request");
    assert_eq!(tap.drain(), ["GET / "]);
}

/// Answers `/row` with these bytes and leaves the connection open; everything else is answered `fresh`. Counts connections.
fn seller_with(bytes: &'static str, tls: Option<Arc<rustls::ServerConfig>>) -> (Seller, Arc<AtomicUsize>) {
    let count = Arc::new(AtomicUsize::new(0));
    let connections = count.clone();
    let seller = Seller::raw(tls, move |wire| {
        connections.fetch_add(1, Ordering::SeqCst);
        while let Ok(Some(head)) = wire.head() {
            let said = match head.target() {
                "/row" => bytes,
                _ => "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfresh",
            };
            if wire.write(said.as_bytes()).is_err() {
                return;
            }
        }
    });
    (seller, count)
}

fn each_seller(
    tls: bool,
    rows: impl Iterator<Item = (&'static str, &'static str)>,
    check: impl Fn(&str, &mut Agent, &Seller, &AtomicUsize),
) {
    let ca = TestCa::new();
    let program = Program::start(Setup::new().roots(&ca.pem));
    for (row, bytes) in rows {
        let (seller, connections) = seller_with(bytes, tls.then(|| ca.server(&["127.0.0.1"]).0));
        check(row, &mut program.agent(), &seller, &connections);
    }
}

#[test]
fn an_answer_that_two_readers_divide_differently_is_502_and_its_connection_is_not_used_again() {
    for tls in [false, true] {
        each_seller(tls, seller::REFUSED.iter().copied(), |row, agent, seller, connections| {
            assert_eq!(agent.get(&seller.url("/")).text(), "fresh");
            let answer = agent.get(&seller.url("/row"));
            assert_eq!((answer.status, answer.reason().as_str()), (502, "upstream_protocol"), "{row}");
            assert_eq!(agent.get(&seller.url("/")).text(), "fresh", "{row}");
            assert_eq!(connections.load(Ordering::SeqCst), 2, "{row}");
        });
    }
}

#[test]
fn an_answer_whose_body_breaks_its_framing_is_cut() {
    let rows: Vec<(&str, &str)> = seller::BROKEN
        .iter()
        .map(|(row, body)| {
            let whole = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{body}");
            (*row, &*Box::leak(whole.into_boxed_str()))
        })
        .collect();
    each_seller(false, rows.into_iter(), |row, agent, seller, _| {
        agent.send(Agent::request_bytes("GET", &seller.url("/row"), "", b""));
        let answer = agent.response_to("GET");
        assert!(answer.as_ref().map_or(true, |a| !a.complete || a.status == 502), "{row}: {answer:?}");
    });
}

#[test]
fn bytes_behind_an_answer_are_never_the_next_one() {
    for tls in [false, true] {
        each_seller(tls, seller::SERVED.iter().map(|r| (r.0, r.1)), |row, agent, seller, connections| {
            let (_, _, expected, goes_on) = seller::SERVED.iter().find(|r| r.0 == row).unwrap();
            let answer = agent.get(&seller.url("/row"));
            assert_eq!(format!("{} {}", answer.status, answer.text()), *expected, "{row}");
            for _ in 0..3 {
                assert_eq!(agent.request("POST", &seller.url("/next"), "", b"").text(), "fresh", "{row}");
            }
            assert_eq!(connections.load(Ordering::SeqCst), if *goes_on { 1 } else { 2 }, "{row}");
        });
    }
}

#[test]
fn bytes_that_come_while_nothing_was_asked_end_the_connection() {
    let closed = Arc::new(AtomicUsize::new(0));
    let ended = closed.clone();
    let seller = Seller::tcp(move |wire| {
        let Ok(Some(_)) = wire.head() else { return };
        let _ = wire.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfresh");
        let _ = wire.write(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison");
        wire.wait_for_close();
        ended.fetch_add(1, Ordering::SeqCst);
    });
    let program = Program::start(Setup::new());
    let mut agent = program.agent();
    for n in 1..=5 {
        assert_eq!(agent.get(&seller.url("/")).text(), "fresh");
        // Once a request is under way, nothing tells such bytes from its answer: they have to be noticed before.
        eventually("the connection is closed", || closed.load(Ordering::SeqCst) == n);
    }
}

#[test]
fn an_answer_to_head_has_no_body_whatever_it_says() {
    let (seller, connections) = seller_with("HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n", None);
    let program = Program::start(Setup::new());
    let mut agent = program.agent();
    assert_eq!(agent.request("HEAD", &seller.url("/row"), "", b"").status, 200);
    assert_eq!(agent.get(&seller.url("/")).text(), "fresh");
    assert_eq!(connections.load(Ordering::SeqCst), 1);
}
