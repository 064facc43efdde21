//! Request bodies that memory has no room for: sent again from disk, byte by byte, and nothing is left behind.

use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};

use alloy_primitives::Address;

use crate::harness::{Chain, Next, PATIENCE, Plan, Program, Seller, Setup, Terms, eventually, sha256, shop};

const PAYEE: Address = Address::repeat_byte(0x44);

/// Bytes without a period, another row for every seed.
fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64 ^ seed;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    (0..len.div_ceil(8)).flat_map(|_| next().to_le_bytes()).take(len).collect()
}

fn files(program: &Program) -> usize {
    std::fs::read_dir(program.path("state/private/replay")).unwrap().count()
}

#[test]
fn a_body_that_memory_has_no_room_for_is_paid_for_from_disk_byte_by_byte() {
    let chain = Chain::new();
    let seller = Seller::http(shop(&chain, Terms::v2(PAYEE, 10_000), |visit| Plan::ok(sha256(&visit.body))));
    let program = Program::start(Setup::new().upstream("replay_memory: 64KiB"));
    assert_eq!(program.request("POST", &seller.url("/warm"), "", &noise(9, 1000)).status, 200);
    let before = program.memory_kib();
    let url = seller.url("/");
    std::thread::scope(|s| {
        for n in 0..4 {
            let (program, url) = (&program, &url);
            s.spawn(move || {
                let body = noise(n, (10 << 20) + usize::try_from(n).unwrap());
                let answer = program.request("POST", url, "", &body);
                assert_eq!((answer.status, answer.body), (200, sha256(&body).to_vec()), "{n}");
            });
        }
    });
    assert_eq!(chain.count(), 5);
    let grown = program.peak_kib().saturating_sub(before);
    assert!(grown < 20 * 1024, "{grown} KiB for 40 MiB of bodies");
    assert_eq!(files(&program), 0, "no file has a name");
}

#[test]
fn an_early_402_and_a_body_of_unknown_length_are_taken_over_onto_disk() {
    let chain = Chain::new();
    let terms = Terms::v2(PAYEE, 10_000);
    let (headers, page) = terms.answer();
    let pay = shop(&chain, terms, |visit| Plan::ok(sha256(&visit.body)));
    let seller = Seller::http(move |call| {
        if call.head.has("payment-signature") {
            return pay(call);
        }
        call.raw(format!("HTTP/1.1 402 Payment Required\r\n{headers}Content-Length: {}\r\n\r\n{page}", page.len()));
        call.wire.exactly(1 << 20).ok();
        Next::Reset
    });
    let program = Program::start(Setup::new().upstream("replay_memory: 256KiB"));
    let body = noise(1, 6 << 20);
    let mut agent = program.agent();
    agent.send(format!("POST {} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", seller.url("/")));
    for part in body.chunks(10_007) {
        agent.send([format!("{:x}\r\n", part.len()).as_bytes(), part, b"\r\n"].concat());
    }
    agent.send("0\r\n\r\n");
    let answer = agent.response_to("POST").unwrap();
    assert_eq!((answer.status, answer.body), (200, sha256(&body).to_vec()));
    assert_eq!(chain.count(), 1);
}

#[test]
fn the_disk_is_bounded_too_and_given_back() {
    const SIZE: usize = 700 << 10;
    let chain = Chain::new();
    let (tell, arrived) = channel();
    let told = Mutex::new(tell);
    let pay = shop(&chain, Terms::v2(PAYEE, 10_000), |_| Plan::ok("sold"));
    let seller = Seller::http(move |call| {
        if call.head.target() != "/free" {
            return pay(call);
        }
        // Most of it is here, and so on the proxy's disk too.
        call.wire.exactly(SIZE - 1).unwrap();
        told.lock().unwrap().send(()).unwrap();
        call.wire.exactly(1).unwrap();
        call.raw("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        Next::Close
    });
    let program = Program::start(Setup::new().upstream("replay_memory: 16KiB, replay_disk: 1MiB"));
    let body = noise(2, SIZE);
    let post = || program.request("POST", &seller.url("/"), "", &body);
    for _ in 0..3 {
        eventually("there is room again", || post().status == 200);
    }
    let mut first = program.agent();
    first.send(format!("POST {} HTTP/1.1\r\nHost: x\r\nContent-Length: {SIZE}\r\n\r\n", seller.url("/free")));
    first.send(&body[..SIZE - 1]);
    arrived.recv_timeout(PATIENCE).unwrap();
    assert_eq!(post().reason(), "body_not_replayable");
    first.send(&body[SIZE - 1..]);
    assert_eq!(first.response_to("POST").unwrap().status, 200);
    eventually("there is room again", || post().status == 200);
}

#[test]
fn trailers_are_sent_again_with_the_body_they_belong_to() {
    let bodies: Arc<Mutex<Vec<String>>> = Arc::default();
    let (headers, page) = Terms::v2(PAYEE, 10_000).answer();
    let seen = bodies.clone();
    let seller = Seller::http(move |call| {
        let mut raw = Vec::new();
        while !raw.ends_with(b"\r\n\r\n") {
            raw.extend(call.wire.exactly(1).unwrap());
        }
        seen.lock().unwrap().push(String::from_utf8(raw).unwrap());
        let (line, headers, page) = if call.head.has("payment-signature") {
            ("200 OK", "", "sold")
        } else {
            ("402 Payment Required", headers.as_str(), page.as_str())
        };
        call.raw(format!("HTTP/1.1 {line}\r\n{headers}Content-Length: {}\r\n\r\n{page}", page.len()));
        Next::Keep
    });
    let program = Program::start(Setup::new());
    let mut agent = program.agent();
    agent.send(format!(
        "POST {} HTTP/1.1\r\nHost: x\r\nTrailer: X-Sum, Tollpass-Mine\r\nTransfer-Encoding: chunked\r\n\r\n\
         5\r\nhello\r\n0\r\nX-Sum: 42\r\nTollpass-Mine: 1\r\n\r\n",
        seller.url("/")
    ));
    let answer = agent.response_to("POST").unwrap();
    assert_eq!((answer.status, answer.text().as_str()), (200, "sold"));
    let bodies = bodies.lock().unwrap();
    assert_eq!(bodies.len(), 2, "{bodies:?}");
    for body in &*bodies {
        assert!(body.ends_with("\r\n0\r\nx-sum: 42\r\n\r\n"), "{body:?}");
    }
}
