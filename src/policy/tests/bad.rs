//! The corpus of mistakes: each file in `testdata/bad` begins with `# expect: LINE:COLUMN: text`, one line per expected
//! error, and gives exactly those. Text is compared as a beginning; the whole must say what to write.

use std::collections::BTreeSet;
use std::path::Path;

use super::*;

fn errors(name: &str, text: &str) -> Vec<String> {
    errors_of(Policy::parse, name, text)
}

fn errors_of(parse: fn(&[Source], u64) -> Result<Policy, PolicyErrors>, name: &str, text: &str) -> Vec<String> {
    let source = Source { name: name.into(), text: text.into() };
    match parse(&[source], 1) {
        Ok(_) => Vec::new(),
        Err(errors) => errors.0.iter().map(|e| format!("{}:{}: {}", e.line, e.column, e.message)).collect(),
    }
}

#[test]
fn every_bad_policy_is_refused_at_its_place_with_its_words() {
    corpus("bad", 30, Policy::parse);
}

#[test]
fn every_bad_policy_of_a_co_signer_is_refused_at_its_place_with_its_words_s4() {
    corpus("bad-cosigner", 3, Policy::parse_for_cosigner);
}

fn corpus(folder: &str, least: usize, parse: fn(&[Source], u64) -> Result<Policy, PolicyErrors>) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/policy/testdata").join(folder);
    let names: BTreeSet<_> = std::fs::read_dir(folder).unwrap().map(|f| f.unwrap().path()).collect();
    assert!(names.len() >= least, "{} files", names.len());
    let mut wrong = Vec::new();
    for path in names {
        let text = std::fs::read_to_string(&path).unwrap();
        let expected: Vec<&str> = text.lines().map_while(|l| l.strip_prefix("# expect: ")).collect();
        let found = errors_of(parse, "bad.yaml", &text);
        let same = found.len() == expected.len() && found.iter().zip(&expected).all(|(f, e)| f.starts_with(e));
        if !same || expected.is_empty() {
            wrong.push(format!("{}\n  expected {expected:#?}\n  found    {found:#?}", path.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_mistake_is_shown_as_file_line_column_and_words() {
    let source = Source { name: "policies/a.yaml".into(), text: "version: 1\nagents:\n  bot:\n    caps: { per_payment: five }\n".into() };
    let shown = Policy::parse(&[source], 1).unwrap_err().to_string();
    assert_eq!(
        shown,
        "policies/a.yaml:4:26: caps.per_payment: \"five\" is not an amount of US dollars: write digits with at most six decimals, such as 5 or 0.05 (no sign, exponent, $ or thousands mark)"
    );
}

#[test]
fn m3_1_money_is_read_as_raw_text() {
    let caps = |text: &str| format!("version: 1\nagents:\n  bot: {{ caps: {{ per_payment: {text}, total: 9999999999.999999 }} }}\n");
    for (text, micro) in [
        ("0.05", 50_000),
        ("\"0.05\"", 50_000),
        ("'5'", 5_000_000),
        ("5", 5_000_000),
        ("0.1", 100_000),
        ("9999999999.999999", 9_999_999_999_999_999),
    ] {
        let parsed = policy(&caps(text));
        let agent = &parsed.agents[&"bot".parse().unwrap()];
        assert_eq!(agent.limits.per_payment.as_ref().unwrap().limit.micro(), micro, "{text}");
    }
    for text in ["5.", ".5", "1e3", "$5", "-1", "+1", "05", "0.0000001", "1_000", ".inf", "0x5", "\" 5\"", "5 USD", "true"] {
        let found = errors("p", &caps(text));
        assert!(found.len() == 1 && found[0].contains("is not an amount of US dollars"), "{text}: {found:?}");
    }
    for text in ["~", "null", "\"\"", "[5]", "{}"] {
        assert_eq!(errors("p", &caps(text)).len(), 1, "{text}");
    }
}

#[test]
fn every_key_of_a_later_version_is_refused_and_never_ignored() {
    let found = errors("p", "version: 1\ndefaults: { release_unverified_after: 1d }\n");
    assert_eq!(found, ["2:13: `release_unverified_after` is not in this version: remove it"]);
}

#[test]
fn a_key_of_another_place_says_where_it_belongs() {
    for (text, expected) in [
        ("agents:\n  bot: { budgets: [] }", "3:10: `budgets` stands at the top of a proxy's policy and nowhere else: remove it here"),
        ("rules: []", "2:1: `rules` stands in an agent of a proxy's policy and nowhere else: remove it here"),
        (
            "agents:\n  bot: { allow: [ { host: a.example, caps: { per_host_day: 1 } } ] }",
            "3:46: `per_host_day` stands in the caps of an agent or a group of a proxy's policy and nowhere else: remove it here",
        ),
    ] {
        let found = errors("p", &format!("version: 1\n{text}\n"));
        assert!(found.contains(&expected.to_owned()), "{found:?}");
    }
}

#[test]
fn a_folder_is_united_and_a_name_twice_names_both_places() {
    let file = |name: &str, text: &str| Source { name: name.into(), text: format!("version: 1\n{text}") };
    let a = file("a.yaml", "groups:\n  g: { caps: { per_payment: 0.1, day: 2 } }\ntimezone: America/Lima\n");
    let b = file("b.yaml", "agents:\n  bot: { group: g, allow: [ { host: api.example } ] }\n");
    let both = Policy::parse(&[a.clone(), b.clone()], 3).unwrap();
    assert_eq!((both.agents().count(), both.epoch()), (1, 3));
    assert_eq!(both.zone().iana_name(), Some("America/Lima"));

    let again = file("c.yaml", "agents:\n  bot: {}\ngroups:\n  g: {}\ntimezone: UTC\n");
    let shown = Policy::parse(&[a, b, again], 3).unwrap_err().to_string();
    assert_eq!(
        shown.lines().collect::<Vec<_>>(),
        [
            "c.yaml:3:3: agents: `bot` is defined in b.yaml:3 already: keep one of them",
            "c.yaml:5:3: groups: `g` is defined in a.yaml:3 already: keep one of them",
            "c.yaml:6:11: `timezone` stands in a.yaml:4 already: keep it in one file",
        ]
    );
    let none = Policy::parse(&[], 1).unwrap_err();
    assert_eq!(none.0.len(), 1);
}

#[test]
fn the_digest_is_of_the_text_and_not_of_the_name() {
    let parse = |name: &str, text: &str| Policy::parse(&[Source { name: name.into(), text: text.into() }], 1).unwrap().digest().clone();
    let one = parse("a", "version: 1\n");
    assert_eq!(one.len(), 64);
    assert_eq!(one, parse("b", "version: 1\n"));
    assert_ne!(one, parse("a", "version: 1\n\n"));
}

#[test]
fn line_ends_and_a_byte_order_mark_of_other_systems_are_read() {
    let text = "\u{feff}version: 1\r\nagents:\r\n  bot:\r\n    caps: { day: 5x }\r\n";
    assert!(errors("p", text)[0].starts_with("4:18: caps.day: \"5x\""), "{:?}", errors("p", text));
}

#[test]
fn nesting_and_size_are_bounded() {
    let deep = format!("version: 1\nagents: {}{}\n", "[".repeat(5_000), "]".repeat(5_000));
    assert_eq!(errors("p", &deep).len(), 1);
    let bomb = "version: 1\na: &a [x, x]\nb: &b [*a, *a]\n";
    assert!(errors("p", bomb)[0].contains("anchors"));
}

proptest::proptest! {
    #[test]
    fn parsing_never_panics(text in "[ -~\n]{0,200}") {
        let _ = errors("p", &text);
    }

    #[test]
    fn parsing_something_like_a_policy_never_panics(key in "(caps|allow|deny|group|rate|[a-z]{1,5})", value in "[ -~]{0,60}") {
        let _ = errors("p", &format!("version: 1\nagents:\n  bot:\n    {key}: {value}\n    allow: [ {{ {key}: {value} }} ]\n"));
    }
}
