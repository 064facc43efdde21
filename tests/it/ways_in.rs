//! The other ways in: SOCKS5, TLS to the proxy, redirected connections; and connections that become something else.

use std::net::Shutdown;

use alloy_primitives::Address;

use crate::harness::{Agent, Agent2, Chain, Next, Program, Seller, Setup, Terms, agreed, basic, challenge, eventually, get, present};
use crate::proxy_agents::tokens;

const PAYEE: Address = Address::repeat_byte(0x33);

/// A SOCKS connection after its greeting: methods offered, then the answer.
fn greet(program: &Program, methods: &[u8]) -> (Agent, Vec<u8>) {
    let mut agent = Agent::to(program.listener("socks"));
    agent.send([&[5, u8::try_from(methods.len()).unwrap()], methods].concat());
    let answer = agent.wire.exactly(2).unwrap();
    (agent, answer)
}

/// Asks for a connection; the reply code.
fn ask(agent: &mut Agent, command: u8, kind: u8, address: &[u8], port: u16) -> u8 {
    agent.send([&[5, command, 0, kind], address, &port.to_be_bytes()].concat());
    agent.wire.exactly(10).unwrap()[1]
}

fn name(text: &str) -> Vec<u8> {
    [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat()
}

#[test]
fn socks5_reaches_a_seller_by_address_and_by_name() {
    let chain = Chain::new();
    let seller = Seller::http(crate::harness::shop(&chain, Terms::v2(PAYEE, 10_000), |_| crate::harness::Plan::ok("bought")));
    let program = Program::start(Setup::new().listen(&["socks"]));
    for (kind, address) in [(1, vec![127, 0, 0, 1]), (3, name("localhost")), (3, name("127.0.0.1"))] {
        let (mut agent, answer) = greet(&program, &[0]);
        assert_eq!(answer, [5, 0]);
        assert_eq!(ask(&mut agent, 1, kind, &address, seller.port()), 0);
        let answer =
            agent.request("GET", "/", &format!("Host: localhost:{}\r\n", seller.port()).replace("localhost", host_of(&address)), b"");
        assert_eq!((answer.status, answer.text().as_str()), (200, "bought"), "{kind} {address:?}");
    }
    assert_eq!(chain.count(), 3);
}

fn host_of(address: &[u8]) -> &'static str {
    if address[1..].starts_with(b"localhost") { "localhost" } else { "127.0.0.1" }
}

#[test]
fn socks5_says_why_there_is_no_connection() {
    let program = Program::start(Setup::new().listen(&["socks"]).tls("intercept: none"));
    let refused = crate::harness::free_port();
    let own = program.proxy().port();
    for (command, kind, address, port, reply) in [
        (1, 1, vec![127, 0, 0, 1], refused, 5),
        (1, 1, vec![127, 0, 0, 1], own, 2),
        (1, 1, vec![169, 254, 169, 254], 80, 2),
        (1, 3, name("does-not-exist.invalid"), 80, 4),
        (1, 3, name("not a host"), 80, 8),
        (1, 1, vec![127, 0, 0, 1], 0, 8),
        (2, 1, vec![127, 0, 0, 1], 80, 7),
        (3, 1, vec![127, 0, 0, 1], 80, 7),
    ] {
        let (mut agent, _) = greet(&program, &[0, 2][..1]);
        assert_eq!(ask(&mut agent, command, kind, &address, port), reply, "{command} {kind} {address:?}:{port}");
        assert!(agent.is_closed());
    }
    let (mut agent, _) = greet(&program, &[0]);
    agent.send([5, 1, 0, 9, 1, 2, 3, 4]);
    assert_eq!(agent.wire.exactly(10).unwrap()[1], 8, "an address of a kind that does not exist");
}

#[test]
fn a_socks5_password_is_the_token_of_an_agent() {
    let seller = Seller::http(|call| call.reply(200, "", "x"));
    let setup = Setup::new().agents("tokens: file:agents.yaml").file("agents.yaml", tokens(&[("bot", "secret")]));
    let program = Program::start(setup.listen(&["socks"]));
    let login = |user: &str, password: &str| {
        let (mut agent, answer) = greet(&program, &[0, 2]);
        assert_eq!(answer, [5, 2]);
        agent.send([vec![1], name(user), name(password)].concat());
        let ok = agent.wire.exactly(2).unwrap() == [1, 0];
        (agent, ok)
    };
    for (user, password) in [("bot", "wrong"), ("nobody", "secret"), ("", "")] {
        let (mut agent, ok) = login(user, password);
        assert!(!ok && agent.is_closed(), "{user}");
    }
    let (mut agent, ok) = login("bot", "secret");
    assert!(ok);
    assert_eq!(ask(&mut agent, 1, 1, &[127, 0, 0, 1], seller.port()), 0);
    assert_eq!(agent.request("GET", "/", &format!("Host: {}\r\n", seller.authority()), b"").status, 200);
    let (mut agent, answer) = greet(&program, &[0]);
    assert_eq!(answer, [5, 0xff], "without credentials nobody is known");
    assert!(agent.is_closed());
}

#[test]
fn what_is_not_socks5_is_closed() {
    let program = Program::start(Setup::new().listen(&["socks"]));
    for bytes in [&b"\x04\x01\x00\x50\x7f\x00\x00\x01\x00"[..], b"GET / HTTP/1.1\r\n\r\n", b"\x05\x00"] {
        let mut agent = Agent::to(program.listener("socks"));
        agent.send(bytes);
        agent.wire.shutdown(Shutdown::Write);
        let _ = agent.wire.rest();
        assert!(agent.is_closed(), "{bytes:?}");
    }
}

#[test]
fn the_proxy_itself_can_be_reached_over_tls_by_name_and_by_address() {
    let seller = Seller::http(|call| call.reply(200, "", "x"));
    let program = Program::start(Setup::new().listen(&["https"]));
    for name in ["localhost", "127.0.0.1"] {
        let mut agent = Agent::to(program.listener("https")).tls(name, &program.ca());
        assert_eq!(agent.get(&seller.url("/")).status, 200, "{name}");
        let mut tunnel = Agent::to(program.listener("https")).tls(name, &program.ca()).connect(&seller.authority(), "");
        assert_eq!(tunnel.request("GET", "/", &format!("Host: {}\r\n", seller.authority()), b"").status, 200);
    }
    let stream = std::net::TcpStream::connect(program.listener("https")).unwrap();
    assert_eq!(agreed(stream.try_clone().unwrap(), "localhost", &program.ca()).as_deref(), Some(&b"h2"[..]));
    let agent = Agent2::tls(std::net::TcpStream::connect(program.listener("https")).unwrap(), "localhost", &program.ca());
    assert_eq!(agent.send(get(&seller.url("/"))).status, 200);
}

#[test]
fn the_tls_listener_asks_for_credentials_too() {
    let seller = Seller::http(|call| call.reply(200, "", "x"));
    let setup = Setup::new().agents("tokens: file:agents.yaml").file("agents.yaml", tokens(&[("bot", "secret")]));
    let program = Program::start(setup.listen(&["https"]));
    let mut agent = Agent::to(program.listener("https")).tls("localhost", &program.ca());
    assert_eq!(agent.get(&seller.url("/")).status, 407);
    assert_eq!(agent.request("GET", &seller.url("/"), &basic("bot", "secret"), b"").status, 200);
}

#[test]
fn a_connection_that_nobody_redirected_is_closed_and_dials_nobody() {
    let seller = Seller::http(|call| call.reply(200, "", "x"));
    let program = Program::start(Setup::new().listen(&["transparent"]));
    for request in [format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", seller.authority()), "CONNECT x:1 HTTP/1.1\r\n\r\n".into()] {
        let mut agent = Agent::to(program.listener("transparent"));
        let _ = agent.wire.write(request.as_bytes());
        assert!(agent.is_closed());
    }
    assert_eq!(seller.count(), 0);
    eventually("the log says so", || program.log().contains("nobody redirected"));
}

/// A seller that asks for money, switches protocols, and then echoes bytes.
fn echo_after_switch(chain: &Chain, paid: bool) -> Seller {
    let (chain, terms) = (chain.clone(), Terms::v2(PAYEE, 10_000));
    Seller::http(move |call| {
        assert_eq!(call.head.get("upgrade"), Some("websocket"));
        assert!(call.head.get("connection").unwrap().to_ascii_lowercase().contains("upgrade"));
        assert!(call.head.has("sec-websocket-key"));
        if paid {
            let Some(Ok(payment)) = present(&call.head, &terms) else { return challenge(call, &terms) };
            chain.settle(payment.from, payment.to, payment.value, payment.nonce).unwrap();
        }
        call.raw("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: abc\r\nTollpass-X: 1\r\n\r\nhello");
        while let Ok(bytes) = call.wire.some() {
            if bytes.is_empty() || call.wire.write(&bytes).is_err() {
                break;
            }
        }
        Next::Close
    })
}

const SWITCH: &str =
    "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n";

#[test]
fn an_upgraded_connection_passes_bytes_both_ways_paid_or_not() {
    for paid in [false, true] {
        let chain = Chain::new();
        let (seller, program) = (echo_after_switch(&chain, paid), Program::start(Setup::new()));
        let mut agent = program.agent();
        agent.send(Agent::request_bytes("GET", &seller.url("/chat"), SWITCH, b""));
        let head = agent.head().unwrap();
        assert_eq!((head.status(), head.get("upgrade"), head.get("sec-websocket-accept")), (101, Some("websocket"), Some("abc")));
        assert!(!head.has("tollpass-x"), "s19");
        assert_eq!(agent.wire.exactly(5).unwrap(), b"hello");
        agent.send("ping");
        assert_eq!(agent.wire.exactly(4).unwrap(), b"ping");
        drop(agent);
        assert_eq!(chain.count(), usize::from(paid));
        if paid {
            eventually("the purchase is consumed", || program.ledger()["purchases"][0]["state"] == "settled");
        }
    }
}

#[test]
fn an_extended_connect_becomes_an_upgrade_at_the_seller() {
    for paid in [false, true] {
        let chain = Chain::new();
        let (seller, program) = (echo_after_switch(&chain, paid), Program::start(Setup::new()));
        let agent = Agent2::to(program.proxy());
        // After an answer the server's settings are known, and that it takes extended CONNECT.
        assert_eq!(agent.send(get("http://127.0.0.1:1/")).status, 502);
        agent.converse(&seller.url("/chat"));
        assert_eq!(chain.count(), usize::from(paid));
    }
}

#[test]
fn a_switch_that_nobody_asked_for_is_502() {
    let seller = Seller::http(|call| {
        call.raw("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
        Next::Close
    });
    let program = Program::start(Setup::new());
    let answer = program.get(&seller.url("/"));
    assert_eq!(answer.status, 502);
    let answer = program.request(
        "GET",
        &seller.url("/"),
        "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n",
        b"",
    );
    assert_eq!(answer.status, 502, "HTTP/2 in the clear is not asked for");
}
