//! What counts as a challenge. Everything else that has status 402 goes back as it came.

use std::io::Write;
use std::time::{Duration, Instant};

use alloy_primitives::Address;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::write::GzEncoder;

use crate::harness::{Agent, Call, Chain, Next, Plan, Program, Response, Seller, Setup, Terms, X402, eventually, sha256, shop};

const PAYEE: Address = Address::repeat_byte(0x66);

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A brotli stream (RFC 7932) of one uncompressed meta-block and the empty last one.
fn brotli(bytes: &[u8]) -> Vec<u8> {
    assert!(!bytes.is_empty() && bytes.len() <= 1 << 16);
    // WBITS 16 is the bit 0; then ISLAST 0, MNIBBLES 4 (00), MLEN − 1 in 16 bits, ISUNCOMPRESSED 1.
    let bits = ((bytes.len() as u32 - 1) << 4) | (1 << 20);
    let header = &bits.to_le_bytes()[..3];
    [header, bytes, &[0b11]].concat()
}

/// A zstd frame (RFC 8878) of one raw block.
fn zstd(bytes: &[u8]) -> Vec<u8> {
    let size = u32::try_from(bytes.len()).unwrap();
    let block = (size << 3) | 1;
    [&[0x28, 0xb5, 0x2f, 0xfd, 0xa0][..], &size.to_le_bytes(), &block.to_le_bytes()[..3], bytes].concat()
}

/// A seller that answers every unpaid request with these header lines and body under 402.
fn with_402(headers: String, body: Vec<u8>) -> (Seller, Chain) {
    let chain = Chain::new();
    let pay = shop(&chain, Terms::v1(PAYEE, 10_000), |_| Plan::ok("sold"));
    let seller = Seller::http(move |call| {
        if call.head.has("x-payment") || call.head.has("payment-signature") {
            return pay(call);
        }
        call.reply(402, &headers, &body)
    });
    (seller, chain)
}

#[track_caller]
fn untouched(answer: &Response, body: &[u8]) {
    assert_eq!((answer.status, answer.complete), (402, true));
    assert!(answer.body == body, "{} bytes became {}: {:.200}", body.len(), answer.body.len(), answer.text());
    assert!(!answer.head.has("proxy-status"), "{:?}", answer.head);
}

#[test]
fn compressed_challenges_are_understood() {
    let (_, body) = Terms::v1(PAYEE, 10_000).answer();
    let program = Program::start(Setup::new());
    for (coding, bytes) in [("gzip", gzip(body.as_bytes())), ("x-gzip", gzip(body.as_bytes())), ("br", brotli(body.as_bytes())), ("zstd", zstd(body.as_bytes()))] {
        let (seller, chain) = with_402(format!("Content-Type: application/json\r\nContent-Encoding: {coding}\r\n"), bytes);
        assert_eq!(program.get(&seller.url("/")).text(), "sold", "{coding}");
        assert_eq!(chain.count(), 1, "{coding}");
    }
}

#[test]
fn a_compressed_402_that_is_no_challenge_keeps_its_coding() {
    let program = Program::start(Setup::new());
    for (coding, bytes) in [("gzip", gzip(b"<html>")), ("br", brotli(b"<html>")), ("gzip", b"not gzip at all".to_vec()), ("snappy", b"?".to_vec())] {
        let (seller, _) = with_402(format!("Content-Encoding: {coding}\r\n"), bytes.clone());
        let answer = program.get(&seller.url("/"));
        untouched(&answer, &bytes);
        assert_eq!(answer.head.get("content-encoding"), Some(coding));
    }
}

#[test]
fn a_challenge_body_at_the_limit_is_read_and_above_it_passes() {
    let (_, body) = Terms::v1(PAYEE, 10_000).answer();
    let program = Program::start(Setup::new().limits("challenge: 8KiB"));
    let padded = |len: usize| format!("{}{body}", " ".repeat(len - body.len()));
    let (seller, chain) = with_402("Content-Type: application/json\r\n".into(), padded(8192).into_bytes());
    assert_eq!(program.get(&seller.url("/")).text(), "sold");
    assert_eq!(chain.count(), 1);
    let (seller, chain) = with_402("Content-Type: application/json\r\n".into(), padded(8193).into_bytes());
    untouched(&program.get(&seller.url("/")), padded(8193).as_bytes());
    assert_eq!(chain.count(), 0);
}

/// A 402 whose body never ends by itself; returns once the other side hangs up.
fn endless(call: &mut Call<'_>) -> Next {
    call.body();
    call.raw("HTTP/1.1 402 Payment Required\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n");
    while call.chunk([b' '; 16 << 10]) {}
    Next::Close
}

#[test]
fn a_challenge_cut_short_is_cut_short_for_the_agent_too() {
    let (_, body) = Terms::v1(PAYEE, 10_000).answer();
    let half = body[..body.len() / 2].to_owned();
    let seller = Seller::http(move |call| {
        call.body();
        call.raw(format!("HTTP/1.1 402 Payment Required\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{half}", body.len()));
        Next::Close
    });
    let mut agent = Program::start(Setup::new()).agent();
    agent.send(Agent::request_bytes("GET", &seller.url("/"), "", b""));
    // Nothing at all is as good: it is an error for the agent, never a short body that looks whole.
    assert!(!agent.response_to("GET").is_ok_and(|answer| answer.complete));
    assert!(seller.paid().is_empty());
}

#[test]
fn a_request_with_the_agents_own_payment_is_left_alone() {
    let chain = Chain::new();
    let terms = Terms::v2(PAYEE, 10_000);
    let (_, body) = terms.answer();
    let seller = Seller::http(move |call| crate::harness::challenge(call, &terms));
    let program = Program::start(Setup::new());
    for line in ["PAYMENT-SIGNATURE: b3du", "X-PAYMENT: b3du", "Authorization: Payment b3du", "Authorization: L402 a:b", "Crawler-Max-Price: USD 0.01"] {
        let answer = program.request("GET", &seller.url("/"), &format!("{line}\r\n"), b"");
        untouched(&answer, body.as_bytes());
        assert!(answer.head.has("payment-required"));
        let (name, value) = line.split_once(": ").unwrap();
        assert_eq!(seller.seen().last().unwrap().head.get(name), Some(value), "it reaches the seller as it is");
    }
    assert_eq!((seller.count(), chain.count()), (5, 0));
    assert_eq!(program.metrics().sum("tollpass_refusals_total", &[]), 0.0);
}

#[test]
fn only_requests_whose_answer_is_the_thing_bought_are_paid() {
    let chain = Chain::new();
    let seller = Seller::http(shop(&chain, Terms::v2(PAYEE, 10_000), |_| Plan::ok("sold")));
    let program = Program::start(Setup::new());
    let mut agent = program.agent();
    for method in ["HEAD", "OPTIONS", "TRACE"] {
        let answer = agent.request(method, &seller.url("/"), "", b"");
        assert_eq!(answer.status, 402, "{method}");
        assert!(answer.head.get("proxy-status").unwrap().contains("method_not_payable"), "{method}: {:?}", answer.head);
    }
    assert_eq!(chain.count(), 0);
    for method in ["GET", "POST", "PUT", "PATCH", "DELETE"] {
        assert_eq!(agent.request(method, &seller.url("/"), "", b"").status, 200, "{method}");
    }
    assert_eq!(chain.count(), 5);
}

#[test]
fn plain_http_sellers_are_paid_only_where_policy_says_so() {
    let chain = Chain::new();
    let seller = Seller::http(shop(&chain, Terms::v2(PAYEE, 10_000), |_| Plan::ok("sold")));
    let policy = Setup::policy_with("per_payment: 1, day: 5", "", "").replace(", plain_http: true", "");
    let program = Program::start(Setup::new().policy(&policy));
    let answer = program.get(&seller.url("/"));
    assert_eq!((answer.status, answer.reason().as_str(), chain.count()), (402, "plain_http", 0));
    let mut agent = program.agent().connect(&seller.authority(), "");
    let answer = agent.request("GET", "/", "", b"");
    assert_eq!((answer.status, answer.reason().as_str(), chain.count()), (402, "plain_http", 0), "nor inside a tunnel");
}
