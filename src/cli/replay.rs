//! `tollpass policy replay`: what a draft would have changed about recorded decisions.

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::anyhow;
use serde_json::{Value, json};

use super::explain::policy_at;
use super::ledger::recorded;
use super::row::short;
use super::{Failure, Outcome, config_if_any, print_json};
use crate::payment::MicroUsd;
use crate::records::{Change, Group, Replay, Report, Sum, files, read};

/// Arguments of `policy replay`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  tollpass policy replay --policy draft.yaml
  tollpass policy replay --policy draft.yaml --config tollpass.yaml --show 50
  tollpass policy replay --policy draft.yaml decisions-20261130T101500000Z-000.jsonl decisions.jsonl --json

Each decision of the log is taken again by the draft, with the counters and histories that it would have had by then: what it pays
counts, what it refuses does not. The ledger of the configuration fills in what was bought before the log began.
What is no policy's doing, such as a hook's no, stays as it was. A payment that only the draft makes counts as delivered.

Exit status: 0 if nothing changes, 1 if something does, 2 if the draft or a log is wrong.")]
pub struct Args {
    /// The draft: a file or folder.
    #[arg(long, value_name = "PATH")]
    pub policy: PathBuf,
    /// Files of the decision log, or its folder; else the one of the configuration.
    #[arg(value_name = "LOG")]
    pub logs: Vec<PathBuf>,
    /// The configuration file, for its log and its ledger; else tollpass.yaml here, if no LOG is given.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// How many changes to list one by one.
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub show: usize,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

pub(super) fn run(args: &Args, out: &mut dyn Write) -> Outcome {
    let config = if args.config.is_none() && !args.logs.is_empty() { None } else { config_if_any(args.config.as_deref())? };
    let policy = Arc::new(policy_at(&args.policy)?);
    let logs = match (&args.logs[..], &config) {
        ([], None) => return Err(Failure::Config("name the files of the decision log, or the configuration with --config".into())),
        ([], Some(config)) => vec![config.decisions()],
        (given, _) => given.to_vec(),
    };
    let ledger = config.as_ref().map(recorded).transpose()?.flatten().unwrap_or_default();
    let mut replay = Replay::new(Arc::clone(&policy), ledger, args.show);
    let files = files(&logs)?;
    for file in &files {
        read(file, &mut |placed| replay.step(&placed).map(|()| true))?;
    }
    let report = replay.finish();
    if args.json {
        print_json(out, &to_json(&report, policy.digest(), files.len()))?;
    } else {
        writeln!(out, "{} (digest {})", args.policy.display(), policy.digest())?;
        write(&report, files.len(), config.is_some(), out)?;
    }
    if report.changed > 0 { Err(Failure::Failed(anyhow!("{} of {} decisions change", report.changed, report.judged))) } else { Ok(()) }
}

fn usd(micro: i64) -> String {
    MicroUsd::new(micro).to_string()
}

fn write(r: &Report, files: usize, ledger: bool, out: &mut dyn Write) -> std::io::Result<()> {
    let span = r.span.map_or_else(String::new, |(a, b)| format!(", {} to {}", a.rfc3339(), b.rfc3339()));
    writeln!(out, "{} decisions of {files} files judged again{span}", r.judged)?;
    let notes = [
        (r.gates, "answers stay as they were: a gate before the policy gave them"),
        (r.cut, "lines were too long to be kept whole"),
        (r.summed, "refusals are in the log as sums only, and were not judged"),
        (r.other_reason, "are refused as before, for another reason"),
    ];
    for (count, what) in notes.iter().filter(|(count, _)| *count > 0) {
        writeln!(out, "  {count} {what}")?;
    }
    if r.guessed > 0 {
        let filled = if ledger { "and the ledger" } else { "alone; --config FILE takes what was bought before from the ledger" };
        writeln!(out, "  {} asked for counters that their lines do not have: summed from the log {filled}", r.guessed)?;
    }
    writeln!(out, "{} change", r.changed)?;
    if !r.paid.is_empty() {
        let mut lines = vec![["AGENT", "PAID", "USD", "DRAFT PAYS", "USD"].map(str::to_owned)];
        let row = |(agent, (paid, would)): (&String, &(Sum, Sum))| {
            [agent.clone(), paid.count.to_string(), usd(paid.micro), would.count.to_string(), usd(would.micro)]
        };
        lines.extend(r.paid.iter().map(row));
        writeln!(out)?;
        super::ledger::columns(&lines, &[1, 2, 3, 4], out)?;
    }
    if !r.changes.is_empty() {
        let mut lines = vec![["AGENT", "WAS", "WOULD BE", "COUNT", "USD"].map(str::to_owned)];
        lines.extend(
            r.changes
                .iter()
                .map(|((agent, was, would), sum)| [agent.clone(), words(was), words(would), sum.count.to_string(), usd(sum.micro)]),
        );
        writeln!(out)?;
        super::ledger::columns(&lines, &[3, 4], out)?;
        writeln!(out)?;
    }
    for c in &r.first {
        writeln!(out, "{}:{}  {}  {} {}", c.file.display(), c.line, c.at.rfc3339_millis(), c.agent, c.request)?;
        writeln!(out, "  {} USD: {} -> {}", usd(c.micro), short(&c.live), short(&c.draft))?;
    }
    let left = r.changed.saturating_sub(r.first.len() as u64);
    if left > 0 && !r.first.is_empty() { writeln!(out, "and {left} more (--show N)") } else { Ok(()) }
}

fn words((say, why): &Group) -> String {
    format!("{} {why}", say.as_str()).trim_end().to_owned()
}

fn to_json(r: &Report, digest: &str, files: usize) -> Value {
    let sum = |s: &Sum| json!({ "count": s.count, "usd": usd(s.micro) });
    let change = |c: &Change| {
        json!({
            "row": format!("{}:{}", c.file.display(), c.line), "at": c.at.rfc3339_millis(), "agent": c.agent, "request": c.request,
            "usd": usd(c.micro), "was": c.live, "would_be": c.draft,
        })
    };
    json!({
        "policy": digest,
        "files": files,
        "from": r.span.map(|(a, _)| a.rfc3339()),
        "to": r.span.map(|(_, b)| b.rfc3339()),
        "judged": r.judged,
        "changed": r.changed,
        "other_reason": r.other_reason,
        "gates": r.gates,
        "cut": r.cut,
        "summed": r.summed,
        "guessed": r.guessed,
        "agents": r.paid.iter().map(|(agent, (paid, would))| json!({ "agent": agent, "paid": sum(paid), "would_pay": sum(would) })).collect::<Vec<_>>(),
        "changes": r.changes.iter().map(|((agent, was, would), s)| json!({
            "agent": agent, "was": { "say": was.0, "why": was.1 }, "would_be": { "say": would.0, "why": would.1 }, "count": s.count, "usd": usd(s.micro),
        })).collect::<Vec<_>>(),
        "first": r.first.iter().map(change).collect::<Vec<_>>(),
    })
}
