//! The rules of `risk` on the real program: breakers, lists of payees, the decision hook.

use std::sync::Arc;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use aws_lc_rs::hmac;
use serde_json::{Value, json};

use crate::harness::{Act, Next, Plan, Program, Seller, Setup, eventually};
use crate::till::{Till, payee};

fn policy(risk: &str) -> String {
    Setup::policy_with("per_payment: 5, day: 1000", "", "")
        .replace("risk: { paid_but_failed: off, retry_loop: off }", &format!("risk: {{ {risk} }}"))
}

fn failing(status: u16) -> Plan {
    Plan::settle(Act::Answer(status, String::new(), Vec::new()))
}

#[track_caller]
fn unfreeze(program: &Program, args: &[&str]) {
    assert!(program.run(&[&["agent", "unfreeze"], args].concat()).status.success());
}

#[test]
fn a_host_that_takes_money_and_fails_three_times_is_frozen_until_a_person_looked() {
    let till = Till::new(Setup::new().policy(policy("")), |v| if v.before < 3 { failing(500) } else { Plan::ok("sold") });
    for n in 0..3 {
        assert_eq!(till.get(&format!("/{n}")).status, 500);
    }
    eventually("the host is frozen", || till.program.metrics().sum("tollpass_hosts_frozen", &[]) == 1.0);
    assert_eq!(till.get("/4").reason(), "host_frozen");
    assert_eq!(till.program.metrics().sum("tollpass_freezes_total", &[("by", "paid_but_failed")]), 1.0);
    let answer: Value =
        serde_json::from_slice(&till.program.run(&["agent", "unfreeze", "--host", "other.example", "--json"]).stdout).unwrap();
    let host = &answer["hosts"]["127.0.0.1"];
    assert_eq!(
        (&host["by"], &host["why"]),
        (&json!("risk"), &json!("paid_but_failed: 3 within 600 s (agent bot, host 127.0.0.1)")),
        "{answer}"
    );
    unfreeze(&till.program, &["--host", "127.0.0.1"]);
    assert_eq!(till.get("/4").status, 200);
}

#[test]
fn a_cut_answer_counts_and_a_good_one_does_not() {
    let plan = |v: &crate::harness::Visit| {
        if v.before.is_multiple_of(2) { Plan::settle(Act::HalfBody(b"half of it".to_vec())) } else { Plan::ok("sold") }
    };
    let till = Till::new(Setup::new().policy(policy("paid_but_failed: { count: 2, within: 1h, then: freeze_agent }")), plan);
    till.get_cut("/1");
    assert_eq!(till.get("/2").status, 200);
    assert_eq!(till.program.metrics().sum("tollpass_freezes_total", &[]), 0.0);
    till.get_cut("/3");
    eventually("the agent is frozen", || till.program.metrics().sum("tollpass_agent_frozen", &[("agent", "bot")]) == 1.0);
    assert_eq!(till.get("/4").reason(), "agent_frozen");
}

#[test]
fn a_retry_loop_freezes_the_agent_and_off_is_off() {
    let refusing = "retry_loop: { count: 5, within: 1m }";
    let expensive = |text: String| text.replace("per_payment: 5", "per_payment: 0.001");
    let till = Till::new(Setup::new().policy(expensive(policy(refusing))), |_| Plan::ok("sold"));
    for n in 0..8 {
        assert_eq!(till.get(&format!("/{n}")).reason(), "cap_per_payment", "other requests are no loop");
    }
    for _ in 0..5 {
        assert_eq!(till.get("/same").reason(), "cap_per_payment");
    }
    eventually("the agent is frozen", || till.get("/other").reason() == "agent_frozen");
    till.program.policy_set(&expensive(policy("retry_loop: off")));
    unfreeze(&till.program, &["bot"]);
    for _ in 0..20 {
        assert_eq!(till.get("/same").reason(), "cap_per_payment");
    }
}

#[test]
fn a_listed_payee_is_never_paid_and_the_list_is_hot() {
    let listed = |who: &str| format!("# whom nobody pays\n{who}  # one\n");
    let setup =
        Setup::new().policy(policy("deny_payees: [bad.payees]")).file("bad.payees", listed("0x9999999999999999999999999999999999999999"));
    let till = Till::new(setup, |_| Plan::ok("sold"));
    assert_eq!(till.get("/1").status, 200);
    let digest = till.program.metrics().label("tollpass_policy_info", "digest");
    std::fs::write(till.program.path("bad.payees"), listed(&payee().to_string())).unwrap();
    eventually("the list counts", || till.program.metrics().label("tollpass_policy_info", "digest") != digest);
    assert_eq!(till.get("/2").reason(), "payee_listed");
    assert_eq!(till.seller.paid().len(), 1);
}

/// What a hook got: signatures with bodies.
type Got = Arc<Mutex<Vec<(String, Vec<u8>)>>>;

/// A hook of an operator: what it got, and what it says.
fn receiver(answer: impl Fn(usize) -> Option<(u16, &'static str)> + Send + Sync + 'static) -> (Seller, Got) {
    let got: Got = Arc::default();
    let seen = Arc::clone(&got);
    let hook = Seller::http(move |call| {
        let body = call.body();
        let signature = call.head.get("tollpass-signature").unwrap_or_default().to_owned();
        let number = {
            let mut seen = seen.lock().unwrap();
            seen.push((signature, body));
            seen.len()
        };
        match answer(number) {
            Some((status, body)) => {
                // A redirect would lead to somebody who allows.
                call.reply(status, "Location: /allow\r\n", body);
                Next::Close
            }
            None => call.hang(),
        }
    });
    (hook, got)
}

fn hooked(hook: &Seller) -> Setup {
    let policy = policy("hook: { url: env:HOOK_URL, secret: env:HOOK_SECRET, deadline: 400ms }");
    Setup::new().policy(policy).env("HOOK_URL", &hook.url("/decide")).env("HOOK_SECRET", "the hook's secret")
}

#[test]
fn the_hook_sees_the_facts_and_its_no_counts() {
    let (hook, got) = receiver(|n| Some((200, if n == 1 { r#"{"decision":"allow"}"# } else { r#"{"decision":"deny"}"# })));
    let till = Till::new(hooked(&hook), |_| Plan::ok("sold"));
    assert_eq!(till.get("/first?secret=1").status, 200);
    assert_eq!(till.get("/second").reason(), "hook_denied");
    assert_eq!(till.seller.paid().len(), 1);
    till.spent(crate::till::CENT);
    let got = got.lock().unwrap();
    let facts: Value = serde_json::from_slice(&got[0].1).unwrap();
    for (key, value) in [
        ("type", json!("tollpass.decision")),
        ("agent", json!("bot")),
        ("host", json!("127.0.0.1")),
        ("method", json!("GET")),
        ("path", json!("/first")),
        ("usd", json!("0.01")),
        ("network", json!("eip155:84532")),
        ("asset", json!("USDC")),
        ("payee", json!(payee().to_string())),
    ] {
        assert_eq!(facts[key], value, "{key}: {facts}");
    }
    assert_eq!(facts["purchase"], till.program.ledger()["purchases"][0]["id"]);
    let (time, mac) = got[0].0.strip_prefix("t=").unwrap().split_once(",v1=").unwrap();
    let key = hmac::Key::new(hmac::HMAC_SHA256, b"the hook's secret");
    let signed = [time.as_bytes(), b".", &got[0].1].concat();
    hmac::verify(&key, &signed, &alloy_primitives::hex::decode(mac).unwrap()).expect("the operator can tell it is us");
}

#[test]
fn a_hook_that_is_late_or_strange_is_a_no() {
    let answers: [Option<(u16, &str)>; 9] = [
        None,
        Some((200, "")),
        Some((200, "allow")),
        Some((200, r#"{"decision":"maybe"}"#)),
        Some((200, r#"{"decision":true}"#)),
        Some((200, r#"["allow"]"#)),
        Some((500, r#"{"decision":"allow"}"#)),
        Some((302, r#"{"decision":"allow"}"#)),
        Some((204, "")),
    ];
    let (hook, got) = receiver(move |n| answers[(n - 1) % answers.len()]);
    let till = Till::new(hooked(&hook), |_| Plan::ok("sold"));
    for (n, said) in answers.iter().enumerate() {
        let started = Instant::now();
        assert_eq!(till.get(&format!("/{n}")).reason(), "hook_unavailable", "{said:?}");
        assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
    }
    assert_eq!((till.seller.paid().len(), got.lock().unwrap().len()), (0, answers.len()), "one question each, and no redirect followed");
    till.spent(0);
    drop(hook);
    assert_eq!(till.get("/gone").reason(), "hook_unavailable", "nobody there");
}
