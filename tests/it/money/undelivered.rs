//! M1.6: paid, not delivered.

use super::*;

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
