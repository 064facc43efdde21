//! A decision costs little: the target is 20 µs optimised, for twenty allow entries and ten caps. Only an absurd time fails
//! here, since the machine is shared; `cargo test --release -- --nocapture decision_cost` prints the number.

use std::fmt::Write as _;
use std::time::Instant;

use super::*;

#[test]
fn decision_cost_for_twenty_entries_and_ten_caps() {
    let mut allow = String::new();
    for n in 0..20 {
        let _ = writeln!(
            allow,
            "      - {{ id: e{n}, host: [\"*.s{n}.example\", s{n}.example], paths: [\"/v{n}/**\", /x/*/y], networks: [\"eip155:8453\"], assets: [USDC], max: 0.04, caps: {{ hour: 1, day: 2, week: 3, month: 4, total: 5 }} }}"
        );
    }
    let policy = policy(&format!(
        "version: 1\ntimezone: America/New_York\nagents:\n  bot:\n    caps: {{ per_payment: 0.05, hour: 1, day: 2, week: 3, month: 4, total: 5 }}\n    rate: {{ per_minute: 10, per_hour: 100 }}\n    deny: [ {{ id: d, host: \"*.casino.example\" }} ]\n    allow:\n{allow}"
    ));
    let offers = vec![offer(0, BASE_USDC, 10_000), offer(1, POLYGON_USDC, 10_000)];
    let (all, books) = (challenge(offers), Books::default());
    let ask = Ask::url("https://api.s19.example/v19/data");
    ask.with(&policy, &all, &books, |input, decision| {
        assert_eq!(short(&decision), "e19");
        assert_eq!(decision.considered[0].checks.len(), 14);
        let rounds = 2_000;
        let begin = Instant::now();
        for _ in 0..rounds {
            std::hint::black_box(policy.evaluate(std::hint::black_box(input), &all, &books));
        }
        let each = begin.elapsed() / rounds;
        println!("one decision: {each:?}");
        assert!(each.as_micros() < 2_000, "{each:?}");
    });
}
