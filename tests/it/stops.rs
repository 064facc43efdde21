//! Kill switch, freezes and the operator's API, on the real program under load.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use alloy_primitives::hex;
use serde_json::{Value, json};

use crate::harness::{Agent, Plan, Program, Response, Setup, eventually, sha256};
use crate::till::{Till, try_get};

/// What a person may take for granted (issue: "no new signature within 1 s").
const WITHIN: Duration = Duration::from_secs(1);
/// Payments under way at once.
const LOAD: usize = 85;

const TOKEN: &str = "operator's token";

fn operators() -> Setup {
    let line = |name: &str, roles: &str| {
        format!("  {name}: {{ roles: [{roles}], tokens: [\"sha256:{}\"] }}\n", hex::encode(sha256(format!("{TOKEN} {name}").as_bytes())))
    };
    let file = ["read", "operate", "approve", "raise"].map(|role| line(role, role)).concat();
    let mut setup = Setup::new().file("operators.yaml", format!("operators:\n{file}"));
    setup.more = "admin: { tokens: file:operators.yaml }\n".into();
    setup
}

/// One call of the API over TCP with the token of `role`.
fn call(program: &Program, role: &str, method: &str, path: &str, body: &Value) -> Response {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let headers = format!("Host: {}\r\nAuthorization: Bearer {TOKEN} {role}\r\n", program.admin());
    Agent::to(program.admin()).request(method, path, &headers, body.as_bytes())
}

/// A command that must succeed, and its JSON.
#[track_caller]
fn said(program: &Program, args: &[&str]) -> Value {
    let output = program.run(args);
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Agents that buy one thing after another, each another one, until they are told to stop.
struct Load {
    stop: Arc<AtomicBool>,
    killed: Arc<AtomicUsize>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl Load {
    fn start(till: &Till) -> Self {
        let (stop, killed) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let threads = (0..LOAD).map(|who| {
            let (stop, killed, proxy, url) = (stop.clone(), killed.clone(), till.program.proxy(), till.url(&format!("/{who}/")));
            std::thread::spawn(move || {
                for n in 0.. {
                    if stop.load(Ordering::Acquire) {
                        return;
                    }
                    if try_get(proxy, &format!("{url}{n}"), "").is_some_and(|r| r.status == 402 && r.reason() == "killed") {
                        killed.fetch_add(1, Ordering::AcqRel);
                        // An agent that is refused does not ask as fast as it can.
                        std::thread::sleep(Duration::from_millis(50));
                    }
                }
            })
        });
        Self { threads: threads.collect(), stop, killed }
    }

    fn refused(&self) -> usize {
        self.killed.load(Ordering::Acquire)
    }

    fn end(self) {
        self.stop.store(true, Ordering::Release);
        self.threads.into_iter().for_each(|t| t.join().unwrap());
    }
}

/// Turns the switch on under load in a way of its own and off again in the same way.
#[track_caller]
fn killed_under_load(on: impl FnOnce(&Program) -> Option<Value>, off: impl FnOnce(&Program)) {
    let mut till = Till::new(operators(), |_| Plan::ok("sold").after(Duration::from_millis(300)));
    let load = Load::start(&till);
    till.paid(LOAD);
    let before = Instant::now();
    let status = on(&till.program);
    std::thread::sleep(WITHIN.saturating_sub(before.elapsed()));
    let border = till.seller.paid().len();
    eventually("every agent is refused", || load.refused() > 3 * LOAD);
    assert_eq!(till.seller.paid().len(), border, "paid after a second");
    assert_eq!(till.program.metrics().sum("tollpass_killed", &[]), 1.0);
    if let Some(status) = status {
        let flight = status["in_flight"].as_array().unwrap();
        assert!(status["on"] == true && !flight.is_empty() && flight.len() <= 2 * LOAD, "{status}");
        let first = &flight[0];
        assert_eq!((&first["agent"], &first["host"], &first["usd"]), (&json!("bot"), &json!("127.0.0.1"), &json!("0.01")), "{first}");
        assert!(["committed", "signed", "sent", "open"].contains(&first["state"].as_str().unwrap()), "{first}");
        assert_eq!(first["purchase"].as_str().unwrap().len(), till.program.ledger()["purchases"][0]["id"].as_str().unwrap().len());
    }
    load.end();
    till.program.restart();
    assert_eq!(till.get("/after").reason(), "killed", "a restart changes nothing");
    assert_eq!(till.seller.paid().len(), border);
    assert_eq!(said(&till.program, &["kill", "status", "--json"])["on"], true);
    off(&till.program);
    eventually("it pays again", || till.get("/again").status == 200);
    assert_eq!(till.program.metrics().sum("tollpass_killed", &[]), 0.0);
}

#[test]
fn a_touched_file_stops_every_signature_within_a_second_and_over_a_restart() {
    killed_under_load(
        |program| {
            std::fs::write(program.path("state/private/kill"), "").unwrap();
            None
        },
        |program| std::fs::remove_file(program.path("state/private/kill")).unwrap(),
    );
}

#[test]
fn the_kill_command_stops_every_signature_and_lists_what_is_under_way() {
    killed_under_load(
        |program| Some(said(program, &["kill", "on", "--why", "strange bills", "--json"])),
        |program| drop(said(program, &["kill", "off", "--json"])),
    );
}

#[test]
fn the_api_stops_every_signature_and_lists_what_is_under_way() {
    killed_under_load(
        |program| Some(call(program, "operate", "POST", "/v1/kill", &json!({ "on": true, "why": "strange bills" })).json()),
        |program| assert_eq!(call(program, "operate", "POST", "/v1/kill", &json!({ "on": false })).status, 200),
    );
}

#[test]
fn a_kill_without_a_running_program_holds_when_it_starts() {
    let mut till = Till::new(Setup::new(), |_| Plan::ok("sold"));
    assert_eq!(till.get("/1").status, 200);
    eventually("it is recorded as settled", || said(&till.program, &["ledger", "show", "--json"]).to_string().contains("settled"));
    till.program.kill9();
    let status = said(&till.program, &["kill", "on", "--why", "not while I sleep", "--json"]);
    assert_eq!((status["on"].as_bool(), status["in_flight"].as_array().map(Vec::len)), (Some(true), Some(0)), "{status}");
    till.program.restart();
    assert_eq!(till.get("/2").reason(), "killed");
    let log = till.program.log();
    assert!(log.contains("the kill switch is on") && log.contains("not while I sleep"), "{log}");
    said(&till.program, &["kill", "off", "--json"]);
    assert_eq!(till.get("/2").status, 200);
}

#[test]
fn a_frozen_agent_pays_nobody_and_a_frozen_host_is_paid_by_nobody_until_a_person_says_so() {
    let mut till = Till::new(Setup::new(), |_| Plan::ok("sold"));
    assert_eq!(till.get("/1").status, 200);
    let frozen = said(&till.program, &["agent", "freeze", "bot", "--why", "odd", "--json"]);
    assert_eq!(
        (&frozen["changed"], &frozen["agents"]["bot"]["why"], &frozen["agents"]["bot"]["by"]),
        (&json!(true), &json!("odd"), &json!("socket"))
    );
    assert_eq!(till.get("/2").reason(), "agent_frozen");
    assert_eq!(till.program.metrics().sum("tollpass_agent_frozen", &[("agent", "bot")]), 1.0);
    till.program.restart();
    assert_eq!(till.get("/2").reason(), "agent_frozen", "a restart changes nothing");
    let list = said(&till.program, &["agent", "list", "--json"]);
    assert_eq!((&list[0]["agent"], &list[0]["frozen"]), (&json!("bot"), &json!(true)), "{list}");
    said(&till.program, &["agent", "unfreeze", "bot", "--json"]);
    assert_eq!(till.get("/2").status, 200);
    said(&till.program, &["agent", "freeze", "--host", "127.0.0.1", "--json"]);
    assert_eq!(till.get("/3").reason(), "host_frozen");
    said(&till.program, &["agent", "unfreeze", "--host", "127.0.0.1", "--json"]);
    assert_eq!(till.get("/3").status, 200);
    assert_eq!(till.seller.paid().len(), 3);
    till.program.kill9();
    let output = till.program.run(&["agent", "freeze", "bot"]);
    assert!(!output.status.success() && String::from_utf8_lossy(&output.stderr).contains("no proxy runs"), "a freeze needs who keeps it");
}

#[test]
fn s16_who_may_do_what_over_tcp_and_it_is_written_down() {
    let program = Program::start(operators());
    let (on, bot) = (json!({ "on": false }), json!({ "agent": "bot" }));
    for (role, may) in [("read", false), ("operate", true), ("approve", false), ("raise", false)] {
        assert_eq!(call(&program, role, "GET", "/v1/kill", &Value::Null).status, 200, "{role}");
        assert_eq!(call(&program, role, "GET", "/v1/freezes", &Value::Null).status, 200, "{role}");
        for (path, body) in [("/v1/kill", &on), ("/v1/freezes", &bot), ("/v1/freezes/lift", &bot)] {
            assert_eq!(call(&program, role, "POST", path, body).status, if may { 200 } else { 403 }, "{role} {path}");
        }
    }
    assert_eq!(call(&program, "nobody", "GET", "/v1/kill", &Value::Null).status, 401);
    for (path, body) in [
        ("/v1/kill", json!({ "on": "yes" })),
        ("/v1/freezes", json!({})),
        ("/v1/freezes", json!({ "agent": "bot", "host": "a.example" })),
        ("/v1/freezes", json!({ "host": "a b" })),
    ] {
        assert_eq!(call(&program, "operate", "POST", path, &body).status, 400, "{path} {body}");
    }
    assert_eq!(call(&program, "operate", "DELETE", "/v1/kill", &Value::Null).status, 405);
    let large = json!({ "agent": "bot", "why": "x".repeat(70_000) });
    assert_eq!(call(&program, "operate", "POST", "/v1/freezes", &large).status, 413);
    let log = program.log();
    assert!(log.contains("an operator's call") && log.contains("operate") && !log.contains(TOKEN), "{log}");
    // The socket is for this user alone.
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(program.path("state/private/admin.sock")).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn s16_probes_show_no_api_and_a_fresh_token_file_counts_at_once() {
    let program = Program::start(operators().listen(&["health"]));
    let health = program.listener("health");
    let headers = format!("Host: {health}\r\nAuthorization: Bearer {TOKEN} operate\r\n");
    assert_eq!(Agent::to(health).request("GET", "/v1/kill", &headers, b"").status, 404);
    std::fs::write(
        program.path("operators.yaml"),
        format!(
            "operators:\n  new: {{ roles: [read], tokens: [\"sha256:{}\"] }}\n",
            hex::encode(sha256(format!("{TOKEN} new").as_bytes()))
        ),
    )
    .unwrap();
    eventually("the new token counts", || call(&program, "new", "GET", "/v1/kill", &Value::Null).status == 200);
    assert_eq!(call(&program, "operate", "GET", "/v1/kill", &Value::Null).status, 401, "the old one is gone");
}

#[test]
fn a_hand_over_takes_freezes_and_socket_along() {
    let till = Till::new(Setup::new(), |_| Plan::ok("sold"));
    said(&till.program, &["agent", "freeze", "bot", "--json"]);
    let next = till.program.successor(&[]);
    eventually("the next one has the ledger", || next.missing().is_some_and(|m| m.is_empty()));
    eventually("the next one pays nobody for a frozen agent", || next.get(&till.url("/1")).reason() == "agent_frozen");
    eventually("the next one answers on the socket", || next.run(&["agent", "unfreeze", "bot", "--json"]).status.success());
    eventually("it pays", || next.get(&till.url("/1")).status == 200);
}

/// The co-signer's own switch, against a sidecar that knows nothing of it and against a stolen one.
#[cfg(feature = "failpoints")]
mod cosigner {
    use super::*;
    use crate::harness::{Wallet, tollpass};

    fn kill(wallet: &Wallet, what: &str) -> Value {
        let output = tollpass(&wallet.path("cs"), &["kill", what, "--config", "cosigner.yaml", "--json"]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    #[test]
    fn the_co_signers_switch_stops_every_signature_though_the_sidecar_goes_on_asking() {
        let wallet = Wallet::new();
        let mut cosigner = wallet.start(&[]);
        wallet.enroll();
        let setup = Setup::new().signer(&wallet.signer("")).env("UNSEAL", wallet.passphrase());
        let till = Till::new(setup, |_| Plan::ok("sold").after(Duration::from_millis(200)));
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for who in 0..8 {
                let (till, stop) = (&till, &stop);
                scope.spawn(move || {
                    for n in 0.. {
                        if stop.load(Ordering::Acquire) {
                            return;
                        }
                        let _ = try_get(till.program.proxy(), &till.url(&format!("/{who}/{n}")), "");
                    }
                });
            }
            till.paid(20);
            let before = Instant::now();
            let status = kill(&wallet, "on");
            assert!(status["on"] == true && !status["in_flight"].as_array().unwrap().is_empty(), "{status}");
            std::thread::sleep(WITHIN.saturating_sub(before.elapsed()));
            // Signed before, on its way to the seller: those may still arrive.
            std::thread::sleep(Duration::from_millis(200));
            let border = till.seller.paid().len();
            let refused = || cosigner.metrics().sum("tollpass_cosigner_requests_total", &[("result", "killed")]);
            let at_border = refused();
            eventually("the sidecar goes on asking", || refused() >= at_border + 50.0);
            assert_eq!(till.seller.paid().len(), border);
            stop.store(true, Ordering::Release);
        });
        cosigner.restart(&[]);
        assert_eq!(cosigner.metrics().sum("tollpass_killed", &[]), 1.0);
        eventually("still refused", || till.get("/after").reason() == "killed");
        kill(&wallet, "off");
        eventually("it signs again", || till.get("/again").status == 200);
    }

    #[test]
    fn a_stolen_sidecar_gets_nothing_signed_while_the_co_signers_switch_is_on() {
        let wallet = Wallet::new();
        let _cosigner = wallet.start(&[]);
        wallet.enroll();
        kill(&wallet, "on");
        std::fs::create_dir(wallet.path("secrets")).unwrap();
        let (passphrase, out) = (wallet.path("secrets/passphrase"), wallet.path("stolen.jsonl"));
        std::fs::write(&passphrase, wallet.passphrase()).unwrap();
        std::fs::set_permissions(&passphrase, std::os::unix::fs::PermissionsExt::from_mode(0o400)).unwrap();
        let thief = std::process::Command::new(env!("CARGO_BIN_EXE_tollpass-thief"))
            .args(["--agent", "bot", "--plan", "mixed", "--pin", wallet.pin(), "--cosigner", &wallet.authority()])
            .args(["--payee", &crate::till::payee().to_string(), "--requests", "300", "--days", "1"])
            .arg("--identity")
            .arg(wallet.path("sc/id.pem"))
            .arg("--share")
            .arg(wallet.path("sc/share"))
            .arg("--passphrase")
            .arg(&passphrase)
            .arg("--out")
            .arg(&out)
            .stdin(std::process::Stdio::null())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&thief.stdout).into_owned();
        let summary: Value = serde_json::from_str(said.lines().last().unwrap()).unwrap();
        assert!(summary["refused"]["killed"].as_u64().is_some_and(|n| n > 50), "{summary}");
        assert_eq!(std::fs::read_to_string(out).unwrap_or_default(), "", "{summary}");
    }
}
