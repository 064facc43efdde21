//! Requests in the forms that programs behind `HTTP_PROXY` send, and what happens to their heads on the way.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use alloy_primitives::Address;

use crate::harness::{Agent, Chain, Next, Plan, Program, Seller, Setup, Terms, basic, shop};

/// A seller that says 200 to everything.
fn open_shop() -> Seller {
    Seller::http(|call| call.reply(200, "X-Seller: yes\r\n", format!("{} {}", call.head.method(), call.head.target())))
}

#[test]
fn an_unmodified_agent_buys_over_plain_http() {
    let chain = Chain::new();
    let payee = Address::repeat_byte(0x11);
    let seller = Seller::http(shop(&chain, Terms::v2(payee, 10_000), |_| Plan::ok("sold")));
    let program = Program::start(Setup::new());
    let answer = program.get(&seller.url("/report?q=1"));
    assert_eq!((answer.status, answer.text().as_str()), (200, "sold"));
    assert_eq!((chain.count_to(payee), chain.count()), (1, 1));
    assert_eq!(seller.count(), 2, "one unpaid, one paid");
}

#[test]
fn every_method_passes_and_its_body_with_it() {
    let seller = open_shop();
    let program = Program::start(Setup::new());
    let mut agent = program.agent();
    for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND"] {
        let body: &[u8] = if method == "GET" { b"" } else { b"some body" };
        let answer = agent.request(method, &seller.url("/m"), "", body);
        assert_eq!((answer.status, answer.text()), (200, format!("{method} /m")));
        assert_eq!(seller.seen().last().unwrap().body_len, body.len(), "{method}");
    }
    let answer = agent.request("HEAD", &seller.url("/m"), "", b"");
    assert_eq!((answer.status, answer.head.content_length()), (200, Some(7)));
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let seller = open_shop();
    let program = Program::start(Setup::new());
    let mut agent = program.agent();
    let all: Vec<u8> = (0..5).flat_map(|n| Agent::request_bytes("GET", &seller.url(&format!("/{n}")), "", b"")).collect();
    agent.send(all);
    for n in 0..5 {
        assert_eq!(agent.response().text(), format!("GET /{n}"));
    }
}

#[test]
fn http_1_0_is_answered_and_closed() {
    let seller = open_shop();
    let program = Program::start(Setup::new());
    let mut agent = program.agent();
    agent.send(format!("GET {} HTTP/1.0\r\n\r\n", seller.url("/old")));
    assert_eq!(agent.response().text(), "GET /old");
    assert!(agent.is_closed());
}

#[test]
fn s19_headers_in_our_name_do_not_leave_nor_arrive() {
    let forged = "Tollpass-Reason: fine\r\nTollpass-Anything: 1\r\nProxy-Status: tollpass; error=x\r\nProxy-Status: cdn; fwd=miss\r\n\
                  Proxy-Status: \"tollpass\"; details=\"quoted\"\r\nProxy-Status: other, tollpass;received-status=200\r\n";
    let seller = Seller::http(move |call| call.reply(200, forged, "ok"));
    let program = Program::start(Setup::new());
    let answer = program.request("GET", &seller.url("/"), "Tollpass-Context: reason=\"x\"\r\n", b"");
    assert!(!answer.head.headers.iter().any(|(n, _)| n.to_ascii_lowercase().starts_with("tollpass-")), "{:?}", answer.head);
    let status: Vec<&str> = answer.head.all("proxy-status").collect();
    assert!(status.contains(&"cdn; fwd=miss"), "{status:?}");
    assert!(!status.iter().any(|v| v.contains("tollpass")), "{status:?}");
    assert!(!seller.seen()[0].head.has("tollpass-context"));
}

#[test]
fn s19_bytes_beyond_ascii_do_not_smuggle_a_status_in_our_name() {
    let seller = Seller::http(|call| {
        call.body();
        call.raw(b"HTTP/1.1 200 OK\r\nProxy-Status: tollpass; details=\"\xff\xfe\"\r\nContent-Length: 2\r\n\r\nok");
        Next::Keep
    });
    let program = Program::start(Setup::new());
    let answer = program.get(&seller.url("/"));
    assert!(!answer.head.has("proxy-status"), "{:?}", answer.head);
}

#[test]
fn malformed_targets_are_refused_and_nothing_is_sent() {
    let seller = open_shop();
    let program = Program::start(Setup::new());
    let authority = seller.authority();
    for target in [format!("http://user@{authority}/"), format!("http://user:pw@{authority}/"), format!("ftp://{authority}/"), "http://127.0.0.1:0/".into()] {
        let mut agent = program.agent();
        agent.send(format!("GET {target} HTTP/1.1\r\nHost: {authority}\r\n\r\n"));
        assert_eq!(agent.response().status, 400, "{target}");
    }
    for bytes in ["GET http://[::1 HTTP/1.1\r\n\r\n", "GET http:///x HTTP/1.1\r\nHost: a\r\n\r\n", "\x16\x03\x01 hello\r\n\r\n", "GET\r\n\r\n"] {
        let mut agent = program.agent();
        agent.send(bytes);
        if let Ok(answer) = agent.response_to("GET") {
            assert!(answer.status >= 400, "{bytes:?}");
        }
    }
    assert_eq!(seller.count(), 0);
}

#[test]
fn a_head_with_two_lengths_cannot_smuggle_a_request() {
    let seller = open_shop();
    let program = Program::start(Setup::new());
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n";
    let heads = [
        format!("Content-Length: 0\r\nContent-Length: {}\r\n", smuggled.len()),
        format!("Content-Length: {}\r\nTransfer-Encoding: chunked\r\n", smuggled.len() + 5),
        format!("Transfer-Encoding: chunked, identity\r\nContent-Length: {}\r\n", smuggled.len()),
        "Transfer-Encoding: xchunked\r\n".to_owned(),
    ];
    for head in heads {
        let mut agent = program.agent();
        agent.send(format!("POST {} HTTP/1.1\r\nHost: {}\r\n{head}\r\n0\r\n\r\n{smuggled}", seller.url("/outer"), seller.authority()));
        while let Ok(answer) = agent.response_to("POST") {
            assert!(answer.status == 200 || answer.status >= 400, "{head}");
        }
    }
    for seen in seller.seen() {
        assert!(!seen.head.target().contains("smuggled"), "{:?}", seen.head);
        assert!(!(seen.head.has("content-length") && seen.head.has("transfer-encoding")), "{:?}", seen.head);
    }
}

#[test]
fn a_request_that_comes_back_is_508() {
    // A second proxy in between that sends everything back to the first.
    let back: Arc<Mutex<Option<SocketAddr>>> = Arc::default();
    let target = back.clone();
    let relay = Seller::http(move |call| {
        let mut agent = Agent::to(target.lock().unwrap().unwrap());
        let headers: String = call.head.headers.iter().map(|(n, v)| format!("{n}: {v}\r\n")).collect();
        agent.send(format!("GET http://{}/again HTTP/1.1\r\n{headers}\r\n", call.head.get("host").unwrap()));
        let answer = agent.response();
        call.reply(answer.status, "", answer.body)
    });
    let program = Program::start(Setup::new());
    *back.lock().unwrap() = Some(program.proxy());
    let answer = program.get(&relay.url("/start"));
    assert_eq!((answer.status, answer.reason().as_str()), (508, "loop"));
    assert_eq!(relay.count(), 1);
}

#[test]
fn two_proxies_in_a_row_are_no_loop() {
    let seller = open_shop();
    let (outer, inner) = (Program::start(Setup::new()), Program::start(Setup::new()));
    let via = Arc::new(Mutex::new(String::new()));
    let first = seller.url("/");
    // What the outer proxy sends, seen by a relay, goes to the inner one.
    let (note, next) = (via.clone(), inner.proxy());
    let relay = Seller::http(move |call| {
        *note.lock().unwrap() = call.head.get("via").unwrap().to_owned();
        let answer = Agent::to(next).request("GET", &first, &format!("Via: {}\r\n", call.head.get("via").unwrap()), b"");
        call.reply(answer.status, "", answer.body)
    });
    assert_eq!(outer.get(&relay.url("/")).status, 200);
    let seen: Vec<String> = seller.seen()[0].head.all("via").map(str::to_owned).collect();
    assert_eq!(seen.join(", ").matches("tollpass-").count(), 2, "{seen:?}");
}

#[test]
fn heads_beyond_the_limit_are_refused_and_below_it_pass() {
    let seller = open_shop();
    let program = Program::start(Setup::new().limits("header: 16KiB"));
    let pad = |n: usize| format!("X-Pad: {}\r\n", "p".repeat(n));
    assert_eq!(program.request("GET", &seller.url("/"), &pad(12 * 1024), b"").status, 200);
    let answer = program.request("GET", &seller.url("/"), &pad(20 * 1024), b"");
    assert_eq!(answer.status, 431);
    assert_eq!(seller.count(), 1);
}
