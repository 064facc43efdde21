//! CONNECT: looked into where policy could pay, blind everywhere else, and never guessing what is inside.

use std::net::Shutdown;
use std::sync::mpsc::channel;

use alloy_primitives::Address;

use crate::harness::{Agent, Chain, Plan, Program, Seller, Setup, Terms, TestCa, basic, eventually, shop};

const PAYEE: Address = Address::repeat_byte(0x22);
/// OBJECT IDENTIFIER prime256v1.
const P256: [u8; 10] = [0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];

/// A policy that could pay somebody, but nobody on loopback.
const ELSEWHERE: &str = "version: 1\nagents:\n  bot:\n    caps: { per_payment: 1, day: 5 }\n    allow: [ { id: far, host: far.example, \
                         networks: [\"eip155:84532\"], assets: [USDC], pay_to: any, plain_http: true } ]\n";

struct TlsShop {
    seller: Seller,
    chain: Chain,
    ca: TestCa,
    certificate: Vec<u8>,
}

fn tls_shop() -> TlsShop {
    let (chain, ca) = (Chain::new(), TestCa::new());
    let (config, certificate) = ca.server(&["localhost", "127.0.0.1"]);
    let seller = Seller::start(Some(config), shop(&chain, Terms::v2(PAYEE, 10_000), |visit| Plan::ok(visit.head.target())));
    TlsShop { seller, chain, ca, certificate }
}

/// The inside of a TLS tunnel through the proxy, as an agent that trusts only the proxy's CA sees it.
fn inside(program: &Program, name: &str, port: u16) -> Agent {
    program.agent().connect(&format!("{name}:{port}"), "").tls(name, &program.ca())
}

#[test]
fn hosts_in_never_are_not_looked_into_even_where_policy_could_pay() {
    let TlsShop { seller, chain, ca, certificate } = tls_shop();
    let program = Program::start(Setup::new().tls("intercept: all, never: [localhost]").roots(&ca.pem));
    let mut agent = program.agent().connect(&format!("LocalHost.:{}", seller.port()), "").tls("localhost", &ca.pem);
    assert_eq!(agent.wire.peer_certificate(), certificate);
    assert_eq!(agent.request("GET", "/", "Host: localhost\r\n", b"").status, 402);
    assert_eq!(chain.count(), 0);
    assert_eq!(inside(&program, "127.0.0.1", seller.port()).request("GET", "/", "", b"").status, 200, "another host is looked into");
}

#[test]
fn an_inner_host_that_differs_is_421() {
    let TlsShop { seller, chain, ca, .. } = tls_shop();
    let program = Program::start(Setup::new().roots(&ca.pem));
    let port = seller.port();
    let hosts = ["other.example".to_owned(), format!("other.example:{port}"), format!("127.0.0.1:{port}"), "localhost:1".into(), format!("localhost:{port}@x")];
    for host in hosts {
        let answer = inside(&program, "localhost", port).request("GET", "/", &format!("Host: {host}\r\n"), b"");
        assert_eq!((answer.status, answer.reason().as_str()), (421, "misdirected"), "{host}");
    }
    let answer = inside(&program, "localhost", port).request("GET", "https://other.example/", "", b"");
    assert_eq!(answer.status, 421);
    let doubled = format!("Host: localhost:{port}\r\nHost: other.example\r\n");
    assert_eq!(inside(&program, "localhost", port).request("GET", "/", &doubled, b"").status, 400);
    assert_eq!((seller.count(), chain.count()), (0, 0));
    for host in [format!("LOCALHOST:{port}"), "localhost".into(), format!("localhost.:{port}")] {
        assert_eq!(inside(&program, "localhost", port).request("GET", "/", &format!("Host: {host}\r\n"), b"").status, 200, "{host}");
    }
}

#[test]
fn a_tunnel_inside_a_tunnel_is_refused() {
    let seller = Seller::http(|call| call.reply(200, "", "reached"));
    let TlsShop { seller: tls_seller, ca, .. } = tls_shop();
    let program = Program::start(Setup::new().roots(&ca.pem));
    let mut agent = inside(&program, "localhost", tls_seller.port());
    agent.send(format!("CONNECT {0} HTTP/1.1\r\nHost: {0}\r\n\r\n", seller.authority()));
    assert!(agent.response().status >= 400);
    let mut agent = inside(&program, "localhost", tls_seller.port());
    agent.send(format!("CONNECT localhost:{0} HTTP/1.1\r\nHost: localhost:{0}\r\n\r\n", tls_seller.port()));
    assert!(agent.response().status >= 400);
    assert_eq!((seller.count(), tls_seller.count()), (0, 0));
}

#[test]
fn an_http_1_0_connect_without_host_opens_a_tunnel() {
    let TlsShop { seller, ca, .. } = tls_shop();
    let program = Program::start(Setup::new().roots(&ca.pem));
    let mut agent = program.agent();
    agent.send(format!("CONNECT localhost:{} HTTP/1.0\r\n\r\n", seller.port()));
    assert_eq!(agent.response_to("CONNECT").unwrap().status, 200);
    let mut agent = agent.tls("localhost", &program.ca());
    assert_eq!(agent.request("GET", "/", "", b"").status, 200);
    // And a blind one.
    let blind = Program::start(Setup::new().policy(ELSEWHERE));
    let mut agent = blind.agent();
    agent.send(format!("CONNECT localhost:{} HTTP/1.0\r\n\r\n", seller.port()));
    assert_eq!(agent.response_to("CONNECT").unwrap().status, 200);
    assert_eq!(agent.tls("localhost", &ca.pem).request("GET", "/", "Host: localhost\r\n", b"").status, 402);
}

#[test]
fn bytes_sent_right_behind_a_connect_are_not_lost() {
    let seller = Seller::http(|call| call.reply(200, "", call.head.target().to_owned()));
    for policy in [None, Some(ELSEWHERE)] {
        let program = Program::start(policy.map_or_else(Setup::new, |p| Setup::new().policy(p)));
        let mut agent = program.agent();
        agent.send(format!("CONNECT {0} HTTP/1.1\r\nHost: {0}\r\n\r\nGET /early HTTP/1.1\r\nHost: {0}\r\n\r\n", seller.authority()));
        assert_eq!(agent.response_to("CONNECT").unwrap().status, 200);
        assert_eq!(agent.response().text(), "/early");
    }
}

#[test]
fn either_side_of_a_blind_tunnel_may_close_its_half() {
    let seller = Seller::tcp(|wire| {
        let all = wire.rest().unwrap();
        wire.write(format!("got {}", all.len()).as_bytes()).unwrap();
    });
    let program = Program::start(Setup::new().policy(ELSEWHERE));
    let mut agent = program.agent().connect(&seller.authority(), "");
    agent.send(vec![7; 100_000]);
    agent.wire.shutdown(Shutdown::Write);
    assert_eq!(agent.wire.rest().unwrap(), b"got 100000");
}

#[test]
fn a_closed_tunnel_is_closed_on_the_other_side_too() {
    let (closed, told) = channel();
    let seller = Seller::tcp(move |wire| {
        wire.wait_for_close();
        let _ = closed.send(());
    });
    for policy in [None, Some(ELSEWHERE)] {
        let program = Program::start(policy.map_or_else(Setup::new, |p| Setup::new().policy(p)));
        let mut agent = program.agent().connect(&seller.authority(), "");
        agent.send(b"\x01 not http");
        eventually("the seller was reached", || seller.connections() > 0);
        drop(agent);
        told.recv_timeout(crate::harness::PATIENCE).unwrap();
    }
}

#[test]
fn an_agent_that_does_not_trust_the_authority_is_only_disconnected() {
    let TlsShop { seller, ca, .. } = tls_shop();
    let program = Program::start(Setup::new().roots(&ca.pem));
    assert!(program.agent().connect(&format!("localhost:{}", seller.port()), "").try_tls("localhost", &ca.pem).is_err());
    assert_eq!(seller.count(), 0);
    assert_eq!(inside(&program, "localhost", seller.port()).request("GET", "/", "", b"").status, 200);
}
