//! After the payment: whatever the seller does, the amount is spent once.

use super::*;

#[test]
fn a_price_or_payee_that_changes_on_the_retry_is_not_paid_then() {
    for changed in [Terms::v2(payee(), 2 * CENT), Terms::v2(other_payee(), CENT)] {
        let chain = Chain::new();
        let (counted, then) = (chain.clone(), changed.clone());
        // Asks for one thing first, and from the first payment on for another.
        let turned = Arc::new(AtomicUsize::new(0));
        let seller = Seller::http(move |call| {
            if call.head.has("payment-signature") && turned.fetch_add(1, Ordering::AcqRel) == 0 {
                return challenge(call, &then);
            }
            if turned.load(Ordering::Acquire) == 0 {
                return challenge(call, &Terms::v2(payee(), CENT));
            }
            shop(&counted, then.clone(), |_| Plan::ok("sold"))(call)
        });
        let till = Till { chain, seller, program: Program::start(Setup::new()) };
        let got = till.get("/x");
        assert!(got.status == 402 && got.head.has("payment-required"), "the seller's own answer");
        assert_eq!((till.seller.paid().len(), till.chain.count()), (1, 0), "one payment per request");
        till.states(&["open"]);
        till.spent(CENT);
        // Asked again, the new terms pass policy, under the same nonce.
        let nonce = rows(&till.program)[0].nonce.clone();
        assert_eq!(till.get("/x").status, 200);
        let all = rows(&till.program);
        assert_eq!((all.len(), &all[0].nonce, till.chain.count()), (1, &nonce, 1));
        assert_eq!(
            (all[0].payee.as_str(), all[0].atomic),
            (changed.accepts[0]["payTo"].as_str().unwrap(), changed.accepts[0]["amount"].as_str().unwrap().parse().unwrap())
        );
        till.spent(all[0].atomic);
    }
}

#[test]
fn a_new_price_past_the_cap_is_refused_and_the_old_one_stays_spent() {
    let chain = Chain::new();
    // Challenge and answer to the payment at one cent; three from then on.
    let seller = Seller::http(|call| challenge(call, &Terms::v2(payee(), if call.number < 2 { CENT } else { 3 * CENT })));
    let till = Till { chain, seller, program: Program::start(Setup::new().caps("per_payment: 0.02, day: 0.03")) };
    assert_eq!(till.get("/x").status, 402);
    assert_eq!(till.get("/x").reason(), "cap_per_payment");
    assert_eq!(till.seller.paid().len(), 1);
    till.spent(CENT);
}

#[test]
fn a_402_for_ever_costs_one_purchase_and_one_nonce() {
    let till = Till::new(Setup::new(), |_| Plan::keep(Act::Challenge(Terms::v2(payee(), CENT))));
    for _ in 0..6 {
        assert_eq!(till.get("/x").status, 402);
    }
    let shown: HashSet<_> = till.seller.paid().iter().map(|s| s.head.get("payment-signature").unwrap().to_owned()).collect();
    assert_eq!((till.seller.paid().len(), shown.len(), till.chain.count()), (6, 1, 0));
    till.states(&["open"]);
    till.spent(CENT);
}

#[test]
fn settled_but_402_is_one_transfer_however_often_it_is_asked_for() {
    let till = Till::new(Setup::new(), |_| Plan::settle(Act::Challenge(Terms::v2(payee(), CENT))).receipt(Receipt::None));
    for _ in 0..4 {
        assert_eq!(till.get("/x").status, 402);
    }
    assert_eq!(till.chain.count(), 1);
    // The seller says that the nonce was used, and the bytes had been shown before: paid and lost.
    till.states(&["lost"]);
    assert_eq!(till.get("/x").reason(), "paid_not_delivered");
    till.spent(CENT);
}

#[test]
fn whatever_breaks_after_the_payment_the_amount_is_spent_once() {
    type Case = (&'static str, fn() -> Act, &'static [u16], &'static str);
    let cases: [Case; 6] = [
        ("reset", || Act::Reset, &[502], "upstream_closed"),
        ("hang", || Act::Hang, &[504], "first_byte_timeout"),
        ("half body", || Act::HalfBody(vec![b'x'; 10_000]), &[200, 0], ""),
        ("500", || Act::Answer(500, String::new(), b"oops".to_vec()), &[500], ""),
        ("garbage", || Act::Raw(b"SSH-2.0-not-http\r\n\r\n".to_vec()), &[502], "upstream_protocol"),
        ("closed", || Act::Raw(Vec::new()), &[502], "upstream_closed"),
    ];
    for (what, act, statuses, reason) in cases {
        for settle in [true, false] {
            let setup = Setup::new().upstream("first_byte: 300ms");
            let till = Till::new(setup, move |_| if settle { Plan::settle(act()) } else { Plan::keep(act()) }.receipt(Receipt::None));
            let got = try_get(till.program.proxy(), &till.url("/x"), "");
            let status = got.as_ref().map_or(0, |r| r.status);
            assert!(statuses.contains(&status), "{what}: {got:?}");
            assert!(status != 200 || !got.as_ref().unwrap().complete, "{what}");
            if !reason.is_empty() {
                assert_eq!(got.unwrap().reason(), reason, "{what}");
            }
            till.states(&[if what == "half body" { "lost" } else { "open" }]);
            till.spent(CENT);
            // The client repeats; the same purchase, whatever comes of it.
            for _ in 0..2 {
                let _ = try_get(till.program.proxy(), &till.url("/x"), "");
            }
            assert_eq!(till.chain.count(), usize::from(settle), "{what}");
            till.spent(CENT);
        }
    }
}

#[test]
fn a_body_that_never_comes_is_cut_by_the_idle_time_out_and_lost() {
    let till = Till::new(Setup::new().upstream("idle: 300ms"), |_| Plan::settle(Act::HeadOnly));
    till.get_cut("/x");
    till.states(&["lost"]);
    assert_eq!(till.get("/x").reason(), "paid_not_delivered");
    till.spent(CENT);
}

#[test]
fn an_agent_that_leaves_in_the_middle_of_a_broken_answer_pays_once() {
    let till = Till::new(Setup::new().upstream("idle: 300ms"), |_| Plan::settle(Act::HeadOnly));
    let mut agent = till.ask("/x");
    assert_eq!(agent.head().unwrap().status(), 200);
    hang_up(agent);
    till.states(&["lost"]);
    assert_eq!((till.get("/x").reason().as_str(), till.chain.count()), ("paid_not_delivered", 1));
}

#[test]
fn a_redirect_after_payment_is_never_followed_with_the_payment() {
    for status in [301, 302, 303, 307, 308] {
        let thief = Seller::http(|call| call.reply(200, "", "stolen"));
        let to = thief.url("/");
        let till = Till::new(Setup::new(), move |_| Plan::settle(Act::Answer(status, format!("Location: {to}\r\n"), Vec::new())));
        let got = till.get("/x");
        assert_eq!((got.status, got.head.get("location")), (status, Some(thief.url("/").as_str())));
        assert_eq!((thief.connections(), till.chain.count()), (0, 1));
        // The agent goes there by itself; no payment goes with it.
        assert_eq!(till.program.get(&thief.url("/")).status, 200);
        assert_eq!((thief.count(), thief.paid().len()), (1, 0));
        till.spent(CENT);
    }
}

#[test]
fn a_redirect_before_payment_is_the_agents_business() {
    let thief = Seller::http(|call| call.reply(200, "", "stolen"));
    let to = thief.url("/");
    let seller = Seller::http(move |call| call.reply(307, &format!("Location: {to}\r\nPAYMENT-REQUIRED: e30=\r\n"), ""));
    let program = Program::start(Setup::new());
    assert_eq!(program.get(&seller.url("/x")).status, 307);
    assert_eq!((thief.connections(), rows(&program).len()), (0, 0));
}

#[test]
fn m1_3_a_receipt_never_changes_what_is_spent() {
    let raw = |json: Value| Receipt::Raw(STANDARD.encode(json.to_string()));
    let failure = || raw(json!({ "success": false, "errorReason": "insufficient_funds", "transaction": "" }));
    let refund = || raw(json!({ "success": true, "transaction": "0x00", "amount": "-10000", "refunded": true }));
    let (ok, bad) = (|| Act::Answer(200, String::new(), b"sold".to_vec()), || Act::Answer(500, String::new(), Vec::new()));
    let cases: Vec<(&str, Plan, &str)> = vec![
        ("true", Plan::settle(ok()), "settled"),
        ("missing", Plan::settle(ok()).receipt(Receipt::None), "settled"),
        ("forged: nothing moved", Plan::keep(ok()).receipt(Receipt::Forged), "settled"),
        ("failure beside 200", Plan::settle(ok()).receipt(failure()), "open"),
        ("refund", Plan::settle(ok()).receipt(refund()), "settled"),
        ("not base64", Plan::settle(ok()).receipt(Receipt::Raw("%%%".into())), "settled"),
        ("not JSON", Plan::settle(ok()).receipt(Receipt::Raw(STANDARD.encode("yes"))), "settled"),
        ("duplicate keys", Plan::settle(ok()).receipt(Receipt::Raw(STANDARD.encode("{\"success\":true,\"success\":false}"))), "settled"),
        ("twice", Plan::settle(Act::Answer(200, "PAYMENT-RESPONSE: e30=\r\n".into(), Vec::new())), "settled"),
        ("500 that claims success", Plan::keep(bad()).receipt(Receipt::Forged), "lost"),
        ("500 that claims failure", Plan::settle(bad()).receipt(failure()), "open"),
        ("402 that claims failure", Plan::settle(Act::Challenge(Terms::v2(payee(), CENT))).receipt(failure()), "open"),
    ];
    let count = cases.len() as u64;
    let plans: Vec<Plan> = cases.iter().map(|c| c.1.clone()).collect();
    let till = Till::new(Setup::new(), move |visit| plans[visit.head.target()[1..].parse::<usize>().unwrap()].clone());
    let mut states = Vec::new();
    for (n, (what, plan, state)) in cases.iter().enumerate() {
        let got = till.get(&format!("/{n}"));
        let status = match plan.act {
            Act::Answer(status, ..) => status,
            _ => 402,
        };
        assert_eq!(got.status, status, "{what}");
        states.push(*state);
        till.spent(CENT * (n as u64 + 1));
    }
    till.states(&states);
    till.spent(CENT * count);
    let shown = till.program.ledger().to_string();
    assert!(!shown.contains("insufficient_funds") && !shown.contains("refund"), "a claim is not printed");
}
