//! A policy that changes while traffic flows: with budgets and people's yeses in it, no request fails, and every cent is counted.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use alloy_primitives::U256;

use crate::harness::{Plan, Setup};
use crate::till::{CENT, Till};

/// Every version pays, and each says so differently: with the budget exceeded or not, counted for a list or for everybody, under
/// other caps and rates. `dear` asks about every payment.
fn policy(n: usize) -> String {
    let (limit, agents) = [("0.001", "all"), ("900", "[bot]"), ("0.002", "[bot]"), ("800", "all")][n % 4];
    let rules = "    rules:\n      - { id: dear, when: 'price.usd > usd(\"0.005\")', then: { ask: finance } }\n      - { id: much, when: 'spent.day + price.usd > usd(\"900\")', then: deny }\n";
    let caps = format!("per_payment: 5, day: {}, rolling: {{ 24h: 950 }}", 1000 + n);
    format!(
        "{}    rate: {{ per_minute: {} }}\napprovers: {{ finance: {{ may_exceed: [team] }} }}\ndefaults: {{ hold: 20s }}\n\
         budgets: [ {{ name: team, limit: {limit}, window: month, agents: {agents}, over: ask }}, {{ name: all, limit: 999, window: day, agents: all, hard: true }} ]\n",
        Setup::policy_with(&caps, "", rules),
        100_000 + n
    )
}

#[test]
fn m2_2_no_request_fails_while_budgets_and_yeses_change_under_load() {
    const RELOADS: usize = 8;
    let setup = Setup::new().policy(policy(0).replace("hold: 20s", "hold: 0s"));
    let till = Till::new(setup, |_| Plan::ok("sold"));
    // One question about both the rule and the budget, and a standing yes to it.
    let ticket = till.get("/first").json()["ticket"].as_str().unwrap().to_owned();
    let args = ["approvals", "approve", &ticket, "--remember", "--max", "0.01", "--total", "900", "--until", "2199-01-01T00:00:00Z"];
    let said = till.program.run(&args);
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    let (stop, sold) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|threads| {
        for buyer in 0..4 {
            let (till, stop, sold) = (&till, &stop, &sold);
            threads.spawn(move || {
                let mut n = 0;
                while !stop.load(Ordering::Relaxed) {
                    let answer = till.get(&format!("/{buyer}/{n}"));
                    assert_eq!(answer.status, 200, "{}", answer.text());
                    n += 1;
                    sold.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        for n in 1..=RELOADS {
            till.program.policy_set(&policy(n));
        }
        stop.store(true, Ordering::Relaxed);
    });
    let sold = u64::try_from(sold.into_inner()).unwrap();
    assert!(sold > 50, "{sold}");
    assert_eq!(till.chain.total(), U256::from(sold * CENT));
    till.spent(sold * CENT);
    let metrics = till.program.metrics();
    assert_eq!(metrics.sum("tollpass_policy_reload_success", &[]), 1.0);
    // The last version counts everybody under 0.001, which only yeses exceed.
    let left = metrics.sum("tollpass_budget_remaining_usd", &[("budget", "budget:team")]);
    #[expect(clippy::cast_precision_loss, reason = "cents in a test")]
    let expected = 0.001 - sold as f64 / 100.0;
    assert!((left - expected).abs() < 1e-6, "{left} {expected}");
}
