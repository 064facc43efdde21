//! `upstream.proxy`: another proxy between this one and the sellers.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};

use alloy_primitives::Address;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::harness::{Agent, Chain, Next, Plan, Program, Response, Seller, Setup, Terms, TestCa, Wire, shop};

const PAYEE: Address = Address::repeat_byte(0x67);

/// What the parent was asked: the request line's method and target, and the credentials.
type Asked = Arc<Mutex<Vec<(String, String, Option<String>)>>>;

/// A proxy that resolves every name to `seller`.
struct Parent {
    seller: Seller,
    asked: Asked,
}

fn copy(mut from: TcpStream, mut to: TcpStream) {
    let mut buffer = [0; 4096];
    while let Ok(n @ 1..) = from.read(&mut buffer) {
        if to.write_all(&buffer[..n]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(std::net::Shutdown::Write);
}

/// Opens tunnels and passes plain requests on, all of them to `to`.
fn parent(to: SocketAddr) -> Parent {
    let asked = Asked::default();
    let log = asked.clone();
    let seller = Seller::tcp(move |wire: &mut Wire| {
        while let Ok(Some(head)) = wire.head() {
            let credentials = head.get("proxy-authorization").map(str::to_owned);
            log.lock().unwrap().push((head.method().to_owned(), head.target().to_owned(), credentials));
            if head.method() == "CONNECT" {
                let far = TcpStream::connect(to).unwrap();
                wire.write(b"HTTP/1.1 200 Connection established\r\nX-Parent: yes\r\n\r\n").unwrap();
                let (near, back) = (wire.tcp().try_clone().unwrap(), far.try_clone().unwrap());
                std::thread::scope(|s| {
                    s.spawn(|| copy(back, near));
                    copy(wire.tcp().try_clone().unwrap(), far);
                });
                return;
            }
            let body = wire.body(&head, false).unwrap();
            let fields: String = head
                .headers
                .iter()
                .filter(|(n, _)| !n.eq_ignore_ascii_case("proxy-authorization"))
                .map(|(n, v)| format!("{n}: {v}\r\n"))
                .collect();
            let path = head.target().splitn(4, '/').nth(3).unwrap().to_owned();
            let mut agent = Agent::to(to);
            agent.send([format!("{} /{path} HTTP/1.1\r\n{fields}\r\n", head.method()).as_bytes(), &body].concat());
            let answer = agent.response_to(head.method()).unwrap();
            let fields: String = answer.head.headers.iter().map(|(n, v)| format!("{n}: {v}\r\n")).collect();
            wire.write(&[format!("HTTP/1.1 {} X\r\n{fields}\r\n", answer.status).as_bytes(), &answer.body].concat()).unwrap();
        }
    });
    Parent { seller, asked }
}

impl Parent {
    fn setup(&self) -> Setup {
        Setup::new().upstream(&format!("proxy: \"http://{}\"", self.seller.authority()))
    }

    fn asked(&self) -> Vec<(String, String)> {
        self.asked.lock().unwrap().iter().map(|(m, t, _)| (m.clone(), t.clone())).collect()
    }
}

#[track_caller]
fn expect(answer: &Response, status: u16, reason: &str) {
    assert_eq!((answer.status, answer.reason().as_str()), (status, reason));
}

/// The default policy for a name that only the parent knows.
fn policy() -> String {
    Setup::policy_with("per_payment: 5, day: 1000", "", "")
        .replace("[localhost, 127.0.0.1]", "[shop.test]")
        .replace("plain_http: true", "plain_http: true, ports: [80, 443]")
}

#[test]
fn plain_requests_go_in_absolute_form_with_our_credentials_and_are_paid_for() {
    let chain = Chain::new();
    let seller = Seller::http(shop(&chain, Terms::v2(PAYEE, 10_000), |_| Plan::ok("sold")));
    let parent = parent(seller.address);
    let url = format!("http://bot:pa%3Ass@{}", parent.seller.authority());
    let program = Program::start(Setup::new().upstream("proxy: env:PARENT").env("PARENT", &url).policy(policy()));
    let answer = program.request("POST", "http://shop.test/buy?x=1", "", b"body");
    assert_eq!((answer.status, answer.text().as_str(), chain.count()), (200, "sold", 1));
    let basic = format!("Basic {}", STANDARD.encode("bot:pa:ss"));
    let asked = parent.asked.lock().unwrap().clone();
    assert_eq!(asked, vec![("POST".to_owned(), "http://shop.test/buy?x=1".to_owned(), Some(basic.clone())); 2]);
    for seen in seller.seen() {
        assert_eq!(seen.head.get("host"), Some("shop.test"));
    }
    assert!(!program.log().contains("pa:ss") && !program.log().contains(&basic["Basic ".len()..]));
}

#[test]
fn https_and_tunnels_go_through_connect_and_are_paid_for_inside() {
    let ca = TestCa::new();
    let chain = Chain::new();
    let seller = Seller::start(Some(ca.server(&["shop.test"]).0), shop(&chain, Terms::v2(PAYEE, 10_000), |_| Plan::ok("sold")));
    let parent = parent(seller.address);
    let program = Program::start(parent.setup().roots(&ca.pem).policy(policy()));
    let mut inside = program.agent().connect("shop.test:443", "").tls("shop.test", &program.ca());
    assert_eq!((inside.get("/a").text().as_str(), chain.count()), ("sold", 1));
    // Not payable, so it stays closed: the seller's own certificate is what the agent sees.
    let mut blind = program.agent().connect("other.test:443", "").tls("shop.test", &ca.pem);
    assert_eq!(blind.get("/b").status, 402);
    let asked = parent.asked();
    assert!(asked.iter().all(|(method, _)| method == "CONNECT"), "{asked:?}");
    assert_eq!(asked.last().unwrap().1, "other.test:443");
    assert!(asked.iter().any(|(_, target)| target == "shop.test:443"));
}

#[test]
fn what_a_seller_says_first_reaches_the_agent_whole() {
    let parent = Seller::tcp(|wire| {
        let _ = wire.head();
        let _ = wire.write(b"HTTP/1.1 200 OK\r\n\r\nSSH-2.0-hello\r\n");
        let said = wire.exactly(3).unwrap();
        let _ = wire.write(&said);
    });
    let program = Program::start(Setup::new().upstream(&format!("proxy: \"http://{}\"", parent.authority())));
    let mut tunnel = program.agent().connect("git.test:22", "");
    assert_eq!(tunnel.wire.exactly(15).unwrap(), b"SSH-2.0-hello\r\n");
    tunnel.send("abc");
    assert_eq!(tunnel.wire.exactly(3).unwrap(), b"abc");
}

#[test]
fn no_proxy_and_this_machine_are_reached_directly() {
    let direct = Seller::http(|call| call.reply(200, "", "direct"));
    let far = Seller::http(|call| call.reply(200, "", "by the parent"));
    let parent = parent(far.address);
    let setup = Setup::new()
        .upstream(&format!("proxy: \"http://{}\", no_proxy: [\".direct.invalid\", 10.0.0.0/8], connect: 500ms", parent.seller.authority()));
    let program = Program::start(setup);
    assert_eq!(program.get(&direct.url("/")).text(), "direct", "127.0.0.1");
    assert_eq!(program.get(&format!("http://localhost:{}/", direct.port())).text(), "direct", "localhost");
    expect(&program.get("http://a.direct.invalid/"), 502, "dns_error");
    assert_eq!(program.get("http://elsewhere.invalid/").text(), "by the parent", "the name is the parent's to look up");
    assert_eq!(parent.asked().len(), 1);
}

#[test]
fn s16_addresses_are_checked_also_where_the_parent_would_connect() {
    let parent = Seller::http(|call| call.reply(200, "", "never"));
    let mut setup = Setup::new();
    // The parent itself is on a private address, which needs no permission.
    setup.upstream = format!("allow_private: false, proxy: \"http://{}\"", parent.authority());
    let program = Program::start(setup);
    for target in ["http://169.254.169.254/", "http://10.0.0.1/", "http://[::ffff:192.168.0.1]/"] {
        expect(&program.get(target), 403, "forbidden_address");
    }
    assert_eq!(parent.count(), 0);
    assert_eq!(program.get("http://named.test/").text(), "never", "but a name is the parent's to look up");
}

#[test]
fn a_parent_that_refuses_or_is_gone_is_502_and_its_407_is_not_the_agents() {
    let refuses = Seller::http(|call| call.reply(407, "Proxy-Authenticate: Basic realm=x\r\n", "PARENT-CANARY"));
    let program = Program::start(Setup::new().upstream(&format!("proxy: \"http://{}\"", refuses.authority())));
    let answer = program.get("http://named.test/");
    expect(&answer, 502, "parent_failed");
    assert!(!answer.head.has("proxy-authenticate") && !answer.text().contains("CANARY"));
    let mut agent = program.agent();
    agent.send("CONNECT named.test:22 HTTP/1.1\r\nHost: named.test:22\r\n\r\n");
    expect(&agent.response(), 502, "parent_failed");
    let closes = Seller::http(|_| Next::Close);
    for parent in [closes.authority(), format!("127.0.0.1:{}", crate::harness::free_port())] {
        let program = Program::start(Setup::new().upstream(&format!("proxy: \"http://{parent}\"")));
        let mut agent = program.agent();
        agent.send("CONNECT named.test:22 HTTP/1.1\r\nHost: named.test:22\r\n\r\n");
        expect(&agent.response(), 502, "parent_failed");
    }
}

#[test]
fn s16_we_are_never_our_own_parent() {
    let port = crate::harness::free_port();
    let mut setup = Setup::new().upstream(&format!("proxy: \"http://127.0.0.1:{port}\""));
    setup.proxy = format!("127.0.0.1:{port}");
    let program = Program::start(setup);
    expect(&program.get("http://named.test/"), 502, "parent_failed");
}
