//! `egress`: where agents may connect at all. Checked on every way in, before anything is looked up, and hot.

use alloy_primitives::Address;

use crate::harness::{Chain, Plan, Program, Response, Seller, Setup, Terms, TestCa, eventually, shop};

const PAYEE: Address = Address::repeat_byte(0x77);

/// The default policy with an `egress` section.
fn policy(egress: &str) -> String {
    format!("{}egress: {egress}\n", Setup::policy_with("per_payment: 5, day: 1000", "", ""))
}

fn ok() -> Seller {
    Seller::http(|call| call.reply(200, "", "ok"))
}

#[track_caller]
fn denied(answer: &Response) {
    assert_eq!((answer.status, answer.reason().as_str()), (403, "egress_denied"));
    let line = answer.head.get("proxy-status").unwrap();
    assert!(line.starts_with("tollpass; error=http_request_denied; details=\"egress_denied\""), "{line}");
}

#[test]
fn a_denied_host_is_refused_before_it_is_looked_up_or_dialled() {
    let seller = ok();
    let program = Program::start(Setup::new().policy(policy("{ deny: [localhost, \"*.invalid\"] }")));
    denied(&program.get(&format!("http://localhost:{}/", seller.port())));
    // A look-up would say dns_error.
    denied(&program.get("http://nowhere.invalid/"));
    assert_eq!(program.get(&seller.url("/")).status, 200, "what is not denied passes");
    assert_eq!((seller.count(), seller.connections()), (1, 1));
}

#[test]
fn a_tunnel_to_a_denied_host_is_not_opened_whether_it_would_be_read_or_not() {
    let seller = ok();
    for intercept in ["all", "none"] {
        let program = Program::start(Setup::new().tls(&format!("intercept: {intercept}")).policy(policy("{ deny: [127.0.0.1] }")));
        let mut agent = program.agent();
        agent.send(format!("CONNECT {0} HTTP/1.1\r\nHost: {0}\r\n\r\n", seller.authority()));
        denied(&agent.response());
    }
    assert_eq!(seller.connections(), 0);
}

#[test]
fn m3_7_a_closed_default_lets_through_what_the_agent_may_pay_and_what_is_named() {
    let chain = Chain::new();
    let seller = Seller::http(shop(&chain, Terms::v2(PAYEE, 10_000), |_| Plan::ok("sold")));
    let program = Program::start(Setup::new().policy(policy("{ default: deny, allow: [named.invalid], deny: [localhost] }")));
    let answer = program.get(&seller.url("/"));
    assert_eq!((answer.status, answer.text().as_str(), chain.count()), (200, "sold", 1));
    assert_eq!(program.get("http://named.invalid/").reason(), "dns_error", "named, so it was looked up");
    denied(&program.get("http://other.invalid/"));
    denied(&program.get(&format!("http://localhost:{}/", seller.port())));
}

#[test]
fn a_new_policy_counts_for_the_next_request_of_an_open_connection_and_of_an_open_tunnel() {
    let ca = TestCa::new();
    let secure = Seller::start(Some(ca.server(&["localhost"]).0), |call| call.reply(200, "", "ok"));
    let plain = ok();
    let program = Program::start(Setup::new().tls("intercept: all").roots(&ca.pem));
    let mut agent = program.agent();
    let mut tunnel = program.agent().connect(&format!("localhost:{}", secure.port()), "").tls("localhost", &program.ca());
    let url = format!("http://localhost:{}/", plain.port());
    assert_eq!((agent.get(&url).status, tunnel.get("/").status), (200, 200));
    program.policy_set(&policy("{ deny: [localhost] }"));
    denied(&agent.get(&url));
    denied(&tunnel.get("/"));
    program.policy_set(&Setup::policy_with("per_payment: 5, day: 1000", "", ""));
    assert_eq!((agent.get(&url).status, tunnel.get("/").status), (200, 200));
}

#[test]
fn a_broken_egress_section_keeps_the_policy_before_it() {
    let program = Program::start(Setup::new().policy(policy("{ deny: [localhost] }")));
    program.policy_write(&policy("{ denny: [localhost] }"));
    eventually("the broken file is noticed", || program.metrics().sum("tollpass_policy_reload_success", &[]) == 0.0);
    denied(&program.get("http://localhost:9/"));
    let check = program.run(&["policy", "check", "policy.yaml"]);
    assert_eq!(check.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&check.stdout).contains("did you mean `deny`?"), "{check:?}");
}

#[test]
fn explain_says_that_a_host_may_not_be_connected_to() {
    let program = Program::start(Setup::new().policy(policy("{ deny: [\"*.shady.example\"] }")));
    let args = ["policy", "explain", "--policy", "policy.yaml", "--agent", "bot", "--url", "https://a.shady.example/", "--price", "0.01"];
    let told = String::from_utf8_lossy(&program.run(&args).stdout).into_owned();
    assert!(told.contains("refuse: egress_denied") && told.contains("does not let anything connect"), "{told}");
}
