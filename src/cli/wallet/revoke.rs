//! `tollpass wallet revoke`: at the co-signer; a running one notices at the identity's next request, at the latest within a second.

use std::io::Write;
use std::path::PathBuf;

use anyhow::anyhow;
use serde_json::json;

use crate::cli::{Failure, Outcome, print_json};
use crate::clock;
use crate::cosigner::config::Config;
use crate::cosigner::store::Store;
use crate::mpc::Fingerprint;

/// Arguments of `wallet revoke`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  tollpass wallet revoke --config cosigner.yaml sidecar-1
  tollpass wallet revoke --config cosigner.yaml --list")]
pub struct Args {
    /// The co-signer's configuration file.
    #[arg(long, value_name = "FILE", default_value = crate::cli::cosigner::CONFIG)]
    pub config: PathBuf,
    /// Name or fingerprint of the identity.
    #[arg(required_unless_present = "list")]
    pub identity: Option<String>,
    /// Only list the identities.
    #[arg(long, conflicts_with = "identity")]
    pub list: bool,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

pub(super) fn run(args: &Args, out: &mut dyn Write) -> Outcome {
    let config = Config::inspect(&args.config)?;
    let store = Store::open(&config.private())?;
    let rows = match &args.identity {
        None => store.identities().map_err(anyhow::Error::from)?,
        Some(who) => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let revoked = runtime.block_on(store.revoke(who, clock::read().wall)).map_err(anyhow::Error::from)?;
            vec![revoked.ok_or_else(|| Failure::Failed(anyhow!("no identity `{who}` that is not revoked; --list shows them")))?]
        }
    };
    let shown = |row: &crate::cosigner::store::Row| {
        json!({
            "identity": row.name,
            "fingerprint": Fingerprint(row.fingerprint).to_string(),
            "wallet": row.wallet,
            "agents": row.agents,
            "enrolled_at": row.enrolled_at.rfc3339(),
            "revoked_at": row.revoked_at.map(crate::payment::Timestamp::rfc3339),
        })
    };
    if args.json {
        return print_json(out, &json!(rows.iter().map(shown).collect::<Vec<_>>()));
    }
    for row in &rows {
        let state = row.revoked_at.map_or_else(|| "in force".to_owned(), |at| format!("revoked {}", at.rfc3339()));
        writeln!(out, "{}  {}  {}  {state}", row.name, Fingerprint(row.fingerprint), row.agents.join(","))?;
    }
    Ok(())
}
