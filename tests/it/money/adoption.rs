//! M1.1: the request key and adoption.

use super::*;

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
