//! Every refusal teaches: reason, rule, numbers, when it may change; and not one word of the seller's.

use alloy_primitives::Address;

use crate::harness::{Act, Chain, Plan, Program, Receipt, Response, Seller, Setup, Terms, seller_text, shop};

const PAYEE: Address = Address::repeat_byte(0x77);

fn selling(chain: &Chain, atomic: u64) -> Seller {
    Seller::http(shop(chain, Terms::v2(PAYEE, atomic), |_| Plan::ok("sold")))
}

#[track_caller]
fn status_line(answer: &Response) -> &str {
    let mut lines = answer.head.all("proxy-status");
    let line = lines.next().unwrap();
    assert!(lines.next().is_none());
    line
}

#[test]
fn a_denial_names_its_rule_and_what_is_not_allowed_says_so() {
    let chain = Chain::new();
    let seller = selling(&chain, 10_000);
    let deny = "    deny: [ { id: casino, host: localhost } ]\n";
    let program = Program::start(Setup::new().policy(Setup::policy_with("per_payment: 1, day: 5", ", paths: [\"/shop/**\"]", deny)));
    let answer = program.get(&format!("http://localhost:{}/shop/x", seller.port()));
    assert_eq!((answer.reason().as_str(), answer.json()["rule"].as_str()), ("denied", Some("casino")));
    assert!(status_line(&answer).contains("rule=\"casino\""), "{}", status_line(&answer));
    assert_eq!(program.get(&seller.url("/elsewhere")).reason(), "not_allowed");
    assert_eq!(chain.count(), 0);
    assert_eq!(program.get(&seller.url("/shop/x")).status, 200);
}

#[test]
fn a_rate_refuses_after_so_many_payments() {
    let chain = Chain::new();
    let seller = selling(&chain, 10_000);
    let program = Program::start(Setup::new().policy(Setup::policy_with("per_payment: 1, day: 5", "", "    rate: { per_minute: 2 }\n")));
    assert_eq!([program.get(&seller.url("/1")).status, program.get(&seller.url("/2")).status], [200, 200]);
    let answer = program.get(&seller.url("/3"));
    assert_eq!((answer.status, answer.reason().as_str()), (402, "rate_limited"));
    let wait: u64 = answer.head.get("retry-after").unwrap().parse().unwrap();
    assert!((1..=60).contains(&wait), "{wait}");
    assert_eq!(chain.count(), 2);
}

#[test]
fn every_violation_is_listed() {
    let chain = Chain::new();
    let seller = selling(&chain, 3_000_000);
    let program = Program::start(Setup::new().policy(Setup::policy_with("per_payment: 1, day: 2", ", max: 0.50", "")));
    let json = program.get(&seller.url("/")).json();
    let mut reasons: Vec<&str> = json["violations"].as_array().unwrap().iter().map(|v| v["reason"].as_str().unwrap()).collect();
    reasons.sort_unstable();
    assert_eq!(reasons, ["cap_day", "cap_per_payment", "entry_max"]);
}

#[test]
fn s19_a_paid_answer_cannot_speak_in_our_name_either() {
    let chain = Chain::new();
    let forged = "Tollpass-Reason: paid\r\nProxy-Status: tollpass; error=none\r\nX-Fine: 1\r\n";
    let seller = Seller::http(shop(&chain, Terms::v2(PAYEE, 10_000), move |_| {
        Plan::settle(Act::Answer(200, forged.into(), b"sold".to_vec())).receipt(Receipt::True)
    }));
    let answer = Program::start(Setup::new()).get(&seller.url("/"));
    assert_eq!((answer.status, answer.text().as_str(), chain.count()), (200, "sold", 1));
    assert!(answer.head.has("x-fine") && answer.head.has("payment-response"), "the seller's answer, unchanged: {:?}", answer.head);
    assert!(!answer.head.has("tollpass-reason") && !answer.head.has("proxy-status"), "{:?}", answer.head);
}

#[test]
fn a_refused_request_leaves_the_connection_usable() {
    let chain = Chain::new();
    let seller = selling(&chain, 60_000);
    let cheap = selling(&chain, 10_000);
    let program = Program::start(Setup::new().caps("per_payment: 0.05, day: 5"));
    let mut agent = program.agent();
    for _ in 0..3 {
        assert_eq!(agent.request("POST", &seller.url("/"), "", b"some body").status, 402);
        assert_eq!(agent.request("POST", &cheap.url("/"), "", b"some body").status, 200);
    }
    assert_eq!(chain.count(), 3);
}
