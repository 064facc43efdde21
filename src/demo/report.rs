//! What the demo says: one object for programs, a table and a few lines for people.

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::{Value, json};

use super::books::Books;
use super::client::Answer;
use super::goods::Step;
use crate::payment::MicroUsd;

/// One request for something that costs, and how it went.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) seller: &'static str,
    pub(super) item: &'static str,
    pub(super) price: MicroUsd,
    /// Whether money moved, by the seller's books.
    pub(super) paid: bool,
    pub(super) reason: Option<String>,
    pub(super) by: Option<String>,
    rule: Option<String>,
    why: String,
    /// What went otherwise than the shopping list says.
    pub(super) surprise: Option<String>,
}

impl Row {
    /// `moved` is what the token's books say about this request; the rest is what the agent saw.
    pub(super) fn new(step: &Step, answer: &Answer, moved: bool) -> Self {
        // The agent gets the seller's own words where it was paid and gave an error or asked again.
        let undelivered = moved && answer.status != 200;
        let again = !moved && answer.status == 402 && answer.problem.is_none();
        let reason = match (undelivered, again) {
            (true, _) => Some("paid_not_delivered"),
            (_, true) => Some("not_accepted_by_seller"),
            _ => answer.get("reason"),
        };
        let reason = reason.map(str::to_owned);
        let by = if undelivered || again { Some("seller".to_owned()) } else { answer.get("by").map(str::to_owned) };
        let surprise = (moved != step.pays || reason.as_deref() != step.expect).then(|| {
            format!("{}: status {}, money {}, reason {reason:?}", step.good.path, answer.status, if moved { "moved" } else { "kept" })
        });
        let rule = answer.get("rule").map(str::to_owned);
        let why = if undelivered || again { format!("the seller answered {}", answer.status) } else { why(answer) };
        Self { seller: step.good.seller, item: step.good.item, price: step.good.price(), paid: moved, reason, by, rule, why, surprise }
    }

    fn json(&self) -> Value {
        json!({
            "seller": self.seller,
            "amount_usd": self.price.to_string(),
            "outcome": self.outcome(),
            "reason": self.reason,
            "by": self.by,
        })
    }

    const fn outcome(&self) -> &'static str {
        if self.paid { "paid" } else { "refused" }
    }
}

/// The numbers of a refusal.
fn why(answer: &Answer) -> String {
    let mut parts = Vec::new();
    if let (Some(amount), Some(limit)) = (answer.get("amount_usd"), answer.get("limit_usd")) {
        parts.push(match answer.get("remaining_usd") {
            Some(left) => format!("{amount} asked, {left} left of {limit}"),
            None => format!("{amount} asked, limit {limit}"),
        });
    }
    if let Some(at) = answer.get("resets_at") {
        parts.push(format!("until {at}"));
    }
    parts.join(", ")
}

/// One attempt of the thief.
#[derive(Debug)]
pub(super) struct Attempt {
    pub(super) what: String,
    /// Micro-USD.
    pub(super) amount: i64,
    pub(super) outcome: String,
    pub(super) reason: Option<String>,
    /// The co-signer's rule.
    pub(super) rule: Option<String>,
    pub(super) remaining: Option<i64>,
}

/// Everything a run found.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) signer: &'static str,
    pub(super) wallet: String,
    pub(super) rows: Vec<Row>,
    pub(super) waits: Vec<Duration>,
    pub(super) books: Books,
    /// What the thief tried; `None` if its program is not there.
    pub(super) thief: Option<Vec<Attempt>>,
}

impl Report {
    fn paid(&self) -> usize {
        self.rows.iter().filter(|r| r.paid).count()
    }

    /// The object of `--json`.
    pub(super) fn json(&self) -> Value {
        json!({
            "signer": self.signer,
            "wallet": self.wallet,
            "payments": self.rows.iter().map(Row::json).collect::<Vec<_>>(),
            "totals": {
                "attempted": self.rows.len(),
                "paid": self.paid(),
                "refused": self.rows.len() - self.paid(),
                "spent_usd": self.books.ledger.to_string(),
            },
            "authorize_ms": { "p50": millis(&self.waits, 50), "p99": millis(&self.waits, 99) },
            "books": {
                "seller_usd": self.books.seller.to_string(),
                "ledger_usd": self.books.ledger.to_string(),
                "metrics_usd": self.books.metrics.to_string(),
                "agree": self.books.quarrel.is_none(),
            },
            "thief": self.thief.as_ref().map(|all| all.iter().map(Attempt::json).collect::<Vec<_>>()),
        })
    }

    /// The table and the totals.
    pub(super) fn text(&self) -> String {
        let mut lines = vec![["SELLER", "ITEM", "USD", "RESULT", "BY", "REASON", "RULE", "NUMBERS"].map(str::to_owned)];
        lines.extend(self.rows.iter().map(|r| {
            let text = |t: &Option<String>| t.clone().unwrap_or_default();
            [
                r.seller.into(),
                r.item.into(),
                r.price.to_string(),
                r.outcome().into(),
                text(&r.by),
                text(&r.reason),
                text(&r.rule),
                r.why.clone(),
            ]
        }));
        let mut out = table(&lines);
        let b = &self.books;
        let _ = write!(
            out,
            "
{} asked for, {} paid, {} refused. From a seller's 402 to our payment: {} ms (median), {} ms (99%).

  sellers were paid   {:>9} USD in {} transfers
  the ledger says     {:>9} USD in {} purchases
  /metrics says       {:>9} USD
",
            self.rows.len(),
            self.paid(),
            self.rows.len() - self.paid(),
            millis(&self.waits, 50),
            millis(&self.waits, 99),
            b.seller.to_string(),
            b.transfers,
            b.ledger.to_string(),
            b.purchases,
            b.metrics.to_string(),
        );
        out.push_str(&self.theft());
        out
    }

    /// What the thief got.
    fn theft(&self) -> String {
        let Some(attempts) = &self.thief else {
            return "\n(The thief's program, tollpass-thief, is not beside this one: nothing was stolen.)\n".to_owned();
        };
        let mut lines = vec![["THE THIEF TRIES", "USD", "CO-SIGNER", "REASON", "RULE", "LEFT"].map(str::to_owned)];
        lines.extend(attempts.iter().map(|a| {
            let usd = |micro: i64| MicroUsd::new(micro).to_string();
            let text = |t: &Option<String>| t.clone().unwrap_or_default();
            [
                a.what.replace('_', " "),
                usd(a.amount),
                a.outcome.clone(),
                text(&a.reason),
                text(&a.rule),
                a.remaining.map(usd).unwrap_or_default(),
            ]
        }));
        format!(
            "\nA thief has the sidecar's share, identity and passphrase, and asks the co-signer without any policy of its own:\n{}\
             What is left to it: what the co-signer's own caps still allow, to payees that the co-signer knows.\n",
            table(&lines)
        )
    }
}

/// The nearest-rank percentile in milliseconds with three decimals; 0 for no samples.
fn millis(samples: &[Duration], percent: usize) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort();
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).map_or(0.0, |d| (d.as_secs_f64() * 1e6).round() / 1e3)
}

/// Columns as wide as their widest cell.
fn table<const N: usize>(lines: &[[String; N]]) -> String {
    let widths: [usize; N] = std::array::from_fn(|i| lines.iter().map(|l| l[i].chars().count()).max().unwrap_or(0));
    let mut out = String::new();
    for line in lines {
        let cells: Vec<String> = line.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        let _ = writeln!(out, "{}", cells.join("  ").trim_end());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_by_nearest_rank() {
        let samples: Vec<Duration> = (1..=200).rev().map(Duration::from_millis).collect();
        assert_eq!(millis(&samples, 50), 100.0);
        assert_eq!(millis(&samples, 99), 198.0);
        assert_eq!(millis(&samples[..1], 99), 200.0);
        assert_eq!(millis(&[], 50), 0.0);
    }

    #[test]
    fn columns_line_up() {
        let lines = [["a".to_owned(), "bb".to_owned()], ["ccc".to_owned(), "d".to_owned()]];
        assert_eq!(table(&lines), "a    bb\nccc  d\n");
    }
}
