//! `tollpass policy explain --log`: a recorded decision, taken again with what it read then.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::json;

use super::explain::Args;
use super::{Failure, Outcome, print_json};
use crate::policy::Policy;
use crate::records::row::{Decided, Row};
use crate::records::{Fold, Placed, ReadError, Say, Verdict, files, read};

impl From<ReadError> for Failure {
    fn from(error: ReadError) -> Self {
        Self::Config(error.to_string())
    }
}

pub(super) fn explain(log: &Path, args: &Args, policy: Policy, out: &mut dyn Write) -> Outcome {
    let (place, row) = find(log, args)?;
    let place = format!("{}:{}", place.file.display(), place.line);
    let policy = Arc::new(policy);
    let wrong = |e: crate::records::Unreadable| Failure::Config(format!("{place}: {e}"));
    let again = Fold::new(Arc::clone(&policy)).explain(&row).map_err(wrong)?;
    let same_policy = policy.digest() == &row.policy;
    let same = again.as_ref().map(|(_, verdict)| Some(verdict) == row.verdict.as_ref());
    if args.json {
        return print_json(
            out,
            &json!({
                "row": place, "at": row.time, "policy": &*row.policy, "verdict": row.verdict, "refused": row.refused,
                "purchase": row.purchase, "ticket": row.ticket, "granted": row.granted, "tz": row.tz,
                "same_policy": same_policy, "same_verdict": same, "decision": again.map(|(explanation, _)| explanation.to_json()),
            }),
        );
    }
    writeln!(out, "row      {place}, {}", row.time)?;
    match &again {
        Some((explanation, _)) => write!(out, "{explanation}")?,
        None if row.cut => writeln!(out, "the line was too long to be kept whole, so it cannot be judged again")?,
        None => writeln!(out, "the policy was not asked")?,
    }
    writeln!(out)?;
    writeln!(out, "then     {}", said(&row))?;
    if !same_policy {
        writeln!(out, "policy   another one than then: now {}, then {}", policy.digest(), row.policy)?;
    } else if same == Some(false) {
        writeln!(out, "policy   the same as then, and it said something else: please report this")?;
    }
    Ok(())
}

/// What came of it, in one line.
fn said(row: &Decided) -> String {
    let mut text = row.verdict.as_ref().map_or_else(|| "not judged".to_owned(), short);
    if let Some(why) = &row.refused {
        text.push_str(&format!(", then refused: {}", why.reason));
    }
    for (name, id) in [("purchase", &row.purchase), ("ticket", &row.ticket)] {
        text.push_str(&id.as_ref().map_or_else(String::new, |id| format!(", {name} {id}")));
    }
    text
}

/// `allow bureau`, `deny cap_day (caps.day)`.
pub(super) fn short(verdict: &Verdict) -> String {
    let say = verdict.say.as_str();
    match (verdict.say, verdict.reasons.first()) {
        (Say::Allow, _) | (_, None) => format!("{say} {}", verdict.entry.as_deref().unwrap_or_default()).trim_end().to_owned(),
        (_, Some(why)) => match &why.rule {
            Some(rule) => format!("{say} {} ({rule})", why.reason),
            None => format!("{say} {}", why.reason),
        },
    }
}

/// The decision that is meant; of several that gave out a ticket, the last.
fn find(log: &Path, args: &Args) -> Result<(Placed, Box<Decided>), Failure> {
    let mut found = None;
    let begins = |id: &Option<String>, wanted: &Option<String>| {
        wanted.as_ref().is_some_and(|w| !w.is_empty() && id.as_ref().is_some_and(|id| id.starts_with(w.as_str())))
    };
    let paths: Vec<PathBuf> = files(&[log.to_path_buf()])?;
    if args.row.is_some() && paths.len() > 1 {
        return Err(Failure::Config(format!("--row: there are {} files in {}: name one", paths.len(), log.display())));
    }
    for path in paths {
        read(&path, &mut |placed| {
            if let Row::Decision(row) = &placed.row
                && (args.row == Some(placed.line) || begins(&row.purchase, &args.purchase) || begins(&row.ticket, &args.ticket))
            {
                let row = row.clone();
                found = Some((placed, row));
            }
            Ok(true)
        })?;
    }
    found.ok_or_else(|| {
        Failure::Config(match args.row {
            Some(n) => format!("{}: line {n} is no decision", log.display()),
            None => format!("{}: no decision has this id", log.display()),
        })
    })
}
