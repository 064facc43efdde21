//! `tollpass policy test`: the cases beside a policy, judged by it.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::anyhow;
use base64::Engine as _;
use serde_json::{Value, json};

use super::{Failure, Outcome, print_json};
use crate::payment::{AssetTable, Challenge};
use crate::policy::cases::{self, Case, Ran, Spoken};
use crate::policy::{Policy, Source};
use crate::reload::{is_cases, read_policy_sources};

/// Arguments of `policy test`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  tollpass policy test
  tollpass policy test policies/one-api.yaml
  tollpass policy test policies --cases march.yaml --json

The cases of NAME.yaml stand in NAME.test.yaml beside it. A case says who asks for what at which price, what was paid before, and
what the policy answers:
  version: 1
  cases:
    - name: five cents are paid
      agent: research-bot
      at: \"2026-11-27T15:00:00Z\"
      request: GET https://api.bureau.example/v2/report
      offers: [ { usd: 0.05 } ]
      paid: [ { at: \"2026-11-27T14:00:00Z\", usd: 4.95, entry: bureau } ]
      expect: { verdict: allow }

Exit status: 0 if every case passes, 1 if one does not, 2 if a file is wrong.")]
pub struct Args {
    /// Policy files, or folders of policies that have cases beside them; else policies/.
    pub policies: Vec<PathBuf>,
    /// Use these cases; POLICY is one file then, or a folder whose files are one policy.
    #[arg(long, value_name = "FILE")]
    pub cases: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// One policy with its cases, judged.
struct Tested {
    policy: PathBuf,
    cases: PathBuf,
    /// The policy or its cases cannot be used.
    errors: Vec<String>,
    ran: Vec<(Case, Ran)>,
    /// Limits and rules that no case made speak.
    silent: Vec<String>,
}

pub(super) fn run(args: &Args, out: &mut dyn Write) -> Outcome {
    let all: Vec<Tested> = pairs(args)?.into_iter().map(|(policy, cases)| test(policy, cases)).collect();
    if args.json {
        print_json(out, &all.iter().map(Tested::to_json).collect())?;
    } else {
        all.iter().try_for_each(|t| t.write(out))?;
    }
    if all.iter().any(|t| !t.errors.is_empty()) {
        return Err(Failure::Config(String::new()));
    }
    let (count, failed) = all.iter().fold((0, 0), |(count, failed), t| (count + t.ran.len(), failed + t.failed()));
    if failed > 0 { Err(Failure::Failed(anyhow!("{failed} of {count} cases fail"))) } else { Ok(()) }
}

/// Each policy with its file of cases.
fn pairs(args: &Args) -> Result<Vec<(PathBuf, PathBuf)>, Failure> {
    let given = if args.policies.is_empty() { &[PathBuf::from("policies")][..] } else { &args.policies };
    if let Some(cases) = &args.cases {
        return match given {
            [policy] => Ok(vec![(policy.clone(), cases.clone())]),
            _ => Err(Failure::Config("--cases: these are the cases of one policy: name one".into())),
        };
    }
    let mut all = Vec::new();
    for path in given {
        if path.is_dir() {
            let found = in_folder(path).map_err(|e| Failure::Config(format!("{}: cannot be read: {e}", path.display())))?;
            if found.is_empty() {
                let text = "no policy here has cases: write them into NAME.test.yaml beside NAME.yaml";
                return Err(Failure::Config(format!("{}: {text}", path.display())));
            }
            all.extend(found);
        } else {
            all.push((path.clone(), beside(path)));
        }
    }
    Ok(all)
}

/// `NAME.test.yaml` for `NAME.yaml`.
fn beside(policy: &Path) -> PathBuf {
    policy.with_extension("test.yaml")
}

/// The policies of a folder that have cases beside them, in name order.
fn in_folder(folder: &Path) -> std::io::Result<Vec<(PathBuf, PathBuf)>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let policy = entry?.path();
        let is_policy = policy.extension().is_some_and(|e| e == "yaml" || e == "yml") && !policy.file_name().is_some_and(is_cases);
        if is_policy && beside(&policy).exists() {
            found.push((policy.clone(), beside(&policy)));
        }
    }
    found.sort();
    Ok(found)
}

fn test(policy: PathBuf, cases: PathBuf) -> Tested {
    let mut tested = Tested { policy, cases, errors: Vec::new(), ran: Vec::new(), silent: Vec::new() };
    if let Err(errors) = tested.judge() {
        tested.errors = errors;
    }
    tested
}

/// The seller's document, read by the protocol as any other.
fn challenge(document: &Value, assets: &AssetTable) -> Result<Challenge, String> {
    let header = base64::engine::general_purpose::STANDARD.encode(document.to_string());
    super::recorded::parse(header.as_bytes(), assets)
}

impl Tested {
    fn judge(&mut self) -> Result<(), Vec<String>> {
        let unreadable = |path: &Path, e: std::io::Error| vec![format!("{}: cannot be read: {e}", path.display())];
        let sources = read_policy_sources(&self.policy).map_err(|e| unreadable(&self.policy, e))?;
        let lines = |e: crate::policy::PolicyErrors| e.0.iter().map(ToString::to_string).collect::<Vec<_>>();
        let policy = Policy::parse(&sources, 1).map_err(lines)?;
        let text = std::fs::read_to_string(&self.cases).map_err(|e| unreadable(&self.cases, e))?;
        let name = self.cases.display().to_string();
        let mut spoken = Spoken::default();
        for case in cases::parse(&Source { name: name.clone(), text }, &policy).map_err(lines)? {
            let ran = case.run(&policy, &challenge, &mut spoken);
            let ran = ran.map_err(|e| vec![format!("{name}:{}: {}: {e}", case.line, case.name)])?;
            self.ran.push((case, ran));
        }
        self.silent = spoken.silent(&policy);
        Ok(())
    }

    fn failed(&self) -> usize {
        self.ran.iter().filter(|(_, ran)| !ran.wrong.is_empty()).count()
    }

    fn to_json(&self) -> Value {
        let row = |(case, ran): &(Case, Ran)| {
            let wrong: Vec<Value> =
                ran.wrong.iter().map(|d| json!({ "what": d.what, "expected": d.expected, "got": d.got })).collect();
            json!({
                "name": case.name, "line": case.line, "ok": wrong.is_empty(), "wrong": wrong, "decision": ran.explanation.to_json(),
            })
        };
        json!({
            "policy": self.policy.display().to_string(),
            "cases": self.cases.display().to_string(),
            "ok": self.errors.is_empty() && self.failed() == 0,
            "errors": self.errors,
            "results": self.ran.iter().map(row).collect::<Vec<_>>(),
            "silent": self.silent,
        })
    }

    fn write(&self, out: &mut dyn Write) -> std::io::Result<()> {
        for error in &self.errors {
            writeln!(out, "error: {error}")?;
        }
        for (case, ran) in self.ran.iter().filter(|(_, ran)| !ran.wrong.is_empty()) {
            writeln!(out, "FAIL {}:{}: {}", self.cases.display(), case.line, case.name)?;
            for difference in &ran.wrong {
                writeln!(out, "  {difference}")?;
            }
            for line in ran.explanation.to_string().lines() {
                writeln!(out, "  | {line}")?;
            }
        }
        if !self.errors.is_empty() {
            return writeln!(out, "{}: not tested", self.policy.display());
        }
        let (count, failed) = (self.ran.len(), self.failed());
        writeln!(out, "{}: {} of {count} cases pass", self.policy.display(), count - failed)?;
        if !self.silent.is_empty() {
            writeln!(out, "  no case makes these speak: {}", self.silent.join("; "))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
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
        format!(
            "  - {{ name: one, agent: bot, at: \"2026-11-27T15:00:00Z\", request: GET https://api.bureau.example/v2, {rest} }}\n"
        )
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
        let silent = "bot: hours; bot: caps.per_payment; bot: caps.day; bot: dear; budget:team";
        assert_eq!((status, text), (0, format!("p.yaml: 1 of 1 cases pass\n  no case makes these speak: {silent}\n")));
        let speaking = case("offers: [ { usd: 0.11 } ], paid: [ { at: \"2026-11-27T14:00:00Z\", usd: 500 } ], expect: { verdict: deny }");
        let (status, text) = tested(POLICY, &file(&[&speaking]), false);
        assert_eq!((status, text), (0, "p.yaml: 1 of 1 cases pass\n  no case makes these speak: bot: hours\n".to_owned()));
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
        assert_eq!(json[0]["results"][0]["decision"]["verdict"], "refuse");
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
            (file(&[&case(&format!("offers: [ {{ usd: 0.0000005 }} ], {allow}"))]), "p.test.yaml:3:117: offers.usd: \"0.0000005\" is "),
            (file(&[&case(&format!("offers: [ {{ usd: 1, atomic: \"1\" }} ], {allow}"))]), "the price is one of two"),
            (file(&[&case(&format!("offers: [ {{ usd: 1, ntework: \"eip155:1\" }} ], {allow}"))]), "(did you mean `network`?)"),
            (file(&[&case(&format!("offers: [], paid: [ {{ at: noon, usd: 1 }} ], {allow}"))]), "\"noon\" is not a time: write it as"),
            (file(&[&case(&format!("offers: [], paid: [ {{ usd: 1 }} ], {allow}"))]), "paid: `at` is missing"),
            (file(&[&case(&format!("offers: [], paid: [ {{ at: \"2026-11-27T14:00:00Z\", usd: 1, tenant: x }} ], {allow}"))]), "unknown key `tenant`"),
            (file(&[&case(&format!("offers: [], granted: [nobody], {allow}"))]), "granted: \"nobody\" is not a group of approvers"),
            (file(&[&case(&format!("offers: [], {allow}")), &case(&format!("offers: [], {allow}"))]), "the name \"one\" stands at line 3 already"),
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
}
