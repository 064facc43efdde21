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
fn an_unmodified_agent_buys_over_https() {
    let TlsShop { seller, chain, ca, .. } = tls_shop();
    let program = Program::start(Setup::new().roots(&ca.pem));
    let mut agent = inside(&program, "localhost", seller.port());
    let url = format!("/report?x={}", 1);
    let answer = agent.request("GET", &url, &format!("Host: localhost:{}\r\n", seller.port()), b"");
    assert_eq!((answer.status, answer.text().as_str()), (200, "/report?x=1"));
    assert_eq!((chain.count_to(PAYEE), chain.count()), (1, 1));
}

#[test]
fn certificates_are_minted_for_the_name_and_the_address_on_p256_and_cached() {
    let TlsShop { seller, ca, .. } = tls_shop();
    let program = Program::start(Setup::new().roots(&ca.pem));
    // rustls verified chain and name; otherwise the handshake had failed.
    let [one, two] = [(); 2].map(|()| inside(&program, "localhost", seller.port()).wire.peer_certificate());
    let address = inside(&program, "127.0.0.1", seller.port()).wire.peer_certificate();
    assert_eq!(one, two, "minted once per name");
    assert_ne!(one, address);
    for der in [&one, &address] {
        assert!(der.windows(P256.len()).any(|w| w == P256), "not a P-256 key");
    }
    let public_key = |der: &[u8]| {
        let at = der.windows(P256.len()).position(|w| w == P256).unwrap() + P256.len();
        der[at..at + 68].to_vec()
    };
    assert_eq!(public_key(&one), public_key(&address), "one leaf key for all names");
    assert!(program.agent().connect(&format!("localhost:{}", seller.port()), "").try_tls("other.example", &program.ca()).is_err());
}

#[test]
fn the_authority_survives_a_restart_and_only_its_certificate_is_readable() {
    use std::os::unix::fs::PermissionsExt;
    let mut program = Program::start(Setup::new());
    let before = program.ca();
    let mode = |name: &str| std::fs::metadata(program.path(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("state"), mode("state/private"), mode("state/trust")), (0o711, 0o700, 0o755));
    assert_eq!((mode("state/private/ca.key"), mode("state/trust/ca.pem"), mode("state/trust/bundle.pem")), (0o600, 0o644, 0o644));
    assert!(std::fs::read_to_string(program.path("state/trust/bundle.pem")).unwrap().contains(before.trim()));
    assert!(!before.contains("PRIVATE"));
    program.restart();
    assert_eq!(program.ca(), before);
}

#[test]
fn where_policy_cannot_pay_the_tunnel_is_blind() {
    let TlsShop { seller, chain, ca, certificate } = tls_shop();
    let program = Program::start(Setup::new().policy(ELSEWHERE));
    let mut agent = program.agent().connect(&format!("localhost:{}", seller.port()), "").tls("localhost", &ca.pem);
    assert_eq!(agent.wire.peer_certificate(), certificate, "the seller's own certificate");
    let answer = agent.request("GET", "/", "Host: localhost\r\n", b"");
    assert_eq!(answer.status, 402);
    assert!(answer.head.has("payment-required"), "the seller's own answer");
    assert!(!seller.seen()[0].head.has("via"), "nothing was touched");
    assert_eq!(chain.count(), 0);
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
fn intercept_none_never_looks_and_all_always_does() {
    let TlsShop { seller, ca, certificate, .. } = tls_shop();
    let none = Program::start(Setup::new().tls("intercept: none").roots(&ca.pem));
    let agent = none.agent().connect(&format!("localhost:{}", seller.port()), "").tls("localhost", &ca.pem);
    assert_eq!(agent.wire.peer_certificate(), certificate);
    let all = Program::start(Setup::new().tls("intercept: all").policy(ELSEWHERE).roots(&ca.pem));
    let answer = inside(&all, "localhost", seller.port()).request("GET", "/", "", b"");
    assert_eq!((answer.status, answer.reason().as_str()), (402, "not_allowed"), "looked into, but not paid");
}

#[test]
fn plain_http_inside_connect_is_read_and_paid() {
    let chain = Chain::new();
    let seller = Seller::http(shop(&chain, Terms::v2(PAYEE, 10_000), |visit| Plan::ok(&visit.body)));
    let program = Program::start(Setup::new());
    let mut agent = program.agent().connect(&seller.authority(), "");
    for n in 1..=2 {
        let answer = agent.request("POST", "/x", &format!("Host: {}\r\n", seller.authority()), b"payload");
        assert_eq!((answer.status, answer.text().as_str()), (200, "payload"));
        assert_eq!(chain.count(), n);
    }
    assert!(seller.seen().iter().all(|s| s.head.target() == "/x"));
}

#[test]
fn absolute_form_inside_a_tunnel_is_normalised() {
    let seller = Seller::http(|call| call.reply(200, "", call.head.target().to_owned()));
    let program = Program::start(Setup::new());
    let mut agent = program.agent().connect(&seller.authority(), "");
    assert_eq!(agent.get(&seller.url("/p?q")).text(), "/p?q");
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
fn proxy_credentials_leaked_into_a_tunnel_stop_there() {
    let TlsShop { seller, ca, .. } = tls_shop();
    let program = Program::start(Setup::new().roots(&ca.pem));
    let leaked = basic("bot", "secret") + "Proxy-Connection: keep-alive\r\n";
    assert_eq!(inside(&program, "localhost", seller.port()).request("GET", "/", &leaked, b"").status, 200);
    for seen in seller.seen() {
        assert!(!seen.head.has("proxy-authorization") && !seen.head.has("proxy-connection"), "{:?}", seen.head);
    }
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
fn a_connect_without_a_usable_authority_is_400() {
    let program = Program::start(Setup::new());
    for authority in ["localhost", "localhost:0", "localhost:99999", "user@localhost:443", ":443"] {
        let mut agent = program.agent();
        agent.send(format!("CONNECT {authority} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
        if let Ok(answer) = agent.response_to("CONNECT") {
            assert_eq!(answer.status, 400, "{authority}");
        }
    }
}

#[test]
fn any_other_protocol_inside_an_intercepted_tunnel_is_relayed() {
    let seller = Seller::tcp(|wire| {
        let said = wire.exactly(20).unwrap();
        wire.write(&said.iter().rev().copied().collect::<Vec<u8>>()).unwrap();
    });
    let program = Program::start(Setup::new());
    for bytes in [&b"SSH-2.0-OpenSSH_9.9\n"[..], b"\x00\x01\x02binary\xff\xfe 45678901", b"GETX is no method 01"] {
        let mut agent = program.agent().connect(&seller.authority(), "");
        agent.send(bytes);
        let back = agent.wire.exactly(20).unwrap();
        assert_eq!(back, bytes.iter().rev().copied().collect::<Vec<u8>>());
    }
}

#[test]
fn a_protocol_in_which_the_server_speaks_first_is_relayed() {
    let seller = Seller::tcp(|wire| {
        wire.write(b"220 mail.example ready\r\n").unwrap();
        wire.wait_for_close();
    });
    let program = Program::start(Setup::new());
    let mut agent = program.agent().connect(&seller.authority(), "");
    assert_eq!(agent.wire.exactly(24).unwrap(), b"220 mail.example ready\r\n");
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
