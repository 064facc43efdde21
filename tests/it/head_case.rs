//! Names of fields reach the other side as they were written, in both directions, paid or not.

use alloy_primitives::Address;

use crate::harness::{Agent, Call, Chain, Head, Next, Program, Seller, Seller2, Setup, Terms, TestCa, challenge, present};

const PAYEE: Address = Address::repeat_byte(0x22);

/// How an agent reaches the seller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Absolute,
    Connect,
    ConnectTls,
}

const WAYS: [Way; 3] = [Way::Absolute, Way::Connect, Way::ConnectTls];

struct Rig {
    way: Way,
    program: Program,
    seller: Seller,
}

impl Rig {
    fn new(way: Way, handler: impl Fn(&mut Call<'_>) -> Next + Send + Sync + 'static) -> Self {
        let ca = TestCa::new();
        let seller = Seller::start((way == Way::ConnectTls).then(|| ca.server(&["127.0.0.1"]).0), handler);
        Self { way, program: Program::start(Setup::new().roots(&ca.pem)), seller }
    }

    fn agent(&self) -> Agent {
        let agent = self.program.agent();
        match self.way {
            Way::Absolute => agent,
            Way::Connect => agent.connect(&self.seller.authority(), ""),
            Way::ConnectTls => agent.connect(&self.seller.authority(), "").tls("127.0.0.1", &self.program.ca()),
        }
    }

    /// A GET of `/` with these fields in front of the empty line.
    fn head(&self, fields: &str) -> String {
        let target = if self.way == Way::Absolute { self.seller.url("/") } else { "/".into() };
        format!("GET {target} HTTP/1.1\r\n{}\r\n", fields.replace("{A}", &self.seller.authority()))
    }

    fn seen(&self) -> Vec<Vec<String>> {
        self.seller.seen().iter().map(|seen| names(&seen.head)).collect()
    }
}

fn names(head: &Head) -> Vec<String> {
    head.headers.iter().map(|(name, _)| name.clone()).collect()
}

const ASKED: &str = "hOST: {A}\r\nUser-Agent: x\r\nX-Request-ID: 1\r\nx-lower: 1\r\nDNT: 1\r\nX-Dup: 1\r\nx-dup: 2\r\nACCEPT: */*\r\n";
const ASKED_NAMES: [&str; 8] = ["hOST", "User-Agent", "X-Request-ID", "x-lower", "DNT", "X-Dup", "x-dup", "ACCEPT"];
const ANSWER: &str = "x-ODD: 1\r\nETag: \"a\"\r\nset-COOKIE: a=1\r\nSet-Cookie: b=2\r\nX-XSS-Protection: 0\r\n";
const ANSWER_NAMES: [&str; 7] = ["x-ODD", "ETag", "set-COOKIE", "Set-Cookie", "X-XSS-Protection", "Content-Length", "Date"];

#[test]
fn names_reach_both_sides_byte_by_byte() {
    for way in WAYS {
        let rig = Rig::new(way, |call| call.reply(200, ANSWER, "x"));
        let mut agent = rig.agent();
        for slowly in [false, false, true] {
            let head = rig.head(ASKED);
            for piece in head.as_bytes().chunks(if slowly { 1 } else { head.len() }) {
                agent.send(piece);
            }
            let answer = agent.response();
            assert_eq!((answer.status, answer.text().as_str()), (200, "x"));
            assert_eq!(names(&answer.head), ANSWER_NAMES, "{way:?}");
            assert_eq!(rig.seen().pop().unwrap(), [&ASKED_NAMES[..], &["Via"]].concat(), "{way:?}");
        }
        assert_eq!(rig.seller.connections(), 1);
    }
}

#[test]
fn a_name_is_written_as_in_its_own_message_and_not_as_in_the_one_before() {
    for way in WAYS {
        let rig = Rig::new(way, |call| {
            let (name, _) = call.head.headers.last().cloned().unwrap();
            let last = call.head.headers.iter().rev().nth(1).map_or(name, |(name, _)| name.clone());
            call.reply(200, &format!("{last}: 1\r\n"), "x")
        });
        let rows = ["X-One", "x-one", "X-ONE", "X-Two", "X-One", "x-one"];
        let mut agent = rig.agent();
        // One after the other, then all in one piece.
        for pipelined in [false, true] {
            let heads: Vec<String> = rows.iter().map(|name| rig.head(&format!("Host: {{A}}\r\n{name}: 1\r\n"))).collect();
            if pipelined {
                agent.send(heads.concat());
            }
            for (name, head) in rows.iter().zip(&heads) {
                if !pipelined {
                    agent.send(head);
                }
                assert_eq!(names(&agent.response().head)[0], *name, "{way:?}");
            }
            let seen = rig.seen();
            let expected = rows.map(|name| vec!["Host", name, "Via"]);
            assert_eq!(seen[seen.len() - rows.len()..], expected, "{way:?}");
        }
    }
}

#[test]
fn who_writes_lower_case_reads_lower_case() {
    for way in WAYS {
        let rig = Rig::new(way, |call| {
            call.raw("HTTP/1.1 200 OK\r\nx-one: 1\r\ncontent-length: 1\r\n\r\nx");
            Next::Keep
        });
        let mut agent = rig.agent();
        agent.send(rig.head("host: {A}\r\nx-one: 1\r\n"));
        assert_eq!(names(&agent.response().head), ["x-one", "content-length", "date"], "{way:?}");
        assert_eq!(rig.seen(), [["host", "x-one", "via"]], "{way:?}");
    }
}

#[test]
fn a_paid_request_and_its_answer_keep_their_names() {
    for way in WAYS {
        let (chain, terms) = (Chain::new(), Terms::v2(PAYEE, 10_000));
        let mine = chain.clone();
        let rig = Rig::new(way, move |call| {
            let Some(Ok(payment)) = present(&call.head, &terms) else { return challenge(call, &terms) };
            mine.settle(payment.from, payment.to, payment.value, payment.nonce).unwrap();
            call.reply(200, ANSWER, "sold")
        });
        let mut agent = rig.agent();
        agent.send(rig.head(ASKED));
        let answer = agent.response();
        assert_eq!((answer.text().as_str(), chain.count()), ("sold", 1));
        assert_eq!(names(&answer.head), ANSWER_NAMES, "{way:?}");
        let asked = [&ASKED_NAMES[..], &["Via"]].concat();
        assert_eq!(rig.seen(), [asked.clone(), [&asked[..], &["PAYMENT-SIGNATURE"]].concat()], "{way:?}");
    }
}

#[test]
fn what_the_proxy_says_by_itself_is_written_as_its_reader_writes() {
    let program = Program::start(Setup::new());
    for (host, expected) in [("Host", ["Content-Type", "Proxy-Status"]), ("host", ["content-type", "proxy-status"])] {
        let mut agent = program.agent();
        agent.send(format!("GET http://127.0.0.1:1/ HTTP/1.1\r\n{host}: 127.0.0.1:1\r\n\r\n"));
        let answer = agent.response();
        assert_eq!(answer.status, 502);
        for name in expected {
            assert!(names(&answer.head).iter().any(|n| n == name), "{name}: {:?}", answer.head);
        }
    }
}

#[test]
fn the_answer_of_an_http2_seller_is_written_as_its_reader_writes() {
    let ca = TestCa::new();
    let seller = Seller2::start(Some(ca.server(&["127.0.0.1"]).0), |_| {
        http::Response::builder().header("x-one-two", "1").body(crate::harness::Message::new("x")).unwrap()
    });
    let program = Program::start(Setup::new().roots(&ca.pem));
    let mut agent = program.agent().connect(&seller.address.to_string(), "").tls("127.0.0.1", &program.ca());
    for (host, expected) in [("Host", "X-One-Two"), ("host", "x-one-two")] {
        agent.send(format!("GET / HTTP/1.1\r\n{host}: {}\r\n\r\n", seller.address));
        let answer = agent.response();
        assert_eq!((answer.status, answer.text().as_str()), (200, "x"));
        assert!(names(&answer.head).iter().any(|n| n == expected), "{:?}", answer.head);
    }
}

#[test]
fn a_body_that_looks_like_a_head_is_passed_untouched() {
    const BODY: &str = "HTTP/1.1 200 OK\r\nx-odd: 1\r\ncontent-length: 0\r\n\r\nhost: a\r\n";
    for way in WAYS {
        let rig = Rig::new(way, |call| {
            let body = String::from_utf8(call.body()).unwrap();
            assert_eq!(body, BODY.repeat(3));
            call.raw("HTTP/1.1 200 OK\r\nX-ODD: 1\r\nTransfer-Encoding: chunked\r\n\r\n");
            for _ in 0..3 {
                call.chunk(BODY);
            }
            call.raw("0\r\n\r\n");
            Next::Keep
        });
        let mut agent = rig.agent();
        for _ in 0..2 {
            let head = rig.head("Host: {A}\r\nX-Odd: 1\r\nTransfer-Encoding: chunked\r\n").replace("GET ", "POST ");
            agent.send(head);
            for _ in 0..3 {
                agent.send(format!("{:x}\r\n{BODY}\r\n", BODY.len()));
            }
            agent.send("0\r\n\r\n");
            let answer = agent.response();
            assert_eq!(answer.text(), BODY.repeat(3), "{way:?}");
            assert_eq!(names(&answer.head), ["X-ODD", "Transfer-Encoding", "Date"]);
            assert_eq!(rig.seen().pop().unwrap(), ["Host", "X-Odd", "Via", "Transfer-Encoding"]);
        }
    }
}
