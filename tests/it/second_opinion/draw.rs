//! Policies, requests, offers and pasts that are drawn from a tape of numbers. An empty tape is the plainest case, so a failure
//! shrinks towards it. Amounts and times come from short lists around the same boundaries, so that they meet often.

use std::fmt::Write as _;

use jiff::{SignedDuration, Timestamp};

/// One policy and some cases for it, as text.
pub(super) struct Drawn {
    pub(super) policy: String,
    pub(super) cases: String,
}

struct Tape {
    numbers: std::vec::IntoIter<u16>,
}

impl Tape {
    fn below(&mut self, n: usize) -> usize {
        usize::from(self.numbers.next().unwrap_or(0)) % n
    }

    fn one<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.below(of.len())]
    }

    /// True once in `n`, never on an empty tape.
    fn rarely(&mut self, n: usize) -> bool {
        self.below(n) == n - 1
    }

    fn maybe(&mut self, n: usize, text: &str) -> String {
        if self.rarely(n) { text.to_owned() } else { String::new() }
    }
}

const ZONES: [&str; 8] = [
    "UTC",
    "America/Lima",
    "Europe/Berlin",
    "America/New_York",
    "America/Santiago",
    "Australia/Lord_Howe",
    "Asia/Kathmandu",
    "Pacific/Apia",
];
/// Changes of clocks, edges of periods, and quiet times.
const TIMES: [&str; 17] = [
    "2026-11-27T15:30:00Z",
    "2026-11-27T15:00:00Z",
    "2026-11-28T05:00:00Z",
    "2026-11-23T00:00:00Z",
    "2026-11-30T23:59:59.999Z",
    "2026-12-01T05:00:00Z",
    "2027-01-01T00:00:00Z",
    "2026-12-31T23:30:00Z",
    "2026-03-29T01:00:00Z",
    "2026-10-25T01:15:00Z",
    "2026-11-01T06:30:00Z",
    "2026-03-08T07:00:00Z",
    "2026-04-05T03:30:00Z",
    "2026-09-06T04:00:00Z",
    "2026-04-04T15:15:00Z",
    "2026-10-03T15:30:00Z",
    "2011-12-30T10:00:00Z",
];
const SECOND: i64 = 1000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;
/// How long ago something was paid, milliseconds; one more or less is drawn on top.
const AGES: [i64; 22] = [
    SECOND,
    10 * SECOND,
    MINUTE,
    10 * MINUTE,
    15 * MINUTE,
    30 * MINUTE,
    HOUR,
    90 * MINUTE,
    2 * HOUR,
    5 * HOUR,
    12 * HOUR,
    DAY - 24 * MINUTE,
    DAY,
    DAY + 6 * MINUTE,
    DAY + 12 * MINUTE,
    DAY + 24 * MINUTE,
    2 * DAY,
    5 * DAY,
    7 * DAY,
    28 * DAY,
    30 * DAY,
    400 * DAY,
];
const PRICES: [&str; 9] = ["0.05", "0.050001", "0.049999", "0.10", "0.100001", "0.15", "0.000001", "0", "0.20"];
const LIMITS: [&str; 5] = ["0.10", "0.15", "0.20", "0.30", "0.50"];
const NETWORKS: [&str; 4] = ["eip155:8453", "eip155:137", "eip155:1", "eip155:84532"];
const HOSTS: [&str; 6] = ["api.example", "sub.api.example", "a.b.api.example", "other.example", "127.0.0.1", "API.Example."];
const PATTERNS: [&str; 6] =
    ["api.example", "\"*.api.example\"", "[api.example, other.example]", "127.0.0.1", "other.example", "sub.api.example"];
const PATHS: [&str; 8] = ["/v2/data", "/v2", "/v2/", "/v2/a/b", "/", "/v2/data.json", "/v3/a", "/v2//data"];
const PATH_PATTERNS: [&str; 6] = ["/v2/**", "/v2/*", "/v2/data*", "/**", "/v2", "/*/a"];
const METHODS: [&str; 4] = ["GET", "POST", "PUT", "HEAD"];

fn payee(n: usize) -> String {
    let digit = ["1", "2", "3"][n];
    format!("0x{}", digit.repeat(40))
}

pub(super) fn draw(tape: Vec<u16>) -> Drawn {
    let mut tape = Tape { numbers: tape.into_iter() };
    let policy = policy(&mut tape);
    let mut cases = "version: 1\ncases:\n".to_owned();
    for n in 0..3 {
        cases += &case(&mut tape, n);
    }
    Drawn { policy, cases }
}

fn policy(tape: &mut Tape) -> String {
    let mut out = format!("version: 1\ntimezone: {}\n", tape.one(&ZONES));
    out += "context: { confidence: decimal, customer: text }\n";
    let unmatched = tape.one(&["deny", "deny", "{ ask: boss }"]);
    let pay_to = tape.one(&["any", "pinned"]);
    let flows = tape.one(&["[authorization]", "[authorization, upfront]", "[upfront, authorization]"]);
    writeln!(out, "defaults: {{ unmatched: {unmatched}, pay_to: {pay_to}, flows: {flows} }}").expect("a string");
    writeln!(out, "groups:\n  bots: {{ caps: {{ {} }}{} }}", caps(tape), rate(tape, 6)).expect("a string");
    out += "agents:\n";
    for name in ["bot", "mate"] {
        out += &agent(tape, name);
    }
    let (budgets, names) = budgets(tape);
    out += &budgets;
    out += tape.one(&["", "risk: { payee_change: { ask: finance } }\n", "risk: { payee_change: deny }\n"]);
    let able = names[..tape.below(names.len() + 1)].join(", ");
    let may_exceed = if able.is_empty() { able } else { format!(", may_exceed: [{able}]") };
    writeln!(out, "approvers:\n  finance: {{ quorum: 1, timeout: 10m{may_exceed} }}\n  boss: {{ quorum: 1, timeout: 5m }}")
        .expect("a string");
    out
}

/// Some caps: from the payment to the month none is above the next, or the file would not load.
fn caps(tape: &mut Tape) -> String {
    let ladder = ["0.10", "0.15", "0.20", "0.30", "0.50", "100"];
    let least = [2, 0, 1][tape.below(3)];
    let mut step = least;
    let mut out = format!("per_payment: {}", ladder[step]);
    for key in ["hour", "day", "week"] {
        if tape.rarely(3) {
            step += tape.below(ladder.len() - step);
            write!(out, ", {key}: {}", ladder[step]).expect("a string");
        }
    }
    let month = if tape.rarely(3) { step + tape.below(ladder.len() - step) } else { 5 };
    write!(out, ", month: {}", ladder[month]).expect("a string");
    if tape.rarely(4) {
        write!(out, ", total: {}", ladder[month + tape.below(ladder.len() - month)]).expect("a string");
    }
    for key in ["per_host_day", "per_payee_day"] {
        if tape.rarely(6) {
            write!(out, ", {key}: {}", tape.one(&ladder[least..])).expect("a string");
        }
    }
    if tape.rarely(4) {
        write!(out, ", rolling: {{ 24h: {} }}", tape.one(&ladder[least..])).expect("a string");
    }
    out
}

fn rate(tape: &mut Tape, n: usize) -> String {
    if tape.rarely(n) { format!(", rate: {{ {}: {} }}", tape.one(&["per_minute", "per_hour"]), 1 + tape.below(3)) } else { String::new() }
}

fn agent(tape: &mut Tape, name: &str) -> String {
    let mut out = format!("  {name}:\n");
    out += &tape.maybe(3, "    group: bots\n");
    writeln!(out, "    caps: {{ {} }}", caps(tape)).expect("a string");
    if tape.rarely(5) {
        writeln!(out, "    rate: {{ {}: {} }}", tape.one(&["per_minute", "per_hour"]), 1 + tape.below(3)).expect("a string");
    }
    if tape.rarely(5) {
        let days = tape.one(&["mon-fri", "[sat, sun]", "fri", "sat-mon"]);
        let (from, to) = (tape.one(&["09:00", "00:00", "02:30", "22:00"]), tape.one(&["17:00", "00:00", "03:30", "09:00", "02:30"]));
        let holidays = tape.maybe(3, ", holidays: [2026-11-27, 2026-12-31]");
        writeln!(out, "    hours: {{ days: {days}, from: \"{from}\", to: \"{to}\"{holidays} }}").expect("a string");
    }
    out += "    allow:\n";
    for n in 0..=tape.below(3) {
        writeln!(out, "      - {{ id: e{n}, {} }}", entry(tape)).expect("a string");
    }
    if tape.rarely(4) {
        let what = tape.one(&[
            "host: other.example",
            "paths: [\"/v3/**\"]",
            "methods: [POST]",
            "pay_to: [\"0x3333333333333333333333333333333333333333\"]",
            "host: \"*.api.example\", methods: [GET]",
        ]);
        writeln!(out, "    deny: [ {{ id: no, {what} }} ]").expect("a string");
    }
    out += &rules(tape);
    if tape.rarely(4) {
        writeln!(out, "    sessions: {{ max: {}{} }}", tape.one(&LIMITS), tape.maybe(3, ", required: true")).expect("a string");
    }
    out
}

fn entry(tape: &mut Tape) -> String {
    let mut out = format!("host: {}", tape.one(&PATTERNS));
    if tape.rarely(3) {
        write!(out, ", paths: [\"{}\"]", tape.one(&PATH_PATTERNS)).expect("a string");
    }
    out += &tape.maybe(5, ", methods: [GET, PUT]");
    out += &tape.maybe(5, ", ports: [443, 8443]");
    if tape.rarely(3) {
        let networks = tape.one(&["\"eip155:8453\"", "\"eip155:8453\", \"eip155:84532\"", "\"eip155:137\", \"eip155:1\""]);
        write!(out, ", networks: [{networks}]").expect("a string");
    }
    out += &tape.maybe(4, ", assets: [USDC]");
    out += &tape.maybe(4, ", plain_http: true");
    out += &tape.maybe(3, ", allow_zero: true");
    if tape.rarely(3) {
        write!(out, ", max: {}", tape.one(&["0.05", "0.10", "0.049999"])).expect("a string");
    }
    out += tape.one(&["", "", "", ", pay_to: pinned", ", pay_to: any", ", pay_to: [\"0x1111111111111111111111111111111111111111\"]"]);
    out += tape.one(&["", "", "", ", flows: [upfront]", ", flows: [upfront, authorization]"]);
    if tape.rarely(4) {
        write!(out, ", caps: {{ {}: {} }}", tape.one(&["hour", "day", "week", "month", "total"]), tape.one(&LIMITS)).expect("a string");
    }
    out
}

const CONDITIONS: [&str; 14] = [
    "price.usd > usd(\"0.10\")",
    "!has(ctx.confidence) || ctx.confidence <= 0.8",
    "!has(challenge.confidence) || challenge.confidence <= 0.8",
    "history.count >= 2 && price.usd > pct(history.median_usd, 150)",
    "price.usd > pct(history.first_usd, 100)",
    "history.count > 0 && price.usd > history.last_usd + usd(\"0.01\")",
    "spent.day + price.usd > usd(\"0.15\")",
    "spent.hour > usd(\"0.05\") && spent.week >= usd(\"0.10\") || spent.month - price.usd > usd(\"0.30\")",
    "has(session.remaining_usd) && session.remaining_usd < usd(\"0.10\")",
    "has(ctx.confidence) && ctx.confidence < 0.5 || price.usd > pct(history.median_usd, 100)",
    "request.method == \"POST\" || request.port != 443",
    "request.host == \"api.example\" && agent == \"bot\" && offer.flow == \"upfront\"",
    "has(ctx.customer) && ctx.customer == \"acme\" && price.usd >= usd(\"0.05\")",
    "!(spent.total < usd(\"0.50\")) && offer.network == \"eip155:8453\"",
];

fn rules(tape: &mut Tape) -> String {
    let count = [0, 0, 1, 1, 2, 3][tape.below(6)];
    let mut out = String::new();
    for n in 0..count {
        out += if n == 0 { "    rules:\n" } else { "" };
        let then = tape.one(&["deny", "{ ask: finance }", "{ ask: boss }"]);
        writeln!(out, "      - {{ id: r{n}, when: '{}', then: {then} }}", tape.one(&CONDITIONS)).expect("a string");
    }
    out
}

/// Up to three budgets, and their names.
fn budgets(tape: &mut Tape) -> (String, Vec<&'static str>) {
    let count = tape.below(4);
    let mut out = String::new();
    for n in 0..count {
        out += if n == 0 { "budgets:\n" } else { "" };
        let window = tape.one(&["day", "week", "month", "hour", "total"]);
        let over = tape.one(&["", ", over: ask"]);
        let limit = tape.one(&LIMITS);
        let rest = match n {
            0 => {
                format!("name: everything, limit: {limit}, window: {window}, agents: all{}", tape.one(&["", ", over: ask", ", hard: true"]))
            }
            1 => format!("name: team, limit: {limit}, window: {window}, agents: {}{over}", tape.one(&["[bot, mate]", "[mate]", "[bot]"])),
            _ => format!("name: per-customer, limit: {limit}, window: {window}, per: customer{over}"),
        };
        writeln!(out, "  - {{ {rest} }}").expect("a string");
    }
    (out, ["everything", "team", "per-customer"][..count].to_vec())
}

fn case(tape: &mut Tape, n: usize) -> String {
    let at: Timestamp = tape.one(&TIMES).parse().expect("a time");
    let agent = tape.one(&["bot", "bot", "bot", "mate"]);
    let mut out = format!("  - name: case {n}\n    agent: {agent}\n    at: \"{at}\"\n");
    out += tape.one(&["", "    session: s1\n", "    session: s2\n"]);
    if tape.rarely(2) {
        let context = [
            "confidence=0.9",
            "confidence=0.8, customer=\\\"acme\\\"",
            "customer=\\\"acme\\\"",
            "confidence=0.4",
            "confidence=0.9, customer=\\\"zenith\\\"",
        ];
        writeln!(out, "    context: \"{}\"", tape.one(&context)).expect("a string");
    }
    let scheme = if tape.rarely(6) { "http" } else { "https" };
    let port = tape.one(&["", "", "", "", ":8443", ":443"]);
    let method = METHODS[[0, 0, 0, 0, 1, 1, 2, 3][tape.below(8)]];
    let host = HOSTS[[0, 0, 0, 1, 2, 3, 4, 5][tape.below(8)]];
    writeln!(out, "    request: {method} {scheme}://{host}{port}{}", tape.one(&PATHS)).expect("a string");
    out += "    offers:\n";
    for _ in 0..=tape.below(3) {
        out += &offer(tape);
    }
    let paid = tape.below(6);
    for n in 0..paid {
        out += if n == 0 { "    paid:\n" } else { "" };
        out += &payment(tape, at);
    }
    if tape.rarely(4) {
        writeln!(out, "    granted: {}", tape.one(&["[finance]", "[boss]", "[boss, finance]"])).expect("a string");
    }
    out += &tape.maybe(30, "    frozen: { agents: [mate], hosts: [other.example] }\n");
    out + "    expect: { verdict: any }\n"
}

fn offer(tape: &mut Tape) -> String {
    let network = NETWORKS[[0, 0, 0, 0, 1, 2, 3][tape.below(7)]];
    let payee = payee([0, 0, 0, 1, 2][tape.below(5)]);
    let flow = tape.one(&["", "", "", ", flow: upfront"]);
    let extra = tape.one(&["", "", ", extra: { confidence: 0.9 }", ", extra: { confidence: 0.8 }"]);
    let asset = if tape.rarely(25) { "\"0x7777777777777777777777777777777777777777\"" } else { "USDC" };
    format!("      - {{ usd: {}, network: \"{network}\", asset: {asset}, payee: \"{payee}\"{flow}{extra} }}\n", tape.one(&PRICES))
}

fn payment(tape: &mut Tape, now: Timestamp) -> String {
    let age = AGES[tape.below(AGES.len())] + [0, 1, -1][tape.below(3)];
    let at = now - SignedDuration::from_millis(age);
    let mut out = format!("      - {{ at: \"{at}\", usd: {}", PRICES[tape.below(6)]);
    write!(out, ", agent: {}, entry: {}", tape.one(&["bot", "bot", "bot", "mate"]), tape.one(&["e0", "e0", "e1", "e2"])).expect("a string");
    out += tape.one(&["", "", ", host: api.example", ", host: other.example"]);
    out += tape.one(&["", "", "", ", method: POST", ", method: GET"]);
    write!(out, ", payee: \"{}\"", payee([0, 0, 0, 1][tape.below(4)])).expect("a string");
    out += tape.one(&["", "", "", ", network: \"eip155:8453\"", ", network: \"eip155:137\""]);
    out += tape.one(&["", ", session: s1", ", session: s2"]);
    out += tape.one(&["", ", customer: acme", ", customer: zenith"]);
    if tape.rarely(4) {
        write!(out, ", count: {}, every: {}", 2 + tape.below(3), tape.one(&["0s", "1s"])).expect("a string");
    }
    out += &tape.maybe(5, ", delivered: false");
    out + " }\n"
}
