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
fn a_refusal_is_a_402_with_status_and_problem_document() {
    let chain = Chain::new();
    let seller = selling(&chain, 60_000);
    let program = Program::start(Setup::new().caps("per_payment: 0.05, day: 5"));
    let answer = program.get(&seller.url("/dear?secret=1"));
    assert_eq!(answer.status, 402);
    assert_eq!(answer.head.get("content-type"), Some("application/problem+json"));
    assert_eq!(answer.head.get("cache-control"), Some("no-store"));
    assert!(!answer.head.has("payment-required"), "nothing that invites to pay around us");
    assert!(status_line(&answer).starts_with("tollpass; error=http_request_denied; details=\"cap_per_payment\""), "{}", status_line(&answer));
    let json = answer.json();
    let field = |name: &str| json[name].as_str().unwrap_or_default().to_owned();
    assert_eq!(json["status"], 402);
    assert_eq!(field("reason"), "cap_per_payment");
    assert_eq!((field("amount_usd"), field("limit_usd")), ("0.06".into(), "0.05".into()));
    assert_eq!((field("retry"), field("host")), ("no".into(), "127.0.0.1".into()));
    assert!(field("type").ends_with("/cap_per_payment") && !field("title").is_empty());
    assert_eq!(json["violations"][0]["reason"], "cap_per_payment");
    assert_eq!((seller.count(), chain.count()), (1, 0));
}

#[test]
fn a_spent_budget_says_what_is_left_and_when_it_resets() {
    let chain = Chain::new();
    let seller = selling(&chain, 40_000);
    let program = Program::start(Setup::new().caps("per_payment: 1, day: 0.10"));
    assert_eq!([program.get(&seller.url("/1")).status, program.get(&seller.url("/2")).status], [200, 200]);
    let answer = program.get(&seller.url("/3"));
    let json = answer.json();
    assert_eq!((answer.status, json["reason"].as_str(), json["retry"].as_str()), (402, Some("cap_day"), Some("at_reset")));
    assert_eq!((json["amount_usd"].as_str(), json["limit_usd"].as_str(), json["remaining_usd"].as_str()), (Some("0.04"), Some("0.10"), Some("0.02")));
    let resets = json["resets_at"].as_str().unwrap();
    assert!(resets.ends_with("T00:00:00Z"), "{resets}");
    let wait: u64 = answer.head.get("retry-after").unwrap().parse().unwrap();
    assert!(wait <= 24 * 3600, "{wait}");
    assert_eq!(chain.count(), 2);
    // A cheaper thing still fits, to the last cent.
    assert_eq!(program.get(&selling(&chain, 20_000).url("/4")).status, 200);
    assert_eq!(program.metrics().sum("tollpass_budget_remaining_usd", &[("agent", "bot"), ("budget", "day")]), 0.0);
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
fn refusal_body_seller_keeps_the_sellers_answer_and_adds_the_status() {
    let chain = Chain::new();
    let mut terms = Terms::v2(PAYEE, 60_000);
    terms.body = "<html>the seller's own words</html>".into();
    let seller = Seller::http(shop(&chain, terms, |_| Plan::ok("sold")));
    let policy = "version: 1\ndefaults: { refusal_body: seller }\n".to_owned() + Setup::policy_with("per_payment: 0.05, day: 5", "", "").trim_start_matches("version: 1\n");
    let program = Program::start(Setup::new().policy(policy));
    let answer = program.get(&seller.url("/"));
    assert_eq!((answer.status, answer.text().as_str()), (402, "<html>the seller's own words</html>"));
    assert!(answer.head.has("payment-required"));
    assert!(status_line(&answer).contains("details=\"cap_per_payment\""));
    assert_eq!(chain.count(), 0);
}

#[test]
fn s19_no_word_of_the_seller_is_in_any_answer_of_ours() {
    let chain = Chain::new();
    let mut terms = Terms::v2(PAYEE, 60_000).with_error(seller_text());
    terms.accepts[0]["description"] = seller_text().into();
    terms.accepts[0]["extra"]["memo"] = seller_text().into();
    terms.accepts.push(serde_json::json!({ "scheme": seller_text(), "network": seller_text(), "amount": seller_text() }));
    terms.headers = format!("X-Note: {0}\r\nTollpass-Reason: {0}\r\nProxy-Status: tollpass; details=\"{0}\"\r\nWarning: 199 - \"{0}\"\r\n", seller_text());
    terms.body = seller_text().into();
    for version in [Terms::v2(PAYEE, 1).version, Terms::v1(PAYEE, 1).version] {
        let mut terms = terms.clone();
        if version == crate::harness::X402::V1 {
            let entry = Terms::v1(PAYEE, 60_000).accepts.remove(0);
            terms.accepts[0] = entry;
            terms.version = version;
        }
        let seller = Seller::http(shop(&chain, terms, |_| Plan::ok("sold")));
        let program = Program::start(Setup::new().caps("per_payment: 0.05, day: 5"));
        let answer = program.get(&seller.url("/"));
        assert_eq!((answer.status, answer.reason().as_str()), (402, "cap_per_payment"));
        let all = format!("{:?} {}", answer.head, answer.text());
        for word in ["CANARY", "HYPERLINK", "ignore previous", "channel"] {
            assert!(!all.contains(word), "{word} in {all}");
            assert!(!program.log().contains(word), "{word} in the log");
        }
    }
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

#[test]
fn refusals_are_counted_by_reason_and_logged_once() {
    let chain = Chain::new();
    let seller = selling(&chain, 60_000);
    let program = Program::start(Setup::new().caps("per_payment: 0.05, day: 5"));
    for _ in 0..3 {
        program.get(&seller.url("/p?q=canary"));
    }
    assert_eq!(program.metrics().sum("tollpass_refusals_total", &[("agent", "bot"), ("reason", "cap_per_payment")]), 3.0);
    let log = program.log();
    let lines: Vec<&str> = log.lines().filter(|l| l.contains("\"outcome\":\"refused\"")).collect();
    assert_eq!(lines.len(), 3, "{log}");
    assert!(lines.iter().all(|l| l.contains("\"reason\":\"cap_per_payment\"") && l.contains("\"amount\":\"0.06\"") && !l.contains("canary")), "{log}");
}
