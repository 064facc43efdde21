//! What a draft would have changed about the decisions of a log: counts and money, by agent and by reason.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use super::fold::{Fold, Judged};
use super::read::Placed;
use super::row::{Decided, Row, Say, Verdict};
use super::tally::{Bought, Logged};
use crate::ledger::Purchase;
use crate::payment::Timestamp;
use crate::policy::Policy;

/// A number of payments and what they cost together, micro-USD.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    /// How many.
    pub count: u64,
    /// Micro-USD.
    pub micro: i64,
}

impl Sum {
    fn add(&mut self, micro: i64) {
        self.count += 1;
        self.micro = self.micro.saturating_add(micro);
    }
}

/// What was and what would be said, in words that group: the verdict, and the reason and rule that lead it.
pub type Group = (Say, String);

/// One decision that would be another.
#[derive(Clone, Debug)]
pub struct Change {
    /// Where it stands.
    pub file: PathBuf,
    /// From 1.
    pub line: usize,
    /// Ledger time.
    pub at: Timestamp,
    /// The caller.
    pub agent: String,
    /// Method and URL without the query.
    pub request: String,
    /// What came of it.
    pub live: Verdict,
    /// What would have come of it.
    pub draft: Verdict,
    /// What is at stake, micro-USD.
    pub micro: i64,
}

/// What came out.
#[derive(Debug, Default)]
pub struct Report {
    /// Decisions that were judged again.
    pub judged: u64,
    /// Answers that no policy was asked for: the gates before it.
    pub gates: u64,
    /// Lines that were too long to be kept whole.
    pub cut: u64,
    /// Refusals that the log has as sums only.
    pub summed: u64,
    /// Decisions for which the draft asked for a counter that the line does not tell.
    pub guessed: u64,
    /// Decisions that change.
    pub changed: u64,
    /// Decisions that stay, led by another reason.
    pub other_reason: u64,
    /// First and last decision.
    pub span: Option<(Timestamp, Timestamp)>,
    /// What was paid and what would be, by agent.
    pub paid: BTreeMap<String, (Sum, Sum)>,
    /// Changes by agent, by what was said and what would be.
    pub changes: BTreeMap<(String, Group, Group), Sum>,
    /// The first of them.
    pub first: Vec<Change>,
}

/// A replay under way.
#[derive(Debug)]
pub struct Replay {
    fold: Fold,
    books: Logged,
    ledger: Vec<Purchase>,
    show: usize,
    report: Report,
}

impl Replay {
    /// Of `policy`; `ledger` has what was bought before the log began, and `show` changes are listed one by one.
    pub fn new(policy: Arc<Policy>, ledger: Vec<Purchase>, show: usize) -> Self {
        let books = Logged::new(policy.members());
        Self { fold: Fold::new(policy), books, ledger, show, report: Report::default() }
    }

    /// The next line.
    ///
    /// # Errors
    /// What does not read in it.
    pub fn step(&mut self, placed: &Placed) -> Result<(), String> {
        if !self.ledger.is_empty() {
            self.books.before(&std::mem::take(&mut self.ledger), Timestamp::from_millis(placed.row.at()));
        }
        match &placed.row {
            Row::Decision(row) => self.decision(row, placed).map_err(|e| e.to_string())?,
            Row::Outcome(outcome) => {
                self.fold.outcome(outcome);
                self.books.outcome(outcome);
            }
            Row::Refusals(many) => self.report.summed += many.count,
        }
        Ok(())
    }

    fn decision(&mut self, row: &Decided, placed: &Placed) -> Result<(), super::case::Unreadable> {
        let at = Timestamp::from_millis(row.at);
        let judged = self.fold.step(row, &self.books)?;
        let report = &mut self.report;
        report.span = Some(report.span.map_or((at, at), |(a, b)| (a.min(at), b.max(at))));
        let Some(judged) = judged else {
            if row.cut {
                report.cut += 1
            } else {
                report.gates += 1
            }
            return Ok(());
        };
        report.judged += 1;
        report.guessed += u64::from(judged.guessed);
        let (paid, would) = report.paid.entry(row.agent.clone()).or_default();
        judged.paid.iter().for_each(|b| paid.add(b.posted().micro()));
        judged.would_pay.iter().for_each(|b| would.add(b.posted().micro()));
        report.other_reason += u64::from(judged.another_reason());
        if judged.changes() {
            report.changed += 1;
            let micro = at_stake(&judged);
            let key = (row.agent.clone(), group(&judged.live), group(&judged.draft));
            report.changes.entry(key).or_default().add(micro);
            if report.first.len() < self.show {
                report.first.push(change(row, placed, &judged, micro));
            }
        }
        if let (Some(id), Some(bought)) = (&row.purchase, judged.paid) {
            self.books.paid(id, bought);
        }
        Ok(())
    }

    /// What came out.
    pub fn finish(self) -> Report {
        self.report
    }
}

fn at_stake(judged: &Judged) -> i64 {
    let posted = |b: &Option<Bought>| b.as_ref().map(|b| b.posted().micro());
    posted(&judged.paid).or_else(|| posted(&judged.would_pay)).unwrap_or_else(|| judged.live.micro.max(judged.draft.micro))
}

/// `cap_day (caps.day)`; the entry of what is allowed.
fn group(verdict: &Verdict) -> Group {
    let text = match (verdict.say, verdict.reasons.first()) {
        (Say::Allow, _) | (_, None) => verdict.entry.clone().unwrap_or_default(),
        (_, Some(why)) => why.rule.as_ref().map_or_else(|| why.reason.clone(), |rule| format!("{} ({rule})", why.reason)),
    };
    (verdict.say, text)
}

fn change(row: &Decided, placed: &Placed, judged: &Judged, micro: i64) -> Change {
    let scheme = if row.https { "https" } else { "http" };
    Change {
        file: placed.file.clone(),
        line: placed.line,
        at: Timestamp::from_millis(row.at),
        agent: row.agent.clone(),
        request: format!("{} {scheme}://{}:{}{}", row.method, row.host, row.port, row.path),
        live: judged.live.clone(),
        draft: judged.draft.clone(),
        micro,
    }
}
