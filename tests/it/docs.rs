//! The documents say what the program does: tables, commands, examples and promises are compared with it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use clap::{CommandFactory as _, Parser as _};
use tollpass::metrics::TABLE;
use tollpass::payment::{Reason, Retry};

fn document(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap()
}

/// What stands in the README between `<!-- name -->` and `<!-- /name -->`.
fn section(name: &str) -> String {
    let text = document("README.md");
    let (_, rest) = text.split_once(&format!("<!-- {name} -->\n")).unwrap_or_else(|| panic!("README.md has no <!-- {name} -->"));
    rest.split_once(&format!("<!-- /{name} -->")).unwrap().0.trim().to_owned()
}

/// The fenced blocks of a document that are `kind`.
fn blocks(name: &str, kind: &str) -> Vec<String> {
    let text = document(name);
    text.split("\n```").filter_map(|b| b.strip_prefix(&format!("{kind}\n")).map(str::to_owned)).collect()
}

#[test]
fn the_metrics_table_of_the_readme_is_the_one_in_the_program() {
    let mut table = String::from("| metric | type | labels | meaning |\n|---|---|---|---|");
    for row in TABLE {
        let labels: Vec<String> = row.labels.iter().map(|l| format!("`{l}`")).collect();
        table.push_str(&format!("\n| `{}` | {} | {} | {} |", row.name, row.kind, labels.join(", "), row.meaning));
    }
    assert_eq!(section("metrics"), table, "\n\nwrite this instead:\n{table}\n");
}

#[test]
fn the_reason_table_of_the_readme_is_the_one_in_the_program() {
    let mut table = String::from("| reason | helps to retry | meaning |\n|---|---|---|");
    for reason in Reason::ALL {
        let retry = match reason.retry() {
            Retry::No => "no",
            Retry::Soon => "soon",
            Retry::AtReset => "after `resets_at`",
        };
        table.push_str(&format!("\n| `{reason}` | {retry} | {} |", reason.explain()));
    }
    assert_eq!(section("reasons"), table, "\n\nwrite this instead:\n{table}\n");
}

#[test]
fn every_command_is_in_the_readme_and_nothing_else_is() {
    fn leaves(command: &clap::Command, name: &str, found: &mut BTreeSet<String>) {
        let mut subs = command.get_subcommands().filter(|c| c.get_name() != "help" && !c.is_hide_set()).peekable();
        if subs.peek().is_none() {
            found.insert(name.to_owned());
        }
        for sub in subs {
            leaves(sub, &format!("{name} {}", sub.get_name()), found);
        }
    }
    let mut real = BTreeSet::new();
    leaves(&tollpass::cli::Cli::command(), "tollpass", &mut real);
    let listed: BTreeSet<String> = section("commands").lines().skip(2).map(|l| l.split('`').nth(1).unwrap().to_owned()).collect();
    assert_eq!(listed, real);
}

#[test]
fn the_configuration_and_policies_in_the_readme_are_valid() {
    let (mut configs, mut policies) = (0, 0);
    for text in blocks("README.md", "yaml") {
        if text.contains("signer:") {
            let key = |_: &str| Some("11".repeat(32));
            tollpass::config::Config::parse(Path::new("tollpass.yaml"), &text, &key).unwrap_or_else(|e| panic!("{e}\n{text}"));
            configs += 1;
        } else {
            let source = tollpass::policy::Source { name: "README.md".into(), text: text.clone() };
            let policy = tollpass::policy::Policy::parse(&[source], 1).unwrap_or_else(|e| panic!("{e}\n{text}"));
            assert!(policy.warnings().is_empty(), "{:?}", policy.warnings());
            policies += 1;
        }
    }
    assert!(configs > 0 && policies > 0);
}

#[test]
fn the_policies_in_the_guide_load_and_its_cases_pass() {
    let folder = tempfile::tempdir().unwrap();
    let (policy, cases) = (folder.path().join("p.yaml"), folder.path().join("p.test.yaml"));
    let run = |command: &str, text: &str| {
        let cli = tollpass::cli::Cli::try_parse_from(["tollpass", "policy", command, policy.to_str().unwrap()]).unwrap();
        let mut out = Vec::new();
        let done = tollpass::cli::run(cli.command, &mut out);
        let out = String::from_utf8(out).unwrap();
        assert!(done.is_ok(), "{done:?}: {out}\n{text}");
        out
    };
    let (mut policies, mut tested) = (0, 0);
    for text in blocks("policies/README.md", "yaml") {
        if text.contains("\ncases:") {
            fs::write(&cases, &text).unwrap();
            assert!(run("test", &text).contains("2 of 2 cases pass"));
            tested += 1;
        } else {
            fs::write(&policy, &text).unwrap();
            assert!(run("check", &text).contains("ok, 0 warnings"), "{text}");
            policies += 1;
        }
    }
    assert!(policies >= 10 && tested == 1, "{policies} policies, {tested} files of cases");
}

#[test]
fn the_guide_lists_every_example() {
    let guide = document("policies/README.md");
    let names = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("policies")).unwrap();
    let names = names.map(|f| f.unwrap().file_name().into_string().unwrap()).filter(|n| n.ends_with(".yaml") && !n.ends_with(".test.yaml"));
    let missing: Vec<String> = names.filter(|n| !guide.contains(&format!("\n| [{n}]({n}) | "))).collect();
    assert!(missing.is_empty(), "policies/README.md does not list {missing:?}");
}

#[test]
fn every_promise_of_security_md_names_tests_that_exist() {
    let tests = test_names();
    let text = document("SECURITY.md");
    let promises = text.split_once("## Promises\n").unwrap().1.split_once("\n## ").unwrap().0;
    let items: Vec<String> = promises.split("\n- ").skip(1).map(|item| item.split("\n\n").next().unwrap().replace('\n', " ")).collect();
    assert!(items.len() > 20, "only {} promises were found", items.len());
    for item in items {
        // Each sentence ends with its tests: (`name`, `name`).
        for sentence in item.split_inclusive("`).").filter(|s| !s.trim().is_empty()) {
            let proof = sentence.trim().strip_suffix("`).").and_then(|s| s.rsplit_once("(`"));
            let (_, names) = proof.unwrap_or_else(|| panic!("no test at the end of: {sentence}"));
            for name in names.split("`, `") {
                assert!(tests.contains(name), "there is no test `{name}`: {sentence}");
            }
        }
    }
}

#[test]
fn the_changelog_has_unreleased_on_top() {
    let text = document("CHANGELOG.md");
    assert_eq!(text.lines().find(|l| l.starts_with("## ")), Some("## Unreleased"));
}

/// Names of functions under `#[test]` (or in `proptest!`), and of the scripted peer checks.
fn test_names() -> BTreeSet<String> {
    let mut files = Vec::new();
    for folder in ["src", "tests/it"] {
        walk(&Path::new(env!("CARGO_MANIFEST_DIR")).join(folder), &mut files);
    }
    let mut names = BTreeSet::new();
    for file in files {
        let text = fs::read_to_string(file).unwrap();
        let mut armed = false;
        for line in text.lines().map(str::trim) {
            armed |= line == "#[test]" || line.starts_with("#[tokio::test");
            if armed && let Some((_, rest)) = line.split_once("fn ") {
                names.extend(rest.split('(').next().map(str::to_owned));
                armed = false;
            }
        }
    }
    names
}

fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            walk(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}
