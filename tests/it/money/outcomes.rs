//! M1.7: outcomes.

use super::*;

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
