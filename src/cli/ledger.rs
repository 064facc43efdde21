//! `tollpass ledger show`: purchases with totals, beside a running proxy. Never a signature.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::{Failure, Outcome, print_json};
use crate::config::Config;
use crate::ledger::{Ledger, Purchase, PurchaseState};
use crate::payment::{AgentId, MicroUsd, SessionName};

/// Arguments of `ledger show`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  tollpass ledger show --config tollpass.yaml
  tollpass ledger show --agent research-bot --state open --json

States: committed, signed, sent, open, settled, lost, void, expired_unverified. Everything but void counts as spent.")]
pub struct ShowArgs {
    /// The configuration file.
    #[arg(long, value_name = "FILE", default_value = super::CONFIG)]
    pub config: PathBuf,
    /// Only this agent.
    #[arg(long, value_name = "NAME")]
    pub agent: Option<AgentId>,
    /// Only this state.
    #[arg(long, value_name = "STATE", value_parser = state)]
    pub state: Option<PurchaseState>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

fn state(text: &str) -> Result<PurchaseState, String> {
    let known = || PurchaseState::ALL.map(PurchaseState::as_str).join(", ");
    PurchaseState::parse(text).ok_or_else(|| format!("write one of {}", known()))
}

pub(super) fn run(args: &ShowArgs, out: &mut dyn Write) -> Outcome {
    let config = Config::inspect(&args.config)?;
    let all = recorded(&config)?.unwrap_or_else(|| {
        eprintln!("there is no ledger in {} yet: the proxy has not run with this `state`", config.private().display());
        Vec::new()
    });
    show(&all, args, out)
}

/// The purchases of the configured ledger; `None` if the proxy never ran with it.
pub(super) fn recorded(config: &Config) -> Result<Option<Vec<Purchase>>, Failure> {
    let dir = config.private();
    // Only a file that is surely not there: one that cannot be looked at is an error, not an empty ledger.
    match dir.join("ledger.db").symlink_metadata() {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        _ => Ledger::list(&dir).map(Some).map_err(|e| Failure::Failed(e.into())),
    }
}

/// Writes the purchases that `args` asks for.
pub(super) fn show(all: &[Purchase], args: &ShowArgs, out: &mut dyn Write) -> Outcome {
    let wanted = |p: &&Purchase| args.agent.as_ref().is_none_or(|a| *a == p.agent) && args.state.is_none_or(|s| s == p.state);
    let mut rows: Vec<&Purchase> = all.iter().filter(wanted).collect();
    rows.sort_by_key(|p| (p.at, p.id));
    let totals = totals(&rows);
    if args.json {
        let purchases: Vec<Value> = rows.iter().map(|p| row(p)).collect();
        let totals: Vec<Value> = totals
            .iter()
            .map(|((agent, state), (count, usd))| json!({ "agent": agent.as_str(), "state": state.as_str(), "count": count, "usd": usd.to_string() }))
            .collect();
        return print_json(out, &json!({ "purchases": purchases, "totals": totals }));
    }
    table(&rows, &totals, out)
}

type Totals<'a> = BTreeMap<(&'a AgentId, PurchaseState), (usize, MicroUsd)>;

fn totals<'a>(rows: &[&'a Purchase]) -> Totals<'a> {
    let mut totals = Totals::new();
    for p in rows {
        let (count, usd) = totals.entry((&p.agent, p.state)).or_default();
        *count += 1;
        *usd = usd.checked_add(p.held).unwrap_or(MicroUsd::new(i64::MAX));
    }
    totals
}

fn row(p: &Purchase) -> Value {
    json!({
        "id": p.id.to_string(),
        "at": p.at.rfc3339(),
        "agent": p.agent.as_str(),
        "session": p.session.as_ref().map(SessionName::as_str),
        "rule": p.entry.to_string(),
        "method": p.method,
        "host": p.host,
        "protocol": p.protocol.as_str(),
        "network": p.asset.chain.to_string(),
        "asset": p.symbol,
        "asset_id": p.asset.to_string(),
        "atomic": p.amount.to_string(),
        "usd": p.held.to_string(),
        "payee": p.payee.0.to_string(),
        "payer": p.payer.0.to_string(),
        "nonce": p.nonce.bytes().to_string(),
        "valid_before": p.valid_before,
        "state": p.state.as_str(),
        "consumed": p.consumed,
        "lost_until": p.lost_until.map(crate::payment::Timestamp::rfc3339),
        "tx_claimed": p.claimed_tx.as_deref().map(claimed),
        "policy": p.policy_digest,
    })
}

/// The seller's word: only what looks like a hash is shown.
fn claimed(text: &str) -> String {
    text.chars().filter(char::is_ascii_alphanumeric).take(66).collect()
}

fn table(rows: &[&Purchase], totals: &Totals<'_>, out: &mut dyn Write) -> Outcome {
    if rows.is_empty() {
        writeln!(out, "no purchases")?;
        return Ok(());
    }
    let mut lines = vec![["TIME", "AGENT", "HOST", "USD", "AMOUNT", "PAYEE", "STATE", "USED", "TX CLAIMED", "PURCHASE"].map(str::to_owned)];
    lines.extend(rows.iter().map(|p| {
        [
            p.at.rfc3339(),
            p.agent.to_string(),
            p.host.chars().filter(|c| !c.is_control()).take(60).collect(),
            p.held.to_string(),
            format!("{} {}", p.amount, p.symbol),
            p.payee.0.to_string(),
            p.state.as_str().to_owned(),
            if p.consumed { "yes" } else { "no" }.to_owned(),
            p.claimed_tx.as_deref().map_or_else(|| "-".to_owned(), claimed),
            p.id.to_string(),
        ]
    }));
    columns(&lines, &[3], out)?;
    let mut lines = vec![["AGENT", "STATE", "COUNT", "USD"].map(str::to_owned)];
    lines.extend(
        totals
            .iter()
            .map(|((agent, state), (count, usd))| [agent.to_string(), state.as_str().to_owned(), count.to_string(), usd.to_string()]),
    );
    writeln!(out)?;
    columns(&lines, &[2, 3], out)?;
    Ok(())
}

/// Writes aligned columns; those in `right` to the right.
pub(super) fn columns<const N: usize>(lines: &[[String; N]], right: &[usize], out: &mut dyn Write) -> std::io::Result<()> {
    let widths: [usize; N] = std::array::from_fn(|i| lines.iter().map(|l| l[i].chars().count()).max().unwrap_or(0));
    for line in lines {
        let cells: Vec<String> = line
            .iter()
            .enumerate()
            .map(|(i, cell)| if right.contains(&i) { format!("{cell:>w$}", w = widths[i]) } else { format!("{cell:<w$}", w = widths[i]) })
            .collect();
        writeln!(out, "{}", cells.join("  ").trim_end())?;
    }
    Ok(())
}
