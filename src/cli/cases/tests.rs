//! Files in, lines and an exit status out.
#![allow(clippy::unwrap_used)]

use std::fs;

use super::*;

const POLICY: &str = "version: 1
context: { confidence: decimal, customer: text }
agents:
  bot:
    caps: { per_payment: 0.10, day: 5 }
    hours: { days: mon-fri }
    allow: [ { id: bureau, host: api.bureau.example } ]
    rules: [ { id: dear, when: 'price.usd > usd(\"0.05\")', then: { ask: finance } } ]
budgets: [ { name: team, limit: 500, window: month, agents: all } ]
approvers: { finance: { quorum: 1 } }
";

fn case(rest: &str) -> String {
    format!("  - {{ name: one, agent: bot, at: \"2026-11-27T15:00:00Z\", request: GET https://api.bureau.example/v2, {rest} }}\n")
}

/// The exit status and what was said, for these files in a folder of their own.
fn tested(policy: &str, cases: &str, json: bool) -> (u8, String) {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("p.yaml"), policy).unwrap();
    fs::write(dir.path().join("p.test.yaml"), cases).unwrap();
    let args = Args { policies: vec![dir.path().to_owned()], cases: None, json };
    let mut out = Vec::new();
    let status = match run(&args, &mut out) {
        Ok(()) => 0,
        Err(Failure::Failed(_)) => 1,
        Err(Failure::Config(_)) => 2,
    };
    (status, String::from_utf8(out).unwrap().replace(&format!("{}/", dir.path().display()), ""))
}

fn file(cases: &[&str]) -> String {
    format!("version: 1\ncases:\n{}", cases.concat())
}

#[test]
fn a_case_that_passes_says_what_no_case_made_speak() {
    let (status, text) = tested(POLICY, &file(&[&case("offers: [ { usd: 0.05 } ], expect: { verdict: allow, entry: bureau }")]), false);
    let silent = "    bot: hours, caps.per_payment, caps.day, dear\n    budgets: budget:team\n";
    assert_eq!((status, text), (0, format!("p.yaml: 1 of 1 cases pass\n  no case makes these speak:\n{silent}")));
    let speaking = case("offers: [ { usd: 0.11 } ], paid: [ { at: \"2026-11-27T14:00:00Z\", usd: 500 } ], expect: { verdict: deny }");
    let (status, text) = tested(POLICY, &file(&[&speaking]), false);
    assert_eq!((status, text), (0, "p.yaml: 1 of 1 cases pass\n  no case makes these speak:\n    bot: hours\n".to_owned()));
}

#[test]
fn a_case_that_fails_shows_both_and_the_decision() {
    let cases = file(&[&case("offers: [ { usd: 0.06 } ], expect: { verdict: allow, groups: [], usd: 0.06, entry: other }")]);
    let (status, text) = tested(POLICY, &cases, false);
    assert_eq!(status, 1);
    let start = "FAIL p.test.yaml:3: one\n  verdict: expected allow, got ask\n  groups: expected [], got [finance]\n  entry: expected other, got bureau\n  | agent    bot\n";
    assert!(text.starts_with(start), "{text}");
    assert!(text.contains("0.06 USD in USDC on eip155:8453") && text.contains("p.yaml: 0 of 1 cases pass\n"), "{text}");
    let (_, text) = tested(POLICY, &cases, true);
    let json: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(json[0]["results"][0]["wrong"][0], json!({ "what": "verdict", "expected": "allow", "got": "ask" }));
    assert_eq!(json[0]["results"][0]["decision"]["verdict"], "ask");
    assert_eq!((&json[0]["ok"], &json[0]["results"][0]["line"]), (&json!(false), &json!(3)));
}

#[test]
fn mistakes_in_a_file_have_a_place_and_a_remedy() {
    let allow = "expect: { verdict: allow }";
    for (cases, expected) in [
        ("version: 2\ncases: []\n".to_owned(), "p.test.yaml:1:1: a case file begins with `version: 1`"),
        ("version: 1\n".to_owned(), "p.test.yaml:1:1: `cases` is missing"),
        ("version: 1\ncases: [ { name: x ]\n".to_owned(), "this is not YAML"),
        (file(&[&case("offers: [ { usd: 0.05 } ], expect: { verdict: maybe }")]), "\"maybe\" is not a verdict: write allow, ask or deny"),
        (file(&[&case("offers: [ { usd: 0.05 } ], expect: { verdict: deny, reasons: [cap_dya] }")]), "did you mean `cap_day`?"),
        (file(&[&case("offers: [ { usd: 0.05 } ], expect: { verdict: ask, groups: [boss] }")]), "the policy has finance"),
        (file(&[&case(&format!("offers: [ {{ usd: 0.0000005 }} ], {allow}"))]), "p.test.yaml:3:119: offers.usd: \"0.0000005\" is "),
        (file(&[&case(&format!("offers: [ {{ usd: 1, atomic: \"1\" }} ], {allow}"))]), "the price is one of two"),
        (file(&[&case(&format!("offers: [ {{ usd: 1, ntework: \"eip155:1\" }} ], {allow}"))]), "(did you mean `network`?)"),
        (file(&[&case(&format!("offers: [], paid: [ {{ at: noon, usd: 1 }} ], {allow}"))]), "\"noon\" is not a time: write it as"),
        (file(&[&case(&format!("offers: [], paid: [ {{ usd: 1 }} ], {allow}"))]), "paid: `at` is missing"),
        (
            file(&[&case(&format!("offers: [], paid: [ {{ at: \"2026-11-27T14:00:00Z\", usd: 1, tenant: x }} ], {allow}"))]),
            "unknown key `tenant`",
        ),
        (file(&[&case(&format!("offers: [], granted: [nobody], {allow}"))]), "granted: \"nobody\" is not a group of approvers"),
        (
            file(&[&case(&format!("offers: [], {allow}")), &case(&format!("offers: [], {allow}"))]),
            "the name \"one\" stands at line 3 already",
        ),
        (file(&["  - { name: two, agent: bot, request: https://a.example }\n"]), "is not a request: write method and URL"),
    ] {
        let (status, text) = tested(POLICY, &cases, false);
        assert!(status == 2 && text.contains(expected) && text.ends_with("p.yaml: not tested\n"), "{expected}:\n{text}");
    }
    let (status, text) = tested("version: 1\nagent: {}\n", &file(&[]), false);
    assert!(status == 2 && text.contains("p.yaml:2:1: unknown key `agent`"), "{text}");
}

#[test]
fn the_golden_table_passes_as_case_files() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/golden");
    let mut count = 0;
    for theme in ["asks", "budgets", "caps", "hours", "matching", "prices", "rates", "rules"] {
        let file = |end: &str| folder.join(format!("{theme}.{end}.yaml"));
        let tested = test(file("policy"), file("cases"));
        let mut out = Vec::new();
        tested.write(&mut out).unwrap();
        let clean = tested.errors.is_empty() && tested.failed() == 0;
        assert!(clean, "{}", String::from_utf8(out).unwrap());
        count += tested.ran.len();
    }
    assert!(count >= 150, "{count} cases");
}

#[test]
fn every_example_has_cases_that_pass() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("policies");
    let names = fs::read_dir(&folder).unwrap().map(|f| f.unwrap().path());
    // A co-signer's policy is another kind of file.
    let policies = names.filter(|p| p.extension().is_some_and(|e| e == "yaml") && !is_cases(p.file_name().unwrap()));
    for policy in policies.filter(|p| !p.ends_with("cosigner.yaml")) {
        let tested = test(policy.clone(), beside(&policy));
        let mut out = Vec::new();
        tested.write(&mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(tested.errors.is_empty() && tested.failed() == 0, "{text}");
        assert!(tested.ran.len() >= 4, "{text}: a handful of cases at the boundaries");
    }
}

#[test]
fn a_folder_without_cases_and_cases_for_two_policies_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("p.yaml"), POLICY).unwrap();
    let said = |policies: Vec<PathBuf>, cases: Option<PathBuf>| match run(&Args { policies, cases, json: false }, &mut Vec::new()) {
        Err(Failure::Config(text)) => text,
        other => panic!("{other:?}"),
    };
    assert!(said(vec![dir.path().into()], None).ends_with("no policy here has cases: write them into NAME.test.yaml beside NAME.yaml"));
    assert!(said(vec!["a".into(), "b".into()], Some("c".into())).starts_with("--cases: "));
}
