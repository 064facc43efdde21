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
    silent: Vec<(String, Vec<String>)>,
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
            let wrong: Vec<Value> = ran.wrong.iter().map(|d| json!({ "what": d.what, "expected": d.expected, "got": d.got })).collect();
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
            "silent": self.silent.iter().map(|(whose, rules)| json!({ "of": whose, "rules": rules })).collect::<Vec<_>>(),
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
            writeln!(out, "  no case makes these speak:")?;
        }
        self.silent.iter().try_for_each(|(whose, rules)| writeln!(out, "    {whose}: {}", rules.join(", ")))
    }
}

#[cfg(test)]
mod tests;
