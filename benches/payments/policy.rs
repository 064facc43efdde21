//! What a large policy costs: a decision with a hundred rules, twenty budgets and three conditions, and ten thousand agents in one
//! file.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use http::Method;
use tollpass::ledger::{Ledger, Options};
use tollpass::payment::{AgentId, Challenge, MicroUsd, Payer, Timestamp};
use tollpass::policy::{Context, Host, Input, Policy, Source};
use tollpass::{clock, protocol};

use super::fixture;

/// One agent with eighty allow and seventeen deny entries and three conditions, under twenty shared budgets, among `agents` others.
fn text(agents: usize) -> String {
    let mut text = String::from("version: 1\ncontext: { confidence: decimal, customer: text }\nagents:\n");
    for n in 0..agents {
        let _ = writeln!(
            text,
            "  other-{n}: {{ caps: {{ per_payment: 1, day: 10 }}, allow: [ {{ id: e, host: s.example, networks: [\"eip155:84532\"], assets: [USDC] }} ] }}"
        );
    }
    text.push_str("  bot:\n    caps: { per_payment: 5, hour: 900000, day: 9000000, week: 90000000, month: 900000000, total: 9999999999, rolling: { 24h: 9000000 }, per_host_day: 8000000, per_payee_day: 8000000 }\n    rate: { per_minute: 1000000, per_hour: 1000000 }\n    hours: { days: mon-sun }\n    deny:\n");
    for n in 0..17 {
        let _ = writeln!(text, "      - {{ id: d{n}, host: [d{n}.example, \"*.d{n}.example\"] }}");
    }
    text.push_str("    rules:\n      - { id: confidence, when: '!has(ctx.confidence) || ctx.confidence <= 0.8', then: deny }\n      - { id: jump, when: 'history.count >= 3 && has(history.median_usd) && price.usd > pct(history.median_usd, 150)', then: deny }\n      - { id: dear, when: 'price.usd > usd(\"0.10\") && spent.day + price.usd > usd(\"5000000\")', then: deny }\n    allow:\n");
    for n in 0..79 {
        let _ = writeln!(
            text,
            "      - {{ id: other{n}, host: [s{n}.example, \"*.s{n}.example\"], paths: [\"/v{n}/**\"], networks: [\"eip155:84532\"], assets: [USDC], pay_to: any }}"
        );
    }
    text.push_str("      - { id: seller, host: seller.example, methods: [GET], paths: [\"/v2/**\"], networks: [\"eip155:84532\"], assets: [USDC], pay_to: any, caps: { day: 9000000 } }\nbudgets:\n");
    for n in 0..20 {
        let window = ["hour", "day", "week", "month", "total"][n % 5];
        let who = match n % 4 {
            0 => "agents: all",
            1 => "per: customer",
            _ => "agents: [bot, other-0]",
        };
        let _ = writeln!(text, "  - {{ name: b{n}, limit: 9000000, window: {window}, {who} }}");
    }
    text
}

struct Case {
    policy: Policy,
    challenge: Challenge,
    context: Context,
    agent: AgentId,
    host: Host,
}

impl Case {
    fn new(agents: usize) -> (Self, Duration) {
        let source = Source { name: "bench.yaml".into(), text: text(agents) };
        let began = Instant::now();
        let policy = Policy::parse(&[source], 0).unwrap();
        let loaded = began.elapsed();
        let challenge = protocol::parse_head(&fixture::headers(), policy.assets()).unwrap().unwrap();
        let context = Context::parse([&b"confidence=0.9, customer=\"acme\""[..]], policy.context_keys());
        (Self { policy, challenge, context, agent: "bot".parse().unwrap(), host: Host::parse("seller.example").unwrap() }, loaded)
    }

    /// p50 and p99 of one decision over books with a past, at moments that are never the same.
    fn decisions(&self, ledger: &Ledger) -> (Duration, Duration) {
        let start = clock::read().wall;
        let mut times: Vec<Duration> = (0..20_000).map(|n| self.decide(ledger, start.plus_millis(n))).collect();
        times.sort_unstable();
        (times[times.len() / 2], times[times.len() * 99 / 100])
    }

    fn decide(&self, ledger: &Ledger, now: Timestamp) -> Duration {
        let input = Input {
            agent: &self.agent,
            session: None,
            method: &Method::GET,
            https: true,
            host: &self.host,
            port: 443,
            path: "/v2/data",
            payer: Payer("0x1111111111111111111111111111111111111111".parse().unwrap()),
            now,
            context: &self.context,
            granted: &[],
            held: MicroUsd::ZERO,
            bound_to: None,
            session_max: None,
        };
        let began = Instant::now();
        let decision = ledger.read(|books| self.policy.evaluate(&input, &self.challenge, books));
        let took = began.elapsed();
        assert!(decision.verdict.is_ok(), "{:?}", decision.verdict);
        took
    }
}

/// Prints the section.
pub(super) fn report() {
    println!("\n## A large policy\n\n| policy | load | decision p50 | p99 |\n|---|---:|---:|---:|");
    for agents in [1, 10_000] {
        let (case, loaded) = Case::new(agents);
        let dir = tempfile::tempdir().unwrap();
        let options = Options { dir: dir.path().into(), ephemeral_ok: true, accept_clock: false };
        let ledger = Ledger::open(&options, clock::read()).unwrap();
        ledger.follow(&case.policy);
        let (p50, p99) = case.decisions(&ledger);
        println!("| 100 rules, 20 budgets, 3 conditions, {} agents | {loaded:.1?} | {p50:.1?} | {p99:.1?} |", agents + 1);
    }
}
