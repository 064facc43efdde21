//! SIGKILL of either side at every named step of a signature: after a restart the same request is bought once.

use std::os::unix::process::ExitStatusExt;

use crate::harness::{Plan, Setup, Wallet, eventually};
use crate::till::{CENT, Till, spent};

/// Steps of the co-signer; true if the step lies in a signature (and not in a ban or an enrolment, which others test).
const COSIGNER: [&str; 8] = [
    // The first transaction is the greeting's, the second the key's.
    "cosigner_store_written",
    "cosigner_store_durable",
    "cosigner_store_written:2",
    "cosigner_store_durable:2",
    "cosigner_hold_durable",
    "cosigner_joined",
    "cosigner_before_partial",
    "cosigner_after_partial",
];

const SIDECAR: [&str; 4] = ["sidecar_before_begin", "sidecar_begun", "sidecar_before_finish", "sidecar_finished"];

const ENROLMENT: [&str; 2] = ["enroll_key_written", "enroll_token_spent"];

#[test]
fn every_step_of_a_signature_and_of_an_enrolment_has_a_row() {
    let rows: Vec<&str> = COSIGNER.iter().chain(&SIDECAR).chain(&ENROLMENT).map(|step| step.split(':').next().unwrap()).collect();
    // Those of a ban have theirs in `bans`.
    for step in tollpass::failpoint::SIGNING.iter().filter(|step| !step.ends_with("_ban")) {
        assert!(rows.contains(step), "{step} has no row");
    }
    println!("{} steps of a signature and an enrolment are killed", rows.len());
}

fn setup(wallet: &Wallet) -> Setup {
    // The cap fits one payment exactly: whoever forgets one, or pays twice, shows.
    Setup::new().signer(&wallet.signer(", deadline: 1s")).env("UNSEAL", "correct horse").caps("per_payment: 0.01, day: 0.01")
}

fn bought_once(till: &Till, at: &str) {
    eventually(&format!("{at}: the request is bought"), || till.get("/x").status == 200);
    assert_eq!(till.chain.transfers().len(), 1, "{at}");
    assert_eq!(spent(&till.program), CENT, "{at}");
}

#[test]
fn a_co_signer_killed_at_any_step_signs_the_same_payment_after_its_restart() {
    for step in COSIGNER {
        let wallet = Wallet::new();
        wallet.policy("per_payment: 0.01, day: 0.01");
        let mut cosigner = wallet.start(&[]);
        wallet.enroll();
        let till = Till::new(setup(&wallet), |_| Plan::ok("sold"));
        eventually("the proxy has greeted", || till.program.metrics().sum("tollpass_cosigner_up", &[]) == 1.0);
        cosigner.restart(&[("TOLLPASS_FAILPOINT", step)]);
        // The store's steps are passed by the greeting too.
        while cosigner_alive(&mut cosigner) && till.get("/x").status != 200 {}
        let status = cosigner.wait();
        assert_eq!(status.signal(), Some(9), "{step}: never reached, ended with {status}");
        cosigner.restart(&[]);
        bought_once(&till, step);
        println!("killed at {step}: bought once");
    }
}

fn cosigner_alive(cosigner: &mut crate::harness::Cosigner) -> bool {
    std::path::Path::new(&format!("/proc/{}/stat", cosigner.id())).exists()
        && !std::fs::read_to_string(format!("/proc/{}/stat", cosigner.id())).is_ok_and(|s| s.contains(") Z "))
}

#[test]
fn a_proxy_killed_at_any_step_of_a_signature_buys_once_after_its_restart() {
    for step in SIDECAR {
        let wallet = Wallet::new();
        wallet.policy("per_payment: 0.01, day: 0.01");
        let _cosigner = wallet.start(&[]);
        wallet.enroll();
        let mut till = Till::new(setup(&wallet).env("TOLLPASS_FAILPOINT", step), |_| Plan::ok("sold"));
        let mut agent = till.ask("/x");
        let _ = agent.response_to("GET");
        let status = till.program.wait();
        assert_eq!(status.signal(), Some(9), "{step}: never reached, ended with {status}");
        till.program.restart_with(&[("UNSEAL", "correct horse")]);
        bought_once(&till, step);
        println!("killed at {step}: bought once");
    }
}

#[test]
fn an_enrolment_killed_at_any_step_is_finished_by_the_same_token() {
    for step in ENROLMENT {
        let wallet = Wallet::new();
        let on_the_cosigner = step == "enroll_token_spent";
        let mut cosigner = wallet.start(if on_the_cosigner { &[("TOLLPASS_FAILPOINT", "enroll_token_spent")] } else { &[] });
        let token = wallet.token("sidecar", "bot");
        if on_the_cosigner {
            assert!(!wallet.redeem(&token, "id.pem").status.success());
            assert_eq!(cosigner.wait().signal(), Some(9));
            cosigner.restart(&[]);
        } else {
            let died = wallet.redeem_dying(&token, "id.pem", step);
            assert_eq!(died.status.signal(), Some(9));
        }
        let output = wallet.redeem(&token, "id.pem");
        assert!(output.status.success(), "{step}: {}", String::from_utf8_lossy(&output.stderr));
    }
}
