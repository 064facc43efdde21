//! CONNECT: interception, blind tunnels, plain HTTP inside, and what the authority decides.

use std::sync::Arc;

use alloy_primitives::Address;
use rustls::ServerConfig;

use crate::harness::{Agent, Chain, Plan, Program, Seller, Setup, Terms, TestCa, basic, shop};

struct Tls {
    ca: TestCa,
    config: Arc<ServerConfig>,
    leaf: Vec<u8>,
}

fn seller_tls(names: &[&str]) -> Tls {
    let ca = TestCa::new();
    let (config, leaf) = ca.server(names);
    Tls { ca, config, leaf }
}

fn hello(tls: &Tls) -> Seller {
    Seller::start(Some(tls.config.clone()), |call| call.reply(200, "", "hello"))
}

fn get_inside(agent: &mut Agent, authority: &str, path: &str) -> crate::harness::Response {
    agent.send(format!("GET {path} HTTP/1.1\r\nHost: {authority}\r\n\r\n"));
    agent.response()
}

const PAYEE: Address = Address::repeat_byte(0x11);

#[test]
fn a_tunnel_that_policy_could_pay_in_is_read_with_a_leaf_of_our_ca() {
    let tls = seller_tls(&["localhost", "127.0.0.1"]);
    let chain = Chain::new();
    let seller = Seller::start(Some(tls.config.clone()), shop(&chain, Terms::v2(PAYEE, 10_000), |_| Plan::ok("sold")));
    let program = Program::start(Setup::new().roots(&tls.ca.pem));
    for name in ["localhost", "127.0.0.1"] {
        let authority = format!("{name}:{}", seller.port());
        let mut agent = program.agent().connect(&authority, "").tls(name, &program.ca());
        let leaf = agent.wire.peer_certificate();
        assert_ne!(leaf, tls.leaf);
        assert_eq!(get_inside(&mut agent, &authority, "/a").text(), "sold");
        assert_eq!(get_inside(&mut agent, &authority, "/b").text(), "sold");
        let again = program.agent().connect(&authority, "").tls(name, &program.ca());
        assert_eq!(again.wire.peer_certificate(), leaf, "leaves are cached");
    }
    assert_eq!(chain.count(), 4);
}

#[test]
fn a_leaf_is_p256_and_the_ca_survives_a_restart() {
    let tls = seller_tls(&["localhost"]);
    let seller = hello(&tls);
    let mut program = Program::start(Setup::new().roots(&tls.ca.pem));
    let agent = program.agent().connect(&format!("localhost:{}", seller.port()), "").tls("localhost", &program.ca());
    // id-ecPublicKey with prime256v1, as DER.
    let p256 = [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
    assert!(agent.wire.peer_certificate().windows(8).any(|w| w == p256));
    let before = program.ca();
    program.restart();
    assert_eq!(program.ca(), before);
    let key = std::fs::metadata(program.path("state/private/ca.key")).unwrap();
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&key.permissions()) & 0o777, 0o600);
    let bundle = std::fs::read_to_string(program.path("state/trust/bundle.pem")).unwrap();
    assert!(bundle.contains(before.trim()), "the bundle ends with our CA");
}

#[test]
fn a_host_that_policy_cannot_pay_is_tunnelled_blindly() {
    let tls = seller_tls(&["localhost"]);
    let seller = hello(&tls);
    let policy = "version: 1\nagents:\n  bot:\n    caps: { per_payment: 1, day: 5 }\n    allow: [ { id: x, host: elsewhere.example } ]\n";
    for setup in [Setup::new().policy(policy), Setup::new().tls("intercept: none"), Setup::new().tls("intercept: all, never: [localhost]")]
    {
        let program = Program::start(setup);
        let authority = format!("localhost:{}", seller.port());
        let mut agent = program.agent().connect(&authority, "").tls("localhost", &tls.ca.pem);
        assert_eq!(agent.wire.peer_certificate(), tls.leaf, "the seller's own certificate is seen");
        assert_eq!(get_inside(&mut agent, &authority, "/").text(), "hello");
    }
}

#[test]
fn intercept_all_reads_hosts_that_cannot_be_paid_too() {
    let tls = seller_tls(&["localhost"]);
    let seller = hello(&tls);
    let policy = "version: 1\nagents:\n  bot:\n    caps: { per_payment: 1, day: 5 }\n    allow: [ { id: x, host: elsewhere.example } ]\n";
    let program = Program::start(Setup::new().policy(policy).tls("intercept: all").roots(&tls.ca.pem));
    let authority = format!("localhost:{}", seller.port());
    let mut agent = program.agent().connect(&authority, "").tls("localhost", &program.ca());
    assert_eq!(get_inside(&mut agent, &authority, "/").text(), "hello");
}

#[test]
fn plain_http_inside_connect_is_read_and_paid() {
    let chain = Chain::new();
    let seller = Seller::http(shop(&chain, Terms::v2(PAYEE, 10_000), |_| Plan::ok("sold")));
    let program = Program::start(Setup::new());
    let mut agent = program.agent().connect(&seller.authority(), "");
    assert_eq!(get_inside(&mut agent, &seller.authority(), "/").text(), "sold");
    assert_eq!(chain.count(), 1);
}

#[test]
fn other_protocols_inside_connect_are_relayed_as_they_are() {
    let echo = Seller::tcp(|wire| {
        while let Ok(bytes) = wire.some() {
            if bytes.is_empty() || wire.write(&bytes).is_err() {
                return;
            }
        }
    });
    let program = Program::start(Setup::new());
    let mut agent = program.agent().connect(&echo.authority(), "");
    agent.send(b"\x00\x01binary, not HTTP\xff");
    assert_eq!(agent.wire.exactly(19).unwrap(), b"\x00\x01binary, not HTTP\xff");
}

#[test]
fn a_server_that_speaks_first_is_relayed_after_a_while() {
    let server = Seller::tcp(|wire| {
        let _ = wire.write(b"220 ready\r\n");
        wire.wait_for_close();
    });
    let program = Program::start(Setup::new());
    let mut agent = program.agent().connect(&server.authority(), "");
    assert_eq!(agent.wire.exactly(11).unwrap(), b"220 ready\r\n");
}

#[test]
fn http_1_0_connect_without_host_is_served_and_stays_open() {
    let seller = Seller::http(|call| call.reply(200, "", "in"));
    let program = Program::start(Setup::new());
    let mut agent = program.agent();
    agent.send(format!("CONNECT {} HTTP/1.0\r\n\r\n", seller.authority()));
    assert_eq!(agent.response_to("CONNECT").unwrap().status, 200);
    for _ in 0..2 {
        assert_eq!(get_inside(&mut agent, &seller.authority(), "/").text(), "in");
    }
}

#[test]
fn an_inner_host_that_is_not_the_tunnels_is_421_and_decides_nothing() {
    let chain = Chain::new();
    let seller = Seller::http(shop(&chain, Terms::v2(PAYEE, 10_000), |_| Plan::ok("sold")));
    let program = Program::start(Setup::new());
    let authority = seller.authority();
    for lines in [
        "GET / HTTP/1.1\r\nHost: allowed.example\r\n\r\n".to_owned(),
        format!("GET http://other.example/ HTTP/1.1\r\nHost: {authority}\r\n\r\n"),
        "GET / HTTP/1.1\r\nHost: 127.0.0.1:1\r\n\r\n".to_owned(),
    ] {
        let mut agent = program.agent().connect(&authority, "");
        agent.send(&lines);
        let answer = agent.response();
        assert_eq!((answer.status, answer.reason().as_str()), (421, "misdirected"), "{lines}");
    }
    let mut agent = program.agent().connect(&authority, "");
    agent.send(format!("GET http://{authority}/abs HTTP/1.1\r\nHost: {authority}\r\n\r\n"));
    assert_eq!(agent.response().text(), "sold", "absolute form that agrees is normalised");
    assert_eq!(seller.seen().iter().filter(|s| s.head.target() == "/abs").count(), 2);
    assert_eq!(chain.count(), 1);
}

#[test]
fn proxy_credentials_inside_a_tunnel_do_not_reach_the_seller() {
    let tls = seller_tls(&["localhost"]);
    let seller = hello(&tls);
    let program = Program::start(Setup::new().roots(&tls.ca.pem));
    let authority = format!("localhost:{}", seller.port());
    let mut agent = program.agent().connect(&authority, "").tls("localhost", &program.ca());
    agent.send(format!("GET / HTTP/1.1\r\nHost: {authority}\r\n{}\r\n", basic("bot", "secret")));
    assert_eq!(agent.response().status, 200);
    assert!(!seller.seen()[0].head.has("proxy-authorization"));
}

#[test]
fn a_certificate_that_does_not_verify_is_502_and_nothing_is_sent() {
    let wrong_name = seller_tls(&["other.example"]);
    let untrusted = seller_tls(&["localhost"]);
    for (tls, roots) in [(&wrong_name, &wrong_name.ca.pem), (&untrusted, &wrong_name.ca.pem)] {
        let seller = hello(tls);
        let program = Program::start(Setup::new().roots(roots));
        let authority = format!("localhost:{}", seller.port());
        let mut agent = program.agent().connect(&authority, "").tls("localhost", &program.ca());
        let answer = get_inside(&mut agent, &authority, "/");
        assert_eq!((answer.status, answer.reason().as_str()), (502, "upstream_tls"));
        assert_eq!(seller.count(), 0);
    }
}

#[test]
fn a_connect_without_port_or_with_nonsense_is_400() {
    let program = Program::start(Setup::new());
    for authority in ["localhost", "localhost:0", "localhost:99999"] {
        let mut agent = program.agent();
        agent.send(format!("CONNECT {authority} HTTP/1.1\r\nHost: x\r\n\r\n"));
        assert_eq!(agent.response().status, 400, "{authority}");
    }
}

#[test]
fn a_blind_tunnel_passes_bytes_both_ways_at_once() {
    let server = Seller::tcp(|wire| {
        let _ = wire.write(&vec![7; 1 << 20]);
        while matches!(wire.some(), Ok(b) if !b.is_empty()) {}
    });
    let program = Program::start(Setup::new().tls("intercept: none"));
    let mut agent = program.agent().connect(&server.authority(), "");
    agent.send(vec![9; 1 << 20]);
    assert_eq!(agent.wire.exactly(1 << 20).unwrap(), vec![7; 1 << 20]);
}
