//! Questions to people on the real program: a request waits, somebody answers, and a yes is good for one payment.

use alloy_primitives::hex;
use serde_json::{Value, json};

use crate::harness::{Agent, Plan, Program, Response, Setup, eventually, sha256};
use crate::till::Till;

const TOKEN: &str = "a person's token";

/// Everything above half a cent is asked about; `hold` is how long the agent waits.
fn policy(hold: &str, group: &str, more: &str) -> String {
    let rules = "    rules: [ { id: dear, when: 'price.usd > usd(\"0.005\")', then: { ask: finance } } ]\n";
    let policy = Setup::policy_with("per_payment: 5, day: 1000", "", rules);
    format!("{policy}defaults: {{ hold: {hold} }}\napprovers: {{ finance: {{ {group} }} }}\n{more}")
}

fn setup(policy: String) -> Setup {
    let line = |name: &str, role: &str| {
        format!("  {name}: {{ roles: [{role}], tokens: [\"sha256:{}\"] }}\n", hex::encode(sha256(format!("{TOKEN} {name}").as_bytes())))
    };
    let file = [line("ann", "approve"), line("bob", "approve"), line("eve", "read")].concat();
    let mut setup = Setup::new().policy(policy).file("operators.yaml", format!("operators:\n{file}"));
    setup.more = "admin: { tokens: file:operators.yaml }\n".into();
    setup
}

/// What `who` says over TCP.
fn call(program: &Program, who: &str, path: &str) -> Response {
    let headers = format!("Host: {}\r\nAuthorization: Bearer {TOKEN} {who}\r\n", program.admin());
    Agent::to(program.admin()).request("POST", &format!("/v1/approvals/{path}"), &headers, b"{}")
}

#[track_caller]
fn said(program: &Program, args: &[&str]) -> Value {
    let output = program.run(args);
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The one question that waits for people.
fn pending(program: &Program) -> String {
    let mut id = String::new();
    eventually("somebody is asked", || {
        let all = said(program, &["approvals", "list", "--json"]);
        let open = all.as_array().unwrap().iter().find(|t| t["state"] == "pending");
        open.inspect(|t| t["id"].as_str().unwrap().clone_into(&mut id)).is_some()
    });
    id
}

#[test]
fn a_request_that_waits_gets_its_answer_when_a_person_says_yes() {
    let till = Till::new(setup(policy("20s", "", "")), |_| Plan::ok("sold"));
    std::thread::scope(|threads| {
        let waits = threads.spawn(|| till.get("/report"));
        let id = pending(&till.program);
        let shown = said(&till.program, &["approvals", "show", &id[..8], "--json"]);
        assert_eq!((&shown["agent"], &shown["usd"], &shown["asks"][0]["rule"]), (&json!("bot"), &json!("0.01"), &json!("dear")), "{shown}");
        assert_eq!(till.program.metrics().sum("tollpass_approvals_pending", &[]), 1.0);
        assert_eq!(said(&till.program, &["approvals", "approve", &id[..8], "--json"])["state"], "granted");
        let answer = waits.join().unwrap();
        assert_eq!((answer.status, answer.text().as_str()), (200, "sold"));
    });
    assert_eq!(till.seller.paid().len(), 1);
    assert_eq!(till.program.metrics().sum("tollpass_approvals_pending", &[]), 0.0);
}

#[test]
fn a_late_yes_is_used_once_by_the_next_identical_request_also_after_a_crash() {
    let mut till = Till::new(setup(policy("1s", "", "")), |_| Plan::ok("sold"));
    let refused = till.get("/report");
    assert_eq!((refused.status, refused.reason().as_str()), (402, "approval_required"));
    let ticket = refused.json()["ticket"].as_str().unwrap().to_owned();
    assert!(refused.head.get("proxy-status").unwrap().contains(&format!("ticket=\"{ticket}\"")), "{:?}", refused.head.get("proxy-status"));
    assert_eq!(till.get("/report").json()["ticket"], ticket.as_str(), "the same question has one ticket");
    till.program.kill9();
    till.program.restart();
    assert_eq!(said(&till.program, &["approvals", "approve", &ticket, "--json"])["state"], "granted");
    let other = till.get("/other");
    assert_eq!((other.status, other.reason().as_str()), (402, "approval_required"), "a yes is for its own request");
    assert_eq!(till.get("/report").status, 200);
    let again = till.get("/report");
    assert_eq!((again.status, again.reason().as_str()), (402, "approval_required"), "and for one payment");
    assert_ne!(again.json()["ticket"], ticket.as_str());
    assert_eq!(till.seller.paid().len(), 1);
}

#[test]
fn a_no_refuses_and_an_agent_has_no_word_in_it() {
    let till = Till::new(setup(policy("1s", "", "")), |_| Plan::ok("sold"));
    let ticket = till.get("/report").json()["ticket"].as_str().unwrap().to_owned();
    for (who, status) in [("eve", 403), ("nobody", 401)] {
        assert_eq!(call(&till.program, who, &format!("{ticket}/approve")).status, status, "{who}");
    }
    // Through the proxy the operator's listener is out of reach (S16).
    let url = format!("http://{}/v1/approvals/{ticket}/approve", till.program.admin());
    let through = till.program.request("POST", &url, &format!("Authorization: Bearer {TOKEN} ann\r\n"), b"{}");
    assert_eq!(through.reason(), "forbidden_address");
    assert_eq!(call(&till.program, "ann", &format!("{ticket}/deny")).status, 200);
    assert_eq!(till.get("/report").reason(), "approval_denied");
    assert_eq!(call(&till.program, "bob", &format!("{ticket}/approve")).status, 409, "a no is final");
    assert_eq!(till.seller.paid().len(), 0);
}

#[test]
fn a_quorum_needs_two_people_and_one_person_is_one() {
    let till = Till::new(setup(policy("1s", "quorum: 2, members: [ann, bob]", "")), |_| Plan::ok("sold"));
    let ticket = till.get("/report").json()["ticket"].as_str().unwrap().to_owned();
    let approve = |who: &str| call(&till.program, who, &format!("{ticket}/approve"));
    assert_eq!(approve("ann").json()["state"], "pending");
    assert_eq!(approve("ann").json()["state"], "pending");
    assert!(!till.program.run(&["approvals", "approve", &ticket]).status.success(), "the socket belongs to no member");
    assert_eq!(till.get("/report").reason(), "approval_required");
    assert_eq!(approve("bob").json()["state"], "granted");
    assert_eq!(till.get("/report").status, 200);
}

#[test]
fn people_may_let_a_shared_budget_be_exceeded_and_the_gauge_says_so() {
    let budget = "budgets: [ { name: team, limit: 0.004, window: month, agents: all, over: ask } ]\n";
    let policy = policy("1s", "may_exceed: [team]", budget).replace("usd(\"0.005\")", "usd(\"1\")");
    let till = Till::new(setup(policy), |_| Plan::ok("sold"));
    let refused = till.get("/report");
    let first = &refused.json()["violations"][0];
    assert_eq!(
        (&first["reason"], &first["rule"], &first["limit_usd"]),
        (&json!("budget_exceeded"), &json!("budget:team"), &json!("0.004"))
    );
    let left = || till.program.metrics().sum("tollpass_budget_remaining_usd", &[("budget", "budget:team")]);
    assert_eq!(left(), 0.004);
    said(&till.program, &["approvals", "approve", refused.json()["ticket"].as_str().unwrap(), "--json"]);
    assert_eq!(till.get("/report").status, 200);
    assert_eq!(left(), -0.006, "M3.7: below zero, for people said yes");
}

#[test]
fn a_mandate_answers_later_questions_within_its_bounds() {
    let till = Till::new(setup(policy("1s", "", "")), |_| Plan::ok("sold"));
    let ticket = till.get("/1").json()["ticket"].as_str().unwrap().to_owned();
    let args =
        ["approvals", "approve", &ticket, "--remember", "--max", "0.01", "--total", "0.02", "--until", "2199-01-01T00:00:00Z", "--json"];
    let mandate = said(&till.program, &args)["mandate"]["id"].as_str().unwrap().to_owned();
    assert_eq!([till.get("/1").status, till.get("/2").status, till.get("/3").status], [200; 3], "its own yes, and two under the mandate");
    assert_eq!(till.get("/4").reason(), "approval_required", "used up");
    assert_eq!(said(&till.program, &["approvals", "mandates", "--json"])[0]["used_usd"], "0.02");
    said(&till.program, &["approvals", "revoke", &mandate, "--json"]);
    assert_eq!(said(&till.program, &["approvals", "mandates", "--json"]), json!([]));
}
