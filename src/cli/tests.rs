#![allow(clippy::unwrap_used)]
use super::*;
use clap::CommandFactory as _;
use std::fs;

const KEY: &str = "0x59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d";

/// Runs a command line; output and exit status.
fn tollpass(args: &[&str]) -> (String, u8) {
    let cli = Cli::try_parse_from(std::iter::once("tollpass").chain(args.iter().copied())).unwrap();
    let mut out = Vec::new();
    let outcome = run(cli.command, &mut out);
    let mut text = String::from_utf8(out).unwrap();
    match outcome {
        Ok(()) => (text, 0),
        Err(Failure::Config(more)) => {
            text.push_str(&more);
            (text, 2)
        }
        Err(Failure::Failed(e)) => {
            text.push_str(&format!("{e:#}"));
            (text, 1)
        }
    }
}

/// A folder as `init` leaves it, with the key in a file instead of the environment.
fn ready() -> tempfile::TempDir {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(tollpass(&["init", "--dir", dir.path().to_str().unwrap()]).1, 0);
    let config = dir.path().join("tollpass.yaml");
    fs::write(dir.path().join("key"), KEY).unwrap();
    fs::set_permissions(dir.path().join("key"), fs::Permissions::from_mode(0o400)).unwrap();
    fs::write(&config, fs::read_to_string(&config).unwrap().replace("key: env:TOLLPASS_DEV_KEY", "key: file:key")).unwrap();
    dir
}

fn at(dir: &tempfile::TempDir, name: &str) -> String {
    dir.path().join(name).display().to_string()
}

#[test]
fn the_command_line_is_consistent_and_every_command_shows_an_example() {
    Cli::command().debug_assert();
    fn walk(command: &clap::Command) {
        let subcommands: Vec<_> = command.get_subcommands().filter(|c| c.get_name() != "help" && !c.is_hide_set()).collect();
        if subcommands.is_empty() {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains("Example") && help.contains("tollpass "), "{} has no example", command.get_name());
        }
        subcommands.into_iter().for_each(walk);
    }
    walk(&Cli::command());
    for bad in [
        &["serve", "--port", "1"][..],
        &["policy"],
        &["policy", "explain", "--agent", "a", "--url", "https://x"],
        &["policy", "explain", "--agent", "a", "--url", "https://x", "--price", "1e3"],
        &["policy", "explain", "--agent", "a b", "--url", "https://x", "--price", "1"],
        &["policy", "explain", "--agent", "a", "--url", "https://x", "--price", "1", "--challenge", "f"],
        &["ledger", "show", "--state", "paid"],
        &["healthcheck", "--addr", "localhost"],
        &["agent", "token", "a/b"],
    ] {
        let error = Cli::try_parse_from(std::iter::once("tollpass").chain(bad.iter().copied())).expect_err(&bad.join(" "));
        assert_eq!(error.exit_code(), 2, "{bad:?}");
    }
    let version = Cli::try_parse_from(["tollpass", "--version"]).unwrap_err();
    assert_eq!((version.exit_code(), version.to_string()), (0, format!("tollpass {}\n", env!("CARGO_PKG_VERSION"))));
}

#[test]
fn what_init_writes_passes_check_and_is_never_overwritten() {
    let dir = ready();
    let config = at(&dir, "tollpass.yaml");
    let (text, status) = tollpass(&["serve", "--config", &config, "--check"]);
    assert_eq!(status, 0, "{text}");
    assert!(text.contains("local, pays from 0x") && text.ends_with("tollpass.yaml: ok, 0 warnings\n"), "{text}");
    assert!(!text.contains("59c6995e"), "{text}");
    let before = fs::read_to_string(&config).unwrap();
    let (text, status) = tollpass(&["init", "--dir", dir.path().to_str().unwrap()]);
    assert_eq!((status, text.contains("tollpass.yaml exists: remove it")), (2, true), "{text}");
    fs::remove_file(&config).unwrap();
    let (text, status) = tollpass(&["init", "--dir", dir.path().to_str().unwrap()]);
    assert_eq!((status, text.contains("agents.yaml exists")), (2, true), "{text}");
    assert!(!Path::new(&config).exists() && !before.is_empty());
}

#[test]
fn check_reports_configuration_policy_and_tokens_at_once() {
    let dir = ready();
    let config = at(&dir, "tollpass.yaml");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(
        &config,
        text.replace("default: research-bot", "default: stranger\n  tokens: file:secrets/agents.yaml")
            .replace("never: []", "never: []\n  extra_roots: [none.pem]"),
    )
    .unwrap();
    fs::write(at(&dir, "policies/agents.yaml"), "version: 1\nagent: {}\n").unwrap();
    let (text, status) = tollpass(&["serve", "--config", &config, "--check"]);
    assert_eq!(status, 2);
    for part in ["none.pem: `tls.extra_roots`: cannot be read", "agents.yaml:2:1: ", "secrets/agents.yaml: cannot be read", "3 errors"] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    fs::write(&config, "version: 1\nlisten: { proxi: x }\n").unwrap();
    let (text, status) = tollpass(&["serve", "--config", &config, "--check", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!((status, json["ok"].as_bool()), (2, Some(false)));
    assert!(json["errors"][0].as_str().unwrap().contains("tollpass.yaml:"), "{json}");
    assert_eq!(tollpass(&["serve", "--config", &at(&dir, "none.yaml")]).1, 2);
}

#[test]
fn a_caller_the_policy_does_not_name_is_a_warning() {
    let dir = ready();
    let config = at(&dir, "tollpass.yaml");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, text.replace("default: research-bot", "default: stranger")).unwrap();
    let (text, status) = tollpass(&["serve", "--config", &config, "--check"]);
    assert_eq!(status, 0);
    assert!(text.contains("agent `stranger` may call, but the policy does not name it"), "{text}");
}

#[test]
fn policy_check_lists_every_policy_and_exits_two_on_errors() {
    let dir = ready();
    let good = at(&dir, "policies");
    let (text, status) = tollpass(&["policy", "check", &good]);
    assert_eq!((status, text.contains("ok, 0 warnings, agents: research-bot")), (0, true), "{text}");
    let bad = at(&dir, "bad.yaml");
    fs::write(&bad, "version: 1\nagents: { a: { capz: {} } }\n").unwrap();
    let (text, status) = tollpass(&["policy", "check", &good, &bad, "--json"]);
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!((status, json[0]["ok"].as_bool(), json[1]["ok"].as_bool()), (2, Some(true), Some(false)), "{text}");
    assert!(json[1]["errors"][0].as_str().unwrap().contains("bad.yaml:2:"), "{text}");
    assert_eq!(tollpass(&["policy", "check", &at(&dir, "none")]).1, 2);
}

#[test]
fn explain_gives_rule_numbers_and_verdict() {
    let dir = ready();
    let policies = at(&dir, "policies");
    let ask = |more: &[&str]| {
        let base = ["policy", "explain", "--policy", &policies, "--agent", "research-bot", "--at", "2026-05-05T12:00:00Z"];
        tollpass(&[&base[..], more].concat())
    };
    let json = |more: &[&str]| -> serde_json::Value { serde_json::from_str(&ask(&[more, &["--json"]].concat()).0).unwrap() };
    let bureau = ["--url", "https://api.bureau.example/v2/report?q=1", "--price"];
    let yes = json(&[&bureau[..], &["0.05"]].concat());
    assert_eq!((yes["verdict"].as_str(), yes["pays"]["rule"].as_str()), (Some("pay"), Some("bureau")), "{yes}");
    assert!(!yes.to_string().contains("q=1"));
    let dear = json(&[&bureau[..], &["0.050001"]].concat());
    assert_eq!((dear["verdict"].as_str(), dear["reasons"][0]["reason"].as_str()), (Some("refuse"), Some("cap_per_payment")), "{dear}");
    let elsewhere = json(&["--url", "https://www.casino.example/", "--price", "0.01"]);
    assert_eq!(elsewhere["reasons"][0]["reason"], "denied", "{elsewhere}");
    assert!(ask(&[&bureau[..], &["0.01"]].concat()).0.contains("verdict  pay 0.01 USD"));
    for (wrong, part) in [
        (&["--url", "api.bureau.example", "--price", "1"][..], "--url: write an absolute URL"),
        (&["--url", "https://a.example/", "--price", "1", "--asset", "GOLD"], "known there: USDC"),
        (&["--url", "https://a.example/", "--price", "1", "--network", "eip155:5"], "no asset is known there"),
        (&["--url", "https://a.example/", "--challenge", "/nonexistent"], "cannot be read"),
    ] {
        let (text, status) = ask(wrong);
        assert!(status == 2 && text.contains(part), "{wrong:?}\n{text}");
    }
}

#[test]
fn a_ledger_that_does_not_exist_yet_has_no_purchases() {
    let dir = ready();
    let config = at(&dir, "tollpass.yaml");
    assert_eq!(tollpass(&["ledger", "show", "--config", &config]), ("no purchases\n".to_owned(), 0));
    fs::create_dir_all(at(&dir, "state/private/ledger.db")).unwrap();
    assert_eq!(tollpass(&["ledger", "show", "--config", &config]).1, 1);
}

/// A version 1 challenge at 0.02 USD on Base.
const V1: &str = r#"{"x402Version":1,"error":"","accepts":[{"scheme":"exact","network":"base","maxAmountRequired":"20000","resource":"https://api.bureau.example/v2/report","description":"","mimeType":"","payTo":"0x1111111111111111111111111111111111111111","maxTimeoutSeconds":60,"asset":"0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913","extra":{"name":"USD Coin","version":"2"}}]}"#;
/// The same in version 2.
const V2: &str = r#"{"x402Version":2,"error":"","resource":{"url":"https://api.bureau.example/v2/report","description":"","mimeType":""},"accepts":[{"scheme":"exact","network":"eip155:8453","amount":"20000","payTo":"0x1111111111111111111111111111111111111111","maxTimeoutSeconds":60,"asset":"0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913","extra":{"name":"USD Coin","version":"2"}}]}"#;

#[test]
fn a_recorded_challenge_is_read_in_three_forms() {
    use base64::Engine as _;
    let dir = ready();
    let header = base64::prelude::BASE64_STANDARD.encode(V2);
    let forms = [
        V1.to_owned(),
        header.clone(),
        format!("payment-required: {header}\n"),
        format!("HTTP/1.1 402 Payment Required\r\nPAYMENT-REQUIRED: {header}\r\ncontent-length: 2\r\n\r\n{{}}"),
        format!("HTTP/2 402\ncontent-type: application/json\n\n{V1}"),
        format!(
            "HTTP/1.1 200 Connection established\r\n\r\nHTTP/1.1 402 Payment Required\r\ncontent-type: application/json\r\ncontent-encoding: gzip\r\n\r\n{V1}"
        ),
    ];
    let explain = |content: &str| {
        fs::write(dir.path().join("c"), content).unwrap();
        tollpass(&[
            "policy",
            "explain",
            "--policy",
            &at(&dir, "policies"),
            "--agent",
            "research-bot",
            "--url",
            "https://api.bureau.example/v2/report",
            "--challenge",
            &at(&dir, "c"),
            "--json",
        ])
    };
    for form in forms {
        let (text, status) = explain(&form);
        let json: serde_json::Value = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{form}\n{text}"));
        assert_eq!(
            (status, json["verdict"].as_str(), json["pays"]["amount_usd"].as_str()),
            (0, Some("pay"), Some("0.02")),
            "{form}\n{text}"
        );
    }
    for (content, part) in [
        ("HTTP/1.1 200 OK\r\n\r\n", "only 402 asks"),
        ("HTTP/1.1 402 x\r\nno colon\r\n\r\n", "no colon"),
        ("{}", "not a challenge of a protocol we know"),
        ("***", "is broken"),
    ] {
        let (text, status) = explain(content);
        assert!(status == 2 && text.contains(part), "{content}\n{text}");
    }
}

#[test]
fn a_token_is_shown_once_and_the_newest_two_stay() {
    let dir = tempfile::tempdir().unwrap();
    let file = at(&dir, "secrets/agents.yaml");
    let fresh = || tollpass(&["agent", "token", "research-bot", "--file", &file]).0.trim().to_owned();
    let first = fresh();
    fs::write(&file, format!("# ours\n{}", fs::read_to_string(&file).unwrap())).unwrap();
    let (second, third) = (fresh(), fresh());
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.starts_with("# ours\nagents:\n") && !text.contains(&third), "{text}");
    let tokens = crate::agents::Tokens::parse("f", &text).unwrap();
    assert_eq!([&first, &second, &third].map(|t| tokens.verify("research-bot", t).is_some()), [false, true, true]);
    use std::os::unix::fs::PermissionsExt as _;
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::read_dir(dir.path().join("secrets")).unwrap().count(), 1, "nothing is left beside it");
    let (json, _) = tollpass(&["agent", "token", "x", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let made = crate::agents::Tokens::parse("f", json["add"].as_str().unwrap()).unwrap();
    assert!(made.verify("x", json["token"].as_str().unwrap()).is_some());
    fs::write(&file, "agents: [broken]").unwrap();
    assert_eq!(tollpass(&["agent", "token", "research-bot", "--file", &file]).1, 2);
    assert_eq!(fs::read_to_string(&file).unwrap(), "agents: [broken]");
}

#[test]
fn agent_list_shows_callers_and_policies() {
    let dir = ready();
    let config = at(&dir, "tollpass.yaml");
    tollpass(&["agent", "token", "other", "--file", &at(&dir, "t.yaml")]);
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, text.replace("default: research-bot", "default: research-bot\n  tokens: file:t.yaml")).unwrap();
    let (text, status) = tollpass(&["agent", "list", "--config", &config]);
    assert_eq!(status, 0, "{text}");
    let rows: Vec<Vec<&str>> = text.lines().skip(1).map(|l| l.split_whitespace().collect()).collect();
    assert_eq!(rows, [vec!["other", "1", "no", "no", "no"], vec!["research-bot", "0", "yes", "yes", "no"]], "{text}");
}

#[test]
fn healthcheck_fails_when_nobody_answers() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (text, status) = tollpass(&["healthcheck", "--addr", &free.to_string(), "--timeout", "1"]);
    assert!(status == 1 && text.contains("cannot connect"), "{text}");
}

mod books {
    use super::super::books::Recorded;
    use super::super::ledger::{ShowArgs, show};
    use crate::ledger::{Likeness, Purchase, PurchaseState};
    use crate::payment::{ChainId, MicroUsd, Nonce, Payee, Payer, ProtocolId, PurchaseId, RequestKey, Timestamp, WireEntry};
    use crate::policy::{Host, RepeatRules, RuleId, Scope, Span, Standing, View as _};
    use alloy_primitives::{Address, U256};

    fn purchase(n: u8, agent: &str, state: PurchaseState) -> Purchase {
        let id = PurchaseId::from_bytes([n; 16]);
        Purchase {
            id,
            key: RequestKey([0; 32]),
            agent: agent.parse().unwrap(),
            session: None,
            customer: None,
            entry: RuleId("bureau".into()),
            host: "api.bureau.example".into(),
            method: "GET".into(),
            protocol: ProtocolId::X402V2,
            wire: WireEntry { accepted: "{}".into(), resource: None, extensions: None },
            asset: "eip155:8453/erc20:0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913".parse().unwrap(),
            symbol: "USDC".into(),
            amount: U256::from(50_000),
            payee: Payee(Address::repeat_byte(n)),
            payer: Payer(Address::ZERO),
            nonce: Nonce::derive(Address::ZERO, &id),
            valid_after: 0,
            valid_before: 1,
            digest: alloy_primitives::B256::ZERO,
            held: MicroUsd::new(50_000),
            state,
            signature: Some([0xee; 65]),
            at: Timestamp::from_secs(i64::from(n)),
            consumed: n.is_multiple_of(2),
            lost_until: None,
            likeness: Likeness::default(),
            repeats: RepeatRules::default(),
            policy_digest: "d".into(),
            claimed_tx: Some("0xabc\u{1b}[31m=cmd".into()),
            last_valid_before: 1,
            cosigned: None,
        }
    }

    fn all() -> Vec<Purchase> {
        vec![
            purchase(1, "a", PurchaseState::Settled),
            purchase(2, "a", PurchaseState::Settled),
            purchase(3, "a", PurchaseState::Void),
            purchase(4, "b", PurchaseState::Open),
        ]
    }

    fn shown(agent: Option<&str>, state: Option<PurchaseState>, json: bool) -> String {
        let args = ShowArgs { config: "x".into(), agent: agent.map(|a| a.parse().unwrap()), state, json };
        let mut out = Vec::new();
        show(&all(), &args, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn ledger_show_lists_and_totals_without_signatures() {
        let text = shown(None, None, false);
        assert!(text.contains("1970-01-01T00:00:04Z  b      api.bureau.example  0.05  50000 USDC  0x0404"), "{text}");
        let total: Vec<Vec<&str>> = text.lines().rev().take(3).map(|l| l.split_whitespace().collect()).collect();
        assert_eq!(total, [["b", "open", "1", "0.05"], ["a", "void", "1", "0.05"], ["a", "settled", "2", "0.10"]], "{text}");
        let json = shown(None, None, true);
        for secret in ["eeee", "\u{1b}", "=cmd"] {
            assert!(!text.contains(secret) && !json.contains(secret), "{secret}");
        }
        assert_eq!(shown(Some("b"), Some(PurchaseState::Settled), false), "no purchases\n");
        let json: serde_json::Value = serde_json::from_str(&shown(Some("a"), Some(PurchaseState::Settled), true)).unwrap();
        assert_eq!(json["totals"], serde_json::json!([{ "agent": "a", "state": "settled", "count": 2, "usd": "0.10" }]));
        assert_eq!(json["purchases"][1]["consumed"], true);
    }

    #[test]
    fn the_recorded_purchases_are_books_for_explain() {
        let books = Recorded { purchases: all(), standing: Standing::default() };
        let (a, entry) = ("a".parse().unwrap(), RuleId("bureau".into()));
        let span = |from, until| Span { from: Timestamp::from_secs(from), until: Timestamp::from_secs(until) };
        let scope = Scope::Agent("a".parse().unwrap());
        assert_eq!(books.spent(&scope, span(0, 10)), MicroUsd::new(100_000), "void returns money");
        assert_eq!(books.spent(&scope, span(2, 10)), MicroUsd::new(50_000));
        assert_eq!(books.spent(&Scope::Entry("a".parse().unwrap(), RuleId("x".into())), span(0, 10)), MicroUsd::ZERO);
        assert_eq!(books.commitments(&scope, span(0, 10)), 3, "void is still a commitment");
        let host = Host::parse("api.bureau.example").unwrap();
        let base = ChainId::new(8453).unwrap();
        assert_eq!(books.pin(&a, &entry, &host, base), Some(Address::repeat_byte(2)), "the first consumed one");
        assert_eq!(books.pin(&"b".parse().unwrap(), &RuleId("x".into()), &host, base), None);
    }
}
