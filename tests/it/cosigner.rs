//! The whole stack: agent, proxy with share 1, co-signer with share 2, seller, chain. Each test starts both programs.

use std::io::Read;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use alloy_primitives::U256;

use crate::harness::{Cosigner, Plan, Program, Response, Setup, Wallet, eventually, tollpass};
use crate::till::{CENT, Till, hang_up, rows, spent};

/// Wallet, co-signer and proxy with a seller, ready to pay.
struct Rig {
    till: Till,
    cosigner: Cosigner,
    wallet: Wallet,
}

fn setup(wallet: &Wallet, more: &str) -> Setup {
    Setup::new().signer(&wallet.signer(more)).env("UNSEAL", "correct horse")
}

#[track_caller]
fn rig_with(wallet: Wallet, more: &str) -> Rig {
    let cosigner = wallet.start(&[]);
    wallet.enroll();
    let till = Till::new(setup(&wallet, more), |_| Plan::ok("sold"));
    Rig { till, cosigner, wallet }
}

#[track_caller]
fn rig() -> Rig {
    rig_with(Wallet::new(), "")
}

#[track_caller]
fn refused(response: &Response, reason: &str, by: &str) -> serde_json::Value {
    assert_eq!((response.status, response.reason().as_str()), (402, reason), "{}", response.text());
    let body: serde_json::Value = serde_json::from_str(&response.text()).unwrap();
    assert_eq!(body["by"], by, "{body}");
    body
}

#[test]
fn a_payment_needs_both_and_is_booked_on_both_sides() {
    let rig = rig();
    assert_eq!(rig.till.get("/x").status, 200);
    let transfers = rig.till.chain.transfers();
    assert_eq!(transfers.len(), 1);
    assert_eq!((transfers[0].from, transfers[0].value), (rig.wallet.address, U256::from(CENT)));
    let metrics = rig.till.program.metrics();
    assert_eq!(metrics.sum("tollpass_cosigner_up", &[]), 1.0);
    assert!(rig.till.program.log().contains("no third-party audit"));
    let theirs = rig.cosigner.metrics();
    assert_eq!(theirs.sum("tollpass_cosigner_requests_total", &[("kind", "begin"), ("result", "ok")]), 1.0);
    assert_eq!(theirs.sum("tollpass_cosigner_requests_total", &[("kind", "finish"), ("result", "ok")]), 1.0);
    assert_eq!(theirs.sum("tollpass_cosigner_sessions_open", &[]), 0.0);
    for name in ["sessions_open", "presignatures", "frozen", "bans_total"] {
        assert!(theirs.has(&format!("tollpass_cosigner_{name}")), "{name} is missing");
    }
    assert!(metrics.has("tollpass_presignatures") && metrics.has("tollpass_ledger_divergence_usd"));
}

#[test]
fn a_refusal_of_the_co_signer_names_its_rule_and_its_numbers_and_gives_the_amount_back() {
    let wallet = Wallet::new();
    wallet.policy("per_payment: 0.01, day: 0.015");
    let rig = rig_with(wallet, "");
    assert_eq!(rig.till.get("/1").status, 200);
    let response = rig.till.get("/2");
    let body = refused(&response, "cap_day", "cosigner");
    assert_eq!((body["limit_usd"].as_str(), body["amount_usd"].as_str()), (Some("0.015"), Some("0.01")), "{body}");
    assert_eq!(body["remaining_usd"], "0.005");
    assert!(response.head.get("proxy-status").unwrap().contains("by=cosigner"));
    assert_eq!(rig.till.chain.transfers().len(), 1);
    let metrics = rig.till.program.metrics();
    assert_eq!(metrics.sum("tollpass_cosigner_refusals_total", &[("agent", "bot"), ("reason", "cap_day")]), 1.0);
    // Ours would still give 999.99, theirs 0.005.
    assert_eq!(metrics.sum("tollpass_ledger_divergence_usd", &[("agent", "bot")]), 999.985);
    assert_eq!(metrics.sum("tollpass_budget_remaining_usd", &[("agent", "bot"), ("budget", "caps.day")]), 0.005);
    assert_eq!(spent(&rig.till.program), CENT, "nothing was signed, so nothing stays spent");
}

#[test]
fn without_a_co_signer_nothing_is_paid_and_afterwards_everything_is() {
    let mut rig = rig();
    eventually("the proxy has greeted", || rig.till.program.metrics().sum("tollpass_cosigner_up", &[]) == 1.0);
    rig.cosigner.kill9();
    eventually("tollpass_cosigner_up says 0", || rig.till.program.metrics().sum("tollpass_cosigner_up", &[]) == 0.0);
    refused(&rig.till.get("/x"), "signer_unavailable", "policy");
    // The release follows the answer by a moment.
    eventually("the amount is given back", || spent(&rig.till.program) == 0);
    rig.cosigner.restart(&[]);
    eventually("the proxy finds it again", || rig.till.program.metrics().sum("tollpass_cosigner_up", &[]) == 1.0);
    assert_eq!(rig.till.get("/x").status, 200);
}

#[test]
fn a_timeout_stays_spent_and_the_same_intent_is_signed_again() {
    let rig = rig_with(Wallet::new(), ", deadline: 500ms");
    assert_eq!(rig.till.get("/warm").status, 200);
    rig.cosigner.pause(true);
    let started = Instant::now();
    refused(&rig.till.get("/x"), "signer_timeout", "policy");
    assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
    assert_eq!(spent(&rig.till.program), 2 * CENT, "perhaps signed is spent");
    rig.cosigner.pause(false);
    eventually("the same request is bought", || rig.till.get("/x").status == 200);
    let books = rows(&rig.till.program);
    assert_eq!(books.len(), 2, "the same purchase, not a new one: {books:?}");
    assert_eq!(rig.till.chain.transfers().len(), 2);
}

#[test]
fn m1_1_who_leaves_while_it_is_signed_and_comes_back_pays_once() {
    let rig = rig_with(Wallet::new(), ", deadline: 10s");
    assert_eq!(rig.till.get("/warm").status, 200);
    rig.cosigner.pause(true);
    for attempt in 1..=3 {
        let agent = rig.till.ask("/x");
        eventually("it was challenged", || rig.till.program.metrics().sum("tollpass_challenges_total", &[]) == f64::from(1 + attempt));
        eventually("there is an intent", || rows(&rig.till.program).len() >= 2);
        hang_up(agent);
    }
    let mut back = rig.till.ask("/x");
    eventually("it was challenged", || rig.till.program.metrics().sum("tollpass_challenges_total", &[]) == 5.0);
    rig.cosigner.pause(false);
    assert_eq!(back.response().text(), "sold");
    assert_eq!((rows(&rig.till.program).len(), rig.till.chain.transfers().len()), (2, 2));
}

#[test]
fn garbage_from_the_co_signer_fails_closed_within_the_deadline() {
    let wallet = Wallet::new();
    let mut cosigner = wallet.start(&[]);
    wallet.enroll();
    cosigner.kill9();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let mut stream = stream;
            let _ = stream.read(&mut [0; 64]);
            let _ = std::io::Write::write_all(&mut stream, b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
        }
    });
    let setup = Setup::new().signer(&wallet.signer_at("sc", port, ", deadline: 1s")).env("UNSEAL", "correct horse");
    let till = Till::new(setup, |_| Plan::ok("sold"));
    let started = Instant::now();
    let response = till.get("/x");
    assert_eq!(response.status, 402, "{}", response.text());
    assert!(started.elapsed() < Duration::from_secs(3));
    assert!(till.chain.transfers().is_empty());
}

#[test]
fn a_revoked_identity_is_refused_on_its_next_request_over_the_warm_connection() {
    let rig = rig();
    assert_eq!(rig.till.get("/1").status, 200);
    let output = tollpass(&rig.wallet.path("cs"), &["wallet", "revoke", "sidecar", "--json"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let response = rig.till.get("/2");
    assert_eq!(response.status, 402, "{}", response.text());
    assert_eq!(rig.till.chain.transfers().len(), 1);
    eventually("its connection is closed", || rig.till.program.metrics().sum("tollpass_cosigner_up", &[]) == 0.0);
    let again = rig.wallet.redeem(&rig.wallet.token("sidecar", "bot"), "id.pem");
    assert!(!again.status.success(), "a revoked key does not come back with a new token");
    let fresh = rig.wallet.redeem(&rig.wallet.token("sidecar-2", "bot"), "id2.pem");
    assert!(fresh.status.success(), "{}", String::from_utf8_lossy(&fresh.stderr));
}

#[test]
fn a_token_works_once_and_for_one_key() {
    let wallet = Wallet::new();
    let _cosigner = wallet.start(&[]);
    let token = wallet.token("sidecar", "bot");
    assert!(wallet.redeem(&token, "id.pem").status.success());
    assert!(wallet.redeem(&token, "id.pem").status.success(), "the same key may ask again: answers get lost");
    assert!(!wallet.redeem(&token, "other.pem").status.success());
    assert!(!wallet.redeem("tpe_00000000000000000000000000000000", "third.pem").status.success());
}

#[test]
fn an_agent_that_is_not_tied_to_the_identity_is_refused_and_counted() {
    let wallet = Wallet::new();
    let cosigner = wallet.start(&[]);
    let output = wallet.redeem(&wallet.token("sidecar", "somebody-else"), "id.pem");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let till = Till::new(setup(&wallet, ""), |_| Plan::ok("sold"));
    refused(&till.get("/x"), "agent_not_tied", "cosigner");
    assert_eq!(cosigner.metrics().sum("tollpass_cosigner_alarms_total", &[("kind", "agent_not_tied")]), 1.0);
    assert!(till.chain.transfers().is_empty());
}

#[test]
fn a_second_process_on_the_same_share_does_not_start() {
    let rig = rig();
    let output = Program::once(&setup(&rig.wallet, ""), &["serve", "--config", "tollpass.yaml"]);
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("one share, one process"), "{said}");
    let output = tollpass(&rig.wallet.path("cs"), &["cosigner"]);
    assert_eq!(output.status.code(), Some(2), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_copy_of_the_shares_folder_is_found_out() {
    let mut rig = rig();
    assert_eq!(rig.till.get("/1").status, 200);
    rig.till.program.kill9();
    copy(&rig.wallet.path("sc/share"), &rig.wallet.path("copy/share"));
    rig.till.program.restart_with(&[("UNSEAL", "correct horse")]);
    assert_eq!(rig.till.get("/2").status, 200);
    // The copy starts from where the original was, and speaks second.
    let thief = setup(&rig.wallet, "").signer(&rig.wallet.signer_at("copy", port_of(&rig.wallet), ""));
    let copied = Program::start(thief);
    let response = copied.get(&rig.till.url("/3"));
    refused(&response, "share_copied", "cosigner");
    assert_eq!(rig.cosigner.metrics().sum("tollpass_cosigner_alarms_total", &[("kind", "share_copied")]).min(1.0), 1.0);
    assert_eq!(rig.till.chain.transfers().len(), 2);
}

fn port_of(wallet: &Wallet) -> u16 {
    let text = wallet.signer("");
    let rest = text.split("https://127.0.0.1:").nth(1).unwrap();
    rest.split('"').next().unwrap().parse().unwrap()
}

fn copy(from: &std::path::Path, to: &std::path::Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

#[test]
fn a_wrong_share_or_a_missing_passphrase_is_a_mistake_of_the_configuration() {
    let wallet = Wallet::new();
    let swapped = setup(&wallet, "").signer(&wallet.signer_at("cs", 1, "").replace("sc/id.pem", "cs/id.pem"));
    let output = Program::once(&swapped, &["serve", "--config", "tollpass.yaml"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("the cosigner's share"), "{said}");
    let closed = Setup::new().signer(&wallet.signer_at("cs", 1, ""));
    let output = Program::once(&closed, &["serve", "--config", "tollpass.yaml"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(2) && said.contains("UNSEAL is not set"), "{said}");
}

#[test]
fn presignatures_are_off_unless_both_sides_accept_them_and_then_save_a_round_trip() {
    let mut wallet = Wallet::new();
    wallet.more = "presign: { accept_unreviewed_presign: true }\n".into();
    let rig = rig_with(wallet, ", accept_unreviewed_presign: true, pool: 8");
    eventually("the pool is full", || rig.till.program.metrics().sum("tollpass_presignatures", &[]) == 8.0);
    for n in 0..4 {
        assert_eq!(rig.till.get(&format!("/{n}")).status, 200);
    }
    let theirs = rig.cosigner.metrics();
    assert_eq!(theirs.sum("tollpass_cosigner_requests_total", &[("kind", "present"), ("result", "ok")]), 4.0);
    assert_eq!(theirs.sum("tollpass_cosigner_requests_total", &[("kind", "begin")]), 0.0);
    assert_eq!(rig.till.chain.transfers().len(), 4);
    let off = rig_with(Wallet::new(), ", accept_unreviewed_presign: true, pool: 8");
    assert_eq!(off.till.get("/x").status, 200);
    assert_eq!(off.cosigner.metrics().sum("tollpass_cosigner_requests_total", &[("kind", "prepare")]), 0.0);
}

#[test]
fn a_stop_is_clean_and_a_changed_policy_counts_at_once() {
    let mut rig = rig();
    assert_eq!(rig.till.get("/1").status, 200);
    let before = rig.cosigner.metrics().label("tollpass_policy_info", "digest");
    rig.wallet.policy("per_payment: 0.001, day: 1");
    eventually("the new policy is in effect", || rig.cosigner.metrics().label("tollpass_policy_info", "digest") != before);
    refused(&rig.till.get("/2"), "cap_per_payment", "cosigner");
    assert_eq!(rig.cosigner.terminate().code(), Some(0));
}

/// `tollpass probe`, ended when dropped.
struct Probe(std::process::Child);

impl Drop for Probe {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn s4_a_payee_that_the_seller_itself_names_to_the_probe_is_paid_and_without_a_probe_nobody_is() {
    let mut wallet = Wallet::new();
    let socket = wallet.path("cs/probe.sock");
    wallet.more = "probe: file:probe.sock\n".into();
    let policy = "version: 1\nagents:\n  bot:\n    caps: { per_payment: 5, day: 1000 }\n    allow:\n      - { id: asked, host: [localhost, 127.0.0.1], \
                  networks: [\"eip155:84532\"], assets: [USDC], probe: true, plain_http: true }\n";
    std::fs::write(wallet.path("cs/policy.yaml"), policy).unwrap();
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_tollpass"));
    command.args(["probe", "--allow-private", "--socket"]).arg(&socket).stdout(std::process::Stdio::null());
    let probe = Probe(command.spawn().unwrap());
    eventually("the probe listens", || socket.exists());
    let rig = rig_with(wallet, "");
    assert_eq!(rig.till.get("/asked").status, 200);
    assert_eq!(rig.till.chain.transfers().len(), 1);
    drop(probe);
    // Another address: what the probe said of the first one is kept for a minute.
    refused(&rig.till.get("/not-asked"), "probe_differs", "cosigner");
    assert_eq!(rig.till.chain.transfers().len(), 1);
}
