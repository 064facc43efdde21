//! Budgets, rates, and a policy that changes.

use super::*;

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
