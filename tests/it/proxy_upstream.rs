//! The leg towards sellers: time-outs apart, certificates verified, addresses guarded.

use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use rcgen::{CertificateParams, KeyPair};

use crate::harness::{Next, Program, Response, Seller, Setup, TestCa, basic, free_port};

fn ok() -> Seller {
    Seller::http(|call| call.reply(200, "", "ok"))
}

#[track_caller]
fn expect(answer: &Response, status: u16, reason: &str, error: &str) {
    assert_eq!((answer.status, answer.reason().as_str()), (status, reason));
    let line = answer.head.get("proxy-status").unwrap();
    assert!(line.starts_with(&format!("tollpass; error={error}; details=\"{reason}\"")), "{line}");
}

/// A listener whose queue is full, so that the kernel drops every further SYN.
fn black_hole() -> (socket2::Socket, SocketAddr, Vec<TcpStream>) {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into()).unwrap();
    socket.listen(0).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    let fill = || TcpStream::connect_timeout(&address, Duration::from_millis(200)).ok();
    let held = std::iter::from_fn(fill).take(8).collect();
    (socket, address, held)
}

#[test]
fn connecting_has_a_time_out_of_its_own() {
    let (_socket, address, _held) = black_hole();
    let program = Program::start(Setup::new().upstream("connect: 300ms, first_byte: 60s"));
    let started = Instant::now();
    expect(&program.get(&format!("http://{address}/")), 504, "connect_timeout", "connection_timeout");
    assert!(started.elapsed() < Duration::from_secs(5));
}

#[test]
fn a_seller_that_is_not_there_or_talks_nonsense_is_502() {
    let program = Program::start(Setup::new());
    expect(&program.get(&format!("http://127.0.0.1:{}/", free_port())), 502, "connect_failed", "connection_refused");
    let closes = Seller::http(|_| Next::Close);
    expect(&program.get(&closes.url("/")), 502, "upstream_closed", "connection_terminated");
    let nonsense = Seller::tcp(|wire| {
        let _ = wire.head();
        let _ = wire.write(b"220 this is not http\r\n\r\n");
        wire.wait_for_close();
    });
    expect(&program.get(&nonsense.url("/")), 502, "upstream_protocol", "http_protocol_error");
    let endless = Seller::tcp(|wire| {
        let _ = wire.head();
        let _ = wire.write(b"HTTP/1.1 200 OK\r\n");
        while wire.write(&b"x-more: and more\r\n".repeat(500)).is_ok() {}
    });
    expect(&program.get(&endless.url("/")), 502, "upstream_header_too_large", "http_response_header_section_size");
}

#[test]
fn a_kept_connection_that_the_seller_closes_unanswered_is_an_error_only_for_what_must_not_be_sent_twice() {
    // Reads the second request of every connection and closes without a word, as a seller does that is just being stopped.
    let seller = Seller::http(|call| {
        let second = call.nth > 0;
        call.body();
        if second { Next::Close } else { call.reply(200, "", "ok") }
    });
    let program = Program::start(Setup::new());
    let mut agent = program.agent();
    assert_eq!(agent.get(&seller.url("/1")).status, 200);
    assert_eq!(agent.get(&seller.url("/2")).status, 200, "asked again on a new connection");
    assert_eq!(seller.count(), 3);
    expect(&agent.request("POST", &seller.url("/3"), "", b"order"), 502, "upstream_closed", "connection_terminated");
    assert_eq!(seller.count(), 4, "an order is not placed twice");
}

#[test]
fn a_connection_that_the_seller_closed_between_requests_is_not_an_error() {
    let seller = Seller::http(|call| {
        call.reply(200, "", "ok");
        Next::Close
    });
    let program = Program::start(Setup::new());
    let mut agent = program.agent();
    for n in 0..30 {
        let answer = agent.get(&seller.url(&format!("/{n}")));
        assert_eq!((answer.status, answer.text().as_str()), (200, "ok"), "request {n}");
    }
    assert_eq!(seller.count(), 30, "and nothing is sent twice to a seller that answers");
}

/// The answer to a GET inside an intercepted tunnel to `name`.
fn tls_get(program: &Program, name: &str, port: u16) -> Response {
    program.agent().connect(&format!("{name}:{port}"), "").tls(name, &program.ca()).request("GET", "/", "", b"")
}

#[test]
fn an_expired_certificate_is_502() {
    let ca = TestCa::new();
    let config = ca.server_with(&["localhost"], |params| {
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2020, 2, 1);
    });
    let seller = Seller::start(Some(config.0), |call| call.reply(200, "", "secret"));
    let program = Program::start(Setup::new().roots(&ca.pem));
    expect(&tls_get(&program, "localhost", seller.port()), 502, "upstream_tls", "tls_certificate_error");
}

#[test]
fn a_self_signed_certificate_is_502_and_plain_http_on_a_tls_port_too() {
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(vec!["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
    let config = TestCa::server_config(leaf.der().clone(), &key);
    let seller = Seller::start(Some(config), |call| call.reply(200, "", "secret"));
    let program = Program::start(Setup::new());
    expect(&tls_get(&program, "localhost", seller.port()), 502, "upstream_tls", "tls_certificate_error");
    let plain = Seller::tcp(|wire| {
        let _ = wire.some();
        let _ = wire.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
    });
    expect(&tls_get(&program, "localhost", plain.port()), 502, "upstream_tls", "tls_certificate_error");
}

#[test]
fn the_proxy_speaks_tls_for_an_agent_that_asks_in_absolute_form() {
    let ca = TestCa::new();
    let seller = Seller::start(Some(ca.server(&["127.0.0.1"]).0), |call| call.reply(200, "", "hello"));
    let program = Program::start(Setup::new().roots(&ca.pem));
    assert_eq!(program.get(&seller.url("/")).text(), "hello");
}

/// A program that may not go to private addresses.
fn guarded() -> Setup {
    let mut setup = Setup::new();
    setup.upstream = "allow_private: false".into();
    setup
}

/// The answers to a request and to a tunnel.
fn both_ways(program: &Program, authority: &str) -> [Response; 2] {
    let plain = program.request("GET", &format!("http://{authority}/"), "", b"");
    let mut agent = program.agent();
    agent.send(format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n"));
    let mut tunnel = agent.response_to("CONNECT").unwrap();
    if tunnel.status == 200 {
        // An intercepted tunnel is open before the seller is dialled; the refusal is the first answer inside.
        tunnel = agent.request("GET", "/", &format!("Host: {authority}\r\n"), b"");
    }
    [plain, tunnel]
}

#[test]
fn s16_loopback_is_refused_unless_allowed_however_it_is_written() {
    let seller = ok();
    let port = seller.port();
    let program = Program::start(guarded());
    let hosts = [
        "127.0.0.1",
        "localhost",
        "LOCALHOST.",
        "127.0.0.2",
        "[::ffff:127.0.0.1]",
        "[::1]",
        "2130706433",
        "0x7f000001",
        "127.1",
        "0177.0.0.1",
    ];
    for host in hosts {
        for answer in both_ways(&program, &format!("{host}:{port}")) {
            // A spelling that no resolver takes is as good.
            let refused = [(403, "forbidden_address"), (400, "bad_request"), (502, "dns_error")];
            assert!(refused.contains(&(answer.status, answer.reason().as_str())), "{host}: {} {}", answer.status, answer.text());
            if ["127.0.0.1", "localhost", "[::1]"].contains(&host) {
                expect(&answer, 403, "forbidden_address", "destination_ip_prohibited");
            }
        }
    }
    assert_eq!(seller.connections(), 0);
}

#[test]
fn s16_allowed_ranges_open_only_themselves() {
    let seller = ok();
    let mut setup = guarded();
    setup.upstream = "allow_private: false, allow_cidrs: [\"127.0.0.0/30\"]".into();
    let program = Program::start(setup);
    assert_eq!(program.get(&seller.url("/")).status, 200);
    assert_eq!(program.get(&format!("http://127.0.0.77:{}/", seller.port())).status, 403);
}

#[test]
fn s16_metadata_and_link_local_are_refused_whatever_is_allowed() {
    let mut setup = Setup::new();
    setup.upstream = "allow_private: true, allow_cidrs: [\"169.254.0.0/16\"], connect: 2s".into();
    let program = Program::start(setup);
    for host in [
        "169.254.169.254",
        "169.254.1.1",
        "[::ffff:169.254.169.254]",
        "[64:ff9b::a9fe:a9fe]",
        "[fe80::1]",
        "[fd00:ec2::254]",
        "0.0.0.0",
        "[::]",
        "224.0.0.1",
    ] {
        for answer in both_ways(&program, &format!("{host}:80")) {
            expect(&answer, 403, "forbidden_address", "destination_ip_prohibited");
        }
    }
}

#[test]
fn s16_our_own_listeners_are_refused_whatever_is_allowed() {
    let program = Program::start(Setup::new());
    let mut hosts =
        vec!["127.0.0.1".to_owned(), "localhost".into(), "127.9.9.9".into(), "[::ffff:127.0.0.1]".into(), "[::1]".into(), "0.0.0.0".into()];
    if let Ok(name) = std::fs::read_to_string("/proc/sys/kernel/hostname") {
        hosts.push(name.trim().to_owned());
    }
    for port in [program.proxy().port(), program.admin().port()] {
        for host in &hosts {
            for answer in both_ways(&program, &format!("{host}:{port}")) {
                assert!(answer.status == 403 || answer.status == 502, "{host}:{port} {}", answer.status);
                assert!(!answer.text().contains("tollpass_build_info"));
            }
        }
        for host in ["127.0.0.1", "localhost"] {
            for answer in both_ways(&program, &format!("{host}:{port}")) {
                expect(&answer, 403, "forbidden_address", "destination_ip_prohibited");
            }
        }
    }
}

#[test]
fn upstream_connections_are_not_shared_between_agents() {
    let seller = Seller::http(|call| call.reply(200, "", call.connection.to_string()));
    let program = Program::start(
        Setup::new().agents("tokens: file:agents.yaml").file("agents.yaml", crate::proxy_agents::tokens(&[("bot", "a"), ("other", "b")])),
    );
    let ask = |user: &str, password: &str| program.request("GET", &seller.url("/"), &basic(user, password), b"").text();
    let mut seen = std::collections::BTreeMap::new();
    for _ in 0..6 {
        for (user, password) in [("bot", "a"), ("other", "b")] {
            let connection = ask(user, password);
            assert_eq!(seen.insert(connection.clone(), user).unwrap_or(user), user, "connection {connection} served two agents");
        }
    }
}
