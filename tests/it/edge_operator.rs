//! What the operator and a refused agent see: refusals, metrics, logs, reload, drain, commands.

use std::fs;
use std::os::unix::fs::symlink;

use alloy_primitives::Address;
use serde_json::Value;

use crate::harness::{Agent, Chain, Plan, Program, Seller, Setup, Terms, basic, eventually, seller_text, shop};
use crate::till::{Gate, rows};

const PAYEE: Address = Address::repeat_byte(0x11);

fn seller(chain: &Chain, atomic: u64) -> Seller {
    Seller::http(shop(chain, Terms::v2(PAYEE, atomic), |_| Plan::ok("sold")))
}

#[test]
fn a_refusal_teaches_reason_rule_numbers_and_when() {
    let chain = Chain::new();
    let seller = seller(&chain, 30_000);
    let program = Program::start(Setup::new().caps("per_payment: 0.04, day: 0.05"));
    assert_eq!(program.get(&seller.url("/1")).status, 200);
    let answer = program.get(&seller.url("/2"));
    assert_eq!(answer.status, 402);
    assert_eq!(answer.head.get("content-type"), Some("application/problem+json"));
    let status = answer.head.get("proxy-status").unwrap();
    assert!(status.starts_with("tollpass; error=http_request_denied; details=\"cap_day\""), "{status}");
    let json = answer.json();
    for (key, expect) in [
        ("reason", "cap_day"),
        ("rule", "caps.day"),
        ("amount_usd", "0.03"),
        ("limit_usd", "0.05"),
        ("remaining_usd", "0.02"),
        ("retry", "at_reset"),
    ] {
        assert_eq!(json[key], expect, "{json}");
    }
    assert!(json["resets_at"].as_str().is_some_and(|t| t.ends_with("00:00:00Z")), "{json}");
    assert!(answer.head.get("retry-after").is_some_and(|s| s.parse::<u64>().is_ok_and(|s| s <= 86_400)));
    assert!(!answer.head.has("payment-required"), "the seller's challenge does not reach the agent");
    assert_eq!(program.metrics().sum("tollpass_refusals_total", &[("agent", "bot"), ("reason", "cap_day")]), 1.0);
    assert!(program.log().contains("cap_day"));
}

#[test]
fn refusal_body_seller_keeps_the_sellers_bytes() {
    let chain = Chain::new();
    let mut terms = Terms::v2(PAYEE, 30_000);
    terms.body = "the seller's own words".into();
    let seller = Seller::http(shop(&chain, terms, |_| Plan::ok("sold")));
    let policy =
        Setup::policy_with("per_payment: 0.01, day: 5", "", "").replace("version: 1\n", "version: 1\ndefaults: { refusal_body: seller }\n");
    let answer = Program::start(Setup::new().policy(policy)).get(&seller.url("/"));
    assert_eq!((answer.status, answer.text().as_str()), (402, "the seller's own words"));
    assert!(answer.head.has("payment-required"));
    assert!(answer.head.get("proxy-status").is_some_and(|v| v.contains("cap_per_payment")));
}

#[test]
fn s19_no_seller_text_in_a_refusal() {
    let chain = Chain::new();
    let mut terms = Terms::v2(PAYEE, 30_000).with_error(seller_text());
    terms.accepts[0]["description"] = seller_text().into();
    let seller = Seller::http(shop(&chain, terms, |_| Plan::ok("sold")));
    let program = Program::start(Setup::new().caps("per_payment: 0.01, day: 5"));
    let answer = program.get(&seller.url("/"));
    assert_eq!(answer.reason(), "cap_per_payment");
    let everything = format!("{:?}{}{}", answer.head, answer.text(), program.log());
    assert!(!everything.contains("CANARY"), "{everything}");
}

#[test]
fn a_402_to_the_agents_own_payment_goes_back_untouched() {
    let chain = Chain::new();
    let seller = seller(&chain, 10_000);
    let program = Program::start(Setup::new());
    for header in ["PAYMENT-SIGNATURE: e30=\r\n", "X-PAYMENT: e30=\r\n"] {
        let answer = program.request("GET", &seller.url("/"), header, b"");
        assert!(answer.status == 402 && answer.head.has("payment-required") && !answer.head.has("proxy-status"), "{header}");
    }
    assert_eq!(chain.count(), 0);
}

#[test]
fn a_402_that_is_not_ours_goes_back_untouched() {
    let seller = Seller::http(|call| call.reply(402, "WWW-Authenticate: L402 token=\"x\"\r\nContent-Type: text/html\r\n", "<h1>Pay</h1>"));
    let answer = Program::start(Setup::new()).get(&seller.url("/"));
    assert_eq!((answer.status, answer.text().as_str()), (402, "<h1>Pay</h1>"));
    assert!(answer.head.has("www-authenticate") && !answer.head.has("proxy-status"));
}

#[test]
fn options_is_never_paid_and_plain_http_only_where_policy_says_so() {
    let chain = Chain::new();
    let seller = seller(&chain, 10_000);
    let program = Program::start(Setup::new());
    assert_eq!(program.request("OPTIONS", &seller.url("/"), "", b"").reason(), "method_not_payable");
    let policy = Setup::policy_with("per_payment: 5, day: 5", "", "").replace(", plain_http: true", "");
    assert_eq!(Program::start(Setup::new().policy(policy)).get(&seller.url("/")).reason(), "plain_http");
    assert_eq!(chain.count(), 0);
}

#[test]
fn every_promised_metric_is_there_and_agrees_with_the_chain() {
    let chain = Chain::new();
    let seller = seller(&chain, 10_000);
    let program = Program::start(Setup::new().caps("per_payment: 0.01, day: 0.025"));
    for n in 0..3 {
        program.get(&seller.url(&format!("/{n}")));
    }
    let metrics = program.metrics();
    // What is about a co-signer or a draft is there once there is one: `cosigner` and `records` look at those.
    let of_others = |name: &str| ["_cosigner_", "_presignatures", "_divergence_", "_shadow_"].iter().any(|part| name.contains(part));
    for row in tollpass::metrics::TABLE.iter().filter(|row| !of_others(row.name)) {
        assert!(metrics.has(row.name), "{} is missing", row.name);
    }
    let bot = [("agent", "bot")];
    assert_eq!(metrics.sum("tollpass_payments_total", &[("agent", "bot"), ("outcome", "settled")]), chain.count() as f64);
    assert_eq!(metrics.sum("tollpass_spend_usd_total", &bot), 0.02);
    assert_eq!(metrics.sum("tollpass_challenges_total", &bot), 3.0);
    assert_eq!(metrics.sum("tollpass_budget_limit_usd", &[("agent", "bot"), ("budget", "caps.day")]), 0.025);
    assert!((metrics.sum("tollpass_budget_remaining_usd", &[("budget", "caps.day")]) - 0.005).abs() < 1e-9);
    assert_eq!(metrics.sum("tollpass_requests_total", &bot), 3.0);
    assert_eq!(metrics.sum("tollpass_open_authorizations", &bot), 0.0);
}

#[test]
fn one_log_line_per_payment_without_query_signature_or_credential() {
    let chain = Chain::new();
    let seller = seller(&chain, 10_000);
    let mut setup = Setup::new();
    setup.args = vec!["--log-format".into(), "json".into()];
    let program = Program::start(setup);
    let url = seller.url("/report?api_key=QUERY-CANARY");
    assert_eq!(
        program.request("GET", &url, &format!("{}Authorization: Bearer CRED-CANARY\r\n", basic("bot", "PW-CANARY")), b"").status,
        200
    );
    eventually("the payment is logged", || program.log().contains("\"outcome\":\"settled\""));
    let log = program.log();
    let lines: Vec<Value> = log.lines().filter_map(|l| serde_json::from_str(l).ok()).filter(|v: &Value| v["outcome"].is_string()).collect();
    assert_eq!(lines.len(), 1, "{log}");
    assert_eq!(
        (lines[0]["path"].as_str(), lines[0]["amount"].as_str(), lines[0]["agent"].as_str()),
        (Some("/report"), Some("0.01"), Some("bot"))
    );
    let credential = seller.paid()[0].head.get("payment-signature").unwrap().to_owned();
    let signature = crate::till::decode(&credential)["payload"]["signature"].as_str().unwrap().to_owned();
    for secret in ["QUERY-CANARY", "CRED-CANARY", "PW-CANARY", &credential, &signature, &signature[2..40], "ac0974bec39a17e3"] {
        assert!(!log.contains(secret), "{secret} reached the log");
        assert!(!program.admin_get("/metrics").unwrap().text().contains(secret));
    }
}

#[test]
fn live_and_ready_are_answered_and_other_paths_are_not() {
    let program = Program::start(Setup::new());
    for (path, status) in [("/livez", 200), ("/readyz", 200), ("/metrics", 200), ("/", 404), ("/private", 404)] {
        assert_eq!(program.admin_get(path).unwrap().status, status, "{path}");
    }
}

#[test]
fn drain_finishes_a_paid_request_and_records_it() {
    let (chain, gate) = (Chain::new(), Gate::default());
    let opened = gate.clone();
    let seller = Seller::http(shop(&chain, Terms::v2(PAYEE, 10_000), move |_| {
        opened.pass();
        Plan::ok("sold")
    }));
    let mut program = Program::start(Setup::new());
    let mut agents: Vec<Agent> = vec![program.agent(), program.agent().connect(&seller.authority(), "")];
    agents[0].send(Agent::request_bytes("GET", &seller.url("/direct"), "", b""));
    agents[1].send(format!("GET /tunnel HTTP/1.1\r\nHost: {}\r\n\r\n", seller.authority()));
    eventually("both are paid", || seller.paid().len() == 2);
    let proxy = program.proxy();
    program.terminate();
    eventually("new connections are refused", || std::net::TcpStream::connect(proxy).is_err());
    gate.open();
    for agent in &mut agents {
        assert_eq!(agent.response().text(), "sold");
    }
    assert!(program.wait().success());
    program.restart();
    let rows = rows(&program);
    assert!(rows.len() == 2 && rows.iter().all(|r| r.state == "settled" && r.consumed), "{rows:?}");
}

#[test]
fn drain_gives_up_on_a_seller_that_hangs_and_keeps_the_amount_spent() {
    let chain = Chain::new();
    let seller = Seller::http(shop(&chain, Terms::v2(PAYEE, 10_000), |_| Plan::settle(crate::harness::Act::Hang)));
    let mut program = Program::start(Setup::new().drain("unpaid: 1s, paid: 2s"));
    let mut agent = program.agent();
    agent.send(Agent::request_bytes("GET", &seller.url("/"), "", b""));
    eventually("it is paid", || chain.count() == 1);
    program.terminate();
    program.wait();
    program.restart();
    assert_eq!(rows(&program).iter().map(|r| r.micro).sum::<u64>(), 10_000);
}

#[test]
fn a_policy_is_reloaded_in_place_by_rename_and_kept_when_broken() {
    let chain = Chain::new();
    let seller = seller(&chain, 10_000);
    let program = Program::start(Setup::new());
    let deny = Setup::policy_with("per_payment: 0.001, day: 5", "", "");
    program.policy_set(&deny);
    assert_eq!(program.get(&seller.url("/")).reason(), "cap_per_payment");
    // An editor's rename.
    fs::write(program.path("policy.new"), Setup::new().policy).unwrap();
    let digest = || program.metrics().label("tollpass_policy_info", "digest");
    let before = digest();
    fs::rename(program.path("policy.new"), program.path("policy.yaml")).unwrap();
    eventually("the renamed file is in effect", || digest() != before);
    assert_eq!(program.get(&seller.url("/")).status, 200);
    // A broken file changes nothing but a metric and a log line.
    let good = digest();
    program.policy_write("version: 1\nagents: [");
    eventually("the metric says so", || program.metrics().sum("tollpass_policy_reload_success", &[]) == 0.0);
    assert_eq!(digest(), good);
    assert_eq!(program.get(&seller.url("/")).status, 200);
    eventually("the log says where", || program.log().contains("policy.yaml:2:"));
}

#[test]
fn a_policy_survives_three_config_map_swaps() {
    let chain = Chain::new();
    let seller = seller(&chain, 10_000);
    let text = |cap: &str| Setup::policy_with(&format!("per_payment: {cap}, day: 5"), "", "");
    let put = |dir: &std::path::Path, n: usize, cap: &str| {
        let version = dir.join(format!("mount/..v{n}"));
        fs::create_dir_all(&version).unwrap();
        fs::write(version.join("policy.yaml"), text(cap)).unwrap();
        let _ = fs::remove_file(dir.join("mount/..data_tmp"));
        symlink(format!("..v{n}"), dir.join("mount/..data_tmp")).unwrap();
        fs::rename(dir.join("mount/..data_tmp"), dir.join("mount/..data")).unwrap();
    };
    let mut setup = Setup::new();
    setup.policy_path = "mount/policy.yaml".into();
    let program = Program::start_with(setup, |dir| {
        put(dir, 0, "1");
        symlink("..data/policy.yaml", dir.join("mount/policy.yaml")).unwrap();
    });
    for (n, cap, status) in [(1, "0.001", 402), (2, "1", 200), (3, "0.002", 402)] {
        let before = program.metrics().label("tollpass_policy_info", "digest");
        put(program.dir(), n, cap);
        let _ = fs::remove_dir_all(program.path(&format!("mount/..v{}", n - 1)));
        eventually("the swap is in effect", || program.metrics().label("tollpass_policy_info", "digest") != before);
        assert_eq!(program.get(&seller.url(&format!("/{n}"))).status, status, "swap {n}");
    }
}

#[test]
fn counters_survive_a_reload_and_a_restart() {
    let chain = Chain::new();
    let seller = seller(&chain, 10_000);
    let mut program = Program::start(Setup::new().caps("per_payment: 0.01, day: 0.02"));
    assert_eq!(program.get(&seller.url("/1")).status, 200);
    assert_eq!(program.get(&seller.url("/2")).status, 200);
    program.policy_set(&Setup::policy_with("per_payment: 0.01, day: 0.025", "", ""));
    assert_eq!(program.get(&seller.url("/3")).reason(), "cap_day");
    program.restart();
    assert_eq!(program.get(&seller.url("/4")).reason(), "cap_day");
    assert_eq!(chain.count(), 2);
}

#[test]
fn check_healthcheck_and_a_second_process_say_what_is_wrong() {
    let program = Program::start(Setup::new());
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(program.run(&["serve", "--config", "tollpass.yaml", "--check"]).status.success());
    let admin = program.admin().to_string();
    assert!(program.run(&["healthcheck", "--addr", &admin]).status.success());
    let second = program.run(&["serve", "--config", "tollpass.yaml"]);
    assert_eq!(second.status.code(), Some(2), "{}", text(&second.stderr));
    assert!(text(&second.stderr).contains("another process holds"), "{}", text(&second.stderr));
    fs::write(program.path("bad.yaml"), "version: 1\nagents:\n  bot: { caps: { per_payment: five } }\n").unwrap();
    let bad = program.run(&["policy", "check", "bad.yaml"]);
    assert_eq!(bad.status.code(), Some(2));
    let said = text(&bad.stdout) + &text(&bad.stderr);
    assert!(said.contains("bad.yaml:3:"), "{said}");
    let free = crate::harness::free_port();
    assert_eq!(program.run(&["healthcheck", "--addr", &format!("127.0.0.1:{free}")]).status.code(), Some(1));
}

#[test]
fn the_process_makes_no_core_dumps_and_cannot_be_read_by_its_user() {
    let program = Program::start(Setup::new());
    let limits = fs::read_to_string(format!("/proc/{}/limits", program.id())).unwrap();
    let core = limits.lines().find(|l| l.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().filter(|w| *w == "0").count(), 2, "{core}");
    // A non-dumpable process belongs to root in /proc, whoever started it.
    let owner = fs::metadata(format!("/proc/{}/environ", program.id())).unwrap();
    assert_eq!(std::os::unix::fs::MetadataExt::uid(&owner), 0);
}
