//! The life of a purchase (M1.1–M1.9), budgets and repeats, as counted by the chain.

use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use alloy_primitives::U256;
use serde_json::json;

use crate::harness::{
    Act, Agent, Call, Chain, Next, Plan, Program, Receipt, Response, Seller, Setup, Terms, challenge, eventually, payer, shop,
};
use crate::till::{CENT, Gate, Till, hang_up, other_payee, payee, rows, signer_of, spent, try_get};

const MANY: usize = 20;

fn answer(status: u16) -> Act {
    Act::Answer(status, String::new(), Vec::new())
}

/// The default policy with further keys of its allow entry.
fn entry(keys: &str) -> Setup {
    Setup::new().policy(Setup::policy_with("per_payment: 5, day: 1000", keys, ""))
}

/// A seller whose terms change: the handlers in turn, by `which`.
fn turncoat(
    which: &Arc<AtomicUsize>,
    first: impl Fn(&mut Call<'_>) -> Next + Send + Sync + 'static,
    then: impl Fn(&mut Call<'_>) -> Next + Send + Sync + 'static,
) -> Seller {
    let which = which.clone();
    Seller::http(move |call| if which.load(Ordering::Acquire) == 0 { first(call) } else { then(call) })
}

// --- M1.1: request key and adoption ---

#[test]
fn m1_1_identical_live_requests_are_as_many_purchases() {
    let gate = Gate::default();
    let (till, open) = (gated(&gate), gate);
    let mut agents: Vec<Agent> = (0..MANY).map(|_| till.ask("/same")).collect();
    till.paid(MANY);
    open.open();
    for agent in &mut agents {
        assert_eq!(agent.response().status, 200);
    }
    assert_eq!(till.chain.count(), MANY);
    let nonces: HashSet<_> = till.chain.transfers().iter().map(|t| t.nonce).collect();
    assert!(till.chain.transfers().iter().all(|t| t.from == payer()), "one wallet pays");
    assert_eq!(nonces.len(), MANY);
    till.states(&["settled"; MANY]);
    till.spent(CENT * MANY as u64);
}

/// A till whose seller takes paid requests at once and answers when the gate opens.
fn gated(gate: &Gate) -> Till {
    let gate = gate.clone();
    Till::new(Setup::new(), move |visit| {
        gate.pass();
        Plan::ok(format!("sold {}", visit.before))
    })
}

#[test]
fn m1_1_abandoned_in_flight_and_repeated_is_one_transfer_each() {
    let gate = Gate::default();
    let till = gated(&gate);
    let first: Vec<Agent> = (0..MANY).map(|_| till.ask("/same")).collect();
    till.paid(MANY);
    first.into_iter().for_each(hang_up);
    let mut again: Vec<Agent> = (0..MANY).map(|_| till.ask("/same")).collect();
    eventually("every repeat was challenged", || till.seller.count() == 3 * MANY);
    gate.open();
    let bodies: HashSet<String> = again.iter_mut().map(|a| a.response().text()).collect();
    assert_eq!(bodies.len(), MANY, "one to one: {bodies:?}");
    assert_eq!(till.chain.count(), MANY);
    till.spent(CENT * MANY as u64);
}

#[test]
fn m1_1_abandoned_and_settled_and_repeated_is_one_transfer_each() {
    let gate = Gate::default();
    let till = gated(&gate);
    let first: Vec<Agent> = (0..MANY).map(|_| till.ask("/same")).collect();
    till.paid(MANY);
    first.into_iter().for_each(hang_up);
    gate.open();
    eventually("every answer is kept", || kept(&till.program).len() == MANY);
    let mut again: Vec<Agent> = (0..MANY).map(|_| till.ask("/same")).collect();
    let bodies: HashSet<String> = again.iter_mut().map(|a| a.response().text()).collect();
    assert_eq!(bodies.len(), MANY, "one to one: {bodies:?}");
    assert_eq!(till.chain.count(), MANY);
    assert_eq!(kept(&till.program).len(), 0, "delivered once");
    till.spent(CENT * MANY as u64);
}

#[test]
fn m1_1_another_body_accept_or_idempotency_key_is_another_purchase() {
    let till = Till::new(Setup::new(), |visit| if visit.before == 0 { Plan::keep(answer(500)) } else { Plan::ok("sold") });
    let ask = |headers: &str, body: &str| till.program.request("POST", &till.url("/x"), headers, body.as_bytes());
    assert_eq!(ask("Accept: a/b\r\n", "one").status, 500);
    let base = till.seller.paid()[0].head.get("payment-signature").unwrap().to_owned();
    let variants = [
        ("Accept: a/c\r\n", "one"),
        ("Accept: a/b\r\n", "two"),
        ("Accept: a/b\r\nIdempotency-Key: 1\r\n", "one"),
        ("Accept: a/b\r\nAuthorization: Bearer 1\r\n", "one"),
    ];
    for (headers, body) in variants {
        assert_eq!(ask(headers, body).status, 200, "{headers} {body}");
    }
    assert!(till.seller.paid()[1..].iter().all(|s| s.head.get("payment-signature") != Some(&base)));
    // The first one is still there, with other headers that are not in the key.
    assert_eq!(ask("Accept: a/b\r\nUser-Agent: other\r\n", "one").status, 200);
    assert_eq!(till.seller.paid()[5].head.get("payment-signature"), Some(base.as_str()));
    assert_eq!((till.chain.count(), rows(&till.program).len()), (5, 5));
}

#[test]
fn m1_1_who_repeats_at_once_after_a_failure_never_pays_twice() {
    let acts: [fn() -> Act; 4] =
        [|| answer(500), || Act::Reset, || Act::HalfBody(vec![b'x'; 100]), || Act::Answer(404, String::new(), b"gone".to_vec())];
    let till = Arc::new(Till::new(Setup::new(), move |visit| {
        let kind: usize = visit.head.target().rsplit('/').next().unwrap().parse().unwrap();
        Plan::settle(acts[kind % 4]()).receipt(Receipt::None)
    }));
    let threads: Vec<_> = (0..8_usize)
        .map(|t| {
            let till = till.clone();
            thread::spawn(move || {
                for n in 0..12 {
                    for _ in 0..3 {
                        let _ = try_get(till.program.proxy(), &till.url(&format!("/{t}/{n}")), "");
                    }
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|t| t.join().unwrap());
    assert_eq!(till.chain.count(), 96, "one transfer per path");
    till.spent(96 * CENT);
}

// --- M1.2: one nonce per purchase ---

#[test]
fn m1_2_what_is_presented_again_is_the_same_bytes() {
    let till = Till::new(Setup::new(), |visit| if visit.before < 2 { Plan::keep(answer(503)) } else { Plan::ok("sold") });
    for expect in [503, 503, 200] {
        assert_eq!(till.get("/x").status, expect);
    }
    let shown: HashSet<_> = till.seller.paid().iter().map(|s| s.head.get("payment-signature").unwrap().to_owned()).collect();
    assert_eq!((shown.len(), till.chain.count()), (1, 1));
    till.states(&["settled"]);
    till.spent(CENT);
}

#[test]
fn m1_2_a_new_price_keeps_the_nonce_and_holds_the_maximum() {
    for (before, after) in [(CENT, 2 * CENT), (2 * CENT, CENT)] {
        let chain = Chain::new();
        let which = Arc::new(AtomicUsize::new(0));
        let first = shop(&chain, Terms::v2(payee(), before), |_| Plan::keep(answer(500)));
        let seller = turncoat(&which, first, shop(&chain, Terms::v2(payee(), after), |_| Plan::ok("sold")));
        let till = Till { chain, seller, program: Program::start(Setup::new()) };
        assert_eq!(till.get("/x").status, 500);
        let nonce = rows(&till.program)[0].nonce.clone();
        which.store(1, Ordering::Release);
        assert_eq!(till.get("/x").status, 200);
        let all = rows(&till.program);
        assert_eq!((all.len(), &all[0].nonce, all[0].atomic), (1, &nonce, after));
        assert_eq!((till.chain.count(), till.chain.total()), (1, U256::from(after)));
        till.spent(2 * CENT);
    }
}

/// A token of the policy's own beside USDC.
const TOKEN: &str = "0x60a3E35Cc302bFA44Cb288Bc5a4F316Fdb1adb42";

fn with_token(caps: &str) -> Setup {
    Setup::new().policy(format!(
        "version: 1\nassets:\n  - {{ id: \"eip155:84532/erc20:{TOKEN}\", symbol: PLAY, decimals: 6, eip712: {{ name: Play, version: \"7\" }}, usd: \"1.00\" }}\n\
         risk: {{ paid_but_failed: off, retry_loop: off }}\nagents:\n  bot:\n    caps: {{ {caps} }}\n    allow:\n      - {{ id: local, host: 127.0.0.1, networks: [\"eip155:84532\"], assets: [USDC, PLAY], pay_to: any, plain_http: true }}\n"
    ))
}

fn token_terms() -> Terms {
    let mut terms = Terms::v2(payee(), CENT);
    terms.accepts[0]["asset"] = TOKEN.into();
    terms.accepts[0]["extra"] = json!({ "name": "Play", "version": "7" });
    terms
}

#[test]
fn m1_2_another_token_waits_while_a_payment_is_outstanding() {
    let chain = Chain::new();
    let which = Arc::new(AtomicUsize::new(0));
    let first = shop(&chain, Terms::v2(payee(), CENT), |_| Plan::keep(answer(500)));
    let seller = turncoat(&which, first, shop(&chain, token_terms(), |_| Plan::ok("sold")));
    let till = Till { chain, seller, program: Program::start(with_token("per_payment: 1, day: 10")) };
    assert_eq!(till.get("/x").status, 500);
    which.store(1, Ordering::Release);
    let refused = till.get("/x");
    assert_eq!((refused.status, refused.reason().as_str()), (402, "payment_outstanding"));
    assert_eq!((till.seller.paid().len(), till.chain.count()), (1, 0));
    till.spent(CENT);
}

#[test]
fn a_token_of_the_policys_own_is_paid_under_its_own_domain() {
    let seen = Seller::http(
        move |call| {
            if call.head.has("payment-signature") { call.reply(200, "", "sold") } else { challenge(call, &token_terms()) }
        },
    );
    let program = Program::start(with_token("per_payment: 1, day: 10"));
    assert_eq!(program.get(&seen.url("/x")).status, 200);
    let credential = seen.paid()[0].head.get("payment-signature").unwrap().to_owned();
    assert_eq!(signer_of(&credential, TOKEN, "Play", "7"), payer());
    assert_eq!(spent(&program), CENT);
}

#[test]
fn a_token_nobody_listed_is_refused() {
    let till = Till::with(Setup::new(), token_terms(), |_| Plan::ok("sold"));
    assert_eq!(till.get("/x").reason(), "unknown_asset");
    assert_eq!(till.seller.paid().len(), 0);
    till.spent(0);
}

// --- M1.6: paid, not delivered ---

/// The kept answers on the disk.
fn kept(program: &Program) -> Vec<String> {
    let dir = program.path("state/private/kept");
    let files = fs::read_dir(dir).into_iter().flatten().map_while(Result::ok);
    files.map(|f| f.file_name().to_string_lossy().into_owned()).filter(|n| !n.starts_with('.')).collect()
}

#[test]
fn m1_6_a_lost_answer_blocks_for_lost_hold_and_then_may_be_bought_anew() {
    let till = Till::new(entry(", repeats: { lost_hold: 2s }"), |visit| {
        if visit.before == 0 { Plan::settle(Act::HalfBody(vec![b'x'; 1000])) } else { Plan::ok("sold") }
    });
    till.get_cut("/x");
    let refused = till.get("/x");
    assert_eq!((refused.status, refused.reason().as_str()), (402, "paid_not_delivered"));
    assert!(refused.json()["resets_at"].is_string() && refused.head.has("retry-after"));
    assert_eq!(till.get("/y").status, 200, "only the identical request waits");
    till.states(&["lost", "settled"]);
    eventually("it may be bought anew", || till.get("/x").status == 200);
    assert_eq!(till.chain.count(), 3);
    till.spent(3 * CENT);
}

/// One answer that nobody took, kept.
fn abandoned(headers: &'static str) -> Till {
    let gate = Gate::default();
    let pass = gate.clone();
    let till = Till::new(Setup::new(), move |visit| {
        pass.pass();
        let body = format!("sold {}", visit.before).into_bytes();
        Plan::settle(Act::Answer(200, headers.into(), body))
    });
    let agent = till.ask("/x");
    till.paid(1);
    hang_up(agent);
    gate.open();
    eventually("the seller is paid", || till.chain.count() == 1);
    till
}

#[test]
fn m1_6_a_kept_answer_is_delivered_once_without_a_second_transfer() {
    let till = abandoned("X-Seller: a\r\n");
    let got = till.get("/x");
    assert_eq!((got.status, got.text().as_str(), got.head.get("x-seller")), (200, "sold 0", Some("a")));
    assert_eq!(till.chain.count(), 1);
    assert_eq!(till.get("/x").text(), "sold 1", "delivered: the next one is another purchase");
    assert_eq!(till.chain.count(), 2);
    till.spent(2 * CENT);
}

#[test]
fn m1_6_a_kept_answer_survives_sigterm_and_a_restart() {
    let gate = Gate::default();
    let mut till = gated(&gate);
    let agent = till.ask("/x");
    till.paid(1);
    hang_up(agent);
    till.program.terminate();
    gate.open();
    assert!(till.program.wait().success(), "drains and ends well");
    till.program.restart();
    let got = till.get("/x");
    assert_eq!((got.status, got.text().as_str(), till.chain.count()), (200, "sold 0", 1));
    till.states(&["settled"]);
    till.spent(CENT);
}

#[test]
fn m1_6_a_no_store_answer_never_touches_the_disk() {
    let till = abandoned("Cache-Control: no-store\r\n");
    till.states(&["settled"]);
    assert!(!on_disk(&till.program.path("state"), b"sold 0"));
    assert_eq!(till.get("/x").text(), "sold 0", "but it is there");

    let mut till = abandoned("Cache-Control: no-store\r\n");
    till.states(&["settled"]);
    till.program.restart();
    assert_eq!(till.get("/x").reason(), "paid_not_delivered");
    assert_eq!(till.chain.count(), 1);
}

fn on_disk(dir: &Path, needle: &[u8]) -> bool {
    fs::read_dir(dir).unwrap().map_while(Result::ok).any(|f| {
        let path = f.path();
        if path.is_dir() { on_disk(&path, needle) } else { fs::read(path).is_ok_and(|c| c.windows(needle.len()).any(|w| w == needle)) }
    })
}

// --- M1.7: outcomes ---

#[test]
fn m1_7_every_status_below_400_is_bought() {
    let till = Till::new(Setup::new(), |visit| {
        let status = visit.head.target()[1..].parse().unwrap();
        Plan::settle(Act::Answer(status, "Location: /elsewhere\r\nX-Seller: a\r\n".into(), Vec::new()))
    });
    for status in [200, 204, 302, 304] {
        let got = till.get(&format!("/{status}"));
        assert_eq!((got.status, got.head.get("x-seller")), (status, Some("a")));
    }
    till.states(&["settled"; 4]);
    eventually("all were consumed", || rows(&till.program).iter().all(|r| r.consumed));
    assert_eq!(till.chain.count(), 4);
}

fn upfront() -> Terms {
    let mut terms = Terms::v2(payee(), CENT);
    terms.accepts[0]["extra"]["paymentFlow"] = "upfront".into();
    terms
}

#[test]
fn m1_7_the_upfront_flow_only_where_it_is_listed() {
    let till = Till::with(Setup::new(), upfront(), |_| Plan::ok("sold"));
    assert_eq!(till.get("/x").status, 402);
    assert_eq!((till.seller.paid().len(), rows(&till.program).len()), (0, 0));

    let till = Till::with(entry(", flows: [authorization, upfront]"), upfront(), |visit| {
        if visit.head.target() == "/bad" { Plan::settle(answer(500)) } else { Plan::ok("sold") }
    });
    assert_eq!(till.get("/x").status, 200);
    assert_eq!(till.get("/bad").status, 500);
    assert_eq!(till.get("/bad").reason(), "paid_not_delivered", "under this flow any status counts as paid");
    till.states(&["lost", "settled"]);
    assert_eq!(till.chain.count(), 2);
    till.spent(2 * CENT);
}

#[test]
fn m1_7_a_stream_cut_short_is_lost() {
    let till = Till::new(Setup::new(), |_| Plan::settle(Act::HalfBody(vec![7; 100_000])));
    till.get_cut("/x");
    till.states(&["lost"]);
    till.spent(CENT);
}

fn follow(till: &Till, from: &str, hops: usize) -> Vec<Response> {
    let mut path = from.to_owned();
    let mut all = Vec::new();
    for _ in 0..hops {
        let got = till.get(&path);
        let next = got.head.get("location").map(str::to_owned);
        all.push(got);
        let Some(next) = next else { break };
        path = next;
    }
    all
}

#[test]
fn m1_7_a_loop_of_paid_redirects_costs_at_most_two_payments() {
    let till = Till::new(Setup::new(), |visit| {
        let to = if visit.head.target() == "/a" { "/b" } else { "/a" };
        Plan::settle(Act::Answer(302, format!("Location: {to}\r\n"), Vec::new()))
    });
    let all = follow(&till, "/a", 8);
    assert_eq!(all.last().unwrap().reason(), "paid_redirect_limit");
    assert_eq!(till.chain.count(), 2);
    till.spent(2 * CENT);
}

#[test]
fn m1_7_a_free_hop_does_not_hide_a_paid_loop() {
    let chain = Chain::new();
    let paid = shop(&chain, Terms::v2(payee(), CENT), |_| Plan::settle(Act::Answer(302, "Location: /free\r\n".into(), Vec::new())));
    let seller = Seller::http(move |call| match call.head.target() {
        "/free" => call.reply(307, "Location: /free2\r\n", ""),
        "/free2" => call.reply(302, "Location: /paid\r\n", ""),
        _ => paid(call),
    });
    let till = Till { chain, seller, program: Program::start(Setup::new()) };
    let all = follow(&till, "/paid", 20);
    assert_eq!(all.last().unwrap().reason(), "paid_redirect_limit");
    assert_eq!(till.chain.count(), 2);
}

#[test]
fn settled_and_hung_five_times_is_one_transfer() {
    let till = Till::new(Setup::new(), |_| Plan::settle(Act::Hang));
    for attempt in 1..=5 {
        let agent = till.ask("/x");
        eventually("the request is with the seller", || till.chain.count() == 1 && till.seller.count() > attempt);
        hang_up(agent);
    }
    assert_eq!((till.chain.count(), till.seller.paid().len()), (1, 1));
    till.spent(CENT);
}

// --- M1.9: one ledger, one process ---

/// Runs `tollpass serve` with this configuration to its end.
#[track_caller]
fn serve_to_end(dir: &Path, config: &str) -> (bool, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tollpass"));
    command.args(["serve", "--config", config, "--json"]).current_dir(dir).env_clear();
    command.env("TOLLPASS_DEV_KEY", format!("0x{}", "11".repeat(32)));
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut status = None;
    for _ in 0..500 {
        status = child.try_wait().unwrap();
        if status.is_some() {
            break;
        }
        thread::sleep(std::time::Duration::from_millis(20));
    }
    if status.is_none() {
        child.kill().unwrap();
    }
    let output = child.wait_with_output().unwrap();
    (status.is_some_and(|s| !s.success()), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn m1_9_a_second_process_on_the_same_state_says_so_and_ends() {
    let till = Till::new(Setup::new(), |_| Plan::ok("sold"));
    let (failed, errors) = serve_to_end(till.program.dir(), "tollpass.yaml");
    assert!(failed, "it must not run");
    assert!(errors.contains("ledger.lock") && errors.contains("tollpass serve --handover"), "{errors}");
    assert_eq!(till.get("/x").status, 200, "the first one is not disturbed");
}

#[test]
fn m1_9_a_memory_file_system_is_refused_unless_accepted() {
    let shm = Path::new("/dev/shm");
    let Ok(state) = tempfile::Builder::new().prefix("tollpass-it-").tempdir_in(shm) else {
        println!("skipped: /dev/shm is no place to write to");
        return;
    };
    let config = |ledger: &str| {
        format!(
            "version: 1\nlisten: {{ proxy: 127.0.0.1:0, admin: 127.0.0.1:0 }}\nstate: {}\nledger: {{ {ledger} }}\npolicy: policy.yaml\n\
             agents: {{ default: bot }}\nsigner: {{ local: {{ key: env:TOLLPASS_DEV_KEY }} }}\n",
            state.path().display()
        )
    };
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("policy.yaml"), Setup::new().policy).unwrap();
    fs::write(dir.path().join("strict.yaml"), config("store: sqlite")).unwrap();
    let (failed, errors) = serve_to_end(dir.path(), "strict.yaml");
    assert!(failed && errors.contains("memory file system") && errors.contains("ephemeral: accept"), "{errors}");
    // The same state, accepted.
    let accepted = config("store: sqlite, ephemeral: accept");
    drop(Program::start_with(Setup::new(), |dir| fs::write(dir.join("tollpass.yaml"), accepted).unwrap()));
}

// --- budgets ---

#[test]
fn m2_1_a_cap_is_inclusive_and_one_micro_less_refuses() {
    // Caps of the agent, further keys of the entry, how many cents fit, the reason for the next one.
    let cases = [
        ("per_payment: 0.01, day: 9", "", 2, ""),
        ("per_payment: 0.009999, day: 9", "", 0, "cap_per_payment"),
        ("per_payment: 0.015, hour: 0.02", "", 2, "cap_hour"),
        ("per_payment: 0.015, hour: 0.019999", "", 1, "cap_hour"),
        ("per_payment: 0.015, day: 0.02", "", 2, "cap_day"),
        ("per_payment: 0.015, day: 0.019999", "", 1, "cap_day"),
        ("per_payment: 0.015, week: 0.02", "", 2, "cap_week"),
        ("per_payment: 0.015, week: 0.019999", "", 1, "cap_week"),
        ("per_payment: 0.015, month: 0.02", "", 2, "cap_month"),
        ("per_payment: 0.015, month: 0.019999", "", 1, "cap_month"),
        ("per_payment: 0.015, day: 0.02, total: 0.02", "", 2, "cap_total"),
        ("per_payment: 0.015, day: 0.019999, total: 0.019999", "", 1, "cap_total"),
        ("per_payment: 0.015, day: 9", ", max: 0.01", 2, ""),
        ("per_payment: 0.015, day: 9", ", max: 0.009999", 0, "entry_max"),
        ("per_payment: 0.015, day: 9", ", caps: { day: 0.02 }", 2, "cap_day"),
        ("per_payment: 0.015, day: 9", ", caps: { day: 0.019999 }", 1, "cap_day"),
    ];
    for (caps, keys, fit, reason) in cases {
        let till = Till::new(Setup::new().policy(Setup::policy_with(caps, keys, "")), |_| Plan::ok("sold"));
        for n in 0..fit {
            assert_eq!(till.get(&format!("/{n}")).status, 200, "{caps}{keys}: payment {n}");
        }
        if !reason.is_empty() {
            let refused = till.get("/more");
            let json = refused.json();
            let said = json["violations"].as_array().unwrap().iter().find(|v| v["reason"] == reason);
            assert!(refused.status == 402 && said.is_some_and(|v| v["limit_usd"].is_string()), "{caps}{keys}: {json}");
        }
        assert_eq!(till.chain.count(), fit, "{caps}{keys}");
        till.spent(CENT * fit as u64);
    }
}

#[test]
fn m2_5_a_rate_counts_what_was_committed() {
    let policy = Setup::policy_with("per_payment: 1, day: 9", "", "    rate: { per_minute: 2 }\n");
    let till = Till::new(Setup::new().policy(policy), |_| Plan::ok("sold"));
    assert_eq!([till.get("/1").status, till.get("/2").status], [200, 200]);
    assert_eq!(till.get("/3").reason(), "rate_limited");
    assert_eq!(till.chain.count(), 2);
}

#[test]
fn m2_5_fifty_at_once_under_a_cap_for_seven_are_seven_transfers() {
    let till = Till::new(Setup::new().caps("per_payment: 0.01, day: 0.07"), |_| Plan::ok("sold"));
    let mut agents: Vec<Agent> = (0..50).map(|n| till.ask(&format!("/{n}"))).collect();
    let got: Vec<Response> = agents.iter_mut().map(Agent::response).collect();
    assert_eq!(got.iter().filter(|r| r.status == 200).count(), 7);
    assert!(got.iter().filter(|r| r.status != 200).all(|r| r.reason() == "cap_day"));
    assert_eq!(till.chain.count(), 7);
    till.spent(7 * CENT);
}

#[test]
fn m3_4_deny_wins_over_allow() {
    let deny = "    deny: [ { id: never, host: 127.0.0.1, paths: [\"/casino/**\"] } ]\n";
    let till = Till::new(Setup::new().policy(Setup::policy_with("per_payment: 1, day: 9", "", deny)), |_| Plan::ok("sold"));
    let refused = till.get("/casino/x");
    assert_eq!((refused.reason().as_str(), refused.json()["rule"].as_str()), ("denied", Some("never")));
    assert_eq!(till.get("/other").status, 200);
    assert_eq!(till.chain.count(), 1);
}

#[test]
fn m3_3_a_pinned_payee_is_set_by_the_first_delivery_and_then_kept() {
    let policy = Setup::policy_with("per_payment: 1, day: 9", "", "").replace("pay_to: any", "pay_to: pinned");
    let chain = Chain::new();
    let which = Arc::new(AtomicUsize::new(0));
    let seller = turncoat(
        &which,
        shop(&chain, Terms::v2(payee(), CENT), |v| if v.head.target() == "/fail" { Plan::keep(answer(500)) } else { Plan::ok("sold") }),
        shop(&chain, Terms::v2(other_payee(), CENT), |_| Plan::ok("sold")),
    );
    let mut till = Till { chain, seller, program: Program::start(Setup::new().policy(policy)) };
    // A challenge alone, or a failed purchase, pins nobody.
    assert_eq!(till.get("/fail").status, 500);
    which.store(1, Ordering::Release);
    assert_eq!(till.get("/a").status, 200);
    which.store(0, Ordering::Release);
    assert_eq!(till.get("/b").reason(), "payee_changed");
    eventually("the delivery is in the books", || rows(&till.program).iter().any(|r| r.consumed));
    till.program.restart();
    assert_eq!(till.get("/b").reason(), "payee_changed", "after a restart too");
    assert_eq!((till.chain.count_to(payee()), till.chain.count_to(other_payee())), (0, 1));
}

#[test]
fn m2_3_testnets_only_when_listed() {
    let policy = Setup::policy_with("per_payment: 1, day: 9", "", "").replace(" networks: [\"eip155:84532\"], assets: [USDC],", "");
    let till = Till::new(Setup::new().policy(policy), |_| Plan::ok("sold"));
    assert_eq!(till.get("/x").reason(), "testnet_not_listed");
    assert_eq!(till.seller.paid().len(), 0);
}

#[test]
fn a_policy_that_changes_before_the_challenge_decides_it() {
    let gate = Gate::default();
    let chain = Chain::new();
    let (sell, pass) = (shop(&chain, Terms::v2(payee(), CENT), |_| Plan::ok("sold")), gate.clone());
    let seller = Seller::http(move |call| {
        if !call.head.has("payment-signature") {
            pass.pass();
        }
        sell(call)
    });
    let till = Till { chain, seller, program: Program::start(Setup::new()) };
    let mut agent = till.ask("/x");
    eventually("the request is with the seller", || till.seller.count() == 1);
    till.program.policy_set(&Setup::policy_with("per_payment: 0.001, day: 1", "", ""));
    gate.open();
    assert_eq!(agent.response().reason(), "cap_per_payment");
    assert_eq!(till.chain.count(), 0);
}

#[test]
fn m2_2_a_policy_that_changes_after_the_payment_counts_it_and_revokes_nothing() {
    let gate = Gate::default();
    let till = gated(&gate);
    let mut agent = till.ask("/x");
    till.paid(1);
    till.program.policy_set(&Setup::policy_with("per_payment: 0.005, day: 0.005", "", ""));
    gate.open();
    assert_eq!(agent.response().status, 200);
    assert_eq!(till.get("/y").status, 402);
    till.program.policy_set(&Setup::policy_with("per_payment: 0.02, day: 0.02", "", ""));
    assert_eq!(till.get("/y").status, 200);
    assert_eq!(till.get("/z").reason(), "cap_day", "a limit that comes back starts from history");
    assert_eq!(till.chain.count(), 2);
    till.spent(2 * CENT);
}
