//! What is a condition, what it says when it is none, and what it answers.
#![allow(clippy::unwrap_used)]

use super::super::tests::{Books, NOW, payee, usdc};
use super::*;
use crate::payment::{AgentId, MicroUsd, Offer, Payer, WireEntry};
use crate::policy::context::{Context, Kind};
use crate::policy::{History, Host, Input, RuleId, Scope, Span};

fn keys() -> ContextKeys {
    [("confidence", Kind::Decimal), ("n", Kind::Integer), ("reason", Kind::Text), ("urgent", Kind::Flag)].into_iter().collect()
}

fn mistake(text: &str) -> String {
    Condition::parse(text, &keys()).map_or_else(|m| m.message, |_| "none".into())
}

#[test]
fn m3_2_what_is_no_condition_says_what_to_write() {
    for (text, expected) in [
        ("price.usd > 0.05", "money stands beside a bare number: write usd(\"0.05\")"),
        ("5 <= price.usd", "money stands beside a bare number: write usd(\"5\")"),
        ("price.usd == \"0.05\"", "money stands beside a text: write usd(\"0.05\")"),
        ("price.usd + 1 > usd(\"2\")", "money stands beside a bare number: write usd(\"1\")"),
        ("price.usd > spent.day + history.count", "money is only compared with money, such as usd(\"0.05\") or history.median_usd"),
        ("price.usd > usd(0.05)", "usd() takes the amount as text: write usd(\"0.05\")"),
        (
            "price.usd > usd(\"1e3\")",
            "usd(\"1e3\") is not an amount of US dollars: write digits with at most six decimals, such as 5 or 0.05 (no sign, exponent, $ or thousands mark)",
        ),
        (
            "price.usd > 1.5 * history.count",
            "`*`, `/` and `%` are not read in conditions: write pct(amount, 150) for one and a half times an amount",
        ),
        (
            "price.usd > pct(usd(\"1\"), 1.5)",
            "pct() takes an amount of money and a whole number of per cent: write pct(history.median_usd, 150)",
        ),
        ("price.usd > pct(2, 150)", "pct() takes an amount of money and a whole number of per cent: write pct(history.median_usd, 150)"),
        ("price.usd", "the condition is an amount of money, not true or false: compare it with something"),
        ("agent", "the condition is a text, not true or false: compare it with something"),
        (
            "nosuch > 1 || true",
            "unknown name `nosuch`; known are request, offer, price, session, spent, history, challenge, ctx, agent, now",
        ),
        (
            "prise.usd > usd(\"1\")",
            "unknown name `prise`; known are request, offer, price, session, spent, history, challenge, ctx, agent, now (did you mean `price`?)",
        ),
        ("request.hots == \"a\"", "unknown field of request `hots`; known are method, host, port, path (did you mean `host`?)"),
        ("price > usd(\"1\")", "`price` alone is no value: write one of its fields, such as price.usd"),
        ("request.path.length > 3", "`.length` is no field: fields are written as one name and one field, such as price.usd"),
        (
            "ctx.confidence > 0.8",
            "ctx.confidence may be absent, which would deny: write has(ctx.confidence) && … or !has(ctx.confidence) || …",
        ),
        ("has(ctx.confidence) && ctx.n > 1", "ctx.n may be absent, which would deny: write has(ctx.n) && … or !has(ctx.n) || …"),
        (
            "has(challenge.a) && challenge.b > 1",
            "challenge.b may be absent, which would deny: write has(challenge.b) && … or !has(challenge.b) || …",
        ),
        ("session.name == \"a\"", "session.name may be absent, which would deny: write has(session.name) && … or !has(session.name) || …"),
        ("has(price.usd)", "price.usd is always there: remove the has()"),
        (
            "has(ctx.confidnce)",
            "ctx.confidnce is not declared: write `context: { confidnce: decimal }` at the top of the file (did you mean ctx.confidence?)",
        ),
        ("has(ctx.n) && ctx.n > 1.5", "a whole number is compared with a score: both must be the same"),
        ("has(ctx.urgent) && ctx.urgent == 1", "true or false is compared with a whole number: both must be the same"),
        ("has(ctx.urgent) && ctx.urgent > false", "true or false is only equal to another (==, !=), not more or less"),
        ("request.host > \"a\"", "a text is only equal to another (==, !=), not more or less"),
        ("request.host == \"API.example\"", "request.host is lower-case ASCII: write \"api.example\""),
        ("request.host.endsWith(\".Example\")", "request.host is lower-case ASCII: write \".example\""),
        ("offer.payee in [\"0xAB\"]", "offer.payee is lower-case ASCII: write \"0xab\""),
        ("request.path.matches(\"a+\")", "`matches` is not read in conditions: write startsWith, endsWith or contains"),
        ("[1].all(x, x > 0)", "`all`, `exists`, `map` and `filter` are not read in conditions: write the cases out"),
        ("size(request.path) > 3", "unknown function `size`; known are usd, pct, has, startsWith, endsWith, contains"),
        ("request.port in []", "the list behind `in` is empty, so nothing is in it"),
        ("request.port in [\"80\"]", "a whole number is looked for among a text: both must be the same"),
        ("request.port in request.path", "behind `in` stands a list: write request.method in [\"GET\", \"POST\"]"),
        ("[1, 2]", "a list stands only behind `in`: write request.method in [\"GET\", \"POST\"]"),
        ("{\"a\": 1}", "maps and structures are not read in conditions"),
        ("!price.usd", "beside `!` stands an amount of money, not true or false: compare it with something"),
        ("true && request.port", "beside `&&` stands a whole number, not true or false: compare it with something"),
        ("true ? 1 : usd(\"1\")", "`? :` gives a whole number or an amount of money: both must be the same"),
        ("request.port + 1 > 3", "`+` and `-` stand only between amounts of money"),
        ("-price.usd > usd(\"1\")", "`-` stands only between amounts of money, or before a whole number"),
        (
            "has(ctx.confidence) && ctx.confidence > 0.8000000000000001",
            "a number has more than 15 digits, which would be rounded: write fewer",
        ),
        ("null == null", "bytes and null are not read in conditions; has(x) tells whether x is there"),
        ("request.port == 80u", "write whole numbers without `u`"),
    ] {
        assert_eq!(mistake(text), expected, "{text}");
    }
    for text in ["", "price.usd >", "price.usd > usd(\"1\"", "a b", "&&", "\"", "price..usd"] {
        assert!(mistake(text).starts_with("this is not CEL"), "{text}: {}", mistake(text));
    }
    assert!(mistake(&format!("{}true", "!".repeat(40))).contains("nested deeper than 32"));
    assert!(mistake(&format!("{}true{}", "(".repeat(40), ")".repeat(40))).contains("nested deeper than 32"));
    assert!(mistake(&format!("true || \"{}\" == agent", "x".repeat(512))).contains("longer than 512"));
}

/// What a test's facts are made of.
struct Case {
    context: &'static str,
    accepted: &'static str,
    history: History,
    price: i64,
    session: Option<&'static str>,
    spent: i64,
}

const PLAIN: Case = Case {
    context: "",
    accepted: "{}",
    history: History { count: 0, median: MicroUsd::ZERO, last: MicroUsd::ZERO, first: None },
    price: 50_000,
    session: None,
    spent: 0,
};

fn eval(text: &str, case: &Case) -> Result<bool, Fault> {
    let condition = Condition::parse(text, &keys()).unwrap_or_else(|m| panic!("{text}: {}", m.message));
    let (agent, host): (AgentId, Host) = ("bot".parse().unwrap(), Host::parse("api.example").unwrap());
    let session = case.session.map(|s| s.parse().unwrap());
    let context = Context::parse([case.context.as_bytes()], &keys());
    let scope = Scope::Agent(agent.clone());
    let mut books = Books { history: case.history, ..Books::spent(case.spent) };
    books.postings.extend(session.iter().map(|s: &crate::payment::SessionName| (Scope::Session(agent.clone(), s.clone()), NOW, 300_000)));
    let input = Input {
        agent: &agent,
        session: session.as_ref(),
        method: &http::Method::GET,
        https: true,
        host: &host,
        port: 443,
        path: "/v2/data",
        payer: Payer(payee(0xee).0),
        now: NOW,
        held: MicroUsd::ZERO,
        context: &context,
        granted: &[],
        bound_to: None,
        session_max: None,
    };
    let offer = Offer { wire: WireEntry { accepted: case.accepted.into(), resource: None, extensions: None }, ..usdc(50_000) };
    let facts = Facts {
        input: &input,
        offer: &offer,
        price: MicroUsd::new(case.price),
        entry: Some(&RuleId("e".into())),
        scope: &scope,
        session_max: Some(MicroUsd::new(1_000_000)),
        span: &|_| Span::ALL,
        books: &books,
    };
    condition.holds(&facts)
}

#[test]
fn every_field_has_its_value() {
    let case = Case {
        context: "confidence=0.9, n=7, reason=\"audit\", urgent",
        accepted: r#"{"extra":{"quality":0.75}}"#,
        history: History { count: 3, median: MicroUsd::new(20_000), last: MicroUsd::new(30_000), first: Some(MicroUsd::new(10_000)) },
        session: Some("s"),
        spent: 250_000,
        ..PLAIN
    };
    for text in [
        "request.method == \"GET\" && request.host == \"api.example\" && request.port == 443 && request.path == \"/v2/data\"",
        "offer.protocol == \"x402v2\" && offer.scheme == \"exact\" && offer.flow == \"authorization\" && offer.network == \"eip155:8453\"",
        "offer.asset == \"USDC\" && offer.amount == 50000",
        "offer.payee == \"0x1111111111111111111111111111111111111111\"",
        "price.usd == usd(\"0.05\") && agent == \"bot\" && now == 1795262400",
        "has(session.name) && session.name == \"s\"",
        "has(session.spent_usd) && session.spent_usd == usd(\"0.3\")",
        "has(session.remaining_usd) && session.remaining_usd == usd(\"0.7\")",
        "spent.hour == usd(\"0.25\") && spent.day == spent.week && spent.month == spent.total",
        "history.count == 3 && has(history.median_usd) && history.median_usd == usd(\"0.02\")",
        "has(history.last_usd) && history.last_usd == usd(\"0.03\") && has(history.first_usd) && history.first_usd == usd(\"0.01\")",
        "has(challenge.quality) && challenge.quality == 0.75",
        "has(ctx.confidence) && ctx.confidence == 0.9 && has(ctx.n) && ctx.n == 7",
        "has(ctx.reason) && ctx.reason == \"audit\" && has(ctx.urgent) && ctx.urgent",
        "request.path.startsWith(\"/v2\") && request.path.endsWith(\"data\") && request.path.contains(\"2/d\")",
        "request.method in [\"POST\", \"GET\"] && request.port in [443, 8443] && price.usd in [usd(\"0.05\")]",
        "price.usd - usd(\"0.01\") + usd(\"0.02\") == usd(\"0.06\")",
        "pct(usd(\"0.000001\"), 150) == usd(\"0.000002\")",
        "(price.usd > usd(\"1\") ? 1 : 2) == 2",
    ] {
        assert_eq!(eval(text, &case), Ok(true), "{text}");
    }
}

#[test]
fn the_seed_case_works_from_the_agent_and_from_the_seller() {
    let ours = "!has(ctx.confidence) || ctx.confidence <= 0.8";
    let theirs = "!has(challenge.confidence) || challenge.confidence <= 0.8";
    for (value, denied) in [("0.8", true), ("0.800", true), ("0.801", false), ("0.799", true), ("1", false), ("-5", true), ("", true)] {
        let context = if value.is_empty() { String::new() } else { format!("confidence={value}") };
        let accepted = if value.is_empty() { "{}".to_owned() } else { format!(r#"{{"extra":{{"confidence":{value}}}}}"#) };
        let case = Case { context: context.leak(), accepted: accepted.leak(), ..PLAIN };
        assert_eq!((eval(ours, &case), eval(theirs, &case)), (Ok(denied), Ok(denied)), "{value}");
    }
}

#[test]
fn m3_7_one_side_absorbs_the_error_of_the_other_and_only_a_whole_error_is_one() {
    for (text, expected) in [
        ("has(ctx.n) || ctx.n > 1", Err(Fault)),
        ("ctx.n > 1 || true || has(ctx.n)", Ok(true)),
        ("true || ctx.n > 1 || has(ctx.n)", Ok(true)),
        ("ctx.n > 1 && false && has(ctx.n)", Ok(false)),
        ("false && ctx.n > 1 && has(ctx.n)", Ok(false)),
        ("ctx.n > 1 && true && !has(ctx.n)", Err(Fault)),
        ("!(ctx.n > 1) || has(ctx.n)", Err(Fault)),
        ("has(ctx.n) ? ctx.n > 1 : true", Ok(true)),
        ("!has(ctx.n) || ctx.n > 1", Ok(true)),
        ("has(history.median_usd) && price.usd > pct(history.median_usd, 150)", Ok(false)),
        ("history.count >= 3 && price.usd > pct(history.median_usd, 150)", Ok(false)),
        ("price.usd > pct(history.median_usd, 150)", Err(Fault)),
    ] {
        assert_eq!(eval(text, &PLAIN), expected, "{text}");
    }
}

#[test]
fn sums_beyond_what_money_can_be_are_an_error_and_per_cent_rounds_up() {
    let case = Case { spent: i64::MAX, ..PLAIN };
    assert_eq!(eval("spent.total + usd(\"0.000001\") > usd(\"1\")", &case), Err(Fault));
    assert_eq!(eval("pct(spent.total, 1000000) > usd(\"1\")", &case), Err(Fault));
    assert_eq!(eval("pct(spent.total, 100) == spent.total", &case), Ok(true));
    for (micro, per_cent, expected) in [(1, 150, 2), (2, 150, 3), (3, 33, 1), (100, 33, 33), (0, 150, 0), (-1, 150, -1), (1, 0, 0)] {
        assert_eq!(percent(micro, per_cent), Some(expected), "{micro} {per_cent}");
    }
    let jump = "has(history.median_usd) && history.count >= 3 && price.usd > pct(history.median_usd, 150)";
    for (median, price, asks) in [(20_000, 30_000, false), (20_000, 30_001, true), (20_001, 30_002, false), (20_001, 30_003, true)] {
        let history = History { count: 3, median: MicroUsd::new(median), ..PLAIN.history };
        assert_eq!(eval(jump, &Case { history, price, ..PLAIN }), Ok(asks), "{median} {price}");
    }
}

#[test]
fn m3_2_length_depth_and_digits_are_bounded_inclusively() {
    let text = |n: usize| format!("\"{}\" == agent", "x".repeat(n - 11));
    assert_eq!(mistake(&text(512)), "none");
    assert!(mistake(&text(513)).contains("longer than 512"));
    let brackets = |n: usize| format!("{}true{}", "(".repeat(n), ")".repeat(n));
    assert_eq!(mistake(&brackets(32)), "none");
    assert!(mistake(&brackets(33)).contains("nested deeper than 32"));
    assert_eq!(mistake(&vec!["(true)"; 40].join(" && ")), "none", "side by side is not nested");
    let sums = |n: usize| mistake(&format!("1{}", "+1".repeat(n)));
    assert_eq!(sums(128), "`+` and `-` stand only between amounts of money");
    assert!(sums(129).contains("nested deeper than 32"));
    let digits = "a number has more than 15 digits, which would be rounded: write fewer";
    for (text, expected) in [
        ("has(ctx.confidence) && ctx.confidence > 0.12345678901234", "none"),
        ("has(ctx.confidence) && ctx.confidence > 0.123456789012345", digits),
        ("agent == \"a\" || has(ctx.confidence) && ctx.confidence > 0.123456789012345", digits),
        ("agent == \"1.00000000000000000\"", "none"),
        ("agent == '1.00000000000000000'", "none"),
        ("offer.amount == 1234567890123456", "none"),
        ("request.port > -1", "none"),
        ("price.usd < pct(price.usd, 1000000)", "none"),
        (
            "price.usd < pct(price.usd, 1000001)",
            "pct() takes an amount of money and a whole number of per cent: write pct(history.median_usd, 150)",
        ),
    ] {
        assert_eq!(mistake(text), expected, "{text}");
    }
}

#[test]
fn numbers_are_compared_at_the_edge_and_a_past_without_purchases_has_no_price() {
    for (text, expected) in [
        ("request.port < 444", true),
        ("request.port < 443", false),
        ("request.port <= 443", true),
        ("request.port > 442", true),
        ("request.port > 443", false),
        ("request.port >= 443", true),
        ("request.port != 443", false),
        ("request.port != 442", true),
        ("request.port > -1", true),
        ("request.port > -(1)", true),
        ("has(history.median_usd)", false),
        ("has(history.last_usd)", false),
        ("has(history.first_usd)", false),
    ] {
        assert_eq!(eval(text, &PLAIN), Ok(expected), "{text}");
    }
}

/// An expression over flags and small numbers that the library's interpreter understands as well.
fn shared() -> impl proptest::strategy::Strategy<Value = String> {
    use proptest::prelude::*;
    let atom = prop_oneof![
        Just("true".to_owned()),
        Just("false".to_owned()),
        (0_i64..4, 0_i64..4, prop::sample::select(vec!["<", "<=", ">", ">=", "==", "!="])).prop_map(|(a, b, o)| format!("{a} {o} {b}")),
        (0_i64..4).prop_map(|n| format!("{n} in [1, 2]")),
        // Absent, in both.
        Just("ctx.n > 1".to_owned()),
        Just("has(ctx.n)".to_owned()),
        (0_u8..3).prop_map(|n| format!("\"{}\".startsWith(\"a\")", ["", "a", "ba"][usize::from(n)])),
    ];
    atom.prop_recursive(4, 12, 3, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a} && {b})")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a} || {b})")),
            inner.clone().prop_map(|a| format!("!({a})")),
            (inner.clone(), inner.clone(), inner).prop_map(|(a, b, c)| format!("({a} ? {b} : {c})")),
        ]
    })
}

proptest::proptest! {
    #[test]
    fn the_librarys_interpreter_answers_the_same(text in shared()) {
        let text = format!("({text}) || (has(ctx.n) && false)");
        proptest::prop_assume!(text.chars().count() <= MAX_CHARS);
        let mut context = cel::Context::default();
        context.add_variable_from_value("ctx", std::collections::HashMap::<String, i64>::new());
        let theirs = cel::Program::compile(&text).unwrap().execute(&context).ok();
        let ours = eval(&text, &PLAIN).ok();
        proptest::prop_assert_eq!(ours.map(cel::Value::Bool), theirs, "{}", text);
    }

    #[test]
    fn reading_never_panics(text in "[a-z.()!&|<>=0-9\" ,?:+*\\[\\]-]{0,80}") {
        let _ = Condition::parse(&text, &keys());
    }

    #[test]
    fn what_is_read_is_answered_without_a_panic(text in "(price.usd|spent.day|usd\\(\"[0-9]{1,4}\"\\)|request.port|now|[0-9]{1,3}) (<|>|==|!=|\\+|-) (price.usd|spent.day|usd\\(\"[0-9]{1,4}\"\\)|request.port|now|[0-9]{1,3}) (<|>|==) usd\\(\"1\"\\)") {
        if Condition::parse(&text, &keys()).is_ok() {
            let _ = eval(&text, &PLAIN);
        }
    }
}

#[test]
fn m2_5_what_payments_change_is_found_wherever_it_stands() {
    for (text, reads) in [
        ("true", false),
        ("price.usd > usd(\"1\") && request.port == 443 && agent == \"bot\" && now > 5", false),
        ("has(ctx.n) && ctx.n > 1 || has(challenge.score) || has(session.name)", false),
        ("price.usd in [usd(\"1\")]", false),
        ("request.host.endsWith(\".example\")", false),
        ("spent.hour > usd(\"1\")", true),
        ("history.count > 1", true),
        ("history.median_usd > usd(\"1\")", true),
        ("history.last_usd > usd(\"1\")", true),
        ("has(history.first_usd)", true),
        ("has(session.spent_usd)", true),
        ("has(session.remaining_usd)", true),
        ("history.count > 1 && true", true),
        ("true && history.count > 1", true),
        ("history.count > 1 || true", true),
        ("true || history.count > 1", true),
        ("!(history.count > 1)", true),
        ("(true ? price.usd : spent.day) > usd(\"1\")", true),
        ("(history.count > 1 ? usd(\"1\") : price.usd) > usd(\"1\")", true),
        ("pct(spent.day, 50) > usd(\"1\")", true),
        ("price.usd + spent.day > usd(\"1\")", true),
        ("price.usd - spent.day > usd(\"1\")", true),
        ("history.count in [1, 2]", true),
    ] {
        let condition = Condition::parse(text, &keys()).unwrap_or_else(|m| panic!("{text}: {}", m.message));
        assert_eq!(condition.reads_books(), reads, "{text}");
    }
}

#[test]
fn a_record_keeps_the_names_that_a_condition_can_write_and_no_others() {
    let (longest, longer) = ("n".repeat(64), "n".repeat(65));
    for (name, kept) in [
        ("a", true),
        ("Z9", true),
        ("_a", true),
        ("a_1", true),
        ("1a", false),
        ("", false),
        ("a b", false),
        ("a-b", false),
        ("é", false),
        (longest.as_str(), true),
        (longer.as_str(), false),
    ] {
        let wire = WireEntry { accepted: format!("{{\"{name}\":1}}").into(), resource: None, extensions: None };
        let rest = if kept { format!(",\"{name}\":\"1\"") } else { String::new() };
        assert_eq!(*bare(&wire, 7).accepted, *format!("{{\"#\":\"0007\"{rest}}}"), "{name}");
    }
}
